# SPDX-License-Identifier: GPL-2.0-only
"""`make series-check`: every check of checks.toml, one line each, and a record of them."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence

from vm import cache as store
from vm.errors import BuildError, UserError
from vm.review.bench import Bench, SkipError, tool
from vm.review.checks import CHECKS
from vm.review.table import Check

#: How many lines of a failed check are shown; the record has all.
SHOWN = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one check."""

    name: str
    result: str  #: "passed", "failed" or "skipped"
    lines: tuple[str, ...]  #: what is wrong, or why it was skipped
    seconds: float


def run(bench: Bench, asked: Sequence[str] = ()) -> list[Result]:
    """Run the checks that are asked for, or all, and write ``series-check.json``.

    Raises UserError for a check that there is not.
    """
    known = {one.name: one for one in bench.table.checks}
    for name in asked:
        if name not in known:
            raise UserError(f"{name}: no such check", hint=f"known: {', '.join(known)}")
    results = []
    for check in bench.table.checks:
        if asked and check.name not in asked:
            continue
        results.append(_one(bench, check))
        _say(results[-1], check)
    bench.report.mkdir(parents=True, exist_ok=True)
    store.write_json(
        bench.report / "series-check.json",
        {"kernel": bench.kernel.name, "checks": [dataclasses.asdict(one) for one in results]},
    )
    return results


def _one(bench: Bench, check: Check) -> Result:
    started = time.monotonic()
    try:
        for name in check.tools:
            tool(name)
        lines = CHECKS[check.name](bench)
        result = "failed" if lines else "passed"
    except SkipError as exc:
        result, lines = "skipped", [str(exc)]
    except BuildError as exc:
        result, lines = "failed", exc.lines()
    return Result(
        name=check.name,
        result=result,
        lines=tuple(lines),
        seconds=round(time.monotonic() - started, 1),
    )


def _say(result: Result, check: Check) -> None:
    mark = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}[result.result]
    reason = f" ({result.lines[0]})" if result.result == "skipped" else ""
    print(f"{mark:8} {check.name:11} {check.what}{reason} [{result.seconds:.0f} s]", flush=True)
    if result.result == "failed":
        for line in result.lines[:SHOWN]:
            print(f"    {line}")
        if len(result.lines) > SHOWN:
            print(f"    and {len(result.lines) - SHOWN} more")
        sys.stdout.flush()


def summary(results: Sequence[Result]) -> str:
    """One line: how many of each."""
    words = ("passed", "failed", "skipped")
    return ", ".join(f"{sum(one.result == word for one in results)} {word}" for word in words)
