# SPDX-License-Identifier: GPL-2.0-only
"""xyzzy(2) on a real kernel, as m64, m32 and mx32.

Every expectation comes from the model, which reads the contract; every number,
size and flag from the kernel's own headers through that ABI's compiler.
"""

from __future__ import annotations

import dataclasses
import errno

import pytest

from harness import layout as layouts
from harness.contract import PAGE, AtMost, UnknownBits
from harness.interface import Interface
from harness.program import AREA_BYTES, ARENA, SCRATCH, Argument, Program, ResultOf, at
from harness.sweep import Dim, Kind, Place, Sweep

#: Sizes that no memory can back: refused before anything behind them is read.
HUGE = ((1 << 31) - 1, 1 << 31, (1 << 31) + 1, (1 << 32) - 1)
PLACES = (Place.MIDDLE, Place.END, Place.START)
USIZES = Dim(kind=Kind.USIZE, start=0, stop=PAGE + 9)


def at_size(usize: int) -> Dim:
    return Dim(kind=Kind.USIZE, start=usize, stop=usize + 1)


# The layout: compiled, not run.


@pytest.mark.prop("P14")
def test_layout(interface: Interface) -> None:
    """The declaration in the contract and the kernel's header are one struct."""
    names = tuple(field.name for field in interface.layout.fields)
    declared = layouts.layout(
        interface.compiler,
        interface.abi,
        struct=interface.contract.struct,
        fields=names,
        declaration=interface.contract.declaration,
    )
    assert declared == interface.layout
    assert interface.layout.padding() == []
    size = interface.layout.field(interface.contract.size.field)
    assert (size.offset, size.size) == (
        interface.contract.size.offset,
        interface.contract.size.width,
    )
    assert interface.contract.version_of(interface.ksize)
    for version in interface.contract.versions:
        assert interface.constant(f"XYZZY_PARAMS_SIZE_{version.name}") == version.size


@pytest.mark.prop("P14")
def test_layout_is_the_same_in_every_abi(interface: Interface) -> None:
    """One entry serves three ABIs, so they must have one struct."""
    from harness.abi import ABIS

    for other in ABIS:
        theirs = Interface(
            interface.contract, other, compiler=interface.compiler, target=interface.target
        )
        assert theirs.layout.fields == interface.layout.fields
        assert theirs.layout.size == interface.layout.size


@pytest.mark.prop("P14")
def test_constants(interface: Interface) -> None:
    """The contract's bits are the header's."""
    known = dict(interface.contract.flags(1).known)
    for check in interface.contract.checks:
        if isinstance(check, UnknownBits):
            known |= check.known
    assert known == {name: interface.constant(name) for name in known}
    # Values of its own: O_CLOEXEC differs between architectures.
    assert interface.constant("XYZZY_CLOEXEC") != interface.constant("O_CLOEXEC", "fcntl.h")


# Sizes.


@pytest.mark.prop("P1")
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name.lower())
def test_every_size(interface: Interface, place: Place) -> None:
    """Every usize from 0 to a page and eight bytes; what is behind ksize is zero."""
    interface.verify(Sweep(dims=(USIZES,), template=interface.template(), place=place))


@pytest.mark.prop("P1")
def test_sizes_that_are_special(interface: Interface) -> None:
    """Size 0 means VER0; one below VER0 and one above a page are refused."""
    ver0 = interface.contract.versions[0].size
    for usize in (0, ver0 - 1, ver0, interface.ksize, PAGE, PAGE + 1, *HUGE):
        interface.verify(Sweep(dims=(at_size(usize),), template=interface.template()))
    assert interface.predict(interface.example(usize=PAGE)).errno == 0
    assert interface.predict(interface.example(usize=PAGE + 1)).errno == errno.E2BIG


@pytest.mark.prop("P2")
def test_zero_extension(interface: Interface) -> None:
    """Each size from VER0 to ksize: what read(2) gives is zero where nothing was given.

    Behind the struct lie canaries: a kernel that copies more than usize shows them.
    """
    ver0 = interface.contract.versions[0].size
    full = interface.template(param_2=(1 << 64) - 1, param_3=1)
    for place in PLACES:
        sizes = Dim(kind=Kind.USIZE, start=ver0, stop=interface.ksize + 1)
        interface.verify(Sweep(dims=(sizes,), template=full, place=place))
    for usize in (0, *range(ver0, interface.ksize + 1)):
        memory = interface.example(usize=usize, param_2=(1 << 64) - 1)
        seen = interface.check(memory.ljust(ver0, b"\0"))
        assert seen.held is not None
        assert len(seen.held) == interface.ksize


