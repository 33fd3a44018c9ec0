# SPDX-License-Identifier: GPL-2.0-only
"""The caller and the agent at work on this machine's own kernel, in each ABI that it runs.

EXTSYS_FUZZ_FRAMES sets how many malformed frames the agent and each caller get;
a million take about two minutes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fakekernel
import fuzz
import hosttarget
import pytest
from fakekernel import Called, FakeKernel

from harness import target as targets
from harness import wire
from harness.abi import ABI, ABIS, abi
from harness.caller import build
from harness.caller.build import Programs
from harness.channel import CallerGoneError, RefusedError
from harness.program import (
    AREA_BYTES,
    ARENA,
    SCRATCH,
    Area,
    Entry,
    Program,
    Result,
    Who,
    at,
)
from harness.target import Executed, Target
from harness.wire import lib
from vm import proc
from vm.errors import GuestError, Verdict

U64 = (1 << 64) - 1
M64 = abi("m64")
AREAS = pytest.mark.parametrize("area", [ARENA, SCRATCH], ids=["arena", "scratch"])


def run(target: Target, here: ABI, program: Program, *, deadline_ms: int = 2000) -> list[Result]:
    return target.caller(here).run(program, deadline_ms=deadline_ms)


def pid_of(target: Target, here: ABI) -> int:
    program = Program()
    program.syscall(hosttarget.numbers(here)["getpid"])
    return run(target, here, program)[0].ret


def ended(pid: int, seconds: float = 5.0) -> bool:
    """Whether a process ends within that time.  A zombie has ended."""
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        time.sleep(0.01)
    return False


# What runs.


@pytest.mark.parametrize("one", ABIS, ids=lambda one: one.name)
def test_an_abi_that_the_kernel_does_not_run_is_refused_by_name(local: Target, one: ABI) -> None:
    refused = hosttarget.refusal(one)
    if not refused:
        assert local.runs(one) is None
        return
    assert refused == errno.ENOEXEC
    assert local.runs(one) == (
        f"this kernel does not run {one.name} programs (START: {os.strerror(refused)})"
    )
    with pytest.raises(RefusedError) as caught:
        local.caller(one)
    assert caught.value.errno == errno.ENOEXEC


def test_a_caller_that_is_not_there(programs: Programs, tmp_path: Path) -> None:
    missing = {M64: tmp_path / "no-such-file"}
    with targets.local(programs.agent, missing) as target, pytest.raises(RefusedError) as caught:
        target.caller(M64)
    assert caught.value.errno == errno.ENOENT


def test_what_the_agent_says_of_this_machine(local: Target) -> None:
    said = local.hello
    assert said.version == lib.WIRE_VERSION
    assert said.cpus == os.sysconf("SC_NPROCESSORS_ONLN")
    assert said.page_size == os.sysconf("SC_PAGESIZE")
    assert said.release == os.uname().release


# Programs.


def test_a_call_and_its_result(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)
    program = Program()
    program.syscall(nr["getpid"])
    program.syscall(nr["getppid"])
    program.syscall(nr["close"], 1 << 20)
    before = local.calls
    pid, parent, refused = run(local, here, program)
    assert Path(f"/proc/{pid.ret}/exe").readlink().name == f"caller-{here.name}"
    assert Path(f"/proc/{parent.ret}/exe").readlink().name == "agent"
    assert refused.errno == errno.EBADF
    assert local.calls - before == 3


def test_a_process_that_a_call_makes_ends_at_once(local: Target, here: ABI) -> None:
    """The child of a clone3() with SIGCHLD; a call that only returns zero ends nobody."""
    nr = hosttarget.numbers(here)
    program = Program()
    program.reset()
    program.write(ARENA, 0, bytes(32) + (17).to_bytes(8, "little") + bytes(24))
    made = program.syscall(nr["clone3"], at(ARENA), 64)
    waited = program.syscall(nr["waitid"], 1, made, at(ARENA, 4096), 4 | 0x40000000, 0)
    told = program.read(ARENA, 4096, 128)
    results = run(local, here, program)
    assert results[made.index].ret > 0
    assert results[waited.index].ret == 0
    assert results[told.index].data[8:12] == (1).to_bytes(4, "little")  # CLD_EXITED
    assert pid_of(local, here) > 0


def test_areas_are_where_the_host_says(local: Target, here: ABI) -> None:
    """mmap(2) at an area's address, not to replace anything: it is taken, to the byte."""
    nr = hosttarget.numbers(here)
    mmap = nr["mmap"]
    anonymous_at_most = 0x100022  # MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
    program = Program()
    tried = [
        program.syscall(mmap, place, 4096, 0, anonymous_at_most, U64, 0)
        for at_ in (lib.WIRE_ARENA_AT, lib.WIRE_SCRATCH_AT)
        for place in (at_, at_ + AREA_BYTES, at_ - 4096)
    ]
    results = run(local, here, program)
    assert [results[one.index].errno for one in tried] == [errno.EEXIST] * 6


def test_an_empty_program(local: Target, here: ABI) -> None:
    assert run(local, here, Program()) == []


@AREAS
def test_memory_is_written_filled_read_and_reset(local: Target, here: ABI, area: Area) -> None:
    other = SCRATCH if area is ARENA else ARENA
    program = Program()
    program.reset()
    program.write(area, 3, b"hello")
    program.fill(area, 8, 4, 0xA5)
    shown = program.read(area, 0, 16)
    elsewhere = program.read(other, 0, 16)
    program.write(area, AREA_BYTES - 1, b"z")
    whole = program.read(area, 0, AREA_BYTES)
    program.reset()
    after = program.read(area, 0, AREA_BYTES)
    results = run(local, here, program)
    assert results[shown.index].data == b"\0\0\0hello\xa5\xa5\xa5\xa5\0\0\0\0"
    assert results[elsewhere.index].data == b"\0" * 16
    assert (
        results[whole.index].data == results[shown.index].data.ljust(AREA_BYTES - 1, b"\0") + b"z"
    )
    assert results[after.index].data == b"\0" * AREA_BYTES


