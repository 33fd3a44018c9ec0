# SPDX-License-Identifier: GPL-2.0-only
"""perf_event_open(2), the model of "Adding a New System Call", as a contract.

    int perf_event_open(struct perf_event_attr *attr, pid_t pid, int cpu, int group_fd,
                        unsigned long flags);

Where it is promised: perf_event_open(2) of the man-pages, "size" and "ERRORS" (E2BIG
writes the size that the kernel knows); include/uapi/linux/perf_event.h.  Where it is
done: kernel/events/core.c:perf_copy_attr(); since commit 974802eaa1af
("perf_counter: Add forward/backward attribute ABI compatibility"), v2.6.31.

Promised too, and not said here: what one sample_type bit asks of other fields;
conflicts between the attribute's bits.
"""

from __future__ import annotations

from errno import E2BIG

from harness.contract import (
    PAGE,
    Contract,
    Copy,
    Descriptor,
    FetchSize,
    Flags,
    Needs,
    Pointer,
    SizeBounds,
    SizeField,
    Tail,
    UnknownBits,
    UnknownFlags,
    Value,
    Version,
)

VER0 = 64  # bytes: PERF_ATTR_SIZE_VER0
VERSIONS = tuple(
    Version(name=f"VER{number}", size=size)
    for number, size in enumerate((VER0, 72, 80, 96, 104, 112, 120, 128, 136))
)

PERF_TYPE_SOFTWARE = 1
PERF_COUNT_SW_DUMMY = 9
#: Bit-fields: disabled, exclude_kernel, exclude_hv.  Nobody needs a privilege for those.
QUIET = 1 << 0 | 1 << 5 | 1 << 6
ANY = (1 << 64) - 1

SAMPLE_TYPES = {
    f"PERF_SAMPLE_{name}": 1 << bit
    for bit, name in enumerate(
        (
            *("IP", "TID", "TIME", "ADDR", "READ", "CALLCHAIN", "ID", "CPU", "PERIOD"),
            *("STREAM_ID", "RAW", "BRANCH_STACK", "REGS_USER", "STACK_USER", "WEIGHT"),
            *("DATA_SRC", "IDENTIFIER", "TRANSACTION", "REGS_INTR", "PHYS_ADDR", "AUX"),
            *("CGROUP", "DATA_PAGE_SIZE", "CODE_PAGE_SIZE", "WEIGHT_STRUCT"),
        )
    )
}
READ_FORMATS = {
    f"PERF_FORMAT_{name}": 1 << bit
    for bit, name in enumerate(("TOTAL_TIME_ENABLED", "TOTAL_TIME_RUNNING", "ID", "GROUP", "LOST"))
}

DECLARATION = """
    struct perf_event_attr {
        __u32 type;
        __u32 size;
        __u64 config;
        __u64 sample_period;
        __u64 sample_type;
        __u64 read_format;
        __u64 bits; /* 38 single bits and, in 6.12, 26 reserved ones */
        __u32 wakeup_events;
        __u32 bp_type;
        __u64 config1;
        __u64 config2;
        __u64 branch_sample_type;
        __u64 sample_regs_user;
        __u32 sample_stack_user;
        __s32 clockid;
        __u64 sample_regs_intr;
        __u32 aux_watermark;
        __u16 sample_max_stack;
        __u16 __reserved_2;
        __u32 aux_sample_size;
        __u32 aux_bits; /* __reserved_3, or three bits and 29 reserved ones */
        __u64 sig_data;
        __u64 config3;
    };
"""
UNNAMED = ("bits", "aux_bits")

#: perf_copy_attr(), in its order.
COPY_CHECKS = (
    FetchSize(),
    SizeBounds(minimum=VER0, maximum=PAGE, too_small=E2BIG, too_big=E2BIG, writes_size=True),
    Tail(errno=E2BIG, writes_size=True),
    Copy(),
    UnknownBits(field="bits", also=(1 << 38) - 1),
    UnknownBits(field="__reserved_2"),
    UnknownBits(field="aux_bits", also=0b111),
    UnknownBits(field="sample_type", known=SAMPLE_TYPES),
    UnknownBits(field="read_format", known=READ_FORMATS),
)

CONTRACT = Contract(
    name="perf_event_open",
    number="__NR_perf_event_open",
    header="linux/perf_event.h",
    struct="perf_event_attr",
    declaration=DECLARATION,
    unnamed=UNNAMED,
    size=SizeField(field="size", offset=4, width=4),
    versions=VERSIONS,
    zero_means=VER0,
    args=(
        Pointer(),
        Value(value=0),  # the caller
        Value(value=ANY),  # on any CPU
        Value(value=ANY),  # in no group
        Flags(
            known={
                "PERF_FLAG_FD_NO_GROUP": 1 << 0,
                "PERF_FLAG_FD_OUTPUT": 1 << 1,
                "PERF_FLAG_PID_CGROUP": 1 << 2,
                "PERF_FLAG_FD_CLOEXEC": 1 << 3,
            },
            width=64,
        ),
    ),
    checks=(UnknownFlags(arg=4), *COPY_CHECKS),
    example={"type": PERF_TYPE_SOFTWARE, "config": PERF_COUNT_SW_DUMMY, "bits": QUIET},
    effect=Descriptor(cloexec=(4, 1 << 3)),
    newer=("PERF_FORMAT_LOST",),
    source="perf_event_open(2); kernel/events/core.c:perf_copy_attr()",
    needs=Needs(options=("PERF_EVENTS",)),
)
