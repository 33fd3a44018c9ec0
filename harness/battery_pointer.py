# SPDX-License-Identifier: GPL-2.0-only
"""The battery's items for P13: addresses that are members of the struct.

Importing this module adds them.  A 64-bit member is an address with all of its
bits, for a 32-bit program too (include/linux/kernel.h:u64_to_user_ptr): where
its upper half is set, nothing of such a program's can be.  A kernel that cuts
it to the ABI's pointers takes an address that was never given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from harness.abi import ABI, Way, ways
from harness.battery import BATTERY, Item, Level, effect_is_known
from harness.case import PAGE, Case
from harness.contract import DATA_AT, PIECES_AT, Contract, Points, Text, piece_at
from harness.findings import ContractBrokenError, Mismatch
from harness.how import Above4GiB
from harness.interface import Interface, SetupError
from harness.model import SCRATCH_AT, errno_name
from harness.program import AREA_BYTES, SCRATCH, Program, at
from harness.sweep import Dim, Kind, Sweep

#: Where memory above 4 GiB is mapped, in pages of its own.
HIGH = 1 << 40
#: The first byte of the scratch area that is there once more.
MAPPED = PIECES_AT // PAGE * PAGE
#: Where the first of the contract's pieces is there.
HIGH_PIECES = HIGH + PIECES_AT - MAPPED


def _no_pointer(contract: Contract, abi: ABI) -> str | None:
    return None if contract.pointers else "no field is a pointer"


def _no_padding(contract: Contract, abi: ABI) -> str | None:
    if reason := _no_pointer(contract, abi):
        return reason
    tables = [way.table for way in ways(abi.name, queued=contract.queued)]
    behind = {
        check.field
        for laid in (contract.layouts[name] for name in tables if name in contract.layouts)
        for check in contract.pointers
        for offset, size in [laid.fields[check.field]]
        if offset + size not in {at for at, _ in laid.fields.values()} | {laid.size}
    }
    return None if behind else "no entry that it reaches has padding behind a pointer"


def _no_high_memory(contract: Contract, abi: ABI) -> str | None:
    if abi.pointer == 4:
        return "a program of this ABI has no memory above 4 GiB"
    return _no_pointer(contract, abi)


def high_of(check: Points | Text) -> int:
    """Where above 4 GiB the same bytes are as at the contract's piece."""
    return HIGH + piece_at(check.at) - SCRATCH_AT - MAPPED


def _ways(interface: Interface) -> list[Way | None]:
    return [None, *interface.other_ways]


def _with_pointer(interface: Interface, check: Points | Text, value: int) -> Case:
    beside = check.beside if isinstance(check, Points) else {}
    return interface.case(**{**beside, check.field: value})


def _refused(interface: Interface, calls: Sequence[Case]) -> list[Case]:
    """Those that may be made: where an accepted one's effect is not known, the refused ones."""
    if effect_is_known(interface):
        return list(calls)
    return [one for one in calls if interface.predict(one).errno]


def _nowhere(check: Points | Text, width: int) -> Iterator[int]:
    """Addresses at which nothing is, or not enough."""
    end = SCRATCH_AT + AREA_BYTES
    yield from (0, 1, PAGE - 1, PAGE, SCRATCH_AT - PAGE, end)
    if isinstance(check, Points):  # a string ends where its NUL is
        yield end - check.length + 1
    if width == 64:
        yield from (1 << 47, 1 << 56, 1 << 63, 0xFFFF_8880_0000_0000, 0xFFFF_FFFF_8100_0000)
    top = (1 << width) - 1
    yield from (top, top & ~7) if width == 64 else ()


def _pointers_that_lead_nowhere(interface: Interface, level: Level) -> None:
    """NULL, the first page, the kernel's half, the end of what is there: a fault, or as stated."""
    for check in interface.contract.pointers:
        width = 8 * interface.layout.field(check.field).size
        calls = [_with_pointer(interface, check, value) for value in _nowhere(check, width)]
        interface.check_all(*_refused(interface, calls))


