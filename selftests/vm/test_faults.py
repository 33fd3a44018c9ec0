# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that are wrong: the right row is red, and its reproducers fail there and nowhere else.

Faults that do not hide each other share a kernel.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import blame, interfaces, prove
from harness.batteries import BATTERY, Level
from harness.contract import Contract
from harness.findings import ContractBrokenError, Mismatch
from harness.how import InAnotherAbi
from harness.interface import Interface
from harness.lab import Lab
from harness.report import reproducers
from harness.report.reproducers import Reproducer
from harness.splats import SplatError
from harness.sweep import Dim, Kind, Sweep
from vm.console import Event

ROOT = Path(__file__).resolve().parent.parent.parent
MUTANTS = ROOT / "kernel-patches" / "mutants"
#: Faults of which a mutant would be none: what they break shows in several properties.
FAULTS = Path(__file__).resolve().parent / "faults"
#: Programs of one property that are compiled and run on both kernels.
MOST = 2
ALL = ("m64", "m32", "mx32")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Red:
    """What a kernel turns red: items of a property, in some ABIs."""

    prop: str
    items: tuple[str, ...] = ()  #: none named: all
    abis: tuple[str, ...] = ALL
    contract: Path | None = None  #: of another sample than xyzzy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kernel:
    """Patches on top of the sample's, and what they break."""

    patches: tuple[Path, ...]
    rows: tuple[Red, ...]
    warns: int = 0  #: of this usize; 0: of none


def _mutants(*names: str) -> tuple[Path, ...]:
    return tuple(MUTANTS / f"{name}.patch" for name in names)


SECOND_SAMPLE = MUTANTS / "base-sizearg"
KERNELS = {
    "09-69-82-and-several": Kernel(
        patches=(
            *_mutants("09-tail-unchecked", "69-number-with-garbage", "82-no-tracepoint"),
            FAULTS / "several.patch",
        ),
        rows=(
            Red(prop="P3"),
            Red(prop="P12", items=("upper-half-of-the-number",), abis=("m64", "mx32")),
            Red(prop="P15"),
            Red(prop="P20", items=("close-on-exec",)),
            Red(prop="P20", items=("lowest-free-number-and-no-leak",)),
            Red(prop="P22", items=("tracepoints-show-the-call",)),
            Red(prop="P23", items=("calls-without-a-descriptor-keep-nothing",)),
        ),
        warns=3000,
    ),
    "22-size-fetched-twice": Kernel(
        patches=_mutants("22-size-fetched-twice"), rows=(Red(prop="P16"),)
    ),
    "30-and-a-moved-field": Kernel(
        patches=(
            *sorted(SECOND_SAMPLE.glob("*.patch")),
            *_mutants("30-plain-u64"),
            FAULTS / "moved-field.patch",
        ),
        rows=(
            Red(prop="P14", items=("declaration-and-header",)),
            Red(prop="P14", abis=("m32",), contract=SECOND_SAMPLE / "contract.py"),
        ),
    ),
}


@pytest.fixture(params=KERNELS, scope="module")
def faulty(
    request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Kernel, Lab]]:
    """A kernel with faults, and what they are."""
    kernel = KERNELS[request.param]
    report = tmp_path_factory.mktemp("faulty")
    setup = dataclasses.replace(lab.setup, patches=kernel.patches, report=report)
    with contextlib.closing(Lab(setup)) as found:
        yield kernel, found


def broken(interface: Interface, row: Red) -> list[Mismatch]:
    """What the items of a row find."""
    found = []
    for item in BATTERY:
        wanted = item.prop == row.prop and (not row.items or item.name in row.items)
        if wanted and item.unless(interface.contract, interface.abi) is None:
            with contextlib.suppress(pytest.skip.Exception):
                try:
                    item.run(interface, Level())
                except ContractBrokenError as exc:
                    found += exc.mismatches
    return found


def test_the_right_row_is_red_and_its_programs_fail_there(
    faulty: tuple[Kernel, Lab], lab: Lab, interface: Interface, contract: Contract, tmp_path: Path
) -> None:
    kernel, other = faulty
    for at, row in enumerate(kernel.rows):
        its = interfaces.load(str(row.contract)) if row.contract else contract
        there = Interface(
            its,
            interface.abi,
            compiler=other.compiler,
            target=other.target(),
            described=other.described,
        )
        found = broken(there, row)
        assert bool(found) is (interface.abi.name in row.abis), (row, found)
        for number, one in enumerate(found[:MOST], start=1):
            where = tmp_path / str(at)
            program = reproducers.write(there, one, where, prop=row.prop, number=number)
            assert isinstance(program, Reproducer), one
            assert program.abi == (one.how.abi if isinstance(one.how, InAnotherAbi) else there.abi)
            said = prove.in_guest(other, other.target(), program)
            assert said.startswith("exit 1: misbehaves: "), (one, said)
            if row.contract is None:  # the right kernel does not have the second sample
                said = prove.in_guest(lab, lab.target(), program)
                assert said.startswith("exit 0: behaves: "), (one, said)
    if kernel.warns:
        there = Interface(contract, interface.abi, compiler=other.compiler, target=other.target())
        warned(other, lab, there, kernel.warns, tmp_path)
    other.verify_alive()


def warned(other: Lab, lab: Lab, interface: Interface, usize: int, where: Path) -> None:
    """The kernel reports something: it is laid at a call's door, and its program shows it."""
    other.listen()
    other.heard()
    sizes = Dim(kind=Kind.USIZE, start=usize - 3, stop=usize + 4)
    interface.sweep(Sweep(dims=(sizes,), template=interface.template()))
    told: list[Mismatch] = []

    def explain(event: Event) -> str:
        told.append(blame.find(other, event, interface, brief=False).mismatch(event))
        return ""

    with pytest.raises(SplatError):
        other.verify_alive(explain, abi=interface.abi.name)
    (one,) = told
    assert one.case is not None
    assert one.case.usize == usize
    program = reproducers.write(interface, one, where / "warned", prop="P23", number=1)
    assert isinstance(program, Reproducer)
    other.listen()
    said = prove.in_guest(other, other.target(), program)
    assert said.startswith("exit 1: misbehaves: the kernel reports: WARNING: "), said
    other.heard()
    said = prove.in_guest(lab, lab.target(), program)
    assert said.startswith("exit 0: behaves: "), said
