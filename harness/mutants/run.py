# SPDX-License-Identifier: GPL-2.0-only
"""From a mutant to the results of the tests on its kernel: built, booted, tested, kept.

Results are kept under a key made of all that decides them, so that a run which
was stopped goes on where it was, and one that changes nothing costs nothing.
Those of a machine that went away are not kept: they prove nothing.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from harness.lab import Lab, Setup
from harness.mutants import state
from harness.mutants.judge import MACHINE
from harness.mutants.suites import Base, Suite
from harness.mutants.trailers import Mutant
from harness.report import results as records
from harness.report.results import TestResult
from vm import build, proc
from vm import cache as store
from vm.deadline import Deadline
from vm.errors import BuildError, HarnessError, InfraError, Verdict

#: Raise when the same input would give other results.
FORMAT = "mutant-1"
#: Where results are kept, below the cache.
PLACE = "mutants"
#: Deadline of one kernel's tests, in seconds: they take 30 under TCG, and three minutes
#: with KASAN beside another's, on a machine that is not loaded.
SECONDS = 1200.0
#: How often it is looked whether one has ended, in seconds.
POLL = 0.1
#: How many runs are remembered, of which every edit of the harness makes new ones.
KEEP = 500

#: pytest's own ends with tests that were not run: nothing is known of those.
BROKEN = frozenset({pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ran:
    """The tests on one kernel."""

    results: tuple[TestResult, ...]
    seconds: float  #: from the patch to the results, when they were made
    cached: bool


def spoilt(results: Iterable[TestResult], *, expected: Verdict) -> bool:
    """Whether the machine went away, so that the results are worth nothing.

    A caller that does not build is a full disk more often than a fault of the
    kernel's; only where that is what a mutant shows is it kept.
    """
    bad = {*MACHINE, Verdict.BUILD} - {expected}
    return any(one.verdict in bad for one in results)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A base, with a mutant on top or without one, and what is run on it."""

    name: str
    suite: Suite
    base: Base
    mutant: Path | None
    expected: Verdict = Verdict.FAIL  #: how a mutant has to show
    options: tuple[str, ...] = ()  #: more of pytest's: some of the tests, or all again

    @classmethod
    def of(cls, mutant: Mutant, *, suite: Suite, base: Base) -> Task:
        """What is run on a mutant."""
        return cls(
            name=mutant.name, suite=suite, base=base, mutant=mutant.path, expected=mutant.verdict
        )

    def setup(self, asked: Setup) -> Setup:
        """The run's own, with this kernel and a report directory of its own."""
        return dataclasses.replace(
            asked,
            variant=self.base.variant,
            patches=(*self.base.patches, *([self.mutant] if self.mutant else [])),
            report=asked.report / "mutants" / self.name,
        )

    def key(self, setup: Setup) -> str:
        """The content key of its results."""
        return store.key(
            FORMAT,
            Lab(setup).order.key,
            state.of(self.suite.tests, self.base.contract),
            *self.suite.tests,
            *self.suite.options,
            *self.options,
            *(one.name for one in setup.abis),
            setup.accel,
        )

    def kept(self, asked: Setup) -> Path:
        """Where its results are, or will be."""
        return asked.cache / PLACE / f"{self.name}-{self.key(self.setup(asked))}"


