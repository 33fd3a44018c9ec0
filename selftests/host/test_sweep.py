# SPDX-License-Identifier: GPL-2.0-only
"""harness.sweep and caller.c: the walk that Python foretells is the walk that the caller makes.

The caller runs on this machine's kernel, and a kernel of the test's own
(fakekernel.py) answers each call: it sees the registers as they arrived and
all of the arena as it was at that moment.  Every call of a sweep is compared.
"""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import signal
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import fakekernel
import hosttarget
import pytest
from fakekernel import Called, Descriptor, FakeKernel
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from harness import case as cases
from harness import sweep
from harness.abi import ABI, WAYS, Way
from harness.channel import RefusedError
from harness.contract import (
    PAGE,
    Bytes,
    Contract,
    Copy,
    FetchSize,
    Flags,
    Nothing,
    Pointer,
    ReadBack,
    SizeArg,
    SizeBounds,
    SizeField,
    SizeIoctl,
    SizeValue,
    Tail,
    Value,
    Version,
)
from harness.findings import Mismatch
from harness.interfaces import xyzzy
from harness.layout import Field, Layout
from harness.program import AREA_BYTES, Address, Area
from harness.sweep import CANARY, Dim, Kind, Place, Row, Seen, Sweep, SweepResult
from harness.target import Target
from vm.errors import InfraError

U64 = (1 << 64) - 1
#: The part of the arena with canaries: a page, REACH, a page.
WINDOW = PAGE + sweep.REACH + PAGE
AT_END = (Place.END, Place.SHORT)


def contract(size: SizeField | SizeArg | SizeIoctl, *args: object) -> Contract:
    """A contract of which only the shape of the call matters here."""
    fetch = [FetchSize()] if isinstance(size, SizeField) else []
    return Contract(
        name="recorded",
        number="none",
        header="none.h",
        struct="s",
        declaration="",
        size=size,
        versions=(Version(name="VER0", size=16),),
        zero_means=None,
        args=args,  # type: ignore[arg-type]
        checks=(
            *fetch,
            SizeBounds(minimum=16, maximum=PAGE, too_small=errno.EINVAL, too_big=errno.E2BIG),
            Tail(errno=errno.E2BIG),
            Copy(),
        ),
        example={},
    )


FLAGS = Flags(known={})
#: Each way to say a size, with the struct's pointer in another place each time.
CONTRACTS = {
    "u32 at 0": contract(SizeField(field="size", offset=0, width=4), FLAGS, Pointer(), FLAGS),
    "u32 at 4": contract(
        SizeField(field="size", offset=4, width=4), Pointer(), Value(value=7), FLAGS
    ),
    "u64 at 8": contract(SizeField(field="size", offset=8, width=8), FLAGS, FLAGS, Pointer()),
    "u16 at 13": contract(SizeField(field="size", offset=13, width=2), FLAGS, Pointer()),
    "argument": contract(
        SizeArg(arg=3), Value(value=U64 - 99), Bytes(data=b"/tmp\0"), Pointer(), SizeValue(), FLAGS
    ),
    "ioctl": contract(
        SizeIoctl(arg=1), Value(value=5), SizeValue(base=0xC000_4702), Pointer(), FLAGS
    ),
}


MADE = CONTRACTS["u32 at 4"]


@pytest.fixture(name="fake")
def _fake(local: Target, here: ABI) -> Iterator[FakeKernel]:
    with fakekernel.fake_kernel(local, here) as kernel:
        yield kernel


@dataclasses.dataclass(frozen=True)
class Moment:
    """What the kernel sees of one call: all registers, and the arena."""

    registers: tuple[int, ...]
    arena: bytes

    def differs(self, other: Moment) -> str:
        """In words; two arenas are too long to be shown."""
        said = []
        if self.registers != other.registers:
            ours, theirs = (tuple(map(hex, one.registers)) for one in (self, other))
            said.append(f"registers {ours}, foretold {theirs}")
        if self.arena != other.arena:
            where = next(
                i for i, (a, b) in enumerate(zip(self.arena, other.arena, strict=True)) if a != b
            )
            said.append(
                f"arena at {where}: {self.arena[where : where + 8].hex()}, "
                f"foretold {other.arena[where : where + 8].hex()}"
            )
        return "; ".join(said)


def run(fake: FakeKernel, rule: Sweep, made: Contract, **extra: int) -> SweepResult:
    payload = sweep.encode(
        rule,
        made,
        number=fakekernel.number(fake.abi),
        before=[],
        after=[],
        deadline_ms=extra.get("deadline_ms", 0),
    )
    return fake.target.caller(fake.abi).sweep(payload)


#: Results that the fake kernel gives in turn: runs of each length, errors and none.
SCRIPT = (-1, -2, -2, 0, 0, 0, 7, -4095, -22, -22, -22, -22, -7)


def trace(fake: FakeKernel, rule: Sweep, made: Contract) -> tuple[list[Moment], SweepResult]:
    """Every call of a sweep as the kernel saw it."""
    moments: list[Moment] = []

    def answer(call: Called) -> int:
        arena = fake.read(fake.process.arena, AREA_BYTES)
        moments.append(Moment(call.args, arena))
        return SCRIPT[(len(moments) - 1) % len(SCRIPT)]

    fake.answer = answer
    return moments, run(fake, rule, made)


def foretell(fake: FakeKernel, rule: Sweep, made: Contract) -> Iterator[Moment]:
    """The same, by harness.sweep and harness.case alone."""
    base = {Area.ARENA: fake.process.arena, Area.SCRATCH: fake.process.scratch}
    mask = (1 << fake.abi.register) - 1
    start = AREA_BYTES - WINDOW if rule.place in AT_END else 0
    for point in sweep.points(rule, made):
        case = sweep.case_of(rule, made, point)
        registers = [
            base[one.area] + one.offset if isinstance(one, Address) else one
            for one in cases.registers(made, case)
        ]
        arena = bytearray(AREA_BYTES)
        arena[start : start + WINDOW] = bytes([CANARY]) * WINDOW
        arena[case.offset : case.offset + len(case.memory)] = case.memory
        if point.byte is not None and point.byte >= len(case.memory):
            arena[case.offset + point.byte] ^= point.flip  # too far away for any call to look at
        assert all(isinstance(one, int) for one in registers)
        yield Moment(tuple(one & mask for one in registers), bytes(arena))  # type: ignore[operator]


def check(fake: FakeKernel, rule: Sweep, made: Contract) -> int:
    """Run a sweep and compare every call and every row.  The number of calls."""
    moments, result = trace(fake, rule, made)
    for index, (moment, foretold) in enumerate(
        itertools.zip_longest(moments, foretell(fake, rule, made))
    ):
        assert moment is not None, f"call {index} was not made"
        assert foretold is not None, f"call {index} was not foretold"
        assert moment == foretold, f"call {index}: {moment.differs(foretold)}"
    assert result.calls == len(moments)
    outcomes = [min(0, SCRIPT[index % len(SCRIPT)]) for index in range(len(moments))]
    runs = [(key, len(list(group))) for key, group in itertools.groupby(outcomes)]
    assert [(-row.seen.errno, row.count) for row in result.rows] == runs
    assert [row.first for row in result.rows] == list(
        itertools.accumulate((count for _, count in runs), initial=0)
    )[:-1]
    assert all(row.seen == Seen(errno=row.seen.errno) for row in result.rows)
    return len(moments)


