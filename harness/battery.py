# SPDX-License-Identifier: GPL-2.0-only
"""The battery: contract → every check that it calls for.

Each item names its property, and is a function of an interface: it makes calls
and raises ContractBrokenError where the kernel does what the contract does not
allow.  It applies to a contract or says why it does not.  Nothing here knows
any one interface: what is tried is derived from the contract.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator

import pytest

from harness import case as cases
from harness import layout as layouts
from harness.abi import ABI, ABIS, Way, ways
from harness.case import Case, Protection
from harness.contract import (
    DATA_AT,
    FIELD_CHECKS,
    PAGE,
    ArgAtMost,
    AtLeast,
    AtMost,
    BothOrNeither,
    Check,
    Contract,
    Copy,
    Descriptor,
    FetchSize,
    FieldCheck,
    Fills,
    Half,
    Head,
    NotTogether,
    Null,
    OneOf,
    OnlyWith,
    Points,
    Privileged,
    Process,
    ReadBack,
    SizeBounds,
    SizeField,
    Tail,
    Text,
    UnknownBits,
    UnknownFlags,
    Value,
    Wide,
    piece_at,
)
from harness.findings import Causes, ContractBrokenError, Mismatch
from harness.how import (
    AsTheWhole,
    Claim,
    Claims,
    CloseOnExec,
    InAnotherAbi,
    KeepsNothing,
    Meter,
    NoProgram,
    PastTheEnd,
    WideNumber,
)
from harness.identity import without
from harness.interface import COSTLY, Interface, SetupError
from harness.layout import Field, Layout
from harness.model import MOST_PID
from harness.program import AREA_BYTES, ARENA, SCRATCH, Program, at
from harness.sweep import REACH, Dim, Kind, Place, Row, Sweep

ALL_PLACES = (Place.MIDDLE, Place.END, Place.START)
#: Trailing bytes of a quick battery: every position at every size up to this beyond ksize.
QUICK_TAIL = 80
#: The sizes that BATTERY=full goes through, and every battery but for its tails.
LAST_USIZE = PAGE + 8
#: What each byte that a call fills held before, once in each way.
FILLERS = (0x00, 0xA5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Level:
    """How much of the battery is run."""

    full: bool = False
    brief: bool = False  #: that something is wrong is enough: no time is spent to make it small
    #: What is known of the interface on this kernel: no time is spent on that either.
    expected: Callable[[Mismatch], bool] = lambda mismatch: False


Run = Callable[[Interface, Level], None]

#: Properties that no item here stands for, and why.
ELSEWHERE = {
    "P21": "what blocks is the interface's own: selftests/target/test_xyzzy.py",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """One check of the battery."""

    prop: str
    name: str
    run: Run
    #: Why it does not apply to a contract in an ABI, or None.
    unless: Callable[[Contract, ABI], str | None] = lambda contract, abi: None
    older: bool = False  #: for kernels that are older than the interface, and for no others


BATTERY: list[Item] = []


def _item(
    prop: str, *, unless: Callable[[Contract, ABI], str | None] = lambda contract, abi: None
) -> Callable[[Run], Run]:
    """Add a function to the battery under its own name."""

    def add(run: Run) -> Run:
        name = run.__name__.removeprefix("_").replace("_", "-")
        BATTERY.append(Item(prop=prop, name=name, run=run, unless=unless))
        return run

    return add


# Why an item does not apply.


def _no_flags(contract: Contract, abi: ABI) -> str | None:
    return None if contract.flags_args else "no argument carries flags"


def _no_write_back(contract: Contract, abi: ABI) -> str | None:
    return None if contract.writes_size else "the contract promises no write-back"


def _no_upper_half(contract: Contract, abi: ABI) -> str | None:
    if contract.queued:
        return "a queued call's arguments are no registers"
    if abi.register == 32:
        return "a 32-bit program has no upper halves to set"
    return None


def _no_other_way(contract: Contract, abi: ABI) -> str | None:
    several = len(ways(abi.name, queued=contract.queued)) > 1
    return None if several else "this ABI has one way into the kernel"


def _no_32_bit_entry(contract: Contract, abi: ABI) -> str | None:
    if not any(way.int80 for way in ways(abi.name, queued=contract.queued)[1:]):
        return "it has no other way by the 32-bit entry"
    return None


def _fixed(contract: Contract, abi: ABI) -> str | None:
    return "the struct has one size for ever" if contract.fixed else None


def _no_tail(contract: Contract, abi: ABI) -> str | None:
    if contract.fixed:
        return "the struct has one size for ever"
    if contract.tail is None and not isinstance(contract.effect, Fills):
        return "bytes behind the struct are not judged by themselves"
    return None


def _not_filled(contract: Contract, abi: ABI) -> str | None:
    return None if isinstance(contract.effect, Fills) else "an accepted call fills nothing"


def no_descriptor(contract: Contract, abi: ABI) -> str | None:
    """Why an item about the descriptor does not apply; None: it does."""
    if isinstance(contract.effect, (ReadBack, Descriptor)):
        return None
    return "an accepted call returns no descriptor"


# Dimensions.


def _usizes(first: int = 0, last: int = LAST_USIZE, *, step: int = 1) -> Dim:
    return Dim(kind=Kind.USIZE, start=first, stop=last + 1, step=step)


def _tail(interface: Interface, *, step: int = 1) -> Dim:
    return Dim(kind=Kind.TAIL, start=interface.ksize, stop=0, step=step)


BITS = Dim(kind=Kind.BIT, start=0, stop=8)


def _special_sizes(interface: Interface) -> list[int]:
    """Sizes around every bound of the contract and of integers."""
    contract, ksize = interface.contract, interface.ksize
    near = [0, contract.bounds.minimum, ksize, PAGE]
    near += [version.size for version in contract.versions]
    near += [1 << 15, 1 << 16, 1 << 31, 1 << 32, (1 << 32) + ksize, 1 << 63, 1 << 64]
    sizes = {one + step for one in near for step in (-1, 0, 1)}
    limit = 1 << interface.size_bits
    return sorted(size for size in sizes if 0 <= size < limit)


# P1 to P3: sizes, zero extension, trailing bytes.


@_item("P1", unless=_fixed)
def _every_size(interface: Interface, level: Level) -> None:
    """Every usize from 0 to a page and eight, zeros behind ksize, canaries around."""
    interface.verify(Sweep(dims=(_usizes(),), template=interface.template()))


@_item("P1", unless=_fixed)
def _sizes_of_note(interface: Interface, level: Level) -> None:
    """The sizes around each bound and each power of two that an integer can trip over."""
    interface.check_all(
        *(
            dataclasses.replace(
                interface.case(usize=min(size, LAST_USIZE)),
                usize=size,
                memory=cases.with_usize(
                    interface.contract, interface.example(usize=min(size, LAST_USIZE)), size
                ),
            )
            for size in _special_sizes(interface)
        )
    )


def _ones(interface: Interface) -> bytes:
    """The example with ones in every field that takes any value."""
    judged = {c.field for c in interface.contract.checks if isinstance(c, FIELD_CHECKS)}
    judged |= {c.other for c in interface.contract.checks if isinstance(c, OnlyWith)}
    judged |= {c.field or "" for c in interface.contract.privileged if not c.caller_has}
    if isinstance(interface.contract.size, SizeField):
        judged.add(interface.contract.size.field)
    free = [f for f in interface.layout.fields if f.name not in judged]
    if not effect_is_known(interface):
        free = []  # nobody knows what such values would do
    return interface.template(**{f.name: (1 << 8 * f.size) - 1 for f in free})


@_item("P2", unless=_fixed)
def _zero_extension(interface: Interface, level: Level) -> None:
    """A short struct is the same call as that struct with zeros behind it.

    Canaries lie behind it, and ones in what the calls before left on the stack.
    """
    template = _ones(interface)
    last = interface.ksize + 8
    for place, poison in itertools.product(ALL_PLACES, (False, True)):
        interface.verify(
            Sweep(dims=(_usizes(last=last),), template=template, place=place, poison=poison)
        )


@_item("P3", unless=_no_tail)
def _trailing_bits(interface: Interface, level: Level) -> None:
    """Each bit of each byte behind ksize, alone; at every size, or the quick choice of sizes."""
    ksize = interface.ksize
    spans = [(ksize + 1, LAST_USIZE)]
    if not level.full:
        spans = [(ksize + 1, ksize + QUICK_TAIL), (PAGE, PAGE)]
    for first, last in spans:
        interface.verify(
            Sweep(
                dims=(_usizes(first, last), _tail(interface), BITS),
                template=interface.template(),
            )
        )
    if not level.full:
        # In between, some bytes of some sizes: with these steps they lie anywhere in a word.
        between = _usizes(ksize + QUICK_TAIL + 1, PAGE - 1, step=7)
        tail = _tail(interface, step=251)
        interface.verify(Sweep(dims=(between, tail), template=interface.template()))


@_item("P3", unless=_no_tail)
def _trailing_bytes_at_the_edge(interface: Interface, level: Level) -> None:
    """The same flush against an inaccessible page, each byte 0xff."""
    _tails_at(interface, level, Place.END)


def _tails_at(interface: Interface, level: Level, place: Place) -> None:
    """Trailing bytes where a page ends: all of them at small sizes, some at every size.

    Beyond QUICK_TAIL the distance to the edge is what counts, and the sweep
    over all bits has been everywhere: a step that shares no factor with eight
    meets every alignment.
    """
    ksize = interface.ksize
    spans = [(ksize + 1, ksize + QUICK_TAIL, 1)]
    if level.full:
        spans.append((ksize + QUICK_TAIL + 1, LAST_USIZE, 13))
    for first, last, step in spans:
        interface.verify(
            Sweep(
                dims=(_usizes(first, last), _tail(interface, step=step)),
                template=interface.template(),
                place=place,
            )
        )


@_item("P2", unless=_not_filled)
def _what_is_filled(interface: Interface, level: Level) -> None:
    """A short struct gets the first bytes of what a whole one gets, whatever it held before."""
    contract, ksize = interface.contract, interface.ksize
    effect = contract.effect
    assert isinstance(effect, Fills)
    out = effect.fields or tuple(one.name for one in interface.layout.fields)
    size = contract.size.field if isinstance(contract.size, SizeField) else None
    free = [interface.layout.field(name) for name in out if name not in (size, "size")]
    several = [
        interface.case(
            usize=usize,
            **{one.name: int.from_bytes(bytes([byte]) * one.size, "little") for one in free},
        )
        for usize in (ksize, *range(max(contract.bounds.minimum, 1), ksize))
        if not contract.fixed or usize == ksize
        for byte in FILLERS
    ]
    whole: bytes | None = None
    found = Causes()
    fillers = itertools.cycle(FILLERS)
    for case, seen, byte in zip(several, interface.observe_all(several), fillers, strict=False):
        got = b"".join(seen.memory[one.offset : min(one.end, case.usize)] for one in free)
        whole = got if whole is None else whole
        if seen.errno or not whole.startswith(got):
            found.add(
                Mismatch(
                    first=f"usize {case.usize}, {byte:#04x} in what is filled",
                    last=f"usize {case.usize}",
                    count=1,
                    allowed=f"the first bytes of {whole.hex()}",
                    seen=f"{seen.ending}, {got.hex()}",
                    cause="filled",
                    case=case,
                    how=AsTheWhole(
                        whole=several[0],
                        spans=tuple(
                            (one.offset, min(one.end, case.usize))
                            for one in free
                            if one.offset < case.usize
                        ),
                    ),
                )
            )
    interface.fail_on(found.all())


# P4, P5: what is written, and what is looked at.


@_item("P4", unless=_no_write_back)
def _write_back(interface: Interface, level: Level) -> None:
    """The kernel's size, on the stated errors only; every other byte stays.

    Also where there is a second reason to refuse: what stands lower writes nothing.
    """
    calls = [*provoked_alone(interface), *_provoked_in_pairs(interface)]
    # Where the caller's size is not the kernel's, a store can be seen.
    newer = _sized(interface, interface.case(), interface.ksize + 8)
    calls.append(newer)
    for check in interface.contract.checks:
        if isinstance(check, FIELD_CHECKS):
            calls += [provoke(interface, newer) for provoke in provocations(interface, check)]
    interface.check_all(*calls, about=frozenset({"write-back", "memory"}))


@_item("P4", unless=_no_write_back)
def _retry_with_the_size(interface: Interface, level: Level) -> None:
    """As a newer program does: refused, it takes the size that was written, and is accepted."""
    newer = _sized(interface, interface.case(), interface.ksize + 16, tail=b"\xff")
    refused = interface.observe(newer)
    if refused.errno:
        interface.fail_on(
            interface.compare(newer, refused, about=frozenset({"write-back", "memory"}))
        )
        interface.check(interface.case(usize=refused.written))


@_item("P5")
def _bytes_outside(interface: Interface, level: Level) -> None:
    """Each of the 64 bytes behind usize, flipped: the same call, and nothing is written there.

    All of these calls are accepted.  Where each costs a thousand refusals a quick
    battery flips a byte as a whole: who looks at none of its bits sees none of them.
    """
    whole = isinstance(interface.contract.effect, COSTLY) and not level.full
    for version in interface.contract.versions:
        if version.size <= interface.ksize:
            behind = Dim(kind=Kind.BYTE, start=version.size, stop=version.size + 64)
            interface.verify(
                Sweep(
                    dims=(behind,) if whole else (behind, BITS),
                    usize=version.size,
                    template=interface.template(),
                )
            )


# P6 to P9: memory.


@_item("P6")
def _flush_at_a_page(interface: Interface, level: Level) -> None:
    """At every size the struct ends where its page does, and starts with one.

    Of a struct that is told no size, fewer bytes at a page's start are just other ones.
    """
    least = interface.ksize if interface.contract.fixed else 0
    for place, first in ((Place.END, 0), (Place.START, least)):
        sizes = _usizes(first)
        interface.verify(Sweep(dims=(sizes,), template=interface.template(), place=place))


@_item("P6")
def _one_byte_short(interface: Interface, level: Level) -> None:
    """At every size the last byte is not there: a fault, unless the size was refused before."""
    interface.verify(Sweep(dims=(_usizes(),), template=interface.template(), place=Place.SHORT))


@_item("P7", unless=_no_tail)
def _nonzero_byte_before_the_hole(interface: Interface, level: Level) -> None:
    """Zeros then a hole is a fault; a nonzero byte before the hole is the tail's error."""
    _tails_at(interface, level, Place.SHORT)


