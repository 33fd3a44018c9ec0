# SPDX-License-Identifier: GPL-2.0-only
"""A program for a caller: memory laid out, calls made, memory read back.

    p = Program()
    p.write(ARENA, 0, params)
    fd = p.syscall(nr["xyzzy"], at(ARENA), flags)
    p.syscall(nr["close"], fd)
    results = caller.run(p)

A call that needs the result of one that failed is skipped, not made.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

from harness import wire
from harness.abi import Way
from harness.wire import lib
from vm.errors import InfraError

#: Bytes of the arena, and of the scratch area.
AREA_BYTES: int = lib.WIRE_ARENA
#: Registers of a system call.
MOST_ARGS = 6
#: Bytes before which a call that failed returns its error: -4095 to -1.
MAX_ERRNO = 4095


class Area(enum.IntEnum):
    """A caller's two areas, each between two inaccessible pages."""

    ARENA = lib.WIRE_A_ARENA
    SCRATCH = lib.WIRE_A_SCRATCH


ARENA = Area.ARENA
SCRATCH = Area.SCRATCH


class Entry(enum.IntEnum):
    """How a call enters the kernel."""

    NATIVE = lib.WIRE_ENTRY_NATIVE
    INT80 = lib.WIRE_ENTRY_INT80
    QUEUE = lib.WIRE_ENTRY_QUEUE
    WORKER = lib.WIRE_ENTRY_WORKER


def entry_of(way: Way | None, *, queued: bool = False) -> Entry:
    """How a call by this way enters; without one, by the ABI's own, ``queued`` or not."""
    if way is None:
        return Entry.QUEUE if queued else Entry.NATIVE
    if way.queued:
        return Entry.WORKER if way.worker else Entry.QUEUE
    return Entry.INT80 if way.int80 else Entry.NATIVE


@dataclasses.dataclass(frozen=True)
class Address:
    """An argument: the address of an area's byte ``offset``, which may lie outside it."""

    area: Area
    offset: int


@dataclasses.dataclass(frozen=True)
class ResultOf:
    """An argument: what operation number ``index`` returned."""

    index: int


Argument = int | Address | ResultOf


def at(area: Area, offset: int = 0) -> Address:
    """The address of byte ``offset`` of an area."""
    return Address(area, offset)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one operation."""

    ret: int  #: as the kernel left it in the register, sign extended
    skipped: bool
    signal: int  #: the signal that ended it, or 0
    deadline: bool  #: the deadline passed while it ran
    data: bytes  #: what a read() operation gave

    @property
    def errno(self) -> int:
        """The error number, or 0 when the call succeeded."""
        return -self.ret if -MAX_ERRNO <= self.ret < 0 else 0


U64 = (1 << 64) - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Who:
    """What a process is, by numbers; see wire.h and harness/identity.py."""

    effective: int = U64  #: mask of the capabilities that stay effective
    permitted: int = U64  #: and of those that stay permitted
    required: int = 0  #: and of those that it must have
    uid: int | None = None  #: its uid and gid; None: as they are
    namespace: bool = False  #: in a user namespace of its own
    dumpable: bool = True
    ended: bool = False  #: a peer that has ended and was waited for

    def args(self) -> tuple[int, ...]:
        """As an operation's arguments."""
        flags = lib.WIRE_ID_NAMESPACE * self.namespace | lib.WIRE_ID_DUMPABLE * self.dumpable
        flags |= lib.WIRE_ID_ENDED * self.ended
        uid = lib.WIRE_SAME_ID if self.uid is None else self.uid
        return (self.effective, self.permitted, self.required, uid, flags)


def encode_op(
    *,
    kind: int,
    nr: int = 0,
    args: Sequence[Argument] = (),
    entry: Entry = Entry.NATIVE,
    data_offset: int = 0,
    data_length: int = 0,
) -> bytes:
    """A struct wire_op."""
    values, kinds = [], []
    for arg in args:
        match arg:
            case Address(area, offset):
                values.append(offset & U64)
                kinds.append(int(area))
            case ResultOf(index):
                values.append(index)
                kinds.append(lib.WIRE_A_RESULT)
            case _:
                values.append(arg & U64)
                kinds.append(lib.WIRE_A_LITERAL)
    return wire.pack(
        "wire_op",
        kind=kind,
        entry=int(entry),
        nr=nr & U64,
        arg=values,
        arg_kind=kinds,
        data_offset=data_offset,
        data_length=data_length,
    )


