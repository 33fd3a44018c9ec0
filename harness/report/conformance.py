# SPDX-License-Identifier: GPL-2.0-only
"""The table of Linux's own interfaces: interface by property by ABI, on each kernel.

As Markdown and as HTML, from the results.json of a run on each kernel.  Every
cell leads to what stands behind it: the tests with their calls, where each began
on the guest's console, and where the kernel broke a promise the call, what was
allowed, what it did, the C program that shows it, and what that printed on this
very kernel.  Beside it, by interface and property, what the kernel's own
selftests checked on the same guest.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from harness import interfaces, known
from harness.batteries import BATTERY
from harness.known import Known
from harness.kselftests import beside, table
from harness.kselftests import run as kselftests
from harness.kselftests.beside import Beside
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
#: The property of a kernel that does not have the interface.
NOT_THERE = "P18"
#: What is no check: not tried, or nothing to try.
UNTRIED = (SKIPPED, NONE)
#: Where the HTML page goes, to which the Markdown's cells lead.
HTML = "index.html"
LICENCE = "<!-- SPDX-License-Identifier: GPL-2.0-only -->"
MARKDOWN = "interfaces.md"
#: Lines of a test's text that name files of the run, or of a worker of pytest-xdist in it.
_FILE = re.compile(r"^reproducer: .*?((?:/gw\d+)?)/reproducers/([^/]+)$", re.MULTILINE)
#: What the plugin writes into the guest's log when a test begins.
_BEGIN = re.compile(r"extsys-mark: begin (.*)$")


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
        """By name: workers run them in an order of their own."""
        return tuple(sorted({one.interface for one in self.results if one.interface}))

    def of(self, interface: str, prop: str, abi: str) -> tuple[TestResult, ...]:
        """The tests behind one ABI's part of a cell."""
        return self._by_cell.get((interface, prop, abi), ())

    @functools.cached_property
    def begins(self) -> Mapping[str, tuple[str, int]]:
        """Test → where it began: a console's file below the report, and the line."""
        found = {}
        for path in sorted(self.directory.glob("**/guest-*/console.log")):
            for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
                if mark := _BEGIN.search(line):
                    found[mark[1]] = path.relative_to(self.directory).as_posix(), number
        return found

    @property
    def guests(self) -> tuple[str, ...]:
        """The directories of its guests' consoles, configurations and command lines."""
        found = self.directory.glob("**/guest-*/console.log")
        return tuple(sorted(path.parent.relative_to(self.directory).as_posix() for path in found))

    def sides(self, abis: Sequence[str]) -> list[Beside]:
        """The kernel's own selftests beside ours."""
        results = kselftests.read(self.directory, abis, parse_version(self.release))
        return beside.side_by_side(results, abis, lambda *where: mark(self.of(*where)), none=NONE)

    @property
    def unbuilt(self) -> list[TestResult]:
        """Selftests of the kernel's that were not run, each with its reason."""
        return [one for one in self.results if one.prop == "kselftest" and one.skip is not None]

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
    """What a test says, its files as seen from the run's report."""
    return _FILE.sub(
        lambda found: f"reproducer: {found[1][1:] + '/' if found[1] else ''}reproducers/{found[2]}",
        test.text,
    )


def shown(run: Run, finding: Known) -> list[TestResult]:
    """The tests that have met a finding."""
    return [one for one in run.results if finding.name in one.known]


def about(test: TestResult) -> str:
    """What a test of the battery calls: the first sentence of its item."""
    named = re.search(rf"\b{test.prop}-([\w-]+)-{test.abi}\]$", test.name)
    items = [one for one in BATTERY if named and one.prop == test.prop and one.name == named[1]]
    return (items[0].run.__doc__ or "").split("\n\n")[0] if items else ""


def anchor(run: int, *where: str) -> str:
    """Of the evidence behind one ABI's part of a cell, in the HTML page."""
    return "-".join((str(run), *where))


def _columns(runs: Sequence[Run]) -> list[str]:
    met = {one.prop for run in runs for one in run.results if one.interface}
    return [prop for prop in PROPERTIES if prop in met]