@_item("P8")
def _pointers(interface: Interface, level: Level) -> None:
    """NULL, the kernel's half, no address at all, the last bytes of the address space."""
    top = (1 << interface.register) - 1
    wrong = [0, 1, PAGE - 1, top, top & ~7, top & ~(PAGE - 1)]
    if interface.register == 64:
        wrong += [1 << 47, 1 << 56, 1 << 62, 1 << 63, 0xFFFF_8880_0000_0000, 0xFFFF_FFFF_8100_0000]
    usize = interface.ksize
    memory = cases.with_usize(interface.contract, bytes(interface.contract.field_end), usize)
    interface.check_all(*(Case(usize=usize, memory=memory, pointer=value) for value in wrong))


@_item("P8")
def _protected_memory(interface: Interface, level: Level) -> None:
    """PROT_NONE is a fault; read-only memory will do, and stays as it is."""
    good = interface.case()
    tried = [good]
    for check in interface.contract.checks:
        if isinstance(check, SizeBounds):
            tried += [one(interface, good) for one in provocations(interface, check)]
    for protection in (Protection.NONE, Protection.READ):
        interface.check_all(*(dataclasses.replace(one, protection=protection) for one in tried))


@_item("P8")
def _past_the_end_of_a_file(interface: Interface, level: Level) -> None:
    """A mapping with no file behind it: a fault, and no SIGBUS."""
    name = "mmap2" if interface.abi.name == "m32" else "mmap"
    shared = interface.constant("MAP_SHARED | MAP_FIXED", "linux/mman.h")
    prot = interface.constant("PROT_READ | PROT_WRITE", "linux/mman.h")
    program = Program()
    program.reset()
    file = program.syscall(interface.number("memfd_create"), at(ARENA, AREA_BYTES - 1), 0)
    program.syscall(interface.number("ftruncate"), file, AREA_BYTES - PAGE)
    mapped = program.syscall(interface.number(name), at(ARENA), AREA_BYTES, prot, shared, file, 0)
    program.syscall(interface.number("close"), file)
    case = interface.case()
    present = case.memory[: max(1, interface.ksize - 8)]
    start = AREA_BYTES - PAGE - len(present)
    program.write(SCRATCH, DATA_AT, interface.contract.data)
    program.write(ARENA, start, present)
    moved = dataclasses.replace(case, hole=len(present), shift=0)
    call = interface.enter(
        program,
        [
            at(ARENA, start) if index == interface.contract.pointer else value
            for index, value in enumerate(cases.registers(interface.contract, moved))
        ],
    )
    results = interface.caller.run(program)
    for name, step in (("memfd_create", file), ("mmap", mapped)):
        if results[step.index].errno:
            raise SetupError(f"{name}() failed: {results[step.index]}")
    allowed = interface.predict(moved)
    if results[call.index].errno != allowed.errno:
        raise ContractBrokenError(
            f"{interface.abi.name}: {interface.contract.name}() past a file's end",
            [
                Mismatch(
                    first=str(moved),
                    last=str(moved),
                    count=1,
                    allowed=str(allowed),
                    seen=str(results[call.index]),
                    cause="errno",
                    case=moved,
                    how=PastTheEnd(),
                )
            ],
        )


