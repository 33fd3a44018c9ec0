# SPDX-License-Identifier: GPL-2.0-only
"""The matrix for people and for machines: terminal, Markdown, HTML, JUnit."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree as ET

import jinja2
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.skew.results import CellResult, Key, Pair
from vm.errors import Verdict

HERE = Path(__file__).resolve().parent
#: Columns of the terminal's table: of a row's name, and of a kernel.
FIRST_COLUMN, COLUMN = 20, 16
TITLE = "old and new programs on old and new kernels"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Square:
    """A row on a kernel, in all ABIs."""

    cells: tuple[CellResult, ...]

    @property
    def verdict(self) -> Verdict:
        return max((one.verdict for one in self.cells), key=lambda verdict: verdict.value)

    @property
    def good(self) -> bool:
        return all(one.good for one in self.cells)

    @property
    def calls(self) -> int:
        return sum(one.calls for one in self.cells)

    @property
    def lines(self) -> tuple[str, ...]:
        """What it shows, once where all ABIs agree."""
        words = {one.abi: word(one) for one in self.cells}
        if len(set(words.values())) == 1:
            return (next(iter(words.values())),)
        return tuple(f"{abi}: {said}" for abi, said in words.items())


def word(one: CellResult) -> str:
    """A cell in a word or two."""
    if one.verdict is not Verdict.PASS:
        return one.verdict.label
    return "skipped" if one.skip is not None else one.shows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matrix:
    """All cells, in the order in which they are shown."""

    ages: tuple[str, ...]
    rows: tuple[str, ...]
    abis: tuple[str, ...]
    squares: Mapping[tuple[str, str], Square]  #: by (row, age)
    pairs: tuple[Pair, ...]
    absent: tuple[Key, ...]  #: cells that were not run

    @property
    def cells(self) -> list[CellResult]:
        return [one for square in self.squares.values() for one in square.cells]

    @property
    def calls(self) -> int:
        return sum(one.calls for one in self.cells)

    @property
    def missing(self) -> list[str]:
        """Of what was not run a line for each kernel: which rows, or that it is everything."""
        have = {one.age for one in self.cells}
        rows: dict[str, dict[str, list[str]]] = {}
        for kernel, variant, row, abi in self.absent:
            rows.setdefault(f"{kernel}-{variant}", {}).setdefault(row, []).append(abi)
        lines = []
        for age, several in rows.items():
            by_abis: dict[str, list[str]] = {}
            for row, abis in several.items():
                by_abis.setdefault(", ".join(abis), []).append(row)
            told = "; ".join(f"{', '.join(named)} in {abis}" for abis, named in by_abis.items())
            lines.append(f"{age}: {told}" if age in have else f"{age}: all of it")
        return lines

    @property
    def summary(self) -> str:
        """One line: how many cells, how many are good, and what stands behind them."""
        cells = self.cells
        failed = sum(one.verdict is not Verdict.PASS for one in cells)
        skipped = sum(one.skip is not None for one in cells)
        rest = f", {skipped} skipped" if skipped else ""
        rest += f", {len(self.absent)} missing" if self.absent else ""
        return (
            f"{len(cells)} cells in {', '.join(self.abis)}: "
            f"{len(cells) - failed - skipped} passed, {failed} failed{rest}; {self.calls:,} calls"
        )


def arrange(
    cells: Sequence[CellResult],
    *,
    pairs: Iterable[Pair],
    ages: Sequence[str],
    rows: Sequence[str],
    absent: Iterable[Key] = (),
) -> Matrix:
    """Cells as a matrix; ``ages`` and ``rows`` say the order of those that occur."""

    def ordered(found: Iterable[str], known: Sequence[str]) -> tuple[str, ...]:
        several = list(dict.fromkeys(found))
        return tuple(
            sorted(several, key=lambda one: known.index(one) if one in known else len(known))
        )

    grouped: dict[tuple[str, str], list[CellResult]] = {}
    for one in cells:
        grouped.setdefault((one.row, one.age), []).append(one)
    return Matrix(
        ages=ordered((one.age for one in cells), ages),
        rows=ordered((one.row for one in cells), rows),
        abis=tuple(dict.fromkeys(one.abi for one in cells)),
        squares={key: Square(cells=tuple(several)) for key, several in grouped.items()},
        pairs=tuple(pairs),
        absent=tuple(absent),
    )


def _pair_lines(matrix: Matrix) -> list[tuple[str, bool, list[str]]]:
    """The differential: (kernels and ABIs, whether it is good, lines), equal ABIs together."""
    found: list[tuple[str, bool, list[str]]] = []
    for name, several in itertools.groupby(
        sorted(matrix.pairs, key=_pair_order(matrix)), key=lambda one: one.name
    ):
        alike: dict[tuple[str, ...], list[str]] = {}
        good = {}
        for one in several:
            lines = [f"declared: {what}: {count:,} calls" for what, count in one.declared.items()]
            lines += [f"DECLARED, AND NOT SEEN: {what}" for what in one.missing]
            lines += [f"NOT DECLARED: {what}" for what in one.undeclared]
            key = tuple(lines or ["no difference"])
            alike.setdefault(key, []).append(one.abi)
            good[key] = one.good
        found += [
            (f"{name}, {', '.join(abis)}", good[key], list(key)) for key, abis in alike.items()
        ]
    return found


def _pair_order(matrix: Matrix) -> Callable[[Pair], tuple[int, int, int]]:
    def order(one: Pair) -> tuple[int, int, int]:
        at = {name: index for index, name in enumerate(matrix.ages)}
        abis = {name: index for index, name in enumerate(matrix.abis)}
        return at.get(one.new, 0), at.get(one.old, 0), abis.get(one.abi, 0)

    return order


def terminal(matrix: Matrix, *, width: int, color: bool) -> str:
    """The matrix, the differential and what failed, as text."""
    grid = Table(title=f"{TITLE}: program by kernel", title_justify="left")
    grid.add_column("program")
    for age in matrix.ages:
        grid.add_column(escape(age))
    for row in matrix.rows:
        shown = []
        for age in matrix.ages:
            square = matrix.squares.get((row, age))
            if square is None:
                shown.append("")
                continue
            style = "green" if square.good else "yellow" if not square.verdict.value else "red"
            shown.append(f"[{style}]{escape(chr(10).join(square.lines))}[/]")
        grid.add_row(escape(row), *shown)
    out = StringIO()
    console = Console(
        file=out,
        # A pipe has no width, and a log's lines may be long.
        width=width if color else max(width, FIRST_COLUMN + COLUMN * len(matrix.ages)),
        force_terminal=color,
        no_color=not color,
        color_system="standard" if color else None,
        highlight=False,
    )
    console.print(grid)
    console.print(escape(matrix.summary), soft_wrap=True)
    if matrix.pairs:
        console.print("the same calls on two kernels:")
    for name, good, lines in _pair_lines(matrix):
        console.print(f"[{'green' if good else 'red'}]  {escape(name)}[/]", soft_wrap=True)
        for line in lines:
            console.print(f"    {escape(line)}", soft_wrap=True)
    for line in matrix.missing:
        console.print(f"[red]not run:[/] {escape(line)}", soft_wrap=True)
    return out.getvalue()


def markdown(matrix: Matrix) -> str:
    """The same as a page."""
    lines = [f"# {TITLE[0].upper()}{TITLE[1:]}", "", matrix.summary, ""]
    lines += [table(matrix), ""]
    if matrix.pairs:
        lines += ["## The same calls on two kernels", ""]
        for name, good, several in _pair_lines(matrix):
            lines.append(f"- {'' if good else '**FAIL** '}{name}")
            lines += [f"  - {line}" for line in several]
    if matrix.absent:
        lines += ["", "## Missing", "", *(f"- not run: {line}" for line in matrix.missing)]
    bad = [one for one in matrix.cells if one.verdict is not Verdict.PASS]
    if bad:
        lines += ["", "## Failed", ""]
        for one in bad:
            lines += [f"### {one.row} on {one.age}, {one.abi}: {one.verdict.label}", ""]
            lines += ["```", one.text, "```", ""]
    return "\n".join(lines) + "\n"


def table(matrix: Matrix) -> str:
    """The matrix as Markdown's table."""
    lines = [f"| program | {' | '.join(matrix.ages)} |", "| --- " * (len(matrix.ages) + 1) + "|"]
    for row in matrix.rows:
        squares = [matrix.squares.get((row, age)) for age in matrix.ages]
        shown = ["<br>".join(one.lines) if one else "" for one in squares]
        lines.append(f"| {row} | {' | '.join(shown)} |")
    return "\n".join(lines)