TEMPLATE = bytes(range(1, 41))


def dim(kind: Kind, start: int, stop: int, step: int = 1, index: int = 0) -> Dim:
    return Dim(kind=kind, start=start, stop=stop, step=step, index=index)


#: Dimensions, whether they may be used where the memory ends, and how many calls they make
#: with a usize of 40 (None: that depends on the contract).
WALKS: dict[str, tuple[tuple[Dim, ...], bool, int | None]] = {
    "nothing": ((), True, 1),
    "usize": ((dim(Kind.USIZE, 0, 42),), True, 42),
    "usize up to a page": ((dim(Kind.USIZE, PAGE - 2, PAGE + 3),), True, 5),
    "usize beyond what is there": ((dim(Kind.USIZE, sweep.REACH - 2, sweep.REACH + 3),), True, 5),
    "huge usize": ((dim(Kind.USIZE, (1 << 31) - 1, (1 << 31) + 2),), True, 3),
    "usize of 33 bits": ((dim(Kind.USIZE, (1 << 32) - 1, (1 << 32) + 40, 7),), True, 6),
    "largest usize": ((dim(Kind.USIZE, U64 - 5, U64, 2),), True, 3),
    "usize, in steps": ((dim(Kind.USIZE, 3, 60, 7),), True, 9),
    "no usize": ((dim(Kind.USIZE, 5, 5),), True, 0),
    "less than no usize": ((dim(Kind.USIZE, 9, 5),), True, 0),
    "shift": ((dim(Kind.SHIFT, 0, 20),), True, 20),
    "shift by a page": ((dim(Kind.SHIFT, PAGE - 3, PAGE),), True, 3),
    "usize and shift": ((dim(Kind.USIZE, 0, 40, 8), dim(Kind.SHIFT, 0, 16, 5)), True, 20),
    "shift and usize": ((dim(Kind.SHIFT, 0, 16, 5), dim(Kind.USIZE, 0, 40, 8)), True, 20),
    "byte": ((dim(Kind.BYTE, 0, 50),), False, 50),
    "byte far behind": ((dim(Kind.BYTE, 200, sweep.REACH, 3000),), False, 5),
    "bit of a byte": ((dim(Kind.BYTE, 0, 44, 4), dim(Kind.BIT, 0, 8)), False, 88),
    "bits 2, 5 of a byte": ((dim(Kind.BYTE, 0, 44, 4), dim(Kind.BIT, 2, 8, 3)), False, 22),
    "tail": ((dim(Kind.TAIL, 30, 0),), True, None),
    "tail from 0": ((dim(Kind.TAIL, 0, 0, 3),), True, None),
    "tail's bits": ((dim(Kind.TAIL, 32, 0, 2), dim(Kind.BIT, 0, 8)), True, None),
    "usize and tail": ((dim(Kind.USIZE, 20, 26), dim(Kind.TAIL, 18, 0)), True, None),
    "usize, shift, tail, bit": (
        (
            dim(Kind.USIZE, 30, 34),
            dim(Kind.SHIFT, 0, 3),
            dim(Kind.TAIL, 28, 0),
            dim(Kind.BIT, 0, 8, 3),
        ),
        True,
        None,
    ),
}


#: Those in which the way to say a size matters.
OF_SIZES = (
    *("nothing", "usize", "usize beyond what is there", "huge usize", "usize of 33 bits"),
    *("largest usize", "shift and usize", "bits 2, 5 of a byte", "tail", "usize and tail"),
)
PLACES = pytest.mark.parametrize("place", list(Place), ids=lambda place: place.name.lower())


def check_walks(fake: FakeKernel, names: Iterable[str], made: Contract, place: Place) -> None:
    for name in names:
        dims, at_end, count = WALKS[name]
        if at_end or place not in AT_END:
            rule = Sweep(dims=dims, usize=40, template=TEMPLATE, place=place)
            calls = check(fake, rule, made)
            assert count in (None, calls), name


@PLACES
def test_every_walk_is_the_one_that_was_foretold(fake: FakeKernel, place: Place) -> None:
    check_walks(fake, WALKS, CONTRACTS["u32 at 4"], place)


@PLACES
@pytest.mark.parametrize("kind", [name for name in CONTRACTS if name != "u32 at 4"])
def test_every_way_to_say_a_size(fake: FakeKernel, kind: str, place: Place) -> None:
    check_walks(fake, OF_SIZES, CONTRACTS[kind], place)


@pytest.mark.parametrize("made", CONTRACTS.values(), ids=CONTRACTS)
def test_arguments(fake: FakeKernel, made: Contract) -> None:
    """Values, bits, all 64 of them, and both; with other arguments as they were."""
    for arg in made.flags_args:
        others = tuple((one, 0xABC0 + one) for one in made.flags_args)
        for dims, count in (
            ((dim(Kind.ARG_BIT, 0, 64, index=arg),), 64),
            ((dim(Kind.ARG_BIT, 31, 34, index=arg),), 3),
            ((dim(Kind.ARG, 5, 12, 2, index=arg),), 4),
            ((dim(Kind.ARG, U64 - 3, U64, index=arg),), 3),
            ((dim(Kind.ARG, 0, 3, index=arg), dim(Kind.ARG_BIT, 30, 34, index=arg)), 12),
            ((dim(Kind.ARG_BIT, 30, 34, index=arg), dim(Kind.ARG, 0, 3, index=arg)), 12),
            ((dim(Kind.ARG_BIT, 0, 5, index=arg), dim(Kind.ARG_BIT, 3, 7, index=arg)), 20),
            ((dim(Kind.ARG, 1, 4, index=arg), dim(Kind.USIZE, 0, 3)), 9),
            ((dim(Kind.USIZE, 0, 3), dim(Kind.ARG, 1, 4, index=arg)), 9),
            ((dim(Kind.ARG_BIT, 3, 5, index=arg), dim(Kind.BYTE, 0, 3), dim(Kind.BIT, 0, 2)), 12),
        ):
            for args in ((), others):
                rule = Sweep(dims=dims, usize=24, template=TEMPLATE, args=args)
                assert check(fake, rule, made) == count


def test_two_arguments(fake: FakeKernel) -> None:
    made = CONTRACTS["u64 at 8"]
    dims = (dim(Kind.ARG, 0, 4, index=0), dim(Kind.ARG_BIT, 0, 64, 9, index=1))
    assert check(fake, Sweep(dims=dims, usize=24, args=((1, 5), (0, 9))), made) == 32


@pytest.mark.parametrize("flip", [1, 0x80, 0xFF, 0])
def test_the_byte_that_is_flipped_in(fake: FakeKernel, flip: int) -> None:
    dims = (dim(Kind.USIZE, 16, 20), dim(Kind.TAIL, 0, 0))
    rule = Sweep(dims=dims, template=TEMPLATE, flip=flip)
    assert check(fake, rule, CONTRACTS["u32 at 4"]) == 16 + 17 + 18 + 19


