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
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import (
    battery_kernel,
    battery_outside,
    battery_pointer,
    battery_stall,
    interfaces,
    prove,
    stall,
)
from harness import case as cases
from harness.abi import ABI
from harness.batteries import BATTERY, Level
from harness.case import Case, Protection
from harness.contract import (
    PAGE,
    Contract,
    Copy,
    FetchSize,
    Flags,
    Made,
    Piece,
    Points,
    ReadBack,
    SizeBounds,
    Step,
    Tail,
    UnknownBits,
    piece_at,
)
from harness.findings import ContractBrokenError, Mismatch
from harness.how import (
    Above4GiB,
    AsTheWhole,
    Claims,
    CloseOnExec,
    PastTheEnd,
    StepFails,
    WithoutDescriptors,
)
from harness.interface import Interface
from harness.lab import Lab
from harness.outside import Filter
from harness.report import repro, reproducers
from harness.report.reproducers import Reproducer

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


# What takes more than one plain call.


def said_of(
    lab: Lab, interface: Interface, one: Mismatch, where: Path, prop: str, number: int = 1
) -> str:
    program = reproducers.write(interface, one, where, prop=prop, number=number)
    assert isinstance(program, Reproducer), one
    return prove.in_guest(lab, interface.target, program)


def shown_by(how: object, case: Case | None) -> Mismatch:
    return Mismatch(
        first=str(case),
        last="",
        count=1,
        allowed="what it does",
        seen="another",
        cause="for a test",
        case=case,
        how=how,
    )


def found_by(interface: Interface, name: str) -> list[Mismatch]:
    """What one item of the battery finds."""
    (item,) = (item for item in BATTERY if item.name == name)
    with pytest.raises(ContractBrokenError) as caught:
        item.run(interface, Level())
    return caught.value.mismatches


def of(interface: Interface, contract: Contract) -> Interface:
    """Another contract in the same ABI on the same target."""
    return Interface(contract, interface.abi, compiler=interface.compiler, target=interface.target)


#: A promise changed, and the item that notices with more than a plain call.
WRONG_APART: dict[str, tuple[str, str, Callable[[Contract], Contract]]] = {
    "past a file's end": (
        "P8",
        "past-the-end-of-a-file",
        lambda c: changed(c, Copy, errno=errno.EINVAL),
    ),
    "another flag closes": (
        "P20",
        "close-on-exec",
        lambda c: dataclasses.replace(c, effect=ReadBack(cloexec=(1, 1 << 1))),
    ),
}


@pytest.mark.parametrize("name", WRONG_APART)
def test_a_wrong_contract_apart(name: str, lab: Lab, interface: Interface, tmp_path: Path) -> None:
    prop, item, change = WRONG_APART[name]
    wrong = of(interface, change(interface.contract))
    for number, one in enumerate(found_by(wrong, item), start=1):
        said = said_of(lab, wrong, one, tmp_path, prop, number)
        assert said.startswith("exit 1: misbehaves: "), (one, said)
    true = [shown_by(CloseOnExec(wanted=False), interface.case())]
    if prop == "P8":
        true = [dataclasses.replace(one, how=PastTheEnd()) for one in found_by(wrong, item)]
    for one in true:
        said = said_of(lab, interface, one, tmp_path / "true", prop)
        assert said.startswith("exit 0: behaves: "), (one, said)


def test_a_contract_with_a_field_moved(lab: Lab, interface: Interface, tmp_path: Path) -> None:
    """P14 is red in this ABI, and its program says so to this ABI's compiler."""
    moved = re.sub(
        r"(__u32 param_1;)\s*(__aligned_u64 param_2;)\s*(__aligned_u64 param_3;)",
        r"\1 \3 \2",
        interface.asked.declaration,
    )
    assert moved != interface.asked.declaration
    wrong = of(interface, dataclasses.replace(interface.asked, declaration=moved))
    (one,) = found_by(wrong, "declaration-and-header")
    said = said_of(lab, wrong, one, tmp_path, "P14")
    assert said.startswith("exit 1: misbehaves: param_"), said
    assert isinstance(one.how, Claims)
    fields = {field.name: field for field in interface.layout.fields}
    right = [
        dataclasses.replace(claim, wanted=fields[claim.what].offset)
        if claim.what in fields
        else claim
        for claim in one.how.claims
    ]
    true = dataclasses.replace(one, how=dataclasses.replace(one.how, claims=tuple(right)))
    said = said_of(lab, interface, true, tmp_path / "true", "P14")
    assert said.startswith("exit 0: behaves: "), said


def test_an_errno_behind_all_checks(lab: Lab, interface: Interface, tmp_path: Path) -> None:
    """With no descriptor left it is EMFILE, and nothing else."""
    for number, code in ((0, errno.EMFILE), (1, errno.ENFILE)):
        one = shown_by(WithoutDescriptors(errno=code), interface.case())
        said = said_of(lab, interface, one, tmp_path, "P23", number)
        assert said.startswith(f"exit {number}: "), said


