# SPDX-License-Identifier: GPL-2.0-only
"""P22, seen from outside: what a filter, a tracer and the tracepoints show of a call.

A child of the caller's makes one call, behind a seccomp filter, or traced
with PTRACE_SYSCALL, or both.  What they see is by which door the call came,
and that is not a matter of taste: a filter that tells `int 0x80` from
`syscall` by the arch token, and x32 from x86-64 by bit 30 of the number, is
what keeps a sandbox shut (Documentation/userspace-api/seccomp_filter.rst).

Sizes and offsets are those of struct seccomp_data, struct sock_filter and
struct ptrace_syscall_info (linux/seccomp.h, linux/filter.h, linux/ptrace.h),
which are the same in every ABI.
"""

from __future__ import annotations

import dataclasses
import re
import struct
from collections.abc import Mapping

from harness import wire
from harness.case import Case
from harness.channel import status_text
from harness.program import MAX_ERRNO, Argument, Entry, encode_op
from harness.wire import lib
from vm.errors import InfraError

#: How long the child may live, in milliseconds.
DEADLINE_MS = 5000

#: linux/filter.h: struct sock_filter, and load a word, jump if equal, return.
INSTRUCTION = struct.Struct("<HBBI")
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
#: struct seccomp_data: offsets of the number, the arch token and the arguments.
NUMBER_AT, ARCH_AT, ARGS_AT = 0, 4, 16
#: linux/seccomp.h: SECCOMP_RET_*; an errno goes into the lower half.
RET_ERRNO, RET_ALLOW = 0x0005_0000, 0x7FFF_0000

#: struct ptrace_syscall_info: op, arch, instruction and stack pointer.
INFO_HEAD = struct.Struct("<BxxxIQQ")
#: Behind that: at entry the number and the arguments, at exit the result and a flag.
INFO_ENTRY = struct.Struct("<Q6Q")
INFO_EXIT = struct.Struct("<qB")
#: PTRACE_SYSCALL_INFO_*, by ptrace(2).
OPS: Mapping[int, str] = {0: "none", 1: "entry", 2: "exit", 3: "seccomp"}

