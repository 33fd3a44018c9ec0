# SPDX-License-Identifier: GPL-2.0-only
"""harness.stall: which outcomes some snapshot explains, and the callers that make the stalls.

The first part is the judge alone, against outcomes worked out by hand.  The
second has a live caller whose system call is answered by a kernel of this
file's own: its reads of the caller's memory are held by userfaultfd(2) as a
real kernel's are, and it can fetch twice on demand.  The third is this
machine's kernel.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import fakekernel
import fakexyzzy
import hosttarget
import pytest
from fakekernel import Called, Descriptor, FakeKernel

from harness import battery_stall, stall, sweep, wire
from harness.abi import ABI
from harness.battery import BATTERY, Level
from harness.case import Case
from harness.channel import RefusedError
from harness.contract import (
    PAGE,
    Contract,
    FetchSize,
    Nothing,
    Pointer,
    SizeArg,
    SizeField,
    SizeValue,
    UnknownFlags,
)
from harness.findings import ContractBrokenError
from harness.interface import Interface
from harness.interfaces import xyzzy
from harness.interfaces.sched_setattr import CONTRACT as SCHED_SETATTR
from harness.layout import Compiler, Field, Layout
from harness.program import AREA_BYTES, ARENA, U64, Program, Result, ResultOf, at, encode_op
from harness.stall import Hold, Late, Observed, Race, Stall
from harness.sweep import Row, Seen
from harness.target import Target
from harness.wire import lib
from vm.errors import UserError

ITEMS = [item for item in BATTERY if item.prop == "P16"]
LAYOUT = Layout(
    struct="xyzzy_params",
    size=24,
    align=8,
    fields=(
        Field(name="size", offset=0, size=4),
        Field(name="param_1", offset=4, size=4),
        Field(name="param_2", offset=8, size=8),
        Field(name="param_3", offset=16, size=8),
    ),
)


def params(size: int, one: int = 1, two: int = 2, three: int = 0, *, tail: bytes = b"") -> bytes:
    return struct.pack("<IIQQ", size, one, two, three) + tail


def made(
    memory: bytes, boundary: int, change_at: int, change: bytes, late: Late = Late.SECOND
) -> Stall:
    usize = int.from_bytes(memory[:4], "little")
    return Stall(
        case=Case(usize=usize, memory=memory),
        boundary=boundary,
        late=late,
        at=change_at,
        change=change,
        what="it changes",
    )


def outcomes(one: Stall, contract: Contract = xyzzy.CONTRACT) -> list[tuple[int, bytes | None]]:
    found = stall.allowed(contract, LAYOUT, one, register=64)
    return [(each.errno, each.held) for each in found]


def judged(one: Stall, seen: Observed, contract: Contract = xyzzy.CONTRACT) -> str | None:
    """The cause, if any."""
    found = stall.judge(contract, LAYOUT, one, seen, register=64)
    return found.cause if found else None


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


# What is allowed.


@pytest.mark.parametrize("size", [0, 8, 24, 40, PAGE, (1 << 32) - 1])
@pytest.mark.parametrize("boundary", [4, 12, 23, 24, 31])
def test_the_size_that_was_checked_is_the_one_that_counts(size: int, boundary: int) -> None:
    one = made(params(32, tail=bytes(8)), boundary, 0, u32(size))
    assert outcomes(one) == [(0, params(32))]


def test_what_lies_behind_the_size_may_be_old_or_new() -> None:
    one = made(params(32, tail=bytes(8)), 24, 8, (77).to_bytes(8, "little"))
    assert set(outcomes(one)) == {(0, params(32, two=2)), (0, params(32, two=77))}


def test_a_field_may_be_torn_upwards_but_not_downwards() -> None:
    one = made(params(24, two=0x1111_1111), 12, 8, u32(0x2222_2222))
    seen = {struct.unpack("<IIQQ", held)[2] for _, held in outcomes(one) if held}
    assert seen == {0x1111_1111, 0x2211_1111, 0x2222_1111, 0x2222_2211, 0x2222_2222}
    assert 0x1111_1122 not in seen


def test_a_field_is_refused_or_held_but_not_both() -> None:
    one = made(params(32, tail=bytes(8)), 24, 4, u32(0x8000_0000))
    assert set(outcomes(one)) == {(0, params(32, one=1)), (errno.EINVAL, None)}


def test_a_byte_of_the_tail_may_have_been_looked_at_or_not() -> None:
    one = made(params(40, tail=bytes(16)), 32, 24, b"\1")
    assert set(outcomes(one)) == {(0, params(40)), (errno.E2BIG, None)}


def test_tail_and_struct_are_fetched_apart() -> None:
    """The tail before the fault, the struct behind it: and each of the other three."""
    memory = params(40, two=2, tail=bytes(16))
    changed = bytearray(memory[8:32])
    changed[0] = 3  # param_2
    changed[16] = 1  # the byte at ksize
    one = made(memory, 32, 8, bytes(changed))
    assert set(outcomes(one)) == {
        (0, params(40, two=2)),
        (0, params(40, two=3)),
        (errno.E2BIG, None),
    }


def test_with_the_first_page_late_nothing_is_old() -> None:
    one = made(params(32, tail=bytes(8)), 8, 8, (77).to_bytes(8, "little"), Late.FIRST)
    assert outcomes(one) == [(0, params(32, two=77))]
    one = made(params(32, tail=bytes(8)), 8, 31, b"\1", Late.FIRST)
    assert outcomes(one) == [(errno.E2BIG, None)]
    one = made(params(32, tail=bytes(7) + b"\1"), 8, 31, b"\0", Late.FIRST)
    assert outcomes(one) == [(0, params(32))]


#: As xyzzy, with the size behind another field, as perf_event_attr has it.
LATER = dataclasses.replace(
    xyzzy.CONTRACT,
    declaration="struct xyzzy_params { __u32 first; __u32 size; __u64 a; __u64 b; };",
    size=SizeField(field="size", offset=4, width=4),
    checks=tuple(
        check
        for check in xyzzy.CONTRACT.checks
        if not hasattr(check, "field")  # its fields have other names
    ),
    example={},
)


def test_a_size_in_the_second_page_is_the_old_or_the_new_but_one() -> None:
    layout = dataclasses.replace(
        LAYOUT,
        fields=(Field(name="first", offset=0, size=4), Field(name="size", offset=4, size=4)),
    )
    memory = struct.pack("<IIQQ8x", 7, 32, 1, 2)
    one = Stall(
        case=Case(usize=32, memory=memory),
        boundary=4,
        late=Late.FIRST,
        at=4,
        change=u32(16),
        what="it changes",
    )
    found = {(each.errno, each.held) for each in stall.allowed(LATER, layout, one, register=64)}
    assert found == {(0, struct.pack("<IIQQ", 7, 32, 1, 2)), (errno.E2BIG, None)}
    assert stall.meets(LATER, layout, one, register=64)


def test_a_size_in_a_register_does_not_change() -> None:
    contract = dataclasses.replace(
        LATER,
        size=SizeArg(arg=1),
        args=(Pointer(), SizeValue()),
        checks=tuple(
            check for check in LATER.checks if not isinstance(check, (FetchSize, UnknownFlags))
        ),
        effect=Nothing(),
    )
    for late, boundary, change_at in ((Late.SECOND, 12, 4), (Late.FIRST, 4, 4)):
        one = Stall(
            case=Case(usize=24, memory=bytes(24)),
            boundary=boundary,
            late=late,
            at=change_at,
            change=u32(8),
            what="it changes",
        )
        assert {each for each, _ in outcomes(one, contract)} == {0}
        assert stall.meets(contract, LAYOUT, one, register=64)


def test_the_callers_memory_afterwards() -> None:
    """New, but for a size that is written back."""
    memory = params(32, tail=bytes(8))
    one = made(memory, 24, 0, u32(9))
    (found,) = stall.allowed(xyzzy.CONTRACT, LAYOUT, one, register=64)
    assert found.memory == u32(9) + memory[4:]
    one = made(params(32, tail=b"\1" * 8), 8, 0, u32(9))
    (found,) = stall.allowed(xyzzy.CONTRACT, LAYOUT, one, register=64)
    assert (found.errno, found.memory) == (errno.E2BIG, u32(24) + one.case.memory[4:])


@pytest.mark.parametrize(
    ("memory", "boundary", "late", "met"),
    [
        (params(24), 4, Late.SECOND, True),
        (params(24), 23, Late.SECOND, True),
        (params(32, tail=bytes(8)), 31, Late.SECOND, True),
        (params(24, tail=bytes(8)), 24, Late.SECOND, False),  # behind the struct
        (params(23), 12, Late.SECOND, False),  # too small: nothing more is read
        (params(32, tail=b"\1" + bytes(7)), 28, Late.SECOND, False),  # refused before
        (params(23), 12, Late.FIRST, True),  # the size itself is late
        (params(24, one=1 << 31), 12, Late.FIRST, True),
    ],
)
def test_whether_the_late_page_is_met(memory: bytes, boundary: int, late: Late, met: bool) -> None:
    change_at = 4 if late is Late.SECOND else boundary
    if boundary == 4:
        change_at = 0
    one = made(memory, boundary, change_at, b"\7", late)
    assert stall.meets(xyzzy.CONTRACT, LAYOUT, one, register=64) is met


def test_a_flag_that_is_refused_first_meets_nothing() -> None:
    one = made(params(24), 12, 8, b"\1")
    case = dataclasses.replace(one.case, flags=((1, 1 << 9),))
    for late, where in ((Late.SECOND, 8), (Late.FIRST, 12)):
        refused = dataclasses.replace(one, case=case, late=late, at=where)
        assert not stall.meets(xyzzy.CONTRACT, LAYOUT, refused, register=64)


# The judge.


def seen(number: int, held: bytes | None, memory: bytes, *, stalled: bool = True) -> Observed:
    return Observed(stalled=stalled, errno=number, held=held, memory=memory)


SHRUNK = made(params(32, tail=bytes(8)), 24, 0, u32(8))


@pytest.mark.parametrize(
    ("number", "held", "cause"),
    [
        (0, params(32), None),
        # Fetched again for the copy, of which eight bytes are left.
        (0, params(8, two=0), "effect of no single snapshot"),
        # Copied whole, and the copied size believed.
        (0, params(8), "effect of no single snapshot"),
        # Checked again.
        (errno.E2BIG, None, "success → E2BIG"),
        (errno.EFAULT, None, "success → EFAULT"),
    ],
)
def test_what_a_second_fetch_of_the_size_looks_like(
    number: int, held: bytes | None, cause: str | None
) -> None:
    assert judged(SHRUNK, seen(number, held, SHRUNK.changed)) == cause


def test_a_call_that_never_came_to_the_page_is_no_pass() -> None:
    allowed = seen(0, params(32), SHRUNK.case.memory, stalled=False)
    assert judged(SHRUNK, allowed) == "no fault"


def test_memory_that_is_neither_new_nor_written_back() -> None:
    assert judged(SHRUNK, seen(0, params(32), SHRUNK.case.memory)) == "memory"


def test_a_call_that_blocks_or_is_killed_is_no_pass() -> None:
    good = seen(0, params(32), SHRUNK.changed)
    assert judged(SHRUNK, good) is None
    assert judged(SHRUNK, dataclasses.replace(good, deadline=True)) is not None
    assert judged(SHRUNK, dataclasses.replace(good, signal=31)) is not None


def test_a_mismatch_says_what_happened() -> None:
    found = stall.judge(
        xyzzy.CONTRACT, LAYOUT, SHRUNK, seen(0, params(8), SHRUNK.changed), register=64
    )
    assert str(found) == (
        "1 call: usize 32, a page boundary at byte 24; while the second page is late, it changes\n"
        f"  allowed: success, the kernel holds {params(32).hex()}\n"
        f"  kernel:  success, the kernel holds {params(8).hex()}"
    )


@pytest.mark.parametrize(
    ("boundary", "late", "change_at", "length"),
    [
        (0, Late.SECOND, 0, 1),
        (24, Late.SECOND, 0, 1),
        (8, Late.SECOND, 8, 1),
        (8, Late.SECOND, 4, 5),
        (8, Late.SECOND, 4, 0),
        (8, Late.FIRST, 7, 1),
        (8, Late.FIRST, 20, 5),
    ],
)
def test_a_stall_that_cannot_be_is_refused(
    boundary: int, late: Late, change_at: int, length: int
) -> None:
    with pytest.raises(UserError):
        made(params(24), boundary, change_at, b"x" * length, late)


def test_a_boundary_within_the_size_field_is_refused() -> None:
    one = made(params(24), 2, 0, b"\1")
    with pytest.raises(UserError, match="in the size field"):
        stall.allowed(xyzzy.CONTRACT, LAYOUT, one, register=64)


# The race's judge.


def race(memory: bytes, offset: int, width: int, *values: int) -> Race:
    usize = int.from_bytes(memory[:4], "little")
    one, other = values
    return Race(
        case=Case(usize=usize, memory=memory),
        at=offset,
        width=width,
        values=(one, other),
        calls=10,
        what="size",
    )


def held_as(held: bytes) -> Seen:
    return Seen(errno=0, effect=sweep.effect_hash(xyzzy.CONTRACT.effect, held))


def test_a_race_for_the_size() -> None:
    one = race(params(24, tail=bytes(16)), 0, 4, 40, 8)
    fine = set(stall.allowed_in_race(xyzzy.CONTRACT, LAYOUT, one, register=64))
    # 24 is what the kernel itself has written there, when it refused 8.
    assert fine == {held_as(params(40)), held_as(params(24)), Seen(errno=errno.E2BIG)}
    rows = [Row(first=0, count=7, seen=Seen(errno=errno.E2BIG))]
    assert not stall.judge_race(xyzzy.CONTRACT, LAYOUT, one, rows, register=64)
    rows += [Row(first=7, count=3, seen=held_as(params(8)))]
    (found,) = stall.judge_race(xyzzy.CONTRACT, LAYOUT, one, rows, register=64)
    assert found.count == 3
    assert "first at call 7" in found.seen


def test_a_race_for_a_field_may_mix_its_bytes() -> None:
    one = race(params(24), 8, 8, 0x0000, 0x1111)
    fine = set(stall.allowed_in_race(xyzzy.CONTRACT, LAYOUT, one, register=64))
    assert fine == {held_as(params(24, two=value)) for value in (0, 0x11, 0x1100, 0x1111)}


@pytest.mark.parametrize(("offset", "width"), [(0, 3), (-1, 4), (21, 4)])
def test_a_race_that_cannot_be_is_refused(offset: int, width: int) -> None:
    with pytest.raises(UserError):
        race(params(24), offset, width, 1, 2)


# A live caller, and a kernel that may fetch twice.

FAULTS = {
    "size-again": "the size is fetched again for the copy",
    "copied-size": "the copied struct's size is believed",
    "field-in-place": "param_1 is judged where it lies, and copied later",
    "field-first": "param_3 is fetched before the size",
    "tail-unread": "the tail is not looked at",
}


class HoleError(Exception):
    """Memory that is not there."""


@dataclasses.dataclass
class Kernel:
    """xyzzy(), each fetch a read of the caller's memory: `answer` of a FakeKernel."""

    memory: FakeKernel
    fault: str = ""
    pause: float = 0.0  # seconds before each fetch, in which a second thread runs

    def fetch(self, address: int, length: int) -> bytes:
        time.sleep(self.pause)
        data = self.memory.read(address, length)
        if len(data) < length:
            raise HoleError
        return data

    def size_of(self, pointer: int) -> int:
        return int.from_bytes(self.fetch(pointer, 4), "little") or 24

    def __call__(self, call: Called) -> int | Descriptor:
        pointer, flags = call.args[0], call.args[1] & 0xFFFFFFFF
        if flags & ~3:
            return -errno.EINVAL
        try:
            return self.copy(pointer)
        except HoleError:
            return -errno.EFAULT

    def too_big(self, pointer: int) -> int:
        self.memory.write(pointer, u32(24))
        return -errno.E2BIG

    def copy(self, pointer: int) -> int | Descriptor:
        early = self.fetch(pointer + 16, 8) if self.fault == "field-first" else None
        size = self.size_of(pointer)
        if not 24 <= size <= PAGE:
            return self.too_big(pointer)
        if size > 24 and self.fault != "tail-unread" and any(self.fetch(pointer + 24, size - 24)):
            return self.too_big(pointer)
        known = None
        if self.fault == "field-in-place":
            known = self.fetch(pointer + 4, 4)
        if self.fault == "size-again":
            size = self.size_of(pointer)
        data = bytearray(self.fetch(pointer, min(size, 24)).ljust(24, b"\0"))
        if self.fault != "copied-size":
            data[:4] = u32(size)
        if early is not None:
            data[16:24] = early
        checked = int.from_bytes(known or data[4:8], "little")
        if checked & ~3 or int.from_bytes(data[16:24], "little") > 1_000_000_000:
            return -errno.EINVAL
        reading, writing = os.pipe()
        os.write(writing, bytes(data))
        os.close(writing)
        return Descriptor(reading)