@AREAS
def test_a_later_reset_clears_what_a_call_has_written(local: Target, here: ABI, area: Area) -> None:
    """By itself, across pages, and up to the area's end."""
    nr = hosttarget.numbers(here)
    for offset, length in ((5000, 8), (4095, 9000), (AREA_BYTES - 20000, 20000)):
        program = Program()
        program.reset()
        file = program.syscall(nr["memfd_create"], at(SCRATCH, 64), 0)
        program.fill(area, 0, AREA_BYTES, 0xA5)
        program.syscall(nr["write"], file, at(area), AREA_BYTES)
        program.reset()
        got = program.syscall(nr["pread64"], file, at(area, offset), length, 0, 0)
        program.reset()
        shown = program.read(area, 0, AREA_BYTES)
        program.syscall(nr["close"], file)
        results = run(local, here, program)
        assert results[got.index].ret == length
        assert results[shown.index].data == b"\0" * AREA_BYTES, (offset, length)


@AREAS
def test_a_later_reset_maps_anew_what_a_call_has_changed(
    local: Target, here: ABI, area: Area
) -> None:
    """A protection, and a file in the place of the memory, which keeps what it has."""
    nr = hosttarget.numbers(here)
    shared_fixed, read_write = 0x11, 0x3
    program = Program()
    program.reset()
    program.write(area, 0, b"hello")
    program.syscall(nr["mprotect"], at(area), AREA_BYTES, 1)
    program.reset()
    written = program.write(area, 1, b"writable")
    shown = program.read(area, 0, 12)
    file = program.syscall(nr["memfd_create"], at(SCRATCH if area is ARENA else ARENA, 64), 0)
    program.syscall(nr["ftruncate"], file, AREA_BYTES)
    mapped = program.syscall(nr["mmap"], at(area), AREA_BYTES, read_write, shared_fixed, file, 0)
    program.write(area, 0, b"in the file")
    program.reset()
    program.write(area, 0, b"not in it..")
    program.syscall(nr["pread64"], file, at(area, 100), 11, 0, 0)
    kept = program.read(area, 100, 11)
    results = run(local, here, program)
    assert results[written.index].signal == 0
    assert results[shown.index].data == b"\0writable\0\0\0"
    assert results[mapped.index].errno == 0
    assert results[kept.index].data == b"in the file"


def test_memory_stays_between_programs(local: Target, here: ABI) -> None:
    first, second = Program(), Program()
    first.write(ARENA, 5, b"kept")
    second.read(ARENA, 5, 4)
    run(local, here, first)
    assert run(local, here, second)[0].data == b"kept"


@AREAS
def test_an_area_lies_between_inaccessible_pages(local: Target, here: ABI, area: Area) -> None:
    """write(2) reads its buffer as any call of an interface under test would."""
    nr = hosttarget.numbers(here)
    outside = {-1: 1, -4096: 1, AREA_BYTES: 1, AREA_BYTES + 4095: 1}
    inside = {0: 1, AREA_BYTES - 1: 1, 0x1234: 8}
    program = Program()
    program.reset()
    file = program.syscall(nr["memfd_create"], at(SCRATCH, 64), 0)
    calls = {
        offset: program.syscall(nr["write"], file, at(area, offset), length)
        for offset, length in {**outside, **inside}.items()
    }
    program.syscall(nr["close"], file)
    results = run(local, here, program)
    assert {o: results[calls[o].index].errno for o in outside} == dict.fromkeys(
        outside, errno.EFAULT
    )
    assert {o: results[calls[o].index].ret for o in inside} == inside


@pytest.mark.parametrize(
    ("offset", "length"),
    [(AREA_BYTES, 1), (AREA_BYTES - 1, 2), (0, AREA_BYTES + 1), (-1, 1), (U64, 2), (1 << 32, 1)],
)
def test_memory_outside_the_area_is_refused_unexecuted(
    local: Target, here: ABI, offset: int, length: int
) -> None:
    for operation in ("read", "fill", "write"):
        program = Program()
        program.write(ARENA, 0, b"changed")
        if operation == "read":
            program.read(ARENA, offset, length)
        elif operation == "fill":
            program.fill(ARENA, offset, length, 1)
        else:
            program.write(ARENA, offset, b"x" * min(length, AREA_BYTES + 1))
        clean, look = Program(), Program()
        clean.reset()
        look.read(ARENA, 0, 7)
        run(local, here, clean)
        with pytest.raises(RefusedError, match=r"PROGRAM: refused: RANGE \(1\)"):
            run(local, here, program)
        assert run(local, here, look)[0].data == b"\0" * 7, operation


def test_an_answer_that_would_be_too_long_is_refused(local: Target, here: ABI) -> None:
    program = Program()
    for _ in range(4):
        program.read(ARENA, 0, AREA_BYTES)
    with pytest.raises(RefusedError, match=r"PROGRAM: refused: LENGTH \(3\)"):
        run(local, here, program)


def status_of(results: list[Result], index: int) -> dict[str, str]:
    """A /proc/PID/status that a program read."""
    text = results[index].data.rstrip(b"\0").decode()
    return {
        name: value.strip() for name, _, value in (ln.partition(":") for ln in text.splitlines())
    }


def look_at_oneself(here: ABI, program: Program) -> int:
    """Have a program read its own status; the index of the result."""
    nr = hosttarget.numbers(here)
    program.reset()
    program.write(ARENA, 0, b"/proc/self/status\0")
    at_cwd = (1 << 64) - 100
    file = program.syscall(nr["openat"], at_cwd, at(ARENA), 0, 0)
    program.syscall(nr["read"], file, at(SCRATCH), 4096)
    return program.read(SCRATCH, 0, 4096).index


