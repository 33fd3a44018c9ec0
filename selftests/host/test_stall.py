# SPDX-License-Identifier: GPL-2.0-only
"""harness.stall: which outcomes some snapshot explains, and the callers that make the stalls.

The first part is the judge alone, against outcomes worked out by hand.  The
second has a live caller whose system call is answered by a kernel of this
file's own: its reads of the caller's memory are held by userfaultfd(2) as a
real kernel's are, and it can fetch twice on demand.  The third is this
machine's kernel, and the last is frames that are wrong.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import fakekernel
import fakexyzzy
import fuzz
import hosttarget
import pytest
from fakekernel import Called, Descriptor, FakeKernel

from harness import battery_stall, stall, wire
from harness.abi import ABI
from harness.battery import BATTERY, Level
from harness.case import Case
from harness.channel import RefusedError
from harness.contract import (
    PAGE,
    Contract,
    Copy,
    FetchSize,
    Flags,
    Nothing,
    Pointer,
    SizeArg,
    SizeBounds,
    SizeField,
    SizeValue,
    Tail,
    UnknownBits,
    UnknownFlags,
    Value,
    Version,
)
from harness.findings import ContractBrokenError
from harness.interface import Interface
from harness.interfaces import xyzzy
from harness.layout import Compiler, Field, Layout
from harness.program import ARENA, AREA_BYTES, SCRATCH, Program, at, encode_op
from harness.stall import Allowed, Hold, Late, Observed, Race, Stall
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
    from harness import sweep

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


@dataclasses.dataclass
class Kernel:
    """xyzzy(), each fetch a read of the caller's memory: `answer` of a FakeKernel."""

    memory: FakeKernel
    fault: str = ""

    def fetch(self, address: int, length: int) -> bytes:
        data = self.memory.read(address, length)
        if len(data) < length:
            raise OSError(errno.EFAULT, "hole")
        return data

    def size_of(self, pointer: int) -> int:
        return int.from_bytes(self.fetch(pointer, 4), "little") or 24

    def __call__(self, call: Called) -> int | Descriptor:
        pointer, flags = call.args[0], call.args[1] & 0xFFFFFFFF
        if flags & ~3:
            return -errno.EINVAL
        try:
            return self.copy(pointer)
        except OSError as exc:
            assert exc.errno
            return -exc.errno

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
def played(local: Target, here: ABI, headers: Path, fault: str = "") -> Iterator[Interface]:
    """xyzzy() in the caller of ``here``."""
    with fakekernel.fake_kernel(local, here) as kernel:
        kernel.answer = Kernel(kernel, fault)
        yield Interface(xyzzy.CONTRACT, here, compiler=Compiler(headers=headers), target=local)


@pytest.fixture(name="headers", scope="module")
def _headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakexyzzy.headers(tmp_path_factory.mktemp("stall") / "include", xyzzy.CONTRACT)


def red(interface: Interface) -> dict[str, str]:
    """The items that find something, and what."""
    found = {}
    for item in ITEMS:
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


def test_there_are_four_items() -> None:
    assert {item.name for item in ITEMS} == STALLED | {"two-values-in-turn"}
    assert battery_stall.REFUSALS


def test_a_kernel_that_fetches_once_is_right(local: Target, here: ABI, headers: Path) -> None:
    with played(local, here, headers) as interface:
        before = local.calls
        assert red(interface) == {}
        assert local.calls - before > 1000


@pytest.mark.parametrize(
    ("fault", "finds", "says"),
    [
        ("size-again", {"size-changed-between-two-fetches"}, "effect of no single snapshot"),
        ("copied-size", {"size-changed-between-two-fetches"}, "effect of no single snapshot"),
        ("field-in-place", {"fields-changed-during-the-copy"}, ""),
        ("field-first", {"nothing-is-read-before-the-size"}, ""),
        ("tail-unread", STALLED - {"nothing-is-read-before-the-size"}, "was never read"),
    ],
)
def test_a_kernel_that_fetches_twice_is_found(
    local: Target, here: ABI, headers: Path, fault: str, finds: set[str], says: str
) -> None:
    with played(local, here, headers, fault) as interface:
        found = red(interface)
    assert finds <= set(found), FAULTS[fault]
    if says == "was never read":
        assert all(says in found[name] for name in finds)


