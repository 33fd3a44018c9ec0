# SPDX-License-Identifier: GPL-2.0-only
"""How many guests, or files of tests, run side by side here; pytest-xdist runs them."""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vm.accel import Kind
from vm.errors import UserError

#: Cores that a guest takes.  Under TCG QEMU translates on one while the host's
#: side of a sweep, and QEMU's own loop, are busy on another: two such guests on
#: two cores only wait for each other, and their deadlines do not.
CORES: Mapping[Kind, int] = {"kvm": 1, "tcg": 2}
#: The quick battery waits for the guest in turn with it: a request of some hundred calls,
#: then the model, then the next.  There two such guests on two cores halve the time.
CORES_IN_TURN: Mapping[Kind, int] = {"kvm": 1, "tcg": 1}
#: MiB that a guest takes with its QEMU, its virtme-ng and its pytest worker.
MEMORY = 700
#: How a kernel's tests stay with one worker (skew/plugin.py), and its guest warm.
BY_KERNEL = ("--dist", "loadgroup")

MEMINFO = Path("/proc/meminfo")


def available() -> int:
    """MiB that can be had without swapping; what Linux says of it (proc_meminfo(5))."""
    for line in MEMINFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def most(kind: Kind, *, cores: int, memory: int, needs: Mapping[Kind, int] = CORES) -> int:
    """How many guests may run at once on so many cores, with so many MiB; at least one.

    ``needs`` are the cores that one takes.
    """
    return max(1, min(cores // needs[kind], memory // MEMORY))


def by_file(args: Sequence[str]) -> list[str]:
    """What pytest-xdist is told for tests that need no guest, on top of ``args``: a core each.

    A file's tests stay together, since they share what is dear to make.  Nothing
    where the user says how many, or wants a debugger, or on one core.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-n", "--numprocesses", dest="number")
    parser.add_argument("--dist")
    parser.add_argument("--pdb", action="store_true")
    parser.add_argument("--trace", action="store_true")
    asked, _ = parser.parse_known_args(list(args))
    number = min(len(os.sched_getaffinity(0)), available() // MEMORY)
    alone = asked.number or asked.dist or asked.pdb or asked.trace or number < 2
    if alone or not importlib.util.find_spec("xdist"):
        return []
    return ["-n", str(number), "--dist", "loadfile"]


def options(
    args: Sequence[str], kind: Kind, *, kernels: int, needs: Mapping[Kind, int] = CORES
) -> list[str]:
    """What pytest-xdist is told on top of ``args``, which are the user's for pytest.

    Without a number of theirs, one that fits this machine and is no larger than
    the number of ``kernels``, or of what else is shared out.  ``needs`` are the
    cores that a guest takes.  Raises UserError for one that does not fit.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-n", "--numprocesses", dest="number")
    parser.add_argument("--dist")
    asked, _ = parser.parse_known_args(list(args))
    cores, memory = len(os.sched_getaffinity(0)), available()
    fit = most(kind, cores=cores, memory=memory, needs=needs)
    if asked.number is None:
        # An installed package may be without it; then it is one after the other.
        number = min(fit, kernels) if importlib.util.find_spec("xdist") else 1
        return ["-n", str(number), *BY_KERNEL] if number > 1 and not asked.dist else []
    found = [] if asked.dist else list(BY_KERNEL)
    if not asked.number.isdecimal():  # auto, logical: xdist counts cores, not guests
        return [*found, "-n", str(min(fit, kernels))]
    if int(asked.number) > fit:
        raise UserError(
            f"-n {asked.number}: so many guests under {kind.upper()} want "
            f"{int(asked.number) * needs[kind]} cores and {int(asked.number) * MEMORY} MiB, "
            f"and here are {cores} and {memory}",
            hint=f"without -n it is as many as fit: {fit}",
        )
    return found
