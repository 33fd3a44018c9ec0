# SPDX-License-Identifier: GPL-2.0-only
"""The socket option TCP_AO_INFO, whose size is optlen, as a contract.

    int setsockopt(int fd, IPPROTO_TCP, TCP_AO_INFO, struct tcp_ao_info_opt *opt,
                   socklen_t optlen);

Where it is promised: Documentation/networking/tcp_ao.rst, which counts among the reasons for
setsockopt() that its commands are extendable; include/uapi/linux/tcp.h, "must be 0"; the
kernel's selftest tcp_ao/setsockopt-closed.c, whose larger size with zeros is accepted.
Where it is done: net/ipv4/tcp_ao.c:tcp_ao_info_cmd();
include/linux/sockptr.h:copy_struct_from_sockptr(), which is to be to a sockptr_t what
copy_struct_from_user() is to a pointer; since commit 4954f17ddefc ("net/tcp: Introduce
TCP_AO setsockopt()s"), v6.7.
"""

from __future__ import annotations

from errno import E2BIG, EINVAL, ENOPROTOOPT

from harness.contract import (
    Absent,
    Contract,
    Copy,
    Head,
    Made,
    Needs,
    Nothing,
    Pointer,
    SizeArg,
    SizeBounds,
    SizeValue,
    Step,
    Tail,
    UnknownBits,
    Value,
    Version,
)

AF_INET, SOCK_STREAM, IPPROTO_TCP = 2, 1, 6
TCP_AO_INFO = 40
SIZE = 48  # bytes
INT_MAX = (1 << 31) - 1

CONTRACT = Contract(
    name="tcp_ao_info",
    number="__NR_setsockopt",
    header="linux/tcp.h",
    struct="tcp_ao_info_opt",
    declaration="""
        struct tcp_ao_info_opt {
            __u32 bits; /* five, and 27 reserved ones */
            __u16 reserved2;
            __u8 current_key;
            __u8 rnext;
            __u64 pkt_good;
            __u64 pkt_bad;
            __u64 pkt_key_not_found;
            __u64 pkt_ao_required;
            __u64 pkt_dropped_icmp;
        } __attribute__((aligned(8)));
    """,
    unnamed=("bits",),
    size=SizeArg(arg=4, width=32),
    versions=(Version(name="6.7", size=SIZE),),
    zero_means=None,
    args=(
        Made(step="socket"),
        Value(value=IPPROTO_TCP),
        Value(value=TCP_AO_INFO),
        Pointer(),
        SizeValue(),
    ),
    checks=(
        Head(length=4, most=INT_MAX),  # net/ipv4/tcp.c:do_tcp_setsockopt(), of every option
        SizeBounds(minimum=SIZE, maximum=INT_MAX, too_small=EINVAL, too_big=EINVAL),
        Tail(errno=E2BIG),
        Copy(),
        UnknownBits(field="bits", also=0b11111),
        UnknownBits(field="reserved2"),
    ),
    example={},
    effect=Nothing(),
    setup=(Step(name="socket", call="socket", args=(AF_INET, SOCK_STREAM, 0)),),
    source="tcp_ao.rst; net/ipv4/tcp_ao.c:tcp_ao_info_cmd()",
    since=(6, 7),
    absent=Absent(errno=ENOPROTOOPT),
    needs=Needs(options=("TCP_AO",)),
)
