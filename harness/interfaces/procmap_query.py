# SPDX-License-Identifier: GPL-2.0-only
"""PROCMAP_QUERY, a question and its answer in one struct, as a contract.

    int ioctl(int maps, PROCMAP_QUERY, struct procmap_query *query);

Where it is promised: include/uapi/linux/fs.h, "Input/output argument structured passed into
ioctl() call"; Documentation/filesystems/proc.rst; the kernel's selftest
proc/proc-pid-vm.c.  Where it is done: fs/proc/task_mmu.c:do_procmap_query(); since commit
ed5d583a88a9 ("fs/procfs: implement efficient VMA querying API for /proc/<pid>/maps"),
v6.11.

The mapping that is asked for is the one that this question's bytes lie beside.
"""

from __future__ import annotations

from errno import E2BIG, EINVAL, ENOTTY

from harness.contract import (
    PAGE,
    Absent,
    BothOrNeither,
    Constant,
    Contract,
    Copy,
    FetchSize,
    Fills,
    Made,
    Needs,
    Piece,
    Pointer,
    SizeBounds,
    SizeField,
    Step,
    Tail,
    UnknownBits,
    Version,
    piece_at,
)

AT_FDCWD = (1 << 64) - 100
QUERY_FLAGS = {
    "PROCMAP_QUERY_VMA_READABLE": 0x01,
    "PROCMAP_QUERY_VMA_WRITABLE": 0x02,
    "PROCMAP_QUERY_VMA_EXECUTABLE": 0x04,
    "PROCMAP_QUERY_VMA_SHARED": 0x08,
    "PROCMAP_QUERY_COVERING_OR_NEXT_VMA": 0x10,
    "PROCMAP_QUERY_FILE_BACKED_VMA": 0x20,
}

CONTRACT = Contract(
    name="procmap_query",
    number="__NR_ioctl",
    header="linux/fs.h",
    struct="procmap_query",
    declaration="""
        struct procmap_query {
            __u64 size;
            __u64 query_flags;
            __u64 query_addr;
            __u64 vma_start;
            __u64 vma_end;
            __u64 vma_flags;
            __u64 vma_page_size;
            __u64 vma_offset;
            __u64 inode;
            __u32 dev_major;
            __u32 dev_minor;
            __u32 vma_name_size;
            __u32 build_id_size;
            __u64 vma_name_addr;
            __u64 build_id_addr;
        };
    """,
    size=SizeField(field="size", offset=0, width=8),
    versions=(Version(name="6.11", size=104),),
    zero_means=None,
    args=(Made(step="maps"), Constant(name="PROCMAP_QUERY"), Pointer()),
    checks=(
        FetchSize(),
        SizeBounds(minimum=24, maximum=PAGE, too_small=EINVAL, too_big=E2BIG),
        Tail(errno=E2BIG),
        Copy(),
        UnknownBits(field="query_flags", known=QUERY_FLAGS),
        BothOrNeither(field="vma_name_size", other="vma_name_addr"),
        BothOrNeither(field="build_id_size", other="build_id_addr"),
    ),
    example={"query_addr": piece_at()},
    effect=Fills(
        fields=(
            *("vma_start", "vma_end", "vma_flags", "vma_page_size", "vma_offset"),
            *("inode", "dev_major", "dev_minor"),
        ),
        whole=True,
    ),
    pieces=(Piece(at=0, data=b"/proc/self/maps\0"),),
    setup=(Step(name="maps", call="openat", args=(AT_FDCWD, piece_at(0), 0, 0)),),
    source="linux/fs.h; fs/proc/task_mmu.c:do_procmap_query()",
    since=(6, 11),
    absent=Absent(errno=ENOTTY, constants={"PROCMAP_QUERY": "_IOWR('f', 17, char[104])"}),
    needs=Needs(options=("PROC_PAGE_MONITOR",)),
)
