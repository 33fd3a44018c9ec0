# SPDX-License-Identifier: GPL-2.0-only
"""mount_setattr(2), as a contract.

    int mount_setattr(int dirfd, const char *path, unsigned int flags,
                      struct mount_attr *attr, size_t size);

Where it is promised: mount_setattr(2) of the man-pages, "Extensibility" and "ERRORS";
include/uapi/linux/mount.h; the kernel's selftest mount_setattr.  Where it is done:
fs/namespace.c:mount_setattr(), build_mount_kattr(); since commit 2a1867219c7b ("fs: add
mount_setattr()"), v5.12.

A call that changes nothing is accepted without a look at the path, and is the example.
Promised too, and not said here: a caller without CAP_SYS_ADMIN gets EPERM, between the
size and the copy; how access times and id mappings are asked for.
"""

from __future__ import annotations

from errno import E2BIG, EINVAL

from harness.contract import (
    PAGE,
    Bytes,
    Contract,
    Copy,
    Flags,
    Needs,
    Nothing,
    NotTogether,
    Pointer,
    SizeArg,
    SizeBounds,
    SizeValue,
    Tail,
    UnknownBits,
    UnknownFlags,
    Value,
    Version,
)

VER0 = 32  # bytes: MOUNT_ATTR_SIZE_VER0
AT_FDCWD = (1 << 64) - 100

ATTRIBUTES = {
    "MOUNT_ATTR_RDONLY": 0x01,
    "MOUNT_ATTR_NOSUID": 0x02,
    "MOUNT_ATTR_NODEV": 0x04,
    "MOUNT_ATTR_NOEXEC": 0x08,
    "MOUNT_ATTR__ATIME": 0x70,
    "MOUNT_ATTR_NODIRATIME": 0x80,
    "MOUNT_ATTR_IDMAP": 0x100000,
    "MOUNT_ATTR_NOSYMFOLLOW": 0x200000,
}
MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = (1 << bit for bit in (17, 18, 19, 20))

CONTRACT = Contract(
    name="mount_setattr",
    number="__NR_mount_setattr",
    header="linux/mount.h",
    includes=("linux/fcntl.h",),
    struct="mount_attr",
    declaration="""
        struct mount_attr {
            __u64 attr_set;
            __u64 attr_clr;
            __u64 propagation;
            __u64 userns_fd;
        };
    """,
    size=SizeArg(arg=4),
    versions=(Version(name="VER0", size=VER0),),
    zero_means=None,
    args=(
        Value(value=AT_FDCWD),
        Bytes(data=b"/\0"),
        Flags(
            known={
                "AT_SYMLINK_NOFOLLOW": 0x100,
                "AT_NO_AUTOMOUNT": 0x800,
                "AT_EMPTY_PATH": 0x1000,
                "AT_RECURSIVE": 0x8000,
            }
        ),
        Pointer(),
        SizeValue(),
    ),
    checks=(
        UnknownFlags(arg=2),
        SizeBounds(minimum=VER0, maximum=PAGE, too_small=EINVAL, too_big=E2BIG),
        Tail(errno=E2BIG),
        Copy(),
        UnknownBits(
            field="propagation",
            known={
                "MS_UNBINDABLE": MS_UNBINDABLE,
                "MS_PRIVATE": MS_PRIVATE,
                "MS_SLAVE": MS_SLAVE,
                "MS_SHARED": MS_SHARED,
            },
        ),
        NotTogether(field="propagation", bits=MS_PRIVATE | MS_SLAVE),
        NotTogether(field="propagation", bits=MS_SLAVE | MS_SHARED),
        NotTogether(field="propagation", bits=MS_UNBINDABLE | MS_SHARED),
        UnknownBits(field="attr_set", known=ATTRIBUTES),
        UnknownBits(field="attr_clr", known=ATTRIBUTES),
    ),
    example={},
    effect=Nothing(),
    source="mount_setattr(2); fs/namespace.c:mount_setattr(), build_mount_kattr()",
    since=(5, 12),
    needs=Needs(root="CAP_SYS_ADMIN in the mount namespace's user namespace"),
)
