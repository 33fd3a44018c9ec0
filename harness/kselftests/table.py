# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel's own selftests check, as data: tests.toml.

A program of the kernel's tree has a row, and so has each of its checks, by a
pattern of the name under which it reports: which properties of the battery
check the same, or, where it is about something that is no property of an
extensible struct, what that is.  A check that no row knows is a mistake in the
table, and one that passes without a property of ours fails a run.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from harness.abi import ABI
from harness.batteries import BATTERY
from harness.contract import Contract, NotTogether
from harness.report.ktap import Case
from harness.report.results import PROPERTIES
from vm.errors import InfraError
from vm.kernels import Version, parse_version

TABLE = Path(__file__).resolve().parent / "tests.toml"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """One program below tools/testing/selftests/."""

    target: str  #: its directory
    name: str
    interface: str  #: the contract that it is beside: a name of harness/interfaces
    what: str  #: what it is about
    seconds: float  #: how long it may take, under TCG on a busy machine
    args: tuple[str, ...] = ()
    since: Version = (0, 0)  #: the first kernel on which it is run
    left_out: str = ""  #: why it is not run
    #: Why a busy machine may have it fail: it is then run again, a few times at most.
    timed: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """Some checks of a program, by the names under which they report."""

    program: str
    name: str  #: a regular expression for the whole of the name
    said: str = ""  #: one for a part of what was printed before the result
    props: tuple[str, ...] = ()  #: properties of the battery that check the same
    rules: tuple[str, ...] = ()  #: what the contract must say for that, as rule() has it
    beyond: str = ""  #: what it is about, when that is no property of an extensible struct
    why: str = ""  #: how they check the same
    vacuous: str = ""  #: why it cannot fail

    def matches(self, case: Case) -> bool:
        """Whether a result is one of these."""
        if re.fullmatch(self.name, case.name) is None:
            return False
        return re.search(self.said, "\n".join(case.lines)) is not None

    def uncovered(self, contract: Contract, abi: ABI) -> str | None:
        """Why the battery does not check the same of ``contract``; None when it does."""
        if self.beyond:
            return None
        for prop in self.props:
            items = [one for one in BATTERY if one.prop == prop]
            if all(one.unless(contract, abi) is not None for one in items):
                return f"{prop} {PROPERTIES[prop]} does not apply to {contract.name} as {abi.name}"
        said = {rule(one) for one in contract.checks}
        for one in self.rules:
            if one not in said:
                return f"the contract of {contract.name} has no {one}"
        return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fails:
    """Checks of theirs that are known not to pass, and why."""

    program: str
    name: str  #: a regular expression for the whole of the name
    reason: str
    abis: tuple[str, ...] = ()  #: only as these; none named: as all
    since: Version | None = None
    until: Version | None = None

    def explains(self, case: Case, *, program: str, abi: str, version: Version) -> bool:
        """Whether a result that is not ok is this."""
        return (
            self.program == program
            and abi in (self.abis or (abi,))
            and (self.since or version) <= version <= (self.until or version)
            and re.fullmatch(self.name, case.name) is not None
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tests:
    """The whole table."""

    programs: tuple[Program, ...]
    checks: tuple[Check, ...]
    fails: tuple[Fails, ...]

    def program(self, name: str) -> Program:
        """The program of that name, which is there."""
        return next(one for one in self.programs if one.name == name)

    def check(self, program: str, case: Case) -> Check | None:
        """The row that knows a result; None when none does."""
        rows = (one for one in self.checks if one.program == program and one.matches(case))
        return next(rows, None)

    def expected(self, case: Case, *, program: str, abi: str, version: Version) -> str | None:
        """Why a result that is not ok was to be expected; None when it was not."""
        rows = (
            one.reason
            for one in self.fails
            if one.explains(case, program=program, abi=abi, version=version)
        )
        return next(rows, None)


def rule(check: object) -> str:
    """How a check of a contract is named here: its class, its field, and bits that conflict."""
    words = [type(check).__name__, getattr(check, "field", None)]
    if isinstance(check, NotTogether):
        words.append(f"{check.bits:#o}")
    return " ".join(word for word in words if word)


def targets(programs: Iterable[Program]) -> dict[str, Sequence[Program]]:
    """Directory → its programs."""
    found: dict[str, list[Program]] = {}
    for one in programs:
        found.setdefault(one.target, []).append(one)
    return dict(found)


def _ends(raw: dict[str, Any]) -> dict[str, Any]:
    return {
        name: parse_version(one) if name in ("since", "until") else one for name, one in raw.items()
    }


def _tuples(raw: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(one) if isinstance(one, list) else one for name, one in raw.items()}


@cache
def load(path: Path = TABLE) -> Tests:
    """The table.  Raises InfraError when it, a part of this project, is damaged."""
    try:
        raw = tomllib.loads(path.read_text())
        tests = Tests(
            programs=tuple(Program(**_ends(_tuples(one))) for one in raw["program"]),
            checks=tuple(Check(**_tuples(one)) for one in raw["check"]),
            fails=tuple(Fails(**_ends(_tuples(one))) for one in raw.get("fails", [])),
        )
        _verify(tests)
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, re.error) as exc:
        raise InfraError(f"{path}: not a table of selftests: {exc}") from exc
    return tests


def _verify(tests: Tests) -> None:
    names = [one.name for one in tests.programs]
    rows: list[Check | Fails] = [*tests.checks, *tests.fails]
    for row in rows:
        re.compile(row.name)
        if row.program not in names:
            raise ValueError(f"{row.name}: no program {row.program!r}")
    for check in tests.checks:
        re.compile(check.said)
        unknown = [prop for prop in check.props if prop not in PROPERTIES]
        if unknown:
            raise ValueError(f"{check.name}: no property {unknown[0]!r}")
        if bool(check.props) == bool(check.beyond):
            raise ValueError(f"{check.name}: either `props`, or `beyond` what they are")