@pytest.mark.parametrize("length", [0, 1, 23, 24, 25, 4000, sweep.REACH])
def test_templates_shorter_and_longer_than_the_struct(fake: FakeKernel, length: int) -> None:
    template = bytes(index % 251 + 1 for index in range(length))
    for made in (CONTRACTS["u32 at 0"], CONTRACTS["argument"]):
        for place in Place:
            check(
                fake, Sweep(dims=(dim(Kind.USIZE, 22, 27),), template=template, place=place), made
            )


@st.composite
def rules(draw: st.DrawFn) -> tuple[Sweep, Contract]:
    """Any sweep that a caller takes, of a few dozen calls."""
    made = draw(st.sampled_from(list(CONTRACTS.values())))
    place = draw(st.sampled_from(list(Place)))
    outer = draw(st.permutations(["usize", "shift"]))[: draw(st.integers(0, 2))]
    inner = draw(st.sampled_from([(), ("tail",), ("tail", "bit"), ("byte",), ("byte", "bit")]))
    if place in AT_END:
        inner = tuple("tail" if name == "byte" else name for name in inner)
    names = [*outer, *inner]
    for name in draw(st.lists(st.sampled_from(["arg", "arg_bit"]), max_size=4 - len(names))):
        names.insert(draw(st.integers(0, len(names))), name)
    step = st.integers(1, 9)

    def one(name: str) -> Dim:
        index = draw(st.sampled_from(made.flags_args))
        starts = {
            "usize": st.one_of(st.integers(0, 60), st.sampled_from([PAGE - 1, 8000])),
            "shift": st.integers(0, 40),
            "byte": st.integers(0, 300),
            "tail": st.integers(0, 20),
            "bit": st.integers(0, 7),
            "arg_bit": st.integers(0, 63),
            "arg": st.one_of(st.integers(0, 9), st.integers(0, U64 - 40)),
        }
        limit = {"bit": 8, "arg_bit": 64}.get(name, U64)
        start = draw(starts[name])
        stop = min(start + draw(st.sampled_from([0, 1, 2, 3, 4])) * draw(step), limit)
        step_by = draw(st.integers(1, 3))
        if name == "tail":
            step_by = draw(st.sampled_from([5, 977, 4001]))
        return dim(Kind[name.upper()], start, stop, step_by, index)

    dims = tuple(one(name) for name in names)
    usize = draw(st.one_of(st.integers(0, 70), st.sampled_from([PAGE, PAGE + 1])))
    template = draw(st.binary(max_size=60))
    args = tuple((index, draw(st.integers(0, U64))) for index in made.flags_args)
    flip = draw(st.integers(0, 255))
    rule = Sweep(dims=dims, usize=usize, template=template, args=args, place=place, flip=flip)
    assume(sum(1 for _ in itertools.islice(sweep.points(rule, made), 81)) <= 80)
    return rule, made


def test_any_sweep_at_all(fake: FakeKernel) -> None:
    """Random ones; many have four dimensions."""
    calls = 0

    @given(rules())
    @settings(max_examples=250)
    def any_sweep(drawn: tuple[Sweep, Contract]) -> None:
        nonlocal calls
        calls += check(fake, *drawn)

    any_sweep()
    assert calls > 300, "the examples hardly make a call"


# Parts: one sweep as several.


@given(rules(), st.integers(1, 9))
@settings(max_examples=250)
def test_the_parts_of_a_sweep_are_the_sweep(drawn: tuple[Sweep, Contract], parts: int) -> None:
    rule, made = drawn
    split = sweep.split(rule, made, parts)
    assert 1 <= len(split) <= parts
    points = list(sweep.points(rule, made))
    assert [one for part in split for one in sweep.points(part, made)] == points
    assert [sweep.count(part, made) for part in split] == [
        sum(1 for _ in sweep.points(part, made)) for part in split
    ]


@pytest.mark.parametrize("kind", CONTRACTS)
@pytest.mark.parametrize("way", [None, *WAYS["m64"]], ids=lambda way: way.name if way else "own")
def test_what_was_predicted_before_is_what_the_model_says(kind: str, way: Way | None) -> None:
    """A sweep over sizes is predicted once for all whose registers cannot matter to it."""
    made = CONTRACTS[kind]
    layout = Layout(struct="s", size=16, align=8, fields=())
    rules = [
        Sweep(dims=(dim(Kind.USIZE, 0, 300),), template=bytes(16), way=way),
        Sweep(dims=(dim(Kind.ARG, 0, 1 << 33, index=0, step=1 << 25),), usize=16, way=way),
        Sweep(dims=(dim(Kind.USIZE, 17, 300), dim(Kind.TAIL, 16, 0)), template=bytes(16), way=way),
        Sweep(dims=(dim(Kind.USIZE, 0, 300),), place=Place.SHORT, template=bytes(16), way=way),
        # As wide as a register is, but for its upper half.
        Sweep(dims=(dim(Kind.USIZE, 1 << 32, (1 << 32) + 300),), template=bytes(16), way=way),
    ]
    for register, rule in itertools.product((64, 32, 64), rules):
        told = list(sweep.predicted(rule, made, layout, register=register))
        wanted = list(sweep.predict(rule, made, layout, register=register))
        assert told == wanted, rule


def test_parts_are_about_as_long() -> None:
    """The tails at large sizes make most of the calls."""
    rule = Sweep(dims=(dim(Kind.USIZE, 25, 4105), dim(Kind.TAIL, 24, 0), dim(Kind.BIT, 0, 8)))
    parts = [sweep.count(part, MADE) for part in sweep.split(rule, MADE, 32)]
    assert len(parts) in (31, 32)
    assert sum(parts) == sweep.count(rule, MADE) == 4080 * 4081 // 2 * 8
    assert max(parts[:-1]) < 1.05 * min(parts[:-1])


def a_result(*counts: tuple[int, Seen], canary: int | None = None) -> SweepResult:
    """Rows of these lengths, and memory found changed at the end."""
    rows, first = [], 0
    for count, seen in counts:
        rows.append(Row(first=first, count=count, seen=seen))
        first += count
    if canary is not None:
        rows.append(Row(first=first, count=0, seen=Seen(errno=0), canary=canary))
    return SweepResult(rows=tuple(rows), calls=first, nanoseconds=first)


def test_joined_parts_have_the_rows_of_the_whole() -> None:
    """Numbered through; a run that goes on over a border is one."""
    bad, big = Seen(errno=errno.EINVAL), Seen(errno=errno.E2BIG, written=24)
    whole = sweep.join(
        [
            a_result((3, bad), (2, big)),
            a_result((4, big), canary=70),
            a_result((5, big), canary=-3),
            a_result((1, dataclasses.replace(big, written=25)), (1, bad)),
        ],
        [5, 4, 5, 2],
    )
    assert (whole.calls, whole.nanoseconds) == (16, 16)
    assert [(row.first, row.count, row.canary) for row in whole.rows] == [
        *((0, 3, None), (3, 6, None), (9, 0, 70), (9, 5, None), (14, 0, -3)),
        *((14, 1, None), (15, 1, None)),
    ]


