# SPDX-License-Identifier: GPL-2.0-only
"""A race that is caught is caught every time: one property of some mutants, again and again."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence

import click

from harness.lab import Setup
from harness.mutants import judge, run
from harness.mutants.run import Task
from harness.mutants.suites import BATTERY, Suite, base_of
from harness.mutants.trailers import Mutant
from harness.report.results import TestResult
from vm.errors import Verdict

_ROUND = re.compile(r"-round(\d+)-")


def rounds(mutant: Mutant, results: Iterable[TestResult]) -> list[bool]:
    """Whether the named property went red in each round, in every ABI that is named."""
    by_round: dict[int, list[TestResult]] = {}
    for one in results:
        if found := _ROUND.search(one.name):
            by_round.setdefault(int(found[1]), []).append(one)
    return [not judge.missing(mutant, judge.cells(rows)[0]) for _, rows in sorted(by_round.items())]


def main(setup: Setup, mutants: Sequence[Mutant], times: int) -> int:
    """Try each mutant's own property so many times on one guest; 0 when it never stayed green."""
    tasks = {
        Task(
            name=f"{mutant.name}-again",
            suite=Suite(tests=(BATTERY,)),
            base=base_of(mutant),
            mutant=mutant.path,
            expected=mutant.verdict,
            options=("--repeat", str(times), "--prop", mutant.prop),
        ): mutant
        for mutant in mutants
    }
    worst = Verdict.PASS
    failed = 0
    for task, ran in run.run_all(list(tasks), setup):
        mutant = tasks[task]
        found = rounds(mutant, ran.results)
        every = len(found) == times and all(found)
        failed += not every
        word = "killed" if every else "SURVIVED"
        click.echo(f"{word}: {mutant.name}: {mutant.prop} in {sum(found)} of {times} rounds")
        sys.stdout.flush()
        bad = [one.verdict for one in ran.results if one.verdict in judge.MACHINE]
        worst = max([worst, *bad], key=lambda one: one.value)
    click.echo(f"{len(tasks) - failed} passed, {failed} failed")
    return int(worst.value) or int(bool(failed))
