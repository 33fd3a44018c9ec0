# SPDX-License-Identifier: GPL-2.0-only
"""A run's results, apart from how they are shown: property by ABI."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vm import cache as store
from vm.errors import InfraError, Verdict

#: A run's results for programs, in its report directory.
FILE = "results.json"

#: Properties that a test can name, in the order in which they are shown.
PROPERTIES: Mapping[str, str] = {
    "P1": "size lattice",
    "P2": "zero extension",
    "P3": "trailing bytes",
    "P4": "write-back",
    "P5": "nothing outside [p, p + usize)",
    "P6": "page edge",
    "P7": "faults in the tail",
    "P8": "kinds of memory",
    "P9": "alignment",
    "P10": "flags argument",
    "P11": "fields that carry flags",
    "P12": "registers, per ABI",
    "P13": "embedded pointers",
    "P14": "layout",
    "P15": "the same through every ABI and way",
    "P16": "one snapshot",
    "P17": "order of errors",
    "P18": "not there",
    "P19": "privilege",
    "P20": "the file descriptor",
    "P21": "signals",
    "P22": "seen from outside",
    "P23": "the kernel's own state",
    "P24": "injected faults",
    "dfd": "a file, relative to a descriptor",
    "explore": "combinations beyond the sweeps",
    "skew": "old and new programs on old and new kernels",
    "kselftest": "the kernel's own selftest",
    "ltp": "the Linux Test Project's tests",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TestResult:
    """One test of the run."""

    __test__ = False  # not a class of tests, whatever its name

    name: str  #: pytest's node id
    verdict: Verdict
    skip: str | None = None  #: the reason, when it was skipped
    prop: str | None = None  #: a key of PROPERTIES
    abi: str | None = None
    calls: int = 0  #: system calls that stand behind it
    seconds: float = 0.0
    text: str = ""  #: what it said when it failed, or met a finding
    interface: str | None = None  #: the contract's name
    known: tuple[str, ...] = ()  #: findings that it met (harness.known)

    def as_json(self) -> dict[str, Any]:
        """For another process to read."""
        return {**dataclasses.asdict(self), "verdict": self.verdict.name}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> TestResult:
        """What as_json() has written."""
        known = tuple(raw["known"])
        return cls(**{**raw, "verdict": Verdict[raw["verdict"]], "known": known})


def dump(path: Path, results: Iterable[TestResult], **facts: Any) -> None:
    """Write results as JSON, whole or not at all, with what else is to be said of the run."""
    store.write_json(path, {**facts, "results": [one.as_json() for one in results]})


def load(path: Path) -> list[TestResult]:
    """What ``dump`` wrote.  Raises InfraError for a file that is missing or something else."""
    raw = store.read_json(path)
    try:
        return [TestResult.from_json(row) for row in raw["results"]]
    except (TypeError, KeyError) as exc:
        raise InfraError(f"{path}: not the results of a run: {exc}") from exc


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """All tests of one property in one ABI."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    calls: int = 0
    known: int = 0  #: of those that passed: that have met a known finding and nothing else
    worst: Verdict = Verdict.PASS

    def __str__(self) -> str:
        if self.failed:
            return f"{self.worst.label} {self.failed} of {self.failed + self.passed}"
        if self.skipped and not self.passed:
            return "skipped"
        if not self.passed:
            return ""
        if self.known:
            return f"known: {self.known} of {self.passed}"
        return f"{self.calls:,} calls" if self.calls else "ok"


def table(results: Iterable[TestResult]) -> dict[str, dict[str, Cell]]:
    """Property → ABI → cell, for the tests that name both."""
    cells: dict[str, dict[str, Cell]] = {}
    for one in results:
        if one.prop is None or one.abi is None:
            continue
        row = cells.setdefault(one.prop, {})
        cell = row.get(one.abi, Cell())
        good = one.verdict is Verdict.PASS and one.skip is None
        row[one.abi] = Cell(
            passed=cell.passed + good,
            failed=cell.failed + (one.verdict is not Verdict.PASS),
            skipped=cell.skipped + (one.skip is not None),
            calls=cell.calls + one.calls,
            known=cell.known + (good and bool(one.known)),
            worst=max(cell.worst, one.verdict, key=lambda verdict: verdict.value),
        )
    order = list(PROPERTIES)
    return dict(sorted(cells.items(), key=lambda item: order.index(item[0])))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Count:
    """How many tests of one ABI ended how."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def counts(results: Iterable[TestResult]) -> dict[str, Count]:
    """ABI → its count."""
    found: dict[str, Count] = {}
    for one in results:
        if one.abi is None:
            continue
        count = found.get(one.abi, Count())
        found[one.abi] = Count(
            passed=count.passed + (one.verdict is Verdict.PASS and one.skip is None),
            failed=count.failed + (one.verdict is not Verdict.PASS),
            skipped=count.skipped + (one.skip is not None),
        )
    return found
