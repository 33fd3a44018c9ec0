# SPDX-License-Identifier: GPL-2.0-only
"""harness.outside: what a filter and a tracer of this machine's kernel are shown.

Each expectation is independent of the harness: constants of the kernel's ABI,
and what the call itself returned.
"""

from __future__ import annotations

import dataclasses
import errno
import struct
import time
from pathlib import Path
from typing import cast

import fakekernel
import fakexyzzy
import hosttarget
import pytest
from fakekernel import FakeKernel, fake_kernel

from harness import outside, wire
from harness.abi import ABI, WAYS, Way, abi
from harness.battery import BATTERY, Level
from harness.channel import RefusedError
from harness.findings import ContractBrokenError
from harness.interface import Interface
from harness.interfaces import xyzzy
from harness.layout import Compiler
from harness.outside import Filter, Stop, Watched
from harness.program import ARENA, Entry, Program, at
from harness.target import Caller, Target

ITEMS = [item for item in BATTERY if item.prop == "P22" and "tracepoints" not in item.name]
TRACEPOINTS = next(item for item in BATTERY if item.name == "tracepoints-show-the-call")
X86_64, I386 = 0xC000003E, 0x40000003
ERRNO_77 = 0x0005_004D
KILL = 0x8000_0000  # SECCOMP_RET_KILL_PROCESS
TRAP = 0x0003_0000
LEFT_ALONE = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL)


def watched(local: Target, here: ABI, payload: bytes) -> Watched:
    try:
        return local.caller(here).watched(payload)
    except RefusedError as exc:
        if exc.errno in LEFT_ALONE:
            pytest.skip(f"this machine lets nobody be watched: {exc}")
        raise


def arch_of(here: ABI) -> int:
    return I386 if here.name == "m32" else X86_64


# Filters.


def test_a_filter_is_what_the_kernel_reads() -> None:
    code = Filter(arch=X86_64, number=39, action=ERRNO_77).code
    assert list(struct.iter_unpack("<HBBI", code)) == [
        (0x20, 0, 0, 4),
        (0x15, 0, 3, X86_64),
        (0x20, 0, 0, 0),
        (0x15, 0, 1, 39),
        (0x06, 0, 0, ERRNO_77),
        (0x06, 0, 0, 0x7FFF0000),
    ]


def test_a_filter_decides(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)["getppid"]
    plain = outside.encode(nr, [])
    assert watched(local, here, plain).errno == 0
    mine = Filter(arch=arch_of(here), number=nr, action=ERRNO_77).code
    seen = watched(local, here, outside.encode(nr, [], code=mine))
    assert (seen.returned, seen.ret, seen.errno, seen.status) == (True, -77, 77, 0)
    # And only in that child.
    assert watched(local, here, plain).errno == 0


@pytest.mark.parametrize("wrong", ["arch", "number", "x32 bit"])
def test_a_filter_for_another_call_does_not(local: Target, here: ABI, wrong: str) -> None:
    nr = hosttarget.numbers(here)["getppid"]
    arch = arch_of(here) ^ (1 << 31 if wrong == "arch" else 0)
    number = nr ^ {"arch": 0, "number": 1, "x32 bit": 1 << 30}[wrong]
    code = Filter(arch=arch, number=number, action=ERRNO_77).code
    seen = watched(local, here, outside.encode(nr, [], code=code))
    # The child's parent is the caller, and its own parent is the agent.
    assert Path(f"/proc/{seen.ret}/exe").readlink().name == f"caller-{here.name}"


@pytest.mark.parametrize("index", range(6))
def test_a_filter_sees_every_argument_whole(local: Target, here: ABI, index: int) -> None:
    nr = hosttarget.numbers(here)["getppid"]
    bits = (1 << here.register) - 1
    args = [(0x1122_3344_5566_7700 + one) & bits for one in range(6)]
    exact = Filter(arch=arch_of(here), number=nr, action=ERRNO_77, args=dict(enumerate(args))).code
    assert watched(local, here, outside.encode(nr, [*args], code=exact)).errno == 77
    for bit in (0, 31, *((32, 63) if here.register == 64 else ())):
        other = [*args]
        other[index] ^= 1 << bit
        seen = watched(local, here, outside.encode(nr, [*other], code=exact))
        assert seen.errno == 0, f"argument {index}, bit {bit}"


