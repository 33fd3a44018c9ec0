# SPDX-License-Identifier: GPL-2.0-only
"""PERF_EVENT_IOC_MODIFY_ATTRIBUTES, which takes what perf_event_open(2) takes, as a contract.

    int ioctl(int event, PERF_EVENT_IOC_MODIFY_ATTRIBUTES, struct perf_event_attr *attr);

Where it is promised: perf_event_open(2) of the man-pages, "perf_event ioctl calls";
include/uapi/linux/perf_event.h.  Where it is done: kernel/events/core.c:perf_copy_attr(),
perf_event_modify_attr(), perf_compat_ioctl(), since the number has a pointer's size in it;
since commit 32ff77e8cc9e ("perf/core: Implement fast breakpoint modification via
_IOC_MODIFY_ATTRIBUTES"), v4.17.

The event is none that can be modified, so what is accepted ends with EOPNOTSUPP.
"""

from __future__ import annotations

from errno import EOPNOTSUPP

from harness.contract import (
    Constant,
    Contract,
    Fails,
    Made,
    Needs,
    OneOf,
    Piece,
    Pointer,
    SizeField,
    Step,
    piece_at,
)
from harness.interfaces import perf_event_open as opened

#: The event's own attributes, of the first version's size.
ATTR = bytearray(opened.VER0)
ATTR[0:4] = opened.PERF_TYPE_SOFTWARE.to_bytes(4, "little")
ATTR[4:8] = opened.VER0.to_bytes(4, "little")
ATTR[8:16] = opened.PERF_COUNT_SW_DUMMY.to_bytes(8, "little")
ATTR[40:48] = opened.QUIET.to_bytes(8, "little")

CONTRACT = Contract(
    name="perf_modify_attributes",
    number="__NR_ioctl",
    header="linux/perf_event.h",
    struct="perf_event_attr",
    declaration=opened.DECLARATION,
    unnamed=opened.UNNAMED,
    newer=opened.CONTRACT.newer,
    size=SizeField(field="size", offset=4, width=4),
    versions=opened.VERSIONS,
    zero_means=opened.VER0,
    args=(Made(step="event"), Constant(name="PERF_EVENT_IOC_MODIFY_ATTRIBUTES"), Pointer()),
    checks=(*opened.COPY_CHECKS, OneOf(field="type", values=(opened.PERF_TYPE_SOFTWARE,))),
    example=opened.CONTRACT.example,
    effect=Fails(errno=EOPNOTSUPP),
    pieces=(Piece(at=0, data=bytes(ATTR)),),
    setup=(
        Step(
            name="event",
            call="perf_event_open",
            args=(piece_at(0), 0, opened.ANY, opened.ANY, 0),
        ),
    ),
    source="perf_event_open(2); kernel/events/core.c:perf_copy_attr(), perf_compat_ioctl()",
    since=(4, 17),
    needs=Needs(options=("PERF_EVENTS",)),
)
