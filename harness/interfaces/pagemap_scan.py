# SPDX-License-Identifier: GPL-2.0-only
"""PAGEMAP_SCAN, which has a size and does not grow, as a contract.

    int ioctl(int pagemap, PAGEMAP_SCAN, struct pm_scan_arg *arg);

Where it is promised: ioctl_pagemap_scan(2) of the man-pages: "size: this field should be set
to the size of the structure in bytes, as in sizeof(struct pm_scan_arg)"; other sizes are
EINVAL.  Where it is done: fs/proc/task_mmu.c:pagemap_scan_get_args(); since commit
52526ca7fdb9 ("fs/proc/task_mmu: implement IOCTL to get and optionally clear info about
PTEs"), v6.7.

All of the kernel's struct is copied before its size is looked at: a program with a
shorter one at the end of its memory gets EFAULT.  Nothing that is written forbids it.
"""

from __future__ import annotations

from errno import EINVAL, ENOTTY

from harness.contract import (
    Absent,
    Constant,
    Contract,
    Copy,
    Fills,
    Made,
    Needs,
    OnlyWith,
    Piece,
    Pointer,
    SizeBounds,
    SizeField,
    Step,
    UnknownBits,
    Version,
    piece_at,
)

SIZE = 96  # bytes
AT_FDCWD = (1 << 64) - 100
CATEGORIES = {
    f"PAGE_IS_{name}": 1 << bit
    for bit, name in enumerate(
        ("WPALLOWED", "WRITTEN", "FILE", "PRESENT", "SWAPPED", "PFNZERO", "HUGE", "SOFT_DIRTY")
    )
}
#: A page's first byte: the range that is scanned is empty.
SOMEWHERE = piece_at() & ~0xFFF

CONTRACT = Contract(
    name="pagemap_scan",
    number="__NR_ioctl",
    header="linux/fs.h",
    struct="pm_scan_arg",
    declaration="""
        struct pm_scan_arg {
            __u64 size;
            __u64 flags;
            __u64 start;
            __u64 end;
            __u64 walk_end;
            __u64 vec;
            __u64 vec_len;
            __u64 max_pages;
            __u64 category_inverted;
            __u64 category_mask;
            __u64 category_anyof_mask;
            __u64 return_mask;
        };
    """,
    size=SizeField(field="size", offset=0, width=8),
    versions=(Version(name="6.7", size=SIZE),),
    zero_means=None,
    args=(Made(step="pagemap"), Constant(name="PAGEMAP_SCAN"), Pointer()),
    checks=(
        Copy(whole=True),
        SizeBounds(minimum=SIZE, maximum=SIZE, too_small=EINVAL, too_big=EINVAL),
        UnknownBits(
            field="flags", known={"PM_SCAN_WP_MATCHING": 1 << 0, "PM_SCAN_CHECK_WPASYNC": 1 << 1}
        ),
        *(
            UnknownBits(field=field, known=CATEGORIES)
            for field in (
                *("category_inverted", "category_mask"),
                *("category_anyof_mask", "return_mask"),
            )
        ),
        OnlyWith(field="vec_len", other="vec", bits=(1 << 64) - 1),
    ),
    example={"start": SOMEWHERE, "end": SOMEWHERE},
    effect=Fills(fields=("walk_end",)),
    pieces=(Piece(at=0, data=b"/proc/self/pagemap\0"),),
    setup=(Step(name="pagemap", call="openat", args=(AT_FDCWD, piece_at(0), 0, 0)),),
    source="ioctl_pagemap_scan(2); fs/proc/task_mmu.c:pagemap_scan_get_args()",
    since=(6, 7),
    absent=Absent(errno=ENOTTY, constants={"PAGEMAP_SCAN": "_IOWR('f', 16, char[96])"}),
    needs=Needs(options=("PROC_PAGE_MONITOR",)),
)
