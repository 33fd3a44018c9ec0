# SPDX-License-Identifier: GPL-2.0-only
"""What a run's results say of a mutant: killed as it had to be, or not.

Pure: it sees results, not terminals.  A mutant is killed when the property
that it names went red in every ABI that it names, with the verdict that it
names, and nothing else went red that it does not name.  All else is a failure
of the harness, each kind with its own word:

SURVIVED   the named property stayed green somewhere; whatever else went red did
           so by accident
ACCIDENT   it went red as it had to, and so did something that should not have
SPOILT     the machine went away or stopped answering: nothing is proved
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from harness.abi import ABIS
from harness.mutants.trailers import Mutant
from harness.report.results import PROPERTIES, TestResult
from vm.errors import Verdict

#: Properties that try everything at once: they may go red with any mutant, in its ABIs.
EVERYTHING = ("explore", "kselftest")
#: Verdicts of a machine, not of a kernel's fault.
MACHINE = (Verdict.LOST, Verdict.HANG, Verdict.INFRA, Verdict.NO_KVM, Verdict.USAGE)

_NAMES = tuple(one.name for one in ABIS)
_ABI_OF_A_NAME = re.compile(r"(?:-|(?<=\[))(?:{0})(?=\])|(?<=\[)(?:{0})-".format("|".join(_NAMES)))

#: A property in an ABI; no ABI for a test that is of none.
Cell = tuple[str, str]


class State(enum.Enum):
    """What became of a mutant."""

    KILLED = "killed"
    SURVIVED = "SURVIVED"
    ACCIDENT = "ACCIDENT"
    SPOILT = "SPOILT"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """One mutant's run, judged."""

    mutant: Mutant
    state: State
    red: Mapping[Cell, Verdict]  #: what was not green, and how
    ran: frozenset[Cell]  #: what was tried and not skipped
    why: tuple[str, ...] = ()  #: what is wrong, when it is not killed
    stale: tuple[str, ...] = ()  #: properties of Also that stayed green
    tests: tuple[str, ...] = ()  #: the tests that went red, without their ABI

    @property
    def verdict(self) -> Verdict:
        """PASS when it was killed; else what the run's exit code has to say."""
        if self.state is State.KILLED:
            return Verdict.PASS
        if self.state is State.SPOILT:
            return max(self.red.values(), key=lambda one: one.value, default=Verdict.INFRA)
        return Verdict.FAIL


def test_name(name: str) -> str:
    """A test's name without the ABI that it ran in."""
    return _ABI_OF_A_NAME.sub("", name).replace("[]", "")


def left(results: Iterable[TestResult], without: Collection[str]) -> list[TestResult]:
    """The results of a battery that has no such properties."""
    return [one for one in results if one.prop not in without]


def cells(results: Iterable[TestResult]) -> tuple[dict[Cell, Verdict], frozenset[Cell]]:
    """What was not green and how, and all that was tried."""
    red: dict[Cell, Verdict] = {}
    ran = set()
    for one in results:
        cell = (one.prop or "", one.abi or "")
        if one.skip is None:
            ran.add(cell)
        if one.verdict is not Verdict.PASS:
            worst = red.get(cell, Verdict.PASS)
            red[cell] = max(one.verdict, worst, key=lambda verdict: verdict.value)
    return dict(sorted(red.items(), key=lambda item: _rank(item[0]))), frozenset(ran)


def _rank(cell: Cell) -> tuple[int, str]:
    order = list(PROPERTIES)
    return (order.index(cell[0]) if cell[0] in order else len(order), cell[1])


def allowed(mutant: Mutant) -> frozenset[Cell]:
    """What may be red with this mutant; a test without an ABI goes with its property."""
    found = {(mutant.prop, abi) for abi in (*mutant.shows_in, "")}
    found |= {(prop, abi) for prop, abis in mutant.also.items() for abi in (*abis, "")}
    found |= {(prop, abi) for prop in EVERYTHING for _, abi in tuple(found) if abi}
    return frozenset(found)