def _near_ksize(interface: Interface) -> tuple[int, ...]:
    """The kernel's size, and two beside it where there are others."""
    ksize = interface.ksize
    return (ksize,) if interface.contract.fixed else (ksize, ksize + 1, ksize + 13)


@_item("P9")
def _alignment(interface: Interface, level: Level) -> None:
    """Each offset from 0 to 15, in each place, at ksize and beside it."""
    shifts = Dim(kind=Kind.SHIFT, start=0, stop=16)
    for usize, place in itertools.product(_near_ksize(interface), ALL_PLACES):
        interface.verify(
            Sweep(dims=(shifts,), usize=usize, template=interface.template(), place=place)
        )


# P10, P11: flags.


@_item("P10", unless=_no_flags)
def _every_flag_bit(interface: Interface, level: Level) -> None:
    """Each bit of the argument's width, alone and beside each known one."""
    for arg in interface.contract.flags_args:
        flags = interface.contract.flags(arg)
        bits = Dim(kind=Kind.ARG_BIT, index=arg, start=0, stop=min(flags.width, 64))
        if effect_is_known(interface):
            for base in sorted({0, flags.mask, *flags.known.values()}):
                interface.verify(_flag_sweep(interface, bits, arg, base))
            continue
        # What a known flag does to the result is not in the contract.
        interface.check_all(
            *(
                dataclasses.replace(interface.case(), flags=((arg, base | 1 << bit),))
                for base in sorted({0, *flags.known.values()})
                for bit in range(min(flags.width, interface.register))
                if not flags.mask >> bit & 1
            )
        )