class Running:
    """One kernel's tests: found in the cache, or under way in a process of their own."""

    def __init__(self, task: Task, asked: Setup) -> None:
        self.task = task
        self._setup = task.setup(asked)
        self._started = time.monotonic()
        self._kept = task.kept(asked)
        self._process: subprocess.Popen[bytes] | None = None
        self._deadline = Deadline.after(SECONDS, "the tests' end")
        self._built: HarnessError | None = None

    def start(self) -> None:
        """Build the kernel and start its tests, unless their results are kept already.

        A kernel that does not build is a result, not an error.  Raises
        HarnessError for what is wrong around it.
        """
        if self._kept.is_dir():
            return
        task = self.task
        self._setup.report.mkdir(parents=True, exist_ok=True)
        self._written.unlink(missing_ok=True)
        try:
            _ = Lab(self._setup).built
        except BuildError as exc:
            self._built = exc
            return
        argv = [
            sys.executable,
            "-m",
            "pytest",
            *task.suite.tests,
            *task.suite.options,
            *task.options,
            *_options(self._setup, task.base),
        ]
        self._deadline = Deadline.after(SECONDS, "the tests' end")
        proc.show(argv)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def _written(self) -> Path:
        return self._setup.report / records.FILE

    @property
    def _log(self) -> Path:
        return self._setup.report / "pytest.log"

    @property
    def done(self) -> bool:
        """Whether ``finish`` would not wait."""
        return self._process is None or self._process.poll() is not None or self._deadline.passed

    def end(self) -> None:
        """Give it up: end its process and all that this has started."""
        if self._process is not None:
            proc.end_group(self._process)
            self._forget()

    def finish(self) -> Ran:
        """Its results, when ``done``; kept, unless the machine went away."""
        if self._kept.is_dir():
            store.touch(self._kept)
            found = store.read_json(self._kept / "ran.json")
            rows = records.load(self._kept / records.FILE)
            return Ran(results=tuple(rows), seconds=found["seconds"], cached=True)
        try:
            results = self._results()
        finally:
            self._forget()
        seconds = time.monotonic() - self._started
        ran = Ran(results=tuple(results), seconds=seconds, cached=False)
        if not spoilt(results, expected=self.task.expected):
            with store.guard(self._kept, f"keeping {self._kept.name}"):
                with store.making(self._kept) as temp:
                    records.dump(temp / records.FILE, results)
                    store.write_json(temp / "ran.json", {"seconds": round(seconds, 1)})
                store.prune(self._kept.parent, "*", keep=KEEP)
        return ran

    def _results(self) -> Sequence[TestResult]:
        if self._built is not None:
            return [_whole("build", self._built)]
        assert self._process is not None
        if self._process.poll() is None:
            proc.end_group(self._process)
            late = InfraError(f"{self._log}: no end within {SECONDS:g} s")
            return [_whole("pytest", late, verdict=Verdict.HANG)]
        if not self._written.is_file():
            tail = self._log.read_text(errors="replace").splitlines()[-15:]
            raise InfraError("pytest gave no results:\n" + "\n".join(tail))
        return completed(records.load(self._written), self._process.returncode, self._log)

    def _forget(self) -> None:
        """A mutant's kernel is tried once: what is kept is its results."""
        if self._setup.patches:
            build.forget(Lab(self._setup).order)


def completed(found: Sequence[TestResult], code: int, log: Path) -> Sequence[TestResult]:
    """The results of a pytest that ended with ``code``, and that some are missing if so."""
    if code not in BROKEN:
        return found
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
    return [*found, _whole("pytest", InfraError(f"pytest did not get through:\n{tail}"))]


def forget(task: Task, asked: Setup) -> None:
    """Remove the results that are kept of it."""
    kept = task.kept(asked)
    with store.guard(kept, f"removing {kept.name}"):
        store.remove(kept)


def run_all(
    tasks: Sequence[Task], asked: Setup, *, fresh: bool = False
) -> Iterator[tuple[Task, Ran]]:
    """Build one kernel after the other, and test each while the next is built.

    Gives each as it ends.  As many are tested at once as there are CPUs, or as
    jobs were asked for.  With ``fresh`` no result that is kept counts.
    """
    most = asked.jobs or len(os.sched_getaffinity(0))
    running: list[Running] = []
    try:
        for task in tasks:
            while len(running) >= most:
                yield from _ended(running)
            if fresh:
                forget(task, asked)
            running.append(Running(task, asked))
            running[-1].start()  # of what is in the list, nothing is left behind
            yield from _ended(running, wait=False)
        while running:
            yield from _ended(running)
    finally:
        for one in running:
            one.end()


def _ended(running: list[Running], *, wait: bool = True) -> Iterator[tuple[Task, Ran]]:
    """Those that have ended, taken out; waits for the first of them."""
    while wait and not any(one.done for one in running):
        time.sleep(POLL)
    for one in [one for one in running if one.done]:
        running.remove(one)
        yield one.task, one.finish()


def _whole(name: str, exc: HarnessError, *, verdict: Verdict | None = None) -> TestResult:
    """What ended the run before there were tests."""
    return TestResult(name=name, verdict=verdict or exc.verdict, text="\n".join(exc.lines()))


def _options(setup: Setup, base: Base) -> list[str]:
    # A broken contract says all by itself; for pytest's own words, files are parsed anew.
    given = ["-q", "-p", "no:cacheprovider", "--tb=native", "--brief", "--accel", setup.accel]
    given += ["--kernel", setup.kernel, "--variant", setup.variant]
    given += ["--report", str(setup.report)]
    given += ["--abi", ",".join(one.name for one in setup.abis)]
    for path in setup.patches:
        given += ["--patch", str(path)]
    for option, value in (("--jobs", setup.jobs), ("--mirror", setup.mirror)):
        given += [option, str(value)] if value is not None else []
    if setup.kernel_tree:
        given += ["--kernel-tree", str(setup.kernel_tree)]
    return [*given, "--contract", str(base.contract)] if base.contract else given
