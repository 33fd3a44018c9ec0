# SPDX-License-Identifier: GPL-2.0-only
"""xyzzyat(2), the second sample: what xyzzy(2) was made not to need.

    int xyzzyat(int dfd, const char *path, loff_t offset, struct xyzzy_args *args,
                unsigned int flags);

A pointer and a long in a struct that is told no size, and a 64-bit argument: no two
ABIs of x86 have both the same struct and the same registers, so that each has an entry
of its own.  What read(2) gives shows what the kernel made of every one of them.  How a
path is followed, and which file it is then, selftests/target/test_xyzzyat.py tries.
"""

from __future__ import annotations

from harness.contract import (
    ArgAtMost,
    Bytes,
    Contract,
    Copy,
    Flags,
    Laid,
    OfArg,
    OfField,
    OfFile,
    OfText,
    Piece,
    Pointer,
    ReadBack,
    Record,
    SizeFixed,
    Text,
    UnknownFlags,
    Value,
    Version,
    Wide,
    piece_at,
)

AT_FDCWD = -100
LONGEST = 31  # XYZZYAT_LABEL_SIZE, but for the NUL
LABEL, TOO_LONG = 0, 64  # where the two strings lie among the pieces

CONTRACT = Contract(
    name="xyzzyat",
    number="__NR_xyzzyat",
    header="linux/xyzzyat.h",
    includes=("linux/fcntl.h",),
    struct="xyzzy_args",
    declaration="""
        struct xyzzy_args {
            const char *ptr;
            __kernel_long_t varying_val;
            __u64 fixed_val;
        };
    """,
    size=SizeFixed(),
    versions=(Version(name="VER0", size=24),),
    zero_means=None,
    layouts={
        "m64": Laid(
            size=24,
            fields={"ptr": (0, 8), "varying_val": (8, 8), "fixed_val": (16, 8)},
            kernel="xyzzy_args",
        ),
        # A u64 is aligned to four bytes, and a long has four.
        "m32": Laid(
            size=16,
            fields={"ptr": (0, 4), "varying_val": (4, 4), "fixed_val": (8, 8)},
            kernel="compat_xyzzy_args",
        ),
        # Pointers have 32 bits, and __kernel_long_t has 64: four bytes of padding.
        "mx32": Laid(
            size=24,
            fields={"ptr": (0, 4), "varying_val": (8, 8), "fixed_val": (16, 8)},
            kernel="x32_xyzzy_args",
        ),
    },
    args=(
        Value(value=AT_FDCWD, width=32),
        Bytes(data=b"/\0"),
        Wide(value=0x0123_4567_89AB_CDEF),
        Pointer(),
        Flags(
            known={
                "XYZZYAT_CLOEXEC": 1 << 0,
                "AT_SYMLINK_NOFOLLOW": 1 << 8,
                "AT_EMPTY_PATH": 1 << 12,
            }
        ),
    ),
    # In this order: what stands higher is refused first.
    checks=(
        Copy(),
        UnknownFlags(arg=4),
        ArgAtMost(arg=2, maximum=(1 << 63) - 1),  # no offset is negative
        Text(field="ptr", longest=LONGEST, at=LABEL, long_at=TOO_LONG),
    ),
    example={
        "ptr": piece_at(LABEL),
        "varying_val": -2,
        "fixed_val": 0xFEDC_BA98_7654_3210,
    },
    pieces=(
        Piece(at=LABEL, data=b"a label\0"),
        Piece(at=TOO_LONG, data=b"x" * (LONGEST + 1) + b"\0"),
    ),
    effect=ReadBack(
        cloexec=(4, 1 << 0),
        record=Record(
            struct="xyzzyat_record",
            fields=(
                ("dev_major", OfFile(dfd=0, path=1, member="stx_dev_major")),
                ("dev_minor", OfFile(dfd=0, path=1, member="stx_dev_minor")),
                ("ino", OfFile(dfd=0, path=1, member="stx_ino")),
                ("offset", OfArg(arg=2)),
                ("varying_val", OfField(field="varying_val", signed=True)),
                ("fixed_val", OfField(field="fixed_val")),
                ("label", OfText(field="ptr")),
            ),
        ),
    ),
    source="linux/xyzzyat.h, xyzzyat(2) and kernel/xyzzyat.c of the series",
)