@_item("P10", unless=lambda c, a: _no_flags(c, a) or _no_upper_half(c, a))
def _upper_half_of_flags(interface: Interface, level: Level) -> None:
    """Above the argument's width a register's bits must not matter."""
    for arg in interface.contract.flags_args:
        flags = interface.contract.flags(arg)
        bits = Dim(kind=Kind.ARG_BIT, index=arg, start=32, stop=64)
        for base in (0, flags.mask, 1 << 31):
            interface.verify(_flag_sweep(interface, bits, arg, base))


def _flag_sweep(interface: Interface, bits: Dim, arg: int, base: int) -> Sweep:
    return Sweep(
        dims=(bits,), usize=interface.ksize, template=interface.template(), args=((arg, base),)
    )


@_item("P11")
def _every_bit_of_every_field(interface: Interface, level: Level) -> None:
    """Each bit of each field that the contract judges, and of those it takes as they are."""
    skipped = set()
    if isinstance(interface.contract.size, SizeField):
        skipped.add(interface.contract.size.field)
    judged = {c.field for c in interface.contract.checks if isinstance(c, FIELD_CHECKS)}
    if not effect_is_known(interface):
        # What an unjudged field does is not in the contract: it is left alone.
        skipped |= {f.name for f in interface.layout.fields if f.name not in judged}
    # Whose pid a small number is, nobody knows: P19 has processes of its own to name.
    skipped |= {check.field for check in interface.contract.processes}
    # Nor what is at an address; P13 has some of which it is known.
    skipped |= {check.field for check in interface.contract.pointers}
    bounded = {c.field: c.maximum for c in interface.contract.checks if isinstance(c, AtMost)}
    for field in interface.layout.fields:
        if field.name in skipped:
            continue
        if not effect_is_known(interface):
            _unknown_bits_of_a_field(interface, field.name, 8 * field.size)
            continue
        if field.name in bounded:
            _bits_of_a_bounded_field(interface, field.name, bounded[field.name], 8 * field.size)
            continue
        interface.verify(
            Sweep(
                dims=(Dim(kind=Kind.BYTE, start=field.offset, stop=field.end), BITS),
                usize=interface.ksize,
                template=interface.template(),
            )
        )


def effect_is_known(interface: Interface) -> bool:
    """Whether the contract says what every accepted value does."""
    return isinstance(interface.contract.effect, ReadBack)


def _unknown_bits_of_a_field(interface: Interface, name: str, width: int) -> None:
    """Only what must be refused: what an accepted bit does is not in the contract."""
    refused = []
    for check in interface.contract.checks:
        if isinstance(check, UnknownBits) and check.field == name:
            bits = (1 << bit for bit in range(width) if not check.mask >> bit & 1)
            refused += [interface.case(**{name: bit}) for bit in bits]
        if isinstance(check, AtMost) and check.field == name:
            above = (check.maximum + 1, (1 << width) - 1, *(1 << bit for bit in range(width)))
            refused += [
                interface.case(**{name: value})
                for value in above
                if check.maximum < value < 1 << width
            ]
        if isinstance(check, NotTogether) and check.field == name:
            refused.append(interface.case(**{name: check.bits}))
        if isinstance(check, AtLeast) and check.field == name:
            below = {0, check.minimum - 1, check.minimum >> 1}
            refused += [interface.case(**{name: value}) for value in sorted(below)]
        if isinstance(check, OneOf) and check.field == name:
            near = {value + step for value in check.values for step in (-1, 1)}
            near |= {0, (1 << width) - 1, *(1 << bit for bit in range(width))}
            refused += [
                interface.case(**{name: value})
                for value in sorted(near)
                if value not in check.values and 0 <= value < 1 << width
            ]
        if isinstance(check, BothOrNeither) and check.field == name:
            refused += [
                interface.case(**{one: 1, other: 0})
                for one, other in ((name, check.other), (check.other, name))
            ]
    interface.check_all(*refused)


def _bits_of_a_bounded_field(interface: Interface, name: str, maximum: int, width: int) -> None:
    """Values at and above the bound, and each bit above it; below it, small ones only.

    A delay of half a second is accepted as one of a millisecond is.
    """
    low = [0, 1, 1 << 16]
    above = [maximum + 1, (1 << width) - 1, *(1 << bit for bit in range(width))]
    values = [value for value in low if value <= maximum]
    values += [value for value in above if maximum < value < 1 << width]
    interface.check_all(*(interface.case(**{name: value}) for value in values))
    # The bound itself is taken.  What it does may take its time, so only that is looked at.
    interface.check_all(interface.case(**{name: maximum}), about=frozenset({"errno"}))


# P12, P15: registers and ways into the kernel.


@_item("P12", unless=_no_upper_half)
def _upper_half_of_the_number(interface: Interface, level: Level) -> None:
    """The number is eax: garbage above it must not matter (do_syscall_64() takes an int)."""
    number = interface.number(interface.contract.number)
    found = Causes()
    program = Program()
    program.reset()
    calls = [
        (bit, program.syscall(number | 1 << bit), program.syscall(number)) for bit in range(32, 64)
    ]
    results = interface.caller.run(program)
    for bit, call, plain in calls:
        if results[call.index].ret != results[plain.index].ret:
            found.add(
                Mismatch(
                    first=f"number {number | 1 << bit:#x}",
                    last=f"number {number | 1 << bit:#x}",
                    count=1,
                    allowed=f"as number {number:#x}: {results[plain.index].ret}",
                    seen=str(results[call.index].ret),
                    cause="number",
                    how=WideNumber(above=1 << bit),
                )
            )
    if found.all():
        raise ContractBrokenError(f"{interface.abi.name}: the number's upper half", found.all())


def _rules(interface: Interface) -> list[Sweep]:
    """What is compared with another way or ABI: every size, and a page's every tail byte."""
    template = interface.template()
    if interface.contract.fixed:
        return [Sweep(dims=(_usizes(last=interface.ksize),), template=template, place=Place.END)]
    found = [Sweep(dims=(_usizes(),), template=template)]
    if interface.contract.tail is not None:
        found.append(Sweep(dims=(_usizes(PAGE, PAGE), _tail(interface)), template=template))
    return found


@_item("P12", unless=_no_other_way)
def _other_ways_into_the_kernel(interface: Interface, level: Level) -> None:
    """`int 0x80`, and the x32 bit, from this program: the same contract.

    Of a queued call, by io_uring's own thread.
    """
    for way in interface.other_ways:
        there = interface.by(way)
        there.check_all(
            *(
                dataclasses.replace(one, way=way)
                for one in provoked_alone(there)
                if one.pointer is None
            )
        )
        there.verify(*(dataclasses.replace(rule, way=way) for rule in _rules(there)))


