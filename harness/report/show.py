# SPDX-License-Identifier: GPL-2.0-only
"""Results for people: the terminal's table and the Markdown summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO

from rich.console import Console
from rich.table import Table

from harness.report.results import PROPERTIES, Cell, Count, TestResult, counts, table


def _columns(cells: Mapping[str, Mapping[str, Cell]]) -> list[str]:
    """The ABIs that occur, in the order of the first row that has them."""
    return list(dict.fromkeys(abi for row in cells.values() for abi in row))


def terminal(results: Sequence[TestResult], *, title: str, width: int, color: bool) -> str:
    """The table, property by ABI, as text."""
    cells = table(results)
    abis = _columns(cells)
    grid = Table(title=title, title_justify="left", width=None)
    grid.add_column("property")
    for abi in abis:
        grid.add_column(abi, justify="right")
    for prop, row in cells.items():
        shown = []
        for abi in abis:
            cell = row.get(abi, Cell())
            style = "red" if cell.failed else "yellow" if cell.skipped or cell.known else "green"
            shown.append(f"[{style}]{cell}[/]")
        grid.add_row(f"{prop} {PROPERTIES[prop]}", *shown)
    out = StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=color,
        no_color=not color,
        color_system="standard" if color else None,  # not what TERM says: pytest has decided
    )
    console.print(grid)
    return out.getvalue()


def count_line(found: Mapping[str, Count]) -> str:
    """One line that names every ABI with its count."""
    return "; ".join(f"{abi}: {count}" for abi, count in found.items())


def markdown(results: Sequence[TestResult], *, title: str, facts: Mapping[str, str]) -> str:
    """The summary that a CI job shows."""
    cells = table(results)
    abis = _columns(cells)
    lines = [f"# {title}", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    found = counts(results)
    lines += ["", "| ABI | passed | failed | skipped |", "| --- | --- | --- | --- |"]
    lines += [f"| {abi} | {c.passed} | {c.failed} | {c.skipped} |" for abi, c in found.items()]
    if abis:
        lines += ["", "| property | " + " | ".join(abis) + " |", "| --- " * (len(abis) + 1) + "|"]
        for prop, row in cells.items():
            shown = " | ".join(str(row.get(abi, Cell())) for abi in abis)
            lines.append(f"| {prop} {PROPERTIES[prop]} | {shown} |")
    met = list(dict.fromkeys(name for one in results for name in one.known))
    if met:
        lines += ["", "## Known findings", ""]
        lines += [f"- {name}" for name in met]
    bad = [one for one in results if one.verdict.value]
    if bad:
        lines += ["", "## Failed", ""]
        lines += [f"- {one.verdict.label} `{one.name}`" for one in bad]
    skipped = [one for one in results if one.skip is not None]
    if skipped:
        lines += ["", "## Skipped", ""]
        lines += [f"- `{one.name}`: {one.skip}" for one in skipped]
    return "\n".join(lines) + "\n"
