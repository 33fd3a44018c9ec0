# SPDX-License-Identifier: GPL-2.0-only
"""The end of a matrix, of one run or of many: one table out of all that was kept.

What a run leaves (results.py) is all that this needs: no kernel, no compiler.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from harness.abi import ABI
from harness.interfaces import xyzzy
from harness.skew import differential, matrix, results, show
from harness.skew.differential import Recording
from harness.skew.labs import SAME_CALLS, Age, releases
from harness.skew.results import Key, Pair
from vm.errors import UserError, Verdict

#: Files of a report.
MARKDOWN, HTML, JUNIT = "skew.md", "skew.html", "skew.xml"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finished:
    """A whole matrix, written down."""

    matrix: show.Matrix
    verdict: Verdict


def wanted(ages: Sequence[Age], abis: Sequence[ABI], *, battery: str | None = None) -> list[Key]:
    """The key of each cell that a whole matrix of these has.

    ``battery`` is a level: with it the battery's own results belong there too.
    """
    found = []
    for age in ages:
        names = [row.name for row in matrix.rows(releases(age.kernel))]
        if not age.off:
            names.append(SAME_CALLS)
            names += [results.BATTERY.format(level=battery)] if battery else []
        found += [(age.kernel, age.variant, name, abi.name) for name in names for abi in abis]
    return found


def _pairs(rows: Sequence[Path], ages: Sequence[Age]) -> list[Pair]:
    """The differential of what was recorded, in the kernels' order."""
    recordings = []
    for path in rows:
        try:
            recordings.append(Recording.from_json(path.read_text()))
        except (OSError, ValueError) as exc:
            raise UserError(f"{path}: not what a kernel did with the calls: {exc}") from exc
    order = [age.name for age in ages]
    recordings = [one for one in recordings if one.age in order]
    recordings.sort(key=lambda one: order.index(one.age))
    return [
        differential.compare(old, new, xyzzy.CONTRACT)
        for old, new in differential.pairs(recordings)
    ]


def finish(
    directories: Sequence[Path],
    *,
    report: Path,
    ages: Sequence[Age],
    keys: Sequence[Key],
) -> Finished:
    """Merge what is below ``directories`` and write the table and JUnit to ``report``.

    ``ages`` are the kernels in their order, ``keys`` the cells (CellResult.key)
    that a whole matrix has: what of them is not there is missing, and a fault.
    Raises UserError when nothing is there.
    """
    kept, rows = results.merge(directories)
    have = {one.key for one in kept}
    order = {key: index for index, key in enumerate(keys)}
    chosen = sorted((one for one in kept if one.key in order), key=lambda one: order[one.key])
    arranged = show.arrange(
        chosen,
        pairs=_pairs(rows, ages),
        ages=[age.name for age in ages],
        rows=_rows(keys),
        absent=[key for key in keys if key not in have],
    )
    report.mkdir(parents=True, exist_ok=True)
    for name, text in (
        (MARKDOWN, show.markdown(arranged)),
        (HTML, show.html(arranged)),
        (JUNIT, show.junit(arranged)),
    ):
        (report / name).write_text(text, encoding="utf-8", errors="backslashreplace")
    return Finished(matrix=arranged, verdict=_verdict(arranged))


def _rows(keys: Sequence[Key]) -> list[str]:
    """The names of the rows: those of programs, then what is about the kernel alone."""
    names = list(dict.fromkeys(key[2] for key in keys))
    last = [name for name in names if name == SAME_CALLS or name.startswith(results.BATTERY[:7])]
    return [name for name in names if name not in last] + last


def _verdict(arranged: show.Matrix) -> Verdict:
    verdicts = [one.verdict for one in arranged.cells]
    verdicts += [Verdict.FAIL for one in arranged.pairs if not one.good]
    if arranged.absent or any(one.skip is not None for one in arranged.cells):
        verdicts.append(Verdict.FAIL)
    return max(verdicts, key=lambda verdict: verdict.value, default=Verdict.FAIL)
