# SPDX-License-Identifier: GPL-2.0-only
"""The table of Linux's own interfaces: interface by property by ABI, on each kernel.

As Markdown and as HTML, from the results.json of a run on each kernel.  Every
cell of the HTML leads to what stands behind it: the tests with their calls, and
where the kernel broke a promise the call, what was allowed, what it did, the C
program that shows it, and what that printed on this very kernel.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jinja2

from harness import interfaces, known
from harness.known import Known
from harness.report.results import PROPERTIES, TestResult
from vm.errors import InfraError, Verdict
from vm.kernels import parse_version

HERE = Path(__file__).resolve().parent
#: What a cell shows of one ABI.
KEPT, KNOWN, BROKEN, SKIPPED, NONE = "+", "F", "X", "o", "."
LEGEND = {
    KEPT: "kept, in every call that was tried",
    KNOWN: "broken, by a known finding",
    BROKEN: "broken in a way that is not known",
    SKIPPED: "not tried, for the reason given",
    NONE: "does not apply to the interface",
}
#: Lines of a test's text that name files of the run.
_FILE = re.compile(r"^reproducer: .*?([^/]+)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What a run on one kernel has found."""

    kernel: str  #: the name of its row in kernels.toml
    directory: Path  #: its report
    release: str  #: what `uname -r` said
    facts: Mapping[str, str]
    gone: tuple[str, ...]
    results: tuple[TestResult, ...]

    @property
    def calls(self) -> int:
        """System calls that stand behind it."""
        return sum(one.calls for one in self.results)

    @property
    def seconds(self) -> float:
        """What its tests took."""
        return sum(one.seconds for one in self.results)

    @property
    def interfaces(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.interface for one in self.results if one.interface))

    def of(self, interface: str, prop: str, abi: str) -> tuple[TestResult, ...]:
        """The tests behind one ABI's part of a cell."""
        return self._by_cell.get((interface, prop, abi), ())

    @functools.cached_property
    def _by_cell(self) -> dict[tuple[str, str, str], tuple[TestResult, ...]]:
        found: dict[tuple[str, str, str], tuple[TestResult, ...]] = {}
        for one in self.results:
            if one.interface and one.prop and one.abi:
                where = one.interface, one.prop, one.abi
                found[where] = (*found.get(where, ()), one)
        return found


