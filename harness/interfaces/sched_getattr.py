# SPDX-License-Identifier: GPL-2.0-only
"""sched_getattr(2), whose struct is the answer, as a contract.

    int sched_getattr(pid_t pid, struct sched_attr *attr, unsigned int size,
                      unsigned int flags);

Where it is promised: sched_setattr(2) of the man-pages, "sched_getattr()": of a size
from the first version's up to a page as much is filled in as both sides know, and
`size` says how much.  Where it is done: kernel/sched/syscalls.c (6.1:
kernel/sched/core.c): sched_getattr(), sched_attr_copy_to_user(); in this form
since commit 1251201c0d34 ("sched/core: Fix uclamp ABI bug, clean up and robustify
sched_read_attr() ABI logic and code"), v5.4: a short struct is cut, and no longer EFBIG.
"""

from __future__ import annotations

from errno import EINVAL

from harness.contract import (
    PAGE,
    Contract,
    Copy,
    Fills,
    Flags,
    Null,
    Pointer,
    SizeArg,
    SizeBounds,
    SizeValue,
    UnknownFlags,
    Value,
)
from harness.interfaces import sched_setattr

CONTRACT = Contract(
    name="sched_getattr",
    number="__NR_sched_getattr",
    header="linux/sched/types.h",
    struct="sched_attr",
    declaration=sched_setattr.CONTRACT.declaration,
    size=SizeArg(arg=2, width=32),
    versions=sched_setattr.CONTRACT.versions,
    zero_means=None,
    args=(Value(value=0), Pointer(), SizeValue(), Flags(known={})),
    checks=(
        UnknownFlags(arg=3),
        Null(),
        SizeBounds(minimum=sched_setattr.VER0, maximum=PAGE, too_small=EINVAL, too_big=EINVAL),
        Copy(),
    ),
    example={},
    effect=Fills(size_holds="least"),
    source="sched_setattr(2); kernel/sched/syscalls.c:sched_attr_copy_to_user()",
)
