# SPDX-License-Identifier: GPL-2.0-only
"""P18: configured off, xyzzy(2) is ENOSYS in every ABI, and the kernel builds without a warning."""

from __future__ import annotations

import dataclasses
import difflib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import prove
from harness.contract import Contract
from harness.findings import Mismatch
from harness.how import NotThere
from harness.interface import Interface
from harness.lab import Lab
from harness.report import reproducers
from harness.report.reproducers import Reproducer
from vm import build
from vm.errors import BuildError

if TYPE_CHECKING:
    from harness.abi import ABI

#: A file of the series that is compiled with the option and without it.
STUBS = "kernel/sys_ni.c"
#: What gcc has something to say of.
UNUSED = "static int xyzzy_unused;\n"


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
def test_the_program_of_one_that_answers(
    lab: Lab, lab_without: Lab, interface: Interface, tmp_path: Path
) -> None:
    """It exits 1 where there is the call, and 0 where there is not."""
    for number, way in enumerate((None, *interface.other_ways)):
        case = dataclasses.replace(interface.case(), way=way)
        one = Mismatch(
            first=str(case),
            last=str(case),
            count=1,
            allowed="ENOSYS",
            seen="success",
            cause="ENOSYS → success",
            case=case,
            how=NotThere(
                errno=errno.ENOSYS,
                contract=interface.contract,
                layout=interface.layout,
                number=interface.number(interface.contract.number, way),
                constant=interface.constant,
            ),
        )
        program = reproducers.write(interface, one, tmp_path, prop="P18", number=number)
        assert isinstance(program, Reproducer)
        said = prove.in_guest(lab, interface.target, program)
        assert said.startswith("exit 1: misbehaves: "), said
        said = prove.in_guest(lab_without, lab_without.target(), program)
        assert said.startswith("exit 0: behaves: "), said


@pytest.mark.prop("P18")
def test_it_builds_without_a_warning(lab: Lab, lab_without: Lab) -> None:
    """With the option and without it."""
    for one in (lab, lab_without):
        assert one.built.record["warnings"] == []
        log = (one.built.directory / "make.log").read_text()
        assert "warning:" not in log.lower()
    off = lab_without.built.config.read_text()
    assert "# CONFIG_XYZZY_SYSCALL is not set" in off


@pytest.mark.prop("P18")
@pytest.mark.parametrize("option", ["on", "off"])
def test_a_warning_would_have_been_seen(
    lab: Lab, lab_without: Lab, tmp_path: Path, option: str
) -> None:
    """A variable that nobody uses: the same build, refused by that line."""
    setup = lab.setup if option == "on" else lab_without.setup
    before = (lab.built.tree / STUBS).read_text().splitlines(keepends=True)
    names = (f"a/{STUBS}", f"b/{STUBS}")
    patch = tmp_path / "unused.patch"
    patch.write_text("".join(difflib.unified_diff(before, [*before, UNUSED], *names)))
    faulty = Lab(dataclasses.replace(setup, patches=(patch,)))
    try:
        with pytest.raises(BuildError, match=rf"{STUBS}:\d+.*xyzzy_unused.*-Wunused"):
            _ = faulty.built
        assert not faulty.order.there
    finally:
        build.forget(faulty.order)