def test_a_child_takes_an_identity(local: Target, here: ABI) -> None:
    """And answers; the caller stays who it is."""
    nr = hosttarget.numbers(here)
    mine = pid_of(local, here)
    capability = 1 << 5  # CAP_KILL
    plain = Program()
    before = look_at_oneself(here, plain)
    held = int(status_of(run(local, here, plain), before)["CapEff"], 16)
    for who, wanted in (
        (Who(), held),
        (Who(effective=U64 & ~capability), held & ~capability),
        (Who(effective=U64 & ~capability, permitted=U64 & ~capability), held & ~capability),
        (Who(effective=0, permitted=0, uid=65534), 0),
    ):
        program = Program()
        earlier = program.syscall(nr["getppid"])
        program.become(who)
        child = program.syscall(nr["getpid"])
        parent = program.syscall(nr["getppid"])
        shown = look_at_oneself(here, program)
        try:
            results = run(local, here, program)
        except RefusedError as exc:
            if exc.errno != errno.EPERM or not os.geteuid():
                raise
            continue  # who is not root becomes nobody else
        assert results[child.index].ret != mine
        assert results[parent.index].ret == mine
        assert results[earlier.index].ret not in (mine, results[child.index].ret)
        status = status_of(results, shown)
        assert int(status["CapEff"], 16) == wanted
        assert int(status["CapPrm"], 16) == held & who.permitted
        if who.uid is not None:
            assert status["Uid"].split() == status["Gid"].split() == [str(who.uid)] * 4
            assert not status["Groups"]
    assert pid_of(local, here) == mine
    again = Program()
    after = look_at_oneself(here, again)
    assert int(status_of(run(local, here, again), after)["CapEff"], 16) == held


def test_what_an_identity_cannot_have_is_refused(local: Target, here: ABI) -> None:
    """With the errno; nothing of the program behind it is done."""
    missing = 1 << 63  # no capability has that number
    program = Program()
    program.reset()
    program.become(Who(required=missing))
    program.write(ARENA, 0, b"changed")
    with pytest.raises(RefusedError) as caught:
        run(local, here, program)
    assert caught.value.errno == errno.EPERM
    look = Program()
    look.read(ARENA, 0, 7)
    assert run(local, here, look)[0].data == bytes(7)


def test_a_child_that_dies_is_not_the_caller_s_death(local: Target, here: ABI) -> None:
    mine = pid_of(local, here)
    for code, said in ((9, "Bad file descriptor"), (0, "No child processes")):
        program = Program()
        program.become(Who())
        program.syscall(hosttarget.numbers(here)["exit_group"], code)
        with pytest.raises(RefusedError, match=said):
            run(local, here, program)
        assert pid_of(local, here) == mine


def test_a_call_that_gives_zero_does_not_end_a_child(local: Target, here: ABI) -> None:
    """Only the child of a call that makes one has nothing to do."""
    program = Program()
    program.become(Who())
    program.syscall(hosttarget.numbers(here)["prctl"], 15, at(ARENA), 0, 0, 0)  # PR_SET_NAME
    child = program.syscall(hosttarget.numbers(here)["getpid"])
    results = run(local, here, program)
    assert results[child.index].ret > 0


def test_one_identity_to_a_program(local: Target, here: ABI) -> None:
    program = Program()
    program.become(Who())
    program.become(Who())
    with pytest.raises(RefusedError) as caught:
        run(local, here, program)
    assert (caught.value.code, caught.value.value) == (lib.WIRE_E_SHAPE, 1)


def test_peers_are_there_while_the_program_runs(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)
    program = Program()
    alive, ended = program.peer(Who()), program.peer(Who(ended=True))
    tried = [program.syscall(nr["kill"], one, 0) for one in (alive, ended)]
    results = run(local, here, program)
    assert results[alive.index].ret > 0
    assert results[alive.index].ret != pid_of(local, here)
    assert [results[one.index].errno for one in tried] == [0, errno.ESRCH]
    later = Program()
    later.syscall(nr["kill"], results[alive.index].ret, 0)
    assert run(local, here, later)[0].errno == errno.ESRCH


def test_a_value_is_stored(local: Target, here: ABI) -> None:
    """A literal, an address, what a call returned; in as many bytes as asked for."""
    where = hosttarget.look_up(local, here)
    program = Program()
    program.reset()
    program.fill(ARENA, 0, 40, 0xA5)
    mine = program.syscall(hosttarget.numbers(here)["getpid"])
    bad = program.syscall(hosttarget.numbers(here)["close"], 1 << 20)
    program.store(ARENA, 0, 0x1122334455667788, width=8)
    program.store(ARENA, 9, 0x1122334455667788, width=3, plus=1)
    program.store(ARENA, 16, at(SCRATCH, 5), width=8)
    program.store(ARENA, 24, mine, width=8, plus=1 << 32)
    skipped = program.store(ARENA, 32, bad, width=8)
    shown = program.read(ARENA, 0, 40)
    results = run(local, here, program)
    data = results[shown.index].data
    assert data[:16] == bytes.fromhex("8877665544332211 a5 897766 a5a5a5a5")
    assert int.from_bytes(data[16:24], "little") == where.scratch + 5
    assert int.from_bytes(data[24:32], "little") == where.pid + (1 << 32)
    assert results[skipped.index].skipped
    assert data[32:] == b"\xa5" * 8
    for width in (0, 9):
        wrong = Program()
        wrong.store(ARENA, 0, 1, width=width)
        with pytest.raises(RefusedError):
            run(local, here, wrong)


def test_the_longest_program(local: Target, here: ABI) -> None:
    program = Program()
    for _ in range(lib.WIRE_MAX_OPS):
        program.syscall(hosttarget.numbers(here)["getpid"])
    results = run(local, here, program)
    assert len({one.ret for one in results}) == 1
    program.reset()
    with pytest.raises(RefusedError, match="SHAPE"):
        run(local, here, program)


# Results as arguments.