def test_what_lies_behind_a_fault_is_not_joined() -> None:
    """As in a walk that was not split; one that a signal did not end goes on."""
    bad = Seen(errno=errno.EINVAL)
    fault, trap = (Seen(errno=0, signal=number) for number in (signal.SIGSEGV, signal.SIGSYS))
    parts = [a_result((5, trap)), a_result((2, bad), (1, fault)), a_result((5, bad))]
    whole = sweep.join(parts, [5, 5, 5])
    assert [(row.count, row.seen) for row in whole.rows] == [(5, trap), (2, bad), (1, fault)]
    assert whole.calls == 8


def test_callers_side_by_side(local: Target, here: ABI) -> None:
    """What several callers make of the parts is what one makes of the whole."""
    nr = hosttarget.numbers(here)["lseek"]
    made = CONTRACTS["u32 at 0"]
    rule = Sweep(dims=(dim(Kind.ARG, 0, 90, index=2),), usize=24)  # five kinds of seeking

    def payload(part: Sweep) -> bytes:
        return sweep.encode(part, made, number=nr, before=[], after=[], deadline_ms=1000)

    parts = sweep.split(rule, made, 40)
    assert len(parts) > 20
    caller = local.caller(here)
    assert caller.lanes == min(2, os.sysconf("SC_NPROCESSORS_ONLN"))
    for _ in range(2):
        results = caller.sweeps([payload(part) for part in parts])
        whole = sweep.join(results, [sweep.count(part, made) for part in parts])
        assert whole.rows == caller.sweep(payload(rule)).rows
        assert [(row.count, row.seen.errno) for row in whole.rows] == [(5, 0), (85, errno.EINVAL)]
    # One that is refused ends all, and the next request is answered as ever.
    broken = dataclasses.replace(rule, dims=(dim(Kind.BIT, 0, 8),))
    with pytest.raises(RefusedError, match="SHAPE"):
        caller.sweeps([payload(part) for part in (*parts[:3], broken, *parts[3:])])
    assert len(local.caller(here).sweeps([payload(part) for part in parts])) == len(parts)


# Rows: what the caller makes of what a kernel does.

SIZES = Sweep(dims=(dim(Kind.USIZE, 16, 200),), template=TEMPLATE)


@dataclasses.dataclass
class Misdeed:
    """A kernel that refuses everything, and writes somewhere at one of the calls."""

    fake: FakeKernel
    at_call: int
    offset: int  #: from the struct
    data: bytes
    result: int = -errno.EINVAL
    from_end: bool = False  #: the offset is from the struct's end
    usize: int = 16  #: of the first call
    calls: int = 0

    def __call__(self, call: Called) -> int:
        if self.calls == self.at_call:
            start = call.args[MADE.pointer]
            if self.from_end:
                start += self.usize + self.calls
            assert self.fake.write(start + self.offset, self.data)
        self.calls += 1
        return self.result


def rows_of(fake: FakeKernel, rule: Sweep, misdeed: Misdeed) -> list[Row]:
    fake.answer = misdeed
    result = run(fake, rule, MADE)
    assert result.calls == misdeed.calls
    return list(result.rows)


def refused(first: int, count: int, **seen: int | bool) -> Row:
    return Row(first=first, count=count, seen=Seen(errno=errno.EINVAL, **seen))  # type: ignore[arg-type]


def test_a_written_size(fake: FakeKernel) -> None:
    """In the field's width, at the call that wrote it; the next one has its own again."""
    rows = rows_of(fake, SIZES, Misdeed(fake, 3, 4, (0x01020304).to_bytes(4, "little")))
    assert rows == [refused(0, 3), refused(3, 1, written=0x01020304), refused(4, 180)]
    # One byte of it is enough; the size that it already is is no change.
    rows = rows_of(fake, SIZES, Misdeed(fake, 3, 7, b"\x80"))
    assert rows[1] == refused(3, 1, written=0x80000000 | 19)
    rows = rows_of(fake, SIZES, Misdeed(fake, 3, 4, (19).to_bytes(4, "little")))
    assert rows == [refused(0, 184)]


@pytest.mark.parametrize("offset", [0, 3, 8, 15])
def test_a_byte_beside_the_size(fake: FakeKernel, offset: int) -> None:
    rows = rows_of(fake, SIZES, Misdeed(fake, 3, offset, b"\xee"))
    assert rows == [refused(0, 3), refused(3, 1, stray=True), refused(4, 180)]


def test_the_size_and_a_byte_beside_it(fake: FakeKernel) -> None:
    rows = rows_of(fake, SIZES, Misdeed(fake, 0, 4, b"\x40\0\0\0\xee"))
    assert rows == [refused(0, 1, written=64, stray=True), refused(1, 183)]


#: A sweep of each innermost dimension, of 72 calls each but the first.
INNERMOST = {
    "usize": SIZES,
    "tail": Sweep(dims=(dim(Kind.TAIL, 24, 0),), usize=96, template=TEMPLATE),
    "tail-bit": Sweep(
        dims=(dim(Kind.TAIL, 24, 0, step=8), dim(Kind.BIT, 0, 8)), usize=96, template=TEMPLATE
    ),
    "byte-among-the-quick-ones": Sweep(
        dims=(dim(Kind.BYTE, 0, 72),), usize=96, template=TEMPLATE, flip=0
    ),
    "arg": Sweep(dims=(dim(Kind.ARG, 0, 72, index=2),), usize=96, template=TEMPLATE),
    "arg-bit": Sweep(
        dims=(dim(Kind.ARG, 0, 3, index=2), dim(Kind.ARG_BIT, 8, 32, index=2)),
        usize=96,
        template=TEMPLATE,
    ),
}


@pytest.fixture(name="walk", params=INNERMOST.values(), ids=list(INNERMOST))
def _walk(request: pytest.FixtureRequest) -> Sweep:
    assert isinstance(request.param, Sweep)
    return request.param


def test_a_size_that_every_call_writes(fake: FakeKernel, walk: Sweep) -> None:
    """One row; each call has its own size again, so that the last one writes it, too."""

    def answer(call: Called) -> int:
        assert fake.read(call.args[MADE.pointer] + 4, 4) not in (b"\x11" * 4, b"\x22" * 4)
        assert fake.write(call.args[MADE.pointer] + 4, b"\x11" * 4)
        return -errno.EINVAL

    fake.answer = answer
    (row,) = run(fake, walk, MADE).rows
    assert row.seen == Seen(errno=errno.EINVAL, written=0x11111111)


@pytest.mark.parametrize("at_call", [0, 1, 37, 71])
def test_one_call_that_differs(fake: FakeKernel, walk: Sweep, at_call: int) -> None:
    """In what it returns, in what it writes, or in that it writes nothing: a row of its own."""
    total = sum(1 for _ in sweep.points(walk, MADE))
    usual = (-errno.EINVAL, b"\x11" * 4, 4)
    for result, data, offset in (
        (-errno.E2BIG, b"\x11" * 4, 4),
        (0, b"\x11" * 4, 4),
        (-errno.EINVAL, b"\x22" * 4, 4),
        (-errno.EINVAL, b"\x11" * 4 + b"\xee", 4),
        (-errno.EINVAL, b"\xee" + b"\x11" * 4, 3),
        (-errno.EINVAL, b"", 0),
    ):
        made = itertools.chain(
            itertools.repeat(usual, at_call), [(result, data, offset)], itertools.repeat(usual)
        )

        def answer(call: Called, made: Iterator[tuple[int, bytes, int]] = made) -> int:
            returned, written, at = next(made)
            assert fake.write(call.args[MADE.pointer] + at, written)
            return returned

        fake.answer = answer
        seen = Seen(
            errno=-result,
            written=int.from_bytes(data[4 - offset :][:4], "little") if data else None,
            stray=len(data) == 5,
        )
        rest = total - at_call - 1
        assert list(run(fake, walk, MADE).rows) == [
            *[refused(0, at_call, written=0x11111111)] * bool(at_call),
            Row(first=at_call, count=1, seen=seen),
            *[refused(at_call + 1, rest, written=0x11111111)] * bool(rest),
        ]