# Trailing bytes.


@pytest.mark.prop("P3")
def test_every_trailing_bit(interface: Interface) -> None:
    """At a page: each bit of each byte behind ksize, alone, is refused."""
    interface.verify(
        Sweep(
            dims=(
                Dim(kind=Kind.TAIL, start=interface.ksize, stop=0),
                Dim(kind=Kind.BIT, start=0, stop=8),
            ),
            usize=PAGE,
            template=interface.template(),
        )
    )


@pytest.mark.prop("P3")
def test_first_and_last_trailing_byte_at_every_size(
    interface: Interface, full_battery: bool
) -> None:
    """Every trailing byte at sizes up to ksize + 80 (BATTERY=full: at every size)."""
    stop = PAGE + 1 if full_battery else interface.ksize + 81
    sizes = Dim(kind=Kind.USIZE, start=interface.ksize + 1, stop=stop)
    tail = Dim(kind=Kind.TAIL, start=interface.ksize, stop=0)
    for place in (Place.MIDDLE, Place.END):
        interface.verify(Sweep(dims=(sizes, tail), template=interface.template(), place=place))


# Write-back, and what else may be written: nothing.


@pytest.mark.prop("P4")
def test_write_back(interface: Interface) -> None:
    """On E2BIG the size field reads ksize, all else stays; on no other outcome."""
    ver0, ksize = interface.contract.versions[0].size, interface.ksize
    big = interface.check(interface.example(usize=ksize + 8)[:-1] + b"\1")
    assert big.written == ksize
    assert interface.check(interface.example(usize=ver0 - 1)).written == ksize
    assert interface.check(interface.example(usize=PAGE + 1)).written == ksize
    # Refused for another reason, and accepted: untouched.
    assert interface.check(interface.example(), args={1: 1 << 31}).written is None
    assert interface.check(interface.example(param_1=1 << 31)).written is None
    assert interface.check(interface.example()).written is None
    assert interface.check(interface.example(usize=0)).written is None


@pytest.mark.prop("P4")
def test_write_back_is_the_size_to_retry_with(interface: Interface) -> None:
    """As a program that is newer than its kernel does: take the size, call again."""
    newer = interface.example(usize=interface.ksize + 16)
    refused = interface.check(newer[:-1] + b"\xff")
    assert refused.written is not None
    assert interface.check(interface.example(usize=refused.written)).errno == 0


@pytest.mark.prop("P5")
def test_bytes_behind_the_struct_do_not_matter(interface: Interface) -> None:
    """Each byte from usize to 200 bytes behind it, flipped: the same call."""
    for usize in (interface.contract.versions[0].size, interface.ksize):
        interface.verify(
            Sweep(
                dims=(Dim(kind=Kind.BYTE, start=usize, stop=usize + 64),),
                usize=usize,
                template=interface.template(),
            )
        )


# Memory.


@pytest.mark.prop("P6")
def test_page_edge(interface: Interface) -> None:
    """Flush against an inaccessible page every size works; one byte short is EFAULT."""
    sizes = Dim(kind=Kind.USIZE, start=0, stop=PAGE + 2)
    rule = Sweep(dims=(sizes,), template=interface.template(), place=Place.END)
    interface.verify(rule)
    for usize in (interface.ksize, interface.ksize + 1, interface.ksize + 8, 1000, PAGE):
        memory = interface.example(usize=usize)
        for short in (1, 7, 8):
            # The last `short` bytes would lie in the inaccessible page.
            offset = AREA_BYTES - usize + short
            program = Program()
            program.reset()
            program.write(ARENA, offset, memory[: usize - short])
            seen = interface.check(
                memory, hole=usize - short, pointer=at(ARENA, offset), prepare=program
            )
            assert seen.errno == errno.EFAULT


