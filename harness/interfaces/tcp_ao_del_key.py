# SPDX-License-Identifier: GPL-2.0-only
"""The socket option TCP_AO_DEL_KEY, as a contract.

    int setsockopt(int fd, IPPROTO_TCP, TCP_AO_DEL_KEY, struct tcp_ao_del *del,
                   socklen_t optlen);

Where it is promised and done: see tcp_ao_info.py; net/ipv4/tcp_ao.c:tcp_ao_del_cmd().

The socket has no keys, so what is accepted ends with ENOENT.
"""

from __future__ import annotations

from errno import E2BIG, EINVAL, ENOENT, ENOPROTOOPT

from harness.contract import (
    Absent,
    Contract,
    Copy,
    Fails,
    Head,
    Made,
    Needs,
    OnlyWith,
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
from harness.interfaces.tcp_ao_info import AF_INET, INT_MAX, IPPROTO_TCP, SOCK_STREAM

TCP_AO_DEL_KEY = 39
SIZE = 144  # bytes
KEYF_IFINDEX = 1 << 0

CONTRACT = Contract(
    name="tcp_ao_del_key",
    number="__NR_setsockopt",
    header="linux/tcp.h",
    struct="tcp_ao_del",
    declaration="""
        struct tcp_ao_del {
            __u8 addr[128]; /* struct __kernel_sockaddr_storage */
            __s32 ifindex;
            __u32 bits; /* three, and 29 reserved ones */
            __u16 reserved2;
            __u8 prefix;
            __u8 sndid;
            __u8 rcvid;
            __u8 current_key;
            __u8 rnext;
            __u8 keyflags;
        } __attribute__((aligned(8)));
    """,
    unnamed=("bits",),
    size=SizeArg(arg=4, width=32),
    versions=(Version(name="6.7", size=SIZE),),
    zero_means=None,
    args=(
        Made(step="socket"),
        Value(value=IPPROTO_TCP),
        Value(value=TCP_AO_DEL_KEY),
        Pointer(),
        SizeValue(),
    ),
    checks=(
        Head(length=4, most=INT_MAX),  # net/ipv4/tcp.c:do_tcp_setsockopt(), of every option
        SizeBounds(minimum=SIZE, maximum=INT_MAX, too_small=EINVAL, too_big=EINVAL),
        Tail(errno=E2BIG),
        Copy(),
        UnknownBits(field="bits", also=0b111),
        UnknownBits(field="reserved2"),
        UnknownBits(
            field="keyflags",
            known={"TCP_AO_KEYF_IFINDEX": KEYF_IFINDEX, "TCP_AO_KEYF_EXCLUDE_OPT": 1 << 1},
        ),
        OnlyWith(field="ifindex", other="keyflags", bits=KEYF_IFINDEX),
    ),
    example={},
    effect=Fails(errno=ENOENT),
    setup=(Step(name="socket", call="socket", args=(AF_INET, SOCK_STREAM, 0)),),
    source="tcp_ao.rst; net/ipv4/tcp_ao.c:tcp_ao_del_cmd()",
    since=(6, 7),
    absent=Absent(errno=ENOPROTOOPT),
    needs=Needs(options=("TCP_AO",)),
)