@_item("P12", unless=lambda c, a: _no_32_bit_entry(c, a) or _no_flags(c, a))
def _upper_halves_at_the_32_bit_entry(interface: Interface, level: Level) -> None:
    """Through `int 0x80` a register's upper half is cut off, whatever is in it."""
    way = next((way for way in interface.other_ways if way.int80), None)
    if way is None:
        pytest.skip("this kernel has no 32-bit entry")
    there = interface.by(way)
    bases = dict.fromkeys(there.contract.flags_args, (0, 1 << 31))
    for index, arg in enumerate(there.contract.args):
        if isinstance(arg, Half):
            bases[index] = (arg.value, 0)
    for index, several in bases.items():
        bits = Dim(kind=Kind.ARG_BIT, index=index, start=32, stop=64)
        for base in several:
            there.verify(dataclasses.replace(_flag_sweep(there, bits, index, base), way=way))


def _no_int(contract: Contract, abi: ABI) -> str | None:
    several = any(isinstance(arg, Value) and arg.width < 64 for arg in contract.args)
    return None if several else "no argument is said to be narrower than a register"


@_item("P12", unless=lambda c, a: _no_upper_half(c, a) or _no_int(c, a))
def _upper_half_of_an_int(interface: Interface, level: Level) -> None:
    """Above the width of an `int` that is always the same, a register's bits must not matter."""
    for way in (None, *interface.other_ways):
        there = interface.by(way)
        for index, arg in enumerate(there.contract.args):
            if isinstance(arg, Value) and arg.width < 64:
                bits = Dim(kind=Kind.ARG_BIT, index=index, start=arg.width, stop=64)
                low = arg.value % (1 << arg.width)
                for base in (low, arg.value % (1 << 64)):
                    there.verify(
                        dataclasses.replace(_flag_sweep(there, bits, index, base), way=way)
                    )


def _no_wide(contract: Contract, abi: ABI) -> str | None:
    return None if contract.wide_args else "no argument is 64 bits wide in every ABI"


#: Beside each bit of a wide argument: nothing, and a lower half that a sign or a carry
#: would show in the upper one.
WIDE_BASES = (0, 0x8000_0000, 0xFFFF_FFFF, 0x0123_4567_89AB_CDEF)


@_item("P12", unless=_no_wide)
def _every_bit_of_a_wide_argument(interface: Interface, level: Level) -> None:
    """Neither half is lost, swapped, or extended into the other; by every way."""
    for way in (None, *interface.other_ways):
        there = interface.by(way)
        for arg in there.contract.wide_args:
            for base in WIDE_BASES:
                for rule in _wide_sweeps(there, arg, base):
                    there.verify(dataclasses.replace(rule, way=way))


def wide_flags(contract: Contract, arg: int, value: int) -> tuple[tuple[int, int], ...]:
    """The registers that hold 64 bits, be it one or two."""
    if isinstance(contract.args[arg], Wide):
        return ((arg, value),)
    return ((arg, value & 0xFFFF_FFFF), (arg + 1, value >> 32))


