# SPDX-License-Identifier: GPL-2.0-only
"""Sweeps: one call at every point of nested dimensions, made inside the guest.

The caller enumerates, calls and records; what comes back are run lengths.
This module describes a sweep, encodes it for the wire, walks the same points
in the same order through the model and compares run with run.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from harness import case as cases
from harness import model, wire
from harness.abi import Way
from harness.case import Case
from harness.contract import (
    Child,
    Contract,
    Descriptor,
    Effect,
    Fails,
    Fills,
    Nothing,
    ReadBack,
    Returned,
    SizeArg,
    SizeField,
    SizeFixed,
    SizeIoctl,
    Step,
)
from harness.findings import Causes, Mismatch
from harness.layout import Layout
from harness.program import SCRATCH, U64, Address, Argument, ResultOf, encode_op, entry_of
from harness.wire import lib
from vm.errors import InfraError, UserError

#: The most bytes of a struct that are really there (caller.c:REACH).
REACH = 12288
#: What lies around the struct (caller.c:CANARY).
CANARY = 0xA5
#: Where in the scratch area what poisons the kernel's stack lies, and how much of it.
POISON_AT = 16384
POISON_BYTES = 512
#: What the buffer of an effect's read(2) holds before, so that a short one shows.
BUFFER_FILL = 0x5A
#: waitid(2), by which a child is waited for, whatever its signal (linux/wait.h).
P_PID, WEXITED, WALL = 1, 0x4, 0x40000000
#: Bytes of that buffer behind the kernel's struct, which must stay as they were.
BUFFER_SPARE = 64


class Place(enum.IntEnum):
    """Where the struct lies in the arena."""

    MIDDLE = lib.WIRE_PLACE_MIDDLE  #: canaries on both sides
    END = lib.WIRE_PLACE_END  #: flush against an inaccessible page
    START = lib.WIRE_PLACE_START  #: a page's first byte, the page before inaccessible
    SHORT = lib.WIRE_PLACE_SHORT  #: like END, but the struct's last byte is not there


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
    args: tuple[tuple[int, int], ...] = ()  #: flags: (argument, value), all 64 bits
    place: Place = Place.MIDDLE
    flip: int = 0xFF  #: XORed into a byte where no bit dimension is
    way: Way | None = None  #: into the kernel; None: the ABI's own
    poison: bool = False  #: the kernel's stack is filled with ones before each call


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
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


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """A call's outcome as a row has it."""

    errno: int
    written: int | None = None
    effect: int | None = None
    signal: int = 0
    stray: bool = False
    deadline: bool = False

    @property
    def ending(self) -> str:
        """How the call ended, without what it left."""
        return model.ending(self.errno, self.signal)

    def differs(self, other: Seen) -> str:
        """In what the two differ, and how: what tells one cause from another."""
        if self.errno != other.errno or self.signal != other.signal:
            return " → ".join(one.ending for one in (self, other))
        parts = [
            f"{name} {'missing' if theirs is None else 'wrong' if ours is not None else 'unasked'}"
            for name, ours, theirs in (
                ("write-back", self.written, other.written),
                ("effect", self.effect, other.effect),
            )
            if ours != theirs
        ]
        return ", ".join(parts) or "memory changed"

    def __str__(self) -> str:
        parts = [self.ending]
        if self.written is not None:
            parts.append(f"size set to {self.written}")
        if self.effect is not None:
            parts.append(f"effect {self.effect:#018x}")
        if self.stray:
            parts.append("another byte of the struct changed")
        if self.deadline:
            parts.append("it blocked until its deadline")
        return ", ".join(parts)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A run of calls with one outcome; or, with ``canary``, memory found changed."""

    first: int
    count: int
    seen: Seen
    canary: int | None = None  #: offset from the struct of the first byte that differs


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What a caller answered."""

    rows: tuple[Row, ...]
    calls: int
    nanoseconds: int


