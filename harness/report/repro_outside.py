# SPDX-License-Identifier: GPL-2.0-only
"""P22 as a C program of its own: a call behind a filter, under a tracer, or in the trace.

What the program expects is what the item of the battery did
(harness/battery_outside.py): what each way into the kernel has for arch and
number, and the model's outcome for a call that is let go.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness import outside
from harness.abi import Way
from harness.contract import DATA_AT, MOST_ARGS, PAGE, Bytes, Made, SizeIoctl
from harness.findings import Mismatch
from harness.interface import Interface
from harness.outside import Watch
from harness.program import ARENA, Address
from harness.report import repro
from harness.report.repro import Array, Call, Entry
from harness.wire import lib


def _entry(call: Call) -> Entry | None:
    """The function that sets all six registers; a 32-bit program has syscall(2) for that."""
    if call.interface.abi.register == 32:
        return None
    return call.entry_of_registers(MOST_ARGS, int80=call.int80)


def _args(interface: Interface, one: Watch) -> Iterator[str]:
    """The six registers, as C."""
    asked = dict(enumerate(interface.asked_args))
    for index, arg in enumerate(one.args):
        if isinstance(made := asked.get(index), Made):
            yield f"made_{made.step}"
        elif isinstance(arg, Address):
            inside = "params" if arg.area == ARENA else f"(area + 4 * PAGE + {_place(one, index)})"
            yield f"(uintptr_t){inside}"
        else:
            assert isinstance(arg, int)  # no result of the same program's
            yield f"{arg % (1 << 64):#x}ULL"


def _place(one: Watch, index: int) -> int:
    """Where the template puts what this argument points to: 256 bytes for each."""
    before = [arg for arg in one.args[:index] if isinstance(arg, Address) and arg.area != ARENA]
    return 256 * len(before)


def _arrays(interface: Interface, one: Watch) -> list[Array]:
    contract = interface.contract
    found = [
        repro.constant_of(f"argument_{index}", arg.data)
        for index, arg in enumerate(contract.args)
        if isinstance(arg, Bytes)
    ]
    if one.case.pointer is None:
        note = f"{contract.tag} as it is given"
        found.append(repro.array_of("given", one.case.memory, interface, note))
    return found


def _patches(interface: Interface, one: Watch) -> Iterator[str]:
    """What the filter compares of a register that the set-up fills, as C."""
    if one.filter is None:
        return
    for place, (index, value) in enumerate(one.filter.args.items()):
        asked, made = dict(enumerate(interface.asked_args)).get(index), one.args[index]
        if not isinstance(asked, Made) or not isinstance(made, int):
            continue
        for half in range(2):
            # Behind the arch and the number, each compared by two instructions.
            at = 2 * (2 + 2 * place + half) + 1
            other = ((value ^ made) >> 32 * half) & 0xFFFF_FFFF
            yield f"code[{at}].k = (uint32_t)(args[{index}] >> {32 * half}) ^ {other:#x};"


def _by(one: Watch) -> str:
    if one.filter is not None:
        return "behind a seccomp(2) filter"
    return "while its tracepoints are on" if one.event else "while ptrace(2) stops at it"


def render(interface: Interface, mismatch: Mismatch, *, prop: str, name: str) -> str:
    """The program's source."""
    one = mismatch.how
    assert isinstance(one, Watch)
    contract, abi = interface.contract, interface.abi
    way: Way = one.case.way or interface.ways[0]
    call = Call(interface=interface, case=one.case)
    outcome = interface.predict(one.case)
    wanted = repro.errno_of(outcome.errno)
    expected = f"the call goes: {outcome}"
    if one.filter is not None and one.decides:
        wanted = str(one.filter.action & 0xFFFF)
        expected = "the filter decides"
    elif one.traced or one.event:
        expected = f"it is seen as it was made: {outcome}"
    shown = int(way.table == "m64" and not way.int80)
    arch = interface.constant(outside.ARCH_NAMES[way.table], "linux/audit.h") & 0xFFFF_FFFF
    own = contract.number == f"__NR_{contract.name}"
    facts: dict[str, object] = {
        **repro.head(interface, mismatch, call, prop=prop, name=name),
        "by": _by(one),
        "arrays": _arrays(interface, one),
        "filter": [
            f"{code:#04x}, {yes}, {no}, {value:#x}"
            for code, yes, no, value in (one.filter.instructions if one.filter else ())
        ],
        "filter_note": "An errno for one arch, number and these arguments; all else goes",
        "traced": one.traced,
        "event": one.event,
        "entry": _entry(call),
        "args": tuple(_args(interface, one)),
        "patches": tuple(_patches(interface, one)),
        "laid_out": repro.constant_of("laid_out", contract.data) if contract.pieces else None,
        "data_at": f"{lib.WIRE_SCRATCH_AT + DATA_AT:#x}",
        "data_pages": lib.WIRE_ARENA // PAGE,
        "memory": one.case.pointer is None,
        "low": call.low,
        "setup": tuple(repro.setup_lines(interface)),
        "arch": f"{arch:#x}",
        "narrow": abi.register == 32 or way.int80,
        "wanted": wanted,
        "expected": expected,
        "not_tried": repro.not_tried(mismatch, outcome),
        "count": len(contract.args),
        "pointer": contract.pointer,
        "type": contract.tag if own and not isinstance(contract.size, SizeIoctl) else "",
        "shown": shown,
    }
    return repro.template("repro_outside.c.j2").render(facts)