@contextlib.contextmanager
def where_faults_may_be_held() -> Iterator[None]:
    """Elsewhere the test is skipped: an ordinary user's userfaultfd(2) is not the kernel's."""
    try:
        yield
    except RefusedError as exc:
        if exc.errno in battery_stall.REFUSALS:
            pytest.skip("userfaultfd(2) may not hold the kernel's faults here")
        raise


def run_stalled(
    local: Target, here: ABI, program: Program, holds: list[Hold]
) -> tuple[list[Result], list[bool]]:
    with where_faults_may_be_held():
        return local.caller(here).run_stalled(program, holds, deadline_ms=3000)


@contextlib.contextmanager
def played(
    local: Target, here: ABI, headers: Path, fault: str = "", *, pause: float = 0.0
) -> Iterator[Interface]:
    """xyzzy() in the caller of ``here``."""
    with fakekernel.fake_kernel(local, here) as kernel:
        kernel.answer = Kernel(kernel, fault, pause)
        made = Interface(xyzzy.CONTRACT, here, compiler=Compiler(headers=headers), target=local)
        made.contract = xyzzy.CONTRACT  # its kernel asks nobody for a capability
        yield made


@pytest.fixture(name="headers", scope="module")
def _headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakexyzzy.headers(tmp_path_factory.mktemp("stall") / "include", xyzzy.CONTRACT)