def _wide_sweeps(interface: Interface, arg: int, base: int) -> Iterator[Sweep]:
    """Each bit of a wide argument, inverted."""
    registers = wide_flags(interface.contract, arg, base)
    for index, _ in registers:
        bits = Dim(kind=Kind.ARG_BIT, index=index, start=0, stop=64 // len(registers))
        yield Sweep(
            dims=(bits,), usize=interface.ksize, template=interface.template(), args=registers
        )


def _one_layout(contract: Contract, abi: ABI) -> str | None:
    return None if contract.differs else "the same bytes are the same call in every ABI"


def _own_layouts(contract: Contract, abi: ABI) -> str | None:
    return "the same bytes are another call in another ABI" if contract.differs else None


def _everywhere(interface: Interface) -> Iterator[tuple[str, Interface, Way | None]]:
    """The interface by this ABI's other ways, and in each other ABI."""
    for way in interface.other_ways:
        yield way.name, interface.by(way), way
    for abi in ABIS:
        if abi != interface.abi and interface.target.has(abi):
            yield abi.name, interface.in_abi(abi), None


def _by_value(interface: Interface, widths: dict[str, int]) -> list[Case]:
    """Calls that each ABI makes in its own bytes: refused ones, each field, each wide argument.

    ``widths`` is in bits: what the narrowest of the ABIs has of each field.
    """
    calls = [one for one in provoked_alone(interface) if one.pointer is None]
    pointing = {check.field for check in interface.contract.pointers}
    for name, width in widths.items():
        if name not in pointing:
            values = (1, -1, (1 << width - 1) - 1, -(1 << width - 1))
            calls += [interface.case(**{name: value}) for value in values]
    for arg in interface.contract.wide_args:
        for value in (0, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63):
            flags = wide_flags(interface.contract, arg, value)
            calls.append(dataclasses.replace(interface.case(), flags=flags))
    return calls


@_item("P15", unless=_one_layout)
def _the_same_values_through_every_way(interface: Interface, level: Level) -> None:
    """The same values, each ABI's in its own layout and registers: the same outcome."""
    everywhere = list(_everywhere(interface))
    several = (interface, *(one for _, one, _ in everywhere))
    widths = {
        field.name: 8 * min(one.layout.field(field.name).size for one in several)
        for field in interface.layout.fields
    }
    cases_here = _by_value(interface, widths)
    here = [interface.observe(case) for case in cases_here]
    for name, other, way in everywhere:
        for case, ours, made in zip(cases_here, here, _by_value(other, widths), strict=True):
            there = dataclasses.replace(made, way=way)
            theirs = other.observe(there)
            if (ours.errno, ours.held) == (theirs.errno, theirs.held):
                continue
            found: tuple[Case | None, object] = (
                None,
                NoProgram(why="made alone, each of the two calls keeps the contract"),
            )
            elsewhere = InAnotherAbi(abi=other.abi) if other.abi != interface.abi else None
            for one, which, seen, how in (
                (other, there, theirs, elsewhere),
                (interface, case, ours, None),
            ):
                if one.compare(which, seen):
                    found = (which, how)
                    break
            raise ContractBrokenError(
                f"{interface.abi.name} and {name} differ",
                [
                    Mismatch(
                        first=str(case),
                        last="",
                        count=1,
                        allowed="the same outcome of the same values",
                        seen=f"{ours} here, {theirs} there",
                        cause="differential",
                        case=found[0],
                        how=found[1],
                    )
                ],
            )


@_item("P15", unless=_own_layouts)
def _the_same_through_every_way(interface: Interface, level: Level) -> None:
    """The same bytes through this ABI's ways and each other ABI: the same outcome.

    It takes the answers to the very same requests of the items before, where there
    are such: each was made once in this guest.
    """
    for rule in _rules(interface):
        reference = interface.rows(rule, again=False)
        for name, other, way in _everywhere(interface):
            rows = other.rows(dataclasses.replace(rule, way=way), again=False)
            if rows != reference:
                raise ContractBrokenError(
                    f"{interface.abi.name} and {name} differ",
                    [_difference(interface, other, way, rule, (reference, rows))],
                )


def _difference(
    interface: Interface,
    other: Interface,
    way: Way | None,
    rule: Sweep,
    rows: tuple[tuple[object, ...], tuple[object, ...]],
) -> Mismatch:
    """The first call that two ways or ABIs answer differently.

    The same bytes: so the contract allows both but one outcome, and what shows
    it is the call that has another.
    """
    outcomes = itertools.zip_longest(*map(_outcomes, rows))
    index, pair = next(
        ((at, pair) for at, pair in enumerate(outcomes) if pair[0] != pair[1]), (None, None)
    )
    words, seen = "a sweep over sizes", "memory around the struct, not the calls' outcomes"
    found: tuple[Case | None, object] = (None, NoProgram(why="P5 has what is written there"))
    if index is not None and pair is not None:
        case = next(itertools.islice(interface.calls_of(rule), index, None))
        words, seen = f"{words}: {case}", f"{pair[0]} here, {pair[1]} there"
        found = (None, NoProgram(why="made alone, each of the two calls keeps the contract"))
        there = InAnotherAbi(abi=other.abi) if other is not interface else None
        for one, which, how in (
            (other, dataclasses.replace(case, way=way), there),
            (interface, case, None),
        ):
            if one.compare(which, one.observe(which)):
                found = (which, how)
                break
    return Mismatch(
        first=words,
        last="",
        count=1,
        allowed="the same outcomes, call by call",
        seen=seen,
        cause="differential",
        case=found[0],
        how=found[1],
    )


def _outcomes(rows: tuple[object, ...]) -> Iterator[object]:
    """What Interface.rows() gave, call by call; what was found changed around them left out."""
    for row in rows:
        if not isinstance(row, Row):
            yield row
        elif row.canary is None:
            yield from itertools.repeat(row.seen, row.count)


# P14: layout.


def _claimed(
    interface: Interface, whose: str, claims: Iterable[Claim], *, allowed: str, seen: str
) -> None:
    """Raise ContractBrokenError for headers that do not say what they have to.

    ``whose`` values the claims are is what tells this cause from another.
    """
    raise ContractBrokenError(
        f"{interface.abi.name}: {interface.contract.tag}",
        [
            Mismatch(
                first="sizeof, alignof and every offset",
                last="",
                count=1,
                allowed=allowed,
                seen=seen,
                cause="layout",
                how=Claims(
                    whose=whose,
                    claims=tuple(claims),
                    headers=(interface.asked.header, *interface.asked.includes),
                ),
            )
        ],
    )


def _as_laid_out(
    interface: Interface, wanted: Layout, *, align: int | None = None
) -> Iterator[Claim]:
    """The header's struct is laid out like this, as far as it has these fields."""
    tag = interface.contract.tag
    yield Claim(what="its size", expression=f"sizeof({tag})", wanted=wanted.size)
    if align is not None:
        yield Claim(what="its alignment", expression=f"_Alignof({tag})", wanted=align)
    for one in wanted.fields:
        # A word of bit-fields has no name, nor has what is behind a union's members.
        named = one.name not in (*interface.asked.unnamed, interface.asked.rest)
        if named and interface.header_layout.has(one.name):
            offset = f"offsetof({tag}, {one.name})"
            yield Claim(what=one.name, expression=offset, wanted=one.offset)
            size = f"sizeof((({tag} *)0)->{one.name})"
            yield Claim(what=f"{one.name}'s size", expression=size, wanted=one.size)


@_item("P14")
def _declaration_and_header(interface: Interface, level: Level) -> None:
    """The contract's declaration and the kernel's header are one struct in this ABI."""
    declared = interface.declared
    if declared != interface.header_layout:
        _claimed(
            interface,
            "its declaration",
            _as_laid_out(interface, declared, align=declared.align),
            allowed=f"as declared: {declared}",
            seen=f"in the kernel's header: {interface.header_layout}",
        )
    interface.contract.version_of(interface.ksize)
    if isinstance(interface.contract.size, SizeField):
        field = interface.layout.field(interface.contract.size.field)
        where = interface.contract.size
        if (field.offset, field.size) != (where.offset, where.width):
            alone = dataclasses.replace(
                declared,
                size=interface.ksize,
                fields=(dataclasses.replace(field, offset=where.offset, size=where.width),),
            )
            _claimed(
                interface,
                "the contract's SizeField",
                _as_laid_out(interface, alone),
                allowed=f"{where.field} at {where.offset}, {where.width} bytes",
                seen=f"in the kernel's header: {field}",
            )


@_item("P14")
def _declaration_and_the_kernels_own(interface: Interface, level: Level) -> None:
    """What the kernel's own compiler made of the struct, by its DWARF, is what callers have."""
    own = interface.kernels_own
    if own is None:
        pytest.skip("no DWARF of this kernel is at hand")
    ours = interface.layout
    if (own.size, set(own.fields)) != (ours.size, set(ours.fields)):
        _claimed(
            interface,
            "the kernel's own, by its DWARF",
            _as_laid_out(interface, own),
            allowed=f"as the kernel has it: {own.size} bytes, {own.fields}",
            seen=f"{interface.abi.name} callers: {ours.size} bytes, {ours.fields}",
        )


@_item("P14")
def _known_bits_are_the_headers(interface: Interface, level: Level) -> None:
    """Every constant that the contract types is what the kernel's header says."""
    known: dict[str, int] = {}
    for arg in interface.contract.flags_args:
        known |= interface.contract.flags(arg).known
    for check in interface.contract.checks:
        if isinstance(check, UnknownBits):
            known |= check.known
    includes = (interface.asked.header, *interface.asked.includes)
    gone = layouts.undefined(interface.compiler, interface.abi, includes=includes, names=known)
    if gone:
        names = ", ".join(name for name in known if name in gone)
        raise ContractBrokenError(
            f"{interface.abi.name}: {interface.contract.tag}",
            [
                Mismatch(
                    first="every known bit",
                    last="",
                    count=1,
                    allowed=", ".join(f"{name} = {known[name]:#x}" for name in sorted(gone)),
                    seen=f"not in the kernel's header: {names}",
                    cause="layout",
                    how=NoProgram(why="what names it does not compile, which says as much"),
                )
            ],
        )
    there = interface.constants(*known)
    wrong = {name: there[name] for name, value in known.items() if there[name] != value}
    if wrong:
        _claimed(
            interface,
            "the contract",
            (Claim(what=name, expression=name, wanted=known[name]) for name in wrong),
            allowed=", ".join(f"{name} = {known[name]:#x}" for name in wrong),
            seen="in the kernel's header: "
            + ", ".join(f"{name} = {value:#x}" for name, value in wrong.items()),
        )


@_item("P14", unless=lambda c, a: None if c.layouts else "one layout is declared for every ABI")
def _the_layout_that_each_entry_has(interface: Interface, level: Level) -> None:
    """As the contract has it for this ABI, padding and all; and for each entry it can reach."""
    for way in (None, *interface.other_ways):
        there = interface.by(way)
        laid = interface.asked.layouts[there.entry.name]
        wanted = dataclasses.replace(
            there.layout,
            size=laid.size,
            fields=tuple(
                Field(name=name, offset=offset, size=size)
                for name, (offset, size) in laid.fields.items()
            ),
        )
        if (there.layout.size, there.layout.fields) != (wanted.size, wanted.fields):
            _claimed(
                there,
                f"the contract's, for {there.entry.name}",
                _as_laid_out(there, wanted),
                allowed=f"as the contract has it: {wanted.size} bytes, {wanted.fields}",
                seen=f"in the kernel's header: {there.layout.size} bytes, {there.layout.fields}",
            )


@_item("P14", unless=lambda c, a: "each ABI has a layout of its own" if c.layouts else None)
def _padding_and_other_abis(interface: Interface, level: Level) -> None:
    """No hole, and one layout in every ABI, since one entry serves them all.

    It is compiled as m64, so the ABI that differs from that is the one at fault.
    """
    ours = interface.layout
    if holes := ours.padding():
        ordered = sorted(ours.fields, key=lambda one: one.offset)
        packed = [
            dataclasses.replace(after, offset=before.end)
            if (before.end, after.offset) in holes
            else after
            for before, after in itertools.pairwise(ordered)
        ]
        whole = ordered[-1].end if (ordered[-1].end, ours.size) in holes else ours.size
        without_holes = dataclasses.replace(ours, size=whole, fields=(*ordered[:1], *packed))
        _claimed(
            interface,
            "a struct without padding",
            _as_laid_out(interface, without_holes),
            allowed="no byte that is no field's",
            seen=f"{interface.contract.tag} has padding at {holes}",
        )
    native = interface.in_abi(ABIS[0]).layout
    if (ours.size, ours.fields) != (native.size, native.fields):
        _claimed(
            interface,
            f"{ABIS[0].name}'s",
            _as_laid_out(interface, native),
            allowed=f"as {ABIS[0].name} has it: {native.fields}",
            seen=f"{interface.abi.name} lays {interface.contract.tag} out in another way: "
            f"{ours.fields}",
        )


# P17: the order of errors.


Provocation = Callable[[Interface, Case], Case]


def set_fields(interface: Interface, case: Case, **fields: int) -> Case:
    """The case with some fields of its struct set, as far as it has them."""
    data = bytearray(case.memory.ljust(interface.ksize, b"\0"))
    for name, value in fields.items():
        interface.layout.put(data, name, value)
    memory = bytes(data)[: max(len(case.memory), interface.contract.field_end)]
    return dataclasses.replace(case, memory=memory)


def _set_field(interface: Interface, case: Case, *, field: str, value: int) -> Case:
    return set_fields(interface, case, **{field: value})


def _sized(interface: Interface, case: Case, usize: int, *, tail: bytes = b"") -> Case:
    """The case with another size: its memory grows or shrinks with it."""
    length = interface.contract.extent(min(usize, REACH))
    memory = case.memory[:length].ljust(length, b"\0")
    if tail:
        memory = memory[: -len(tail)] + tail
    return dataclasses.replace(
        case, usize=usize, memory=cases.with_usize(interface.contract, memory, usize)
    )


def provocations(interface: Interface, check: Check) -> Iterator[Provocation]:
    """Ways to have a call refused by ``check``."""
    contract, ksize = interface.contract, interface.ksize
    match check:
        case UnknownFlags() | ArgAtMost():
            given = _refused_argument(contract, check)
            yield lambda i, c: dataclasses.replace(c, flags=(*c.flags, *given))
        case Null():
            yield lambda i, c: dataclasses.replace(c, pointer=0)
        case Head() | FetchSize():
            # Nothing is mapped in the first page; NULL itself may be told apart.
            yield lambda i, c: dataclasses.replace(c, pointer=PAGE - 8)
        case SizeBounds(minimum=minimum, maximum=maximum):
            if minimum > 0:
                yield lambda i, c: _sized(i, c, minimum - 1)
            if maximum is not None:
                beyond = maximum + 1
                yield lambda i, c: _sized(i, c, beyond)
        case Tail():
            yield lambda i, c: _sized(i, c, ksize + 8, tail=b"\1")
            # The fault's errno stands for a hole that is met before any nonzero byte.
            yield lambda i, c: dataclasses.replace(_sized(i, c, ksize + 8), hole=ksize + 4)
        case Copy():
            yield lambda i, c: dataclasses.replace(c, hole=ksize - 1)
        case Privileged():
            lacking = without(check.capability)
            yield lambda i, c: dataclasses.replace(ask(i, c, check), who=lacking)
        case Text(field=field, long_at=long_at):
            for address in (PAGE - 8, piece_at(long_at)):
                yield functools.partial(_set_field, field=field, value=address)
        case _:
            values = _refused_fields(interface, check)
            yield lambda i, c: set_fields(i, c, **values)


def _refused_argument(
    contract: Contract, check: UnknownFlags | ArgAtMost
) -> tuple[tuple[int, int], ...]:
    """The registers of an argument with which a call is refused by ``check``."""
    if isinstance(check, ArgAtMost):
        return wide_flags(contract, check.arg, check.maximum + 1)
    flags = contract.flags(check.arg)
    unknown = next(1 << bit for bit in range(flags.width) if not flags.mask >> bit & 1)
    return ((check.arg, unknown),)


def _refused_fields(interface: Interface, check: FieldCheck) -> dict[str, int]:
    """Fields with which a call is refused by ``check``."""
    match check:
        case UnknownBits(field=field):
            width = 8 * interface.layout.field(field).size
            unknown = (1 << bit for bit in reversed(range(width)) if not check.mask >> bit & 1)
            return {field: next(unknown)}
        case AtMost(field=field, maximum=maximum):
            return {field: maximum + 1}
        case NotTogether(field=field, bits=bits):
            return {field: bits}
        case OnlyWith(field=field, other=other):
            return {field: 1, other: 0}
        case AtLeast(field=field, minimum=least):
            return {field: least - 1}
        case OneOf(field=field, values=few):
            return {field: next(value for value in range(len(few) + 1) if value not in few)}
        case BothOrNeither(field=field, other=other):
            return {field: 1, other: 0}
        case Process(field=field):
            return {field: nobody(interface, field)}
        case Points(field=field, beside=beside):
            # The kernel's half, or the first page where a pointer has 32 bits.
            wide = interface.layout.field(field).size == 8
            return {**beside, field: 1 << 63 if wide else PAGE - 8}
        case Text(field=field):
            return {field: PAGE - 8}


def nobody(interface: Interface, field: str) -> int:
    """A value for a field that names a process which is nobody's: the lowest, by whole bytes."""
    width = 8 * interface.layout.field(field).size
    return min(MOST_PID << 2, (1 << width) - 1)


def ask(interface: Interface, case: Case, check: Privileged) -> Case:
    """The case with what takes the capability."""
    value = check.bits & -check.bits if check.above is None else check.above + 1
    if check.field is not None:
        return set_fields(interface, case, **{check.field: value})
    if check.arg is not None:
        given = dict(case.flags).get(check.arg, 0)
        return dataclasses.replace(case, flags=(*case.flags, (check.arg, given | value)))
    return case


def provoked_alone(interface: Interface) -> list[Case]:
    """A call that is accepted, and each way to have it refused, alone."""
    good = interface.case()
    found = [good]
    for check in interface.contract.checks:
        found += [provoke(interface, good) for provoke in provocations(interface, check)]
    return found


def _provoked_in_pairs(interface: Interface) -> list[Case]:
    """Each way to have a call refused by one check, together with each for another."""
    found = []
    for first, second in itertools.combinations(interface.contract.checks, 2):
        for one, other in itertools.product(
            provocations(interface, first), provocations(interface, second)
        ):
            good = interface.case()
            # Sizes before fields and holes: a later step must not undo an earlier one.
            found.append(one(interface, other(interface, good)))
            found.append(other(interface, one(interface, good)))
    return found


@_item("P17")
def _order_of_errors(interface: Interface, level: Level) -> None:
    """Each pair of checks provoked together: the one that stands higher answers.

    What it writes is another property's.
    """
    interface.check_all(*_provoked_in_pairs(interface), about=frozenset({"errno"}))


# P20: the descriptor.


@_item("P20", unless=no_descriptor)
def _close_on_exec(interface: Interface, level: Level) -> None:
    """FD_CLOEXEC is as the interface's own flag asks, and only then."""
    effect = interface.contract.effect
    assert isinstance(effect, (ReadBack, Descriptor))
    getfd = interface.constant("F_GETFD", "linux/fcntl.h")
    always = effect.cloexec is True
    asked = effect.cloexec if isinstance(effect.cloexec, tuple) else None
    choices = [(0, 0)] if asked is None else [(0, 0), asked]
    found = Causes()
    for arg, bit in choices:
        case = dataclasses.replace(interface.case(), flags=((arg, bit),) if bit else ())
        (seen,) = _with_descriptor(interface, case, [("fcntl", getfd)])
        wanted = int(always or bool(bit))
        if seen != wanted:
            found.add(
                Mismatch(
                    first=f"{case}, then fcntl(F_GETFD)",
                    last="",
                    count=1,
                    allowed=f"{wanted}: close-on-exec is {'set' if wanted else 'not set'}",
                    seen=str(seen),
                    cause=f"close-on-exec {wanted} → {seen}",
                    case=case,
                    how=CloseOnExec(wanted=bool(wanted)),
                )
            )
    interface.fail_on(found.all())


@_item("P20", unless=no_descriptor)
def _lowest_free_number_and_no_leak(interface: Interface, level: Level) -> None:
    """The descriptor is the lowest that is free; no refused call takes one."""
    several = provoked_alone(interface)
    before = lowest_free(interface)
    # Only the descriptors matter here: what the calls gave is other items' business.
    interface.check_all(*several, about=frozenset())
    after = lowest_free(interface)
    if after == before:
        return
    found = Causes()
    for case in several:
        first = lowest_free(interface)
        interface.check_all(case, about=frozenset())
        if (now := lowest_free(interface)) != first:
            words = cases.describe(
                interface.contract, interface.layout, case, register=interface.register
            )
            found.add(
                Mismatch(
                    first=words,
                    last=words,
                    count=1,
                    allowed=f"the lowest free descriptor stays {first}",
                    seen=f"it is {now}",
                    cause="descriptor",
                    case=case,
                    how=KeepsNothing(meters=((Meter.DESCRIPTOR, 0),), times=1),
                )
            )
    if not found.all():
        found.add(
            Mismatch(
                first="each call that is refused, and one that is accepted",
                last="",
                count=len(several),
                allowed=f"the lowest free descriptor stays {before}",
                seen=f"it is {after}",
                cause="descriptor",
                how=NoProgram(why="made alone, none of these calls keeps a descriptor"),
            )
        )
    interface.fail_on(found.all())


def lowest_free(interface: Interface) -> int:
    """The lowest free descriptor."""
    program = Program()
    program.reset()
    free = program.syscall(interface.number("dup"), 0)
    program.syscall(interface.number("close"), free)
    return interface.caller.run(program)[free.index].ret


def _with_descriptor(interface: Interface, case: Case, calls: list[tuple[str, int]]) -> list[int]:
    """Make a call, use its descriptor as first argument of others, and close it."""
    program = Program()
    program.reset()
    program.write(SCRATCH, DATA_AT, interface.contract.data)
    program.write(ARENA, case.offset, case.memory)
    fd = interface.enter(program, cases.registers(interface.contract, case))
    made = [program.syscall(interface.number(name), fd, value) for name, value in calls]
    program.syscall(interface.number("close"), fd)
    results = interface.caller.run(program)
    return [results[one.index].ret for one in made]