def test_a_result_is_an_argument_of_a_later_call(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)
    program = Program()
    program.reset()
    program.write(ARENA, 0, b"through a file")
    file = program.syscall(nr["memfd_create"], at(SCRATCH), 0)
    wrote = program.syscall(nr["write"], file, at(ARENA), 14)
    program.syscall(nr["lseek"], file, 8, os.SEEK_SET)
    got = program.syscall(nr["read"], file, at(SCRATCH, 100), wrote)
    shown = program.read(SCRATCH, 100, 10)
    closed = program.syscall(nr["close"], file)
    results = run(local, here, program)
    assert [results[one.index].ret for one in (wrote, got, closed)] == [14, 6, 0]
    assert results[shown.index].data == b"a file\0\0\0\0"


def test_what_needs_a_failed_result_is_skipped(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)
    program = Program()
    file = program.syscall(nr["memfd_create"], 0, 0)  # EFAULT
    copy = program.syscall(nr["dup"], file)
    second = program.syscall(nr["close"], copy)
    other = program.syscall(nr["getpid"])
    results = run(local, here, program)
    assert results[file.index].errno == errno.EFAULT
    assert [one.skipped for one in results] == [False, True, True, False]
    assert [results[one.index].ret for one in (copy, second)] == [0, 0]
    assert results[other.index].ret > 0


def test_a_result_that_is_not_there_yet_is_refused(local: Target, here: ABI) -> None:
    from harness.program import ResultOf

    for index in (0, 1, 2000):
        program = Program()
        program.syscall(hosttarget.numbers(here)["close"], ResultOf(index))
        with pytest.raises(RefusedError, match="RANGE"):
            run(local, here, program)


# Registers.


@pytest.fixture(name="fake")
def _fake(local: Target, here: ABI) -> Iterator[FakeKernel]:
    with fakekernel.fake_kernel(local, here) as kernel:
        yield kernel


AUDIT_ARCH = {64: 0xC000003E, 32: 0x40000003}  # x86_64, i386
GARBAGE = tuple(0xA1B2C3D4_00112233 + index * 0x01010101_01010101 for index in range(6))


def registers(fake: FakeKernel, *args: int, entry: Entry = Entry.NATIVE) -> list[Called]:
    """What the kernel sees of a call with these argument registers."""
    seen: list[Called] = []

    def answer(call: Called) -> int:
        seen.append(call)
        return 0

    fake.answer = answer
    program = Program()
    nr = fakekernel.NUMBER if entry is Entry.INT80 else fakekernel.number(fake.abi)
    program.syscall(nr, *args, entry=entry)
    run(fake.target, fake.abi, program)
    return seen


def test_every_register_reaches_the_kernel_whole(fake: FakeKernel) -> None:
    (call,) = registers(fake, *GARBAGE)
    mask = (1 << fake.abi.register) - 1
    assert call.args == tuple(value & mask for value in GARBAGE)
    assert call.arch == AUDIT_ARCH[fake.abi.register]
    assert call.number == fakekernel.number(fake.abi)


@pytest.mark.parametrize("value", [0, 1, 0x7FF, 0x8000_0000, 0xFFFF_FFFF, (1 << 63), U64])
def test_any_result_comes_back_whole(fake: FakeKernel, value: int) -> None:
    """All of rax as m64 and mx32; eax with its sign as m32."""
    signed = value - (1 << 64) if value >> 63 else value
    fake.answer = lambda call: signed
    program = Program()
    program.syscall(fakekernel.number(fake.abi))
    (result,) = run(fake.target, fake.abi, program)
    if fake.abi.register == 32:
        low = value & 0xFFFF_FFFF
        signed = low - (1 << 32) if low >> 31 else low
    assert result.ret == signed


def test_int_0x80_from_any_program(fake: FakeKernel) -> None:
    """i386's entry takes its own registers, and i386's table, whoever calls."""
    if hosttarget.refusal(abi("m32")):
        pytest.skip("this kernel has no IA32 emulation: int 0x80 is SIGSEGV or ENOSYS")
    (call,) = registers(fake, *GARBAGE, entry=Entry.INT80)
    assert call.arch == AUDIT_ARCH[32]
    # Kernels differ in whether seccomp is shown the upper halves here.
    assert tuple(value & 0xFFFF_FFFF for value in call.args) == tuple(
        value & 0xFFFF_FFFF for value in GARBAGE
    )


def test_int_0x80_calls_i386_s_table(local: Target, here: ABI) -> None:
    program = Program()
    own = program.syscall(hosttarget.numbers(here)["getpid"])
    other = program.syscall(hosttarget.numbers(abi("m32"))["getpid"], entry=Entry.INT80)
    results = run(local, here, program)
    if hosttarget.refusal(abi("m32")):
        # Without IA32 emulation, compiled out or switched off at boot.
        assert results[other.index].signal == signal.SIGSEGV or (
            results[other.index].errno == errno.ENOSYS
        )
        return
    assert results[other.index].ret == results[own.index].ret


#: Of io_uring's operations, numbers as include/uapi/linux/io_uring.h has had them since v5.6.
IORING_OP_OPENAT, IORING_OP_READ, IORING_OP_NONE = 18, 22, 255
AT_FDCWD = U64 - 99


@pytest.mark.parametrize("entry", [Entry.QUEUE, Entry.WORKER])
def test_a_queued_call_and_its_completion(local: Target, here: ABI, entry: Entry) -> None:
    """Each argument lands in its member of the entry; what comes back is the completion's."""
    number = hosttarget.numbers(here)
    program = Program()
    program.reset()
    program.write(ARENA, 0, b"/dev/zero\0")
    program.fill(ARENA, 64, 16, 0xFF)
    free = program.syscall(number["dup"], 0)
    program.syscall(number["close"], free)
    none = program.syscall(IORING_OP_NONE, entry=entry)
    gone = program.syscall(IORING_OP_OPENAT, AT_FDCWD, 0, at(ARENA, 1), 0, os.O_RDWR, entry=entry)
    file = program.syscall(IORING_OP_OPENAT, AT_FDCWD, 0, at(ARENA), 0, os.O_RDWR, entry=entry)
    got = program.syscall(IORING_OP_READ, file, 1 << 40, at(ARENA, 64), 8, entry=entry)
    slot = program.syscall(IORING_OP_OPENAT, AT_FDCWD, 0, at(ARENA), 0, os.O_RDWR, 1, entry=entry)
    shown = program.read(ARENA, 64, 16)
    program.syscall(number["close"], file)
    results = run(local, here, program)
    if results[none.index].errno in (errno.ENOSYS, errno.EPERM):
        pytest.skip(f"io_uring is refused here: {os.strerror(results[none.index].errno)}")
    assert results[none.index].errno == errno.EINVAL
    assert results[gone.index].errno == errno.ENOENT  # "dev/zero", seen from the agent's directory
    # The ring takes no descriptor that a test of descriptors would meet.
    assert results[file.index].ret == results[free.index].ret
    assert results[got.index].ret == 8
    assert results[shown.index].data == bytes(8) + b"\xff" * 8
    assert results[slot.index].errno == errno.ENXIO  # the ring has no table of files


