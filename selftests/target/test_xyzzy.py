# SPDX-License-Identifier: GPL-2.0-only
"""What is xyzzy(2)'s own, beyond what its contract says to the battery.

The battery (harness/battery.py) tries the contract; here are the descriptor's
life and the few numbers that the document names.  Expectations come from the
model, numbers and flags from the kernel's headers through that ABI's compiler.
"""

from __future__ import annotations

import dataclasses
import errno
import struct

import pytest

from harness import interfaces
from harness.channel import RefusedError
from harness.contract import PAGE, AtMost, Contract
from harness.interface import Interface
from harness.interfaces.xyzzy import CONTRACTS
from harness.lab import Lab
from harness.outside import TRACING
from harness.program import ARENA, SCRATCH, Program, ResultOf, at


@pytest.fixture(scope="session")
def contract(lab: Lab) -> Contract:
    return interfaces.for_kernel(CONTRACTS, lab.compiler)


@pytest.mark.prop("P14")
def test_the_header_has_every_version_and_flags_of_its_own(interface: Interface) -> None:
    """_SIZE_VERn as the contract has them; XYZZY_CLOEXEC is not O_CLOEXEC."""
    for version in interface.contract.versions:
        assert interface.constant(f"XYZZY_PARAMS_SIZE_{version.name}") == version.size
    assert interface.constant("XYZZY_CLOEXEC") != interface.constant("O_CLOEXEC", "fcntl.h")
    assert interface.constant("XYZZY_NONBLOCK") != interface.constant("O_NONBLOCK", "fcntl.h")


@pytest.mark.prop("P1")
def test_the_sizes_that_the_document_names(interface: Interface) -> None:
    """Size 0 is VER0's; VER0 - 1 and a page and one are E2BIG; a page is taken."""
    ver0 = interface.contract.versions[0].size
    for usize, expected in (
        (0, 0),
        (ver0 - 1, errno.E2BIG),
        (ver0, 0),
        (PAGE, 0),
        (PAGE + 1, errno.E2BIG),
    ):
        case = interface.case(usize=usize)
        if not usize:
            # Size 0 stands for VER0, so that much memory has to be there.
            case = dataclasses.replace(case, memory=interface.template(size=0)[:ver0])
        seen = interface.check(case)
        assert seen.errno == expected
        assert seen.written == (interface.ksize if expected else None)


@pytest.mark.prop("P11")
def test_the_delay_is_bounded(interface: Interface) -> None:
    """param_3 is up to a second, and not a nanosecond more."""
    limit = next(check.maximum for check in interface.contract.checks if isinstance(check, AtMost))
    assert limit == 1_000_000_000
    assert interface.check(interface.case(param_3=1)).errno == 0
    assert interface.check(interface.case(param_3=limit + 1)).errno == errno.EINVAL


# The descriptor.


@dataclasses.dataclass
class Opened:
    """A program that has called xyzzy() and goes on with its descriptor."""

    program: Program
    fd: ResultOf


def opened(interface: Interface, *, flags: int = 0, **fields: int) -> Opened:
    program = Program()
    program.reset()
    program.write(ARENA, PAGE, interface.example(**fields))
    fd = program.syscall(interface.number("xyzzy"), at(ARENA, PAGE), flags)
    return Opened(program, fd)


def _poll(interface: Interface, program: Program, fd: ResultOf, *, milliseconds: int) -> ResultOf:
    """Poll the descriptor for reading; the program's next read() shows revents."""
    # struct pollfd: int fd; short events; short revents.  The fd is known in the
    # guest only, so dup3() moves it to a number that can be written here.
    program.syscall(interface.number("dup3"), fd, 200, 0)
    events = interface.constant("POLLIN | POLLRDNORM | POLLERR | POLLHUP", "poll.h")
    pollfd = (200).to_bytes(4, "little") + events.to_bytes(2, "little") + b"\xff\xff"
    program.write(SCRATCH, 0, pollfd)
    return program.syscall(interface.number("poll"), at(SCRATCH), 1, milliseconds)


@pytest.mark.prop("P20")
def test_poll_and_read(interface: Interface) -> None:
    """Readable at once without a delay: the struct once, then end of file."""
    readable = interface.constant("POLLIN | POLLRDNORM", "poll.h")
    run = opened(interface)
    ready = _poll(interface, run.program, run.fd, milliseconds=0)
    revents = run.program.read(SCRATCH, 6, 2)
    first = run.program.syscall(interface.number("read"), run.fd, at(SCRATCH, 64), 4096)
    record = run.program.read(SCRATCH, 64, interface.ksize)
    second = run.program.syscall(interface.number("read"), run.fd, at(SCRATCH, 64), 4096)
    still = _poll(interface, run.program, run.fd, milliseconds=0)
    after = run.program.read(SCRATCH, 6, 2)
    run.program.syscall(interface.number("close"), 200)
    run.program.syscall(interface.number("close"), run.fd)
    results = interface.caller.run(run.program)
    assert results[ready.index].ret == 1
    assert int.from_bytes(results[revents.index].data, "little") == readable
    assert results[first.index].ret == interface.ksize
    assert results[record.index].data == interface.predict(interface.case()).held
    assert results[second.index].ret == 0
    # End of file is readable, too.
    assert results[still.index].ret == 1
    assert int.from_bytes(results[after.index].data, "little") == readable


