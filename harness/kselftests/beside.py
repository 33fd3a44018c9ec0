# SPDX-License-Identifier: GPL-2.0-only
"""The two sides by interface and property: what both check, what one alone does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from harness.kselftests import table
from harness.kselftests.run import Judged
from harness.kselftests.table import Program
from harness.report.results import PROPERTIES

BOTH, OURS, THEIRS = "both", "ours alone", "theirs alone"
#: Program → ABI → results.
Results = Mapping[str, Mapping[str, Sequence[Judged]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Count:
    """How many checks of theirs ended how."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    vacuous: int = 0  #: of those that passed, that cannot fail

    def __bool__(self) -> bool:
        return self != Count()

    def __str__(self) -> str:
        words = [str(self.passed)] if self.passed else []
        for number, word in (
            (self.failed, "fail"),
            (self.skipped, "skipped"),
            (self.vacuous, "vacuous"),
        ):
            if number:
                words.append(f"{number} {word}")
        return ", ".join(words)


def count(results: Iterable[Judged]) -> Count:
    """Their number by how they ended."""
    listed = list(results)
    passed = [one for one in listed if one.passed]
    return Count(
        passed=len(passed),
        failed=sum(not one.case.ok for one in listed),
        skipped=sum(one.case.skip is not None for one in listed),
        vacuous=sum(one.check is not None and bool(one.check.vacuous) for one in passed),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A property of the battery, or something beyond it that theirs are about."""

    what: str
    prop: str = ""  #: a key of PROPERTIES; empty: beyond
    theirs: Mapping[str, Count]  #: ABI → their checks of it
    ours: Mapping[str, str]  #: ABI → the mark of our tests of it

    def covered(self, untried: Sequence[str]) -> str:
        """Who checks it; a mark among ``untried`` is no check."""
        here = any(mark not in untried for mark in self.ours.values())
        there = any(self.theirs.values())
        return (BOTH if there else OURS) if here else THEIRS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beside:
    """An interface's two sides."""

    interface: str
    programs: tuple[Program, ...]
    results: Results
    rows: tuple[Row, ...]  #: properties
    beyond: tuple[Row, ...]  #: what no property is about

    @property
    def vacuous(self) -> list[tuple[str, str, str]]:
        """Program, check and reason, of those that cannot fail."""
        found = {
            (program, one.case.name, one.check.vacuous): None
            for program, by_abi in self.results.items()
            for judged in by_abi.values()
            for one in judged
            if one.check and one.check.vacuous
        }
        return list(found)

    @property
    def failing(self) -> list[tuple[str, str, str, str]]:
        """Program, check, ABI and reason, of those that do not pass."""
        return [
            (program, one.case.name, abi, one.expected or "no reason is known")
            for program, by_abi in self.results.items()
            for abi, judged in by_abi.items()
            for one in judged
            if not one.case.ok
        ]

    def total(self, abi: str) -> Count:
        """All checks of theirs as one ABI."""
        return count(one for by_abi in self.results.values() for one in by_abi.get(abi, ()))


def side_by_side(
    results: Results, abis: Sequence[str], ours: Callable[[str, str, str], str], none: str
) -> list[Beside]:
    """Both sides of each interface that there are selftests of.

    ``ours`` gives the mark of an interface, a property and an ABI; ``none`` is
    the mark of what does not apply.
    """
    programs = [one for one in table.load().programs if one.name in results or one.left_out]
    return [
        _side([one for one in programs if one.interface == interface], results, abis, ours, none)
        for interface in dict.fromkeys(one.interface for one in programs if one.name in results)
    ]


def _side(
    programs: Sequence[Program],
    results: Results,
    abis: Sequence[str],
    ours: Callable[[str, str, str], str],
    none: str,
) -> Beside:
    """Both sides of the interface that ``programs`` are about."""
    interface = programs[0].interface
    theirs = {one.name: results[one.name] for one in programs if one.name in results}
    known = {
        abi: [
            (one, one.check)
            for by_abi in theirs.values()
            for one in by_abi.get(abi, ())
            if one.check is not None
        ]
        for abi in abis
    }
    rows = []
    for prop, what in PROPERTIES.items():
        row = Row(
            what=what,
            prop=prop,
            theirs={
                abi: count(one for one, check in known[abi] if prop in check.props) for abi in abis
            },
            ours={abi: ours(interface, prop, abi) for abi in abis},
        )
        if any(row.theirs.values()) or any(mark != none for mark in row.ours.values()):
            rows.append(row)
    subjects = dict.fromkeys(
        check.beyond for abi in abis for _, check in known[abi] if check.beyond
    )
    beyond = [
        Row(
            what=what,
            theirs={
                abi: count(one for one, check in known[abi] if check.beyond == what) for abi in abis
            },
            ours={},
        )
        for what in subjects
    ]
    return Beside(
        interface=interface,
        programs=tuple(programs),
        results=theirs,
        rows=tuple(rows),
        beyond=tuple(beyond),
    )


def lacking(sides: Iterable[Beside], untried: Sequence[str]) -> list[str]:
    """Properties that theirs have checked in an ABI and that ours left out of this run."""
    return [
        f"{one.interface}, {row.prop} {row.what}, {abi}: "
        f"{row.theirs[abi]} of theirs pass, ours was not tried"
        for one in sides
        for row in one.rows
        for abi, mark in row.ours.items()
        if row.theirs[abi].passed and mark in untried
    ]
