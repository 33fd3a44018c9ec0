# SPDX-License-Identifier: GPL-2.0-only
"""futex_waitv(2), an array of structs of one size with a reserved field, as a contract.

    int futex_waitv(struct futex_waitv *waiters, unsigned int nr_futexes, unsigned int flags,
                    struct timespec *timeout, clockid_t clockid);

Where it is promised: Documentation/userspace-api/futex2.rst: "__reserved … must be 0";
include/uapi/linux/futex.h; the kernel's selftest futex/futex_waitv.c.  Where it is done:
kernel/futex/syscalls.c:futex_parse_waitv(); since commit bf69bad38cf6 ("futex: Implement
sys_futex_waitv()"), v5.16.

The word has another value than the one that is waited with, so what is accepted ends with
EAGAIN at once.
"""

from __future__ import annotations

from errno import EAGAIN

from harness.contract import (
    AtLeast,
    Contract,
    Copy,
    Fails,
    Flags,
    Null,
    Piece,
    Pointer,
    SizeFixed,
    UnknownBits,
    UnknownFlags,
    Value,
    Version,
    piece_at,
)

FUTEX_32 = 2

CONTRACT = Contract(
    name="futex_waitv",
    number="__NR_futex_waitv",
    header="linux/futex.h",
    struct="futex_waitv",
    declaration="""
        struct futex_waitv {
            __u64 val;
            __u64 uaddr;
            __u32 flags;
            __u32 __reserved;
        };
    """,
    size=SizeFixed(),
    versions=(Version(name="5.16", size=24),),
    zero_means=None,
    args=(Pointer(), Value(value=1), Flags(known={}), Value(value=0), Value(value=0)),
    checks=(
        UnknownFlags(arg=2),
        Null(),
        Copy(whole=True),
        UnknownBits(field="flags", known={"FUTEX_32": FUTEX_32, "FUTEX_PRIVATE_FLAG": 128}),
        AtLeast(field="flags", minimum=FUTEX_32),
        UnknownBits(field="__reserved"),
    ),
    example={"val": 1, "uaddr": piece_at(), "flags": FUTEX_32 | 128},
    effect=Fails(errno=EAGAIN),
    pieces=(Piece(at=0, data=bytes(8)),),
    source="futex2.rst; kernel/futex/syscalls.c:futex_parse_waitv()",
    since=(5, 16),
)
