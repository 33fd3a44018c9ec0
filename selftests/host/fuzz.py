# SPDX-License-Identifier: GPL-2.0-only
"""Malformed frames by the million, and what wire.h says must become of each.

Nothing here is random in a way that a second run would not repeat.  Each frame
begins as one that is valid; most are then damaged.  `Rules` says what the
receiver must answer, in Python and from wire.h's words; a frame whose outcome
would not be harmless on the machine at hand (a call of a system call that
exists, a path that may exist) is left out.  So answers are compared one by
one: that nothing crashes is the least of it.

There are two kinds of batches.  In a mixed one payloads are damaged within
frames, and frames within the stream: a length that lies swallows its
neighbours, a broken magic number makes a frame junk; and valid requests stand
between them.  In a plain one every frame is whole and must be refused, so that
all answers are foretold to the byte, and compared as one string: those are
cheap, and most of the million.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import os
import random
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from harness import wire
from harness.wire import lib

HEADER = struct.Struct("<IIHHI")
OP = struct.Struct("<IIQ6Q6III")
DIM = struct.Struct("<IIQQQ")
SWEEP_TAIL = struct.Struct("<8IQ4I")  # wire_sweep behind its call
LOOP_TAIL = struct.Struct("<Q4I")  # wire_loop behind its call
RACE_TAIL = struct.Struct("<3Q8I")  # wire_race behind its call
OUTSIDE_TAIL = struct.Struct("<4I")  # wire_outside behind its call
STALLS = struct.Struct("<2I")
STALL = struct.Struct("<8I")
LITERALS = (0,) * 6  # arg_kind: all of them WIRE_A_LITERAL
FILTER_BYTES, MOST_FILTERS = 8, 4096  # struct sock_filter, BPF_MAXINSNS
ALLOW = struct.pack("<HBBI", 6, 0, 0, 0x7FFF0000)  # a filter: all calls go
REFUSAL = struct.Struct("<II")
REFUSED = struct.Struct("<IIHHIII")  # a header and its refusal
MAGIC = b"XSYS"

# Of wire.h; cffi looks a constant up in its own time.
A_ARENA: int = lib.WIRE_A_ARENA
A_LITERAL: int = lib.WIRE_A_LITERAL
A_RESULT: int = lib.WIRE_A_RESULT
A_SCRATCH: int = lib.WIRE_A_SCRATCH
MAX_AFTER: int = lib.WIRE_MAX_AFTER
MAX_DIMS: int = lib.WIRE_MAX_DIMS
MAX_OPS: int = lib.WIRE_MAX_OPS
OP_FILL: int = lib.WIRE_OP_FILL
OP_READ: int = lib.WIRE_OP_READ
OP_RESET: int = lib.WIRE_OP_RESET
OP_SYSCALL: int = lib.WIRE_OP_SYSCALL
OP_WRITE: int = lib.WIRE_OP_WRITE
OP_BECOME: int = lib.WIRE_OP_BECOME
OP_PEER: int = lib.WIRE_OP_PEER
OP_STORE: int = lib.WIRE_OP_STORE
SHAPE: int = lib.WIRE_E_SHAPE
RANGE: int = lib.WIRE_E_RANGE

AREA = 65536
REACH = 12288
PAGE = 4096
U64 = (1 << 64) - 1
MOST_POINTS = 300  # of one sweep; there are many
MOST_RACES = 20  # calls of one race, in each of which a thread may have to wait for the other
#: Valid requests of each kind for which a receiver has to make a thread or a child.
COSTLY_FRAMES = 150
#: A path under which nothing is.
NOWHERE = b"/nonexistent/"
#: sched_yield() in x86-64's table, by which x32 programs can call, too, and
#: getuid() in i386's: they have no arguments and always succeed.
HARMLESS = 24
#: An opcode of io_uring's is a byte.
MOST_OPCODE = 255
#: A number that no table has.
NO_SUCH_CALL = 2047
#: The request at a batch's end, by whose answer all others have come.
LAST = 0xFFFFFFFF
#: What bytes that are no frame are answered with; how often depends on how they are read.
JUNK = 0
#: Valid frames, of which all others are made.
BASES = 3000
#: Frames in one batch.
BATCH = 4000
PLAIN_BATCH = 10_000

INTERESTING = (
    *(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 24, 63, 64, 65, 95, 96, 97, 127, 128),
    *(255, 256, 1023, 1024, 1025, PAGE - 1, PAGE, PAGE + 1, REACH - 8, REACH, REACH + 1),
    *(AREA - 8, AREA - 1, AREA, AREA + 1, wire.MAX_PAYLOAD, wire.MAX_PAYLOAD + 1),
    *(1 << 31, (1 << 31) - 1, (1 << 32) - 1),
)


@dataclasses.dataclass(frozen=True)
class Expected:
    """An answer's type, and what its payload says: see `digest`."""

    type: int
    detail: int | tuple[int, ...] | None = None


class UnsafeError(Exception):
    """A frame that must not be sent."""


@functools.lru_cache(maxsize=4096)
def refused(code: int, value: int) -> Expected:
    return Expected(lib.WIRE_T_REFUSED, (code, value))


#: A frame that is valid: its type, its payload, and where in it system calls' numbers are.
Base = tuple[int, bytes, list[int]]


#: A frame as it is sent: type, channel, payload.
Sent = tuple[int, int, bytes]


class Rules(Protocol):
    """A receiver's rules."""

    last: wire.Frame  #: a request that is valid

    def answer(self, kind: int, channel: int, payload: bytes) -> Expected:
        """What the receiver must say.  Raises UnsafeError."""

    def frames(self, rng: random.Random) -> Iterator[Sent]:
        """Type, channel and payload of one frame after the other, without end."""

    def damaged(self, rng: random.Random) -> Iterator[Sent]:
        """The same, nearly all of them not valid, and none for which a process is made."""