def _upper_half_of_a_pointer(interface: Interface, level: Level) -> None:
    """Each bit above the 32nd, over an address that is good without it: a fault, by every way."""
    for check in interface.contract.pointers:
        good = piece_at(check.at)
        for way in _ways(interface):
            there = interface.by(way)
            width = 8 * there.layout.field(check.field).size
            calls = [
                dataclasses.replace(_with_pointer(there, check, good | 1 << bit), way=way)
                for bit in range(32, width)
            ]
            there.check_all(*_refused(there, calls))


def _padding_behind_a_pointer(interface: Interface, level: Level) -> None:
    """Where the upper half would be in another ABI there is padding: it may have any value."""
    for way in _ways(interface):
        there = interface.by(way)
        for check in there.contract.pointers:
            end = there.layout.field(check.field).end
            for start, stop in there.layout.padding():
                if start == end:
                    there.verify(
                        Sweep(
                            dims=(
                                Dim(kind=Kind.BYTE, start=start, stop=stop),
                                Dim(kind=Kind.BIT, start=0, stop=8),
                            ),
                            usize=there.ksize,
                            template=there.template(),
                            way=way,
                        )
                    )


def _above_4_gib(interface: Interface, level: Level) -> None:
    """The same bytes above 4 GiB are as good as below; through the 64-bit entries."""
    for check in interface.contract.pointers:
        for way in _ways(interface):
            there = interface.by(way)
            narrow = there.layout.field(check.field).size < 8
            if narrow or (way is not None and way.int80):
                continue
            low = _with_pointer(there, check, piece_at(check.at))
            high = _with_pointer(there, check, high_of(check))
            below, above = (
                _answer(there, dataclasses.replace(case, way=way)) for case in (low, high)
            )
            if below == above and below != check.errno:
                continue
            raise ContractBrokenError(
                f"{interface.abi.name}: {interface.contract.name}(), {check.field} above 4 GiB:",
                [
                    Mismatch(
                        first=f"{high}, {check.field} = {high_of(check):#x}",
                        last="",
                        count=1,
                        allowed=f"as with the same bytes below: {errno_name(below)}"
                        if below != check.errno
                        else f"anything but {errno_name(below)}",
                        seen=errno_name(above) if above else "success",
                        cause="above 4 GiB",
                        case=dataclasses.replace(high, way=way),
                        how=Above4GiB(
                            low=dataclasses.replace(low, way=way), fault=check.errno, at=HIGH_PIECES
                        ),
                    )
                ],
            )


def _answer(interface: Interface, case: Case) -> int:
    """The errno of a call with the contract's pieces in both places."""

    def constant(text: str) -> int:
        return interface.constant(text, "linux/mman.h")

    program = Program()
    program.reset()
    program.write(SCRATCH, DATA_AT, interface.contract.data)
    file = program.syscall(interface.number("memfd_create"), at(SCRATCH, AREA_BYTES - 1), 0)
    length = AREA_BYTES - MAPPED
    program.syscall(interface.number("write"), file, at(SCRATCH, MAPPED), length)
    shared = constant("MAP_SHARED | MAP_FIXED")
    prot = constant("PROT_READ | PROT_WRITE")
    mapped = program.syscall(interface.number("mmap"), HIGH, length, prot, shared, file, 0)
    program.syscall(interface.number("close"), file)
    placed = interface.place_in(program, case)
    program.syscall(interface.number("munmap"), HIGH, length)
    results = interface.caller.run(program)
    if results[mapped.index].ret != HIGH:
        raise SetupError(f"mmap() above 4 GiB failed: {results[mapped.index]}")
    return results[placed.index].errno


BATTERY += [
    Item(
        prop="P13",
        name="pointers-that-lead-nowhere",
        run=_pointers_that_lead_nowhere,
        unless=_no_pointer,
    ),
    Item(
        prop="P13",
        name="upper-half-of-a-pointer",
        run=_upper_half_of_a_pointer,
        unless=_no_pointer,
    ),
    Item(
        prop="P13",
        name="padding-behind-a-pointer",
        run=_padding_behind_a_pointer,
        unless=_no_padding,
    ),
    Item(prop="P13", name="above-4-gib", run=_above_4_gib, unless=_no_high_memory),
]
