# SPDX-License-Identifier: GPL-2.0-only
"""The battery's items for P22: what a filter, a tracer and the tracepoints show of a call.

Importing this module adds them.  A child of the caller's makes each call.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import os
import re
from typing import Any

import pytest

from harness import case as cases
from harness import model, outside
from harness.abi import ABI, ABIS, Way
from harness.battery import BATTERY, Item, Level
from harness.case import Case
from harness.channel import RefusedError
from harness.contract import DATA_AT, Child, Contract, SizeIoctl
from harness.findings import Causes, ContractBrokenError, Mismatch
from harness.interface import Interface
from harness.outside import Filter, Watch, Watched
from harness.program import ARENA, SCRATCH, Argument, Entry, Program

#: What a filter has a call return: an errno that no interface gives.
TOLD = 77
TELL = outside.RET_ERRNO | TOLD
#: Bit 30 of a number: x32's.
X32_BIT = 1 << 30
#: For arguments that an interface does not have: each register is told from the others.
UNUSED = tuple(0x0101_0101_1010_1010 * (index + 1) for index in range(6))
#: errnos with which a kernel, or what runs us, says that this cannot be watched.
REFUSALS = (errno.EPERM, errno.EACCES, errno.ENOSYS)


def _registers(interface: Interface, case: Case, way: Way) -> list[Argument]:
    """All six, those that the call does not have filled with a pattern."""
    there = interface.by(way)
    args = cases.registers(there.contract, case)
    for index in range(len(there.contract.args), len(args)):
        args[index] = UNUSED[index] % (1 << way.register)
    return args


def ways(interface: Interface) -> list[Way]:
    """Those that this kernel has, the ABI's own first."""
    return [interface.ways[0], *interface.other_ways]


def arch_of(interface: Interface, way: Way) -> int:
    """The arch token, AUDIT_ARCH_*, with which a call by this way is seen."""
    return interface.constant(outside.ARCH_NAMES[way.table], "linux/audit.h") & 0xFFFF_FFFF


def _watched(
    interface: Interface, case: Case, way: Way, *, code: bytes = b"", trace: bool = False
) -> Watched:
    """Lay the struct out, and have a child make the call by this way."""
    _lay_out(interface, case)
    return _by_a_child(interface, case, way, code=code, trace=trace)


def _lay_out(interface: Interface, case: Case) -> None:
    """The struct and what it points to, and the steps that each call needs before it."""
    program = Program()
    program.reset()
    program.write(SCRATCH, DATA_AT, interface.contract.data)
    if case.pointer is None:
        program.write(ARENA, case.offset, case.memory)
    interface.place_before(program)
    interface.caller.run(program)


def _by_a_child(
    interface: Interface, case: Case, way: Way, *, code: bytes = b"", trace: bool = False
) -> Watched:
    payload = outside.encode(
        interface.number(interface.contract.number, way),
        _registers(interface, case, way),
        entry=Entry.INT80 if way.int80 else Entry.NATIVE,
        code=code,
        trace=trace,
    )
    try:
        return interface.caller.watched(payload)
    except RefusedError as exc:
        how = "ptrace(2)" if trace else "seccomp(2)"
        # EINVAL is what a kernel without filters says.
        if exc.errno in REFUSALS or (code and exc.errno == errno.EINVAL):
            pytest.skip(f"{how} is refused here: {os.strerror(exc.errno or 0)}")
        raise


def watch(interface: Interface, case: Case, way: Way, **by: Any) -> Watch:
    """What is watched, for a reproducer."""
    return Watch(case=case, args=tuple(_registers(interface, case, way)), **by)


def accepted(interface: Interface, way: Way) -> Case:
    """A call that is accepted, by this way."""
    return dataclasses.replace(interface.by(way).case(), way=way)


def refused(interface: Interface, way: Way) -> Case:
    """A call that is refused for its pointer, by this way."""
    return dataclasses.replace(interface.by(way).case(), way=way, pointer=0)


def _as_model(outcome: model.Outcome, seen: Watched) -> bool:
    return seen.returned and not seen.signal and not seen.deadline and seen.errno == outcome.errno


class _Findings:
    """Mismatches of one item, told by what was asked."""

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._found = Causes()

    def add(self, what: str, *, allowed: str, seen: object, how: Watch) -> None:
        self._found.add(
            Mismatch(
                first=what,
                last=what,
                count=1,
                allowed=allowed,
                seen=str(seen),
                cause=what,
                how=how,
            )
        )

    def done(self) -> None:
        found = self._found.all()
        if found:
            name = self._interface.contract.name
            raise ContractBrokenError(
                f"{self._interface.abi.name}: {name}() is shown as another call:", found
            )