def test_an_answer_that_is_filled_in(lab: Lab, interface: Interface, tmp_path: Path) -> None:
    """sched_getattr(2): a short struct gets the beginning of the whole one's, but for the size."""
    its = of(interface, interfaces.load("sched_getattr"))
    whole, short = its.case(), its.case(usize=its.contract.versions[0].size)
    for number, spans in enumerate((((4, 48),), ((0, 48),))):
        one = shown_by(AsTheWhole(whole=whole, spans=spans), short)
        said = said_of(lab, its, one, tmp_path, "P2", number)
        assert said.startswith(f"exit {number}: "), said


def test_an_address_above_4_gib(lab: Lab, interface: Interface, tmp_path: Path) -> None:
    """clone3(2): one that is as good as below, and one that leads nowhere below."""
    if interface.abi.pointer == 4:
        pytest.skip("a program of this ABI has no memory above 4 GiB")
    its = of(interface, interfaces.load("clone3"))
    (check,) = its.contract.pointers
    assert isinstance(check, Points)
    high, low, nowhere = (
        its.case(**{**check.beside, check.field: value})
        for value in (battery_pointer.high_of(check), piece_at(check.at), PAGE)
    )
    for number, below in enumerate((low, nowhere)):
        how = Above4GiB(low=below, fault=check.errno, at=battery_pointer.HIGH_PIECES)
        said = said_of(lab, its, shown_by(how, high), tmp_path, "P13", number)
        assert said.startswith(f"exit {number}: "), said


def test_a_step_that_fails(lab: Lab, interface: Interface, tmp_path: Path) -> None:
    """P24's programs; a kernel that injects no faults has none that could be tried."""
    there = battery_kernel.has(interface, battery_kernel.FAIL_NTH.decode())
    settings = tuple(battery_kernel.FAULT_SETTINGS.items())
    for number, stated in enumerate(((0, errno.ENOMEM, errno.EFAULT), (errno.EBADF,))):
        how = StepFails(nth=1, stated=stated, settings=settings if there else ())
        one = shown_by(how, interface.case())
        said = said_of(lab, interface, one, tmp_path, "P24", number)
        wanted = f"exit {number}: " if there else "exit 2: could not try: fail-nth: "
        assert said.startswith(wanted), said


def with_a_set_up(contract: Contract) -> Contract:
    """The contract with a third argument, which the call does not have, and bytes to point to."""
    return dataclasses.replace(
        contract,
        args=(*contract.args, Made(step="copy")),
        setup=(Step(call="dup", args=(0,), name="copy"),),
        pieces=(Piece(at=0, data=b"laid out"),),
    )


def test_with_a_set_up(lab: Lab, interface: Interface, tmp_path: Path) -> None:
    """P16 and P22 of a call that needs a descriptor and bytes at an address."""
    its = of(interface, with_a_set_up(interface.contract))
    way = its.ways[0]
    case = battery_outside.accepted(its, way)
    this = Filter(
        arch=battery_outside.arch_of(its, way),
        number=its.number(its.contract.number, way),
        action=battery_outside.TELL,
        args={2: its.made["copy"]},
    )
    other = dataclasses.replace(this, args={2: its.made["copy"] ^ 1})
    (stalled, *_) = battery_stall.changes(its, Level(), stall.Late.SECOND)
    shown = [
        battery_outside.watch(its, case, way, filter=this, decides=True),
        battery_outside.watch(its, case, way, filter=other),
        battery_outside.watch(its, case, way, traced=True),
        stalled,
    ]
    for number, how in enumerate(shown):
        prop = "P16" if isinstance(how, stall.Stall) else "P22"
        said = said_of(lab, its, shown_by(how, None), tmp_path, prop, number)
        assert said.startswith("exit 0: behaves: "), (how, said)
    wrong = battery_outside.watch(its, case, way, filter=other, decides=True)
    said = said_of(lab, its, shown_by(wrong, None), tmp_path / "wrong", "P22")
    assert said.startswith("exit 1: misbehaves: "), said


def test_a_queued_call(lab: Lab, abi: ABI, tmp_path: Path) -> None:
    """P16 of an entry of an io_uring: openat2's, with the true contract and with another errno."""
    contract = interfaces.load("io_uring_openat2")
    its = Interface(contract, abi, compiler=lab.compiler, target=lab.target())
    if reason := its.left_open((0, 0)):
        pytest.skip(f"{reason}; VARIANT=conformance has it")
    wrong = of(its, changed(contract, UnknownBits, errno=errno.EBADF))
    for one in found_by(wrong, "fields-changed-during-the-copy")[:MOST]:
        said = said_of(lab, wrong, one, tmp_path / "wrong", "P16")
        assert said.startswith("exit 1: misbehaves: "), (one, said)
        said = said_of(lab, its, one, tmp_path / "true", "P16")
        assert said.startswith("exit 0: behaves: "), (one, said)
