# SPDX-License-Identifier: GPL-2.0-only
"""harness/skew/bench.py: what stands beside a figure, and how a measurement fails."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from harness.abi import ABIS
from harness.lab import Setup
from harness.skew import bench
from vm import kernelset, patches, paths
from vm.errors import InfraError


def record(source: str, wall: float, *, incremental: bool, made: str = "") -> dict[str, Any]:
    """What matters here of a build.json."""
    return {
        "source": source,
        "release": source,
        "incremental": incremental,
        "seconds_wall": wall,
        "seconds_cpu": wall * 2,
        "made": made,
        "fragments": ["base"],
    }


def test_the_sum_beside_it_is_that_of_kernels_each_from_nothing() -> None:
    found = bench.Cold(
        seconds=530.0,
        records={
            "6.12 ver0": record("6.12.117", 200.0, incremental=False),
            "6.12 ver1": record("6.12.117", 12.0, incremental=True),
            "6.1 ver0": record("6.1.192", 300.0, incremental=False),
            "6.1 ver1": record("6.1.192", 9.0, incremental=True),
        },
    )
    assert (found.cpu, found.apart) == (1042.0, 1000.0)
    out = io.StringIO()
    bench.show(found, Console(file=out, width=120))
    rows = [line.strip("│ ") for line in out.getvalue().splitlines() if line.startswith("│")]
    assert [row.split()[:2] for row in rows[:4]] == [
        name.split() for name in ("6.12 ver0:", "6.12 ver1:", "6.1 ver0:", "6.1 ver1:")
    ]
    assert rows[1].endswith("onto objects that were there")
    assert rows[4].split()[:4] == ["all", "│", "530", "│"]
    assert rows[5].split()[:5] == ["each", "from", "nothing", "│", "1000"]


def test_it_is_measured_in_a_cache_of_its_own_that_goes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(paths.CACHE_VARIABLE, str(tmp_path / "cache"))
    one = record("6.12.117", 200.0, incremental=False)
    used: list[Path] = []

    def run(argv: Sequence[str], *, seconds: float, log: Path, env: Mapping[str, str]) -> None:
        assert argv[1:] == ["-m", "harness", "kernels", "--jobs", "3"]
        assert seconds > 20 * 60
        assert log.parent.is_dir()
        used.append(Path(env[paths.CACHE_VARIABLE]))
        (used[0] / "kernels" / "a").mkdir(parents=True)
        (used[0] / "kernels" / "a" / "build.json").write_text(json.dumps(one))

    def members(*, jobs: int, mirror: None, cache: Path) -> list[SimpleNamespace]:
        place = SimpleNamespace(directory=cache / "kernels" / "a")
        return [SimpleNamespace(name="6.12 ver0", order=place)]

    monkeypatch.setattr(bench, "_run", run)
    monkeypatch.setattr(kernelset, "members", members)
    bench.run_cold(Setup(abis=ABIS, report=tmp_path / "report", jobs=3))
    assert used[0].parent == tmp_path  # on the same file system, and not in the cache
    assert not used[0].exists()
    kept = json.loads((tmp_path / "report" / "bench-cold.json").read_text())
    assert kept["kernels"] == {"6.12 ver0": one}
    assert kept["each_from_nothing"] == 200.0


def test_a_build_from_nothing_is_found_in_the_cache(tmp_path: Path) -> None:
    """The newest of that series and configuration, and none that found objects."""
    for name, one in {
        "linux-6.12-a": record("a", 400.0, incremental=False, made="2025-01-01"),
        "linux-6.12-b": record("b", 300.0, incremental=False, made="2025-02-01"),
        "linux-6.12-c": record("c", 10.0, incremental=True, made="2025-03-01"),
        "linux-6.12-all": record("all", 900.0, incremental=False, made="2025-03-02")
        | {"fragments": ["base", "all"]},
        "linux-6.1-d": record("d", 500.0, incremental=False, made="2025-04-01"),
        "tree-0-e": record("e", 600.0, incremental=False, made="2025-05-01"),
    }.items():
        (tmp_path / "kernels" / name).mkdir(parents=True)
        (tmp_path / "kernels" / name / "build.json").write_text(json.dumps(one))
    found = [bench.from_nothing(tmp_path, name, ["base"]) for name in ("6.12", "6.1")]
    assert [one and one["source"] for one in found] == ["b", "d"]
    assert bench.from_nothing(tmp_path / "empty", "6.12", ["base"]) is None


def test_the_trial_is_a_patch_that_brings_nothing(tmp_path: Path) -> None:
    path = tmp_path / "trial.patch"
    path.write_text(bench.TRIAL)
    (patch,) = patches.single([path]).patches
    (diff,) = patch.files
    assert (diff.old, Path(str(diff.new)).parts[0]) == (None, "Documentation")


def test_a_command_that_fails_is_no_figure(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "print('what was wrong'); raise SystemExit(3)"]
    with pytest.raises(InfraError, match=r"exit code 3:\nwhat was wrong"):
        bench._run(argv, seconds=60.0, log=tmp_path / "log", env={})


def test_a_command_that_does_not_end_is_ended(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(InfraError, match=r"no end within 0.2 s"):
        bench._run(argv, seconds=0.2, log=tmp_path / "log", env={})
