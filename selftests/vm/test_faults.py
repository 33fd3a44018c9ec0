# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that are wrong: the right row is red, and its reproducers fail there and nowhere else."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import prove
from harness.batteries import BATTERY, Level
from harness.contract import Contract
from harness.findings import ContractBrokenError, Mismatch
from harness.interface import Interface
from harness.lab import Lab
from harness.report import reproducers

MUTANTS = Path(__file__).resolve().parent.parent.parent / "kernel-patches" / "mutants"
#: Programs of one property that are compiled and run on both kernels.
MOST = 3


@dataclasses.dataclass(frozen=True)
class Fault:
    """What a mutant turns red: a property, in some ABIs."""

    prop: str
    abis: tuple[str, ...] = ("m64", "m32", "mx32")


FAULTS = {
    "09-tail-unchecked": Fault("P3"),
    "22-size-fetched-twice": Fault("P16"),
    "82-no-tracepoint": Fault("P22"),
}


@pytest.fixture(params=FAULTS, scope="module")
def faulty(
    request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Fault, Lab]]:
    """A kernel with a fault, and what it is."""
    patch = MUTANTS / f"{request.param}.patch"
    report = tmp_path_factory.mktemp("faulty")
    setup = dataclasses.replace(lab.setup, patches=(patch,), report=report)
    with contextlib.closing(Lab(setup)) as found:
        yield FAULTS[request.param], found


def broken(interface: Interface, prop: str) -> list[Mismatch]:
    """What the items of a property find."""
    found = []
    for item in BATTERY:
        if item.prop == prop and item.unless(interface.contract, interface.abi) is None:
            try:
                item.run(interface, Level())
            except ContractBrokenError as exc:
                found += exc.mismatches
            except AssertionError:
                continue  # the same fault, as another item has it that has no call to show
    return found


def run(lab: Lab, interface: Interface, one: Mismatch, source: Path) -> str:
    headers = lab.compiler.headers if one.cause == "layout" else None
    return prove.in_guest(lab, interface, source, headers=headers)


def test_the_right_row_is_red_and_its_programs_fail_there(
    faulty: tuple[Fault, Lab], lab: Lab, interface: Interface, contract: Contract, tmp_path: Path
) -> None:
    fault, other = faulty
    there = Interface(
        contract,
        interface.abi,
        compiler=other.compiler,
        target=other.target(),
        described=other.described,
    )
    found = broken(there, fault.prop)
    if interface.abi.name not in fault.abis:
        assert not found
        return
    assert found
    for number, one in enumerate(found[:MOST], start=1):
        path = reproducers.write(there, one, tmp_path, prop=fault.prop, number=number)
        assert path is not None, one
        said = run(other, there, one, path)
        assert said.startswith("exit 1: "), (one, said)
        said = run(lab, interface, one, path)
        assert said.startswith("exit 0: "), (one, said)
    other.verify_alive()