def test_a_queued_call_is_a_child_s_too(local: Target, here: ABI) -> None:
    """A ring that was made before is inherited by whoever becomes another."""
    program = Program()
    program.become(Who())
    call = program.syscall(IORING_OP_NONE, entry=Entry.QUEUE)
    assert run(local, here, program)[call.index].errno in (errno.EINVAL, errno.ENOSYS, errno.EPERM)


def test_an_opcode_is_a_byte(local: Target, here: ABI) -> None:
    program = Program()
    program.syscall(256, entry=Entry.QUEUE)
    with pytest.raises(RefusedError) as caught:
        run(local, here, program)
    assert caught.value.code == lib.WIRE_E_RANGE


def test_the_upper_half_of_an_argument_counts_where_there_is_one(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)
    offset = 0x1_0000_0005
    program = Program()
    program.reset()
    file = program.syscall(nr["memfd_create"], at(SCRATCH), 0)
    moved = program.syscall(nr["lseek"], file, offset, os.SEEK_SET)
    program.syscall(nr["close"], file)
    results = run(local, here, program)
    assert results[moved.index].ret == (offset if here.register == 64 else 5)


def test_the_upper_half_of_the_number(local: Target, here: ABI) -> None:
    """Truncated since v5.12; before that, no such call.  A 32-bit program has none."""
    nr = hosttarget.numbers(here)["getpid"]
    program = Program()
    plain = program.syscall(nr)
    garbage = program.syscall(nr | 0xDEAD_BEEF << 32)
    results = run(local, here, program)
    if results[garbage.index].errno:
        assert here.register == 64
        assert results[garbage.index].errno == errno.ENOSYS
    else:
        assert results[garbage.index].ret == results[plain.index].ret


# Signals.


def test_a_fault_in_a_memory_operation_is_reported_and_survived(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)
    program = Program()
    program.reset()
    program.write(ARENA, 0, b"before")
    # PROT_NONE over the first page only.
    program.syscall(nr["mmap"], at(ARENA), 4096, 0, hosttarget.MAP_PRIVATE_FIXED_ANONYMOUS, U64, 0)
    faults = [
        program.read(ARENA, 0, 6),
        program.write(ARENA, 4095, b"ab"),
        program.fill(ARENA, 4000, 200, 7),
        program.read(ARENA, 4090, 100),
    ]
    fine = program.read(ARENA, 4096, 4)
    program.reset()
    healed = program.read(ARENA, 0, 6)
    results = run(local, here, program)
    assert [results[one.index].signal for one in faults] == [signal.SIGSEGV] * 4
    assert [results[one.index].data for one in faults] == [b""] * 4
    assert results[fine.index].signal == 0
    assert results[healed.index].data == b"\0" * 6
    assert pid_of(local, here)


def test_a_mapping_past_its_file_s_end_is_sigbus(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)
    program = Program()
    program.reset()
    file = program.syscall(nr["memfd_create"], at(SCRATCH), 0)
    shared_fixed = 0x11
    mapped = program.syscall(
        nr["mmap"], at(ARENA), 4096, hosttarget.PROT_READ_WRITE, shared_fixed, file, 0
    )
    fault = program.read(ARENA, 0, 1)
    program.syscall(nr["close"], file)
    program.reset()
    results = run(local, here, program)
    assert not results[mapped.index].errno
    assert results[fault.index].signal == signal.SIGBUS


def test_a_signal_of_a_fault_sent_by_a_call_is_reported(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)
    program = Program()
    pid = program.syscall(nr["getpid"])
    killed = [
        program.syscall(nr["kill"], pid, number)
        for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
    ]
    last = program.syscall(nr["getpid"])
    results = run(local, here, program)
    assert [results[one.index].signal for one in killed] == [11, 7, 4, 8]
    assert results[last.index].ret == results[pid.index].ret


def test_seccomp_s_sigsys_is_reported_and_survived(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)
    pid = pid_of(local, here)
    try:
        fakekernel.install(local, here, wanted=nr["getppid"], action=fakekernel.SECCOMP_RET_TRAP)
        program = Program()
        trapped = program.syscall(nr["getppid"])
        skipped = program.syscall(nr["close"], trapped)
        fine = program.syscall(nr["getpid"])
        again = program.syscall(nr["getppid"])
        results = run(local, here, program)
    finally:
        local.restart(here)
    assert int(signal.SIGSYS) == 31
    assert results[trapped.index].signal == 31
    assert results[trapped.index].ret == 0
    assert results[skipped.index].skipped
    assert results[fine.index].ret == pid
    assert results[again.index].signal == 31
    assert pid_of(local, here) != pid


# Deadlines.


def test_a_call_that_blocks_ends_by_the_caller_s_own_deadline(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)
    program = Program()
    program.reset()
    quick = program.syscall(nr["getpid"])
    polled = program.syscall(nr["poll"], 0, 0, U64)
    program.syscall(nr["pipe2"], at(SCRATCH), 0)
    between = program.syscall(nr["getpid"])
    again = program.syscall(nr["poll"], 0, 0, U64)
    started = time.monotonic()
    results = run(local, here, program, deadline_ms=60)
    took = time.monotonic() - started
    for one in (polled, again):
        assert results[one.index].errno == errno.EINTR
        assert results[one.index].deadline
    for one in (quick, between):
        assert not results[one.index].deadline
        assert results[one.index].ret == results[quick.index].ret
    assert 0.12 <= took < 2.0
    local.restart(here)  # it has a pipe that nobody needs