def html(matrix: Matrix) -> str:
    """The same as a page of its own, with what stands behind each cell."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("skew.html.j2").render(
        title=TITLE, matrix=matrix, pairs=_pair_lines(matrix), word=word
    )


def junit(matrix: Matrix) -> str:
    """A test case for each cell and for each pair of kernels, a suite for each kernel."""
    top = ET.Element("testsuites", name="skew")
    for age in matrix.ages:
        cells = [one for one in matrix.cells if one.age == age]
        suite = _suite(top, f"skew.{age}", [one.verdict for one in cells], len(cells))
        suite.set("skipped", str(sum(one.skip is not None for one in cells)))
        suite.set("time", f"{sum(one.seconds for one in cells):.3f}")
        for one in cells:
            case = ET.SubElement(
                suite,
                "testcase",
                classname=f"skew.{age}",
                name=f"{one.row}[{one.abi}]",
                time=f"{one.seconds:.3f}",
            )
            facts = ET.SubElement(case, "properties")
            for name in ("kernel", "variant", "row", "abi", "shows", "release", "calls"):
                ET.SubElement(facts, "property", name=name, value=str(getattr(one, name)))
            if one.verdict is not Verdict.PASS:
                kind = "failure" if one.verdict is Verdict.FAIL else "error"
                _said(case, kind, one.verdict.label, one.text)
            elif one.skip is not None:
                ET.SubElement(case, "skipped", message=_clean(one.skip))
    if matrix.pairs:
        verdicts = [Verdict.PASS if one.good else Verdict.FAIL for one in matrix.pairs]
        suite = _suite(top, "skew.differential", verdicts, len(matrix.pairs))
        for pair in matrix.pairs:
            case = ET.SubElement(
                suite, "testcase", classname="skew.differential", name=f"{pair.name}[{pair.abi}]"
            )
            if not pair.good:
                lines = [f"not declared: {what}" for what in pair.undeclared]
                lines += [f"declared, and not seen: {what}" for what in pair.missing]
                _said(case, "failure", Verdict.FAIL.label, "\n".join(lines))
    if matrix.absent:
        suite = _suite(top, "skew.missing", [Verdict.INFRA] * len(matrix.absent), 0)
        for key in matrix.absent:
            name = "-".join(key)
            case = ET.SubElement(suite, "testcase", classname="skew.missing", name=name)
            _said(case, "error", "missing", "the cell was not run")
    ET.indent(top)
    return ET.tostring(top, encoding="unicode", xml_declaration=True) + "\n"


def _suite(top: ET.Element, name: str, verdicts: Sequence[Verdict], tests: int) -> ET.Element:
    failed = sum(one is Verdict.FAIL for one in verdicts)
    return ET.SubElement(
        top,
        "testsuite",
        name=name,
        tests=str(tests or len(verdicts)),
        failures=str(failed),
        errors=str(sum(one is not Verdict.PASS for one in verdicts) - failed),
    )


def _said(case: ET.Element, kind: str, label: str, text: str) -> None:
    clean = _clean(text)
    ET.SubElement(case, kind, message=clean.partition("\n")[0], type=label).text = clean


def _clean(text: str) -> str:
    """Without what XML cannot hold: a console may print anything."""
    return "".join(
        c if c in "\t\n" or " " <= c < "\ud800" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
