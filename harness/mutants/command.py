# SPDX-License-Identifier: GPL-2.0-only
"""`make mutants`: every mutant built, booted, tested and judged."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

import click

from harness.lab import Lab, Setup
from harness.mutants import again, judge, matrix, run, state, trailers
from harness.mutants.matrix import Page
from harness.mutants.run import Ran, Task
from harness.mutants.suites import SUITES, Base, Suite, base_of, suite_of
from harness.mutants.trailers import Mutant
from harness.report.results import PROPERTIES, TestResult
from vm import cache as store
from vm import kernels, patches
from vm.errors import BuildError, UserError, Verdict


def main(
    setup: Setup,
    *,
    asked: Sequence[str] = (),
    without: Sequence[str] = (),
    sample: int | None = None,
    repeat: int = 1,
    shard: tuple[int, int] | None = None,
    fresh: bool = False,
) -> int:
    """Run the mutants that are asked for, or a sample of all; the exit code.

    ``shard`` is (2, 4) for the second of four parts of them.  With ``fresh`` no
    result that is kept counts.

    0: all are killed.  1: not all, or the sample itself is not green.  Others:
    vm.errors.Verdict's, when the machine spoilt the run.
    """
    started = time.monotonic()
    end_as_by_ctrl_c()
    left_out = tuple(name.strip() for one in without for name in one.split(",") if name.strip())
    for name in left_out:
        if name not in PROPERTIES:
            raise UserError(f"--without {name}: no such property")
    mutants = trailers.load_all()
    chosen = trailers.choose(mutants, asked)
    if shard is not None:
        chosen = part(chosen, *shard)
    if sample is not None:
        tests = [name for one in SUITES.values() for name in one.tests]
        chosen = sampled(fitting(quick(chosen), setup), sample, state.of(tests))
    if repeat > 1:
        return again.main(setup, chosen, repeat)
    # A mistake in any of them is told before the first is built.
    jobs = [(mutant, base_of(mutant), suite_of(mutant)) for mutant in chosen]
    # Those on one base together: its kernels share most objects.  Those that change a
    # table of system calls last: nearly every object is compiled anew for them, and for
    # whatever comes behind them.
    jobs.sort(key=lambda job: (renumbers(job[0]), job[1].name))
    baseline: list[TestResult] = []
    if sample is None:  # a sample is for a run that has just tested the sample itself
        bare = [_baseline(base, suite) for base, suite in dict.fromkeys(job[1:] for job in jobs)]
        for task, ran in run.run_all(bare, setup, fresh=fresh):
            wrong = _not_green(task, ran)
            if wrong is not Verdict.PASS:
                return int(wrong.value)
            baseline += ran.results
    tasks = {Task.of(mutant, suite=suite, base=base): mutant for mutant, base, suite in jobs}
    runs: list[tuple[Mutant, Sequence[TestResult]]] = []
    for task, ran in run.run_all(list(tasks), setup, fresh=fresh):
        runs.append((tasks[task], ran.results))
        how = "from the cache" if ran.cached else f"{ran.seconds:.0f} s"
        judged_now = judge.judge(tasks[task], ran.results, without=left_out)
        click.echo(f"[{len(runs)}/{len(jobs)}] {matrix.line(judged_now)} ({how})")
        sys.stdout.flush()
    runs.sort(key=lambda one: one[0].name)
    judged = [judge.judge(mutant, results, without=left_out) for mutant, results in runs]
    page = Page(
        judged=judged,
        tests=judge.tests_of(judged, baseline),
        relied_on=judge.survivors_without(runs),
        without=left_out,
        seconds=time.monotonic() - started,
        whole=len(chosen) == len(mutants),
    )
    _show(page, setup)
    worst: Verdict = max((one.verdict for one in judged), key=lambda one: one.value)
    return int(worst.value)


def end_as_by_ctrl_c() -> None:
    """Let SIGTERM, which is how timeout(1) and CI end a run, end the tests and their guests too."""

    def terminated(signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(f"signal {signum}")

    signal.signal(signal.SIGTERM, terminated)


def part(mutants: Sequence[Mutant], number: int, of: int) -> list[Mutant]:
    """One of so many parts, the first being 1, which together are all of them."""
    if not 1 <= number <= of:
        raise UserError(f"SHARD={number}/{of}: not one of {of} parts")
    return list(mutants[number - 1 :: of])


def quick(mutants: Sequence[Mutant]) -> list[Mutant]:
    """Those whose kernel shares its objects with the default one's: a few files, not minutes."""
    return [
        one
        for one in mutants
        if not kernels.variant(base_of(one).variant).alone and not renumbers(one)
    ]


def renumbers(mutant: Mutant) -> bool:
    """Whether it changes a table of system calls, of which all headers of numbers are made."""
    return any(name.endswith(".tbl") for name in patches.single([mutant.path]).touched)


def fitting(mutants: Sequence[Mutant], setup: Setup) -> list[Mutant]:
    """Those that are for the kernel at hand: they are written for the default one, and all fit it.

    Tables of system calls, say, are elsewhere in another.
    """
    if setup.kernel == kernels.DEFAULT_KERNEL:
        return list(mutants)
    found = []
    for one in mutants:
        order = Lab(Task.of(one, suite=suite_of(one), base=base_of(one)).setup(setup)).order
        with contextlib.suppress(BuildError):
            order.verify()
            found.append(one)
    return found


def sampled(mutants: Sequence[Mutant], count: int, code: str) -> list[Mutant]:
    """Some of the mutants, others with every change of the tests or of a patch.

    ``code`` is the tests' state.
    """
    content = store.key(code, *(one.path.read_bytes() for one in mutants))
    ranked = sorted(mutants, key=lambda one: store.key(content, one.name))
    return sorted(ranked[:count], key=lambda one: one.name)


def _baseline(base: Base, suite: Suite) -> Task:
    """What the suite says of the sample without a fault."""
    name = f"none-{base.name}-{store.key(*suite.tests, *suite.options)[:4]}"
    return Task(name=name, suite=suite, base=base, mutant=None)


def _not_green(task: Task, ran: Ran) -> Verdict:
    """Say what is red before any fault was put in; the worst of it."""
    red = [one for one in ran.results if one.verdict is not Verdict.PASS]
    for one in red:
        click.echo(f"red without a mutant: {one.verdict.label} {one.name}\n{one.text}")
    if red:
        click.echo(f"{task.base.name} is not green: no mutant on top of it can be judged")
        return max((one.verdict for one in red), key=lambda one: one.value)
    how = "from the cache" if ran.cached else f"{ran.seconds:.0f} s"
    click.echo(f"[0] green without a mutant: {task.base.name}, {len(ran.results)} tests ({how})")
    return Verdict.PASS


def _show(page: Page, setup: Setup) -> None:
    setup.report.mkdir(parents=True, exist_ok=True)
    for name, text in (("mutants.md", matrix.markdown(page)), ("mutants.html", matrix.html(page))):
        (setup.report / name).write_text(text, encoding="utf-8", errors="backslashreplace")
    click.echo()
    click.echo(matrix.terminal(page, width=80, color=sys.stdout.isatty()))
    for text in matrix.notes(page):
        click.echo(text)
    click.echo(f"report: {setup.report / 'mutants.html'}")
    click.echo(f"{page.passed} passed, {page.failed} failed in {page.seconds:.0f} s")