def test_what_a_filter_does_to_the_child_is_told(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)["getppid"]
    code = Filter(arch=arch_of(here), number=nr, action=KILL).code
    seen = watched(local, here, outside.encode(nr, [], code=code))
    assert not seen.returned
    assert str(seen) == "the child was ended: killed by SIGSYS"
    code = Filter(arch=arch_of(here), number=nr, action=TRAP).code
    seen = watched(local, here, outside.encode(nr, [], code=code))
    assert (seen.returned, seen.signal) == (True, 31)
    assert str(seen) == "signal 31"
    assert local.caller(here).run(Program()) == []


def test_a_filter_that_is_none_is_refused_with_the_kernels_errno(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)["getppid"]
    with pytest.raises(RefusedError) as caught:
        local.caller(here).watched(outside.encode(nr, [], code=b"\xff" * 8))
    assert caught.value.errno == errno.EINVAL


# The tracer.


def stops(way: Way, nr: int, args: tuple[int, ...], ret: int) -> tuple[Stop, Stop]:
    arch = I386 if way.table == "m32" else X86_64
    return (
        Stop(op="entry", arch=arch, number=nr, args=args),
        Stop(op="exit", arch=arch, ret=ret, is_error=-4095 <= ret < 0),
    )


def test_a_tracer_sees_entry_and_exit(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)
    way = WAYS[here.name][0]
    bits = (1 << here.register) - 1
    args = [(0x8877_6655_4433_2200 + 3 * one) & bits for one in range(6)]
    for name in ("getppid", "close"):
        given = args
        if name == "close":
            given = [1 << 20, *args[1:]]
        seen = watched(local, here, outside.encode(nr[name], [*given], trace=True))
        assert seen.returned
        assert seen.status == 0
        assert seen.stops == stops(way, nr[name], tuple(given), seen.ret)
        assert (seen.errno == errno.EBADF) is (name == "close")
    assert "entry, arch" in str(seen.stops[0])
    assert seen.stops[1].is_error


def test_int_0x80_is_shown_as_what_it_is(local: Target, here: ABI) -> None:
    """From a 64-bit program, too: i386's arch token and number."""
    way = next(one for one in WAYS[here.name] if one.int80)
    getppid = 64  # of i386's table, which never changes
    args = [3, 4, 5, 6, 7, 8]
    seen = watched(local, here, outside.encode(getppid, [*args], entry=Entry.INT80, trace=True))
    assert seen.stops == stops(way, getppid, tuple(args), seen.ret)
    assert seen.ret > 0


def test_addresses_are_told(local: Target, here: ABI) -> None:
    """An argument that only the caller knows is in the answer, as it was set."""
    where = hosttarget.look_up(local, here)
    nr = hosttarget.numbers(here)["pipe2"]
    seen = watched(local, here, outside.encode(nr, [at(ARENA, 64), 0], trace=True))
    assert seen.args == (where.arena + 64, 0, 0, 0, 0, 0)
    assert seen.stops[0].args == seen.args
    # The child's memory is its own.
    look = Program()
    data = look.read(ARENA, 64, 8)
    assert local.caller(here).run(look)[data.index].data == bytes(8)


def test_a_filter_and_a_tracer_together(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)["getppid"]
    code = Filter(arch=arch_of(here), number=nr, action=ERRNO_77).code
    seen = watched(local, here, outside.encode(nr, [], code=code, trace=True))
    assert seen.errno == 77
    assert [one.op for one in seen.stops] == ["entry", "exit"]
    assert (seen.stops[1].ret, seen.stops[1].is_error) == (-77, True)


def test_a_call_that_blocks_is_ended(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)["poll"]
    started = time.monotonic()
    for trace in (False, True):
        forever = (1 << here.register) - 1
        seen = watched(
            local, here, outside.encode(nr, [0, 0, forever], trace=trace, deadline_ms=100)
        )
        assert not seen.returned
        assert str(seen) == "it blocked until its deadline"
    assert time.monotonic() - started < 5


def test_no_child_is_left(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)
    caller = local.caller(here)
    for _ in range(5):
        watched(local, here, outside.encode(nr["getpid"], [], trace=True))
    pid = hosttarget.look_up(local, here).pid
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if children.exists():
        assert children.read_text() == ""
    program = Program()
    program.syscall(nr["dup"], 0)
    first = caller.run(program)[0].ret
    assert caller.run(program)[0].ret == first + 1  # and no descriptor
    local.restart(here)


# The battery's items, on a kernel that shows another call than the one that was made.


