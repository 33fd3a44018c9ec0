# SPDX-License-Identifier: GPL-2.0-only
"""The caller's own deadlines, on a kernel of ours: who watches waits by calls that it has.

It is not about the sample, and no fault of its turns this red: a caller would that waits
by a call which the kernel lacks, as libc's own does in m32.
"""

from __future__ import annotations

import errno

from harness import sweep
from harness.interface import Interface
from harness.sweep import Dim, Kind, Seen, Sweep


def test_a_call_that_blocks_in_a_sweep_is_interrupted(interface: Interface) -> None:
    """Who watches over a sweep's calls waits by system calls that this kernel has in each ABI.

    poll(2) of nothing: for ever twice, then not at all.
    """
    never = (1 << 32) - 2  # as an int: negative
    timeouts = Dim(kind=Kind.ARG, index=2, start=never, stop=never + 3)
    payload = sweep.encode(
        Sweep(dims=(timeouts,), usize=interface.ksize),
        interface.contract,
        number=interface.number("poll"),
        before=[],
        after=[],
        deadline_ms=100,
    )
    rows = interface.caller.sweep(payload).rows
    late = Seen(errno=errno.EINTR, deadline=True)
    assert [(row.count, row.seen == late) for row in rows] == [(2, True), (1, False)]
