# SPDX-License-Identifier: GPL-2.0-only
"""DIAG_IOCSREG of user_events_data, a packed struct, as a contract.

    int ioctl(int data, DIAG_IOCSREG, struct user_reg *reg);

Where it is promised: Documentation/trace/user_events.rst, "Registering";
include/uapi/linux/user_events.h: "callers at a minimum should set size"; the kernel's
selftest user_events/abi_test.c.  Where it is done:
kernel/trace/trace_events_user.c:user_reg_get(); since commit 7f5a08c79df3
("user_events: Add minimal support for trace_event into ftrace"), v5.18, usable since 6.4.

All of it is written with fixed-width types, so that 32-bit programs are served as well.
What was registered is given back behind each accepted call.
"""

from __future__ import annotations

from errno import E2BIG, EINVAL, ENOENT

from harness.contract import (
    PAGE,
    Absent,
    AtMost,
    Constant,
    Contract,
    Copy,
    FetchSize,
    Fills,
    Made,
    Needs,
    OneOf,
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

SIZE = 28  # bytes
AT_FDCWD = (1 << 64) - 100
O_RDWR = 2
BIT = 31
WORD = piece_at(0)

PATH, WHERE, KIND, NAME, UNREG, REG = 16, 64, 96, 112, 144, 176
#: struct user_unreg, struct user_reg: of the same word and bit.
GIVEN_BACK = (16).to_bytes(4, "little") + bytes((BIT, 0, 0, 0)) + WORD.to_bytes(8, "little")
REGISTERED = SIZE.to_bytes(4, "little") + bytes((BIT, 4, 0, 0)) + WORD.to_bytes(8, "little")
REGISTERED += piece_at(NAME).to_bytes(8, "little") + bytes(4)
PIECES = (
    Piece(at=0, data=bytes(8)),
    Piece(at=PATH, data=b"/sys/kernel/tracing/user_events_data\0"),
    Piece(at=WHERE, data=b"/sys/kernel/tracing\0"),
    Piece(at=KIND, data=b"tracefs\0"),
    Piece(at=NAME, data=b"extsys_test u32 count\0"),
    Piece(at=UNREG, data=GIVEN_BACK),
    Piece(at=REG, data=REGISTERED),
)
SETUP = (
    # It is mounted already, or is now.
    Step(
        call="mount",
        args=(piece_at(KIND), piece_at(WHERE), piece_at(KIND), 0, 0),
        may_fail=True,
    ),
    Step(name="data", call="openat", args=(AT_FDCWD, piece_at(PATH), O_RDWR, 0)),
)
#: Without it there is no file.
ABSENT = Absent(
    errno=ENOENT,
    step="data",
    constants={
        "DIAG_IOCSREG": "_IOWR('*', 0, char *)",
        "DIAG_IOCSUNREG": "_IOW('*', 2, char *)",
    },
)
NEEDS = Needs(
    root="user_events_data belongs to root",
    options=("USER_EVENTS",),
    changes="tracefs is mounted on /sys/kernel/tracing, if it is not",
)

CONTRACT = Contract(
    name="user_events_reg",
    number="__NR_ioctl",
    header="linux/user_events.h",
    struct="user_reg",
    declaration="""
        struct user_reg {
            __u32 size;
            __u8 enable_bit;
            __u8 enable_size;
            __u16 flags;
            __u64 enable_addr;
            __u64 name_args;
            __u32 write_index;
        } __attribute__((__packed__));
    """,
    size=SizeField(field="size", offset=0, width=4),
    versions=(Version(name="6.4", size=SIZE),),
    zero_means=None,
    args=(Made(step="data"), Constant(name="DIAG_IOCSREG"), Pointer()),
    checks=(
        FetchSize(),
        SizeBounds(minimum=SIZE, maximum=PAGE, too_small=EINVAL, too_big=E2BIG),
        Tail(errno=E2BIG),
        Copy(),
        UnknownBits(
            field="flags",
            known={"USER_EVENT_REG_PERSIST": 1 << 0, "USER_EVENT_REG_MULTI_FORMAT": 1 << 1},
        ),
        OneOf(field="enable_size", values=(4, 8)),
        AtMost(field="enable_bit", maximum=BIT),  # of the four bytes of the example
    ),
    example={
        "enable_bit": BIT,
        "enable_size": 4,
        "enable_addr": WORD,
        "name_args": piece_at(NAME),
    },
    effect=Fills(fields=("write_index",)),
    pieces=PIECES,
    setup=SETUP,
    after=(
        Step(
            call="ioctl", args=(Made(step="data"), Constant(name="DIAG_IOCSUNREG"), piece_at(UNREG))
        ),
    ),
    source="user_events.rst; kernel/trace/trace_events_user.c:user_reg_get()",
    since=(6, 4),
    absent=ABSENT,
    needs=NEEDS,
)
