# SPDX-License-Identifier: GPL-2.0-only
"""bpf(2), whose union grows without a smallest size, by BPF_MAP_CREATE, as a contract.

    int bpf(int cmd, union bpf_attr *attr, unsigned int size);

Where it is promised: bpf(2) of the man-pages; include/uapi/linux/bpf.h, "anonymous
struct used by BPF_MAP_CREATE command".  Where it is done:
kernel/bpf/syscall.c:bpf_check_uarg_tail_zero(), CHECK_ATTR(), map_create();
since commit 99c55f7d47c0 ("bpf: introduce BPF syscall and maps"), v3.18; a larger
union whose tail is zero since commit 1e2709769086 ("bpf: Add
BPF_OBJ_GET_INFO_BY_FD"), v4.12, for all commands.

What lies in the union behind the command's last member is another command's: it
must be zero.
"""

from __future__ import annotations

from errno import E2BIG, EINVAL

from harness.contract import (
    PAGE,
    AtLeast,
    AtMost,
    Contract,
    Copy,
    Descriptor,
    Needs,
    OneOf,
    Pointer,
    SizeArg,
    SizeBounds,
    SizeValue,
    Tail,
    UnknownBits,
    Value,
    Version,
)

BPF_MAP_CREATE = 0
BPF_MAP_TYPE_ARRAY = 2

CONTRACT = Contract(
    name="bpf_map_create",
    number="__NR_bpf",
    header="linux/bpf.h",
    struct="union bpf_attr",
    declaration="""
        union bpf_attr {
            struct {
                __u32 map_type;
                __u32 key_size;
                __u32 value_size;
                __u32 max_entries;
                __u32 map_flags;
                __u32 inner_map_fd;
                __u32 numa_node;
                char map_name[16];
                __u32 map_ifindex;
                __u32 btf_fd;
                __u32 btf_key_type_id;
                __u32 btf_value_type_id;
                __u32 btf_vmlinux_value_type_id;
                __u64 map_extra;
                __s32 value_type_btf_obj_fd;
                __s32 map_token_fd;
            };
            __aligned_u64 of_other_commands[19];
        };
    """,
    rest="of_other_commands",
    size=SizeArg(arg=2, width=32),
    versions=(
        Version(name="4.12", size=48),
        Version(name="5.19", size=144),
        Version(name="6.12", size=152),
    ),
    zero_means=None,
    args=(Value(value=BPF_MAP_CREATE), Pointer(), SizeValue()),
    checks=(
        SizeBounds(minimum=0, maximum=PAGE, too_small=EINVAL, too_big=E2BIG),
        Tail(errno=E2BIG),
        Copy(),
        UnknownBits(field="of_other_commands"),
        OneOf(field="map_extra", values=(0,)),  # of two other types alone
        AtLeast(field="map_type", minimum=1),
        AtMost(field="map_type", maximum=0xFFFF),
        OneOf(field="key_size", values=(4,)),  # an array's index
        AtLeast(field="value_size", minimum=1),
        AtLeast(field="max_entries", minimum=1),
    ),
    example={"map_type": BPF_MAP_TYPE_ARRAY, "key_size": 4, "value_size": 8, "max_entries": 1},
    effect=Descriptor(cloexec=True),
    source="bpf(2); kernel/bpf/syscall.c:bpf_check_uarg_tail_zero(), CHECK_ATTR()",
    needs=Needs(
        root="kernel.unprivileged_bpf_disabled is 2 nearly everywhere", options=("BPF_SYSCALL",)
    ),
)
