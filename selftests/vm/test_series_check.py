# SPDX-License-Identifier: GPL-2.0-only
"""The series' checks that build nothing; `make series-check` has all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.lab import Lab
from vm import kernels
from vm.review import run, table
from vm.review.bench import Bench

TABLE = table.load()


@pytest.fixture(scope="module")
def bench(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The series for the kernel of this run."""
    report: Path = tmp_path_factory.mktemp("series-check")
    return Bench(
        kernel=kernels.kernel(lab.setup.kernel),
        table=TABLE,
        report=report,
        jobs=1,
        mirror=lab.setup.mirror,
        cache=lab.setup.cache,
    )


@pytest.mark.parametrize("name", [one.name for one in TABLE.checks if one.quick])
def test_check(bench: Bench, name: str) -> None:
    (result,) = run.run(bench, [name])
    if result.result == "skipped":
        pytest.skip(result.lines[0])
    assert result.result == "passed", "\n".join(result.lines)
