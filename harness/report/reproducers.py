# SPDX-License-Identifier: GPL-2.0-only
"""A mismatch as a C program of its own: which kind of program shows it, or why none does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from harness import how as hows
from harness.abi import ABI, Way
from harness.findings import Mismatch
from harness.how import Claims, InAnotherAbi, NoProgram, NotThere, WideNumber
from harness.interface import Interface
from harness.outside import Watch
from harness.report import repro, repro_layout, repro_number, repro_outside, repro_snapshot
from harness.stall import Race, Stall

#: What a mismatch's `how` may be; each is a program, or a reason why there is none.
KINDS = (
    hows.Above4GiB,
    hows.AsTheWhole,
    hows.Claims,
    hows.CloseOnExec,
    hows.InAnotherAbi,
    hows.KeepsNothing,
    hows.NoProgram,
    hows.NotThere,
    hows.PastTheEnd,
    hows.Reported,
    hows.StepFails,
    hows.WideNumber,
    hows.WithoutDescriptors,
    Race,
    Stall,
    Watch,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reproducer:
    """A program that was written down."""

    path: Path
    abi: ABI  #: that it is to be compiled for
    headers: bool = False  #: it takes the kernel's own headers


class _Older(Interface):
    """An interface on a kernel whose headers do not have it."""

    def __init__(self, known: Interface, there: NotThere) -> None:
        super().__init__(known.asked, known.abi, compiler=known.compiler, target=known.target)
        self._there = there
        # What the headers would say, the contract says.
        self.__dict__.update(contract=there.contract, layout=there.layout)

    def number(self, name: str, way: Way | None = None) -> int:
        return self._there.number if name == self.asked.number else super().number(name, way)

    def constant(self, expression: str, *includes: str) -> int:
        return self._there.constant(expression)


def write(
    interface: Interface, mismatch: Mismatch, directory: Path, *, prop: str, number: int
) -> Reproducer | NoProgram:
    """Write the program into ``directory``, which is made; or the reason why there is none.

    ``prop`` is a key of PROPERTIES; ``number`` tells several of one property
    and ABI apart.
    """
    how = mismatch.how
    headers = False
    if isinstance(how, InAnotherAbi):
        interface = interface.in_abi(how.abi)
    case = how.case if isinstance(how, Watch) else mismatch.case
    if case is not None:
        interface = interface.by(case.way)
    if isinstance(how, NotThere):
        interface = _Older(interface, how)
    name = repro.file_name(interface, prop=prop, number=number)
    match how:
        case NoProgram():
            return how
        case Claims():
            text, headers = repro_layout.render(interface, mismatch, prop=prop, name=name), True
        case WideNumber():
            text = repro_number.render(interface, mismatch, prop=prop, name=name)
        case Stall() | Race():
            text = repro_snapshot.render(interface, mismatch, prop=prop, name=name)
        case Watch():
            text = repro_outside.render(interface, mismatch, prop=prop, name=name)
        case _:
            text = repro.render(interface, mismatch, prop=prop, name=name)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return Reproducer(path=path, abi=interface.abi, headers=headers)
