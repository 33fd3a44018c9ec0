# SPDX-License-Identifier: GPL-2.0-only
"""What checking Linux's own interfaces costs, beside what the kernel's own selftests cost.

whole       the quick battery of every interface in every ABI, on one kernel,
            as `make conformance` runs it: on the clock, and of the CPU
checks      calls made and judged in a second, openat2's battery against
            openat2_test on the same warm guest, in each ABI
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from harness import interfaces
from harness.abi import ABI
from harness.batteries import BATTERY, Level
from harness.bench import Figure
from harness.interface import Interface
from harness.kselftests import run, table
from harness.lab import Lab
from harness.report import results
from vm import proc
from vm.errors import InfraError

#: The kernels on which Linux's own interfaces are checked.
VARIANT = "conformance"
#: The one whose selftest counts its checks.
INTERFACE, PROGRAM = "openat2", "openat2_test"
#: How often that is run for each run of the battery, which takes longer.
TIMES = 5
#: A deadline for all of it, in seconds, on a machine that has other work too.
SECONDS = 3 * 3600.0


def figures(lab: Lab) -> list[Figure]:
    """What belongs to `make bench`; a tree or a kernel of the user's is none of these kernels."""
    if lab.setup.kernel_tree or lab.setup.bzimage or lab.setup.local:
        return []
    with tempfile.TemporaryDirectory(prefix="extsys-") as directory:
        mine = Lab(dataclasses.replace(lab.setup, variant=VARIANT, report=Path(directory)))
        try:
            _ = mine.built  # what is not there is built now, and not while the clock runs
            mine.prepare()
            return [*checks(mine), *whole(mine)]
        finally:
            mine.close()


def checks(lab: Lab) -> list[Figure]:
    """Checks in a second, ours and theirs, by ABI."""
    program = table.load().program(PROGRAM)
    found = []
    for abi in lab.setup.abis:
        path = run.build(lab, abi, program.target).built[PROGRAM]
        ours, theirs = [], []
        run.run(lab, abi, program, path)  # the guest fetches it
        for _ in range(TIMES):
            start = time.monotonic()
            cases = run.run(lab, abi, program, path)
            theirs.append(len(cases) / (time.monotonic() - start))
        ours.append(_battery(lab, abi))
        found.append(
            Figure(
                name=f"calls made and judged, {INTERFACE}'s quick battery, {abi.name}",
                unit="1/s",
                ours=tuple(ours),
                other=tuple(theirs),
                other_is=f"{PROGRAM}: {len(cases)} checks",
            )
        )
    return found


def _battery(lab: Lab, abi: ABI) -> float:
    """Calls in a second of the whole battery of one interface in one ABI."""
    contract = interfaces.load(INTERFACE)
    target = lab.target()
    interface = Interface(
        contract, abi, compiler=lab.compiler, target=target, described=lab.described
    )
    before, start = target.calls, time.monotonic()
    for item in BATTERY:
        # A known finding of this kernel's is a result like another.
        if item.unless(contract, abi) is None and not item.older:
            with contextlib.suppress(pytest.skip.Exception, AssertionError):
                item.run(interface, Level())
    return (target.calls - before) / (time.monotonic() - start)


def whole(lab: Lab) -> list[Figure]:
    """The quick battery of all interfaces, as a user runs it."""
    lab.restart()
    report = lab.setup.report / "whole"
    argv = [sys.executable, "-m", "harness", VARIANT, "--kernel", lab.setup.kernel]
    argv += ["--report", str(report), "--accel", lab.accel.kind]
    argv += ["--abi", ",".join(one.name for one in lab.setup.abis)]
    for name in ("jobs", "mirror"):
        value = getattr(lab.setup, name)
        if value is not None:
            argv += [f"--{name}", str(value)]
    proc.show(argv)
    before = os.times()
    start = time.monotonic()
    with (lab.setup.report / "whole.log").open("wb") as log:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            code = child.wait(timeout=SECONDS)
        except subprocess.TimeoutExpired as exc:
            raise InfraError(f"{' '.join(argv)}: no end within {SECONDS:g} s") from exc
        finally:
            proc.end_group(child)
    seconds = time.monotonic() - start
    after = os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])
    path = report / f"linux-{lab.setup.kernel}" / results.FILE
    if not path.exists():
        raise InfraError(f"{' '.join(argv)}: exit code {code}, and no results")
    raw = json.loads(path.read_text())
    calls = sum(one["calls"] for one in raw["results"])
    names = {one["interface"] for one in raw["results"] if one["interface"]}
    what = (
        f"quick battery, {len(names)} interfaces, {len(lab.setup.abis)} ABIs, "
        f"Linux {raw['release']}"
    )
    return [
        Figure(name=what, unit="s", ours=(seconds,)),
        Figure(name="the same, CPU time of host and guest", unit="s", ours=(cpu,)),
        Figure(name="the same, calls made and judged", unit="1/s", ours=(calls / seconds,)),
    ]
