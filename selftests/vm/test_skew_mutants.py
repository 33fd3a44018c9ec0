# SPDX-License-Identifier: GPL-2.0-only
"""Faulty kernels of VER1: the cells of the matrix that a fault hits are red, and no other is."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.findings import ContractBrokenError
from harness.skew import matrix
from harness.skew.labs import Age, SkewLab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.lab import Lab

MUTANTS = Path(__file__).resolve().parent.parent.parent / "kernel-patches" / "mutants"
#: A mutant on top of VER1, and the rows that it turns red.
FAULTS = {
    # Who passes less than the kernel's struct: programs of the first version.
    "48-no-zero-extension": {"VER0", "VER0-VER1"},
    # Who passes more: a program that is newer is not told what it may pass.
    "49-no-write-back": {"VER1-VER2", "VER2", "VER2-VER3", "VER3"},
}


@pytest.fixture(params=FAULTS)
def faulty(request: pytest.FixtureRequest, lab: Lab, tmp_path: Path) -> Iterator[SkewLab]:
    """A kernel of VER1 with a fault."""
    patch = MUTANTS / f"{request.param}.patch"
    setup = dataclasses.replace(lab.setup, patches=(patch,), report=tmp_path)
    with contextlib.closing(SkewLab(setup, Age(kernel=lab.setup.kernel, variant="ver1"))) as found:
        yield found


def test_the_right_cells_are_red(request: pytest.FixtureRequest, faulty: SkewLab) -> None:
    red, said = set(), []
    for row in faulty.rows:
        for abi in faulty.setup.abis:
            try:
                matrix.check(faulty.cell(row, abi))
            except ContractBrokenError as exc:
                red.add((row.name, abi.name))
                said.append(str(exc))
    wanted = FAULTS[request.node.callspec.params["faulty"]]
    assert red == {(name, abi.name) for name in wanted for abi in faulty.setup.abis}, said
    faulty.verify_alive()
