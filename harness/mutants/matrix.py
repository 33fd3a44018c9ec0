# SPDX-License-Identifier: GPL-2.0-only
"""The kill matrix, mutant by property by ABI, for people: terminal, Markdown, HTML."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from io import StringIO

import jinja2
from rich.console import Console
from rich.table import Table

from harness.abi import ABIS
from harness.mutants.judge import EVERYTHING, Judged, State, allowed
from harness.report.results import PROPERTIES
from vm.errors import Verdict

_NAMES = tuple(one.name for one in ABIS)
#: One sign for an ABI of a cell, and what it says.
SIGNS = {
    "K": "the named property, red as it has to be",
    "+": "red, and named in Also",
    "!": "red, and should be green",
    "?": "should be red, and is not",
    "·": "green",
    " ": "not tried",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """Everything that a run over mutants has to show."""

    judged: Sequence[Judged]
    tests: Mapping[str, tuple[str, ...]]  #: test → mutants that turn it red
    relied_on: Mapping[str, tuple[str, ...]]  #: property → mutants that survive without it
    without: tuple[str, ...]  #: properties that were left out
    seconds: float  #: of the run
    whole: bool  #: whether every mutant was asked for

    @property
    def passed(self) -> int:
        return sum(one.state is State.KILLED for one in self.judged)

    @property
    def failed(self) -> int:
        return len(self.judged) - self.passed

    @property
    def properties(self) -> list[str]:
        """Those that were tried on any mutant."""
        tried = {prop for one in self.judged for prop, _ in (*one.ran, *one.red)}
        return [prop for prop in PROPERTIES if prop in tried]

    @property
    def idle(self) -> list[str]:
        """Properties that were tried, and that no mutant needs to be killed."""
        return [
            prop
            for prop in self.properties
            if prop not in self.relied_on and prop not in EVERYTHING
        ]

    @property
    def vacuous(self) -> list[str]:
        """Tests that no mutant turns red."""
        return [name for name, mutants in self.tests.items() if not mutants]


def signs(one: Judged, prop: str) -> str:
    """One cell: a sign for each ABI, in their order."""
    mutant, may = one.mutant, allowed(one.mutant)
    found = ""
    for abi in _NAMES:
        cell = (prop, abi)
        named = prop == mutant.prop and abi in mutant.shows_in
        verdict = one.red.get(cell)
        if verdict is None:
            found += "?" if named else "·" if cell in one.ran else " "
        elif named:
            found += "K" if verdict is mutant.verdict else "!"
        else:
            found += "+" if cell in may and verdict in (Verdict.FAIL, mutant.verdict) else "!"
    return found


def line(one: Judged) -> str:
    """One mutant in one line: what killed it, or what is wrong."""
    mutant = one.mutant
    if one.state is not State.KILLED:
        return f"{one.state.value}: {mutant.name}: {'; '.join(one.why)}"
    more = [prop for prop, abi in one.red if abi and prop != mutant.prop]
    also = f", also {' '.join(dict.fromkeys(more))}" if more else ""
    how = "" if mutant.verdict is Verdict.FAIL else f" ({mutant.verdict.label})"
    return f"killed: {mutant.name}: {mutant.prop}{how} in {' '.join(mutant.shows_in)}{also}"


def terminal(page: Page, *, width: int, color: bool) -> str:
    """The matrix as text: a row for each mutant, a column for each property."""
    shown = [prop for prop in page.properties if prop not in EVERYTHING]
    grid = Table(
        title="mutant by property, a sign each for " + ", ".join(_NAMES),
        title_justify="left",
        pad_edge=False,
        padding=(0, 0),
        box=None,
        collapse_padding=True,
    )
    grid.add_column("mutant", no_wrap=True, ratio=1, min_width=16)
    for prop in shown:
        grid.add_column(prop, no_wrap=True, min_width=4)
    styles = {"K": "green", "+": "cyan", "!": "bold red", "?": "bold red", "·": "dim", " ": "dim"}
    for one in page.judged:
        row = []
        for prop in shown:
            row.append("".join(f"[{styles[sign]}]{sign}[/]" for sign in signs(one, prop)))
        style = "green" if one.state is State.KILLED else "bold red"
        grid.add_row(f"[{style}]{one.mutant.name}[/]", *row)
    out = StringIO()
    console = Console(
        file=out,
        width=max(width, 20 + 4 * len(shown)),
        force_terminal=color,
        no_color=not color,
        color_system="standard" if color else None,
    )
    console.print(grid)
    text = out.getvalue()
    return text + "".join(f"{sign} {what}\n" for sign, what in SIGNS.items() if sign.strip())


def notes(page: Page) -> list[str]:
    """What is wrong, and what is only sloppy."""
    lines = [line(one) for one in page.judged if one.state is not State.KILLED]
    for one in page.judged:
        if one.stale and one.state is State.KILLED:
            lines.append(f"note: {one.mutant.name}: Also names {' '.join(one.stale)}: all green")
    for prop in page.without:
        lines += _without(page, prop)
    if page.whole and not page.without:
        lines += [f"no mutant turns it red: {name}" for name in page.vacuous]
        lines += [f"no mutant relies on it: {prop}" for prop in page.idle]
    return lines


def _without(page: Page, prop: str) -> list[str]:
    """What becomes of the mutants that name a property which was left out."""
    named = [one for one in page.judged if one.mutant.prop == prop]
    if not named:
        return [f"without {prop} survive: none; no mutant here names it"]
    lines = [f"without {prop} survive: {', '.join(one.mutant.name for one in named)}"]
    if silent := [one.mutant.name for one in named if not one.red]:
        lines.append(f"  of these nothing else turns red: {', '.join(silent)}")
    return lines


def markdown(page: Page) -> str:
    """The page that a CI job shows."""
    names = page.properties
    lines = [f"# Mutants: {page.passed} passed, {page.failed} failed", ""]
    lines += [f"- {text}" for text in notes(page)]
    lines += ["", "| sign | meaning |", "| --- | --- |"]
    lines += [f"| `{sign}` | {what} |" for sign, what in SIGNS.items() if sign.strip()]
    lines += ["", f"A sign each for {', '.join(_NAMES)}.", ""]
    lines += ["| mutant | fault | " + " | ".join(names) + " |"]
    lines += ["| --- " * (len(names) + 2) + "|"]
    for one in page.judged:
        found = (signs(one, prop) for prop in names)
        cells = " | ".join(f"`{text}`" if text.strip() else "" for text in found)
        lines.append(f"| {one.mutant.name} | {one.mutant.fault} | {cells} |")
    lines += ["", "| a battery without | lets survive |", "| --- | --- |"]
    lines += [f"| {prop} | {', '.join(found)} |" for prop, found in page.relied_on.items()]
    lines += ["", "| test | turned red by |", "| --- | --- |"]
    lines += [
        f"| `{name}` | {', '.join(mutants) or '**none**'} |" for name, mutants in page.tests.items()
    ]
    return "\n".join(lines) + "\n"


def html(page: Page) -> str:
    """The same as a page of its own."""
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.mutants", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return env.get_template("page.html.j2").render(
        page=page, notes=notes(page), signs=signs, meaning=SIGNS, names=_NAMES, titles=PROPERTIES
    )