def _rows(runs: Sequence[Run]) -> list[str]:
    return sorted({name for run in runs for name in run.interfaces})


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


def _cells(tests: Iterable[TestResult]) -> list[tuple[str, str, str]]:
    """Interface, property and ABI of tests, each once."""
    return list(
        dict.fromkeys((one.interface or "", one.prop or "", one.abi or "") for one in tests)
    )


def _absent(run: Run, name: str) -> str:
    """Why an interface was not tried at all on this kernel; empty: it was.

    With the marks of what is tried on a kernel without it: that it says so.
    """
    mine = [one for one in run.results if one.interface == name]
    reasons = {one.skip for one in mine if one.prop != NOT_THERE}
    if len(reasons) != 1 or None in reasons:
        return ""
    said = "".join(mark([one]) for one in mine if one.prop == NOT_THERE and one.skip is None)
    return f"{reasons.pop() or ''}{f'; {NOT_THERE} not there: {said}' if said else ''}"


def _source(name: str) -> str:
    return interfaces.load(name).source if name in interfaces.names() else ""


def markdown(runs: Sequence[Run], abis: Sequence[str], *, evidence_at: str = HTML) -> str:
    """The whole of it as a page.

    ``evidence_at`` is where the HTML page is, seen from this one; empty: nowhere,
    and a mark leads to its finding in this page instead.
    """
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
    for number, run in enumerate(runs, start=1):
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
            row = (
                _cell(
                    [
                        (mark(tests), _link(tests, (number, name, prop, abi), evidence_at))
                        for abi in abis
                        for tests in (run.of(name, prop, abi),)
                    ]
                )
                for prop in columns
            )
            lines.append(f"| {name} | {' | '.join(row)} |")
        for one in broken(run):
            lines += ["", f"New, {one.name}:", "", "```", *evidence(one).splitlines(), "```"]
        lines += [f"\nGone: {one}" for one in run.gone]
    if len(runs) > 1:
        lines += _compared(runs, abis)
    lines += ["", "## Findings", ""]
    for finding in findings(runs):
        lines += _finding(finding, runs)
    for run in runs:
        lines += _beside(run, abis)
    lines += ["", "## Where the promises are written", ""]
    lines += [f"- {name}: {_source(name)}" for name in _rows(runs)]
    return "\n".join(lines) + "\n"


def _cell(marks: Sequence[tuple[str, str]]) -> str:
    """The marks of a cell, each with where it leads; those that lead to one place are one."""
    cell = ""
    for target, several in itertools.groupby(marks, key=lambda one: one[1]):
        shown = f"`{''.join(mark for mark, _ in several)}`"
        cell += f"[{shown}]({target})" if target else shown
    return cell


def _link(tests: Sequence[TestResult], where: tuple[int, str, str, str], page: str) -> str:
    """Where one ABI's mark leads to: what is behind it; nowhere, if that is nothing."""
    if not tests:
        return ""
    if page:
        return f"{page}#{anchor(*where)}"
    names = [name for one in tests for name in one.known]
    return f"#{_slug(names[0])}" if names else ""


def _slug(name: str) -> str:
    """What GitHub makes of a finding's heading, which begins with its name."""
    found = known.load().get(name)
    text = f"{name}: {found.what}" if found else name
    return re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-")


def _compared(runs: Sequence[Run], abis: Sequence[str]) -> list[str]:
    names = [run.release for run in runs]
    lines = ["", "## Where the kernels differ", ""]
    lines += ["| interface | property | " + " | ".join(names) + " |"]
    lines += ["| --- " * (len(runs) + 2) + "|"]
    for name, prop, cells in differences(runs, abis):
        if not any(_absent(run, name) for run in runs):
            both = " | ".join(f"`{one}`" for one in cells)
            lines.append(f"| {name} | {prop} {PROPERTIES[prop]} | {both} |")
    for name in _rows(runs):
        missing = [f"{run.release}: {_absent(run, name)}" for run in runs if _absent(run, name)]
        if missing:
            lines.append(f"| {name} | all | {'; '.join(missing)} |" + " |" * (len(runs) - 1))
    return lines


