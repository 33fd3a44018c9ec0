# SPDX-License-Identifier: GPL-2.0-only
"""KTAP: what the kernel's selftests print, and what this project's runs leave.

Documentation/dev-tools/ktap.rst.  The parser takes what kselftest_harness.h
and kselftest.h really print, and is strict where it matters: a plan that is
not kept, a number twice, a bail out or an end without a plan are problems, not
a shorter list of passes.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

_VERSION = re.compile(r"^(KTAP version 1|TAP version 13)$")
_PLAN = re.compile(r"^1\.\.(\d+)(?:\s*#\s*SKIP\s*(.*))?$")
_RESULT = re.compile(r"^(ok|not ok)\s+(\d+)\s*(?:-\s*)?([^#]*?)\s*(?:#\s*(.*))?$")
_BAIL = re.compile(r"^Bail out!\s*(.*)$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One result line."""

    number: int
    name: str
    ok: bool
    skip: str | None = None  #: the reason, when it is skipped
    lines: tuple[str, ...] = ()  #: the diagnostics before it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parsed:
    """A whole output."""

    planned: int | None
    cases: tuple[Case, ...]
    problems: tuple[str, ...]  #: against the format, in words

    @property
    def failed(self) -> tuple[Case, ...]:
        return tuple(case for case in self.cases if not case.ok)

    @property
    def skipped(self) -> tuple[Case, ...]:
        return tuple(case for case in self.cases if case.skip is not None)


def parse(text: str) -> Parsed:
    """Read an output.  Never raises: what is wrong with it is in ``problems``.

    Indented lines (subtests) belong to the result line that follows them.
    """
    planned: int | None = None
    cases: list[Case] = []
    problems: list[str] = []
    pending: list[str] = []
    versioned = False
    for raw in text.splitlines():
        line = raw.rstrip()
        if _VERSION.match(line):
            if versioned:
                problems.append("a second version line")
            versioned = True
        elif match := _PLAN.match(line):
            if planned is not None:
                problems.append("a second plan")
            planned = int(match[1])
        elif match := _RESULT.match(line):
            cases.append(_case(match, pending))
            pending = []
        elif match := _BAIL.match(line):
            problems.append(f"bailed out: {match[1] or 'no reason given'}")
        elif line:
            pending.append(line)
    problems += _against_plan(planned, cases, versioned=versioned)
    return Parsed(planned=planned, cases=tuple(cases), problems=tuple(problems))


def _case(match: re.Match[str], pending: list[str]) -> Case:
    directive = match[4] or ""
    word, _, reason = directive.partition(" ")
    return Case(
        number=int(match[2]),
        name=match[3],
        ok=match[1] == "ok",
        skip=reason.strip() if word.upper() == "SKIP" else None,
        lines=tuple(pending),
    )


def _against_plan(planned: int | None, cases: list[Case], *, versioned: bool) -> list[str]:
    problems = []
    if not versioned:
        problems.append("no version line")
    if planned is None:
        problems.append("no plan")
    elif planned != len(cases):
        problems.append(f"{planned} tests planned, {len(cases)} reported")
    if [case.number for case in cases] != list(range(1, len(cases) + 1)):
        problems.append("the numbers do not run from 1")
    return problems


def write(cases: Iterable[Case]) -> str:
    """Cases as KTAP version 1, with their diagnostics.

    Whatever a name, a reason or a diagnostic holds, it makes no other line.
    """
    listed = list(cases)
    lines = ["KTAP version 1", f"1..{len(listed)}"]
    for case in listed:
        for text in case.lines:
            lines += [f"# {part}".rstrip() for part in text.splitlines() or [""]]
        end = f" # SKIP {_one_line(case.skip)}" if case.skip is not None else ""
        state = "ok" if case.ok else "not ok"
        lines.append(f"{state} {case.number} {_one_line(case.name.replace('#', ''))}{end}")
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())