def test_a_blocking_read_ends_too(local: Target, here: ABI) -> None:
    """Its descriptor is known in the caller alone: the pipe's ends are duplicated there."""
    nr = hosttarget.numbers(here)
    first, second = Program(), Program()
    first.syscall(nr["pipe2"], at(SCRATCH), 0)
    ends = first.read(SCRATCH, 0, 8)
    raw = run(local, here, first)[ends.index].data
    reading, writing = (int.from_bytes(raw[at : at + 4], "little") for at in (0, 4))
    second.syscall(nr["read"], reading, at(SCRATCH), 1)
    second.syscall(nr["close"], reading)
    second.syscall(nr["close"], writing)
    results = run(local, here, second, deadline_ms=50)
    assert (results[0].errno, results[0].deadline) == (errno.EINTR, True)
    assert [one.ret for one in results[1:]] == [0, 0]


def test_many_calls_that_block_end_before_the_host_gives_up(local: Target, here: ABI) -> None:
    """Each that meets its deadline halves that of those behind it, down to 50 ms."""
    nr = hosttarget.numbers(here)
    program = Program()
    blocked = [program.syscall(nr["poll"], 0, 0, U64) for _ in range(20)]
    started = time.monotonic()
    results = run(local, here, program, deadline_ms=800)
    took = time.monotonic() - started
    assert all(results[one.index].deadline for one in blocked)
    assert 0.8 + 0.4 + 0.2 + 0.1 + 16 * 0.05 <= took < 20 * 0.8 / 2


def test_without_a_deadline_a_call_has_all_the_time(local: Target, here: ABI) -> None:
    program = Program()
    program.syscall(hosttarget.numbers(here)["poll"], 0, 0, 120)
    (result,) = run(local, here, program, deadline_ms=0)
    assert (result.ret, result.deadline) == (0, False)


# Death.


def test_a_caller_that_kills_itself_is_replaced_by_the_next_use(local: Target, here: ABI) -> None:
    nr = hosttarget.numbers(here)
    first = pid_of(local, here)
    program = Program()
    pid = program.syscall(nr["getpid"])
    program.syscall(nr["kill"], pid, signal.SIGKILL)
    with pytest.raises(CallerGoneError, match="died: killed by SIGKILL") as caught:
        run(local, here, program)
    assert caught.value.status == signal.SIGKILL
    second = pid_of(local, here)
    assert second != first


def test_a_caller_that_exits(local: Target, here: ABI) -> None:
    program = Program()
    program.syscall(hosttarget.numbers(here)["exit_group"], 3)
    with pytest.raises(CallerGoneError, match="died: exit code 3") as caught:
        run(local, here, program)
    assert caught.value.status == 0x300
    assert pid_of(local, here)


def test_a_caller_that_was_killed_while_it_had_nothing_to_do(local: Target, here: ABI) -> None:
    first = pid_of(local, here)
    os.kill(first, signal.SIGKILL)
    assert ended(first)
    with pytest.raises(CallerGoneError) as caught:
        pid_of(local, here)
    assert caught.value.status == signal.SIGKILL
    assert pid_of(local, here) != first


def test_restart_after_a_death_that_nobody_asked_about(local: Target, here: ABI) -> None:
    first = pid_of(local, here)
    os.kill(first, signal.SIGKILL)
    assert ended(first)
    time.sleep(0.05)  # the agent has told
    local.restart(here)
    second = pid_of(local, here)
    assert second != first
    assert pid_of(local, here) == second


def test_a_caller_that_closes_its_connection_is_ended(local: Target, here: ABI) -> None:
    pid = pid_of(local, here)
    program = Program()
    program.syscall(hosttarget.numbers(here)["close"], 3)
    with pytest.raises(CallerGoneError):
        run(local, here, program)
    assert ended(pid)


def test_restart_ends_the_one_before(local: Target, here: ABI) -> None:
    first = pid_of(local, here)
    local.restart(here)
    assert pid_of(local, here) != first
    assert ended(first)


def test_the_end_of_a_target_leaves_no_process(programs: Programs) -> None:
    with targets.local(programs.agent, programs.callers) as target:
        pids = [pid_of(target, one) for one in hosttarget.running()]
        agent = int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])
        assert Path(f"/proc/{agent}/exe").readlink().name == "agent"
    assert all(ended(pid, 2.0) for pid in [agent, *pids])


def test_an_agent_that_is_killed_is_lost_and_its_callers_end(programs: Programs) -> None:
    with targets.local(programs.agent, programs.callers) as target:
        pid = pid_of(target, M64)
        agent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(agent, signal.SIGKILL)
        with pytest.raises(GuestError) as caught:
            pid_of(target, M64)
        assert caught.value.verdict is Verdict.LOST
        assert ended(pid)


# The agent: programs.


def shell(target: Target, text: str, *, seconds: float = 5.0) -> Executed:
    return target.execute(["/bin/sh", "-c", text], seconds=seconds)


def test_a_program_s_output_and_exit_code(local: Target) -> None:
    done = shell(local, "echo out; echo err >&2; exit 3")
    assert (done.output, done.code, str(done)) == ("out\nerr\n", 3, "exit code 3")


def test_a_program_that_a_signal_ends(local: Target) -> None:
    done = shell(local, "kill -TERM $$")
    assert (done.code, done.status, str(done)) == (None, signal.SIGTERM, "killed by SIGTERM")


def test_a_program_of_many_words(local: Target) -> None:
    """Arguments arrive as they are; output longer than a frame and a pipe arrives whole."""
    words = ["", "a b", "*", "$HOME", "\N{SNOWMAN}"]
    done = local.execute(
        [sys.executable, "-c", "import sys; print(*map(ascii, sys.argv[1:]))", *words], seconds=20
    )
    assert done.output == " ".join(map(ascii, words)) + "\n"
    done = local.execute(
        [sys.executable, "-c", "print('0123456789' * 100000, flush=True); raise SystemExit(5)"],
        seconds=20,
    )
    assert done.output == "0123456789" * 100000 + "\n"
    assert done.code == 5


