# SPDX-License-Identifier: GPL-2.0-only
"""The battery's items for P16: memory that changes while a call is made.

Importing this module adds them.  See harness/stall.py for what is allowed.
"""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
from collections.abc import Iterable, Iterator

import pytest

from harness import case as cases
from harness import stall
from harness.abi import ABI
from harness.battery import BATTERY, Item, Level
from harness.channel import RefusedError
from harness.contract import (
    PAGE,
    AtMost,
    Child,
    Contract,
    Fills,
    ReadBack,
    SizeField,
    UnknownBits,
)
from harness.interface import Interface
from harness.layout import Field
from harness.stall import Late, Race, Stall

#: errnos with which a kernel says that we may not, or that it cannot, hold its faults.
REFUSALS = (errno.EPERM, errno.EACCES, errno.ENOSYS)
#: Bytes behind ksize at each of which a full battery puts the boundary; the rest by steps.
FULL_TAIL = 64
FULL_STEP = 61
#: Calls of one race: a quick one's, and a full one's.  A kernel that does not preempt itself
#: shows a call one value, however often that is made (harness/stall.py).
RACE_CALLS = (500, 20_000)


def _no_size_field(contract: Contract, abi: ABI) -> str | None:
    return None if isinstance(contract.size, SizeField) else "the size is not in the struct"


def _no_input(contract: Contract, abi: ABI) -> str | None:
    if isinstance(contract.effect, Fills):
        return "the struct is written as well: what is in it afterwards is the call's own"
    return None


def _stepped(contract: Contract) -> str | None:
    if isinstance(contract.effect, Child):
        return "thousands of accepted calls make thousands of processes"
    return "each call takes steps around it" if contract.before or contract.after else None


def _verify(interface: Interface, stalls: Iterable[Stall]) -> None:
    """Make those stalls in which the contract has the kernel come to the late page.

    Or say that this kernel does not let us.
    """
    contract, layout, register = interface.contract, interface.layout, interface.register
    met = (one for one in stalls if stall.meets(contract, layout, one, register=register))
    try:
        stall.verify(interface, met)
    except RefusedError as exc:
        if exc.errno not in REFUSALS:
            raise
        pytest.skip(
            f"userfaultfd(2) may not hold the kernel's own faults ({os.strerror(exc.errno)}): "
            "that takes CAP_SYS_PTRACE or vm.unprivileged_userfaultfd=1"
        )


# What is tried.


def _usizes(interface: Interface) -> list[int]:
    """Each version that this kernel knows, a little more, and as much as there may be."""
    contract, ksize = interface.contract, interface.ksize
    most = min(PAGE, contract.bounds.maximum or PAGE)
    found = {version.size for version in contract.versions if version.size <= ksize}
    return sorted({*found, ksize, min(ksize + 8, most), most})


def _between(interface: Interface, usize: int) -> bool:
    """Whether a size is that of a version which is neither the first nor the kernel's."""
    sizes = [one.size for one in interface.contract.versions if one.size <= interface.ksize]
    return usize in sizes[1:] and usize != interface.ksize


def _edges(interface: Interface, usize: int) -> list[int]:
    """The boundaries at which everything is tried: behind the size field, around ksize, the end."""
    ksize = interface.ksize
    first, last = max(1, interface.contract.field_end), usize - 1
    return [at for at in (first, ksize - 1, ksize, ksize + 1, last) if first <= at <= last]


