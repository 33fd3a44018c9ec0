# SPDX-License-Identifier: GPL-2.0-only
"""sched_setattr(2), with the size in its struct, as a contract.

    int sched_setattr(pid_t pid, struct sched_attr *attr, unsigned int flags);

Where it is promised: sched_setattr(2) of the man-pages, "The sched_attr
structure" and "ERRORS"; include/uapi/linux/sched/types.h.  Where it is done:
kernel/sched/syscalls.c (6.1: kernel/sched/core.c): sched_copy_attr(),
__sched_setscheduler(); since commit d50dde5a10f3 ("sched: Add new
scheduler syscalls to support an extended scheduling parameters ABI"), v3.14,
with the order and the write-back of commit 1251201c0d34 ("sched/core: Fix uclamp
ABI bug, clean up and robustify sched_read_attr() ABI logic and code"), v5.4.

Promised too, and not said here: a policy that takes a priority insists on one.
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
    Nothing,
    Null,
    Pointer,
    SizeBounds,
    SizeField,
    Tail,
    UnknownBits,
    UnknownFlags,
    Value,
    Version,
)

VER0, VER1 = 48, 56  # bytes: SCHED_ATTR_SIZE_VER0, _VER1

SCHED_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}

CONTRACT = Contract(
    name="sched_setattr",
    number="__NR_sched_setattr",
    header="linux/sched/types.h",
    includes=("linux/sched.h",),
    struct="sched_attr",
    declaration="""
        struct sched_attr {
            __u32 size;
            __u32 sched_policy;
            __u64 sched_flags;
            __s32 sched_nice;
            __u32 sched_priority;
            __u64 sched_runtime;
            __u64 sched_deadline;
            __u64 sched_period;
            __u32 sched_util_min;
            __u32 sched_util_max;
        };
    """,
    size=SizeField(field="size", offset=0, width=4),
    versions=(Version(name="VER0", size=VER0), Version(name="VER1", size=VER1)),
    zero_means=VER0,
    args=(Value(value=0), Pointer(), Flags(known={})),  # pid 0: the caller
    checks=(
        UnknownFlags(arg=2),
        Null(),
        FetchSize(),
        SizeBounds(minimum=VER0, maximum=PAGE, too_small=E2BIG, too_big=E2BIG, writes_size=True),
        Tail(errno=E2BIG, writes_size=True),
        Copy(),
        AtMost(field="sched_policy", maximum=7),  # SCHED_EXT, on a kernel that has it
        UnknownBits(field="sched_flags", known=SCHED_FLAGS),
        AtMost(field="sched_priority", maximum=99),  # MAX_RT_PRIO - 1
    ),
    example={},  # SCHED_OTHER, nice 0: what the caller is
    effect=Nothing(),
    source="sched_setattr(2); kernel/sched/syscalls.c:sched_copy_attr()",
)