def test_a_program_has_nothing_of_the_agent_s(local: Target) -> None:
    """No descriptor but 0 to 2, nothing to read, no signal blocked or ignored."""
    code = """
import os, signal
print([fd for fd in range(64) if os.path.exists(f"/proc/self/fd/{fd}")])
print(os.read(0, 10))
print([int(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, [])])
print(os.getpid() == os.getsid(0))
"""
    done = local.execute([sys.executable, "-c", code], seconds=20)
    assert done.output.splitlines() == ["[0, 1, 2]", "b''", "[]", "True"]
    # Python ignores SIGPIPE by itself, grep does not.
    done = local.execute(["/bin/grep", "SigIgn", "/proc/self/status"], seconds=5)
    name, mask = done.output.split()
    # Signals 32 and 33 are libc's own: nobody can set them, and what this process
    # was started with stays: nohup(1) ignores SIGHUP, a shell's `&` the other two.
    kept = 0b11 << 31
    for one in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(one) is signal.SIG_IGN:
            kept |= 1 << one - 1
    assert (name, int(mask, 16) & ~kept) == ("SigIgn:", 0)


@pytest.mark.parametrize(
    ("path", "number"),
    [("/no/such/program", errno.ENOENT), ("/", errno.EACCES), ("/etc/passwd", errno.EACCES)],
)
def test_a_program_that_cannot_be_executed(local: Target, path: str, number: int) -> None:
    with pytest.raises(RefusedError) as caught:
        local.execute([path], seconds=5)
    assert caught.value.errno == number


def test_too_many_arguments_are_refused(local: Target) -> None:
    assert local.execute(["/bin/true", *["x"] * 62], seconds=5).code == 0
    with pytest.raises(RefusedError, match="SHAPE"):
        local.execute(["/bin/true", *["x"] * 63], seconds=5)


def printed_pid(output: str) -> int:
    return int(output.rsplit(maxsplit=1)[-1])


def test_a_program_that_hangs_is_ended_with_its_process_group(local: Target) -> None:
    started = time.monotonic()
    with pytest.raises(GuestError) as caught:
        shell(local, "echo begun; sleep 60 & echo $!; wait", seconds=0.3)
    assert time.monotonic() - started < 3.0
    assert caught.value.verdict is Verdict.HANG
    assert caught.value.console_tail[0] == "begun"
    assert ended(printed_pid(caught.value.console_tail[1]))


def test_after_a_hang_the_next_program_runs_at_once(local: Target) -> None:
    for turn in range(10):
        with pytest.raises(GuestError):
            shell(local, "sleep 60", seconds=0.02)
        assert shell(local, f"echo {turn}").output == f"{turn}\n"


def test_what_a_program_leaves_behind_is_waited_for_and_ended(local: Target) -> None:
    """A child that holds the output belongs to the program: its output is the program's."""
    done = shell(local, "(sleep 0.2; echo late) & exit 4")
    assert (done.output, done.code) == ("late\n", 4)
    with pytest.raises(GuestError) as caught:
        shell(local, "sleep 60 & echo $!; exit 0", seconds=0.3)
    assert ended(printed_pid(caught.value.console_tail[0]))


def test_a_silent_child_does_not_survive_its_program(local: Target) -> None:
    done = shell(local, "sleep 60 >/dev/null 2>&1 & echo $!")
    assert done.code == 0
    assert ended(printed_pid(done.output))


def test_a_program_that_closes_its_output_is_waited_for(local: Target) -> None:
    """Its exit code is what it says in the end, not that of being killed for its silence."""
    started = time.monotonic()
    done = shell(local, "echo only; exec >/dev/null 2>&1; sleep 0.3; exit 6")
    assert (done.output, done.code) == ("only\n", 6)
    assert time.monotonic() - started >= 0.3
    with pytest.raises(GuestError) as caught:
        shell(local, "echo $$; exec >/dev/null 2>&1; sleep 60", seconds=0.3)
    assert caught.value.verdict is Verdict.HANG
    assert ended(printed_pid(caught.value.console_tail[0]))
    assert shell(local, "echo next").output == "next\n"


def test_a_daemon_that_keeps_the_output_cannot_block_the_next_program(local: Target) -> None:
    """It has left the process group; it is out of reach, but not in the way."""
    with pytest.raises(GuestError) as caught:
        shell(local, "setsid sleep 60 & echo $!; exit 0", seconds=0.3)
    pid = printed_pid(caught.value.console_tail[0])
    try:
        assert shell(local, "echo next").output == "next\n"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_one_program_at_a_time(programs: Programs) -> None:
    with targets.local(programs.agent, {}) as target:
        argv = b"/bin/sleep\x0060\0"
        frame = wire.Frame(type=lib.WIRE_T_EXEC, channel=0, seq=9, payload=argv)
        from vm.deadline import Deadline

        target._channel.send_raw(frame.encode(), Deadline.after(5, "sending"))
        with pytest.raises(RefusedError, match="SHAPE"):
            target.execute(["/bin/true"], seconds=5)


def test_callers_work_while_a_program_runs(local: Target, here: ABI) -> None:
    """And each caller while another one blocks."""
    frames: list[int] = []

    class BusyError(Exception):
        pass

    def look(frame: wire.Frame) -> None:
        frames.append(pid_of(local, here))
        raise BusyError

    from vm.deadline import Deadline

    with pytest.raises(BusyError):
        local._channel.request(
            lib.WIRE_T_EXEC,
            b"/bin/sh\0-c\0echo on; sleep 60\0",
            deadline=Deadline.after(5, "output"),
            until=frozenset({lib.WIRE_T_EXIT}),
            on_frame=look,
        )
    assert frames
    local.ask(lib.WIRE_T_EXEC_KILL, until=lib.WIRE_T_OK)


