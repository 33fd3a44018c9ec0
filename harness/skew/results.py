# SPDX-License-Identifier: GPL-2.0-only
"""What became of the cells: kept as JSON beside a run's report, merged from several runs.

REPORT/cells.json             the cells of one run
REPORT/rows-KERNEL-ABI.json   what the differential compares
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vm.errors import UserError, Verdict

CELLS = "cells.json"
ROWS = "rows-{age}-{abi}.json"
#: The row of the battery's own results.
BATTERY = "battery {level}"
#: Raise when the same file would mean something else.
FORMAT = 1
#: Which cell: kernel, variant, row, ABI.
Key = tuple[str, str, str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellResult:
    """One cell: a row on a kernel in an ABI."""

    kernel: str  #: the series: "6.12"
    variant: str
    row: str
    abi: str
    verdict: Verdict
    shows: str = ""  #: what was seen, in a word or two; empty when it did not come to that
    release: str = ""  #: of the kernel, as it says itself
    calls: int = 0
    seconds: float = 0.0
    text: str = ""  #: what it said when it failed
    skip: str | None = None

    @property
    def age(self) -> str:
        return f"{self.kernel}-{self.variant}"

    @property
    def good(self) -> bool:
        return self.verdict is Verdict.PASS and self.skip is None

    @property
    def key(self) -> Key:
        return self.kernel, self.variant, self.row, self.abi


def write(directory: Path, cells: Iterable[CellResult]) -> None:
    """Keep the cells of a run in its report directory."""
    rows = [{**dataclasses.asdict(one), "verdict": one.verdict.name} for one in cells]
    text = json.dumps({"format": FORMAT, "cells": rows}, indent=1)
    (directory / CELLS).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def read(path: Path) -> list[CellResult]:
    """The cells of one file.  Raises UserError when it holds anything else."""
    try:
        kept: dict[str, Any] = json.loads(path.read_text())
        if kept["format"] != FORMAT:
            raise ValueError(f"format {kept['format']}, not {FORMAT}")
        return [CellResult(**{**row, "verdict": Verdict[row["verdict"]]}) for row in kept["cells"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise UserError(f"{path}: not the cells of a run: {exc}") from exc


def forget(report: Path) -> None:
    """Remove what an earlier run left there, so that it is not taken for this one's."""
    if report.is_dir():
        for path in (*report.rglob(CELLS), *report.rglob(ROWS.format(age="*", abi="*"))):
            path.unlink()


def merge(directories: Sequence[Path]) -> tuple[list[CellResult], list[Path]]:
    """The cells of several runs, and their files of rows.

    A directory is searched with all that is in it.  A cell that was run twice
    is taken once: the worse one.  Raises UserError when nothing is found.
    """
    found: dict[Key, CellResult] = {}
    rows: dict[str, Path] = {}
    for directory in directories:
        if not directory.is_dir():
            raise UserError(f"{directory}: no such directory")
        for path in sorted(directory.rglob(CELLS)):
            for one in read(path):
                known = found.get(one.key)
                if known is None or known.verdict.value < one.verdict.value:
                    found[one.key] = one
        rows |= {path.name: path for path in sorted(directory.rglob(ROWS.format(age="*", abi="*")))}
    if not found:
        listed = ", ".join(map(str, directories))
        raise UserError(f"no {CELLS} below {listed}", hint="it is what `make skew` leaves there")
    return list(found.values()), list(rows.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """Two kernels that were given the same calls, in one ABI."""

    old: str  #: an age's name
    new: str
    abi: str
    declared: Mapping[str, int]  #: what may differ → how many calls did
    undeclared: tuple[str, ...]  #: what may not, in words
    missing: tuple[str, ...] = ()  #: declared, and not seen

    @property
    def good(self) -> bool:
        return not self.undeclared and not self.missing

    @property
    def name(self) -> str:
        return f"{self.old} → {self.new}"
