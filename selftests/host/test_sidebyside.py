# SPDX-License-Identifier: GPL-2.0-only
"""harness/skew/sidebyside.py: how many guests there are at once, and who may ask for more."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.skew import sidebyside
from harness.skew.sidebyside import BY_KERNEL
from vm.accel import Kind
from vm.errors import UserError


@pytest.mark.parametrize(
    ("kind", "cores", "memory", "guests"),
    [
        ("tcg", 1, 9000, 1),
        ("tcg", 2, 9000, 1),  # never two on two cores
        ("tcg", 3, 9000, 1),
        ("tcg", 4, 9000, 2),
        ("kvm", 1, 9000, 1),
        ("kvm", 2, 9000, 2),
        ("kvm", 64, 1500, 2),
        ("kvm", 2, 100, 1),
    ],
)
def test_how_many_fit(kind: Kind, cores: int, memory: int, guests: int) -> None:
    assert sidebyside.most(kind, cores=cores, memory=memory) == guests


def test_guests_that_wait_in_turn_take_a_core() -> None:
    needs = sidebyside.CORES_IN_TURN
    assert sidebyside.most("tcg", cores=2, memory=9000, needs=needs) == 2
    assert sidebyside.most("tcg", cores=1, memory=9000, needs=needs) == 1


@pytest.fixture(name="four")
def _four(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with four cores and 16 GB."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)))
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  16384000 kB\nMemFree:  1000 kB\nMemAvailable:  16384000 kB\n")
    monkeypatch.setattr(sidebyside, "MEMINFO", meminfo)


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize(
    ("args", "kind", "kernels", "wanted"),
    [
        ([], "tcg", 8, ["-n", "2", *BY_KERNEL]),
        ([], "kvm", 8, ["-n", "4", *BY_KERNEL]),
        ([], "kvm", 1, []),
        (["-k", "m32", "-x"], "kvm", 3, ["-n", "3", *BY_KERNEL]),
        (["-n2"], "tcg", 8, [*BY_KERNEL]),
        (["-n", "2", "--dist", "load"], "tcg", 8, []),
        (["--numprocesses=2"], "tcg", 8, [*BY_KERNEL]),
        (["-n", "0"], "tcg", 8, [*BY_KERNEL]),
        (["-n", "auto"], "tcg", 8, [*BY_KERNEL, "-n", "2"]),
    ],
)
def test_what_xdist_is_told(
    args: Sequence[str], kind: Kind, kernels: int, wanted: Sequence[str]
) -> None:
    assert sidebyside.options(args, kind, kernels=kernels) == wanted


@pytest.mark.usefixtures("four")
def test_without_xdist_there_is_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert sidebyside.options([], "kvm", kernels=8) == []


@pytest.mark.usefixtures("four")
def test_more_than_fit_are_refused() -> None:
    assert sidebyside.options(["-n", "4"], "kvm", kernels=8) == [*BY_KERNEL]
    with pytest.raises(UserError, match=r"-n 4: .* under TCG want 8 cores .* here are 4 "):
        sidebyside.options(["-n", "4"], "tcg", kernels=8)


def test_this_machine_has_memory() -> None:
    assert 0 < sidebyside.available() < 1 << 24


@pytest.mark.parametrize(
    ("args", "cores", "told"),
    [
        ([], 2, ["-n", "2", "--dist", "loadfile"]),
        (["-x", "-k", "wire"], 4, ["-n", "4", "--dist", "loadfile"]),
        ([], 1, []),
        (["-n0"], 4, []),
        (["-n", "3"], 4, []),
        (["--dist", "load"], 4, []),
        (["--pdb"], 4, []),
    ],
)
def test_files_without_a_guest_take_a_core(
    args: Sequence[str], cores: int, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.setattr(sidebyside, "available", lambda: 9000)
    assert sidebyside.by_file(args) == told


def test_where_memory_is_short_files_are_run_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidebyside, "available", lambda: 900)
    assert sidebyside.by_file([]) == []


GROUPS = """
import os
import pathlib
import pytest

SEVERAL = [
    pytest.param(f"{name}{number}", marks=pytest.mark.xdist_group(name=name))
    for number in range(6)
    for name in ("one", "other", "third")
]

@pytest.mark.parametrize("which", SEVERAL)
def test_it(which):
    where = pathlib.Path(os.environ["RAN_IN"], which)
    where.write_text(os.environ["PYTEST_XDIST_WORKER"])
"""


def test_a_group_s_tests_are_one_worker_s(tmp_path: Path) -> None:
    """With the pytest-xdist and the pytest that are installed, whichever they are."""
    pytest.importorskip("xdist", reason="an installed package may be without pytest-xdist")
    (tmp_path / "test_groups.py").write_text(GROUPS)
    ran = tmp_path / "ran"
    ran.mkdir()
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", *BY_KERNEL]
    argv += ["--rootdir", str(tmp_path), "--report", str(tmp_path / "report")]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [*argv, str(tmp_path / "test_groups.py")],
        env={**env, "RAN_IN": str(ran)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    workers = defaultdict(set)
    for path in ran.iterdir():
        workers[path.name[:-1]].add(path.read_text())
    assert sorted(workers) == ["one", "other", "third"]
    assert all(len(names) == 1 for names in workers.values()), workers
    assert len(set.union(*workers.values())) == 2, workers