def test_each_outcome_of_a_stall_is_seen(local: Target, here: ABI, headers: Path) -> None:
    """Not only that it is allowed: old and new are where the fetches of this kernel put them."""
    with played(local, here, headers) as interface:
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
    from harness.program import ResultOf

    return Hold(
        call=ResultOf(call),
        page=page,
        start=0,
        content=content,
        change_at=(page + PAGE) % AREA_BYTES,
        change=change,
    )


def stall_some(local: Target, here: ABI, program: Program, holds: list[Hold]) -> list[bool]:
    try:
        return local.caller(here).run_stalled(program, holds, deadline_ms=3000)[1]
    except RefusedError as exc:
        if exc.errno in battery_stall.REFUSALS:
            pytest.skip("userfaultfd(2) may not hold the kernel's faults here")
        raise


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
    try:
        results, met = local.caller(here).run_stalled(program, holds)
    except RefusedError as exc:
        assert exc.errno in battery_stall.REFUSALS
        pytest.skip("userfaultfd(2) may not hold the kernel's faults here")
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
        assert stall_some(local, here, program, holds) == [True] * 50


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
    assert stall_some(
        local, here, program, [hold(program, call.index, page=PAGE, change=b"x")]
    ) == [False]
    assert local.caller(here).run(Program()) == []


SCHED_SETATTR = Contract(
    name="sched_setattr",
    number="__NR_sched_setattr",
    header="linux/sched/types.h",
    struct="sched_attr",
    declaration="""
        struct sched_attr {
            __u32 size;
            __u32 sched_policy;
            __u64 sched_flags;
            __s32 sched_nice;
            __u32 sched_priority;
            __u64 sched_runtime;
            __u64 sched_deadline;
            __u64 sched_period;
            __u32 sched_util_min;
            __u32 sched_util_max;
        };
    """,
    size=SizeField(field="size", offset=0, width=4),
    versions=(Version(name="VER0", size=48), Version(name="VER1", size=56)),
    zero_means=48,
    args=(Value(value=0), Pointer(), Flags(known={})),
    # kernel/sched/syscalls.c:sched_setattr(), then sched_copy_attr()
    checks=(
        UnknownFlags(arg=2),
        FetchSize(),
        SizeBounds(
            minimum=48,
            maximum=PAGE,
            too_small=errno.E2BIG,
            too_big=errno.E2BIG,
            writes_size=True,
        ),
        Tail(errno=errno.E2BIG, writes_size=True),
        Copy(),
        UnknownBits(field="sched_flags", known={"SCHED_FLAG_RESET_ON_FORK": 1}),
    ),
    example={},  # SCHED_OTHER, nice 0: what the caller has already
    effect=Nothing(),
    source="kernel/sched/syscalls.c",
)


def test_sched_setattr_fetches_its_size_once(local: Target, here: ABI) -> None:
    interface = Interface(SCHED_SETATTR, here, compiler=hosttarget.COMPILER, target=local)
    small = dataclasses.replace(interface.case(), memory=u32(1) + bytes(60))
    ksize = interface.observe(small).written
    assert ksize is not None
    # The headers at hand may be of an older kernel than the one that runs.
    interface.__dict__["layout"] = dataclasses.replace(interface.layout, size=ksize)
    assert red(interface) == {}