def _a_filter_sees_arch_and_number(interface: Interface, level: Level) -> None:
    """A filter for exactly this arch, number and these arguments decides; for no other."""
    found = _Findings(interface)
    for way in ways(interface):
        case = accepted(interface, way)
        arch, number = arch_of(interface, way), interface.number(interface.contract.number, way)
        given = {
            index: value % (1 << interface.abi.register)
            for index, value in enumerate(_registers(interface, case, way))
            if isinstance(value, int)
        }
        last = max(given, default=None)
        wrong_arch = {arch_of(interface, other) for other in interface.ways} - {arch}
        wrong_arch.add(arch ^ 1 << 30)  # __AUDIT_ARCH_LE: a token that no x86 has
        this = Filter(arch=arch, number=number, action=TELL)
        changed = functools.partial(dataclasses.replace, this)
        # (which filter, whether it has to decide)
        tries = [
            ("this arch and number", this, True),
            ("this arch, number and arguments", changed(args=given), True),
            ("this arch, the number's bit 30 inverted", changed(number=number ^ X32_BIT), False),
            ("this arch, the next number", changed(number=number + 1), False),
        ]
        tries += [(f"arch {other:#x}", changed(arch=other), False) for other in sorted(wrong_arch)]
        if last is not None:
            wrong = {**given, last: given[last] ^ 1}
            name = f"this arch and number, another argument {last}"
            tries.append((name, changed(args=wrong), False))
        outcome = interface.by(way).predict(case)
        for name, one, decides in tries:
            seen = _watched(interface, case, way, code=one.code)
            what = f"by {way.name}, a filter for {name}"
            how = watch(interface, case, way, filter=one, decides=decides)
            if decides and seen.errno != TOLD:
                found.add(what, allowed=f"it decides: errno {TOLD}", seen=seen, how=how)
            elif not decides and not _as_model(outcome, seen):
                found.add(what, allowed=f"it lets the call go: {outcome}", seen=seen, how=how)
    found.done()


def _a_tracer_sees_the_call(interface: Interface, level: Level) -> None:
    """PTRACE_GET_SYSCALL_INFO: arch, number and six registers at entry, the result at exit."""
    if why := interface.target.lacking.get("PTRACE_GET_SYSCALL_INFO"):
        pytest.skip(why)
    found = _Findings(interface)
    for way in ways(interface):
        arch, number = arch_of(interface, way), interface.number(interface.contract.number, way)
        for case in (accepted(interface, way), refused(interface, way)):
            seen = _watched(interface, case, way, trace=True)
            what = f"by {way.name}, {case}"
            how = watch(interface, case, way, traced=True)
            outcome = interface.by(way).predict(case)
            if not _as_model(outcome, seen):
                found.add(f"{what}, traced", allowed=str(outcome), seen=seen, how=how)
                continue
            if [stop.op for stop in seen.stops] != ["entry", "exit"]:
                stops = "; ".join(str(stop) for stop in seen.stops)
                allowed = "one at entry, one at exit"
                found.add(f"{what}: the stops", allowed=allowed, seen=stops, how=how)
                continue
            entry, leave = seen.stops
            args = tuple(arg % (1 << interface.abi.register) for arg in seen.args)
            wanted = dataclasses.replace(entry, arch=arch, number=number, args=args)
            if entry != wanted:
                found.add(f"{what}: the entry", allowed=str(wanted), seen=entry, how=how)
            wanted = dataclasses.replace(leave, arch=arch, ret=seen.ret, is_error=bool(seen.errno))
            if leave != wanted:
                found.add(f"{what}: the exit", allowed=str(wanted), seen=leave, how=how)
    found.done()


def _queued(contract: Contract, abi: ABI) -> str | None:
    return "what is seen of it is io_uring_enter(2)" if contract.queued else None


def _one_of_many(contract: Contract, abi: ABI) -> str | None:
    if contract.queued:
        return _queued(contract, abi)
    if isinstance(contract.size, SizeIoctl):
        return "its tracepoints are those of ioctl(2)"
    return None


def _read(interface: Interface, path: str) -> str | None:
    """A file of tracefs, or None when there is none."""
    try:
        return interface.target.read_file(f"{outside.TRACING}/{path}").decode(errors="replace")
    except RefusedError as exc:
        if exc.errno in (errno.ENOENT, errno.EAGAIN):  # a trace that is empty
            return None
        raise


