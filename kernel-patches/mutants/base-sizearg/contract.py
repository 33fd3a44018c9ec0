# SPDX-License-Identifier: GPL-2.0-only
"""PR_XYZZY_LABEL of prctl(2), a sample for mutants, as a contract.

    int prctl(PR_XYZZY_LABEL, struct xyzzy_label *label, size_t size, 0, 0);

Semantics of openat2(2): the size is an argument, flags are a field of 64 bits.
"""

from __future__ import annotations

from errno import E2BIG, EINVAL

from harness.contract import (
    PAGE,
    Contract,
    Copy,
    Nothing,
    Piece,
    Pointer,
    Points,
    SizeArg,
    SizeBounds,
    SizeValue,
    Tail,
    UnknownBits,
    Value,
    Version,
)

VER0 = 16  # bytes
TEXT = 16  # bytes: XYZZY_LABEL_LEN
PR_XYZZY_LABEL = 0x58595A5A

CONTRACT = Contract(
    name="xyzzy_label",
    number="__NR_prctl",
    header="linux/xyzzy.h",
    struct="xyzzy_label",
    declaration="""
        struct xyzzy_label {
            __aligned_u64 flags;
            __aligned_u64 text;
        };
    """,
    size=SizeArg(arg=2),
    versions=(Version(name="VER0", size=VER0),),
    zero_means=None,
    args=(
        Value(value=PR_XYZZY_LABEL),
        Pointer(),
        SizeValue(),
        Value(value=0),
        Value(value=0),
    ),
    checks=(
        SizeBounds(minimum=VER0, maximum=PAGE, too_small=EINVAL, too_big=E2BIG),
        Tail(errno=E2BIG),
        Copy(),
        UnknownBits(
            field="flags", known={"XYZZY_LABEL_SHORT": 1 << 0, "XYZZY_LABEL_LOCAL": 1 << 1}
        ),
        Points(field="text", length=TEXT),
    ),
    example={"flags": 1, "text": 0},
    pieces=(Piece(at=0, data=bytes(TEXT)),),
    effect=Nothing(),
    source="the message and the comments of 0001 beside this file",
)
