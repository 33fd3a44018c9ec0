# SPDX-License-Identifier: GPL-2.0-only
"""xyzzy(2), the sample of "Adding a New System Call", as a contract.

    int xyzzy(struct xyzzy_params *params, unsigned int flags);

Semantics of kernel/events/core.c:perf_copy_attr(), with the flags first.

After all that EINVAL is for, a ``param_2`` above XYZZY_PARAM_2_MAX (2**63 - 1)
is EPERM to a caller without CAP_SYS_RESOURCE in the initial user namespace.  A
guest's callers are root with every capability, to whom any value is free: what
is stated below is what such a caller sees.
"""

from __future__ import annotations

from errno import E2BIG

from harness.contract import (
    PAGE,
    AtMost,
    Contract,
    Copy,
    FetchSize,
    Flags,
    Pointer,
    ReadBack,
    SizeBounds,
    SizeField,
    Tail,
    UnknownBits,
    UnknownFlags,
    Version,
)

VER0 = 24  # bytes

CONTRACT = Contract(
    name="xyzzy",
    number="__NR_xyzzy",
    header="linux/xyzzy.h",
    struct="xyzzy_params",
    declaration="""
        struct xyzzy_params {
            __u32 size;
            __u32 param_1;
            __aligned_u64 param_2;
            __aligned_u64 param_3;
        };
    """,
    size=SizeField(field="size", offset=0, width=4),
    versions=(Version(name="VER0", size=VER0),),
    zero_means=VER0,
    args=(
        Pointer(),
        Flags(known={"XYZZY_CLOEXEC": 1 << 0, "XYZZY_NONBLOCK": 1 << 1}),
    ),
    # In this order: what stands higher is refused first.
    checks=(
        UnknownFlags(arg=1),
        FetchSize(),
        SizeBounds(minimum=VER0, maximum=PAGE, too_small=E2BIG, too_big=E2BIG, writes_size=True),
        Tail(errno=E2BIG, writes_size=True),
        Copy(),
        UnknownBits(field="param_1", known={"XYZZY_P1_URGENT": 1 << 0, "XYZZY_P1_TEST": 1 << 1}),
        AtMost(field="param_3", maximum=1_000_000_000),  # a delay in nanoseconds
    ),
    example={"param_1": 1, "param_2": 0x1122334455667788, "param_3": 0},
    effect=ReadBack(size_holds="usize", cloexec=(1, 1 << 0), nonblock=(1, 1 << 1)),
    source="linux/xyzzy.h, xyzzy(2) and kernel/xyzzy.c of the series",
)