def load(kernel: str, directory: Path) -> Run:
    """Read what a run has left.  InfraError when it has left nothing that can be read."""
    path = directory / "results.json"
    try:
        raw = json.loads(path.read_text())
        return Run(
            kernel=kernel,
            directory=directory,
            release=raw["release"] or "",
            facts=raw["facts"],
            gone=tuple(raw["gone"]),
            results=tuple(TestResult.from_json(one) for one in raw["results"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise InfraError(f"{path}: no results of a run: {exc}") from exc


def mark(tests: Iterable[TestResult]) -> str:
    """What a cell shows of one ABI: the worst of its tests."""
    marks = []
    for one in tests:
        if one.verdict is not Verdict.PASS:
            marks.append(BROKEN)
        elif one.known:
            marks.append(KNOWN)
        else:
            marks.append(SKIPPED if one.skip is not None else KEPT)
    order = (BROKEN, KNOWN, KEPT, SKIPPED)
    return next((one for one in order if one in marks), NONE)


def cell(run: Run, interface: str, prop: str, abis: Sequence[str]) -> str:
    """A cell: a mark for each ABI, in their order."""
    return "".join(mark(run.of(interface, prop, abi)) for abi in abis)


def evidence(test: TestResult) -> str:
    """What a test says, its files by name alone."""
    return _FILE.sub(r"reproducer: reproducers/\1", test.text)


def shown(run: Run, finding: Known) -> list[TestResult]:
    """The tests that have met a finding."""
    return [one for one in run.results if finding.name in one.known]


def _columns(runs: Sequence[Run]) -> list[str]:
    met = {one.prop for run in runs for one in run.results}
    return [prop for prop in PROPERTIES if prop in met]


def _rows(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.interfaces))


def findings(runs: Sequence[Run]) -> list[Known]:
    """The known findings about the interfaces of these runs."""
    names = _rows(runs)
    return [one for one in known.load().values() if one.interface in names]


def differences(runs: Sequence[Run], abis: Sequence[str]) -> list[tuple[str, str, list[str]]]:
    """Interface, property and each kernel's cell, where the kernels differ."""
    found = []
    for name in _rows(runs):
        for prop in _columns(runs):
            cells = [cell(run, name, prop, abis) for run in runs]
            if len(set(cells)) > 1:
                found.append((name, prop, cells))
    return found


def broken(run: Run) -> list[TestResult]:
    """The tests that met what is not known."""
    return [one for one in run.results if one.verdict is not Verdict.PASS]


def _absent(run: Run, name: str) -> str:
    """Why an interface was not tried at all on this kernel; empty: it was."""
    tests = [one for one in run.results if one.interface == name]
    reasons = {one.skip for one in tests}
    return reasons.pop() or "" if tests and len(reasons) == 1 and None not in reasons else ""


def _source(name: str) -> str:
    return interfaces.load(name).source if name in interfaces.names() else ""


def markdown(runs: Sequence[Run], abis: Sequence[str]) -> str:
    """The whole of it as a page."""
    columns = _columns(runs)
    lines = [
        "# What Linux's own extensible interfaces keep",
        "",
        "Made by `make conformance`; each cell has a mark for each ABI: "
        + ", ".join(abis)
        + ". "
        + "; ".join(f"`{one}` {text}" for one, text in LEGEND.items())
        + ".",
        "",
        "The properties: " + "; ".join(f"{one} {PROPERTIES[one]}" for one in columns) + ".",
    ]
    for run in runs:
        lines += ["", f"## Linux {run.release}", ""]
        lines += [f"- {name}: {value}" for name, value in run.facts.items()]
        lines += [
            f"- {len(run.results):,} tests, {run.calls:,} system calls, {run.seconds:.0f} s",
            "",
            "| interface | " + " | ".join(columns) + " |",
            "| --- " * (len(columns) + 1) + "|",
        ]
        for name in run.interfaces:
            reason = _absent(run, name)
            if reason:
                lines.append(f"| {name} | {reason} |" + " |" * (len(columns) - 1))
                continue
            row = " | ".join(f"`{cell(run, name, prop, abis)}`" for prop in columns)
            lines.append(f"| {name} | {row} |")
        for one in broken(run):
            lines += ["", f"New, {one.name}:", "", "```", *evidence(one).splitlines(), "```"]
        lines += [f"\nGone: {one}" for one in run.gone]
    if len(runs) > 1:
        names = [run.release for run in runs]
        lines += ["", "## Where the kernels differ", ""]
        lines += ["| interface | property | " + " | ".join(names) + " |", "| --- " * 4 + "|"]
        for name, prop, cells in differences(runs, abis):
            if any(_absent(run, name) for run in runs):
                continue
            both = " | ".join(f"`{one}`" for one in cells)
            lines.append(f"| {name} | {prop} {PROPERTIES[prop]} | {both} |")
    lines += ["", "## Findings", ""]
    for finding in findings(runs):
        lines += _finding(finding, runs)
    lines += ["## Where the promises are written", ""]
    lines += [f"- {name}: {_source(name)}" for name in _rows(runs)]
    return "\n".join(lines) + "\n"


def _finding(finding: Known, runs: Sequence[Run]) -> list[str]:
    """One finding, with what the first test that met it said."""
    lines = [
        f"### {finding.name}: {finding.what}",
        "",
        f"- interface: {finding.interface}, as {', '.join(finding.abis)}; kernels: {finding.span}",
        f"- promised: {finding.promise}",
        f"- done by: {finding.source}",
        f"- matters: {finding.matters}",
        f"- mended by: {finding.fix or 'nothing yet'}",
    ]
    for run in runs:
        tests = shown(run, finding)
        if not tests:
            why = "not there" if finding.holds(parse_version(run.release)) else "not on this kernel"
            lines.append(f"- Linux {run.release}: {why}")
            continue
        lines += [f"- Linux {run.release}: met by {len(tests)} tests; the first:", "", "```"]
        lines += [*evidence(tests[0]).splitlines(), "```", ""]
    return [*lines, ""] if lines[-1] else lines


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("conformance.html.j2")


def html(runs: Sequence[Run], abis: Sequence[str]) -> str:
    """The same as one page, each cell of which leads to its evidence."""
    classes = {KEPT: "kept", KNOWN: "known", BROKEN: "broken", SKIPPED: "skipped", NONE: "none"}
    return _template().render(
        runs=runs,
        abis=abis,
        columns=_columns(runs),
        properties=PROPERTIES,
        legend=LEGEND,
        classes=classes,
        mark=mark,
        evidence=evidence,
        absent=_absent,
        source=_source,
        findings=findings(runs),
        shown=shown,
        differences=[
            one for one in differences(runs, abis) if not any(_absent(run, one[0]) for run in runs)
        ]
        if len(runs) > 1
        else [],
    )