class Program:
    """Operations in turn, for one request."""

    def __init__(self) -> None:
        self._ops: list[bytes] = []
        self._data = bytearray()
        self.calls = 0  #: system calls among the operations

    def _add(self, op: bytes) -> ResultOf:
        self._ops.append(op)
        return ResultOf(len(self._ops) - 1)

    def write(self, area: Area, offset: int, data: bytes) -> ResultOf:
        start = len(self._data)
        self._data += data
        return self._add(
            encode_op(
                kind=lib.WIRE_OP_WRITE,
                args=(Address(area, offset),),
                data_offset=start,
                data_length=len(data),
            )
        )

    def read(self, area: Area, offset: int, length: int) -> ResultOf:
        return self._add(encode_op(kind=lib.WIRE_OP_READ, args=(Address(area, offset), length)))

    def fill(self, area: Area, offset: int, length: int, byte: int) -> ResultOf:
        return self._add(
            encode_op(kind=lib.WIRE_OP_FILL, args=(Address(area, offset), length, byte))
        )

    def reset(self) -> ResultOf:
        """Fresh zero pages for both areas, whatever was mapped there."""
        return self._add(encode_op(kind=lib.WIRE_OP_RESET))

    def store(
        self, area: Area, offset: int, value: Argument, *, width: int, plus: int = 0
    ) -> ResultOf:
        """``value + plus`` goes to an area, in ``width`` bytes."""
        args = (Address(area, offset), value, width, plus & U64)
        return self._add(encode_op(kind=lib.WIRE_OP_STORE, args=args))

    def peer(self, who: Who) -> ResultOf:
        """Another process, which ends with the program; the result is its pid."""
        return self._add(encode_op(kind=lib.WIRE_OP_PEER, args=who.args()))

    def become(self, who: Who) -> ResultOf:
        """What follows is done by a child, as somebody else; once in a program.

        RefusedError with the errno when the caller may not become that.
        """
        return self._add(encode_op(kind=lib.WIRE_OP_BECOME, args=who.args()))

    def syscall(
        self,
        nr: int,
        *args: Argument,
        entry: Entry = Entry.NATIVE,
        only_after: ResultOf | None = None,
    ) -> ResultOf:
        """``nr`` and every argument are whole 64-bit register values.

        With ``only_after`` it is skipped when that operation failed: its result
        goes into the sixth register, which the call must not use.
        """
        self.calls += 1
        given = list(args)
        if only_after is not None and only_after not in given:
            given += [0] * (MOST_ARGS - 1 - len(given)) + [only_after]
        return self._add(encode_op(kind=lib.WIRE_OP_SYSCALL, nr=nr, args=given, entry=entry))

    def encode(self, *, deadline_ms: int) -> bytes:
        head = wire.pack(
            "wire_program",
            ops=len(self._ops),
            data_length=len(self._data),
            deadline_ms=deadline_ms,
        )
        return b"".join((head, *self._ops, self._data))

    def decode(self, payload: bytes) -> list[Result]:
        """The results out of a WIRE_T_RESULT payload."""
        size = wire.ffi.sizeof("struct wire_result")
        cursor = size * len(self._ops)
        results = []
        for index in range(len(self._ops)):
            raw = wire.unpack("wire_result", payload, index * size)
            data = payload[cursor : cursor + raw.data_length]
            if len(data) != raw.data_length:
                raise InfraError("the caller's answer is shorter than it says")
            cursor += raw.data_length
            signalled = bool(raw.flags & lib.WIRE_R_SIGNAL)
            results.append(
                Result(
                    ret=0 if signalled else raw.ret,
                    skipped=bool(raw.flags & lib.WIRE_R_SKIPPED),
                    signal=raw.ret if signalled else 0,
                    deadline=bool(raw.flags & lib.WIRE_R_DEADLINE),
                    data=data,
                )
            )
        return results
