# SPDX-License-Identifier: GPL-2.0-only
"""landlock_create_ruleset(2), whose struct has grown twice, as a contract.

    int landlock_create_ruleset(const struct landlock_ruleset_attr *attr, size_t size,
                                __u32 flags);

Where it is promised: landlock_create_ruleset(2) of the man-pages;
Documentation/userspace-api/landlock.rst; include/uapi/linux/landlock.h; the
kernel's selftest landlock/base_test.c:inconsistent_attr.  Where it is done:
security/landlock/syscalls.c:copy_min_struct_from_user(); since commit
265885daf3e5 ("landlock: Add syscall implementations"), v5.13.

Promised too, and not said here: a ruleset that handles nothing is ENOMSG; with a
NULL struct of size 0 a flag asks for the version instead.
"""

from __future__ import annotations

from errno import E2BIG, EFAULT, EINVAL

from harness.contract import (
    PAGE,
    Contract,
    Copy,
    Descriptor,
    Flags,
    Needs,
    Null,
    Pointer,
    SizeArg,
    SizeBounds,
    SizeValue,
    Tail,
    UnknownBits,
    UnknownFlags,
    Version,
)

FS_ACCESS = {
    "LANDLOCK_ACCESS_FS_EXECUTE": 1 << 0,
    "LANDLOCK_ACCESS_FS_WRITE_FILE": 1 << 1,
    "LANDLOCK_ACCESS_FS_READ_FILE": 1 << 2,
    "LANDLOCK_ACCESS_FS_READ_DIR": 1 << 3,
    "LANDLOCK_ACCESS_FS_REMOVE_DIR": 1 << 4,
    "LANDLOCK_ACCESS_FS_REMOVE_FILE": 1 << 5,
    "LANDLOCK_ACCESS_FS_MAKE_CHAR": 1 << 6,
    "LANDLOCK_ACCESS_FS_MAKE_DIR": 1 << 7,
    "LANDLOCK_ACCESS_FS_MAKE_REG": 1 << 8,
    "LANDLOCK_ACCESS_FS_MAKE_SOCK": 1 << 9,
    "LANDLOCK_ACCESS_FS_MAKE_FIFO": 1 << 10,
    "LANDLOCK_ACCESS_FS_MAKE_BLOCK": 1 << 11,
    "LANDLOCK_ACCESS_FS_MAKE_SYM": 1 << 12,
    "LANDLOCK_ACCESS_FS_REFER": 1 << 13,
    "LANDLOCK_ACCESS_FS_TRUNCATE": 1 << 14,
    "LANDLOCK_ACCESS_FS_IOCTL_DEV": 1 << 15,
}

CONTRACT = Contract(
    name="landlock_create_ruleset",
    number="__NR_landlock_create_ruleset",
    header="linux/landlock.h",
    struct="landlock_ruleset_attr",
    declaration="""
        struct landlock_ruleset_attr {
            __u64 handled_access_fs;
            __u64 handled_access_net;
            __u64 scoped;
        };
    """,
    size=SizeArg(arg=1),
    versions=(
        Version(name="ABI 1", size=8),
        Version(name="ABI 4", size=16),
        Version(name="ABI 6", size=24),
    ),
    zero_means=None,
    args=(Pointer(), SizeValue(), Flags(known={})),
    checks=(
        UnknownFlags(arg=2),  # with a struct there are none
        Null(errno=EFAULT),
        SizeBounds(minimum=8, maximum=PAGE, too_small=EINVAL, too_big=E2BIG),
        Tail(errno=E2BIG),
        Copy(),
        UnknownBits(field="handled_access_fs", known=FS_ACCESS),
        UnknownBits(
            field="handled_access_net",
            known={
                "LANDLOCK_ACCESS_NET_BIND_TCP": 1 << 0,
                "LANDLOCK_ACCESS_NET_CONNECT_TCP": 1 << 1,
            },
        ),
        UnknownBits(
            field="scoped",
            known={
                "LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET": 1 << 0,
                "LANDLOCK_SCOPE_SIGNAL": 1 << 1,
            },
        ),
    ),
    example={"handled_access_fs": 1 << 0},
    effect=Descriptor(cloexec=True),
    newer=(
        "LANDLOCK_ACCESS_FS_REFER",
        "LANDLOCK_ACCESS_FS_TRUNCATE",
        "LANDLOCK_ACCESS_FS_IOCTL_DEV",
    ),
    source="landlock_create_ruleset(2); security/landlock/syscalls.c:copy_min_struct_from_user()",
    since=(5, 13),
    needs=Needs(options=("SECURITY_LANDLOCK",)),
)