#: The arch token's name in linux/audit.h, by the table that a way's numbers are of.
ARCH_NAMES: Mapping[str, str] = {
    "m64": "AUDIT_ARCH_X86_64",
    "m32": "AUDIT_ARCH_I386",
    "mx32": "AUDIT_ARCH_X86_64",  # told from m64 by bit 30 of the number alone
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stop:
    """One stop of a traced call, as PTRACE_GET_SYSCALL_INFO tells it."""

    op: str  #: entry, exit, seccomp or none
    arch: int  #: AUDIT_ARCH_*
    number: int = 0  #: at entry
    args: tuple[int, ...] = ()  #: at entry
    ret: int = 0  #: at exit
    is_error: bool = False  #: at exit

    def __str__(self) -> str:
        if self.op == "entry":
            args = ", ".join(f"{arg:#x}" for arg in self.args)
            return f"entry, arch {self.arch:#x}, number {self.number:#x}, arguments {args}"
        if self.op == "exit":
            how = "an error" if self.is_error else "no error"
            return f"exit, arch {self.arch:#x}, result {self.ret}, {how}"
        return f"{self.op}, arch {self.arch:#x}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watched:
    """What came of a call that was watched."""

    ret: int  #: as the child got it; 0 when it did not
    args: tuple[int, ...]  #: the six registers as they were set
    returned: bool  #: False: the child ended before
    signal: int  #: the one that came instead of the call, or 0
    deadline: bool
    status: int  #: of the child, as waitpid() gives it
    stops: tuple[Stop, ...]

    @property
    def errno(self) -> int:
        """The error number, or 0 when the call succeeded."""
        return -self.ret if -MAX_ERRNO <= self.ret < 0 else 0

    def __str__(self) -> str:
        if self.deadline:
            return "it blocked until its deadline"
        if not self.returned:
            return f"the child was ended: {status_text(self.status)}"
        return f"signal {self.signal}" if self.signal else f"result {self.ret}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filter:
    """A filter: ``action`` for this arch, number and these arguments exactly; all else goes.

    Each argument is compared with all of its 64 bits.
    """

    arch: int
    number: int
    action: int  #: SECCOMP_RET_*
    args: Mapping[int, int] = dataclasses.field(default_factory=dict)  #: index → value

    @property
    def instructions(self) -> list[tuple[int, int, int, int]]:
        """Each struct sock_filter: code, jt, jf, k."""
        wanted = [(ARCH_AT, self.arch), (NUMBER_AT, self.number)]
        for index, value in self.args.items():
            at = ARGS_AT + 8 * index
            wanted += [(at, value & 0xFFFF_FFFF), (at + 4, value >> 32)]
        code = []
        for done, (at, value) in enumerate(wanted):
            # Past what is left to be compared, and the action behind it.
            beyond = 2 * (len(wanted) - done - 1) + 1
            code += [(LOAD, 0, 0, at), (JUMP_EQUAL, 0, beyond, value)]
        return [*code, (RETURN, 0, 0, self.action), (RETURN, 0, 0, RET_ALLOW)]

    @property
    def code(self) -> bytes:
        """The program, as seccomp(2) takes it."""
        return b"".join(INSTRUCTION.pack(*one) for one in self.instructions)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watch:
    """A call that is watched, and by what: a filter, a tracer, or the call's tracepoints."""

    case: Case  #: with its way into the kernel
    args: tuple[Argument, ...]  #: all six registers
    filter: Filter | None = None
    decides: bool = False  #: the filter does; otherwise the call goes
    traced: bool = False
    event: str = ""  #: the call's name in the tracepoints


def encode(
    number: int,
    args: list[Argument],
    *,
    entry: Entry = Entry.NATIVE,
    code: bytes = b"",
    trace: bool = False,
    deadline_ms: int = DEADLINE_MS,
) -> bytes:
    """A WIRE_T_OUTSIDE payload; ``code`` is a filter."""
    call = encode_op(kind=lib.WIRE_OP_SYSCALL, nr=number, args=args, entry=entry)
    rest = wire.pack(
        "wire_outside", trace=int(trace), filter_length=len(code), deadline_ms=deadline_ms
    )
    return call + rest[len(call) :] + code


# The tracepoints of a call (kernel/trace/trace_syscalls.c).

TRACING = "/sys/kernel/tracing"
#: One field of an event's format, as trace_event_seq_print_fields() shows it.
FIELD = re.compile(r"\tfield:(?P<type>.+?) ?(?P<name>\w+);\toffset:(\d+);\tsize:(\d+);")
#: What an enabled event prints, behind task, CPU and time.
ENTERED = re.compile(r"-(?P<pid>\d+) .*: sys_(?P<name>\w+)\((?P<args>.*)\)$")
LEFT = re.compile(r"-(?P<pid>\d+) .*: sys_(?P<name>\w+) -> 0x(?P<ret>[0-9a-f]+)$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TraceField:
    """A field of an event: its C type, and where it lies in the record, in bytes."""

    name: str
    type: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.type} {self.name} at {self.offset}, {self.size} bytes"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Traced:
    """A line of the trace: a call that was entered, or left."""

    call: str  #: without sys_
    args: tuple[int, ...] | None = None  #: entered with these registers
    ret: int | None = None  #: left with this result, all 64 bits

    def __str__(self) -> str:
        if self.args is not None:
            return f"{self.call}({', '.join(map(hex, self.args))})"
        return f"{self.call} -> {self.ret:#x}"


def trace_fields(text: str) -> tuple[TraceField, ...]:
    """An event's own fields, by the text of its ``format``; those of every event come first."""
    found = [
        TraceField(name=one["name"], type=one["type"], offset=int(one[3]), size=int(one[4]))
        for one in map(FIELD.match, text.splitlines())
        if one
    ]
    return tuple(one for one in found if not one.name.startswith("common_"))


def traced(text: str) -> list[Traced]:
    """The calls that a trace shows."""
    found = []
    for line in text.splitlines():
        if entered := ENTERED.search(line):
            values = [one.rpartition(" ")[2] for one in entered["args"].split(", ") if one]
            args = tuple(int(value, 16) for value in values)
            found.append(Traced(call=entered["name"], args=args))
        elif left := LEFT.search(line):
            found.append(Traced(call=left["name"], ret=int(left["ret"], 16)))
    return found


def _stop(raw: bytes, length: int) -> Stop:
    """A struct ptrace_syscall_info of which the kernel has ``length`` bytes."""
    if length < INFO_HEAD.size:
        raise InfraError(f"PTRACE_GET_SYSCALL_INFO gave {length} bytes")
    number, arch, _, _ = INFO_HEAD.unpack_from(raw)
    op = OPS.get(number, str(number))
    if op == "entry":
        nr, *args = INFO_ENTRY.unpack_from(raw, INFO_HEAD.size)
        return Stop(op=op, arch=arch, number=nr, args=tuple(args))
    if op == "exit":
        ret, is_error = INFO_EXIT.unpack_from(raw, INFO_HEAD.size)
        return Stop(op=op, arch=arch, ret=ret, is_error=bool(is_error))
    return Stop(op=op, arch=arch)


def decode(payload: bytes) -> Watched:
    """A WIRE_T_SEEN payload."""
    seen = wire.unpack("wire_seen", payload)
    at, size = wire.ffi.sizeof("struct wire_seen"), wire.ffi.sizeof("struct wire_stop")
    stops = []
    for index in range(seen.stops):
        raw = wire.unpack("wire_stop", payload, at + index * size)
        stops.append(_stop(bytes(wire.ffi.buffer(raw.info)), raw.length))
    signalled = bool(seen.flags & lib.WIRE_R_SIGNAL)
    return Watched(
        ret=0 if signalled else seen.ret,
        args=tuple(seen.arg),
        returned=not seen.flags & lib.WIRE_R_ENDED,
        signal=seen.ret if signalled else 0,
        deadline=bool(seen.flags & lib.WIRE_R_DEADLINE),
        status=seen.status,
        stops=tuple(stops),
    )