@pytest.mark.prop("P7")
def test_faults_in_the_tail(interface: Interface) -> None:
    """Zeros then a hole: EFAULT.  A nonzero byte then a hole: E2BIG."""
    usize = interface.ksize + 64
    for tail, expected in ((b"\0" * 16, errno.EFAULT), (b"\0" * 15 + b"\1", errno.E2BIG)):
        memory = interface.example(usize=usize)[: interface.ksize] + tail
        offset = AREA_BYTES - len(memory)
        program = Program()
        program.reset()
        program.write(ARENA, offset, memory)
        seen = interface.check(memory, hole=len(memory), pointer=at(ARENA, offset), prepare=program)
        assert seen.errno == expected


@pytest.mark.prop("P8")
def test_pointers_that_fault(interface: Interface) -> None:
    """NULL, an inaccessible page, the kernel's half, no address at all."""
    top = (1 << interface.abi.register) - 1
    pointers: dict[str, Argument] = {
        "NULL": 0,
        "one": 1,
        "inaccessible": at(ARENA, AREA_BYTES),
        "before the arena": at(ARENA, -PAGE),
        "the last byte": top,
        "the last page": top & ~(PAGE - 1),
    }
    if interface.abi.register == 64:
        pointers["kernel"] = 0xFFFF_8880_0000_0000
        pointers["kernel text"] = 0xFFFF_FFFF_8100_0000
        pointers["first kernel byte"] = 1 << 47
        pointers["not canonical"] = 1 << 62
    for name, pointer in pointers.items():
        program = Program()
        program.reset()
        seen = interface.check(
            b"\0" * interface.contract.size.end, hole=0, pointer=pointer, prepare=program
        )
        assert seen.errno == errno.EFAULT, name


def _protect(interface: Interface, program: Program, *, prot: str) -> None:
    value = interface.constant(prot, "linux/mman.h", "asm/mman.h")
    program.syscall(interface.number("mprotect"), at(ARENA, PAGE), PAGE, value)


@pytest.mark.prop("P8")
def test_inaccessible_after_it_was_written(interface: Interface) -> None:
    """PROT_NONE over a good struct."""
    program = Program()
    program.reset()
    program.write(ARENA, PAGE, interface.example())
    _protect(interface, program, prot="PROT_NONE")
    seen = interface.check(interface.example(), hole=0, pointer=at(ARENA, PAGE), prepare=program)
    assert seen.errno == errno.EFAULT


@pytest.mark.prop("P8")
def test_read_only_memory(interface: Interface) -> None:
    """A call that is accepted only reads; a write-back that fails changes no errno."""
    for usize, expected in ((interface.ksize, 0), (interface.ksize - 1, errno.E2BIG)):
        memory = interface.example(usize=usize)
        program = Program()
        program.reset()
        program.write(ARENA, PAGE, memory)
        _protect(interface, program, prot="PROT_READ")
        after = program.read(ARENA, PAGE, len(memory))
        seen = interface.check(memory, pointer=at(ARENA, PAGE), prepare=program)
        assert seen.errno == expected
        assert seen.results[after.index].data == memory


@pytest.mark.prop("P8")
def test_past_the_end_of_a_mapped_file(interface: Interface) -> None:
    """Where a mapping has no file behind it: EFAULT, and no SIGBUS."""
    name = "mmap2" if interface.abi.name == "m32" else "mmap"
    shared = interface.constant("MAP_SHARED | MAP_FIXED", "linux/mman.h", "asm/mman.h")
    prot = interface.constant("PROT_READ | PROT_WRITE", "linux/mman.h", "asm/mman.h")
    program = Program()
    program.reset()
    file = program.syscall(interface.number("memfd_create"), at(SCRATCH), 0)
    program.syscall(interface.number("ftruncate"), file, PAGE)
    mapped = program.syscall(interface.number(name), at(ARENA, 0), 2 * PAGE, prot, shared, file, 0)
    program.syscall(interface.number("close"), file)
    memory = interface.example()
    start = PAGE - 16
    program.write(ARENA, start, memory[:16])
    seen = interface.check(memory, hole=16, pointer=at(ARENA, start), prepare=program)
    assert seen.errno == errno.EFAULT
    assert not seen.results[file.index].errno
    assert not seen.results[mapped.index].errno