def red(interface: Interface, names: set[str] | None = None) -> dict[str, str]:
    """The items, of those with these names, that find something; and what."""
    found = {}
    for item in ITEMS:
        if names is not None and item.name not in names:
            continue
        try:
            item.run(interface, Level())
        except ContractBrokenError as exc:
            found[item.name] = str(exc)
    return found


STALLED = {
    "size-changed-between-two-fetches",
    "fields-changed-during-the-copy",
    "nothing-is-read-before-the-size",
}


TURNS = "two-values-in-turn"


@pytest.fixture(autouse=True)
def _short_races(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(battery_stall, "RACE_CALLS", (100, 100))


def test_there_are_four_items() -> None:
    assert {item.name for item in ITEMS} == {*STALLED, TURNS}


def test_a_kernel_that_fetches_once_is_right(local: Target, here: ABI, headers: Path) -> None:
    with played(local, here, headers) as interface:
        before = local.calls
        assert red(interface) == {}
        assert local.calls - before > 1000


@pytest.mark.parametrize(
    ("fault", "finds", "says"),
    [
        ("size-again", {"size-changed-between-two-fetches"}, "the kernel holds"),
        ("copied-size", {"size-changed-between-two-fetches"}, "the kernel holds"),
        ("field-in-place", {"fields-changed-during-the-copy"}, "the kernel holds"),
        ("field-first", {"nothing-is-read-before-the-size"}, "param_3 becomes"),
        ("tail-unread", STALLED - {"nothing-is-read-before-the-size"}, "was never read"),
    ],
)
def test_a_kernel_that_fetches_twice_is_found(
    local: Target, here: ABI, headers: Path, fault: str, finds: set[str], says: str
) -> None:
    with played(local, here, headers, fault) as interface:
        found = red(interface, finds)
    assert finds == set(found), FAULTS[fault]
    assert all(says in found[name] for name in finds)


@pytest.mark.parametrize("fault", ["", "size-again", "field-in-place"])
def test_a_race_finds_what_is_far_apart(
    local: Target, here: ABI, headers: Path, fault: str
) -> None:
    """Through a kernel that sleeps between its fetches, which is no luck even on one CPU."""
    with played(local, here, headers, fault, pause=0.0003) as interface:
        for each in battery_stall.races(interface, 40):
            if each.what == "param_2":
                assert len(stall.run_race(interface, each)) == 2, "one value is never seen"
        if fault:
            with pytest.raises(ContractBrokenError, match="in turn"):
                stall.verify_races(interface, *battery_stall.races(interface, 40))
        else:
            stall.verify_races(interface, *battery_stall.races(interface, 40))


def test_each_outcome_of_a_stall_is_seen(local: Target, here: ABI, headers: Path) -> None:
    """Not only that it is allowed: old and new are where the fetches of this kernel put them."""
    with where_faults_may_be_held(), played(local, here, headers) as interface:
        stalls = [
            # The tail is late: the struct is fetched behind it, but for its size.
            made(params(32, tail=bytes(8)), 24, 0, params(9, one=2, two=5)),
            # A struct of one piece, late in its middle: one read, all of it new.
            made(params(24), 12, 8, u32(6)),
            made(params(24), 8, 16, (1 << 40).to_bytes(8, "little"), Late.FIRST),
            made(params(32, tail=b"\0" * 7 + b"\1"), 31, 8, b"\7"),
        ]
        got = [one for _, one in stall.observe(interface, stalls)]
    assert all(one.stalled for one in got)
    assert [(one.errno, one.held) for one in got] == [
        (0, params(32, one=2, two=5)),
        (0, got[1].held),
        (errno.EINVAL, None),
        (errno.E2BIG, None),
    ]
    assert got[1].held in (params(24, two=2), params(24, two=6))
    assert got[0].memory == params(9, one=2, two=5) + bytes(8)
    assert got[3].memory == params(24, two=7, tail=b"\0" * 7 + b"\1")


# This machine's own kernel.


def hold(program: Program, call: int, *, page: int, content: bytes = b"", change: bytes) -> Hold:
    return Hold(
        call=ResultOf(call),
        page=page,
        start=0,
        content=content,
        change_at=(page + PAGE) % AREA_BYTES,
        change=change,
    )


def test_pages_come_late_in_real_calls(local: Target, here: ABI) -> None:
    """pipe2() writes its two descriptors where the page is late, or where it is not."""
    nr = hosttarget.numbers(here)
    program = Program()
    program.reset()
    calls, looks = [], []
    for page in (PAGE, 4 * PAGE, 9 * PAGE):
        calls.append(program.syscall(nr["pipe2"], at(ARENA, page + 8), 0))
        looks.append((program.read(ARENA, page, 24), program.read(ARENA, page + PAGE, 5)))
    calls.append(program.syscall(nr["getpid"]))
    last = program.read(ARENA, 0, AREA_BYTES)
    holds = [
        hold(program, calls[0].index, page=PAGE, content=b"x" * PAGE, change=b"first"),
        hold(program, calls[2].index, page=9 * PAGE, content=b"third", change=b"z"),
        hold(program, calls[3].index, page=2 * PAGE, change=b"never"),
    ]
    results, met = run_stalled(local, here, program, holds)
    assert met == [True, True, False]
    assert [results[call.index].errno for call in calls] == [0] * 4
    first, second, third = ([results[one.index].data for one in pair] for pair in looks)
    assert first[0][:8] + first[0][16:] == b"x" * 16
    assert first[1] == b"first"
    assert second[1] == bytes(5)
    assert third[0][:8] == b"third\0\0\0"
    assert third[1] == b"z\0\0\0\0"
    # Nothing is left behind: every page can be touched, the one of the stall that never came, too.
    assert len(results[last.index].data) == AREA_BYTES
    local.restart(here)  # it has descriptors open


def test_many_stalls_and_their_requests_in_turn(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)
    for turn in range(20):
        program = Program()
        program.reset()
        calls = [program.syscall(nr["prctl"], 16, at(ARENA, PAGE)) for _ in range(50)]
        holds = [hold(program, one.index, page=PAGE, change=bytes([turn])) for one in calls]
        assert run_stalled(local, here, program, holds)[1] == [True] * 50


def test_a_change_that_cannot_be_made_is_no_stall(local: Target, here: ABI) -> None:
    """The second thread faults as a first one would, and the caller lives."""
    nr = hosttarget.numbers(here)
    program = Program()
    program.reset()
    private_fixed_anonymous = 0x32
    # mmap2's offset is in pages, which is the same for 0.
    program.syscall(nr["mmap"], at(ARENA, 2 * PAGE), PAGE, 0, private_fixed_anonymous, -1, 0)
    call = program.syscall(nr["prctl"], 16, at(ARENA, PAGE))
    program.reset()
    holds = [hold(program, call.index, page=PAGE, change=b"x")]
    assert run_stalled(local, here, program, holds)[1] == [False]
    assert local.caller(here).run(Program()) == []


def test_sched_setattr_fetches_its_size_once(local: Target, here: ABI) -> None:
    interface = Interface(SCHED_SETATTR, here, compiler=hosttarget.COMPILER, target=local)
    small = dataclasses.replace(interface.case(), memory=u32(1) + bytes(60))
    ksize = interface.observe(small).written
    assert ksize is not None
    # The headers at hand may be of an older kernel than the one that runs.
    interface.__dict__["layout"] = dataclasses.replace(interface.layout, size=ksize)
    assert red(interface) == {}


def test_a_race_through_bytes_that_may_not_be_written_is_refused(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)
    program = Program()
    program.reset()
    program.syscall(nr["mmap"], at(ARENA), PAGE, 0, 0x32, -1, 0)
    local.caller(here).run(program)
    call = encode_op(kind=lib.WIRE_OP_SYSCALL, nr=nr["getpid"])
    for offset, errno_of in ((64, errno.EFAULT), (PAGE + 64, None)):
        rest = wire.pack("wire_race", count=5, value=(0, 1), at=offset, width=8)
        if errno_of is None:
            assert local.caller(here).race(call + rest[len(call) :]).calls == 5
            continue
        with pytest.raises(RefusedError) as caught:
            local.caller(here).race(call + rest[len(call) :])
        assert caught.value.errno == errno_of


@pytest.mark.parametrize("behind", [False, True])
def test_a_race_of_calls_that_block_is_given_up(local: Target, here: ABI, behind: bool) -> None:
    """Whether the call blocks or what is done behind it: thousands would take for ever."""
    nr = hosttarget.numbers(here)
    program = Program()
    program.reset()
    local.caller(here).run(program)
    poll = encode_op(kind=lib.WIRE_OP_SYSCALL, nr=nr["poll"], args=[0, 0, U64])
    quick = encode_op(kind=lib.WIRE_OP_SYSCALL, nr=nr["getpid"])
    call, after = (quick, [poll]) if behind else (poll, [])
    rest = wire.pack(
        "wire_race", count=1000, value=(0, 1), at=64, width=8, after=len(after), deadline_ms=80
    )
    found = local.caller(here).race(b"".join((call, rest[len(call) :], *after)))
    assert found.calls == 4
    assert sum(row.count for row in found.rows) == 4
    assert any(row.seen.deadline for row in found.rows)
