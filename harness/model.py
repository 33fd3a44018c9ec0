# SPDX-License-Identifier: GPL-2.0-only
"""The reference model: contract + kernel + call → the one outcome allowed.

Pure and small.  It is the only oracle: no expectation in a test is typed by
hand or taken from the kernel under test, all of them come from here.
"""

from __future__ import annotations

import dataclasses
import errno as codes
import os
import signal as signals
from collections.abc import Mapping

from harness.contract import (
    DATA_AT,
    PAGE,
    ArgAtMost,
    AtLeast,
    AtMost,
    BothOrNeither,
    Check,
    Contract,
    Copy,
    Fails,
    FetchSize,
    FieldCheck,
    Fills,
    Given,
    Half,
    Head,
    NotTogether,
    Null,
    OfArg,
    OfField,
    OfText,
    OneOf,
    OnlyWith,
    Points,
    Privileged,
    Process,
    ReadBack,
    Record,
    SizeBounds,
    SizeField,
    Tail,
    Text,
    UnknownBits,
    UnknownFlags,
    ValueCheck,
    Wide,
)
from harness.identity import CALLER, Identity, Peer, may_look
from harness.layout import Layout
from harness.program import AREA_BYTES
from harness.wire import lib
from vm.errors import InfraError

#: The scratch area; nothing is mapped below NOT_MAPPED (mmap_min_addr), from 4 GiB to TOP,
#: and in the kernel's half.
SCRATCH_AT: int = lib.WIRE_SCRATCH_AT
NOT_MAPPED, FOUR_GIB, TOP, USERS = 1 << 16, 1 << 32, 5 << 44, 1 << 47
#: No pid is higher (include/linux/threads.h:PID_MAX_LIMIT).
MOST_PID = 1 << 22


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """One call with its memory.

    ``memory`` begins at the struct's first byte and holds what can be read
    there; ``hole`` is the offset of the first byte that cannot, or None when
    that lies behind everything the call may look at.
    """

    usize: int  #: what the size says, already cut to the size's own width
    memory: bytes
    hole: int | None = None
    null: bool = False  #: the pointer to the struct is NULL
    args: Mapping[int, int] = dataclasses.field(default_factory=dict)  #: registers, but the pointer
    who: Identity | None = None  #: makes it; None: the caller as it is
    #: A field that names a process: its value counts, whatever the memory has there.
    peer: tuple[str, Peer] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the caller sees."""

    errno: int  #: 0 when accepted
    written: int | None = None  #: what the size field reads afterwards, when that changes
    held: bytes | None = None  #: the struct as the kernel holds it, when accepted
    why: str = ""  #: the check that refused
    #: Spans of the struct that an accepted call writes, (start, stop) in bytes.
    filled: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        if not self.errno:
            return "success"
        name = errno_name(self.errno)
        return f"{name}, size set to {self.written}" if self.written is not None else name


def errno_name(number: int) -> str:
    """EINVAL and so on; the number itself where it has no name."""
    return codes.errorcode.get(number, f"errno {number} ({os.strerror(number)})")


def ending(errno: int, signal: int = 0) -> str:
    """How a call ended, in a word: success, an errno's name or a signal's."""
    if signal:
        names = {one.value: one.name for one in signals.Signals}
        return names.get(signal, f"signal {signal}")
    return errno_name(errno) if errno else "success"


def _readable(call: Call, start: int, stop: int) -> bool:
    return call.hole is None or stop <= call.hole or start >= stop


def _tail_outcome(check: Tail, call: Call, *, start: int, stop: int) -> int:
    """The tail's errno, 0 when it is all zero and readable.  Upwards, first thing met."""
    end = stop if call.hole is None else min(stop, call.hole)
    if check.errno and call.memory[start:end].strip(b"\0"):
        return check.errno
    return 0 if end == stop else check.fault


def held(contract: Contract, layout: Layout, call: Call, *, size: int) -> bytes:
    """The kernel's own copy: the caller's bytes, zero extended to layout.size.

    ``size`` is the size that was checked, with 0 already replaced.
    """
    length = layout.size if contract.copy.whole else min(size, layout.size)
    data = bytearray(call.memory[:length].ljust(layout.size, b"\0"))
    where, effect = contract.size, contract.effect
    if isinstance(where, SizeField):
        keeps = isinstance(effect, ReadBack) and effect.size_holds == "ksize"
        value = layout.size if keeps else size
        data[where.offset : where.end] = value.to_bytes(where.width, "little")
    return bytes(data)


class _Kept:
    """The kernel's own copy of one call, made when the first check looks at it and then kept."""

    def __init__(self, contract: Contract, layout: Layout, call: Call, size: int) -> None:
        self._of = contract, layout, call, size
        self._data: bytes | None = None

    @property
    def data(self) -> bytes:
        """What held() says."""
        if self._data is None:
            contract, layout, call, size = self._of
            self._data = held(contract, layout, call, size=size)
        return self._data