@pytest.mark.prop("P9")
def test_alignment(interface: Interface) -> None:
    """The struct at each offset from 0 to 15 of a page's last bytes and first bytes."""
    shifts = Dim(kind=Kind.SHIFT, start=0, stop=16)
    for usize in (interface.ksize, interface.ksize + 13):
        for place in PLACES:
            interface.verify(
                Sweep(dims=(shifts,), usize=usize, template=interface.template(), place=place)
            )


# Flags.


@pytest.mark.prop("P10")
def test_every_flag_bit(interface: Interface) -> None:
    """Each of the 32 bits alone, and beside each known one: unknown ones are EINVAL."""
    flags = interface.contract.flags(1)
    bits = Dim(kind=Kind.ARG_BIT, index=1, start=0, stop=flags.width)
    for base in (0, *flags.known.values(), flags.mask):
        interface.verify(
            Sweep(
                dims=(bits,),
                usize=interface.ksize,
                template=interface.template(),
                args=((1, base),),
            )
        )


@pytest.mark.prop("P10")
def test_upper_half_of_the_flags_register(interface: Interface) -> None:
    """`unsigned int` is the lower half; the upper one must not matter."""
    if interface.abi.register == 32:
        # A 32-bit program has no upper half: its whole register is the argument.
        assert interface.contract.flags(1).width == interface.abi.register
        return
    bits = Dim(kind=Kind.ARG_BIT, index=1, start=32, stop=64)
    for base in (0, 1 << 31):
        interface.verify(
            Sweep(
                dims=(bits,),
                usize=interface.ksize,
                template=interface.template(),
                args=((1, base),),
            )
        )


@pytest.mark.prop("P11")
def test_every_bit_of_every_field(interface: Interface) -> None:
    """Each bit of the struct behind its size: unknown bits of param_1 are EINVAL."""
    interface.verify(
        Sweep(
            dims=(
                Dim(kind=Kind.BYTE, start=interface.contract.size.end, stop=interface.ksize),
                Dim(kind=Kind.BIT, start=0, stop=8),
            ),
            usize=interface.ksize,
            template=interface.template(),
        )
    )


@pytest.mark.prop("P11")
def test_the_delay_is_bounded(interface: Interface) -> None:
    """param_3 up to a second, and not a nanosecond more."""
    limit = next(check.maximum for check in interface.contract.checks if isinstance(check, AtMost))
    assert interface.check(interface.example(param_3=1)).errno == 0
    for value in (limit + 1, 1 << 32, 1 << 63, (1 << 64) - 1):
        assert interface.check(interface.example(param_3=value)).errno == errno.EINVAL


@pytest.mark.prop("P17")
def test_order_of_errors(interface: Interface) -> None:
    """Each neighbouring pair of checks provoked together: the earlier one answers."""
    ver0 = interface.contract.versions[0].size
    bad_flags = {1: 1 << 31}
    tail = interface.example(usize=interface.ksize + 1, param_1=1 << 31)[:-1] + b"\1"
    provoked = [
        # flags before the size is fetched
        (interface.example(), bad_flags, 0, errno.EINVAL),
        # flags before the size is judged
        (interface.example(usize=ver0 - 1), bad_flags, None, errno.EINVAL),
        # a tail before an unknown bit of param_1
        (tail, None, None, errno.E2BIG),
        # size before an unknown bit
        (interface.example(usize=PAGE + 1, param_1=1 << 31), None, None, errno.E2BIG),
        # param_1 and param_3 have one errno; either of them alone is refused
        (interface.example(param_1=1 << 31, param_3=1 << 63), None, None, errno.EINVAL),
    ]
    for memory, args, hole, expected in provoked:
        if hole is None:
            seen = interface.check(memory, args=args)
        else:
            program = Program()
            program.reset()
            seen = interface.check(memory, args=args, hole=hole, pointer=0, prepare=program)
        assert seen.errno == expected


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
    fd = program.syscall(interface.own_number, at(ARENA, PAGE), flags)
    return Opened(program, fd)