def step_args(step: Step, call: ResultOf | None = None) -> list[Argument]:
    """The registers of a step of a contract whose set-up was made."""
    found: list[Argument] = []
    for arg in step.args:
        match arg:
            case Returned():
                assert call is not None  # only what is behind the call has it
                found.append(call)
            case int():
                found.append(arg)
            case _:
                raise UserError(f"step {step.call}: {arg} was not made")
    return found


def after_ops(contract: Contract, *, number: Callable[[str], int], ksize: int) -> list[bytes]:
    """What follows an accepted call, so that its effect is seen and undone.

    ``number`` gives a system call's; ``ksize`` is in bytes.
    """
    undo = [
        encode_op(kind=lib.WIRE_OP_SYSCALL, nr=number(step.call), args=step_args(step, ResultOf(0)))
        for step in contract.after
    ]
    end = encode_op(kind=lib.WIRE_OP_SYSCALL, nr=number("close"), args=(ResultOf(0),))
    match contract.effect:
        case Nothing() | Fails() | Fills():
            return undo
        case Descriptor():
            return [*undo, end]
        case Child():
            args = (P_PID, ResultOf(0), 0, WEXITED | WALL, 0)
            return [encode_op(kind=lib.WIRE_OP_SYSCALL, nr=number("waitid"), args=args), *undo]
        case ReadBack():
            read = number("read")
            length = contract.effect.length(ksize) + BUFFER_SPARE
            buffer = Address(SCRATCH, 0)
            fill = encode_op(kind=lib.WIRE_OP_FILL, args=(buffer, length, BUFFER_FILL))
            get = encode_op(kind=lib.WIRE_OP_SYSCALL, nr=read, args=(ResultOf(0), buffer, length))
            show = encode_op(kind=lib.WIRE_OP_READ, args=(buffer, length))
            return [fill, get, show, *undo, end]


def before_ops(contract: Contract, *, number: Callable[[str], int]) -> list[bytes]:
    """What is made before each call."""
    return [
        encode_op(kind=lib.WIRE_OP_SYSCALL, nr=number(step.call), args=step_args(step))
        for step in contract.before
    ]


def poison_ops(number: Callable[[str], int]) -> list[bytes]:
    """Calls that copy ones from user memory onto the kernel's stack, and fail or return at once.

    fs/select.c:do_sys_poll() keeps 30 pollfds on the stack and
    lib/iov_iter.c:iovec_from_user() eight iovecs.  What a later call leaves
    uninitialised then reads as ones, unless the kernel initialises its stack.
    """
    ones = Address(SCRATCH, POISON_AT)
    fill = encode_op(kind=lib.WIRE_OP_FILL, args=(ones, POISON_BYTES, 0xFF))
    poll = encode_op(kind=lib.WIRE_OP_SYSCALL, nr=number("poll"), args=(ones, 30, 0))
    readv = encode_op(kind=lib.WIRE_OP_SYSCALL, nr=number("readv"), args=(0, ones, 8))
    return [fill, poll, readv]


def fnv(data: bytes, value: int = 0xCBF29CE484222325) -> int:
    """FNV-1a 64, as caller.c:fnv() has it."""
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & U64
    return value


def effect_hash(effect: Effect, held: bytes, *, undone: int = 0) -> int | None:
    """The hash of what after_ops() give when the kernel holds ``held``; None: they give nothing.

    ``undone`` is how many steps undo the call: each gives zero.
    """
    match effect:
        case Nothing() | Fails() | Fills():
            return fnv(bytes(8 * undone)) if undone else None
        case Descriptor() | Child():
            return fnv(bytes(8 * (1 + undone)))
        case ReadBack():
            values = (0, len(held), 0, *[0] * undone, 0)
            results = b"".join(value.to_bytes(8, "little") for value in values)
            return fnv(held + bytes([BUFFER_FILL]) * BUFFER_SPARE, fnv(results))


