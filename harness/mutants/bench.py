# SPDX-License-Identifier: GPL-2.0-only
"""What a mutant costs, from its patch to its verdict; a part of `make bench`."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence

from harness.bench import Figure
from harness.lab import Lab, Setup
from harness.mutants import judge, run, trailers
from harness.mutants.judge import State
from harness.mutants.run import Task
from harness.mutants.suites import base_of, suite_of
from harness.mutants.trailers import BASE, Mutant
from harness.skew.bench import from_nothing
from vm import cache as store
from vm import kernels
from vm.errors import InfraError

#: How many mutants are measured, of those on the default base.
MEASURED = 3


def figures(lab: Lab) -> list[Figure]:
    """A mutant alone on the machine, its kernel and its tests; of a tree of the user's none."""
    setup = lab.setup
    if setup.kernel_tree or setup.bzimage or setup.local or setup.variant != BASE:
        return []
    builds, tests = [], []
    for mutant in _measured():
        task = Task.of(mutant, suite=suite_of(mutant), base=base_of(mutant))
        run.forget(task, setup)
        start = time.monotonic()
        running = run.Running(task, setup)
        try:
            running.start()
            built = time.monotonic()
            while not running.done:
                time.sleep(run.POLL)
            ran = running.finish()
        finally:
            running.end()
        judged = judge.judge(mutant, ran.results)
        if judged.state is not State.KILLED:
            raise InfraError(f"{mutant.name}: {judged.state.value}: its time says nothing")
        builds.append(built - start)
        tests.append(time.monotonic() - built)
    fragments = kernels.variant(setup.variant).fragments
    nothing = from_nothing(setup.cache, setup.kernel, fragments)
    return [
        Figure(
            name="a mutant, from patch to verdict",
            unit="s",
            ours=tuple(map(sum, zip(builds, tests, strict=True))),
            other=(nothing["seconds_wall"] + statistics.median(tests),) if nothing else (),
            other_is="with a kernel from nothing: recorded, not run again",
        ),
        Figure(name="of that its kernel", unit="s", ours=tuple(builds)),
        Figure(name="of that its tests", unit="s", ours=tuple(tests)),
        all_cold(setup, [one + other for one, other in zip(builds, tests, strict=True)]),
    ]


def all_cold(setup: Setup, alone: Sequence[float]) -> Figure:
    """All mutants on a machine that has built nothing: computed, from what was recorded.

    Each mutant took so long beside others, as many as there are CPUs; one of which
    nothing is recorded is taken for one that is ``alone``.  The kernels below them are
    built one after the other, on all CPUs: by the CPU time that each took from nothing.
    """
    lanes = setup.jobs or len(os.sched_getaffinity(0))
    recorded, kernels_below = [], {}
    mutants = trailers.load_all()
    for mutant in mutants:
        base = base_of(mutant)
        kept = Task.of(mutant, suite=suite_of(mutant), base=base).kept(setup)
        if kept.is_dir():
            recorded.append(float(store.read_json(kept / "ran.json")["seconds"]))
        variant = kernels.variant(base.variant)
        if variant.alone or base.variant == BASE:  # the others are built onto its objects
            kernels_below[base.variant] = from_nothing(setup.cache, setup.kernel, variant.fragments)
    built = [float(one["seconds_cpu"]) / lanes for one in kernels_below.values() if one]
    guessed = (len(mutants) - len(recorded)) * statistics.median(alone)
    return Figure(
        name=f"all {len(mutants)} mutants, {lanes} at a time, nothing built before: computed",
        unit="s",
        ours=(sum(recorded) / lanes + guessed / lanes + sum(built),),
        other=(sum(recorded) / lanes + guessed / lanes,),
        other_is=f"without {len(built)} of {len(kernels_below)} kernels from nothing; "
        f"{len(recorded)} mutants as recorded",
    )


def _measured() -> list[Mutant]:
    found = [one for one in trailers.load_all() if one.base == BASE]
    return found[:: max(1, len(found) // MEASURED)][:MEASURED]