@pytest.mark.prop("P20")
@pytest.mark.parametrize("flag", [0, 1], ids=["kept", "closed"])
def test_close_on_exec(interface: Interface, flag: int) -> None:
    """FD_CLOEXEC is as XYZZY_CLOEXEC asks, and only then."""
    getfd = interface.constant("F_GETFD", "linux/fcntl.h")
    cloexec = interface.constant("FD_CLOEXEC", "linux/fcntl.h")
    run = opened(interface, flags=flag * interface.constant("XYZZY_CLOEXEC"))
    got = run.program.syscall(interface.number("fcntl"), run.fd, getfd)
    run.program.syscall(interface.number("close"), run.fd)
    results = interface.caller.run(run.program)
    assert results[got.index].ret == flag * cloexec


@pytest.mark.prop("P20")
def test_lowest_free_number_and_none_left_behind(interface: Interface) -> None:
    """The descriptor is the lowest that is free; a refused call takes none."""
    program = Program()
    program.reset()
    program.write(ARENA, PAGE, interface.example())
    free = program.syscall(interface.number("dup"), 0)
    program.syscall(interface.number("close"), free)
    for bad in (1 << 31, 1 << 30):
        program.syscall(interface.own_number, at(ARENA, PAGE), bad)
        program.syscall(interface.own_number, 0, 0)
    mine = program.syscall(interface.own_number, at(ARENA, PAGE), 0)
    program.syscall(interface.number("close"), mine)
    again = program.syscall(interface.number("dup"), 0)
    program.syscall(interface.number("close"), again)
    results = interface.caller.run(program)
    assert results[free.index].errno == 0
    assert results[mine.index].ret == results[free.index].ret == results[again.index].ret


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
    assert results[record.index].data == interface.predict(interface.example()).held
    assert results[second.index].ret == 0
    # End of file is readable, too.
    assert results[still.index].ret == 1
    assert int.from_bytes(results[after.index].data, "little") == readable


@pytest.mark.prop("P20")
def test_the_delay(interface: Interface) -> None:
    """Not readable before the delay, readable behind it; EAGAIN without blocking."""
    delay = 100_000_000  # ns
    run = opened(interface, flags=interface.constant("XYZZY_NONBLOCK"), param_3=delay)
    early = _poll(interface, run.program, run.fd, milliseconds=0)
    again = run.program.syscall(interface.number("read"), run.fd, at(SCRATCH, 64), 4096)
    late = _poll(interface, run.program, run.fd, milliseconds=3000)
    got = run.program.syscall(interface.number("read"), run.fd, at(SCRATCH, 64), 4096)
    record = run.program.read(SCRATCH, 64, interface.ksize)
    run.program.syscall(interface.number("close"), 200)
    run.program.syscall(interface.number("close"), run.fd)
    results = interface.caller.run(run.program)
    assert results[early.index].ret == 0
    assert results[again.index].errno == errno.EAGAIN
    assert results[late.index].ret == 1
    assert results[got.index].ret == interface.ksize
    assert results[record.index].data == interface.predict(interface.example(param_3=delay)).held


@pytest.mark.prop("P20")
def test_a_blocking_read_waits(interface: Interface) -> None:
    """Without XYZZY_NONBLOCK, read(2) itself waits for the end of the delay."""
    delay = 50_000_000  # ns
    clock = interface.number("clock_gettime")
    run = opened(interface, param_3=delay)
    run.program.fill(SCRATCH, 0, 64, 0)
    run.program.syscall(clock, 1, at(SCRATCH, 0))
    got = run.program.syscall(interface.number("read"), run.fd, at(SCRATCH, 64), 4096)
    run.program.syscall(interface.number("close"), run.fd)
    results = interface.caller.run(run.program)
    assert results[got.index].ret == interface.ksize


@pytest.mark.prop("P20")
def test_a_blocking_read_is_interrupted(interface: Interface) -> None:
    """A signal whose handler asks for no restart ends read(2) with EINTR."""
    run = opened(interface, param_3=1_000_000_000)
    got = run.program.syscall(interface.number("read"), run.fd, at(SCRATCH, 64), 4096)
    run.program.syscall(interface.number("close"), run.fd)
    results = interface.caller.run(run.program, deadline_ms=50)
    assert results[got.index].deadline
    assert results[got.index].errno == errno.EINTR
