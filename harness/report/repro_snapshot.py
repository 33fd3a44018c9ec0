# SPDX-License-Identifier: GPL-2.0-only
"""P16 as a C program of its own: a call whose memory changes while it is made.

A stall is written down as it was made, with userfaultfd(2) and a second
thread, and shows every time; a race is a second thread and luck.  What the
contract allows, every outcome that one snapshot explains, is a table in the
program, and comes from the model (harness/stall.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from harness import model, stall
from harness.case import Case
from harness.contract import (
    DATA_AT,
    PAGE,
    Bytes,
    Child,
    Descriptor,
    ReadBack,
    SizeField,
)
from harness.findings import Mismatch
from harness.interface import Interface
from harness.report import repro
from harness.report.repro import Array, Call
from harness.stall import Late, Race, Stall
from harness.wire import lib

#: A race's calls in a program, for one of the battery's.
TIMES = 20
#: Errnos after which nothing can be said, unless the contract or the mismatch names them.
NOT_TRIED = repro.NOT_TRIED


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Outcome:
    """One that is allowed, as a program has it."""

    errno: int
    held: bytes | None
    size: int | None = None  #: what is written back

    def text(self, *, sized: bool, held: int) -> str:
        """Its initialiser; an outcome without ``held`` leaves these bytes zero."""
        parts = [f".err = {repro.errno_of(self.errno)}"]
        if sized:
            parts.append(f".size = {-1 if self.size is None else self.size}")
        if held and self.held is not None:
            found = [f"[{at}] = {byte:#x}" for at, byte in enumerate(self.held) if byte]
            parts.append(f".held = {{ {', '.join(found) or '0'} }}")
        return ", ".join(parts)


def _of_stall(interface: Interface, one: Stall) -> list[_Outcome]:
    contract = interface.contract
    where = contract.size
    found: dict[_Outcome, None] = {}
    for allowed in stall.allowed(contract, interface.layout, one, register=interface.register):
        size = None
        if isinstance(where, SizeField):
            span = slice(where.offset, where.end)
            if allowed.memory[span] != one.changed[span]:
                size = int.from_bytes(allowed.memory[span], "little")
        found[_Outcome(errno=allowed.errno, held=allowed.held, size=size)] = None
    return list(found)


def _of_race(interface: Interface, one: Race) -> list[_Outcome]:
    outcomes = stall.allowed_in_race(
        interface.contract, interface.layout, one, register=interface.register
    )
    shows = isinstance(interface.contract.effect, ReadBack)
    found = {
        _Outcome(errno=allowed.errno, held=allowed.held if shows else None): None
        for allowed in outcomes.values()
    }
    return list(found)


def _not_tried(mismatch: Mismatch, allowed: Iterable[_Outcome]) -> list[tuple[str, str]]:
    """(condition, why) for each errno that says that the call could not be made."""
    taken = {model.errno_name(one.errno) for one in allowed}
    taken.add(mismatch.seen.partition(",")[0])
    found = []
    for numbers, why in NOT_TRIED.items():
        left = [repro.errno_of(one) for one in numbers if model.errno_name(one) not in taken]
        if left:
            found.append((" || ".join(f"err == {name}" for name in left), why))
    return found


def _arrays(interface: Interface, case: Case, more: Sequence[Array]) -> list[Array]:
    """What the call points to, and the struct."""
    contract = interface.contract
    found = [
        repro.constant_of(f"argument_{index}", arg.data)
        for index, arg in enumerate(contract.args)
        if isinstance(arg, Bytes)
    ]
    if contract.pieces:
        found.append(repro.constant_of("laid_out", contract.data))
    found.append(repro.array_of("given", case.memory, interface, f"{contract.tag} as it is given"))
    return [*found, *more]


def render(interface: Interface, mismatch: Mismatch, *, prop: str, name: str) -> str:
    """The program's source."""
    one = mismatch.how
    assert isinstance(one, (Stall, Race))
    contract = interface.contract
    call = Call(interface=interface, case=one.case)
    entry = call.entry()
    number_name = call.number()[1]
    where = contract.size if isinstance(contract.size, SizeField) else None
    shows = interface.ksize if isinstance(contract.effect, ReadBack) else 0
    if isinstance(one, Stall):
        allowed, sized = _of_stall(interface, one), True
        own = _facts_of_stall(one)
        arrays = _arrays(interface, one.case, [repro.constant_of("change", one.change)])
    else:
        allowed, sized = _of_race(interface, one), False
        own = _facts_of_race(one, restored=where is not None and not one.over(contract))
        arrays = _arrays(interface, one.case, [])
    facts: dict[str, object] = {
        **repro.head(interface, mismatch, call, prop=prop, name=name, more=" -pthread"),
        "arrays": arrays,
        "allowed": [outcome.text(sized=sized, held=shows) for outcome in allowed],
        "held": shows,
        "descriptor": isinstance(contract.effect, (ReadBack, Descriptor)),
        "child": isinstance(contract.effect, Child),
        "size_at": where.offset if where else 0,
        "size_width": where.width if where else 0,
        "pieces": bool(contract.pieces),
        "data_at": f"{lib.WIRE_SCRATCH_AT + DATA_AT:#x}",
        "data_pages": lib.WIRE_ARENA // PAGE,
        "setup": tuple(repro.setup_lines(interface)),
        "entry": entry,
        "call": repro.call_lines(
            entry.name if entry else "syscall", number_name, tuple(call.args())
        ),
        "not_tried": _not_tried(mismatch, allowed),
    }
    return repro.template("repro_snapshot.c.j2").render({**facts, **own})


def _facts_of_stall(one: Stall) -> dict[str, object]:
    return {
        "race": False,
        "what": repro.comment(one.what),
        "boundary": one.boundary,
        "late": one.late.value,
        "first_is_late": one.late is Late.FIRST,
        "at": one.at,
    }


def _facts_of_race(one: Race, *, restored: bool) -> dict[str, object]:
    return {
        "race": True,
        "what": repro.comment(one.what),
        "at": one.at,
        "bits": 8 * one.width,
        "values": [f"{value:#x}ULL" for value in one.values],
        "calls": TIMES * one.calls,
        "restored": restored,
    }
