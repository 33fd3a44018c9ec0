# SPDX-License-Identifier: GPL-2.0-only
"""P18: configured off, xyzzy(2) is ENOSYS in every ABI, and the kernel builds without a warning."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from harness.contract import Contract
from harness.interface import Interface
from harness.lab import Lab

if TYPE_CHECKING:
    from pathlib import Path

    from harness.abi import ABI


@pytest.fixture(scope="session")
def lab_without(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The same kernel with CONFIG_XYZZY_SYSCALL off."""
    report: Path = tmp_path_factory.mktemp("off")
    without = Lab(dataclasses.replace(lab.setup, variant="off", report=report))
    yield without
    without.close()


@pytest.mark.prop("P18")
def test_enosys(lab: Lab, lab_without: Lab, contract: Contract, abi: ABI) -> None:
    """By every way into the kernel; the number and the header are those of the kernel with it."""
    target = lab_without.target()
    interface = Interface(contract, abi, compiler=lab.compiler, target=target)
    for case in (interface.case(), dataclasses.replace(interface.case(), pointer=0)):
        for way in (None, *interface.other_ways):
            seen = interface.observe(dataclasses.replace(case, way=way))
            assert seen.errno == errno.ENOSYS, way


@pytest.mark.prop("P18")
def test_it_builds_without_a_warning(lab: Lab, lab_without: Lab) -> None:
    """With the option and without it."""
    for one in (lab, lab_without):
        log = (one.built.directory / "make.log").read_text()
        assert "warning:" not in log
    off = lab_without.built.config.read_text()
    assert "# CONFIG_XYZZY_SYSCALL is not set" in off