def test_two_values_in_turn_are_both_seen(local: Target, here: ABI) -> None:
    """lseek() to an offset that another thread changes: of a call that reads it, either comes."""
    nr = hosttarget.numbers(here)
    program = Program()
    program.reset()
    file = program.syscall(nr["memfd_create"], at(SCRATCH, 64), 0)
    fd = local.caller(here).run(program)[file.index].ret
    # write() of a struct of eight bytes, and nothing behind it: what is seen is how it ended.
    call = encode_op(
        kind=lib.WIRE_OP_SYSCALL, nr=nr["pipe2"], args=(at(ARENA, AREA_BYTES - 8), 1 << 31)
    )
    rest = wire.pack("wire_race", count=500, value=(0, 1), at=64, width=8, deadline_ms=1000)
    result = local.caller(here).race(call + rest[len(call) :])
    assert (result.calls, len(result.rows)) == (500, 1)
    assert result.rows[0].seen == Seen(errno=errno.EINVAL)
    look = Program()
    value = look.read(ARENA, 64, 8)
    look.syscall(nr["close"], fd)
    data = local.caller(here).run(look)[value.index].data
    assert int.from_bytes(data, "little") in (0, 1)


# Frames that are wrong.

STALLS = struct.Struct("<II")
STALL = struct.Struct("<8I")
RACE = struct.Struct("<Q2Q8I")


