# SPDX-License-Identifier: GPL-2.0-only
"""The socket option TCP_AO_ADD_KEY, as a contract.

    int setsockopt(int fd, IPPROTO_TCP, TCP_AO_ADD_KEY, struct tcp_ao_add *add,
                   socklen_t optlen);

Where it is promised: see tcp_ao_info.py; include/uapi/linux/tcp.h, "must be 0", "padding,
must be 0" and TCP_AO_MAXKEYLEN.  Where it is done: net/ipv4/tcp_ao.c:tcp_ao_add_cmd().

The socket has this key already, from the set-up: what is accepted ends with EEXIST
(RFC 5925, 3.1: identifiers of keys must not overlap).

Promised too, and not said here: the address is one of the socket's family, without a port,
and has no bits beyond the prefix; the code's length fits into the header's options
(EMSGSIZE); the algorithm is one that the kernel has.
"""

from __future__ import annotations

import struct
from errno import E2BIG, EEXIST, EINVAL, ENOPROTOOPT

from harness.contract import (
    Absent,
    AtMost,
    Contract,
    Copy,
    Fails,
    Head,
    Made,
    Needs,
    OnlyWith,
    Piece,
    Pointer,
    SizeArg,
    SizeBounds,
    SizeValue,
    Step,
    Tail,
    UnknownBits,
    Value,
    Version,
    piece_at,
)
from harness.interfaces.tcp_ao_del_key import KEYF_IFINDEX
from harness.interfaces.tcp_ao_info import AF_INET, INT_MAX, IPPROTO_TCP, SOCK_STREAM

TCP_AO_ADD_KEY = 38
MAXKEYLEN = 80  # bytes: TCP_AO_MAXKEYLEN
SIZE = 288  # bytes

ALGORITHM, SEND_ID, RECEIVE_ID, KEY = b"hmac(sha1)", 100, 100, b"k"
#: The whole struct: any IPv4 peer, the algorithm, the identifiers, a key of one byte.
THE_KEY = struct.pack(
    "<H126x64s4x4x2x6B80s", AF_INET, ALGORITHM, 0, SEND_ID, RECEIVE_ID, 0, 0, len(KEY), KEY
)

CONTRACT = Contract(
    name="tcp_ao_add_key",
    number="__NR_setsockopt",
    header="linux/tcp.h",
    struct="tcp_ao_add",
    declaration="""
        struct tcp_ao_add {
            __u8 addr[128]; /* struct __kernel_sockaddr_storage */
            char alg_name[64];
            __s32 ifindex;
            __u32 bits; /* two, and 30 reserved ones */
            __u16 reserved2;
            __u8 prefix;
            __u8 sndid;
            __u8 rcvid;
            __u8 maclen;
            __u8 keyflags;
            __u8 keylen;
            __u8 key[80];
        } __attribute__((aligned(8)));
    """,
    unnamed=("bits",),
    size=SizeArg(arg=4, width=32),
    versions=(Version(name="6.7", size=SIZE),),
    zero_means=None,
    args=(
        Made(step="socket"),
        Value(value=IPPROTO_TCP),
        Value(value=TCP_AO_ADD_KEY),
        Pointer(),
        SizeValue(),
    ),
    checks=(
        Head(length=4, most=INT_MAX),  # net/ipv4/tcp.c:do_tcp_setsockopt(), of every option
        SizeBounds(minimum=SIZE, maximum=INT_MAX, too_small=EINVAL, too_big=EINVAL),
        Tail(errno=E2BIG),
        Copy(),
        AtMost(field="keylen", maximum=MAXKEYLEN),
        UnknownBits(field="bits", also=0b11),
        UnknownBits(field="reserved2"),
        UnknownBits(
            field="keyflags",
            known={"TCP_AO_KEYF_IFINDEX": KEYF_IFINDEX, "TCP_AO_KEYF_EXCLUDE_OPT": 1 << 1},
        ),
        OnlyWith(field="ifindex", other="keyflags", bits=KEYF_IFINDEX),
    ),
    example={
        "addr": AF_INET,
        "alg_name": int.from_bytes(ALGORITHM, "little"),
        "sndid": SEND_ID,
        "rcvid": RECEIVE_ID,
        "keylen": len(KEY),
        "key": int.from_bytes(KEY, "little"),
    },
    effect=Fails(errno=EEXIST),
    pieces=(Piece(at=0, data=THE_KEY),),
    setup=(
        Step(name="socket", call="socket", args=(AF_INET, SOCK_STREAM, 0)),
        Step(
            call="setsockopt",
            args=(Made(step="socket"), IPPROTO_TCP, TCP_AO_ADD_KEY, piece_at(0), SIZE),
        ),
    ),
    source="tcp_ao.rst; net/ipv4/tcp_ao.c:tcp_ao_add_cmd()",
    since=(6, 7),
    absent=Absent(errno=ENOPROTOOPT),
    needs=Needs(options=("TCP_AO", "CRYPTO_HMAC", "CRYPTO_SHA1")),
)
assert len(THE_KEY) == SIZE