def canaries(rows: list[Row]) -> list[tuple[int, int]]:
    """(calls made before it was found, offset)."""
    return [(row.first, row.canary) for row in rows if row.canary is not None]


#: Of SIZES: the first call, one in the middle, the last.
AT_CALLS = (0, 50, 183)


def found_at(fake: FakeKernel, rule: Sweep, misdeed: Misdeed) -> list[int]:
    """Where memory was found changed, after a sweep of which nothing else is wrong."""
    rows = rows_of(fake, rule, misdeed)
    assert sum(row.count for row in rows) == misdeed.calls
    assert {row.seen for row in rows if row.canary is None} == {Seen(errno=errno.EINVAL)}
    return [offset for _, offset in canaries(rows)]


def test_a_byte_behind_the_struct_s_first_ones(fake: FakeKernel) -> None:
    """Within the struct, and found whatever was laid out over it afterwards."""
    for place, at_call in itertools.product(Place, AT_CALLS):
        rule = dataclasses.replace(SIZES, place=place)
        stop = 16 + at_call - (place is Place.SHORT)
        for offset in {stop - 1, stop // 2, 16} & set(range(16, stop)):
            where = found_at(fake, rule, Misdeed(fake, at_call, offset, b"\xee"))
            assert where == [offset], (place, at_call)


def test_a_byte_behind_the_struct(fake: FakeKernel) -> None:
    for place, at_call in itertools.product((Place.MIDDLE, Place.START), AT_CALLS):
        rule = dataclasses.replace(SIZES, place=place)
        for beyond in (0, 1, 7, 64, 4000):
            misdeed = Misdeed(fake, at_call, beyond, b"\xee", from_end=True)
            assert found_at(fake, rule, misdeed) == [16 + at_call + beyond], (place, at_call)


def test_a_byte_before_the_struct(fake: FakeKernel) -> None:
    sizes = (dim(Kind.USIZE, 20, 204),)
    for place, at_call in itertools.product((Place.MIDDLE, *AT_END), AT_CALLS):
        rule = dataclasses.replace(SIZES, dims=sizes, place=place)
        for before in (1, 8, 64, 4096):
            where = found_at(fake, rule, Misdeed(fake, at_call, -before, b"\xee"))
            if before <= 64 or place is Place.MIDDLE:
                assert where == [-before], (place, at_call)
            else:  # found at the end, and told from where the struct is then
                assert len(where) == 1
                assert -before <= where[0] < 0, (place, at_call)


def test_a_byte_before_a_struct_of_four_bytes(fake: FakeKernel) -> None:
    """At the end of memory the bytes compared after each call reach before the struct."""
    rule = Sweep(dims=(dim(Kind.USIZE, 0, 3),), place=Place.END)
    rows = rows_of(fake, rule, Misdeed(fake, 1, -1, b"\xee"))
    assert rows == [refused(0, 1), refused(1, 1, stray=True), refused(2, 1)]


def test_a_byte_at_each_end_of_the_window(fake: FakeKernel) -> None:
    rule = Sweep(dims=(), usize=24, template=TEMPLATE)
    for offset in (-PAGE, WINDOW - PAGE - 1):
        rows = rows_of(fake, rule, Misdeed(fake, 0, offset, b"\xee"))
        assert canaries(rows) == [(1, offset)]


@pytest.mark.parametrize(
    "dims",
    [
        (dim(Kind.TAIL, 16, 0),),
        (dim(Kind.TAIL, 16, 0), dim(Kind.BIT, 0, 8)),
        (dim(Kind.SHIFT, 0, 60),),
        (dim(Kind.ARG, 0, 60, index=2),),
        (dim(Kind.ARG_BIT, 0, 60, index=2),),
        (dim(Kind.BYTE, 16, 60), dim(Kind.BIT, 0, 8), dim(Kind.ARG, 1, 3, index=2)),
    ],
    ids=lambda dims: "-".join(one.kind.name.lower() for one in dims),
)
def test_a_byte_that_is_written_during_any_walk(fake: FakeKernel, dims: tuple[Dim, ...]) -> None:
    """At the first call, in the middle and at the last, in a byte that is flipped, too."""
    rule = Sweep(dims=dims, usize=80, template=TEMPLATE)
    total = sum(1 for _ in sweep.points(rule, MADE))
    for at_call in (0, 30, total - 1):
        for offset in (40, 90):
            rows = rows_of(fake, rule, Misdeed(fake, at_call, offset, b"\xee"))
            assert len(rows) - len(canaries(rows)) in (1, 2)
            assert [found for _, found in canaries(rows)] == [offset]


def test_a_canary_is_told_once(fake: FakeKernel) -> None:
    """It is mended when it is found: the walk behind it is not blamed."""
    dims = (dim(Kind.SHIFT, 0, 4), dim(Kind.ARG, 0, 10, index=2))
    rows = rows_of(fake, Sweep(dims=dims, usize=24), Misdeed(fake, 12, 100, b"\xee"))
    assert canaries(rows) == [(20, 100)]


def test_results_that_are_no_error_are_one(fake: FakeKernel) -> None:
    """A descriptor's number is the kernel's business: a run does not end by it."""
    results = iter([0, 1, 1 << 20, -errno.EPERM, -4095, -4096, 5] + [0] * 200)
    fake.answer = lambda call: next(results)
    rows = run(fake, SIZES, MADE).rows
    assert [(row.seen.errno, row.count) for row in rows] == [(0, 3), (1, 1), (4095, 1), (0, 179)]


def test_more_rows_than_one_frame_holds(fake: FakeKernel) -> None:
    count = 5000
    numbers = itertools.cycle([-1, -2])
    fake.answer = lambda call: next(numbers)
    rule = Sweep(dims=(dim(Kind.ARG, 0, count, index=2),), usize=24)
    rows = run(fake, rule, MADE).rows
    assert [(row.first, row.count, row.seen.errno) for row in rows] == [
        (index, 1, 1 + index % 2) for index in range(count)
    ]


# Effects.


def effect_of(fake: FakeKernel, made: Contract, content: bytes) -> Row:
    """Accept one call; its descriptor gives ``content``."""

    def answer(call: Called) -> Descriptor:
        reading, writing = os.pipe()
        os.write(writing, content)
        os.close(writing)
        return Descriptor(reading)

    fake.answer = answer
    nr = hosttarget.numbers(fake.abi)
    after = sweep.after_ops(made, number=nr.__getitem__, ksize=24)
    payload = sweep.encode(
        Sweep(dims=(), usize=24),
        made,
        number=fakekernel.number(fake.abi),
        before=[],
        after=after,
        deadline_ms=1000,
    )
    (row,) = fake.target.caller(fake.abi).sweep(payload).rows
    return row


@given(st.binary(min_size=24, max_size=24))
@settings(max_examples=20)
def test_an_effect_is_a_hash_of_what_is_held(held: bytes) -> None:
    """Of any content, distinct from that of a byte less, more, or other."""
    effect = ReadBack()
    hashes = [
        sweep.effect_hash(effect, one)
        for one in (held, held[:-1], held + b"\0", held[:-1] + bytes([held[-1] ^ 1]))
    ]
    assert len(set(hashes)) == 4


def test_an_effect_is_what_read_gives(fake: FakeKernel) -> None:
    made = dataclasses.replace(MADE, effect=ReadBack())
    for content in (bytes(range(24)), b"\xff" * 24, b"\0" * 24):
        row = effect_of(fake, made, content)
        assert row.seen == Seen(errno=0, effect=sweep.effect_hash(made.effect, content))
    right = sweep.effect_hash(made.effect, b"\0" * 24)
    for content in (b"\0" * 23, b"\0" * 25, b"", b"\0" * 23 + b"\1"):
        assert effect_of(fake, made, content).seen.effect not in (None, right)


def test_an_effect_leaves_no_descriptor(fake: FakeKernel) -> None:
    def descriptors() -> list[str]:
        return sorted(path.name for path in Path(f"/proc/{fake.process.pid}/fd").iterdir())

    before = descriptors()
    made = dataclasses.replace(MADE, effect=ReadBack())
    for _ in range(5):
        effect_of(fake, made, b"x" * 24)
    assert descriptors() == before


def test_no_effect_where_none_is_looked_for(fake: FakeKernel) -> None:
    assert sweep.after_ops(MADE, number={"close": 2}.__getitem__, ksize=24) == []
    assert sweep.effect_hash(Nothing(), b"x") is None
    fake.answer = lambda call: 3
    (row,) = run(fake, Sweep(dims=(), usize=24), MADE).rows
    assert row.seen == Seen(errno=0)


#: FNV-1a 64 of short strings, from the authors' own test vectors.
FNV = {
    b"": 0xCBF29CE484222325,
    b"a": 0xAF63DC4C8601EC8C,
    b"b": 0xAF63DF4C8601F1A5,
    b"fo": 0x08985907B541D342,
    b"foobar": 0x85944171F73967E8,
}


@pytest.mark.parametrize(("data", "value"), FNV.items())
def test_fnv(data: bytes, value: int) -> None:
    assert sweep.fnv(data) == value


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_fnv_goes_on_where_it_stopped(first: bytes, second: bytes) -> None:
    assert sweep.fnv(second, sweep.fnv(first)) == sweep.fnv(first + second)


# Signals, deadlines, long sweeps.


def test_a_call_that_blocks_ends_by_the_deadline(fake: FakeKernel) -> None:
    calls = []

    def answer(call: Called) -> int:
        calls.append(time.monotonic())
        if len(calls) == 3:
            time.sleep(0.3)
        return -errno.EINVAL

    fake.answer = answer
    rule = Sweep(dims=(dim(Kind.ARG, 0, 6, index=2),), usize=24)
    rows = run(fake, rule, MADE, deadline_ms=200).rows
    late = [row for row in rows if row.seen != Seen(errno=errno.EINVAL)]
    assert late == [Row(first=2, count=1, seen=Seen(errno=errno.EINTR, deadline=True))]
    assert sum(row.count for row in rows) == 6


def test_a_deadline_is_each_call_s_own(fake: FakeKernel) -> None:
    """Calls that take half of it, one after the other: none is late, but for the one that is."""
    taken: list[float] = []

    def answer(call: Called) -> int:
        started = time.monotonic()
        while time.monotonic() - started < (2.0 if len(taken) == 9 else 0.1) and fake.waits(call):
            time.sleep(0.005)
        taken.append(time.monotonic() - started)
        return -errno.EINTR

    fake.answer = answer
    rule = Sweep(dims=(dim(Kind.ARG, 0, 12, index=2),), usize=24)
    for _ in range(2):  # the one who watches is there already
        taken.clear()
        rows = run(fake, rule, MADE, deadline_ms=200).rows
        plain = Seen(errno=errno.EINTR)
        assert [(row.count, row.seen) for row in rows] == [
            (9, plain),
            (1, dataclasses.replace(plain, deadline=True)),
            (2, plain),
        ]
        assert 0.19 <= taken[9] < 1.5


def test_sigsys_is_a_row_and_the_walk_goes_on(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)["getppid"]
    try:
        fakekernel.install(local, here, wanted=nr, action=fakekernel.SECCOMP_RET_TRAP)
        rule = Sweep(dims=(dim(Kind.USIZE, 0, 50),))
        payload = sweep.encode(rule, MADE, number=nr, before=[], after=[], deadline_ms=0)
        result = local.caller(here).sweep(payload)
    finally:
        local.restart(here)
    assert result.rows == (Row(first=0, count=50, seen=Seen(errno=0, signal=signal.SIGSYS)),)


def test_a_fault_ends_the_walk_and_is_its_last_row(fake: FakeKernel) -> None:
    """Nobody knows where a program is that faults in a call: it does not go on."""
    calls = []

    def answer(call: Called) -> int:
        calls.append(call)
        if len(calls) == 4:
            os.kill(fake.process.pid, signal.SIGSEGV)
        return -errno.EINVAL

    fake.answer = answer
    result = run(fake, SIZES, MADE)
    assert result.rows == (
        refused(0, 3),
        Row(first=3, count=1, seen=Seen(errno=0, signal=signal.SIGSEGV)),
    )
    assert result.calls == 4
    fake.answer = lambda call: -errno.EINVAL
    assert run(fake, SIZES, MADE).calls == 184


def test_a_long_loop_reports_its_progress(local: Target, here: ABI) -> None:
    """One dimension is one loop, ended by no row; the host takes silence for a hang."""
    told: list[int] = []
    rule = Sweep(dims=(dim(Kind.ARG, 0, 1 << 40, index=2),), usize=24)
    nr = hosttarget.numbers(here)["getppid"]
    payload = sweep.encode(rule, MADE, number=nr, before=[], after=[], deadline_ms=0)

    class EnoughError(Exception):
        pass

    def on_progress(calls: int) -> None:
        told.append(calls)
        raise EnoughError

    started = time.monotonic()
    try:
        with pytest.raises(EnoughError):
            local.caller(here).sweep(payload, on_progress=on_progress)
    finally:
        local.restart(here)
    assert 1.0 <= time.monotonic() - started < 10.0
    assert told[0] > 0


REFUSED = {
    "two bytes": (dim(Kind.BYTE, 0, 4), dim(Kind.TAIL, 0, 4)),
    "two bits": (dim(Kind.BYTE, 0, 4), dim(Kind.BIT, 0, 4), dim(Kind.BIT, 0, 4)),
    "a bit of no byte": (dim(Kind.BIT, 0, 8),),
    "a size behind a byte": (dim(Kind.BYTE, 0, 4), dim(Kind.USIZE, 20, 24)),
    "a shift behind a byte": (dim(Kind.TAIL, 0, 0), dim(Kind.SHIFT, 0, 4)),
    "a ninth bit": (dim(Kind.BYTE, 0, 4), dim(Kind.BIT, 0, 9)),
    "bit 64 of an argument": (dim(Kind.ARG_BIT, 0, 65, index=2),),
    "a seventh argument": (dim(Kind.ARG, 0, 4, index=6),),
    "the pointer's value": (dim(Kind.ARG, 0, 4, index=0),),
    "a bit of the pointer": (dim(Kind.ARG_BIT, 0, 4, index=0),),
    "a shift by a page": (dim(Kind.SHIFT, 0, PAGE + 1),),
    "a byte that is not there": (dim(Kind.BYTE, 0, sweep.REACH + 1),),
    "a tail that is not there": (dim(Kind.USIZE, 0, sweep.REACH + 2), dim(Kind.TAIL, 0, 0)),
    "no step": (dim(Kind.USIZE, 0, 4, 0),),
    "five dimensions": (dim(Kind.ARG, 0, 1, index=2),) * 5,
}


@pytest.mark.parametrize("dims", REFUSED.values(), ids=REFUSED)
def test_a_walk_that_makes_no_sense_is_refused(
    local: Target, here: ABI, dims: tuple[Dim, ...]
) -> None:
    payload = sweep.encode(
        Sweep(dims=dims, usize=24), MADE, number=1, before=[], after=[], deadline_ms=0
    )
    with pytest.raises(RefusedError, match=r"SWEEP: refused: (SHAPE|RANGE)"):
        local.caller(here).sweep(payload)


@pytest.mark.parametrize("place", AT_END, ids=["end", "short"])
def test_a_byte_behind_the_end_of_memory_is_refused(local: Target, here: ABI, place: Place) -> None:
    rule = Sweep(dims=(dim(Kind.BYTE, 0, 4),), usize=24, place=place)
    payload = sweep.encode(rule, MADE, number=1, before=[], after=[], deadline_ms=0)
    with pytest.raises(RefusedError, match="SWEEP: refused: RANGE"):
        local.caller(here).sweep(payload)


# Comparing what was seen with what is allowed.  No caller is needed for that.

XYZZY = xyzzy.CONTRACT
FIELDS = (
    Field(name="size", offset=0, size=4),
    Field(name="param_1", offset=4, size=4),
    Field(name="param_2", offset=8, size=8),
    Field(name="param_3", offset=16, size=8),
)
KNOWN = Layout(struct="xyzzy_params", size=24, align=8, fields=FIELDS)
NEWER = dataclasses.replace(
    KNOWN, size=32, fields=(*FIELDS, Field(name="param_4", offset=24, size=8))
)
GOOD = bytes(KNOWN.new(**XYZZY.example))
#: usize 0 to 39.  0 means 24, of which only the size is there: the rest are canaries.
USIZES = Sweep(dims=(dim(Kind.USIZE, 0, 40),), template=GOOD)


def seen_at(rule: Sweep, layout: Layout, point: sweep.Point) -> Seen:
    """The allowed outcome of one call, by the model alone."""
    case = sweep.case_of(rule, XYZZY, point)
    allowed = cases.predict(XYZZY, layout, case, register=64)
    effect = None if allowed.held is None else sweep.effect_hash(XYZZY.effect, allowed.held)
    return Seen(errno=allowed.errno, written=allowed.written, effect=effect)


def perfect(rule: Sweep, layout: Layout = KNOWN) -> list[Seen]:
    return [seen_at(rule, layout, point) for point in sweep.points(rule, XYZZY)]


def result_of(outcomes: list[Seen]) -> SweepResult:
    """Outcomes as a caller would send them."""
    rows, first = [], 0
    for seen, group in itertools.groupby(outcomes):
        count = len(list(group))
        rows.append(Row(first=first, count=count, seen=seen))
        first += count
    return SweepResult(rows=tuple(rows), calls=first, nanoseconds=1)


def compare(rule: Sweep, result: SweepResult, layout: Layout = KNOWN) -> list[Mismatch]:
    return sweep.compare(rule, XYZZY, layout, result, register=64)


def test_the_outcomes_of_a_simple_sweep() -> None:
    """By hand, so that what follows is not built on sand."""
    outcomes = perfect(USIZES)
    # Size 0 stands for VER0, and that much of the example is there.
    assert [seen.errno for seen in outcomes] == [0, *[errno.E2BIG] * 23, *[0] * 16]
    assert [seen.written for seen in outcomes] == [None, *[24] * 23, *[None] * 16]
    # The kernel's struct holds usize, so each accepted one differs.
    effects = [seen.effect for seen in outcomes if not seen.errno]
    assert len(set(effects)) == 16


ALTERED = {
    "accepted": (5, Seen(errno=0), "E2BIG → success"),
    "refused": (30, Seen(errno=errno.EINVAL), "success → EINVAL"),
    "another errno": (5, Seen(errno=errno.EFAULT, written=24), "E2BIG → EFAULT"),
    "no write-back": (5, Seen(errno=errno.E2BIG), "write-back missing"),
    "wrong write-back": (5, Seen(errno=errno.E2BIG, written=5), "write-back wrong"),
    "write-back on success": (30, Seen(errno=0, written=24), "write-back unasked"),
    "wrong effect": (30, Seen(errno=0, effect=1), "effect wrong"),
    "no effect": (30, Seen(errno=0, effect=None), "effect missing"),
    "a signal": (5, Seen(errno=0, signal=11), "E2BIG → SIGSEGV"),
    "a signal on success": (30, Seen(errno=0, signal=31), "success → SIGSYS"),
    "another byte": (5, Seen(errno=errno.E2BIG, written=24, stray=True), "memory changed"),
    "blocked": (5, Seen(errno=errno.EINTR, deadline=True), "E2BIG → EINTR"),
}


@pytest.mark.parametrize(("index", "seen", "cause"), ALTERED.values(), ids=ALTERED)
def test_each_kind_of_mismatch_is_found(index: int, seen: Seen, cause: str) -> None:
    outcomes = perfect(USIZES)
    was = outcomes[index]
    if cause == "write-back unasked":
        seen = dataclasses.replace(seen, effect=was.effect)
    outcomes[index] = seen
    (found,) = compare(USIZES, result_of(outcomes))
    assert (found.count, found.first, found.last) == (1, f"usize {index}", f"usize {index}")
    assert found.cause == cause
    assert (found.allowed, found.seen) == (str(was), str(seen))
    assert found.case is not None
    assert found.case.usize == index


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    for layout in (KNOWN, NEWER):
        for place in Place:
            rule = dataclasses.replace(USIZES, place=place)
            assert compare(rule, result_of(perfect(rule, layout)), layout) == []


@given(st.lists(st.integers(0, 40), max_size=10), st.sampled_from(list(WALKS.values())))
def test_how_a_run_is_cut_does_not_matter(
    cuts: list[int], walk: tuple[tuple[Dim, ...], bool]
) -> None:
    """A run may end where a frame of rows ends."""
    rule = Sweep(dims=walk[0], usize=40, template=GOOD)
    assume(sum(1 for _ in itertools.islice(sweep.points(rule, XYZZY), 301)) <= 300)
    rows = []
    for row in result_of(perfect(rule)).rows:
        edges = sorted(
            {row.first, row.first + row.count}
            | {cut for cut in cuts if row.first < cut < row.first + row.count}
        )
        rows += [
            Row(first=start, count=stop - start, seen=row.seen)
            for start, stop in itertools.pairwise(edges)
        ]
    calls = sum(row.count for row in rows)
    assert compare(rule, SweepResult(rows=tuple(rows), calls=calls, nanoseconds=1)) == []


def test_neighbours_of_one_cause_are_one() -> None:
    outcomes = perfect(USIZES)
    for index in (7, 8, 9, 10):
        outcomes[index] = Seen(errno=errno.EINVAL)
    outcomes[35] = Seen(errno=errno.EFAULT)
    first, second = compare(USIZES, result_of(outcomes))
    assert (first.count, first.first, first.last) == (4, "usize 7", "usize 10")
    assert (second.count, second.first) == (1, "usize 35")
    assert str(first).startswith("4 calls: usize 7 … usize 10\n  allowed: E2BIG, size set to 24\n")


def test_one_cause_is_one_however_often_it_is_met() -> None:
    outcomes = perfect(USIZES)
    for index in (3, 9, 20):
        outcomes[index] = Seen(errno=errno.EINVAL)
    (found,) = compare(USIZES, result_of(outcomes))
    assert (found.count, found.first, found.last) == (3, "usize 3", "usize 20")


def test_a_canary_is_a_mismatch() -> None:
    result = result_of(perfect(USIZES))
    canary = Row(first=24, count=0, seen=Seen(errno=0), canary=-8)
    rows = (*result.rows[:2], canary, *result.rows[2:])
    (found,) = compare(USIZES, dataclasses.replace(result, rows=rows))
    assert found.cause == "canary"
    assert "the byte at -8 from the struct changed" in found.seen
    assert "up to call 24" in found.first


@pytest.mark.parametrize("calls", [0, 1, 39])
def test_too_few_calls_are_no_pass(calls: int) -> None:
    with pytest.raises(InfraError, match=f"made {calls} calls, and not all"):
        compare(USIZES, result_of(perfect(USIZES)[:calls]))


def test_too_many_calls_are_no_pass() -> None:
    outcomes = perfect(USIZES)
    with pytest.raises(InfraError, match="more calls than there are"):
        compare(USIZES, result_of([*outcomes, outcomes[-1]]))


def test_a_caller_that_miscounts_is_no_pass() -> None:
    result = dataclasses.replace(result_of(perfect(USIZES)), calls=41)
    with pytest.raises(InfraError, match="rows are 40 calls, and it says 41"):
        compare(USIZES, result)


def test_a_walk_that_a_fault_ended_is_reported_as_that() -> None:
    outcomes = [*perfect(USIZES)[:30], Seen(errno=0, signal=11)]
    (found,) = compare(USIZES, result_of(outcomes))
    assert (found.count, found.first, found.cause) == (1, "usize 30", "success → SIGSEGV")


# Blocks: the model is asked thrice for a tail, not for each of its bytes.


@st.composite
def xyzzy_rules(draw: st.DrawFn) -> Sweep:
    kinds = draw(
        st.sampled_from([("tail",), ("tail", "bit"), ("usize", "tail"), ("usize", "tail", "bit")])
    )
    usize = draw(st.integers(20, 60))
    first = draw(st.integers(18, 40))
    bit = draw(st.integers(0, 7))
    each = {
        "usize": dim(Kind.USIZE, first, first + draw(st.integers(0, 6)), draw(st.integers(1, 3))),
        "tail": dim(Kind.TAIL, draw(st.integers(20, 40)), 0, draw(st.integers(1, 4))),
        "bit": dim(Kind.BIT, bit, draw(st.integers(bit, 8)), draw(st.integers(1, 3))),
    }
    template = GOOD + draw(st.one_of(st.just(b""), st.binary(max_size=20)))
    dims = tuple(each[kind] for kind in kinds)
    if draw(st.booleans()):
        dims = (dim(Kind.ARG_BIT, 0, 3, index=1), *dims)
    return Sweep(
        dims=dims,
        usize=usize,
        template=template,
        place=draw(st.sampled_from(list(Place))),
        flip=draw(st.sampled_from([1, 0x80, 0xFF, 0])),
    )


#: Flipping byte 27 here, and no other one, leaves a tail of zeros.
UNLIKE = Sweep(dims=(dim(Kind.TAIL, 24, 0),), usize=40, template=GOOD + b"\0\0\0\1", flip=1)


@given(xyzzy_rules(), st.sampled_from([KNOWN, NEWER]))
@example(UNLIKE, KNOWN)
@settings(max_examples=300)
def test_blocks_are_what_the_model_says_of_every_call(rule: Sweep, layout: Layout) -> None:
    single = [(point, seen_at(rule, layout, point)) for point in sweep.points(rule, XYZZY)]
    blocks = list(sweep.predict(rule, XYZZY, layout, register=64))
    expanded = [
        (sweep.at_index(rule, XYZZY, block, index), block.allowed)
        for block in blocks
        for index in range(block.count)
    ]
    assert expanded == single


def test_a_long_tail_is_one_block() -> None:
    rule = Sweep(dims=(dim(Kind.TAIL, 24, 0), dim(Kind.BIT, 0, 8)), usize=PAGE, template=GOOD)
    (block,) = sweep.predict(rule, XYZZY, KNOWN, register=64)
    assert block.count == (PAGE - 24) * 8
    assert block.allowed == Seen(errno=errno.E2BIG, written=24)


# Rows as bytes.


def test_rows_of_half_a_row_are_refused() -> None:
    with pytest.raises(InfraError, match="47 bytes of rows are not whole rows of 48"):
        sweep.decode_rows(b"\0" * 47)
    assert sweep.decode_rows(b"") == []


def test_rows_as_bytes() -> None:
    """struct wire_row, by struct.pack(): first, count, ret, written, effect, flags, reserved."""
    layout = struct.Struct("<QQqQQII")
    raw = (
        layout.pack(0, 5, -22, 0, 0, 0, 0)
        + layout.pack(5, 1, -7, 24, 0, 1, 0)
        + layout.pack(6, 2, 0, 0, 77, 32, 0)
        + layout.pack(8, 1, 11, 0, 0, 8, 0)
        + layout.pack(9, 1, -4, 0, 0, 16 | 2, 0)
        + layout.pack(10, 0, 0, (1 << 64) - 8, 0, 4, 0)
    )
    assert sweep.decode_rows(raw) == [
        Row(first=0, count=5, seen=Seen(errno=22)),
        Row(first=5, count=1, seen=Seen(errno=7, written=24)),
        Row(first=6, count=2, seen=Seen(errno=0, effect=77)),
        Row(first=8, count=1, seen=Seen(errno=0, signal=11)),
        Row(first=9, count=1, seen=Seen(errno=4, stray=True, deadline=True)),
        Row(first=10, count=0, seen=Seen(errno=0), canary=-8),
    ]