class StallRules(fuzz.CallerRules):
    """caller.c's WIRE_T_STALL and WIRE_T_RACE, by wire.h."""

    def answer(self, kind: int, channel: int, payload: bytes) -> fuzz.Expected:
        if kind == lib.WIRE_T_STALL:
            return self._stall(payload)
        if kind == lib.WIRE_T_RACE:
            return self._race(payload)
        if kind == lib.WIRE_T_OUTSIDE:
            raise fuzz.Unsafe  # test_outside.py's
        return super().answer(kind, channel, payload)

    def _check_stall(self, one: tuple[int, ...], data_length: int) -> int:
        _, page, start, offset, length, change, change_offset, change_length = one
        if page % PAGE or length > PAGE or start > PAGE - length:
            return lib.WIRE_E_SHAPE
        if page > AREA_BYTES - PAGE or offset + length > data_length:
            return lib.WIRE_E_RANGE
        if change_offset + change_length > data_length or change + change_length > AREA_BYTES:
            return lib.WIRE_E_RANGE
        if change < page + PAGE and change + change_length > page:
            return lib.WIRE_E_RANGE
        return 0

    def _stall(self, payload: bytes) -> fuzz.Expected:
        if len(payload) < STALLS.size:
            return fuzz.refused(lib.WIRE_E_SHAPE, 0)
        count, data_length = STALLS.unpack_from(payload)
        start = STALLS.size + count * STALL.size
        if count > lib.WIRE_MAX_OPS or start + data_length > len(payload):
            return fuzz.refused(lib.WIRE_E_SHAPE, 0)
        stalls = list(STALL.iter_unpack(payload[STALLS.size : start]))
        for index, one in enumerate(stalls):
            code = self._check_stall(one, data_length)
            if code:
                return fuzz.refused(code, index)
        rest = payload[start + data_length :]
        expected = self._program(rest)
        refused = expected.type == lib.WIRE_T_REFUSED
        assert not refused or isinstance(expected.detail, tuple)
        # Too long an answer is found out when the program runs.
        if isinstance(expected.detail, tuple) and expected.detail[0] != lib.WIRE_E_LENGTH:
            return expected
        kinds = [rest[16 + fuzz.OP.size * index] for index in range(len(rest) // fuzz.OP.size)]
        before = -1
        for index, one in enumerate(stalls):
            op = one[0]
            count_of_ops = int.from_bytes(rest[:4], "little")
            if op >= count_of_ops or kinds[op] != lib.WIRE_OP_SYSCALL or op <= before:
                return fuzz.refused(lib.WIRE_E_SHAPE, index)
            before = op
        return expected

    def _race(self, payload: bytes) -> fuzz.Expected:
        start = fuzz.OP.size + RACE.size
        if len(payload) < start:
            return fuzz.refused(lib.WIRE_E_SHAPE, 0)
        call = fuzz.OP.unpack_from(payload)
        count, _, _, offset, width, poke_offset, poke_width, _, after, _, _ = RACE.unpack_from(
            payload, fuzz.OP.size
        )
        if after > lib.WIRE_MAX_AFTER or len(payload) != start + after * fuzz.OP.size:
            return fuzz.refused(lib.WIRE_E_SHAPE, 0)
        code = self._check_op(call, 0, 0)
        if not code and (
            call[0] != lib.WIRE_OP_SYSCALL or width not in (1, 2, 4, 8) or poke_width not in (0, 4)
        ):
            code = lib.WIRE_E_SHAPE
        if not code and max(offset, poke_offset) > AREA_BYTES - 8:
            code = lib.WIRE_E_RANGE
        ops = list(fuzz.OP.iter_unpack(payload[start:]))
        for index, op in enumerate(ops):
            if not code:
                code = self._check_op(op, index + 1, 0)
            if not code and op[0] == lib.WIRE_OP_RESET:
                code = lib.WIRE_E_SHAPE
        if code:
            return fuzz.refused(code, 0)
        for op in (call, *ops):
            self._harmless(op)
        if count > fuzz.MOST_POINTS:
            raise fuzz.Unsafe
        return fuzz.Expected(lib.WIRE_T_DONE, count)

    def frames(self, rng: random.Random) -> Iterator[fuzz.Sent]:
        whole = [maker(rng) for maker in (self._some_stall, self._some_race) for _ in range(300)]
        while True:
            kind, base, numbers = rng.choice(whole)
            payload = bytearray(base)
            if rng.random() < 0.85:
                if numbers and rng.random() < 0.4:
                    fuzz.damage_op(rng, payload, rng.choice(numbers) - 8)
                else:
                    fuzz.damage(rng, payload)
                for start in numbers:
                    if start + 8 <= len(payload):
                        struct.pack_into("<Q", payload, start, fuzz.HARMLESS)
            yield kind, self.channel, bytes(payload)

    def _some_stall(self, rng: random.Random) -> fuzz.Base:
        _, program, numbers = self._some_program(rng)
        count = int.from_bytes(program[:4], "little")
        calls = [
            index
            for index in range(count)
            if program[16 + fuzz.OP.size * index] == lib.WIRE_OP_SYSCALL
        ]
        data = rng.randbytes(rng.randrange(1, 60))
        heads = []
        for op in calls:
            length = rng.randrange(len(data))
            page = PAGE * rng.randrange(1, 15)
            heads.append(
                STALL.pack(
                    *(op, page, rng.choice((0, 8, PAGE - length)), 0, length),
                    *(page + rng.choice((-length, PAGE, PAGE + 9)), 0, length),
                )
            )
        head = b"".join((STALLS.pack(len(heads), len(data)), *heads, data))
        return lib.WIRE_T_STALL, head + program, [len(head) + at for at in numbers]

    def _some_race(self, rng: random.Random) -> fuzz.Base:
        call = fuzz.OP.pack(1, 0, fuzz.HARMLESS, *[0] * 6, *[0] * 6, 0, 0)
        after = rng.randrange(3)
        ops = [self._op(rng, index + 1, 0) for index in range(after)]
        poke = rng.choice(((0, 0), (64, 4)))
        tail = RACE.pack(
            *(rng.randrange(20), rng.randrange(99), rng.randrange(99)),
            *(rng.choice((0, 5, AREA_BYTES - 8)), rng.choice((1, 2, 4, 8))),
            *(*poke, 7, after, rng.choice((0, 1000)), 0),
        )
        start = fuzz.OP.size + RACE.size
        numbers = [8, *(start + fuzz.OP.size * index + 8 for index in range(after))]
        return lib.WIRE_T_RACE, b"".join((call, tail, *ops)), numbers


def test_malformed_frames_are_refused_and_the_caller_lives(local: Target, here: ABI) -> None:
    rules = StallRules()
    rules.channel = here.channel
    rules.last = dataclasses.replace(rules.last, channel=here.channel)
    stall_some(local, here, Program(), [])
    sock = local._channel._sock  # the one way to send what no method would
    for made_of in fuzz.batches(rules, seed=3, malformed=6000):
        got = fuzz.exchange(sock, made_of, seconds=30)
        for mine, foretold in itertools.zip_longest(got, made_of.answers):
            assert mine == foretold
    assert Allowed  # the caller is asked once more
    assert local.caller(here).run(Program()) == []
