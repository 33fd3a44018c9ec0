# SPDX-License-Identifier: GPL-2.0-only
"""What kernels of every age cost, each figure beside its alternative in one run.

    variant     a kernel in another variant, onto the objects of the one before,
                against that kernel from nothing, as recorded when it was built
    matrix      `make skew` whole, kernels cached, against the same cells with a
                guest booted for each
    cold        every kernel of every series in an empty cache, against as many
                kernels each from nothing

The first two are part of `make bench`; the third takes a quarter of an hour, and
is run alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.bench import Figure, machine
from harness.lab import Lab, Setup
from harness.skew import labs, results
from vm import build, kernels, kernelset, patches, paths, proc
from vm import cache as store
from vm.build import Order
from vm.errors import InfraError

#: How many further variants are built: one away from the first, back, and there again.
STEPS = 3
#: Deadlines of what runs as a process of its own, in seconds.
MATRIX_SECONDS = 1800.0
COLD_SECONDS = 4 * 3600.0
#: How many boots the cost of one is the median of.
BOOTS = 3

#: A file that nothing is built from.  With it a kernel is none that the cache
#: has, and its build is the same to the last object.
TRIAL = """\
--- /dev/null
+++ b/Documentation/extsys-bench.txt
@@ -0,0 +1 @@
+Nothing is built from this.
"""


def figures(lab: Lab) -> list[Figure]:
    """What belongs to `make bench`; of a tree or a kernel built elsewhere there is no other age."""
    if lab.setup.kernel_tree or lab.setup.bzimage or lab.setup.local:
        return []
    return [further_variant(lab.setup), matrix(lab)]


# A further variant.


def further_variant(setup: Setup) -> Figure:
    """Build one variant on the objects of another, again and again."""
    with _trial_orders(setup) as (first, second):
        first.fill()  # now the object tree is this one's, whatever it was before
        samples, cpu = [], []
        for order in (second, first, second)[:STEPS]:
            build.forget(order)
            start = time.monotonic()
            cpu.append(order.fill().seconds_cpu)
            samples.append(time.monotonic() - start)
        fragments = [one.name for one in first.fragments]
    nothing = from_nothing(setup.cache, setup.kernel, fragments)
    return Figure(
        name=f"a further variant of a built kernel, {statistics.median(cpu):.0f} s of CPU",
        unit="s",
        ours=tuple(samples),
        other=(nothing["seconds_wall"],) if nothing else (),
        other_is=f"from nothing: {nothing['seconds_cpu']:.0f} s of CPU; recorded, not run again"
        if nothing
        else "from nothing: no such build in the cache",
    )


@contextlib.contextmanager
def _trial_orders(setup: Setup) -> Iterator[tuple[Order, Order]]:
    """The first two variants of a kernel, as kernels that no cache has; forgotten at the end."""
    names = [age.variant for age in labs.ages([setup.kernel]) if not age.off][:2]
    with tempfile.TemporaryDirectory(prefix="extsys-") as directory:
        path = Path(directory) / "trial.patch"
        path.write_text(TRIAL)
        orders = [
            build.order(
                setup.kernel,
                variant=name,
                series=build.stacked(setup.kernel, name) + patches.single([path]),
                jobs=setup.jobs,
                mirror=setup.mirror,
                cache=setup.cache,
            )
            for name in names
        ]
        try:
            yield orders[0], orders[1]
        finally:
            for order in orders:
                build.forget(order)


def from_nothing(cache: Path, kernel: str, fragments: Sequence[str]) -> dict[str, Any] | None:
    """The record of the newest build of a kernel that found no objects, if the cache has one.

    ``fragments`` are the names of its configuration: another is another kernel.
    """
    found = [
        record
        for path in (cache / "kernels").glob(f"{kernels.kernel(kernel).series}-*/build.json")
        if (record := store.read_json(path))
        and not record["incremental"]
        and record["fragments"] == list(fragments)
    ]
    return max(found, key=lambda record: str(record["made"]), default=None)


# The matrix.


def matrix(lab: Lab) -> Figure:
    """The whole matrix, as a user runs it."""
    chosen = labs.ages([])
    # What is not there is built now, and not while the clock runs.
    missing = [
        member
        for member in kernelset.members(jobs=lab.setup.jobs, mirror=lab.setup.mirror)
        if not member.order.there
    ]
    if missing:
        kernelset.run(missing, Console(stderr=True))
    boots = []
    for _ in range(BOOTS):
        lab.restart()
        start = time.monotonic()
        lab.target()
        boots.append(time.monotonic() - start)
    lab.restart()
    with tempfile.TemporaryDirectory(prefix="extsys-") as directory:
        argv = [sys.executable, "-m", "harness", "skew", "--report", directory]
        argv += ["--accel", lab.accel.kind]
        argv += ["--abi", ",".join(one.name for one in lab.setup.abis)]
        if lab.setup.jobs:
            argv += ["--jobs", str(lab.setup.jobs)]
        start = time.monotonic()
        _run(argv, seconds=MATRIX_SECONDS, log=Path(directory) / "log", env={})
        seconds = time.monotonic() - start
        cells = len(results.read(Path(directory) / results.CELLS))
    more = (cells - len(chosen)) * statistics.median(boots)
    return Figure(
        name=f"make skew: {cells} cells on {len(chosen)} kernels, all cached",
        unit="s",
        ours=(seconds,),
        other=(seconds + more,),
        other_is="a guest for each cell: computed from a boot's time",
    )


def _run(argv: Sequence[str], *, seconds: float, log: Path, env: dict[str, str]) -> None:
    """Run a command of ours, all that it prints going to ``log``; InfraError when it fails."""
    proc.show(argv)
    with log.open("wb") as out:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env},
            start_new_session=True,
        )
        try:
            code = child.wait(timeout=seconds)
        except subprocess.TimeoutExpired as exc:
            raise InfraError(f"{' '.join(argv)}: no end within {seconds:g} s") from exc
        finally:
            proc.end_group(child)
    if code:
        last = log.read_text(errors="replace").splitlines()[-20:]
        raise InfraError(f"{' '.join(argv)}: exit code {code}:\n" + "\n".join(last))


# All kernels from nothing.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cold:
    """Every kernel of every series, built into an empty cache."""

    seconds: float  #: on the clock, from an empty cache: sources unpacked and patched, too
    records: dict[str, dict[str, Any]]  #: "6.12 ver0" → its build.json, in the order of the builds

    @property
    def cpu(self) -> float:
        """Seconds of CPU of every make."""
        return sum(float(one["seconds_cpu"]) for one in self.records.values())

    @property
    def apart(self) -> float:
        """Seconds on the clock had each been built as the first of its series was: computed."""
        first = {
            one["source"]: float(one["seconds_wall"])
            for one in self.records.values()
            if not one["incremental"]
        }
        return sum(first[one["source"]] for one in self.records.values())


def cold(setup: Setup) -> Cold:
    """Run `make kernels` in an empty cache beside the real one, which is not touched."""
    home = paths.cache_dir().parent
    home.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="extsys-bench-", dir=home))
    try:
        argv = [sys.executable, "-m", "harness", "kernels"]
        if setup.jobs:
            argv += ["--jobs", str(setup.jobs)]
        if setup.mirror:
            argv += ["--mirror", setup.mirror]
        setup.report.mkdir(parents=True, exist_ok=True)
        log = setup.report / "bench-cold.log"
        start = time.monotonic()
        _run(argv, seconds=COLD_SECONDS, log=log, env={paths.CACHE_VARIABLE: str(scratch)})
        seconds = time.monotonic() - start
        records = {
            one.name: store.read_json(one.order.directory / "build.json")
            for one in kernelset.members(jobs=setup.jobs, mirror=setup.mirror, cache=scratch)
        }
    finally:
        store.remove(scratch)
    return Cold(seconds=seconds, records=records)


def show(found: Cold, console: Console) -> None:
    """The table: a row for each kernel, and their sum beside the alternative."""
    grid = Table(title=f"every kernel from nothing; {machine()}", title_justify="left")
    grid.add_column("kernel")
    for name in ("s on the clock", "s of CPU"):
        grid.add_column(name, justify="right")
    grid.add_column("")
    for name, one in found.records.items():
        grid.add_row(
            f"{name}: {one['release']}",
            f"{one['seconds_wall']:.0f}",
            f"{one['seconds_cpu']:.0f}",
            "onto objects that were there" if one["incremental"] else "from nothing",
        )
    grid.add_section()
    grid.add_row("all", f"{found.seconds:.0f}", f"{found.cpu:.0f}", "with sources and patches")
    grid.add_row("each from nothing", f"{found.apart:.0f}", "", "computed")
    console.print(grid)


def run_cold(setup: Setup) -> None:
    """Measure it, print it, and keep it as bench-cold.json."""
    found = cold(setup)
    show(found, Console(width=120))
    data = {
        "machine": machine(),
        "seconds": found.seconds,
        "seconds_cpu": found.cpu,
        "each_from_nothing": found.apart,
        "kernels": found.records,
    }
    (setup.report / "bench-cold.json").write_text(json.dumps(data, indent=1) + "\n")
