# SPDX-License-Identifier: GPL-2.0-only
"""A layout or a constant that is not what it has to be, as a C program that says so.

It includes the kernel's own UAPI headers, so it is compiled against that
kernel's `headers_install`, and compares what they say to this ABI's compiler
with what they have to say.
"""

from __future__ import annotations

from harness.findings import Mismatch
from harness.how import Claims
from harness.interface import Interface
from harness.report import repro
from harness.report.results import PROPERTIES


def render(interface: Interface, mismatch: Mismatch, *, prop: str, name: str) -> str:
    """The program's source."""
    how = mismatch.how
    assert isinstance(how, Claims)
    abi = interface.abi
    facts: dict[str, object] = {
        "title": f"{interface.asked.name}() as {abi.name} breaks its contract: {prop}, "
        f"{PROPERTIES[prop]}",
        "story": repro.story(interface, mismatch),
        "commands": (
            f"gcc {abi.cflag} -static -O2 -Wall -isystem HEADERS/include -o repro {name}",
            "./repro",
        ),
        "wrong_abi": repro.WRONG_ABI[abi.name],
        "cflag": abi.cflag,
        "headers": tuple(dict.fromkeys(how.headers)),
        "whose": repro.comment(how.whose),
        "claims": how.claims,
    }
    return repro.template("repro_layout.c.j2").render(facts)
