# SPDX-License-Identifier: GPL-2.0-only
"""A system call's number with something in the register's upper half, as a C program."""

from __future__ import annotations

from harness.contract import MOST_ARGS
from harness.findings import Mismatch
from harness.how import WideNumber
from harness.interface import Interface
from harness.report import repro
from harness.report.repro import Call


def render(interface: Interface, mismatch: Mismatch, *, prop: str, name: str) -> str:
    """The program's source: the call twice, with nothing in all of its arguments."""
    how = mismatch.how
    assert isinstance(how, WideNumber)
    call = Call(interface=interface, case=interface.case())
    facts: dict[str, object] = {
        **repro.head(interface, mismatch, call, prop=prop, name=name),
        "entry": call.entry_of_registers(MOST_ARGS, int80=False),
        "above": f"{how.above:#x}ULL",
    }
    return repro.template("repro_number.c.j2").render(facts)