@pytest.mark.prop("P20")
def test_the_delay(interface: Interface) -> None:
    """Not readable before the delay, readable behind it; EAGAIN without blocking.

    Who polls for ever is woken by the delay's end, not by the caller's deadline.
    """
    delay = 100_000_000  # ns
    never = (1 << 32) - 1  # as an int: negative
    run = opened(interface, flags=interface.constant("XYZZY_NONBLOCK"), param_3=delay)
    early = _poll(interface, run.program, run.fd, milliseconds=0)
    again = run.program.syscall(interface.number("read"), run.fd, at(SCRATCH, 64), 4096)
    late = _poll(interface, run.program, run.fd, milliseconds=never)
    got = run.program.syscall(interface.number("read"), run.fd, at(SCRATCH, 64), 4096)
    record = run.program.read(SCRATCH, 64, interface.ksize)
    run.program.syscall(interface.number("close"), 200)
    run.program.syscall(interface.number("close"), run.fd)
    results = interface.caller.run(run.program)
    assert results[early.index].ret == 0
    assert results[again.index].errno == errno.EAGAIN
    assert (results[late.index].ret, results[late.index].deadline) == (1, False)
    assert results[got.index].ret == interface.ksize
    assert results[record.index].data == interface.predict(interface.case(param_3=delay)).held


@pytest.mark.prop("P20")
def test_a_blocking_read_waits(interface: Interface) -> None:
    """Without XYZZY_NONBLOCK, read(2) itself waits for the end of the delay, and no longer."""
    delay = 50_000_000  # ns
    # Both with 64-bit seconds and nanoseconds, as x32's own is.
    clock = interface.number("clock_gettime64" if interface.abi.name == "m32" else "clock_gettime")
    monotonic = interface.constant("CLOCK_MONOTONIC", "linux/time.h")
    program = Program()
    program.reset()
    program.write(ARENA, PAGE, interface.example(param_3=delay))
    # Before the call, so that the delay lies between the two however slow all is.
    program.syscall(clock, monotonic, at(SCRATCH, 0))
    fd = program.syscall(interface.number("xyzzy"), at(ARENA, PAGE), 0)
    got = program.syscall(interface.number("read"), fd, at(SCRATCH, 64), 4096)
    program.syscall(clock, monotonic, at(SCRATCH, 16))
    times = program.read(SCRATCH, 0, 32)
    program.syscall(interface.number("close"), fd)
    results = interface.caller.run(program)
    # One that is not woken has the record, too, once the caller's deadline ends its sleep.
    assert (results[got.index].ret, results[got.index].deadline) == (interface.ksize, False)
    before, before_ns, after, after_ns = struct.unpack("<4q", results[times.index].data)
    waited = (after - before) * 1_000_000_000 + after_ns - before_ns
    assert waited >= delay


@pytest.mark.prop("P21")
def test_a_blocking_read_is_interrupted(interface: Interface) -> None:
    """A signal whose handler asks for no restart ends read(2) with EINTR."""
    run = opened(interface, param_3=1_000_000_000)
    got = run.program.syscall(interface.number("read"), run.fd, at(SCRATCH, 64), 4096)
    run.program.syscall(interface.number("close"), run.fd)
    results = interface.caller.run(run.program, deadline_ms=50)
    assert results[got.index].deadline
    assert results[got.index].errno == errno.EINTR


@pytest.mark.prop("P20")
def test_a_buffer_of_the_oldest_version_is_enough(interface: Interface) -> None:
    """As an old program on a newer kernel reads: VER0 bytes will do, one less will not."""
    ver0 = interface.contract.versions[0].size
    run = opened(interface)
    short = run.program.syscall(interface.number("read"), run.fd, at(SCRATCH), ver0 - 1)
    exact = run.program.syscall(interface.number("read"), run.fd, at(SCRATCH), ver0)
    record = run.program.read(SCRATCH, 0, ver0)
    end = run.program.syscall(interface.number("read"), run.fd, at(SCRATCH), ver0)
    run.program.syscall(interface.number("close"), run.fd)
    results = interface.caller.run(run.program)
    held = interface.predict(interface.case()).held
    assert held is not None
    assert results[short.index].errno == errno.EINVAL
    assert results[exact.index].ret == ver0
    assert results[record.index].data == held[:ver0]
    assert results[end.index].ret == 0


@pytest.mark.prop("P20")
def test_a_bad_buffer_leaves_the_record_for_the_next_read(interface: Interface) -> None:
    """There is no second record: one that does not reach its reader stays."""
    run = opened(interface)
    bad = run.program.syscall(interface.number("read"), run.fd, 0, 4096)
    again = run.program.syscall(interface.number("read"), run.fd, at(SCRATCH), 4096)
    record = run.program.read(SCRATCH, 0, interface.ksize)
    run.program.syscall(interface.number("close"), run.fd)
    results = interface.caller.run(run.program)
    assert results[bad.index].errno == errno.EFAULT
    assert results[again.index].ret == interface.ksize
    assert results[record.index].data == interface.predict(interface.case()).held


# Seen from outside.


@pytest.mark.prop("P22")
def test_a_kernel_of_ours_has_the_tracepoints(lab: Lab, interface: Interface) -> None:
    """The battery looks at what they show, where a kernel has any; one that was built here has."""
    if lab.setup.bzimage or lab.setup.local:
        pytest.skip("this kernel's configuration is not ours")
    if why := interface.target.lacking.get("tracepoints"):
        pytest.skip(why)
    for what in ("enter", "exit"):
        path = f"{TRACING}/events/syscalls/sys_{what}_xyzzy/format"
        try:
            text = interface.target.read_file(path)
        except RefusedError as exc:  # the kernel's fault, not the machine's
            if exc.errno == errno.ENOENT:
                pytest.fail(f"{path}: not there")
            raise
        assert text.startswith(f"name: sys_{what}_xyzzy\n".encode())
