# SPDX-License-Identifier: GPL-2.0-only
"""Reproducers in a guest: what the battery finds is what a program of its own finds again.

The kernel is right here, and the contract is made wrong: one promise is
changed, the battery turns red, and the program that it yields exits 1.  With
the true contract the same call's program exits 0, and so does every other.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import itertools
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import case as cases
from harness.battery import BATTERY, Level
from harness.case import Case, Protection
from harness.contract import (
    PAGE,
    Contract,
    Copy,
    FetchSize,
    Flags,
    ReadBack,
    SizeBounds,
    Tail,
    UnknownBits,
)
from harness.findings import ContractBrokenError, Mismatch
from harness.interface import Interface
from harness.lab import Lab
from harness.report import repro

STATIC = ("-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s")
#: For a program in the guest, which has ten seconds for its call.
SECONDS = 60.0
#: Mismatches of one run that are made into programs.
MOST = 3

Run = Callable[[Path], tuple[int | None, str]]


@pytest.fixture
def in_guest(lab: Lab, interface: Interface) -> Iterator[Run]:
    """Compile a source for the ABI and run it in the guest: exit code and output.

    The guest sees its root directory over 9p, which keeps what it has looked up
    but asks for names that it never saw: a directory of a new name is found.
    """
    numbers = itertools.count()
    made: list[Path] = []

    def run(source: Path) -> tuple[int | None, str]:
        where = lab.root / f"repro-{source.parent.name}-{next(numbers)}"
        where.mkdir()
        made.append(where)
        program = where / "repro"
        subprocess.run(["gcc", interface.abi.cflag, *STATIC, "-o", program, source], check=True)
        inside = f"/{program.relative_to(lab.root)}"
        done = interface.target.execute([inside], seconds=SECONDS)
        return done.code, done.output

    yield run
    for where in made:
        shutil.rmtree(where)


def changed(contract: Contract, kind: type, **fields: int | bool) -> Contract:
    """The contract with one promise of its checks changed."""
    checks = tuple(
        dataclasses.replace(check, **fields) if isinstance(check, kind) else check  # type: ignore[arg-type]
        for check in contract.checks
    )
    return dataclasses.replace(contract, checks=checks)


def with_flags_errno(contract: Contract) -> Contract:
    args = tuple(
        dataclasses.replace(arg, errno=errno.EBADF) if isinstance(arg, Flags) else arg
        for arg in contract.args
    )
    return dataclasses.replace(contract, args=args)


#: A promise changed, and the property whose items notice.
WRONG: dict[str, tuple[str, Callable[[Contract], Contract]]] = {
    "a tail's errno": ("P3", lambda c: changed(c, Tail, errno=errno.EINVAL)),
    "by every way": ("P12", lambda c: changed(c, Tail, errno=errno.EINVAL)),
    "the size that is too small": ("P1", lambda c: changed(c, SizeBounds, too_small=errno.EINVAL)),
    "no write-back": ("P4", lambda c: changed(c, SizeBounds, writes_size=False)),
    "a fault": ("P6", lambda c: changed(c, Copy, errno=errno.EINVAL)),
    "a fault in the tail": ("P6", lambda c: changed(c, Tail, fault=errno.E2BIG)),
    "kinds of memory": ("P8", lambda c: changed(c, FetchSize, errno=errno.EINVAL)),
    "unknown flags": ("P10", with_flags_errno),
    "unknown bits": ("P11", lambda c: changed(c, UnknownBits, errno=errno.EBADF)),
    "what is read back": (
        "P1",
        lambda c: dataclasses.replace(c, effect=ReadBack(size_holds="ksize")),
    ),
}


def mismatches(interface: Interface, prop: str) -> list[Mismatch]:
    """What the items of a property find."""
    found = []
    for item in BATTERY:
        if item.prop == prop and item.unless(interface.contract, interface.abi) is None:
            try:
                item.run(interface, Level())
            except ContractBrokenError as exc:
                found += exc.mismatches
    return found


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_contract(name: str, interface: Interface, in_guest: Run, tmp_path: Path) -> None:
    prop, change = WRONG[name]
    if prop == "P12" and not interface.other_ways:
        pytest.skip("this ABI has one way into the kernel")
    wrong = Interface(
        change(interface.contract),
        interface.abi,
        compiler=interface.compiler,
        target=interface.target,
    )
    found = [one for one in mismatches(wrong, prop) if one.case]
    assert found
    for number, mismatch in enumerate(found[:MOST], start=1):
        path = repro.write(wrong, mismatch, tmp_path / "wrong", prop=prop, number=number)
        assert path is not None
        code, output = in_guest(path)
        assert (code, output.partition(":")[0]) == (1, "misbehaves"), (mismatch, output)

        path = repro.write(interface, mismatch, tmp_path / "true", prop=prop, number=number)
        assert path is not None
        code, output = in_guest(path)
        assert (code, output.partition(":")[0]) == (0, "behaves"), (mismatch, output)


def spread(interface: Interface) -> dict[str, Case]:
    """Each place, protection, kind of pointer, upper half and way."""
    ksize = interface.ksize
    good = interface.case()
    newer = interface.case(usize=ksize + 16)
    tail = bytearray(newer.memory)
    tail[-1] = 1
    refused = dataclasses.replace(newer, memory=bytes(tail))
    huge = (1 << 32) - 1
    sized = functools.partial(cases.with_usize, interface.contract)
    found = {
        "good": good,
        "zero": interface.case(usize=0),
        "newer": newer,
        "refused": refused,
        "at the end": dataclasses.replace(newer, hole=len(newer.memory)),
        "short": dataclasses.replace(good, hole=ksize - 1),
        "nothing there": dataclasses.replace(good, hole=0),
        "hole in the tail": dataclasses.replace(newer, hole=ksize + 1),
        "at the start": dataclasses.replace(refused, at_page_start=True, shift=3),
        "moved": dataclasses.replace(refused, shift=13),
        "read-only": dataclasses.replace(good, protection=Protection.READ),
        "read-only, refused": dataclasses.replace(refused, protection=Protection.READ),
        "inaccessible": dataclasses.replace(good, protection=Protection.NONE),
        "NULL": dataclasses.replace(good, pointer=0),
        "at the top": dataclasses.replace(good, pointer=(1 << interface.abi.register) - 1),
        "a page": interface.case(usize=PAGE),
        "beyond a page": interface.case(usize=PAGE + 1),
        "huge": dataclasses.replace(good, usize=huge, memory=sized(good.memory, huge)),
        "a flag": dataclasses.replace(good, flags=((1, 2),)),
        "an unknown flag": dataclasses.replace(good, flags=((1, 1 << 31),)),
        "above the flags": dataclasses.replace(good, flags=((1, 0xFFFF_FFFF_0000_0001),)),
    }
    for way in interface.other_ways:
        for name in ("good", "refused", "short", "above the flags"):
            found[f"{name} by {way.name}"] = dataclasses.replace(found[name], way=way)
    return found


def test_a_right_contract(interface: Interface, in_guest: Run, tmp_path: Path) -> None:
    """No program accuses a kernel that keeps its promises."""
    for number, (name, case) in enumerate(spread(interface).items(), start=1):
        mismatch = Mismatch(
            first=name,
            last=name,
            count=1,
            allowed=str(interface.predict(case)),
            seen="another",
            cause="for a test",
            case=case,
        )
        path = repro.write(interface, mismatch, tmp_path, prop="P17", number=number)
        assert path is not None
        code, output = in_guest(path)
        assert (code, output.partition(":")[0]) == (0, "behaves"), (name, output)
