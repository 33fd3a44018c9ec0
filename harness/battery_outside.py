# SPDX-License-Identifier: GPL-2.0-only
"""The battery's items for P22: what a filter and a tracer are shown of a call.

Importing this module adds them.  A child of the caller's makes each call.
"""

from __future__ import annotations

import dataclasses
import errno
import os

import pytest

from harness import case as cases
from harness import model, outside
from harness.abi import Way
from harness.battery import BATTERY, Item, Level
from harness.case import Case
from harness.channel import RefusedError
from harness.contract import DATA_AT
from harness.findings import Causes, ContractBrokenError, Mismatch
from harness.interface import Interface
from harness.outside import Watched, filter_code
from harness.program import ARENA, SCRATCH, Argument, Entry, Program

#: What a filter has a call return: an errno that no interface gives.
TOLD = 77
#: Bit 30 of a number: x32's.
X32_BIT = 1 << 30
#: For arguments that an interface does not have: each register is told from the others.
UNUSED = tuple(0x0101_0101_1010_1010 * (index + 1) for index in range(6))
#: errnos with which a kernel, or what runs us, says that this cannot be watched.
REFUSALS = (errno.EPERM, errno.EACCES, errno.ENOSYS)


def _registers(interface: Interface, case: Case, way: Way) -> list[Argument]:
    """All six, those that the call does not have filled with a pattern."""
    args = cases.registers(interface.contract, case)
    for index in range(len(interface.contract.args), len(args)):
        args[index] = UNUSED[index] % (1 << way.register)
    return args


def _ways(interface: Interface) -> list[Way]:
    """Those that this kernel has, the ABI's own first."""
    return [interface.ways[0], *interface.other_ways]


def _arch(interface: Interface, way: Way) -> int:
    return interface.constant(outside.ARCH_NAMES[way.table], "linux/audit.h") & 0xFFFF_FFFF


def _watched(
    interface: Interface, case: Case, way: Way, *, code: bytes = b"", trace: bool = False
) -> Watched:
    """Lay the struct out, and have a child make the call by this way."""
    program = Program()
    program.reset()
    program.write(SCRATCH, DATA_AT, interface.contract.data)
    if case.pointer is None:
        program.write(ARENA, case.offset, case.memory)
    interface.caller.run(program)
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


def _accepted(interface: Interface, way: Way) -> Case:
    return dataclasses.replace(interface.case(), way=way)


def _refused(interface: Interface, way: Way) -> Case:
    return dataclasses.replace(interface.case(), way=way, pointer=0)


def _as_model(outcome: model.Outcome, seen: Watched) -> bool:
    return seen.returned and not seen.signal and not seen.deadline and seen.errno == outcome.errno


class _Findings:
    """Mismatches of one item, told by what was asked."""

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._found = Causes()

    def add(self, what: str, *, allowed: str, seen: object) -> None:
        self._found.add(
            Mismatch(first=what, last=what, count=1, allowed=allowed, seen=str(seen), cause=what)
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
    for way in _ways(interface):
        case = _accepted(interface, way)
        arch, number = _arch(interface, way), interface.number(interface.contract.number, way)
        given = {
            index: value % (1 << interface.abi.register)
            for index, value in enumerate(_registers(interface, case, way))
            if isinstance(value, int)
        }
        last = max(given, default=None)
        wrong_arch = {_arch(interface, other) for other in interface.ways} - {arch}
        wrong_arch.add(arch ^ 1 << 30)  # __AUDIT_ARCH_LE: a token that no x86 has
        tell = outside.RET_ERRNO | TOLD
        # (which filter, its code, whether it has to decide)
        tries = [
            ("this arch and number", filter_code(arch=arch, number=number, action=tell), True),
            (
                "this arch, number and arguments",
                filter_code(arch=arch, number=number, action=tell, args=given),
                True,
            ),
            (
                "this arch, the number's bit 30 inverted",
                filter_code(arch=arch, number=number ^ X32_BIT, action=tell),
                False,
            ),
            (
                "this arch, the next number",
                filter_code(arch=arch, number=number + 1, action=tell),
                False,
            ),
        ]
        tries += [
            (f"arch {other:#x}", filter_code(arch=other, number=number, action=tell), False)
            for other in sorted(wrong_arch)
        ]
        if last is not None:
            wrong = {**given, last: given[last] ^ 1}
            tries.append(
                (
                    f"this arch and number, another argument {last}",
                    filter_code(arch=arch, number=number, action=tell, args=wrong),
                    False,
                )
            )
        outcome = interface.predict(case)
        for name, code, decides in tries:
            seen = _watched(interface, case, way, code=code)
            what = f"by {way.name}, a filter for {name}"
            if decides and seen.errno != TOLD:
                found.add(what, allowed=f"it decides: errno {TOLD}", seen=seen)
            elif not decides and not _as_model(outcome, seen):
                found.add(what, allowed=f"it lets the call go: {outcome}", seen=seen)
    found.done()


def _a_tracer_sees_the_call(interface: Interface, level: Level) -> None:
    """PTRACE_GET_SYSCALL_INFO: arch, number and six registers at entry, the result at exit."""
    found = _Findings(interface)
    for way in _ways(interface):
        arch, number = _arch(interface, way), interface.number(interface.contract.number, way)
        for case in (_accepted(interface, way), _refused(interface, way)):
            seen = _watched(interface, case, way, trace=True)
            what = f"by {way.name}, {case}"
            outcome = interface.predict(case)
            if not _as_model(outcome, seen):
                found.add(f"{what}, traced", allowed=str(outcome), seen=seen)
                continue
            if [stop.op for stop in seen.stops] != ["entry", "exit"]:
                stops = "; ".join(str(stop) for stop in seen.stops)
                found.add(f"{what}: the stops", allowed="one at entry, one at exit", seen=stops)
                continue
            entry, leave = seen.stops
            args = tuple(arg % (1 << interface.abi.register) for arg in seen.args)
            wanted = dataclasses.replace(entry, arch=arch, number=number, args=args)
            if entry != wanted:
                found.add(f"{what}: the entry", allowed=str(wanted), seen=entry)
            wanted = dataclasses.replace(leave, arch=arch, ret=seen.ret, is_error=bool(seen.errno))
            if leave != wanted:
                found.add(f"{what}: the exit", allowed=str(wanted), seen=leave)
    found.done()


BATTERY += [
    Item(
        prop="P22",
        name="a-filter-sees-arch-and-number",
        run=_a_filter_sees_arch_and_number,
    ),
    Item(prop="P22", name="a-tracer-sees-the-call", run=_a_tracer_sees_the_call),
]
