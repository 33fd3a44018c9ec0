# SPDX-License-Identifier: GPL-2.0-only
"""xyzzy(2), the sample of "Adding a New System Call", as a contract.

    int xyzzy(struct xyzzy_params *params, unsigned int flags);

Semantics of kernel/events/core.c:perf_copy_attr(), with the flags first.

Each version of the struct is a row of STEPS: the fields that came with it, and
the reasons to refuse.  A kernel keeps the contract of its own version.
"""

from __future__ import annotations

import dataclasses
from errno import E2BIG

from harness.contract import (
    PAGE,
    AtMost,
    Contract,
    Copy,
    FetchSize,
    Flags,
    Pointer,
    Privileged,
    Process,
    ReadBack,
    SizeBounds,
    SizeField,
    Tail,
    UnknownBits,
    UnknownFlags,
    ValueCheck,
    Version,
)

VER0 = 24  # bytes
PARAM_2_MAX = (1 << 63) - 1  # XYZZY_PARAM_2_MAX: what lies above is reserved
SECOND = 1_000_000_000  # ns


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """What came with one version of the struct."""

    name: str
    size: int  #: of the struct, bytes
    fields: str
    values: tuple[ValueCheck, ...] = ()  #: EINVAL, which comes before all privilege
    processes: tuple[Process, ...] = ()  #: behind it


STEPS = (
    Step(
        name="VER0",
        size=VER0,
        fields="""
            __u32 size;
            __u32 param_1;
            __aligned_u64 param_2;
            __aligned_u64 param_3;
        """,
        values=(
            UnknownBits(
                field="param_1", known={"XYZZY_P1_URGENT": 1 << 0, "XYZZY_P1_TEST": 1 << 1}
            ),
            AtMost(field="param_3", maximum=SECOND),  # a delay in nanoseconds
        ),
    ),
    Step(
        name="VER1",
        size=32,
        fields="""
            __aligned_u64 param_4;
        """,
        processes=(Process(field="param_4"),),  # whom the event is about
    ),
    Step(
        name="VER2",
        size=40,
        fields="""
            __u32 param_5;
            __u32 __reserved;
        """,
        values=(
            AtMost(field="param_5", maximum=SECOND),  # by how much the delay may be longer
            UnknownBits(field="__reserved"),
        ),
    ),
)


def up_to(count: int) -> Contract:
    """The contract of a kernel that knows so many versions."""
    steps = STEPS[:count]
    return Contract(
        name="xyzzy",
        number="__NR_xyzzy",
        header="linux/xyzzy.h",
        struct="xyzzy_params",
        declaration=f"struct xyzzy_params {{{''.join(step.fields for step in steps)}}};",
        size=SizeField(field="size", offset=0, width=4),
        versions=tuple(Version(name=step.name, size=step.size) for step in steps),
        zero_means=VER0,
        args=(
            Pointer(),
            Flags(known={"XYZZY_CLOEXEC": 1 << 0, "XYZZY_NONBLOCK": 1 << 1}),
        ),
        # In this order: what stands higher is refused first.
        checks=(
            UnknownFlags(arg=1),
            FetchSize(),
            SizeBounds(
                minimum=VER0, maximum=PAGE, too_small=E2BIG, too_big=E2BIG, writes_size=True
            ),
            Tail(errno=E2BIG, writes_size=True),
            Copy(),
            *(check for step in steps for check in step.values),
            Privileged(field="param_2", above=PARAM_2_MAX, capability="CAP_SYS_RESOURCE"),
            *(check for step in steps for check in step.processes),
        ),
        example={"param_1": 1, "param_2": 0x1122334455667788, "param_3": 0},
        effect=ReadBack(size_holds="usize", cloexec=(1, 1 << 0), nonblock=(1, 1 << 1)),
        source="linux/xyzzy.h, xyzzy(2) and kernel/xyzzy.c of the series",
    )


#: By version, the oldest first; a kernel's own is the one whose last size is the kernel's.
CONTRACTS = tuple(up_to(count) for count in range(1, len(STEPS) + 1))
#: The sample as it was first merged.
CONTRACT = CONTRACTS[0]