def encode(
    sweep: Sweep,
    contract: Contract,
    *,
    number: int,
    before: Sequence[bytes],
    after: Sequence[bytes],
    deadline_ms: int,
) -> bytes:
    """A WIRE_T_SWEEP payload.  ``number`` is the call's own, for this way into the kernel."""
    start = cases.Case(usize=0, memory=b"", flags=sweep.args, shift=-cases.PAGE)
    kind, index, width = _size_on_the_wire(contract)
    data = sweep.template + contract.data
    head = wire.pack(
        "wire_sweep",
        dims=len(sweep.dims),
        before=len(before),
        after=len(after),
        size_kind=kind,
        size_index=index,
        size_width=width,
        place=int(sweep.place),
        usize=sweep.usize,
        flip=sweep.flip,
        deadline_ms=deadline_ms,
        template_length=len(sweep.template),
        data_length=len(data),
        zero_means=contract.zero_means or 0,
    )
    call = encode_op(
        kind=lib.WIRE_OP_SYSCALL,
        nr=number,
        args=cases.registers(contract, start),
        entry=entry_of(sweep.way, queued=contract.queued),
    )
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
    return b"".join((call, head[len(call) :], *dims, *before, *after, data))


def _size_on_the_wire(contract: Contract) -> tuple[int, int, int]:
    match contract.size:
        case SizeField(offset=offset, width=width):
            return lib.WIRE_SIZE_FIELD, offset, width
        case SizeArg(arg=arg):
            return lib.WIRE_SIZE_ARG, arg, 0
        case SizeIoctl(arg=arg):
            return lib.WIRE_SIZE_IOCTL, arg, 0
        case SizeFixed():
            # The caller lays out so many bytes all the same: it puts the size nowhere.
            return lib.WIRE_SIZE_UNTOLD, 0, 0


def decode_rows(payload: bytes) -> list[Row]:
    """The rows of a WIRE_T_ROWS payload."""
    size = wire.ffi.sizeof("struct wire_row")
    if len(payload) % size:
        raise InfraError(f"{len(payload)} bytes of rows are not whole rows of {size}")
    rows = []
    for raw in wire.ffi.from_buffer("struct wire_row[]", payload):
        flags, written, effect = raw.flags, raw.written, raw.effect
        seen = _seen_of_row(
            raw.ret,
            flags,
            written if flags & lib.WIRE_ROW_WRITTEN else None,
            effect if flags & lib.WIRE_ROW_EFFECT else None,
        )
        canary = int(wire.ffi.cast("int64_t", written)) if flags & lib.WIRE_ROW_CANARY else None
        rows.append(Row(first=raw.first, count=raw.count, seen=seen, canary=canary))
    return rows


@functools.lru_cache(maxsize=16384)
def _seen_of_row(ret: int, flags: int, written: int | None, effect: int | None) -> Seen:
    """A row's outcome; one object for all rows that have it."""
    signalled = bool(flags & lib.WIRE_ROW_SIGNAL)
    return Seen(
        errno=0 if signalled else -ret,
        written=written,
        effect=effect,
        signal=ret if signalled else 0,
        stray=bool(flags & lib.WIRE_ROW_STRAY),
        deadline=bool(flags & lib.WIRE_ROW_DEADLINE),
    )


def tail_stop(sweep: Sweep, contract: Contract, usize: int) -> int:
    """Where a walk over the bytes of a struct of ``usize`` bytes ends."""
    if sweep.place is Place.SHORT:
        return max(0, min(contract.extent(usize), REACH) - 1)
    return usize


def points(sweep: Sweep, contract: Contract) -> Iterator[Point]:
    """Every call of a sweep, in the caller's order."""
    bits = any(dim.kind is Kind.BIT for dim in sweep.dims)

    def walk(depth: int, state: _State, args: dict[int, int]) -> Iterator[Point]:
        if depth == len(sweep.dims):
            usize, shift, byte, flip = state
            yield Point(
                usize=usize, shift=shift, byte=byte, flip=flip, args=tuple(sorted(args.items()))
            )
            return
        dim = sweep.dims[depth]
        stop = tail_stop(sweep, contract, state[0]) if dim.kind is Kind.TAIL else dim.stop
        for value in range(dim.start, stop, dim.step):
            yield from walk(depth + 1, *_step(sweep, dim, value, state, args, bits=bits))

    yield from walk(0, (sweep.usize, 0, None, 0), dict(sweep.args))


