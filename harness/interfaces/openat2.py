# SPDX-License-Identifier: GPL-2.0-only
"""openat2(2), the first system call whose struct was made to grow, as a contract.

    long openat2(int dirfd, const char *pathname, struct open_how *how, size_t size);

Where it is promised: openat2(2) of the man-pages, "The open_how structure",
"ERRORS" and "Extensibility"; include/uapi/linux/openat2.h.  Where it is done:
fs/open.c:openat2(), build_open_flags(); lib/usercopy.c:copy_struct_from_user();
since commit fddb5d430ad9 ("open: introduce openat2(2) syscall"), v5.6.

The promise is that every bit that is not known is refused.  Before v6.14 one bit
of `flags` is not, 26, or 25 in later 6.12.y: it is FMODE_NONOTIFY inside the kernel,
and build_open_flags() strips it as it strips O_CLOEXEC.  Mended, without being the aim, by commit
ebe559609d78 ("fs: get rid of __FMODE_NONOTIFY kludge").

Promised too, and not said here: O_TMPFILE without a way to write is EINVAL; O_CLOEXEC,
a bit of a field and not of an argument, sets FD_CLOEXEC.
"""

from __future__ import annotations

from errno import E2BIG, EINVAL

from harness.contract import (
    PAGE,
    AtMost,
    Bytes,
    Contract,
    Copy,
    Descriptor,
    NotTogether,
    OnlyWith,
    Pointer,
    SizeArg,
    SizeBounds,
    SizeValue,
    Tail,
    UnknownBits,
    Value,
    Version,
)

VER0 = 24  # bytes: OPEN_HOW_SIZE_VER0
AT_FDCWD = (1 << 64) - 100

O_CREAT = 0o100
O_PATH = 0o10000000
TMPFILE = 0o20000000  # __O_TMPFILE: O_TMPFILE without the O_DIRECTORY in it

#: include/linux/fcntl.h:VALID_OPEN_FLAGS, as include/uapi/asm-generic/fcntl.h has them.
OPEN_FLAGS = {
    "O_WRONLY": 0o1,
    "O_RDWR": 0o2,
    "O_CREAT": O_CREAT,
    "O_EXCL": 0o200,
    "O_NOCTTY": 0o400,
    "O_TRUNC": 0o1000,
    "O_APPEND": 0o2000,
    "O_NONBLOCK": 0o4000,  # O_NDELAY too
    "O_DSYNC": 0o10000,
    "FASYNC": 0o20000,
    "O_DIRECT": 0o40000,
    "O_LARGEFILE": 0o100000,
    "O_DIRECTORY": 0o200000,
    "O_NOFOLLOW": 0o400000,
    "O_NOATIME": 0o1000000,
    "O_CLOEXEC": 0o2000000,
    "__O_SYNC": 0o4000000,  # O_SYNC is this and O_DSYNC
    "O_PATH": O_PATH,
    "__O_TMPFILE": TMPFILE,
}

#: fs/open.c:O_PATH_FLAGS: what O_PATH goes with; openat2(2), "EINVAL".
WITH_PATH = ("O_PATH", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC")

BENEATH = 0x08
IN_ROOT = 0x10

#: include/linux/fcntl.h:VALID_RESOLVE_FLAGS.
RESOLVE_FLAGS = {
    "RESOLVE_NO_XDEV": 0x01,
    "RESOLVE_NO_MAGICLINKS": 0x02,
    "RESOLVE_NO_SYMLINKS": 0x04,
    "RESOLVE_BENEATH": BENEATH,
    "RESOLVE_IN_ROOT": IN_ROOT,
    "RESOLVE_CACHED": 0x20,
}

CONTRACT = Contract(
    name="openat2",
    number="__NR_openat2",
    header="linux/openat2.h",
    includes=("linux/fcntl.h",),
    struct="open_how",
    declaration="""
        struct open_how {
            __u64 flags;
            __u64 mode;
            __u64 resolve;
        };
    """,
    size=SizeArg(arg=3),
    versions=(Version(name="VER0", size=VER0),),
    zero_means=None,
    args=(Value(value=AT_FDCWD), Bytes(data=b"/dev/null\0"), Pointer(), SizeValue()),
    # In this order: what stands higher is refused first.  What judges a field is
    # one errno, so that its order cannot be seen; it is build_open_flags()'s.
    checks=(
        SizeBounds(minimum=VER0, maximum=PAGE, too_small=EINVAL, too_big=E2BIG),
        Tail(errno=E2BIG),
        Copy(),
        UnknownBits(field="flags", known=OPEN_FLAGS),  # all 64 bits: 32 to 63 are none of them
        UnknownBits(field="resolve", known=RESOLVE_FLAGS),
        NotTogether(field="resolve", bits=BENEATH | IN_ROOT),
        AtMost(field="mode", maximum=0o7777),  # S_IALLUGO
        OnlyWith(field="mode", other="flags", bits=O_CREAT | TMPFILE),
        # O_RDWR with it, since O_TMPFILE asks for a way to write.
        NotTogether(
            field="flags",
            bits=O_CREAT | TMPFILE | OPEN_FLAGS["O_DIRECTORY"] | OPEN_FLAGS["O_RDWR"],
        ),
        *(
            NotTogether(field="flags", bits=O_PATH | bit)
            for name, bit in OPEN_FLAGS.items()
            if name not in WITH_PATH
        ),
    ),
    example={"flags": 0, "mode": 0, "resolve": 0},
    effect=Descriptor(),
    source="openat2(2); fs/open.c:openat2(), build_open_flags()",
)