def _tracepoints_show_the_call(interface: Interface, level: Level) -> None:
    """sys_enter_NAME and sys_exit_NAME: their fields, and what they show of a call by each way.

    A call through i386's or x32's table is not traced, as x86 has it:
    arch/x86/include/asm/ftrace.h:arch_trace_is_compat_syscall() is
    in_32bit_syscall(), and kernel/trace/trace_syscalls.c leaves those out.
    """
    if not interface.target.guest:
        pytest.skip("this machine's tracepoints are not ours to switch on")
    if why := interface.target.lacking.get("tracepoints"):
        pytest.skip(why)
    if _read(interface, "events/syscalls/enable") is None:
        pytest.skip("this kernel has no FTRACE_SYSCALLS, or no tracefs is mounted")
    found = _Findings(interface)
    name = interface.contract.number.removeprefix("__NR_")
    events = [f"events/syscalls/sys_{what}_{name}" for what in ("enter", "exit")]
    formats = [_read(interface, f"{event}/format") for event in events]
    own_way = interface.ways[0]
    how = watch(interface, accepted(interface, own_way), own_way, event=name)
    for event, text in zip(events, formats, strict=True):
        if text is None:
            found.add(event, allowed="the tracepoint is there", seen="it is not", how=how)
    found.done()
    _check_fields(interface, found, outside.trace_fields(formats[0] or ""), how)
    _read(interface, "trace_pipe")  # what was traced before
    try:
        for event in events:
            interface.target.write_file(f"{outside.TRACING}/{event}/enable", b"1")
        own = len(_trace_of_another_call(interface))
        for way in ways(interface):
            for case in (accepted(interface, way), refused(interface, way)):
                _check_trace(interface, found, case, way, name, own=own)
    finally:
        for event in events:
            interface.target.write_file(f"{outside.TRACING}/{event}/enable", b"0")
    found.done()


def _check_fields(
    interface: Interface, found: _Findings, fields: tuple[outside.TraceField, ...], how: Watch
) -> None:
    """The number, and behind it a register for each argument; the struct's by its type."""
    number, *args = fields or (None,)
    if number is None or (number.name, number.offset, number.size) != ("__syscall_nr", 8, 4):
        allowed = "int __syscall_nr at 8, 4 bytes"
        found.add("the first field", allowed=allowed, seen=number, how=how)
    native = interface.asked.in_abi(ABIS[0])  # whose entry has the tracepoints
    places = [(16 + 8 * index, 8) for index in range(len(native.args))]
    if [(one.offset, one.size) for one in args] != places:
        seen = "; ".join(map(str, args))
        found.add("the arguments", allowed=f"(offset, size) {places}", seen=seen, how=how)
    else:
        one = args[native.pointer]
        # An ioctl()'s argument, say, has no type of its own.
        own = interface.contract.number == f"__NR_{interface.contract.name}"
        wanted = rf"(const )?{interface.contract.tag} ?\*( ?const)?"
        if own and not re.fullmatch(wanted, one.type):
            allowed = f"{interface.contract.tag} *"
            found.add("the struct's type", allowed=allowed, seen=one, how=how)


def _trace_of_another_call(interface: Interface) -> list[outside.Traced]:
    """What a child of the caller's that makes some other call leaves in the trace.

    It prepares itself with prctl(2), whose commands are interfaces too.
    """
    interface.caller.watched(outside.encode(interface.number("getppid"), [0] * 6))
    return outside.traced(_read(interface, "trace_pipe") or "")


def _check_trace(
    interface: Interface, found: _Findings, case: Case, way: Way, name: str, *, own: int
) -> None:
    """One call by one way, and what the trace has of it, behind the child's own calls."""
    _lay_out(interface, case)
    _read(interface, "trace_pipe")  # a step before the call may be one of the same name
    seen = _by_a_child(interface, case, way)
    trace = outside.traced(_read(interface, "trace_pipe") or "")[own:]
    if isinstance(interface.contract.effect, Child):
        # What is made returns from the call as well, with 0, whenever it is its turn.
        trace = [one for one in trace if one.ret != 0]
    wanted = []
    if way.table == "m64" and not way.int80:
        args = seen.args[: len(interface.by(way).contract.args)]
        wanted = [
            outside.Traced(call=name, args=args),
            outside.Traced(call=name, ret=seen.ret % (1 << 64)),
        ]
    if trace != wanted:
        found.add(
            f"by {way.name}, {case}: the trace",
            allowed="; ".join(map(str, wanted)) or "nothing: it is no call of the 64-bit table",
            seen="; ".join(map(str, trace)) or "nothing",
            how=watch(interface, case, way, event=name),
        )


BATTERY += [
    Item(
        prop="P22",
        name="a-filter-sees-arch-and-number",
        run=_a_filter_sees_arch_and_number,
        unless=_queued,
    ),
    Item(prop="P22", name="a-tracer-sees-the-call", run=_a_tracer_sees_the_call, unless=_queued),
    Item(
        prop="P22",
        name="tracepoints-show-the-call",
        run=_tracepoints_show_the_call,
        unless=_one_of_many,
    ),
]
