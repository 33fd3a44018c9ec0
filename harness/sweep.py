# SPDX-License-Identifier: GPL-2.0-only
"""Sweeps: one call at every point of nested dimensions, made inside the guest.

The caller enumerates, calls and records; what comes back are run lengths.
This module describes a sweep, encodes it for the wire, walks the same points
in the same order through the model and compares run with run.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
from collections.abc import Iterator, Sequence

from harness import model, wire
from harness.contract import Contract
from harness.layout import Layout
from harness.program import (
    ARENA,
    SCRATCH,
    U64,
    Address,
    Argument,
    Entry,
    ResultOf,
    encode_op,
)
from harness.wire import lib
from vm.errors import InfraError

#: The most bytes of a struct that are really there (caller.c:REACH).
REACH = 12288
#: What lies around the struct (caller.c:CANARY).
CANARY = 0xA5
#: What the buffer of an effect's read(2) holds before, so that a short one shows.
BUFFER_FILL = 0x5A
#: Bytes of that buffer behind the kernel's struct, which must stay as they were.
BUFFER_SPARE = 64


class Place(enum.IntEnum):
    """Where the struct lies in the arena."""

    MIDDLE = lib.WIRE_PLACE_MIDDLE  #: canaries on both sides
    END = lib.WIRE_PLACE_END  #: flush against an inaccessible page
    START = lib.WIRE_PLACE_START  #: a page's first byte, the page before inaccessible


class Kind(enum.IntEnum):
    """What a dimension varies; see wire.h."""

    USIZE = lib.WIRE_DIM_USIZE
    BYTE = lib.WIRE_DIM_BYTE
    TAIL = lib.WIRE_DIM_TAIL
    BIT = lib.WIRE_DIM_BIT
    ARG_BIT = lib.WIRE_DIM_ARG_BIT
    ARG = lib.WIRE_DIM_ARG
    SHIFT = lib.WIRE_DIM_SHIFT


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dim:
    """One dimension: start ≤ value < stop; ``index`` names an argument."""

    kind: Kind
    start: int
    stop: int
    step: int = 1
    index: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """A rule that makes many calls of one interface."""

    dims: tuple[Dim, ...]
    usize: int = 0  #: where no dimension sets it
    template: bytes = b""  #: the struct's first bytes; the size field is set in it
    args: tuple[tuple[int, int], ...] = ()  #: (argument, value), all 64 bits
    place: Place = Place.MIDDLE
    flip: int = 0xFF  #: XORed into a byte where no bit dimension is
    entry: Entry = Entry.NATIVE


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """One call of a sweep, in words that a person can use."""

    usize: int
    byte: int | None = None
    flip: int = 0
    shift: int = 0
    args: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        parts = [f"usize {self.usize}"]
        if self.byte is not None:
            parts.append(f"byte {self.byte} ^= {self.flip:#04x}")
        if self.shift:
            parts.append(f"moved by {self.shift}")
        parts += [f"argument {index} = {value:#x}" for index, value in self.args]
        return ", ".join(parts)


@dataclasses.dataclass(frozen=True)
class Seen:
    """A call's outcome as a row has it."""

    errno: int
    written: int | None = None
    effect: int | None = None
    signal: int = 0
    stray: bool = False
    deadline: bool = False

    def __str__(self) -> str:
        parts = [model.errno_name(self.errno) if self.errno else "success"]
        if self.signal:
            parts = [f"signal {self.signal}"]
        if self.written is not None:
            parts.append(f"size set to {self.written}")
        if self.effect is not None:
            parts.append(f"effect {self.effect:#018x}")
        if self.stray:
            parts.append("another byte of the struct changed")
        if self.deadline:
            parts.append("it blocked until its deadline")
        return ", ".join(parts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A run of calls with one outcome; or, with ``canary``, memory found changed."""

    first: int
    count: int
    seen: Seen
    canary: int | None = None  #: offset from the struct of the first byte that differs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mismatch:
    """A run of calls whose outcome the contract does not allow."""

    first: Point
    last: Point
    count: int
    allowed: str
    seen: str

    def __str__(self) -> str:
        span = str(self.first) if self.count == 1 else f"{self.first} … {self.last}"
        return f"{self.count} calls: {span}\n  allowed: {self.allowed}\n  kernel:  {self.seen}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What a caller answered."""

    rows: tuple[Row, ...]
    calls: int
    nanoseconds: int


def read_back_ops(*, read: int, close: int, ksize: int) -> list[bytes]:
    """What follows an accepted call: read the descriptor, close it.

    ``read`` and ``close`` are the system calls' numbers; ``ksize`` is in bytes.
    """
    buffer, length = Address(SCRATCH, 0), ksize + BUFFER_SPARE
    fill = encode_op(kind=lib.WIRE_OP_FILL, args=(buffer, length, BUFFER_FILL))
    get = encode_op(kind=lib.WIRE_OP_SYSCALL, nr=read, args=(ResultOf(0), buffer, length))
    show = encode_op(kind=lib.WIRE_OP_READ, args=(buffer, length))
    end = encode_op(kind=lib.WIRE_OP_SYSCALL, nr=close, args=(ResultOf(0),))
    return [fill, get, show, end]


def fnv(data: bytes, value: int = 0xCBF29CE484222325) -> int:
    """FNV-1a 64, as caller.c:fnv() has it."""
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & U64
    return value


def read_back_effect(held: bytes) -> int:
    """The hash of what read_back_ops() gives when the kernel holds ``held``."""
    results = b"".join(value.to_bytes(8, "little", signed=True) for value in (0, len(held), 0, 0))
    return fnv(held + bytes([BUFFER_FILL]) * BUFFER_SPARE, fnv(results))


def encode(
    sweep: Sweep, contract: Contract, *, number: int, after: Sequence[bytes], deadline_ms: int
) -> bytes:
    """A WIRE_T_SWEEP payload.  ``number`` is the call's own, for this ABI."""
    args: list[Argument] = [0] * 6
    for index, value in sweep.args:
        args[index] = value
    args[contract.pointer] = Address(ARENA, 0)
    head = wire.pack(
        "wire_sweep",
        dims=len(sweep.dims),
        after=len(after),
        size_kind=lib.WIRE_SIZE_FIELD,
        size_index=contract.size.offset,
        size_width=contract.size.width,
        place=int(sweep.place),
        usize=sweep.usize,
        flip=sweep.flip,
        deadline_ms=deadline_ms,
        template_length=len(sweep.template),
        data_length=len(sweep.template),
    )
    call = encode_op(kind=lib.WIRE_OP_SYSCALL, nr=number, args=args, entry=sweep.entry)
    dims = [
        wire.pack(
            "wire_dim",
            kind=int(dim.kind),
            index=dim.index,
            start=dim.start,
            stop=dim.stop,
            step=dim.step,
        )
        for dim in sweep.dims
    ]
    return b"".join((call, head[len(call) :], *dims, *after, sweep.template))


def decode_rows(payload: bytes) -> list[Row]:
    """The rows of a WIRE_T_ROWS payload."""
    size = wire.ffi.sizeof("struct wire_row")
    if len(payload) % size:
        raise InfraError(f"{len(payload)} bytes of rows are not whole rows of {size}")
    rows = []
    for at in range(0, len(payload), size):
        raw = wire.unpack("wire_row", payload, at)
        signalled = bool(raw.flags & lib.WIRE_ROW_SIGNAL)
        seen = Seen(
            errno=0 if signalled else -raw.ret,
            written=raw.written if raw.flags & lib.WIRE_ROW_WRITTEN else None,
            effect=raw.effect if raw.flags & lib.WIRE_ROW_EFFECT else None,
            signal=raw.ret if signalled else 0,
            stray=bool(raw.flags & lib.WIRE_ROW_STRAY),
            deadline=bool(raw.flags & lib.WIRE_ROW_DEADLINE),
        )
        canary = wire.ffi.cast("int64_t", raw.written) if raw.flags & lib.WIRE_ROW_CANARY else None
        rows.append(
            Row(
                first=raw.first,
                count=raw.count,
                seen=seen,
                canary=None if canary is None else int(canary),
            )
        )
    return rows


def points(sweep: Sweep) -> Iterator[Point]:
    """Every call of a sweep, in the caller's order."""
    bits = any(dim.kind is Kind.BIT for dim in sweep.dims)
    base = dict(sweep.args)

    def walk(depth: int, state: Point, args: dict[int, int]) -> Iterator[Point]:
        if depth == len(sweep.dims):
            yield dataclasses.replace(state, args=tuple(sorted(args.items())))
            return
        dim = sweep.dims[depth]
        stop = state.usize if dim.kind is Kind.TAIL else dim.stop
        for value in range(dim.start, stop, dim.step):
            now, changed = state, args
            match dim.kind:
                case Kind.USIZE:
                    now = dataclasses.replace(state, usize=value)
                case Kind.SHIFT:
                    now = dataclasses.replace(state, shift=value)
                case Kind.BYTE | Kind.TAIL:
                    now = dataclasses.replace(state, byte=value, flip=0 if bits else sweep.flip)
                case Kind.BIT:
                    now = dataclasses.replace(state, flip=1 << value)
                case Kind.ARG_BIT:
                    changed = {**args, dim.index: (args.get(dim.index, 0) ^ (1 << value)) & U64}
                case Kind.ARG:
                    changed = {**args, dim.index: value}
            yield from walk(depth + 1, now, changed)

    yield from walk(0, Point(usize=sweep.usize), base)


def memory(sweep: Sweep, contract: Contract, point: Point) -> tuple[bytes, int | None]:
    """The struct's bytes as the caller lays them out, and where the hole is.

    Mirrors caller.c:lay_out(): behind the struct lie canaries, or nothing.
    """
    extent = min(max(point.usize, contract.size.end), REACH)
    data = bytearray(sweep.template[:extent].ljust(extent, b"\0"))
    width = contract.size.width
    size = (point.usize & ((1 << 8 * width) - 1)).to_bytes(width, "little")
    data[contract.size.offset : contract.size.end] = size
    if sweep.place is Place.END:
        hole: int | None = extent + point.shift
        data += bytes([CANARY]) * point.shift
    else:
        hole = None
        data += bytes([CANARY]) * 64
    if point.byte is not None and point.byte < len(data):
        data[point.byte] ^= point.flip
    return bytes(data), hole


def predict(sweep: Sweep, contract: Contract, layout: Layout) -> Iterator[tuple[Point, Seen]]:
    """The one outcome allowed, for every call of a sweep."""
    effects: dict[bytes, int] = {}
    width = contract.size.width
    for point in points(sweep):
        data, hole = memory(sweep, contract, point)
        size = int.from_bytes(data[contract.size.offset : contract.size.end], "little")
        call = model.Call(usize=size, memory=data, hole=hole, args=dict(point.args))
        allowed = model.outcome(contract, layout, call)
        effect = None
        if allowed.held is not None:
            if allowed.held not in effects:
                effects[allowed.held] = read_back_effect(allowed.held)
            effect = effects[allowed.held]
        written = None if allowed.written is None else allowed.written & ((1 << 8 * width) - 1)
        yield point, Seen(errno=allowed.errno, written=written, effect=effect)


def compare(
    sweep: Sweep, contract: Contract, layout: Layout, result: SweepResult
) -> list[Mismatch]:
    """The runs whose outcome the contract does not allow; neighbours of one cause are one."""
    found: list[Mismatch] = []
    expected = predict(sweep, contract, layout)
    done = 0
    for row in result.rows:
        if row.canary is not None:
            here = Point(usize=sweep.usize)
            found.append(
                Mismatch(
                    first=here,
                    last=here,
                    count=0,
                    allowed="memory outside the size field stays as it was",
                    seen=f"up to call {row.first}: the byte at {row.canary:+d} changed",
                )
            )
            continue
        for point, allowed in itertools.islice(expected, row.count):
            done += 1
            if allowed == row.seen:
                continue
            last = found[-1] if found else None
            if last and (last.allowed, last.seen) == (str(allowed), str(row.seen)):
                found[-1] = dataclasses.replace(last, last=point, count=last.count + 1)
            else:
                found.append(
                    Mismatch(
                        first=point,
                        last=point,
                        count=1,
                        allowed=str(allowed),
                        seen=str(row.seen),
                    )
                )
    missing = sum(1 for _ in expected)
    if missing or done != result.calls:
        raise InfraError(
            f"the caller made {done} of {done + missing} calls and says {result.calls}"
        )
    return found
