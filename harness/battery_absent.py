# SPDX-License-Identifier: GPL-2.0-only
"""The battery's item for P18 on a kernel that is older than the interface.

Importing this module adds it.  A program finds out whether a kernel has an interface by
calling it: the answer has to be the one that it looks for, ENOSYS of a system call, ENOTTY
of an ioctl, and nothing of the program's memory may change.  The older kernel's headers do
not have the call's number, nor its struct; the contract does.
"""

from __future__ import annotations

import dataclasses
import functools

from harness import case as cases
from harness import layout as layouts
from harness.abi import ABI, ABIS, Way, abi
from harness.battery import BATTERY, Item, Level
from harness.case import Case
from harness.contract import DATA_AT, Absent, Contract
from harness.findings import Causes, Mismatch
from harness.how import NoProgram, NotThere
from harness.interface import Interface, SetupError
from harness.model import ending
from harness.program import ARENA, SCRATCH, Program, Result, entry_of
from harness.sweep import step_args

#: Of an x32 program's numbers (arch/x86/include/uapi/asm/unistd.h:__X32_SYSCALL_BIT).
X32_BIT = 1 << 30
#: Of what a step of the set-up answers.
SET_UP = NoProgram(why="it is a step of the set-up that answers, before there is a call")


def _told_nowhere(contract: Contract, one: ABI) -> str | None:
    if contract.absent is None:
        return "takes a kernel without the interface: make guest-test"
    return None


def _absent(interface: Interface) -> Absent:
    found = interface.asked.absent
    assert found is not None  # else the item does not apply
    return found


def _constant(interface: Interface, name: str) -> int:
    """A constant of the headers, or what the contract has for those that lack it."""
    includes = ("linux/ioctl.h", interface.asked.header)
    own = _absent(interface).constants
    if name in own and layouts.undefined(
        interface.compiler, interface.abi, includes=includes, names=(name,)
    ):
        return interface.constant(own[name], "linux/ioctl.h")
    return interface.constant(name, *includes)


def _number(interface: Interface, table: ABI) -> int:
    """The call's number in that table: of new calls it is the same in all of them."""
    number = _absent(interface).number
    if number is None:
        return interface.number(interface.asked.number)
    return number | (X32_BIT if table.name == "mx32" else 0)


def _ways(interface: Interface) -> list[Way]:
    """The ABI's own, and of a system call the others that this kernel has."""
    own, *others = interface.ways
    if _absent(interface).number is None:
        return [own]
    missing = [one.name for one in ABIS if interface.target.lacks(one)]
    return [own, *(way for way in others if way.table not in missing)]


def _not_there(interface: Interface, level: Level) -> None:
    """By each way into the kernel the call is one that there is not; nothing is written."""
    absent, asked = _absent(interface), interface.asked
    contract = asked.with_constants(lambda name: _constant(interface, name))
    made: dict[str, int] = {}
    opened: list[int] = []
    found = Causes()

    def judge(
        words: str,
        result: Result,
        *,
        how: object,
        case: Case | None = None,
        changed: bool = False,
    ) -> None:
        if result.errno == absent.errno and not result.signal and not changed:
            return
        seen = ending(result.errno, result.signal) + (", and memory changed" if changed else "")
        came = ".".join(map(str, asked.since))
        found.add(
            Mismatch(
                first=words,
                last=words,
                count=1,
                allowed=f"{ending(absent.errno)}: {asked.name} came with Linux {came}",
                seen=seen,
                cause=f"{ending(absent.errno)} → {ending(result.errno, result.signal)}",
                case=case,
                how=how,
            )
        )

    for step in contract.setup:
        program = Program()
        program.reset()
        program.write(SCRATCH, DATA_AT, contract.data)
        call = program.syscall(interface.number(step.call), *step_args(step.with_made(made)))
        result = interface.caller.run(program)[call.index]
        if step.name and step.name == absent.step:
            judge(f"{step.call}() of the set-up", result, how=SET_UP)
            if result.errno:
                interface.fail_on(found.all())
                return
        if result.errno == absent.errno and not step.name:
            continue  # made by a call of the interface itself, which is as little there
        if (result.errno or result.signal) and not step.may_fail:
            raise SetupError(
                f"{interface.abi.name}: the set-up of {asked.name} failed: {step.call}(): "
                + ending(result.errno, result.signal)
            )
        made[step.name] = result.ret
        opened += [result.ret] if step.name and not result.errno else []
    contract = dataclasses.replace(contract.with_made(made), setup=())
    for way in _ways(interface):
        memory = bytes(interface.declared_whole.new(**contract.example))
        usize = contract.versions[-1].size
        memory = cases.with_usize(contract, memory[:usize], usize)
        case = Case(usize=usize, memory=memory, way=way)
        program = Program()
        program.reset()
        program.write(SCRATCH, DATA_AT, contract.data)
        program.write(ARENA, case.offset, memory)
        call = program.syscall(
            _number(interface, abi(way.table)),
            *cases.registers(contract, case),
            entry=entry_of(way, queued=contract.queued),
        )
        after = program.read(ARENA, case.offset, len(memory))
        results = interface.caller.run(program)
        changed = results[after.index].data != memory
        how = NotThere(
            errno=absent.errno,
            contract=contract,
            layout=interface.declared_whole,
            number=_number(interface, abi(way.table)),
            constant=functools.partial(_constant, interface),
        )
        judge(str(case), results[call.index], case=case, how=how, changed=changed)
    program = Program()
    for fd in opened:
        program.syscall(interface.number("close"), fd)
    interface.caller.run(program)
    interface.fail_on(found.all())


BATTERY.append(Item(prop="P18", name="not-there", run=_not_there, unless=_told_nowhere, older=True))