class Liar:
    """A caller whose answers are changed on their way."""

    def __init__(self, caller: Caller, lie: str) -> None:
        self._caller = caller
        self._lie = lie

    def __getattr__(self, name: str) -> object:
        return getattr(self._caller, name)

    def watched(self, payload: bytes) -> Watched:
        seen = self._caller.watched(payload)
        if not seen.stops:
            # A filter: as if it had seen a number without, or with, bit 30.
            return dataclasses.replace(seen, ret=3) if self._lie == "filter" else seen
        entry, leave = seen.stops
        match self._lie:
            case "arch":
                entry = dataclasses.replace(entry, arch=entry.arch ^ X86_64 ^ I386)
            case "number":
                entry = dataclasses.replace(entry, number=entry.number ^ 1 << 30)
            case "argument":
                entry = dataclasses.replace(entry, args=(*entry.args[:5], 0))
            case "result":
                leave = dataclasses.replace(leave, ret=0)
            case "is_error":
                leave = dataclasses.replace(leave, is_error=not leave.is_error)
            case "stops":
                return dataclasses.replace(seen, stops=(entry, entry, leave))
        return dataclasses.replace(seen, stops=(entry, leave))


LIES = ("filter", "arch", "number", "argument", "result", "is_error", "stops")


class Lied(Interface):
    """An interface with such a caller."""

    lie = ""

    @property
    def caller(self) -> Caller:
        return Liar(super().caller, self.lie)  # type: ignore[return-value]