# The caller.


class SweepHead(NamedTuple):
    """wire_sweep behind its call."""

    dims: int
    before: int
    after: int
    size_kind: int
    size_index: int
    size_width: int
    place: int
    flip: int
    usize: int
    deadline_ms: int
    template_length: int
    data_length: int
    zero_means: int

    def extent(self, usize: int) -> int:
        """Bytes of the struct that are really there."""
        usize = usize or self.zero_means
        if self.size_kind == lib.WIRE_SIZE_NONE:
            usize = self.template_length
        if self.size_kind == lib.WIRE_SIZE_FIELD:
            usize = max(usize, self.size_index + self.size_width)
        return max(0, min(usize, REACH) - int(self.place == lib.WIRE_PLACE_SHORT))


class CallerRules:
    """caller.c, by wire.h."""

    channel = 1
    last = wire.Frame(type=lib.WIRE_T_PROGRAM, channel=channel, seq=LAST, payload=b"\0" * 16)

    def __init__(self, costly: frozenset[int] = frozenset()) -> None:
        """``costly``: kinds of which valid requests are sent, too, a few.

        Each takes a thread, a child or userfaultfd(2), which is not everybody's.
        """
        self.costly = costly
        self._left = dict.fromkeys(costly, COSTLY_FRAMES)
        self._rules = {
            lib.WIRE_T_PROGRAM: self._program,
            lib.WIRE_T_SWEEP: self._sweep,
            lib.WIRE_T_LOOP: self._loop,
            lib.WIRE_T_RACE: self._race,
            lib.WIRE_T_STALL: self._stall,
            lib.WIRE_T_OUTSIDE: self._outside,
        }

    def _spend(self, kind: int) -> None:
        """One more valid request of a costly kind.  UnsafeError when there were enough."""
        if not self._left.get(kind, 0):
            raise UnsafeError
        self._left[kind] -= 1

    # What it must answer.

    def answer(self, kind: int, channel: int, payload: bytes) -> Expected:
        rule = self._rules.get(kind)
        if rule:
            return rule(payload)
        if 64 <= kind < 96 and kind in wire.TYPE_NAMES:
            raise UnsafeError  # a request whose rules are not written down here
        return refused(lib.WIRE_E_TYPE, kind)

    def _check_op(self, op: tuple[int, ...], index: int, data_length: int) -> int:
        kind, entry = op[0], op[1]
        args, kinds = op[3:9], op[9:15]
        data_offset, length = op[15], op[16]
        if data_offset + length > data_length:
            return RANGE
        if kind == OP_SYSCALL:
            if entry > lib.WIRE_ENTRY_WORKER:
                return SHAPE
            if entry >= lib.WIRE_ENTRY_QUEUE and op[2] > MOST_OPCODE:
                return RANGE
            return _check_args(args, kinds, index)
        if kind in (OP_PEER, OP_BECOME):
            return SHAPE if any(kinds) else 0
        if kind == OP_STORE:
            if _is_no_store(args, kinds, index):
                return _is_no_store(args, kinds, index)
            length = args[2]
        elif kind in (OP_READ, OP_FILL):
            length = args[1]
        elif kind == OP_RESET:
            return 0
        elif kind != OP_WRITE:
            return SHAPE
        fits = kinds[0] in (A_ARENA, A_SCRATCH) and args[0] + length <= AREA
        return 0 if fits else RANGE

    def _harmless(self, op: tuple[int, ...]) -> None:
        if op[0] == OP_SYSCALL and op[2] not in (NO_SUCH_CALL, HARMLESS):
            raise UnsafeError
        if op[0] == OP_SYSCALL and op[1] >= lib.WIRE_ENTRY_QUEUE:
            raise UnsafeError  # valid: of io_uring's operations none is harmless with any argument
        if op[0] in (OP_PEER, OP_BECOME):
            raise UnsafeError  # valid: a child for each

    def _program(self, payload: bytes) -> Expected:
        if len(payload) < 16:
            return refused(SHAPE, 0)
        count, data_length, _, _ = struct.unpack_from("<4I", payload)
        head = 16 + count * OP.size
        if count > MAX_OPS or len(payload) != head + data_length:
            return refused(SHAPE, 0)
        ops = list(OP.iter_unpack(payload[16:head]))
        for index, op in enumerate(ops):
            code = self._check_op(op, index, data_length)
            if code:
                return refused(code, index)
        becoming = [index for index, op in enumerate(ops) if op[0] == OP_BECOME]
        if len(becoming) > 1:
            return refused(SHAPE, becoming[1])
        shown = 0
        for index, op in enumerate(ops):
            self._harmless(op)
            shown += op[4] if op[0] == OP_READ else 0
            if shown > wire.MAX_PAYLOAD - 16 * MAX_OPS:
                return refused(lib.WIRE_E_LENGTH, index)
        return Expected(lib.WIRE_T_RESULT, 16 * count + shown)

    def _loop(self, payload: bytes) -> Expected:
        if len(payload) != OP.size + LOOP_TAIL.size:
            return refused(SHAPE, 0)
        op = OP.unpack_from(payload)
        count, poke_offset, poke_width, _, _ = LOOP_TAIL.unpack_from(payload, OP.size)
        if self._check_op(op, 0, 0) or op[0] != OP_SYSCALL:
            return refused(SHAPE, 0)
        if poke_width not in (0, 4) or poke_offset > AREA - 8:
            return refused(RANGE, 0)
        self._harmless(op)
        if count > MOST_POINTS:
            raise UnsafeError
        return Expected(lib.WIRE_T_DONE, count)

    def _race(self, payload: bytes) -> Expected:
        start = OP.size + RACE_TAIL.size
        if len(payload) < start:
            return refused(SHAPE, 0)
        call = OP.unpack_from(payload)
        tail = RACE_TAIL.unpack_from(payload, OP.size)
        at, width, poke_offset, poke_width, after = *tail[3:7], tail[8]
        if after > MAX_AFTER or len(payload) != start + after * OP.size:
            return refused(SHAPE, 0)
        code = self._check_op(call, 0, 0)
        if code:
            return refused(code, 0)
        if call[0] != OP_SYSCALL or width not in (1, 2, 4, 8) or poke_width not in (0, 4):
            return refused(SHAPE, 0)
        if at > AREA - 8 or poke_offset > AREA - 8:
            return refused(RANGE, 0)
        for index, op in enumerate(OP.iter_unpack(payload[start:])):
            code = self._check_op(op, index + 1, 0) or SHAPE * (op[0] >= OP_RESET)
            if code:
                return refused(code, 0)
        self._harmless(call)
        for op in OP.iter_unpack(payload[start:]):
            self._harmless(op)
        if tail[0] > MOST_RACES:
            raise UnsafeError
        self._spend(lib.WIRE_T_RACE)
        return Expected(lib.WIRE_T_DONE, tail[0])

    def _stall(self, payload: bytes) -> Expected:
        if len(payload) < STALLS.size:
            return refused(SHAPE, 0)
        count, data_length = STALLS.unpack_from(payload)
        stop = STALLS.size + count * STALL.size
        if count > MAX_OPS or stop + data_length > len(payload):
            return refused(SHAPE, 0)
        stalls = list(STALL.iter_unpack(payload[STALLS.size : stop]))
        for index, stall in enumerate(stalls):
            code = _check_stall(stall, data_length)
            if code:
                return refused(code, index)
        program = payload[stop + data_length :]
        answer = self._program(program)
        if not stalls or (answer.type == lib.WIRE_T_REFUSED and not _too_long(answer)):
            return answer
        ops = list(
            OP.iter_unpack(program[16 : 16 + int.from_bytes(program[:4], "little") * OP.size])
        )
        last = -1
        for index, stall in enumerate(stalls):
            at = stall[0]
            if at <= last or at >= len(ops) or ops[at][0] != OP_SYSCALL:
                return refused(SHAPE, index)
            last = at
        self._spend(lib.WIRE_T_STALL)
        return answer

    def _outside(self, payload: bytes) -> Expected:
        start = OP.size + OUTSIDE_TAIL.size
        if len(payload) < start:
            return refused(SHAPE, 0)
        call = OP.unpack_from(payload)
        trace, length, _, _ = OUTSIDE_TAIL.unpack_from(payload, OP.size)
        if (
            trace > 1
            or length != len(payload) - start
            or length % FILTER_BYTES
            or length > MOST_FILTERS * FILTER_BYTES
        ):
            return refused(SHAPE, 0)
        code = self._check_op(call, 0, 0)
        if code or call[0] != OP_SYSCALL:
            return refused(code or SHAPE, 0)
        self._harmless(call)
        if payload[start:] not in (b"", ALLOW):
            raise UnsafeError  # what the kernel makes of another filter is its own business
        self._spend(lib.WIRE_T_OUTSIDE)
        return Expected(lib.WIRE_T_SEEN)

    def _sweep(self, payload: bytes) -> Expected:
        start = OP.size + SWEEP_TAIL.size
        if len(payload) < start:
            return refused(SHAPE, 0)
        head = SweepHead(*SWEEP_TAIL.unpack_from(payload, OP.size))
        if head.dims > MAX_DIMS or max(head.before, head.after) > MAX_AFTER:
            return refused(SHAPE, 0)
        middle = start + head.dims * DIM.size
        stop = middle + (head.before + head.after) * OP.size
        if (
            len(payload) != stop + head.data_length
            or head.template_length > head.data_length
            or head.data_length - head.template_length > AREA - lib.WIRE_SCRATCH_DATA
        ):
            return refused(SHAPE, 0)
        call = OP.unpack_from(payload)
        walk = list(DIM.iter_unpack(payload[start:middle]))
        code = self._check_op(call, 0, 0) or _check_sweep(call, head, walk)
        if code:
            return refused(code, 0)
        for index, op in enumerate(OP.iter_unpack(payload[middle:stop])):
            results = max(0, index - head.before + 1)
            code = self._check_op(op, results, head.data_length)
            if not code and op[0] >= OP_RESET:
                code = SHAPE
            if code:
                return refused(code, index)
            self._harmless(op)
        self._harmless(call)
        return Expected(lib.WIRE_T_DONE, self._points(walk, head))

    @staticmethod
    def _points(walk: list[tuple[int, ...]], head: SweepHead) -> int:
        """The calls that a sweep makes.  UnsafeError when they are too many."""

        def count(depth: int, size: int) -> int:
            if depth == len(walk):
                return 1
            kind, _, start, stop, step = walk[depth]
            if kind == lib.WIRE_DIM_TAIL:
                whole = head.extent(size)
                stop = whole if head.place == lib.WIRE_PLACE_SHORT else min(size, whole)
            values = range(start, stop, step)
            # A walk that is cut short by an empty dimension is work all the same.
            if (stop - start) // step > MOST_POINTS:
                raise UnsafeError
            if kind == lib.WIRE_DIM_USIZE:
                return sum(count(depth + 1, value) for value in values)
            return len(values) * count(depth + 1, size) if values else 0

        total = count(0, head.usize)
        if total > MOST_POINTS:
            raise UnsafeError
        return total

    # What it is sent.

    def _whole(self, rng: random.Random) -> list[Base]:
        makers = (
            *((self._some_program, 8), (self._some_sweep, 7), (self._some_loop, 1)),
            *((self._some_race, 1), (self._some_stall, 2), (self._some_outside, 1)),
        )
        return [make(rng) for make, share in makers for _ in range(BASES * share // 20)]

    def damaged(self, rng: random.Random) -> Iterator[Sent]:
        whole = [(kind, payload) for kind, payload, _ in self._whole(rng)]
        while True:
            kind, base = whole[int(rng.random() * len(whole))]
            payload = damage_quickly(rng, base)
            # Much of a request may have any value: one change often leaves it valid.
            if rng.random() < 0.6:
                payload = damage_quickly(rng, payload)
            yield kind, self.channel, payload

    def frames(self, rng: random.Random) -> Iterator[Sent]:
        whole = self._whole(rng)
        while True:
            kind, base, numbers = whole[int(rng.random() * len(whole))]
            payload = bytearray(base)
            chance = rng.random()
            if chance < 0.05 and self.costly:
                yield self._costly(rng)
                continue
            if chance < 0.9:
                if numbers and rng.random() < 0.6:
                    damage_op(rng, payload, rng.choice(numbers) - 8)
                else:
                    damage(rng, payload)
                for start in numbers:
                    if start + 8 <= len(payload):
                        struct.pack_into("<Q", payload, start, _number(rng))
            if chance > 0.97:
                kind = rng.choice((rng.randrange(1 << 16), rng.randrange(128)))
            yield kind, self.channel, bytes(payload)

    def _costly(self, rng: random.Random) -> Sent:
        """A valid one; half of them with a change, which is not always harmful."""
        kind = rng.choice(sorted(self.costly))
        payload = costly_requests()[kind]
        return kind, self.channel, damage_quickly(rng, payload) if rng.random() < 0.5 else payload

    def _op(self, rng: random.Random, index: int, data_length: int) -> bytes:
        kind = rng.choices((1, 2, 3, 4, 5, 6, 7, 8), (5, 2, 3, 2, 0.2, 1, 0.1, 0.1))[0]
        area = rng.choice((1, 2))
        args, kinds = [0] * 6, [0] * 6
        offset = length = 0
        entry = 0
        if kind == OP_SYSCALL:
            entry = int(rng.random() < 0.2)
            for one in range(6):
                kinds[one] = rng.choices((0, 1, 2, 3), (6, 1, 1, 2 * bool(index)))[0]
                args[one] = rng.randrange(index) if kinds[one] == 3 else rng.choice(INTERESTING)
        else:
            args[:2] = rng.choice((0, 8, 4096, AREA - 64)), rng.choice((0, 1, 24, 64))
            kinds[0] = area if kind < OP_PEER else 0
            if kind == OP_STORE:
                kinds[1] = rng.choice((0, 1, 2, 3 * bool(index)))
                args[1] = rng.randrange(index) if kinds[1] == 3 else rng.choice(INTERESTING)
                args[2] = rng.choice((1, 2, 4, 8))
            if kind == OP_WRITE and data_length:
                offset = rng.randrange(data_length)
                length = min(rng.randrange(data_length - offset + 1), 64)
        return OP.pack(kind, entry, _number(rng), *args, *kinds, offset, length)

    def _some_program(self, rng: random.Random) -> Base:
        data = rng.randbytes(rng.randrange(40))
        count = rng.randrange(5)
        ops = [self._op(rng, index, len(data)) for index in range(count)]
        deadline = rng.choice((0, 0, 0, 1000))
        head = struct.pack("<4I", count, len(data), deadline, 0)
        numbers = [24 + OP.size * index for index in range(count)]
        return lib.WIRE_T_PROGRAM, b"".join((head, *ops, data)), numbers

    def _some_sweep(self, rng: random.Random) -> Base:
        data = rng.randbytes(rng.randrange(64))
        kinds = rng.choice(
            ((), (1,), (1, 3), (1, 3, 4), (2, 4), (5,), (6,), (7,), (7, 1), (6, 5), (3, 5))
        )
        walk = []
        for kind in kinds:
            start = rng.choice((0, 1, 5, 7, 24))
            step = rng.choice((1, 1, 2, 3))
            stop = start + rng.randrange(8)
            walk.append(
                DIM.pack(
                    kind, rng.randrange(1, 6), start, min(stop, 8 if kind == 4 else stop), step
                )
            )
        before, after = rng.choice(((0, 0), (0, 0), (0, 1), (0, 2), (1, 0), (2, 1)))
        ops = [self._op(rng, max(0, i - before + 1), len(data)) for i in range(before + after)]
        call = OP.pack(1, 0, HARMLESS, *[0] * 6, *[1, 0, 0, 0, 0, 0], 0, 0)
        size_kind = rng.randrange(4)
        tail = SWEEP_TAIL.pack(
            *(len(walk), before, after),
            *(size_kind, rng.choice((0, 0, 4)), 4),
            *(rng.randrange(4), rng.choice((1, 0xFF)), rng.choice((0, 24, 40))),
            *(0, rng.randrange(len(data) + 1), len(data), rng.choice((0, 0, 24))),
        )
        start = OP.size + SWEEP_TAIL.size + DIM.size * len(walk)
        numbers = [8, *(start + OP.size * index + 8 for index in range(before + after))]
        return lib.WIRE_T_SWEEP, b"".join((call, tail, *walk, *ops, data)), numbers

    def _some_loop(self, rng: random.Random) -> Base:
        call = OP.pack(1, 0, HARMLESS, *[0] * 6, *[0] * 6, 0, 0)
        poke = rng.choice(((0, 0), (64, 4)))
        return lib.WIRE_T_LOOP, call + LOOP_TAIL.pack(rng.randrange(5), *poke, 7, 0), [8]

    def _some_race(self, rng: random.Random) -> Base:
        call = OP.pack(1, 0, HARMLESS, *[0] * 6, *[0] * 6, 0, 0)
        after = rng.choice((0, 0, 1, 2))
        ops = [self._op(rng, index + 1, 0) for index in range(after)]
        width, poke = rng.choice((1, 2, 4, 8)), rng.choice(((0, 0), (64, 4)))
        tail = RACE_TAIL.pack(rng.randrange(5), 1, 2, 8, width, *poke, 7, after, 0, 0)
        numbers = [8, *(OP.size * (index + 1) + RACE_TAIL.size + 8 for index in range(after))]
        return lib.WIRE_T_RACE, b"".join((call, tail, *ops)), numbers

    def _some_stall(self, rng: random.Random) -> Base:
        """With its stalls behind the program's last operation but one: it is refused."""
        _, program, inner = self._some_program(rng)
        data = rng.randbytes(24)
        stalls = [
            STALL.pack(index + rng.choice((0, 900)), PAGE, 0, 0, 16, 0, 16, 8)
            for index in range(rng.randrange(3))
        ]
        head = STALLS.pack(len(stalls), len(data))
        start = STALLS.size + STALL.size * len(stalls) + len(data)
        whole = b"".join((head, *stalls, data, program))
        return lib.WIRE_T_STALL, whole, [start + number for number in inner]

    def _some_outside(self, rng: random.Random) -> Base:
        call = OP.pack(1, 0, HARMLESS, *[0] * 6, *[0] * 6, 0, 0)
        trace = rng.choice((0, 1, 2))
        if rng.random() < 0.5:
            code = rng.choice((b"", ALLOW))
            return lib.WIRE_T_OUTSIDE, call + OUTSIDE_TAIL.pack(trace, len(code), 0, 0) + code, [8]
        tail = OUTSIDE_TAIL.pack(trace, FILTER_BYTES * rng.randrange(3), 0, 0)
        return lib.WIRE_T_OUTSIDE, call + tail + rng.randbytes(rng.randrange(30)), [8]


def _check_args(args: tuple[int, ...], kinds: tuple[int, ...], index: int) -> int:
    if kinds == LITERALS:
        return 0
    for arg, kind in zip(args, kinds, strict=True):
        if kind > A_RESULT:
            return SHAPE
        if kind == A_RESULT and arg >= index:
            return RANGE
    return 0


def _is_no_store(args: tuple[int, ...], kinds: tuple[int, ...], index: int) -> int:
    if kinds[1] > A_RESULT or not 0 < args[2] <= 8 or any(kinds[2:]):
        return SHAPE
    return RANGE if kinds[1] == A_RESULT and args[1] >= index else 0


def costly_requests() -> dict[int, bytes]:
    """A valid request of each kind that not every machine grants, by its type."""
    call = OP.pack(OP_SYSCALL, 0, HARMLESS, *LITERALS, *LITERALS, 0, 0)
    program = struct.pack("<4I", 1, 0, 0, 0) + call
    return {
        lib.WIRE_T_RACE: call + RACE_TAIL.pack(3, 1, 2, 8, 4, 0, 0, 7, 0, 0, 0),
        lib.WIRE_T_STALL: STALLS.pack(1, 8)
        + STALL.pack(0, PAGE, 0, 0, 8, 0, 0, 8)
        + bytes(8)
        + program,
        lib.WIRE_T_OUTSIDE: call + OUTSIDE_TAIL.pack(1, len(ALLOW), 1000, 0) + ALLOW,
    }


def granted(sock: socket.socket) -> frozenset[int]:
    """The costly kinds that a caller answers here as wire.h says."""
    every = costly_requests()
    rules = CallerRules(frozenset(every))
    found = set()
    for kind, payload in every.items():
        foretold = rules.answer(kind, rules.channel, payload)
        frame = wire.Frame(type=kind, channel=rules.channel, seq=1, payload=payload)
        ((_, answer),) = exchange(sock, Batch(frame.encode(), []), seconds=20, until=1)
        if answer == foretold:
            found.add(kind)
    return frozenset(found)


def _too_long(answer: Expected) -> bool:
    """Whether a program was refused for what it gave, and not for what it is."""
    return isinstance(answer.detail, tuple) and answer.detail[0] == lib.WIRE_E_LENGTH


def _check_stall(stall: tuple[int, ...], data_length: int) -> int:
    _, page, start, offset, length, change, change_offset, change_length = stall
    if page % PAGE or start + length > PAGE:
        return SHAPE
    fits = (
        page <= AREA - PAGE
        and offset + length <= data_length
        and change_offset + change_length <= data_length
        and change + change_length <= AREA
    )
    apart = change >= page + PAGE or change + change_length <= page
    return 0 if fits and apart else RANGE


def _check_sweep(call: tuple[int, ...], head: SweepHead, walk: list[tuple[int, ...]]) -> int:
    if (
        call[0] != OP_SYSCALL
        or head.size_kind > lib.WIRE_SIZE_UNTOLD
        or head.place > lib.WIRE_PLACE_SHORT
        or head.flip > 0xFF
    ):
        return SHAPE
    if head.size_kind == lib.WIRE_SIZE_FIELD:
        if head.size_width > 8 or head.size_index > REACH - 8:
            return RANGE
    elif head.size_kind and head.size_index > 5:
        return RANGE
    if head.template_length > REACH:
        return RANGE
    for arg, kind in zip(call[3:9], call[9:15], strict=True):
        if kind == A_ARENA and arg > REACH:
            return RANGE
    at_end = head.place in (lib.WIRE_PLACE_END, lib.WIRE_PLACE_SHORT)
    return _check_dims(call, walk, usize=head.usize, at_end=at_end)


def _number(rng: random.Random) -> int:
    return HARMLESS if rng.random() < 0.8 else NO_SUCH_CALL


#: What a dimension's stop may be at most.
LIMITS = {
    lib.WIRE_DIM_USIZE: U64,
    lib.WIRE_DIM_ARG: U64,
    lib.WIRE_DIM_BYTE: REACH,
    lib.WIRE_DIM_TAIL: U64,
    lib.WIRE_DIM_BIT: 8,
    lib.WIRE_DIM_ARG_BIT: 64,
    lib.WIRE_DIM_SHIFT: PAGE,
}


def _check_dims(
    call: tuple[int, ...], walk: list[tuple[int, ...]], *, usize: int, at_end: bool
) -> int:
    bytes_walked = bits_walked = 0
    most, reach = usize, 0
    for kind, index, _, stop, step in walk:
        limit = LIMITS.get(kind)
        if limit is None:
            return SHAPE
        bytes_walked += kind in (lib.WIRE_DIM_BYTE, lib.WIRE_DIM_TAIL)
        bits_walked += kind == lib.WIRE_DIM_BIT
        if bytes_walked > 1 or bits_walked > 1:
            return SHAPE
        if not step or stop > limit or index > 5:
            return RANGE
        if bytes_walked and kind in (lib.WIRE_DIM_USIZE, lib.WIRE_DIM_SHIFT):
            return SHAPE
        of_argument = kind in (lib.WIRE_DIM_ARG, lib.WIRE_DIM_ARG_BIT)
        if of_argument and call[9 + index] != A_LITERAL:
            return SHAPE
        if kind == lib.WIRE_DIM_BIT and not bytes_walked:
            return SHAPE
        most = stop if kind == lib.WIRE_DIM_USIZE else most
        reach = stop if kind == lib.WIRE_DIM_BYTE else reach
    if bytes_walked and (most > REACH or (at_end and reach)):
        return RANGE
    return 0


# The agent.

#: Requests for which it forks.
STARTED = (lib.WIRE_T_START, lib.WIRE_T_EXEC)


class AgentRules:
    """agent.c, by wire.h, with no caller started."""

    last = wire.Frame(type=lib.WIRE_T_EXEC_KILL, channel=0, seq=LAST)

    def answer(self, kind: int, channel: int, payload: bytes) -> Expected:
        valid = 0 < channel < lib.WIRE_CHANNELS
        if kind == lib.WIRE_T_START and valid:
            return self._no_file(payload)
        if channel or kind in (lib.WIRE_T_START, lib.WIRE_T_STOP):
            return refused(lib.WIRE_E_CHANNEL, channel)
        if kind == lib.WIRE_T_EXEC:
            if not payload.endswith(b"\0"):
                return refused(SHAPE, 0)
            if payload.count(b"\0") > 63:
                return refused(SHAPE, 63)
            return self._no_file(payload)
        if kind == lib.WIRE_T_EXEC_KILL:
            return Expected(lib.WIRE_T_OK)
        if kind == lib.WIRE_T_READ:
            return self._no_file(payload)
        if kind == lib.WIRE_T_WRITE:
            if b"\0" not in payload:
                return refused(SHAPE, 0)
            return self._no_file(payload)
        if kind in (lib.WIRE_T_MARK, lib.WIRE_T_DMESG, lib.WIRE_T_HALT):
            raise UnsafeError  # valid, whatever the payload; and of this machine's kernel log
        return refused(lib.WIRE_E_TYPE, kind)

    @staticmethod
    def _no_file(payload: bytes) -> Expected:
        path = payload.partition(b"\0")[0]
        first = path[: path.find(b"/", 1) if b"/" in path[1:] else None]
        if first and _is_there(first):
            raise UnsafeError
        number = errno.ENOENT if len(path) <= _longest_path() else errno.ENAMETOOLONG
        return refused(lib.WIRE_E_SYSTEM, number)

    def damaged(self, rng: random.Random) -> Iterator[Sent]:
        whole = [(*one, 0) for one in self._whole(rng)]
        whole += [(*one, channel) for one in self._whole(rng) for channel in (1, 7, 8, 300)]
        while True:
            kind, base, channel = whole[int(rng.random() * len(whole))]
            payload = damage_quickly(rng, base) if rng.random() < 0.7 else base
            if kind in STARTED and self._takes_a_fork(kind, channel, payload):
                continue
            yield kind, channel, payload

    def _takes_a_fork(self, kind: int, channel: int, payload: bytes) -> bool:
        try:
            detail = self.answer(kind, channel, payload).detail
        except UnsafeError:
            return True
        return isinstance(detail, tuple) and detail[0] == lib.WIRE_E_SYSTEM

    @staticmethod
    def _whole(rng: random.Random) -> list[tuple[int, bytes]]:
        """Requests with a path to nowhere, and requests of types that are none."""
        found = []
        for kind in (1, 2, 3, 6, 7, 10, 33, 64, 127, 128, 5000, 65535):
            for _ in range(40):
                payload = NOWHERE + rng.randbytes(rng.randrange(20))
                if kind == lib.WIRE_T_EXEC:
                    payload += b"\0" * rng.choice((0, 64, 200))
                if kind == lib.WIRE_T_WRITE:
                    payload += b"\0" * rng.randrange(2) + rng.randbytes(rng.randrange(50))
                found.append((kind, payload))
        return found

    def frames(self, rng: random.Random) -> Iterator[Sent]:
        while True:
            # Few of those for which the agent has to fork.
            kind = rng.choices(
                (1, 2, 3, 4, 6, 7, 10, 33, 64, 127, rng.randrange(1 << 16)),
                (0.05, 4, 4, 4, 8, 8, 4, 4, 4, 4, 8),
            )[0]
            channel = rng.choices((0, rng.randrange(1, 8), rng.randrange(1 << 16)), (8, 2, 1))[0]
            payload = bytearray(NOWHERE + rng.randbytes(rng.randrange(20)))
            if kind == lib.WIRE_T_WRITE and rng.random() < 0.5:
                payload += b"\0" + rng.randbytes(rng.randrange(50))
            if kind == lib.WIRE_T_EXEC:
                style = rng.random()
                if style < 0.01:
                    payload += b"\0arg\0"
                elif style < 0.4:
                    payload += b"\0" * rng.randrange(64, 200)
                elif style < 0.5:
                    payload = bytearray()
            if rng.random() < 0.3:
                damage(rng, payload)
            yield kind, channel, bytes(payload)


@functools.lru_cache(maxsize=4096)
def _is_there(path: bytes) -> bool:
    return os.path.lexists(path)


@functools.cache
def _longest_path() -> int:
    return os.pathconf("/", "PC_PATH_MAX") - 1  # its NUL counts


# Damage.


WORDS = tuple(struct.pack("<I", value & 0xFFFF_FFFF) for value in INTERESTING)


def damage_quickly(rng: random.Random, base: bytes) -> bytes:
    """One field, one byte or the length is another: damage() costs more than all the rest."""
    way, where = rng.random(), rng.random()
    if way < 0.8 and len(base) >= 4:
        at = int(where * (len(base) // 4)) * 4
        return base[:at] + WORDS[int(way / 0.8 * len(WORDS))] + base[at + 4 :]
    at = int(where * len(base))
    if way < 0.9:
        return base[:at]
    return base[:at] + bytes([int(way * 1000) & 0xFF]) + base[at + (way < 0.95) :]


def damage(rng: random.Random, data: bytearray) -> None:
    """Change a payload, nearly always so that it is no longer what it was."""
    for _ in range(rng.choices((1, 2, 4), (6, 2, 1))[0]):
        way = rng.randrange(10)
        if not data or way == 9:
            data += rng.randbytes(rng.randrange(1, 30))
        elif way < 2:
            data[rng.randrange(len(data))] = rng.randrange(256)
        elif way == 2:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif way < 6 and len(data) >= 8:
            # A field: most are four bytes long, and lie at a multiple of that.
            struct.pack_into("<I", data, rng.randrange(len(data) // 4) * 4, rng.choice(INTERESTING))
        elif way == 6 and len(data) >= 8:
            value = rng.choice(INTERESTING) * rng.choice((1, 1 << 32, U64 // 3)) & U64
            struct.pack_into("<Q", data, rng.randrange(len(data) // 8) * 8, value)
        elif way == 7:
            del data[rng.randrange(len(data)) :]
        else:
            start = rng.randrange(len(data))
            del data[start : start + rng.randrange(1, 9)]


#: Offsets in a struct wire_op: kind, entry, arg_kind, data_offset, data_length; and arg[0].
OP_FIELDS = (0, 4, 64, 64, 68, 72, 84, 88, 92)
OP_ARG = 16


def damage_op(rng: random.Random, data: bytearray, start: int) -> None:
    """Change one of an operation's fields to a value that other fields like to have."""
    if rng.random() < 0.2:
        value = rng.choice(INTERESTING) * rng.choice((1, 1, 1 << 32)) & U64
        struct.pack_into("<Q", data, start + OP_ARG + 8 * rng.randrange(2), value)
    else:
        struct.pack_into("<I", data, start + rng.choice(OP_FIELDS), rng.choice(INTERESTING))


def framed(rng: random.Random, kind: int, channel: int, seq: int, payload: bytes) -> bytes:
    """The frame; one in twenty is damaged as a frame, or has junk before it."""
    whole = HEADER.pack(lib.WIRE_MAGIC, len(payload), kind, channel, seq) + payload
    if rng.random() >= 0.05:
        return whole
    way = rng.randrange(7)
    if way == 0:
        return rng.randbytes(rng.randrange(1, 40)) + whole
    if way == 1:
        return whole[: rng.randrange(len(whole))]
    if way == 2:
        broken = bytearray(whole)
        broken[rng.randrange(4)] ^= 1 << rng.randrange(8)
        return bytes(broken)
    if way == 3:
        return MAGIC[: rng.randrange(1, 4)] + whole
    if way == 4:
        length = len(payload) + rng.randrange(-len(payload), 500)
    elif way == 5:
        length = rng.choice((wire.MAX_PAYLOAD + 1, (1 << 32) - 1, 1 << 31))
    else:
        # A lie of a quarter of a mebibyte swallows thousands: one is enough now and then.
        length = rng.choice(INTERESTING if rng.random() < 0.002 else INTERESTING[:22])
    return MAGIC + struct.pack("<IHHI", length, kind, channel, seq) + payload


# Batches.


@dataclasses.dataclass(frozen=True)
class Batch:
    """Bytes to be sent, and every answer that must come, by seq and in order."""

    data: bytes
    answers: list[tuple[int, Expected]]

    @property
    def malformed(self) -> int:
        """The frames that must be refused."""
        return sum(answer.type == lib.WIRE_T_REFUSED for _, answer in self.answers)


def decode(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Type, channel, seq and payload of the frames in a stream, by wire.h's rule."""
    at = 0
    while len(data) - at >= HEADER.size:
        magic, length, kind, channel, seq = HEADER.unpack_from(data, at)
        if magic != lib.WIRE_MAGIC or length > wire.MAX_PAYLOAD:
            following = data.find(MAGIC, at + 1)
            at = following if following >= 0 else max(at + 1, len(data) - 3)
            continue
        start = at + HEADER.size
        if len(data) - start < length:
            return
        yield kind, channel, seq, data[start : start + length]
        at = start + length


def batch(rules: Rules, source: Iterable[Sent], rng: random.Random) -> Batch:
    """BATCH frames, and room behind them for the longest lie to end in."""
    parts: list[bytes] = []
    known: dict[Sent, Expected] = {}
    for one in source:
        try:
            known[one] = rules.answer(*one)
        except UnsafeError:
            continue
        parts.append(framed(rng, one[0], one[1], len(parts) + 1, one[2]))
        if len(parts) == BATCH:
            break
    padding = bytes(HEADER.size + wire.MAX_PAYLOAD)
    data = b"".join((*parts, padding, rules.last.encode()))
    answers = []
    for kind, channel, seq, payload in decode(data):
        if seq == JUNK:
            continue
        key = (kind, channel, payload)
        answers.append((seq, known.get(key) or rules.answer(*key)))
    return Batch(data, answers)


def batches(rules: Rules, *, seed: int, malformed: int) -> Iterator[Batch]:
    """Batches in which ``malformed`` frames, or a few more, must be refused."""
    rng = random.Random(seed)
    source = rules.frames(rng)
    while malformed > 0:
        try:
            made = batch(rules, source, rng)
        except UnsafeError:
            continue  # what one frame swallowed made another one harmful
        malformed -= made.malformed
        yield made


@dataclasses.dataclass(frozen=True)
class PlainBatch:
    """Frames that must be refused, and the bytes of all answers."""

    data: bytes
    answers: bytes
    count: int


def plain_batches(rules: Rules, *, seed: int, count: int) -> Iterator[PlainBatch]:
    """Batches in which ``count`` frames in all must be refused."""
    rng = random.Random(seed)
    source = rules.damaged(rng)
    end = REFUSED.size - REFUSAL.size
    while count > 0:
        frames: list[bytes] = []
        answers: list[bytes] = []
        wanted = min(count, PLAIN_BATCH)
        while len(answers) < wanted:
            kind, channel, payload = next(source)
            try:
                answer = rules.answer(kind, channel, payload)
            except UnsafeError:
                continue
            if answer.type != lib.WIRE_T_REFUSED:
                continue
            assert isinstance(answer.detail, tuple)
            seq = len(answers) + 1
            frames.append(HEADER.pack(lib.WIRE_MAGIC, len(payload), kind, channel, seq))
            frames.append(payload)
            head = (lib.WIRE_MAGIC, REFUSAL.size, answer.type, channel, seq)
            answers.append(REFUSED.pack(*head, *answer.detail))
        last = rules.last
        foretold = rules.answer(last.type, last.channel, last.payload)
        answers.append(HEADER.pack(lib.WIRE_MAGIC, 0, foretold.type, last.channel, last.seq))
        assert len(answers[-1]) == end
        yield PlainBatch(b"".join((*frames, last.encode())), b"".join(answers), wanted)
        count -= wanted


def exchange_plain(sock: socket.socket, made: PlainBatch, *, seconds: float) -> None:
    """Send a plain batch; every byte that comes back is as foretold."""
    view = memoryview(made.data)
    got = bytearray()
    stop = time.monotonic() + seconds
    while len(got) < len(made.answers):
        left = stop - time.monotonic()
        assert left > 0, f"no answer to the last frame within {seconds} s"
        readable, writable, _ = select.select([sock], [sock] if view else [], [], left)
        if writable:
            view = view[sock.send(view[: 1 << 18], socket.MSG_DONTWAIT) :]
        if readable:
            data = sock.recv(1 << 20)
            assert data, "the connection ended"
            got += data
    if got == made.answers:
        return
    pairs = zip(decode(bytes(got)), decode(made.answers), strict=False)
    mine, foretold = next((mine, foretold) for mine, foretold in pairs if mine != foretold)
    raise AssertionError(f"(type, channel, seq, payload) is {mine}, foretold {foretold}")


def digest(kind: int, payload: bytes) -> int | tuple[int, ...] | None:
    """What of an answer's payload is foretold."""
    if kind == lib.WIRE_T_REFUSED:
        return REFUSAL.unpack(payload)
    if kind == lib.WIRE_T_RESULT:
        return len(payload)
    if kind == lib.WIRE_T_DONE:
        return int.from_bytes(payload[:8], "little")
    return None


def exchange(
    sock: socket.socket, made: Batch, *, seconds: float, until: int = LAST
) -> list[tuple[int, Expected]]:
    """Send a batch, and return its answers up to the one to ``until``, those about junk aside.

    Both ways at once: a receiver that is not read from stops to read.
    """
    view = memoryview(made.data)
    got = bytearray()
    at = 0
    answers: list[tuple[int, Expected]] = []
    calls = 0
    stop = time.monotonic() + seconds
    while not answers or answers[-1][0] != until:
        left = stop - time.monotonic()
        assert left > 0, f"no answer to the last frame within {seconds} s"
        readable, writable, _ = select.select([sock], [sock] if view else [], [], left)
        if writable:
            view = view[sock.send(view[: 1 << 16], socket.MSG_DONTWAIT) :]
        if not readable:
            continue
        data = sock.recv(1 << 18)
        assert data, "the connection ended"
        got += data
        while len(got) - at >= HEADER.size:
            magic, length, kind, _, seq = HEADER.unpack_from(got, at)
            assert magic == lib.WIRE_MAGIC
            end = at + HEADER.size + length
            if len(got) < end:
                break
            payload = bytes(got[at + HEADER.size : end])
            at = end
            if kind == lib.WIRE_T_ROWS:
                calls += sum(
                    row[1] for row in struct.iter_unpack("<QQqQQII", payload) if not row[5] & 4
                )
                continue
            detail = digest(kind, payload)
            if kind == lib.WIRE_T_DONE and calls:
                assert calls == detail, f"{calls} calls in rows, {detail} in all: seq {seq}"
                calls = 0
            if seq != JUNK or kind == lib.WIRE_T_HELLO:
                answers.append((seq, Expected(kind, detail)))
        del got[:at]
        at = 0
    return answers
