# SPDX-License-Identifier: GPL-2.0-only
"""Exploration: it finds planted deviations, shrinks them, and stays within the contract.

The kernel is the model with a deviation planted in it, so that what is to be
found is known; once, it is this machine's own.
"""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import hosttarget
import pytest
from hypothesis import configuration, core

from harness import explore, interfaces, layout
from harness.abi import ABI, ABIS, WAYS, Way, abi
from harness.battery import BATTERY, Level
from harness.case import Case, Protection
from harness.contract import AtMost, Contract, Nothing, OnlyWith, ReadBack, Tail, UnknownBits
from harness.explore import EXAMPLES, SMALL, Space
from harness.findings import ContractBrokenError, Mismatch
from harness.how import NoProgram
from harness.interface import Interface, Observed
from harness.layout import Layout
from harness.model import Outcome
from harness.program import AREA_BYTES
from harness.target import Target
from vm.errors import GuestError, Verdict

XYZZY = interfaces.load("xyzzy")
OPENAT2 = interfaces.load("openat2")
KSIZE = 24
NONBLOCK = 1 << 1

#: The kernel: what it does with a case, as a deviation from the model.
Kernel = Callable[[Space, Case], Outcome]


def layout_of(contract: Contract, one: ABI) -> Layout:
    names = layout.field_names(contract.declaration, contract.struct)
    return layout.layout(
        hosttarget.COMPILER,
        one,
        struct=contract.struct,
        fields=names,
        declaration=contract.declaration,
    )


def space_for(contract: Contract, one: ABI) -> Space:
    return Space(
        contract=contract,
        layout=layout_of(contract, one),
        register=one.register,
        size_bits=32 if contract is XYZZY else one.register,
        ways=WAYS[one.name][1:],
    )


class Modelled(Interface):
    """An interface whose kernel is the model, and whatever was planted in it."""

    def __init__(self, kernel: Kernel, contract: Contract = XYZZY, one: ABI = ABIS[0]) -> None:
        nowhere = cast("Target", SimpleNamespace(capabilities=-1))  # it may do everything
        super().__init__(contract, one, compiler=hosttarget.COMPILER, target=nowhere)
        self.kernel = kernel
        self.space = space_for(contract, one)
        self.requests: list[list[Case]] = []

    @property
    def layout(self) -> Layout:
        return self.space.layout

    @property
    def other_ways(self) -> list[Way]:
        return list(self.ways[1:])

    def answer(self, batch: Sequence[Case]) -> list[list[Mismatch]]:
        self.requests.append(list(batch))
        found = []
        for case in batch:
            did = self.kernel(self.space, case)
            held = did.held if isinstance(self.contract.effect, ReadBack) else None
            seen = Observed(
                errno=did.errno, written=did.written, held=held, strayed=False, results=()
            )
            found.append(self.compare(case, seen))
        return found

    def explore(self, rounds: int = explore.QUICK_ROUNDS) -> None:
        explore.explore(self, self.answer, rounds=rounds)


def obeying(space: Space, case: Case) -> Outcome:
    return space.predict(case)


def drawn(contract: Contract, one: ABI, rounds: int = 2) -> list[Case]:
    """The calls that exploring makes of a kernel that keeps its promises."""
    interface = Modelled(obeying, contract, one)
    interface.explore(rounds)
    return [case for batch in interface.requests for case in batch]


# What is found, and what is left of it.


def deaf_behind_77(space: Space, case: Case) -> Outcome:
    """The tail's bytes from 77 on are taken for zero, in a call that is else accepted."""
    cut = case.memory[: KSIZE + 77].ljust(len(case.memory), b"\0")
    did = space.predict(dataclasses.replace(case, memory=cut))
    return space.predict(case) if did.errno else did


def refuses_100(space: Space, case: Case) -> Outcome:
    """No size from 100 on is taken."""
    did = space.predict(case)
    return Outcome(errno=errno.EINVAL) if case.usize >= 100 and not did.errno else did