@pytest.fixture(name="compiler", scope="module")
def _compiler(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    where = tmp_path_factory.mktemp("outside") / "include"
    return Compiler(headers=fakexyzzy.headers(where, xyzzy.CONTRACT))


def answer(kernel: FakeKernel) -> None:
    """NULL is a fault, all else is fine: enough for what the items ask."""
    kernel.answer = lambda call: 9 if call.args[0] else -errno.EFAULT


def test_the_items_pass_where_nothing_is_hidden(
    local: Target, here: ABI, compiler: Compiler
) -> None:
    with fake_kernel(local, here) as kernel:
        answer(kernel)
        interface = Interface(xyzzy.CONTRACT, here, compiler=compiler, target=local)
        for item in ITEMS:
            item.run(interface, Level())
    assert len(ITEMS) == 2


@pytest.mark.parametrize("lie", LIES)
def test_each_lie_is_found(local: Target, here: ABI, compiler: Compiler, lie: str) -> None:
    with fake_kernel(local, here) as kernel:
        answer(kernel)
        interface = Lied(xyzzy.CONTRACT, here, compiler=compiler, target=local)
        interface.lie = lie
        (item,) = [one for one in ITEMS if ("filter" in one.name) is (lie == "filter")]
        with pytest.raises(ContractBrokenError, match="is shown as another call"):
            item.run(interface, Level())


def test_a_filter_on_a_call_that_ignores_it_is_found(
    local: Target, here: ABI, compiler: Compiler
) -> None:
    """The call gives an errno of its own, whatever the filter says of other calls."""
    with fake_kernel(local, here) as kernel:
        kernel.answer = lambda call: -errno.EPERM
        interface = Interface(xyzzy.CONTRACT, here, compiler=compiler, target=local)
        with pytest.raises(ContractBrokenError, match="it lets the call go: success"):
            ITEMS[0].run(interface, Level())


# Tracepoints.

FORMAT = """\
name: sys_enter_sample
ID: 459
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;
\tfield:const char * name;\toffset:16;\tsize:8;\tsigned:0;
\tfield:struct sample_params *uparams;\toffset:24;\tsize:8;\tsigned:0;
\tfield:unsigned int flags;\toffset:32;\tsize:8;\tsigned:0;

print fmt: "uparams: 0x%08lx", ((unsigned long)(REC->uparams))
"""


def test_the_fields_of_an_event() -> None:
    number, name, params, flags = outside.trace_fields(FORMAT)
    assert (number.name, number.type, number.offset, number.size) == ("__syscall_nr", "int", 8, 4)
    assert (name.name, name.type) == ("name", "const char *")
    assert (params.name, params.type, params.offset) == ("uparams", "struct sample_params *", 24)
    assert str(flags) == "unsigned int flags at 32, 8 bytes"
    assert outside.trace_fields("") == ()


TRACE = """\
      caller-m64-38      [000] .....     7.419446: sys_sample(uparams: 60011000, flags: 0)
      caller-m64-38      [000] .....     7.420296: sys_sample -> 0x5
CPU:0 [LOST 3 EVENTS]
      caller-41  [001] d....  7.668524: sys_sample(uparams: ffff888000000000, flags: 80000000)
           caller-41      [001] .....     7.669023: sys_sample -> 0xfffffffffffffff2
            a: b-7       [001] .....     8.669023: sys_other()
"""


def test_what_a_trace_shows() -> None:
    seen = outside.traced(TRACE)
    assert [one.args for one in seen] == [
        *((0x60011000, 0), None),
        *((0xFFFF_8880_0000_0000, 1 << 31), None),
        (),
    ]
    assert [one.ret for one in seen] == [None, 5, None, (1 << 64) - 14, None]
    assert {one.call for one in seen} == {"sample", "other"}
    assert str(seen[0]) == "sample(0x60011000, 0x0)"
    assert str(seen[3]) == "sample -> 0xfffffffffffffff2"


FIELDS = """
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;
\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;
\tfield:struct xyzzy_params * uparams;\toffset:16;\tsize:8;\tsigned:0;
\tfield:unsigned int flags;\toffset:24;\tsize:8;\tsigned:0;
"""


class Tracefs:
    """A target whose tracefs is a test's own: what it shows is made of what was called."""

    guest = True

    def __init__(self, target: Target, **fault: str) -> None:
        self.target = target
        self.fault = fault
        self.trace = ""
        self.enabled: dict[str, bytes] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(self.target, name)

    def read_file(self, path: str) -> bytes:
        name = path.removeprefix(outside.TRACING + "/")
        if name == "trace_pipe":
            shown, self.trace = self.trace, ""
            return shown.encode()
        files = {
            "events/syscalls/enable": "0",
            "events/syscalls/sys_enter_xyzzy/format": self.fault.get("fields", FIELDS),
            "events/syscalls/sys_exit_xyzzy/format": FIELDS,
        }
        text = "" if name == self.fault.get("absent") else files[name]
        if not text:
            raise RefusedError("READ", wire.pack("wire_refusal", code=7, value=errno.ENOENT))
        return text.encode()

    def write_file(self, path: str, data: bytes) -> None:
        self.enabled[path] = data


class Shown(Interface):
    """Its calls are traced as x86 does it, but for a fault."""

    @property
    def caller(self) -> Caller:
        tracefs, plain = cast("Tracefs", self.target), super().caller

        class Watching(Caller):
            def watched(self, payload: bytes) -> Watched:
                seen = plain.watched(payload)
                # The number of the call and its entry are where wire_op has them.
                entry, number = struct.unpack_from("<4xIQ", payload)
                table = number == fakekernel.NUMBER and not entry
                if set(tracefs.enabled.values()) == {b"1"} and (table or "compat" in tracefs.fault):
                    line = "task-7 [000] ..... 1.0: sys_xyzzy"
                    args = (seen.args[0] ^ ("argument" in tracefs.fault), seen.args[1])
                    ret = seen.ret % (1 << 64) ^ ("result" in tracefs.fault)
                    tracefs.trace += f"{line}(uparams: {args[0]:x}, flags: {args[1]:x})\n"
                    if "exit" not in tracefs.fault:
                        tracefs.trace += f"{line} -> {ret:#x}\n"
                return seen

        return Watching(plain._target, self.abi)


SWAPPED = FIELDS.replace("struct xyzzy_params * uparams", "unsigned int flags", 1)
FAULTS = {
    "absent": "events/syscalls/sys_enter_xyzzy/format",
    "no exit": "events/syscalls/sys_exit_xyzzy/format",
    "fields": SWAPPED,
    "fewer": "\n".join(FIELDS.splitlines()[:-1]),
    "moved": FIELDS.replace("offset:16", "offset:20"),
    **dict.fromkeys(("compat", "argument", "result", "exit"), ""),
}


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_a_fault_of_the_tracepoints_is_found(
    local: Target, compiler: Compiler, fault: str | None
) -> None:
    here = abi("m64")  # it has all ways into the kernel
    names = {"no exit": "absent", "fewer": "fields", "moved": "fields"}
    faults = {} if fault is None else {names.get(fault, fault): FAULTS[fault]}
    with fake_kernel(local, here) as kernel:
        answer(kernel)
        tracefs = cast("Target", Tracefs(local, **faults))
        interface = Shown(xyzzy.CONTRACT, here, compiler=compiler, target=tracefs)
        if fault is None:
            TRACEPOINTS.run(interface, Level())
        else:
            with pytest.raises(ContractBrokenError, match="is shown as another call"):
                TRACEPOINTS.run(interface, Level())
    switched = cast("Tracefs", tracefs).enabled.values()
    assert set(switched) <= {b"0"}, "they are left on"
