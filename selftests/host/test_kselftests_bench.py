# SPDX-License-Identifier: GPL-2.0-only
"""harness/kselftests/bench.py: what it measures nothing of, and how a measurement fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from harness.abi import ABIS
from harness.bench import Figure
from harness.kselftests import bench, table
from harness.lab import Lab, Setup
from vm.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What stands for `extsys conformance`: it leaves the results of one interface.
RUN = """
import json, pathlib, sys
report = pathlib.Path(sys.argv[sys.argv.index("--report") + 1]) / "linux-6.12"
report.mkdir(parents=True)
rows = [{"calls": 20, "interface": "openat2"}, {"calls": 5, "interface": None}]
(report / "results.json").write_text(json.dumps({"release": "6.12.1", "results": rows}))
"""


class FakeLab:
    """As much of a Lab as is used."""

    def __init__(self, report: Path) -> None:
        self.setup = Setup(abis=ABIS, report=report, kernel="6.12", variant="conformance")
        self.accel = type("Accel", (), {"kind": "tcg"})

    def restart(self) -> None:
        """There is no guest."""


def whole(report: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> list[Figure]:
    start = subprocess.Popen

    def popen(argv: Sequence[str], **how: object) -> object:
        assert argv[:4] == [sys.executable, "-m", "harness", "conformance"]
        return start([sys.executable, "-c", program, *argv[4:]], **how)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", popen)
    return bench.whole(cast("Lab", FakeLab(report)))


def test_the_whole_is_measured_on_the_clock_and_of_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds, cpu, rate = whole(tmp_path, monkeypatch, RUN)
    assert seconds.name == "quick battery, 1 interfaces, 3 ABIs, Linux 6.12.1"
    assert cpu.ours[0] > 0
    assert rate.ours[0] == pytest.approx(25 / seconds.ours[0])


def test_a_run_without_results_is_no_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InfraError, match="exit code 3, and no results"):
        whole(tmp_path, monkeypatch, "raise SystemExit(3)")


def test_a_kernel_of_the_users_has_no_figures(tmp_path: Path) -> None:
    assert bench.figures(Lab(Setup(abis=ABIS, report=tmp_path, local=True))) == []


def test_the_selftest_that_is_beside_counts_its_checks() -> None:
    assert table.load().program(bench.PROGRAM).interface == bench.INTERFACE