def _boundaries(interface: Interface, usize: int, level: Level) -> list[int]:
    """Where the second page begins: behind the size field, and before the struct's end.

    In a quick battery that is each field's start and middle, but for the versions in
    between: how a field is fetched does not depend on which of the versions it is that
    ends behind it, and the first and the last are tried at every field.
    """
    ksize = interface.ksize
    first, last = max(1, interface.contract.field_end), usize - 1
    found = set(_edges(interface, usize))
    if level.full:
        near = range(first, min(last, ksize + FULL_TAIL) + 1)
        far = range(ksize + FULL_TAIL, last, FULL_STEP)
        found |= {*near, *far, *range(last - 8, last + 1)}
    else:
        for field in () if _between(interface, usize) else interface.layout.fields:
            found |= {field.offset, field.offset + field.size // 2}
    return sorted(at for at in found if first <= at <= last)


def _sizes(interface: Interface, usize: int) -> list[int]:
    """What a size may become: every bound, its neighbours, nothing and the most."""
    bounds = interface.contract.bounds
    found = {0, bounds.minimum - 1, bounds.minimum, interface.ksize, usize - 8, usize + 8}
    found |= {PAGE, PAGE + 1, (1 << interface.size_bits) - 1}
    return sorted(size for size in found if 0 <= size < 1 << interface.size_bits and size != usize)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Span:
    """Bytes of the struct, and which of their bits are inverted."""

    name: str
    start: int
    mask: bytes

    @property
    def stop(self) -> int:
        return self.start + len(self.mask)

    def cut(self, low: int, high: int) -> _Span | None:
        """What of it lies in there, if it has a bit to invert."""
        start, stop = max(self.start, low), min(self.stop, high)
        mask = self.mask[start - self.start : stop - self.start] if start < stop else b""
        return dataclasses.replace(self, start=start, mask=mask) if any(mask) else None

    def distance(self, boundary: int) -> int:
        """Bytes from the boundary to the nearest of it, on whichever side that is."""
        return max(boundary - self.stop, self.start - boundary)

    def inverted(self, memory: bytes) -> bytes:
        """The memory with these bits inverted."""
        data = bytearray(memory)
        for at, bits in enumerate(self.mask, self.start):
            data[at] ^= bits
        return bytes(data)


def _mask(interface: Interface, field: Field) -> int:
    """The bits of a field that may be anything.

    All, where the contract says what every value does; else those that it
    refuses, since nobody knows here what an accepted one would do.
    """
    every = (1 << 8 * field.size) - 1
    if field.name in {check.field for check in interface.contract.pointers}:
        return 0  # what is at another address is nobody's business here
    if field.name in {check.field for check in interface.contract.processes}:
        # Whatever mix of old and new it is, it is nobody's pid, or zero.
        return every & ~0xFF_FFFF
    if isinstance(interface.contract.effect, ReadBack):
        return every
    found = 0
    for check in interface.contract.checks:
        if isinstance(check, UnknownBits) and check.field == field.name:
            found |= every & ~check.mask
        elif isinstance(check, AtMost) and check.field == field.name:
            found |= every & ~((1 << check.maximum.bit_length()) - 1)
    return found


def _spans(interface: Interface, usize: int) -> list[_Span]:
    """The fields but for the size, and the first and the last byte of the tail."""
    size = interface.contract.size
    found = [
        _Span(
            name=field.name,
            start=field.offset,
            mask=_mask(interface, field).to_bytes(field.size, "little"),
        )
        for field in interface.layout.fields
        if not isinstance(size, SizeField) or field.name != size.field
    ]
    found += [
        _Span(name=f"byte {at}", start=at, mask=b"\xff")
        for at in sorted({interface.ksize, usize - 1})
        if interface.ksize <= at < usize
    ]
    cut = (span.cut(0, usize) for span in found)
    return [span for span in cut if span is not None]


def changes(interface: Interface, level: Level, late: Late) -> Iterator[Stall]:
    """Each span, as far as its page is there, inverted meanwhile: there, and back.

    What is fetched twice is so wherever the fault comes between the two: in a quick
    battery every span changes at the edges, and elsewhere the one at the boundary,
    of which a copy may have a part already.
    """
    for usize in _usizes(interface):
        case = interface.case(usize=usize)
        edges = _edges(interface, usize)
        for boundary in _boundaries(interface, usize, level):
            there = (0, boundary) if late is Late.SECOND else (boundary, usize)
            cut = (whole.cut(*there) for whole in _spans(interface, usize))
            spans = [span for span in cut if span is not None]
            if spans and not level.full and boundary not in edges:
                spans = [min(spans, key=lambda one: one.distance(boundary))]
            for span in spans:
                other = span.inverted(case.memory)
                for before, after in ((case.memory, other), (other, case.memory)):
                    change = after[span.start : span.stop]
                    yield Stall(
                        case=dataclasses.replace(case, memory=before),
                        boundary=boundary,
                        late=late,
                        at=span.start,
                        change=change,
                        what=f"{span.name} becomes {change.hex()}",
                    )


def size_changes(interface: Interface, level: Level) -> Iterator[Stall]:
    """The size becomes another, alone and with everything else that is there.

    In a quick battery it becomes each of them at the edges, and one of them, in turn,
    at each of the other boundaries.  Where bytes lie before the size, it is looked at
    first and they are copied later: there the first page is the late one as well.
    """
    contract = interface.contract
    where = contract.size
    assert isinstance(where, SizeField)
    for usize in _usizes(interface):
        case = interface.case(usize=usize)
        boundaries = _boundaries(interface, usize, level)
        edges = boundaries if level.full else _edges(interface, usize)
        sizes = _sizes(interface, usize)
        tried = [(at, Late.SECOND, size) for at, size in itertools.product(edges, sizes)]
        if where.offset:
            first = sorted({1, where.offset})
            tried += [(at, Late.FIRST, size) for at, size in itertools.product(first, sizes)]
        others = (at for at in boundaries if at not in edges)
        turns = zip(others, itertools.cycle(sizes), strict=False)
        tried += [(at, Late.SECOND, size) for at, size in turns]
        for boundary, late, size in tried:
            changed = cases.with_usize(contract, case.memory, size)
            yield Stall(
                case=case,
                boundary=boundary,
                late=late,
                at=where.offset,
                change=changed[where.offset : where.end],
                what=f"{where.field} becomes {size}",
            )
        for boundary in boundaries:
            changed = cases.with_usize(contract, case.memory, contract.bounds.minimum - 1)
            for span in _spans(interface, min(boundary, interface.ksize)):
                changed = span.inverted(changed)
            yield Stall(
                case=case,
                boundary=boundary,
                late=Late.SECOND,
                at=0,
                change=changed[:boundary],
                what="all that is there becomes another struct",
            )


# The items.


def _size_changed_between_two_fetches(interface: Interface, level: Level) -> None:
    """The size changes when it was checked, before the copy fetches it again."""
    _verify(interface, size_changes(interface, level))


def _fields_changed_during_the_copy(interface: Interface, level: Level) -> None:
    """Each field, and bytes of the tail, change in the middle: what is checked is what is used."""
    _verify(interface, changes(interface, level, Late.SECOND))


def _nothing_is_read_before_the_size(interface: Interface, level: Level) -> None:
    """The first page is late: what lies in the second counts as it is when the first has come."""
    _verify(interface, changes(interface, level, Late.FIRST))


def _two_values_in_turn(interface: Interface, level: Level) -> None:
    """A second thread changes the size, and fields, all the time; on one CPU that is weak."""
    stall.verify_races(interface, *races(interface, RACE_CALLS[level.full]))


def races(interface: Interface, calls: int) -> Iterator[Race]:
    """Races of so many calls each: over the size, and over each field."""
    contract, ksize = interface.contract, interface.ksize
    where = contract.size
    most = min(PAGE, contract.bounds.maximum or PAGE)
    if isinstance(where, SizeField):
        case = dataclasses.replace(
            interface.case(usize=ksize), memory=interface.example(usize=most)
        )
        case = dataclasses.replace(case, memory=cases.with_usize(contract, case.memory, ksize))
        for pair in (
            (ksize, most),
            (most, (1 << interface.size_bits) - 1),
            (most, contract.bounds.minimum - 1),
        ):
            yield Race(
                case=case,
                at=where.offset,
                width=where.width,
                values=pair,
                calls=calls,
                what=where.field,
            )
    case = interface.case(usize=ksize)
    for span in _spans(interface, ksize):
        if len(span.mask) not in (1, 2, 4, 8) or span.start % len(span.mask):
            continue
        # One byte of it: were they all to change, any mix of them could be right.
        top = max(at for at, bits in enumerate(span.mask) if bits)
        value = int.from_bytes(case.memory[span.start : span.stop], "little")
        yield Race(
            case=case,
            at=span.start,
            width=len(span.mask),
            values=(value, value ^ span.mask[top] << 8 * top),
            calls=calls,
            what=span.name,
        )


BATTERY += [
    Item(
        prop="P16",
        name="size-changed-between-two-fetches",
        run=_size_changed_between_two_fetches,
        unless=lambda c, a: _no_size_field(c, a) or _no_input(c, a),
    ),
    Item(
        prop="P16",
        name="fields-changed-during-the-copy",
        run=_fields_changed_during_the_copy,
        unless=_no_input,
    ),
    Item(
        prop="P16",
        name="nothing-is-read-before-the-size",
        run=_nothing_is_read_before_the_size,
        unless=_no_input,
    ),
    Item(
        prop="P16",
        name="two-values-in-turn",
        run=_two_values_in_turn,
        unless=lambda c, a: _no_input(c, a) or _stepped(c),
    ),
]