#: A Point that is not whole yet: usize, shift, byte, flip.  There are millions of them.
_State = tuple[int, int, int | None, int]


def _step(
    sweep: Sweep, dim: Dim, value: int, state: _State, args: dict[int, int], *, bits: bool
) -> tuple[_State, dict[int, int]]:
    """The state one step along ``dim``."""
    usize, shift, byte, flip = state
    match dim.kind:
        case Kind.USIZE:
            return (value, shift, byte, flip), args
        case Kind.SHIFT:
            return (usize, value, byte, flip), args
        case Kind.BYTE | Kind.TAIL:
            return (usize, shift, value, 0 if bits else sweep.flip), args
        case Kind.BIT:
            return (usize, shift, byte, 1 << value), args
        case Kind.ARG_BIT:
            return state, {**args, dim.index: (args.get(dim.index, 0) ^ (1 << value)) & U64}
        case Kind.ARG:
            return state, {**args, dim.index: value}


def case_of(sweep: Sweep, contract: Contract, point: Point) -> Case:
    """The call at a point.  Mirrors caller.c:lay_out(): around the struct lie canaries."""
    extent = min(contract.extent(point.usize), REACH)
    data = cases.with_usize(contract, sweep.template[:extent].ljust(extent, b"\0"), point.usize)
    hole = None
    if sweep.place is Place.END:
        data += bytes([CANARY]) * point.shift
        hole = len(data)
    elif sweep.place is Place.SHORT:
        data = data[: max(0, extent - 1)] + bytes([CANARY]) * point.shift
        hole = len(data)
    else:
        data += bytes([CANARY]) * 64
    if point.byte is not None and point.byte < len(data):
        changed = bytearray(data)
        changed[point.byte] ^= point.flip
        data = bytes(changed)
    return Case(
        usize=point.usize,
        memory=data,
        hole=hole,
        at_page_start=sweep.place is Place.START,
        shift=0 if hole is not None else point.shift,
        flags=point.args,
        way=sweep.way,
    )


def count(sweep: Sweep, contract: Contract) -> int:
    """The calls of a sweep."""

    def calls(depth: int, usize: int) -> int:
        if depth == len(sweep.dims):
            return 1
        dim = sweep.dims[depth]
        if dim.kind is Kind.USIZE:
            return sum(calls(depth + 1, value) for value in range(dim.start, dim.stop, dim.step))
        stop = tail_stop(sweep, contract, usize) if dim.kind is Kind.TAIL else dim.stop
        return len(range(dim.start, stop, dim.step)) * calls(depth + 1, usize)

    return calls(0, sweep.usize)