def confuses_flags(space: Space, case: Case) -> Outcome:
    """A combination: a flag of the argument together with one of a field."""
    did = space.predict(case)
    flagged = dict(case.flags).get(1, 0) & NONBLOCK
    if did.held is not None and flagged and space.layout.get(did.held, "param_1") & 2:
        return Outcome(errno=errno.EINVAL)
    return did


def reads_on(space: Space, case: Case) -> Outcome:
    """A page that ends where the struct does is read beyond."""
    did = space.predict(case)
    if case.hole == case.usize and case.usize > KSIZE and not did.errno:
        return Outcome(errno=errno.EFAULT)
    return did


@pytest.mark.parametrize(
    ("kernel", "first", "seen"),
    [
        (deaf_behind_77, "usize 102, byte 101 = 0x01", "success"),
        (confuses_flags, "usize 24, argument 1 = 0x2, param_1 = 0x2", "EINVAL"),
        (reads_on, "usize 25, inaccessible from byte 25 on", "EFAULT"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_deviation_is_found_and_shrunk(kernel: Kernel, first: str, seen: str) -> None:
    interface = Modelled(kernel)
    with pytest.raises(ContractBrokenError) as raised:
        interface.explore(rounds=2)
    smallest = [one for one in raised.value.mismatches if one.first == first]
    assert smallest, str(raised.value)
    assert smallest[0].seen.partition(",")[0] == seen
    # The case is whole: it alone shows the fault again.
    case = smallest[0].case
    assert case is not None
    assert interface.answer([case])[0]


def test_each_cause_is_shrunk_by_itself() -> None:
    def kernel(space: Space, case: Case) -> Outcome:
        did = refuses_100(space, case)
        mute = case.way is not None and case.usize < KSIZE
        return dataclasses.replace(did, written=None) if mute else did

    with pytest.raises(ContractBrokenError, match="seed 0") as raised:
        Modelled(kernel).explore()
    assert {one.first for one in raised.value.mismatches} == {
        "usize 23, by x32 bit",
        "usize 100",
    }


def test_what_shows_only_behind_other_calls_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Modelled(refuses_100)
    case = wrong.case(usize=100)
    mismatch = wrong.answer([case])[0][0]
    monkeypatch.setattr(explore, "search", lambda *_args, **_options: [(case, mismatch)])
    with pytest.raises(ContractBrokenError, match="kernel:  EINVAL, but only behind other") as told:
        Modelled(obeying).explore()
    # A program of the one call would not show it.
    assert isinstance(told.value.mismatches[0].how, NoProgram)
    with pytest.raises(ContractBrokenError, match=r"kernel:  EINVAL$"):
        wrong.explore()


def test_what_is_expected_is_found_and_not_shrunk() -> None:
    wrong = Modelled(refuses_100)
    level = Level(expected=lambda one: one.cause == "success → EINVAL")
    with pytest.raises(ContractBrokenError) as raised:
        explore.explore(wrong, wrong.answer, rounds=1, level=level)
    (known,) = raised.value.mismatches
    assert known.first != "usize 100"
    quick = len(wrong.requests)
    every = Modelled(refuses_100)
    with pytest.raises(ContractBrokenError):
        every.explore()
    assert quick <= EXAMPLES + 1 < len(every.requests)


def test_what_is_not_expected_is_shrunk_beside_what_is() -> None:
    """Though both have one cause: the one that is new stands for them."""
    wrong = Modelled(refuses_100)
    level = Level(expected=lambda one: "by " in one.first)
    with pytest.raises(ContractBrokenError) as raised:
        explore.explore(wrong, wrong.answer, rounds=1, level=level)
    assert [one.first for one in raised.value.mismatches] == ["usize 100"]


# What is tried.


@pytest.mark.parametrize("contract", [XYZZY, OPENAT2], ids=lambda one: one.name)
@pytest.mark.parametrize("one", ABIS, ids=lambda one: one.name)
def test_a_kernel_that_keeps_its_promises_passes(contract: Contract, one: ABI) -> None:
    interface = Modelled(obeying, contract, one)
    interface.explore()
    assert len(interface.requests) <= EXAMPLES
    calls = [case for batch in interface.requests for case in batch]
    assert len(calls) > 250
    assert len(set(calls)) == len(calls), "a call was made twice"
    # Every check of the contract refuses some, and some are accepted.
    why = {interface.predict(case).why for case in calls}
    assert why == {"", *(type(check).__name__ for check in contract.checks)}


def test_everything_is_varied() -> None:
    calls = drawn(XYZZY, abi("m64"))
    assert {case.way.name for case in calls if case.way} == {"x32 bit", "int 0x80"}
    assert {case.protection for case in calls} == set(Protection)
    assert {case.at_page_start for case in calls} == {True, False}
    assert len({case.shift for case in calls}) > 8
    assert any(case.pointer == 0 for case in calls)
    assert any(value >> 32 for case in calls for _, value in case.flags), "upper halves"
    assert any(case.usize >= 1 << 31 for case in calls)
    assert any(case.memory[KSIZE:].strip(b"\0") for case in calls)


def test_a_32_bit_program_has_no_upper_halves() -> None:
    calls = drawn(XYZZY, abi("m32"))
    assert not any(value >> 32 for case in calls for _, value in case.flags)
    assert not any(case.way for case in calls)


def test_every_call_fits_into_the_arena() -> None:
    for one in ABIS:
        for case in drawn(XYZZY, one) + drawn(OPENAT2, one):
            present = case.memory if case.hole is None else case.memory[: case.hole]
            assert 0 <= case.offset <= AREA_BYTES - len(present)


def test_what_is_accepted_neither_waits_nor_is_told_to_come_back() -> None:
    space = space_for(XYZZY, abi("m64"))
    accepted = 0
    for case in drawn(XYZZY, abi("m64"), rounds=4):
        held = space.predict(case).held
        if held is None:
            continue
        accepted += 1
        delay = space.layout.get(held, "param_3")
        nonblock = dict(case.flags).get(1, 0) & NONBLOCK
        assert delay <= (0 if nonblock else SMALL), space.describe(case)
    assert accepted > 100


def test_what_the_contract_says_nothing_of_is_left_alone() -> None:
    """openat2's accepted flags open, create and truncate: only refused ones are tried."""
    space = space_for(OPENAT2, abi("m64"))
    for case in drawn(OPENAT2, abi("m64"), rounds=4):
        fields = {name: space.layout.get(case.memory, name) for name in space.example}
        if not space.predict(case).errno:
            seen = {name: value for name, value in fields.items() if value}
            assert not seen or case.usize < KSIZE, space.describe(case)
        for name, value in fields.items():
            if value and case.usize >= KSIZE:
                alone = Case(usize=KSIZE, memory=bytes(space.layout.new(**{name: value})))
                assert space.predict(alone).errno, space.describe(case)


def test_a_bit_that_a_short_size_cuts_off_leaves_nothing_known() -> None:
    """Two versions: the second field's unknown bit may lie behind usize, its known ones not."""
    contract = dataclasses.replace(
        OPENAT2,
        versions=(dataclasses.replace(OPENAT2.versions[0], size=8), *OPENAT2.versions),
        checks=tuple(
            dataclasses.replace(check, minimum=8)
            if check is OPENAT2.bounds
            else dataclasses.replace(check, known={"first": 1 << 0, "last": 1 << 40})
            if isinstance(check, UnknownBits)
            else check
            for check in OPENAT2.checks
            if not isinstance(check, (AtMost, OnlyWith))
        ),
        effect=Nothing(),
    )
    space = space_for(contract, abi("m64"))
    short = 0
    for case in drawn(contract, abi("m64"), rounds=4):
        if not space.predict(case).errno and case.usize < KSIZE:
            short += 1
            assert not case.memory[: case.usize].strip(b"\0"), space.describe(case)
    assert short > 10


def test_the_examples_are_the_same_in_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    once = drawn(XYZZY, abi("m64"), rounds=1)
    assert drawn(XYZZY, abi("m64"), rounds=1) == once
    monkeypatch.setattr(core, "global_force_seed", 7)  # pytest's --hypothesis-seed
    assert drawn(XYZZY, abi("m64"), rounds=1) != once


def test_nothing_is_left_where_the_user_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXTSYS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "home").mkdir()
    configuration.set_hypothesis_home_dir(tmp_path / "home" / ".hypothesis")
    try:
        Modelled(obeying).explore()
        assert not list((tmp_path / "home").iterdir())
        assert configuration.storage_directory().home_directory.parent == tmp_path / "home"
    finally:
        configuration.set_hypothesis_home_dir(None)


# When it ends early.


def test_a_lost_machine_is_reported_as_such_and_not_shrunk() -> None:
    gone = GuestError("no answer", verdict=Verdict.HANG)
    asked = 0

    def judge(batch: Sequence[Case]) -> list[list[Mismatch]]:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise gone
        return [[] for _ in batch]

    with pytest.raises(GuestError) as raised:
        explore.search(space_for(XYZZY, ABIS[0]), judge, rounds=4)
    assert raised.value is gone
    assert asked == 3


def test_a_machine_that_is_lost_while_shrinking() -> None:
    gone = GuestError("no answer", verdict=Verdict.LOST)
    interface = Modelled(refuses_100)
    found = 0

    def judge(batch: Sequence[Case]) -> list[list[Mismatch]]:
        nonlocal found
        if found:
            raise gone
        answers = interface.answer(batch)
        found += any(answers)
        return answers

    with pytest.raises(GuestError) as raised:
        explore.search(interface.space, judge, rounds=2)
    assert raised.value is gone


def test_what_takes_too_long_to_shrink_is_reported_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(explore, "SHRINK_SECONDS", -1.0)
    interface = Modelled(refuses_100)
    with pytest.raises(ContractBrokenError) as raised:
        interface.explore(rounds=2)
    case = raised.value.mismatches[0].case
    assert case is not None
    assert case.usize >= 100
    # What was found in that one request, and the look at it alone.
    assert len(interface.requests[-1]) == 1
    assert case in interface.requests[-2]


# On a real kernel.


def test_on_this_kernel(local: Target, here: ABI) -> None:
    """openat2 keeps its promises here; a contract that promises another errno does not."""
    # Some kernels take bit 25 of the flags (see interfaces/openat2.py): not what is tested here.
    checks = tuple(
        dataclasses.replace(check, known={**check.known, "bit 25": 1 << 25})
        if isinstance(check, UnknownBits) and check.field == "flags"
        else check
        for check in OPENAT2.checks
    )
    contract = dataclasses.replace(OPENAT2, checks=checks)
    interface = Interface(contract, here, compiler=hosttarget.COMPILER, target=local)
    if interface.observe(interface.case()).errno == errno.ENOSYS:
        pytest.skip("this machine has no openat2()")
    item = next(one for one in BATTERY if one.name == "combinations")
    before = local.calls
    item.run(interface, Level())
    assert local.calls - before > 500

    wrong = tuple(
        dataclasses.replace(check, errno=errno.EINVAL) if isinstance(check, Tail) else check
        for check in checks
    )
    interface = Interface(
        dataclasses.replace(contract, checks=wrong),
        here,
        compiler=hosttarget.COMPILER,
        target=local,
    )
    with pytest.raises(ContractBrokenError) as raised:
        item.run(interface, Level())
    found = raised.value.mismatches[0]
    assert found.first == "usize 25, byte 24 = 0x01"
    assert (found.allowed, found.seen) == ("EINVAL (Tail)", "E2BIG")


def test_the_words_for_a_case() -> None:
    space = space_for(XYZZY, ABIS[0])
    memory = bytes(space.layout.new(length=40, size=40, param_1=2, param_2=0x1122334455667788))
    case = Case(usize=40, memory=memory[:30] + b"\1\2\3\4\5" + memory[35:] + b"\xa5")
    assert space.describe(case) == (
        "usize 40, param_1 = 0x2, byte 30 = 0x01, byte 31 = 0x02, byte 32 = 0x03, byte 33 = 0x04,"
        " and 1 further bytes up to 34, nonzero bytes behind usize"
    )
