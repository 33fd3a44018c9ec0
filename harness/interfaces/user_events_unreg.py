# SPDX-License-Identifier: GPL-2.0-only
"""DIAG_IOCSUNREG of user_events_data, as a contract.

    int ioctl(int data, DIAG_IOCSUNREG, struct user_unreg *unreg);

Where it is promised: Documentation/trace/user_events.rst, "Unregistering";
include/uapi/linux/user_events.h; the kernel's selftest user_events/abi_test.c.  Where it is
done: kernel/trace/trace_events_user.c:user_unreg_get(); since commit dcb8177c1395
("tracing/user_events: Add ioctl for disabling addresses"), v6.4.

Before each call what it gives back is registered.
"""

from __future__ import annotations

from errno import E2BIG, EINVAL

from harness.contract import (
    PAGE,
    Constant,
    Contract,
    Copy,
    FetchSize,
    Made,
    Nothing,
    Pointer,
    SizeBounds,
    SizeField,
    Step,
    Tail,
    UnknownBits,
    Version,
    piece_at,
)
from harness.interfaces.user_events_reg import ABSENT, BIT, NEEDS, PIECES, REG, SETUP, WORD

SIZE = 16  # bytes

CONTRACT = Contract(
    name="user_events_unreg",
    number="__NR_ioctl",
    header="linux/user_events.h",
    struct="user_unreg",
    declaration="""
        struct user_unreg {
            __u32 size;
            __u8 disable_bit;
            __u8 __reserved;
            __u16 __reserved2;
            __u64 disable_addr;
        } __attribute__((__packed__));
    """,
    size=SizeField(field="size", offset=0, width=4),
    versions=(Version(name="6.4", size=SIZE),),
    zero_means=None,
    args=(Made(step="data"), Constant(name="DIAG_IOCSUNREG"), Pointer()),
    checks=(
        FetchSize(),
        SizeBounds(minimum=SIZE, maximum=PAGE, too_small=EINVAL, too_big=E2BIG),
        Tail(errno=E2BIG),
        Copy(),
        UnknownBits(field="__reserved"),
        UnknownBits(field="__reserved2"),
    ),
    example={"disable_bit": BIT, "disable_addr": WORD},
    effect=Nothing(),
    pieces=PIECES,
    setup=SETUP,
    before=(
        Step(call="ioctl", args=(Made(step="data"), Constant(name="DIAG_IOCSREG"), piece_at(REG))),
    ),
    source="user_events.rst; kernel/trace/trace_events_user.c:user_unreg_get()",
    since=(6, 4),
    absent=ABSENT,
    needs=NEEDS,
)