def missing(mutant: Mutant, red: Mapping[Cell, Verdict]) -> list[str]:
    """The ABIs in which the named property had to go red, and did not."""
    return [abi for abi in mutant.shows_in if red.get((mutant.prop, abi)) is not mutant.verdict]


def judge(
    mutant: Mutant, results: Sequence[TestResult], *, without: Collection[str] = ()
) -> Judged:
    """Judge one mutant's run, as if the battery had no property of ``without``."""
    counted = left(results, without)
    red, ran = cells(counted)
    green = missing(mutant, red)
    may = allowed(mutant)
    stray = [
        cell
        for cell, verdict in red.items()
        if cell not in may or verdict not in (Verdict.FAIL, mutant.verdict)
    ]
    spoilt = [cell for cell in stray if red[cell] in MACHINE]
    why = [_missing(mutant, abi, red, ran, without) for abi in green]
    if green and red:
        why.append(f"by accident: {_listed(red)}")
    elif stray:
        why.append(f"should be green: {_listed({cell: red[cell] for cell in stray})}")
    state = State.KILLED
    if spoilt:
        state = State.SPOILT
    elif green:
        state = State.SURVIVED
    elif stray:
        state = State.ACCIDENT
    return Judged(
        mutant=mutant,
        state=state,
        red=red,
        ran=ran,
        why=tuple(why),
        stale=tuple(
            prop
            for prop, abis in mutant.also.items()
            if prop not in without and not any((prop, abi) in red for abi in abis)
        ),
        tests=tuple(
            dict.fromkeys(test_name(one.name) for one in counted if one.verdict is not Verdict.PASS)
        ),
    )


def _missing(
    mutant: Mutant,
    abi: str,
    red: Mapping[Cell, Verdict],
    ran: frozenset[Cell],
    without: Collection[str],
) -> str:
    cell = (mutant.prop, abi)
    if mutant.prop in without:
        return f"{mutant.prop} is left out in {abi}"
    if cell in red:
        return f"{mutant.prop} is {red[cell].label} in {abi}, and not {mutant.verdict.label}"
    return f"{mutant.prop} {'stayed green' if cell in ran else 'was not tried'} in {abi}"


def _listed(red: Mapping[Cell, Verdict]) -> str:
    """`P4 (m64 m32), P6 (PANIC in m64)`."""
    by_prop: dict[str, list[str]] = {}
    for (prop, abi), verdict in red.items():
        how = abi or "no ABI"
        if verdict is not Verdict.FAIL:
            how = f"{verdict.label} in {how}"
        by_prop.setdefault(prop or "no property", []).append(how)
    return ", ".join(f"{prop} ({' '.join(abis)})" for prop, abis in by_prop.items())


def tests_of(
    judged: Iterable[Judged], baseline: Iterable[TestResult]
) -> dict[str, tuple[str, ...]]:
    """Test → the mutants that turn it red, for every test that ran on the sample itself."""
    found: dict[str, list[str]] = {test_name(one.name): [] for one in baseline if one.skip is None}
    for one in judged:
        for name in one.tests:
            found.setdefault(name, []).append(one.mutant.name)
    return {name: tuple(mutants) for name, mutants in found.items()}


def survivors_without(
    runs: Sequence[tuple[Mutant, Sequence[TestResult]]],
) -> dict[str, tuple[str, ...]]:
    """Property → the mutants that would survive a battery which lacks just that one."""
    named = dict.fromkeys(PROPERTIES, ())
    found: dict[str, tuple[str, ...]] = dict(named)
    for prop in PROPERTIES:
        found[prop] = tuple(
            mutant.name
            for mutant, results in runs
            if judge(mutant, results).state is State.KILLED
            and judge(mutant, results, without=(prop,)).state is not State.KILLED
        )
    return {prop: names for prop, names in found.items() if names}