def _refusal(
    check: Check, contract: Contract, layout: Layout, call: Call, size: int, kept: _Kept
) -> tuple[int, bool]:
    """The errno with which ``check`` refuses (0: it does not), and whether it writes the size."""
    match check:
        case UnknownFlags(arg=arg):
            flags = contract.flags(arg)
            value = call.args.get(arg, 0) & ((1 << flags.width) - 1)
            return (flags.errno if value & ~flags.mask else 0), False
        case ArgAtMost(arg=arg, maximum=most, errno=number):
            return (number if wide_value(contract, call, arg) > most else 0), False
        case Null(errno=number):
            return (number if call.null else 0), False
        case FetchSize(errno=number):
            where = contract.size
            assert isinstance(where, SizeField)  # a contract of another kind has no such check
            return (0 if _readable(call, where.offset, where.end) else number), False
        case Head(length=length, most=most, errno=number):
            looked_at = length <= size and (most is None or size <= most)
            return (number if looked_at and not _readable(call, 0, length) else 0), False
        case SizeBounds():
            if size < check.minimum:
                return check.too_small, check.writes_size
            if check.maximum is not None and size > check.maximum:
                return check.too_big, check.writes_size
            return 0, False
        case Tail():
            if size <= layout.size:
                return 0, False
            number = _tail_outcome(check, call, start=layout.size, stop=size)
            return number, check.writes_size and number == check.errno
        case Copy(errno=number, whole=whole):
            length = layout.size if whole else min(size, layout.size)
            return (0 if _readable(call, 0, length) else number), False
        case _:
            return _judged(check, contract, layout, call, size, kept), False


def _judged(
    check: FieldCheck | Privileged,
    contract: Contract,
    layout: Layout,
    call: Call,
    size: int,
    kept: _Kept,
) -> int:
    """The errno with which a check of what the call asks for refuses, or 0."""
    match check:
        case Process():
            return _process(check, layout, call, size, kept)
        case Points():
            return _points(check, layout, kept.data)
        case Text():
            return _text(check, contract, layout, kept.data)
        case Privileged():
            refused = _asked(check, contract, layout, call, kept) and not _holds(check, call.who)
        case _:
            refused = wrong(check, layout, kept.data)
    return check.errno if refused else 0


def _holds(check: Privileged, who: Identity | None) -> bool:
    if who is None:
        return check.caller_has
    # What the caller lacks, nobody gets who comes from it; but in a namespace of its own.
    has = check.caller_has or (who.namespace and check.namespaced)
    return has and who.holds(check.capability, namespaced=check.namespaced)


def _asked(check: Privileged, contract: Contract, layout: Layout, call: Call, kept: _Kept) -> bool:
    """Whether the call is for what takes the capability."""
    if check.field is not None:
        value = layout.get(kept.data, check.field)
    elif check.arg is not None:
        value = call.args.get(check.arg, 0) & ((1 << contract.flags(check.arg).width) - 1)
    else:
        return True
    return value > check.above if check.above is not None else bool(value & check.bits)


def _process(check: Process, layout: Layout, call: Call, size: int, kept: _Kept) -> int:
    """The errno for whom the field names, or 0."""
    field = layout.field(check.field)
    if call.peer is not None and call.peer[0] == check.field and field.offset < size:
        if field.end > size:
            raise InfraError(f"usize {size} cuts {check.field}: whose pid that is, nobody knows")
        peer = call.peer[1]
        if not peer.exists:
            return check.none
        return 0 if may_look(call.who or CALLER, peer, real=check.real) else check.denied
    value = layout.get(kept.data, check.field)
    if 0 < value <= MOST_PID:
        raise InfraError(f"{check.field} = {value}: whose pid that is, the model does not know")
    return check.none if value else 0


def _points(check: Points, layout: Layout, kept: bytes) -> int:
    """The errno for where the field points to, or 0."""
    address = layout.get(kept, check.field)
    if not all(layout.get(kept, name) for name in check.beside):
        return 0
    if not address:
        return check.null or 0
    return 0 if is_there(address, check.length) else check.errno


def wide_value(contract: Contract, call: Call, arg: int) -> int:
    """The 64 bits of an argument that is as wide in every ABI, out of one register or two."""
    match contract.args[arg]:
        case Wide(value=value):
            return call.args.get(arg, value) % (1 << 64)
        case Half(value=low):
            high = contract.args[arg + 1]
            assert isinstance(high, Half)  # in_abi() puts the two beside each other
            halves = (call.args.get(arg, low), call.args.get(arg + 1, high.value))
            return halves[0] % (1 << 32) | halves[1] % (1 << 32) << 32
        case other:
            raise InfraError(f"argument {arg} of {contract.name} is {other}")