def split(sweep: Sweep, contract: Contract, parts: int) -> list[Sweep]:
    """Sweeps that make the same calls in the same order: about ``parts``, about as long.

    They differ in the span of the outermost dimension, so there may be fewer.
    """
    if not sweep.dims or sweep.dims[0].kind is Kind.TAIL:
        return [sweep]
    first, *rest = sweep.dims
    share = -(-count(sweep, contract) // parts)
    found: list[Sweep] = []
    start, calls = first.start, 0
    for value in range(first.start, first.stop, first.step):
        one = dataclasses.replace(first, start=value, stop=value + 1)
        calls += count(dataclasses.replace(sweep, dims=(one, *rest)), contract)
        enough = calls >= share and len(found) < parts - 1
        if enough or value + first.step >= first.stop:
            span = dataclasses.replace(first, start=start, stop=min(value + first.step, first.stop))
            found.append(dataclasses.replace(sweep, dims=(span, *rest)))
            start, calls = value + first.step, 0
    return found or [sweep]


def join(results: Sequence[SweepResult], whole: Sequence[int]) -> SweepResult:
    """The result of the sweep that split() made parts of; ``whole`` are the calls of each.

    A fault in a call ends a walk: what the parts behind such a one did is left out.
    """
    rows: list[Row] = []
    calls = nanoseconds = 0
    for result, asked in zip(results, whole, strict=True):
        for row in result.rows:
            moved = dataclasses.replace(row, first=row.first + calls)
            last = rows[-1] if rows else None
            if last and last.canary is moved.canary is None and last.seen == moved.seen:
                rows[-1] = dataclasses.replace(last, count=last.count + moved.count)
            else:
                rows.append(moved)
        calls += result.calls
        nanoseconds += result.nanoseconds
        if result.calls != asked:
            break
    return SweepResult(rows=tuple(rows), calls=calls, nanoseconds=nanoseconds)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Neighbouring calls that have one allowed outcome."""

    count: int
    first: Point
    last: Point
    allowed: Seen


def _seen(contract: Contract, layout: Layout, case: Case, *, register: int) -> Seen:
    """The allowed outcome of a case as a row would have it."""
    allowed = cases.predict(contract, layout, case, register=register)
    effect = None
    if allowed.held is not None:
        effect = _effect_cached(contract.effect, allowed.held, len(contract.after))
    written = allowed.written
    if written is not None and isinstance(contract.size, SizeField):
        written %= 1 << 8 * contract.size.width
    return Seen(errno=allowed.errno, written=written, effect=effect)


@functools.lru_cache(maxsize=16384)
def _effect_cached(effect: Effect, held: bytes, undone: int) -> int | None:
    return effect_hash(effect, held, undone=undone)


def _inner(sweep: Sweep, layout: Layout) -> int | None:
    """The depth at which a TAIL dimension begins that may be predicted as one block."""
    for depth, dim in enumerate(sweep.dims):
        rest = [later.kind for later in sweep.dims[depth + 1 :]]
        plain = not sweep.template[layout.size :].strip(b"\0")  # else a flip may make a zero
        if dim.kind is Kind.TAIL and dim.start >= layout.size and rest in ([], [Kind.BIT]):
            return depth if plain else None
    return None


def predict(sweep: Sweep, contract: Contract, layout: Layout, *, register: int) -> Iterator[Block]:
    """The one outcome allowed, for every call of a sweep, as blocks.

    A walk over the bytes behind ksize is one block: that a contract refuses a
    nonzero byte there whichever it is and whatever its value is what `Tail`
    says, and model.py reads no more of it than whether it is zero.  Its first,
    middle and last call are predicted each, and must agree.
    """
    inner = _inner(sweep, layout)
    if inner is None:
        for point in points(sweep, contract):
            case = case_of(sweep, contract, point)
            allowed = _seen(contract, layout, case, register=register)
            yield Block(count=1, first=point, last=point, allowed=allowed)
        return
    outer = dataclasses.replace(sweep, dims=sweep.dims[:inner])
    tail, rest = sweep.dims[inner], sweep.dims[inner + 1 :]
    bits = len(range(rest[0].start, rest[0].stop, rest[0].step)) if rest else 1
    for point in points(outer, contract):
        stop = tail_stop(sweep, contract, point.usize)
        positions = range(tail.start, stop, tail.step)
        if not positions:
            continue
        flips = [1 << rest[0].start, 1 << (rest[0].stop - 1)] if rest else [sweep.flip] * 2
        samples = [
            dataclasses.replace(point, byte=byte, flip=flip)
            for byte, flip in (
                (positions[0], flips[0]),
                (positions[len(positions) // 2], flips[-1]),
                (positions[-1], flips[-1]),
            )
        ]
        outcomes = {
            _seen(contract, layout, case_of(sweep, contract, sample), register=register)
            for sample in samples
        }
        if len(outcomes) != 1:
            raise InfraError(f"the model does not treat the tail at usize {point.usize} alike")
        yield Block(
            count=len(positions) * bits, first=samples[0], last=samples[-1], allowed=outcomes.pop()
        )


#: What was predicted last: a sweep without its way, registers' width, contract, layout, blocks.
_Kept = tuple[Sweep, int, Contract, Layout, tuple[Block, ...]]
_kept: deque[_Kept] = deque(maxlen=16)
#: The blocks of a sweep that is worth to be kept, and the most of one that is.
LEAST_KEPT, MOST_KEPT = 200, 5000


def predicted(
    sweep: Sweep, contract: Contract, layout: Layout, *, register: int
) -> Iterator[Block]:
    """As predict(), which is asked once for ABIs and ways that differ in nothing it looks at."""
    register = sweep.way.register if sweep.way else register
    varied = sweep.args or any(dim.kind in (Kind.ARG, Kind.ARG_BIT) for dim in sweep.dims)
    largest = max([sweep.usize, *(dim.stop for dim in sweep.dims if dim.kind is Kind.USIZE)])
    sized = isinstance(contract.size, SizeArg) and largest > 1 << 32
    if not varied and not sized:
        register = 64  # no register but the pointer's has anything in its upper half
    sweep = dataclasses.replace(sweep, way=None)
    layout = dataclasses.replace(layout, align=1)  # which is no matter of the call's
    for *key, known in _kept:
        if key == [sweep, register, contract, layout]:
            yield from known
            return
    found: list[Block] = []
    for block in predict(sweep, contract, layout, register=register):
        if len(found) <= MOST_KEPT:
            found.append(block)
        yield block
    if LEAST_KEPT <= len(found) <= MOST_KEPT:
        _kept.append((sweep, register, contract, layout, tuple(found)))


def at_index(sweep: Sweep, contract: Contract, block: Block, index: int) -> Point:
    """Call number ``index`` of a block that predict() gave for this sweep."""
    if block.count == 1:
        return block.first
    assert block.first.byte is not None
    rest = [dim for dim in sweep.dims if dim.kind is Kind.BIT]
    step = next(dim.step for dim in sweep.dims if dim.kind is Kind.TAIL)
    values = range(rest[0].start, rest[0].stop, rest[0].step) if rest else range(1)
    byte = block.first.byte + index // len(values) * step
    flip = 1 << values[index % len(values)] if rest else sweep.flip
    return dataclasses.replace(block.first, byte=byte, flip=flip)


def compare(
    sweep: Sweep, contract: Contract, layout: Layout, result: SweepResult, *, register: int
) -> list[Mismatch]:
    """The calls whose outcome the contract does not allow; those of one cause are one."""
    found = Causes()
    blocks = predicted(sweep, contract, layout, register=register)
    block: Block | None = None
    used = 0  # calls of the block that rows have covered
    before: tuple[Block, int] | None = None  # the call before: a stray write is found behind it
    done = 0
    for row in result.rows:
        if row.canary is not None:
            where = f"up to call {row.first} of {_dims(sweep)}"
            case = case_of(sweep, contract, at_index(sweep, contract, *before)) if before else None
            found.add_canary(row, where, case)
            continue
        left = row.count
        while left:
            if block is None or used == block.count:
                block, used = next(blocks, None), 0
                if block is None:
                    raise InfraError(f"the caller made more calls than there are: {result.calls}")
            step = min(left, block.count - used)
            if block.allowed != row.seen:
                first = at_index(sweep, contract, block, used)
                last = at_index(sweep, contract, block, used + step - 1)
                found.add(
                    Mismatch(
                        first=str(first),
                        last=str(last),
                        count=step,
                        allowed=str(block.allowed),
                        seen=str(row.seen),
                        cause=block.allowed.differs(row.seen),
                        case=case_of(sweep, contract, first),
                    )
                )
            used += step
            left -= step
            before = (block, used - 1)
            done += step
    # A fault in a call ends the walk: it is the last row, and among what was found.
    ended = bool(result.rows and result.rows[-1].seen.signal)
    whole = (block is None or used == block.count) and next(blocks, None) is None
    if not whole and not ended:
        raise InfraError(f"the caller made {done} calls, and not all that there are")
    if done != result.calls:
        raise InfraError(f"the caller's rows are {done} calls, and it says {result.calls}")
    return found.all()


def _dims(sweep: Sweep) -> str:
    return " x ".join(dim.kind.name.lower() for dim in sweep.dims)
