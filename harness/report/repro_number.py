# SPDX-License-Identifier: GPL-2.0-only
"""A system call's number with something in the register's upper half, as a C program."""

from __future__ import annotations

from harness.contract import MOST_ARGS
from harness.findings import Mismatch
from harness.how import WideNumber
from harness.interface import Interface
from harness.report import repro
from harness.report.repro import Call
from harness.report.results import PROPERTIES


def render(interface: Interface, mismatch: Mismatch, *, prop: str, name: str) -> str:
    """The program's source: the call twice, with nothing in all of its arguments."""
    how = mismatch.how
    assert isinstance(how, WideNumber)
    abi = interface.abi
    call = Call(interface=interface, case=interface.case())
    guard, number_name, number, number_note = call.number()
    facts: dict[str, object] = {
        "title": f"{interface.asked.name}() as {abi.name} breaks its contract: {prop}, "
        f"{PROPERTIES[prop]}",
        "story": repro.story(interface, mismatch),
        "commands": (f"gcc {abi.cflag} -static -O2 -Wall -o repro {name}", "./repro"),
        "wrong_abi": repro.WRONG_ABI[abi.name],
        "cflag": abi.cflag,
        "guard": guard,
        "number_name": number_name,
        "number": number,
        "number_note": number_note,
        "entry": call.entry_of_registers(MOST_ARGS, int80=False),
        "above": f"{how.above:#x}ULL",
    }
    return repro.template("repro_number.c.j2").render(facts)