def _text(check: Text, contract: Contract, layout: Layout, kept: bytes) -> int:
    """The errno for the string that the field points to, or 0."""
    text = text_at(contract, layout.get(kept, check.field))
    if text is None:
        return check.errno
    return check.too_long if len(text) > check.longest else 0


def text_at(contract: Contract, address: int) -> bytes | None:
    """The string at an address, its NUL left out: of NULL an empty one; None: none is there.

    Raises InfraError for where the contract's pieces are not.
    """
    if not address:
        return b""
    if not is_there(address, 1):
        return None
    start = address - SCRATCH_AT - DATA_AT
    text, nul, _ = contract.data[max(start, 0) :].partition(b"\0")
    if start < 0 or not nul:
        raise InfraError(f"{address:#x}: which string is there, the model does not know")
    return text


def is_there(address: int, length: int) -> bool:
    """Whether a caller has memory there: all of it in the scratch area, or none of it at all.

    Raises InfraError for where something else of a program's may be.
    """
    end = address + length
    if address >= SCRATCH_AT and end <= SCRATCH_AT + AREA_BYTES:
        return True
    beside = address >= SCRATCH_AT - PAGE and end <= SCRATCH_AT + AREA_BYTES + PAGE
    # Libraries and stacks of 64-bit programs are at the top; no other program has as much.
    nowhere = end <= NOT_MAPPED or FOUR_GIB <= address < TOP or address >= USERS
    if beside or nowhere:
        return False
    raise InfraError(f"{address:#x}: what a caller has there, the model does not know")


def wrong(check: ValueCheck, layout: Layout, kept: bytes) -> bool:
    """Whether a field of the kernel's copy is what ``check`` refuses."""
    value = layout.get(kept, check.field)
    match check:
        case UnknownBits():
            return bool(value & ~check.mask)
        case AtMost():
            return value > check.maximum
        case AtLeast():
            return value < check.minimum
        case OneOf():
            return value not in check.values
        case BothOrNeither():
            return bool(value) != bool(layout.get(kept, check.other))
        case OnlyWith():
            return bool(value) and not layout.get(kept, check.other) & check.bits
        case NotTogether():
            return value & check.bits == check.bits


def outcome(contract: Contract, layout: Layout, call: Call) -> Outcome:
    """The one outcome that the contract allows on a kernel with this layout.

    ``layout`` is the kernel's own: its size is ksize.
    """
    size = call.usize
    if size == 0 and contract.zero_means is not None:
        size = contract.zero_means
    kept = _Kept(contract, layout, call, size)
    for check in contract.checks:
        number, writes = _refusal(check, contract, layout, call, size, kept)
        if number:
            return Outcome(
                errno=number,
                written=layout.size if writes and layout.size != call.usize else None,
                why=type(check).__name__,
            )
    if isinstance(contract.effect, Fails):
        return Outcome(errno=contract.effect.errno)
    if isinstance(contract.effect, Fills):
        return _filled(contract.effect, contract, layout, size=size, kept=kept.data)
    if isinstance(contract.effect, ReadBack) and contract.effect.record:
        return Outcome(errno=0, held=_shown(contract.effect.record, contract, layout, call, kept))
    return Outcome(errno=0, held=kept.data)


def _shown(record: Record, contract: Contract, layout: Layout, call: Call, kept: _Kept) -> bytes:
    """The record of an accepted call."""
    where = record.layout
    assert where is not None  # Interface has it compiled
    data = bytearray(where.size)
    for name, source in record.fields:
        one = where.field(name)
        match source:
            case OfArg(arg=arg):
                value = wide_value(contract, call, arg)
            case Given(value=value):
                pass
            case OfField(field=field, signed=signed):
                value = layout.get(kept.data, field)
                bits = 8 * layout.field(field).size
                if signed and value >> (bits - 1):
                    value -= 1 << bits
            case OfText(field=field):
                text = text_at(contract, layout.get(kept.data, field)) or b""
                value = int.from_bytes(text, "little")
            case other:
                raise InfraError(f"{name}: {other} was not asked for")
        data[one.offset : one.end] = (value % (1 << 8 * one.size)).to_bytes(one.size, "little")
    return bytes(data)


def _filled(
    effect: Fills, contract: Contract, layout: Layout, *, size: int, kept: bytes
) -> Outcome:
    """What an accepted call that writes into the struct may change, and what it says of it."""
    length = layout.size if contract.copy.whole else min(size, layout.size)
    names = effect.fields or tuple(one.name for one in layout.fields)
    fields = (layout.field(name) for name in names)
    spans = tuple((one.offset, min(one.end, length)) for one in fields if one.offset < length)
    if effect.whole:
        spans = ((0, 0), *spans)  # nothing changes there, but it is written
    written = length if effect.size_holds == "least" else None
    return Outcome(errno=0, held=kept, filled=spans, written=written)