# The agent: files.


def test_a_file_is_read(local: Target, tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (b"", b"some\0bytes\xff", os.urandom(100_000), b"x" * wire.MAX_PAYLOAD):
        path.write_bytes(data)
        assert local.read_file(str(path)) == data
    path.write_bytes(b"x" * (wire.MAX_PAYLOAD + 1))
    assert local.read_file(str(path)) == b"x" * wire.MAX_PAYLOAD
    assert local.read_file("/proc/sys/kernel/ostype") == b"Linux\n"


def test_a_file_that_cannot_be_read(local: Target, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert local.read_file(str(tmp_path / "fifo")) == b"", "and not a wait for a writer"
    for path, number in ((tmp_path / "none", errno.ENOENT), (tmp_path, errno.EISDIR)):
        with pytest.raises(RefusedError) as caught:
            local.read_file(str(path))
        assert caught.value.errno == number


def test_a_file_is_written_where_it_exists(local: Target, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    local.write_file(str(path), b"after\0\xff")
    assert path.read_bytes() == b"after\0\xff"
    local.write_file(str(path), b"")
    for name, number in (
        (str(tmp_path / "none"), errno.ENOENT),
        (str(tmp_path), errno.EISDIR),
        ("/dev/full", errno.ENOSPC),
    ):
        with pytest.raises(RefusedError) as caught:
            local.write_file(name, b"data")
        assert caught.value.errno == number
    assert not (tmp_path / "none").exists()


def test_the_kernel_s_log(local: Target) -> None:
    """As this process may read it, or not, its child does."""
    try:
        os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        with pytest.raises(RefusedError) as caught:
            local.dmesg()
        assert caught.value.errno == errno.EPERM
    else:
        assert "Linux version" in local.dmesg() or local.dmesg().startswith("<")


# Malformed frames.

#: How many, to the agent and to the callers each.
MALFORMED = int(os.environ.get("EXTSYS_FUZZ_FRAMES", "1000000"))
#: The part of them that is in mixed batches; those that are damaged and still valid come on top.
MIXED = MALFORMED // 20
#: Programs with sanitizers are slower, and the same: they get every so many batches.
SANITIZED_EVERY = 8
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Receiver:
    """The agent or a caller, on a socket of its own."""

    name: str
    process: subprocess.Popen[bytes]
    sock: socket.socket


@contextlib.contextmanager
def receiver(path: Path) -> Iterator[Receiver]:
    ours, theirs = socket.socketpair()
    with ours:
        process = subprocess.Popen(
            [str(path), str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
        theirs.close()
        try:
            yield Receiver(name=str(path), process=process, sock=ours)
            ours.close()
            assert process.wait(timeout=10) == 0, "it does not end with its connection"
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The agent and the callers with address and undefined-behaviour sanitizers.

    Where the compiler has their libraries; gcc's own package brings them.
    """
    where = tmp_path_factory.mktemp("sanitized")
    found = {}
    wanted: list[tuple[str, ABI, tuple[str, ...]]] = [("agent", M64, build.AGENT_SOURCES)]
    wanted += [(f"caller-{one.name}", one, build.CALLER_SOURCES) for one in hosttarget.running()]
    for name, one, sources in wanted:
        argv = [*hosttarget.COMPILER.argv(one), *SANITIZE]
        argv += [*(str(build.HERE / source) for source in sources), "-o", str(where / name)]
        done = proc.run(argv, timeout=120, check=False)
        if not done.code:
            found[name] = where / name
    assert {"agent", "caller-m64"} <= set(found), "gcc cannot build with these sanitizers"
    return found


def fuzz_all(rules: fuzz.Rules, receivers: list[Receiver], checked: list[Receiver]) -> None:
    """Every answer is the one that the rules foretell, and nothing ends or hangs."""
    for number, made in enumerate(fuzz.batches(rules, seed=1, malformed=MIXED)):
        for one in (*receivers, *(checked if number % SANITIZED_EVERY == 0 else [])):
            got = fuzz.exchange(one.sock, made, seconds=60)
            for mine, foretold in zip(got, made.answers, strict=False):
                assert mine == foretold, f"{one.name}, batch {number}"
            assert len(got) == len(made.answers), f"{one.name}, batch {number}"
            assert one.process.poll() is None, one.name
    # One source, built for each ABI: each receiver has its share of these.
    plain = fuzz.plain_batches(rules, seed=2, count=MALFORMED - MIXED)
    for number, batch in enumerate(plain):
        share = [receivers[number % len(receivers)]]
        if number % SANITIZED_EVERY == 0:
            share.append(checked[number // SANITIZED_EVERY % len(checked)])
        for one in share:
            fuzz.exchange_plain(one.sock, batch, seconds=60)
            assert one.process.poll() is None, one.name


def test_the_agent_bears_malformed_frames(programs: Programs, sanitized: dict[str, Path]) -> None:
    with receiver(programs.agent) as plain, receiver(sanitized["agent"]) as checked:
        for one in (plain, checked):
            first = fuzz.exchange(one.sock, fuzz.Batch(b"", []), seconds=10, until=0)
            assert [answer.type for _, answer in first] == [lib.WIRE_T_HELLO]
        fuzz_all(fuzz.AgentRules(), [plain], [checked])


def test_callers_bear_malformed_frames(programs: Programs, sanitized: dict[str, Path]) -> None:
    with contextlib.ExitStack() as stack:
        paths = [programs.callers[one] for one in hosttarget.running()]
        plain = [stack.enter_context(receiver(path)) for path in paths]
        paths = [path for name, path in sanitized.items() if name != "agent"]
        checked = [stack.enter_context(receiver(path)) for path in paths]
        costly = frozenset.intersection(*(fuzz.granted(one.sock) for one in (*plain, *checked)))
        print("valid requests also of", *(wire.TYPE_NAMES[kind] for kind in sorted(costly)))
        assert lib.WIRE_T_RACE in costly
        fuzz_all(fuzz.CallerRules(costly), plain, checked)