def _beside(run: Run, abis: Sequence[str]) -> list[str]:
    """The kernel's own selftests beside ours."""
    sides = run.sides(abis)
    if not sides:
        return []
    lines = [
        f"## Beside the kernel's own selftests, Linux {run.release}",
        "",
        "Theirs: how many of their checks pass; ours: the marks of the table above.  Both ran on "
        "the same guest, each program built from the kernel's tree in each ABI.",
        "",
        "| interface | property | "
        + " | ".join(f"theirs, {abi}" for abi in abis)
        + " | ours | covered by |",
        "| --- " * (len(abis) + 4) + "|",
    ]
    for side in sides:
        for row in (*side.rows, *side.beyond):
            theirs = " | ".join(str(row.theirs[abi]) for abi in abis)
            ours = f"`{''.join(row.ours.values())}`" if row.prop else ""
            what = f"{row.prop} {row.what}".strip() if row.prop else f"beyond: {row.what}"
            lines.append(
                f"| {side.interface} | {what} | {theirs} | {ours} | {row.covered(UNTRIED)} |"
            )
        total = " | ".join(f"{side.total(abi)}" for abi in abis)
        lines.append(f"| {side.interface} | all of theirs | {total} | | |")
    vacuous = {row: None for side in sides for row in side.vacuous}
    if vacuous:
        lines += ["", "Checks of theirs that cannot fail:", ""]
        lines += [f'- {program}, "{name}": {why}' for program, name, why in vacuous]
    failing: dict[tuple[str, str, str], list[str]] = {}
    for side in sides:
        for program, name, abi, why in side.failing:
            failing.setdefault((program, name, why), []).append(abi)
    if failing:
        lines += ["", "Checks of theirs that do not pass:", ""]
        lines += [
            f'- {program}, "{name}", as {", ".join(names)}: {why}'
            for (program, name, why), names in failing.items()
        ]
    if run.unbuilt:
        reasons: dict[str, int] = {}
        for one in run.unbuilt:
            reasons[one.skip or ""] = reasons.get(one.skip or "", 0) + 1
        lines += ["", "Programs of theirs that were not run, with the number of ABIs:", ""]
        lines += [f"- {reason}: {number}" for reason, number in reasons.items()]
    return [*lines, ""]


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
    environment.filters["code"] = _code
    return environment.get_template("conformance.html.j2")


def _code(text: str) -> Markup:
    """A sentence whose names stand between backticks, as HTML."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


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
        about=about,
        cells=_cells,
        anchor=anchor,
        evidence=evidence,
        absent=_absent,
        missing=lambda name: any(_absent(run, name) for run in runs),
        source=_source,
        broken=broken,
        findings=findings(runs),
        shown=shown,
        holds=lambda finding, run: finding.holds(parse_version(run.release)),
        sides=[run.sides(abis) for run in runs],
        untried=UNTRIED,
        report=kselftests.report_of,
        programs=table.load(),
        differences=[
            one for one in differences(runs, abis) if not any(_absent(run, one[0]) for run in runs)
        ]
        if len(runs) > 1
        else [],
    )


def lacking(run: Run, abis: Sequence[str]) -> list[str]:
    """What the kernel's own selftests have checked and a run of ours has left out."""
    return beside.lacking(run.sides(abis), (SKIPPED,))


def write(
    runs: Sequence[Run], abis: Sequence[str], report: Path, *, page: Path | None = None
) -> list[Path]:
    """Write both pages into ``report``, and the Markdown by itself to ``page``; what was written.

    Links lead to the reports of the runs, which lie below ``report``.
    """
    report.mkdir(parents=True, exist_ok=True)
    texts = {report / HTML: html(runs, abis), report / MARKDOWN: markdown(runs, abis)}
    if page is not None:
        texts[page] = f"{LICENCE}\n{markdown(runs, abis, evidence_at='')}"
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    return list(texts)
