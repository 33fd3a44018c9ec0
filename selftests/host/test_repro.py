# SPDX-License-Identifier: GPL-2.0-only
"""harness.report.repro: programs that are compiled, run, and right about the kernel before them.

A program runs on this machine's kernel; the call under test is answered here
(seccomp(2)'s user notification, see fakekernel.py), by the model or by a xyzzy
with a fault of a known kind.  So every register and every byte that a program
passes is seen, and its exit code is compared with what is known to be true.
Then the same with openat2(2) and sched_setattr(2) and the real kernel.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import dataclasses
import enum
import errno
import fcntl
import inspect
import os
import re
import select
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import fakekernel
import fakexyzzy
import hosttarget
import pytest
from fakekernel import ADDFD, NOTIF, RESPONSE, Called, Descriptor, FakeKernel
from fakexyzzy import CAPABILITY, FAULTS, NEWER, POINTERS, POINTING, PRIVILEGE, FakeXyzzy
from hypothesis import given
from hypothesis import strategies as st

from harness import battery, model
from harness import case as cases
from harness import how as hows
from harness import target as targets
from harness.abi import ABI, ABIS, WAYS, abi
from harness.batteries import BATTERY, MODULES, Level
from harness.caller.build import Programs
from harness.case import Case, Protection
from harness.contract import (
    PAGE,
    Bytes,
    Contract,
    Copy,
    FetchSize,
    Flags,
    Nothing,
    OnlyWith,
    Pointer,
    ReadBack,
    SizeArg,
    SizeBounds,
    SizeField,
    SizeIoctl,
    SizeValue,
    Tail,
    UnknownBits,
    UnknownFlags,
    Value,
    Version,
    Wide,
    piece_at,
)
from harness.contract import Descriptor as DescriptorEffect
from harness.findings import ContractBrokenError, Mismatch
from harness.how import NoProgram
from harness.identity import NOBODY, PEERS, identities
from harness.interface import Interface
from harness.interfaces import xyzzy
from harness.interfaces.sched_setattr import CONTRACT as SCHED_SETATTR
from harness.layout import Compiler, Field, Layout
from harness.outside import Watch
from harness.program import MAX_ERRNO
from harness.report import repro, reproducers
from harness.stall import Race, Stall
from harness.target import Target

STRICT = ("-O2", "-Wall", "-Wextra", "-Werror")
STATIC = (*STRICT, "-static")
#: AUDIT_ARCH_*, as seccomp sees a call that entered by the 32-bit entry, or by the other.
ARCH_I386, ARCH_X86_64 = 0x40000003, 0xC000003E
NR_SECCOMP = 317  # m64, as this Python is
BEHAVES, MISBEHAVES, NOT_TRIED = 0, 1, 2
#: For what a program may take; most take milliseconds.
SECONDS = 30.0

# Contracts.

XYZZY = dataclasses.replace(
    xyzzy.CONTRACT,
    declaration="""
        struct xyzzy_params { __u32 size; __u32 param_1; __aligned_u64 param_2;
                              __aligned_u64 param_3; __aligned_u64 param_4; };
    """,
    versions=(Version(name="VER0", size=24), Version(name="VER1", size=32)),
)

#: Six arguments, of every kind, and the size as one of them.
SIX = Contract(
    name="six",
    number="__NR_xyzzy",
    header="linux/xyzzy.h",
    struct="six",
    declaration="struct six { __aligned_u64 flags; __u32 mode; __u8 pad; };",
    size=SizeArg(arg=3),
    versions=(Version(name="VER0", size=16),),
    zero_means=None,
    args=(
        Value(value=-100 % (1 << 64)),
        Bytes(data=b'a "path" with \\ and ??/\0'),
        Pointer(),
        SizeValue(),
        Flags(known={"SIX_A": 1 << 0, "SIX_B": 6 << 40}, width=64),
        Bytes(data=b"\x01\xff\0\x02" * 5),
    ),
    checks=(
        SizeBounds(minimum=16, maximum=PAGE, too_small=errno.EINVAL, too_big=errno.E2BIG),
        Tail(errno=errno.E2BIG),
        Copy(),
        UnknownFlags(arg=4),
        UnknownBits(field="flags", known={"F": 1 << 63}),
        UnknownBits(field="pad"),
    ),
    example={"flags": 0, "mode": 0o644},
    effect=DescriptorEffect(),
    source="a comment */ that ends /* and begins one",
)

#: An argument of 64 bits, which takes two registers as m32, with others behind it.
SPLIT = dataclasses.replace(
    SIX,
    name="split",
    args=(
        Value(value=-100 % (1 << 64)),
        Wide(value=5 << 32 | 7),
        Pointer(),
        SizeValue(),
        Flags(known={"SIX_A": 1 << 0}, width=32),
    ),
)

#: An ioctl, whose number has the size, and a result that nobody looks at.
IOCTL = dataclasses.replace(
    SIX,
    name="six ioctl/1",
    size=SizeIoctl(arg=1),
    args=(Value(value=3), SizeValue(base=0xC000AD07), Pointer()),
    checks=tuple(check for check in SIX.checks if not isinstance(check, UnknownFlags)),
    effect=Nothing(),
    source="",
)


def embedded(width: int) -> Contract:
    """The size as a field of ``width`` bytes, behind another."""
    return Contract(
        name=f"wide{width}",
        number="__NR_xyzzy",
        header="linux/xyzzy.h",
        struct=f"wide{width}",
        declaration=f"struct wide{width} {{ __u64 first; __u{8 * width} size; __u8 rest[90]; }};",
        size=SizeField(field="size", offset=8, width=width),
        versions=(Version(name="VER0", size=16),),
        zero_means=16,
        args=(Pointer(),),
        checks=(
            FetchSize(),
            SizeBounds(
                minimum=16,
                maximum=PAGE,
                too_small=errno.EINVAL,
                too_big=errno.ENOSPC,
                writes_size=True,
            ),
            Tail(errno=errno.E2BIG, writes_size=True),
            Copy(),
        ),
        example={"first": 0xFF},
        effect=ReadBack(size_holds="ksize"),
    )


WIDE = tuple(embedded(width) for width in (1, 8))


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    """This machine's compiler, with headers in which there is a xyzzy."""
    where = tmp_path_factory.mktemp("headers")
    (where / "linux").mkdir()
    (where / "asm").mkdir()
    (where / "linux" / "xyzzy.h").write_text(
        "#include <linux/types.h>\n" + "".join(one.declaration for one in (XYZZY, SIX, *WIDE))
    )
    (where / "asm" / "unistd.h").write_text(
        "#include_next <asm/unistd.h>\n"
        "#if defined(__x86_64__) && defined(__ILP32__)\n"
        f"#define __NR_xyzzy (__X32_SYSCALL_BIT + {fakekernel.NUMBER})\n"
        "#else\n"
        f"#define __NR_xyzzy {fakekernel.NUMBER}\n"
        "#endif\n"
    )
    return Compiler(headers=where)


Make = Callable[[Contract, ABI], Interface]


@pytest.fixture(scope="module")
def make(compiler: Compiler, local: Target) -> Make:
    """An interface of this machine's."""
    return lambda contract, one: Interface(contract, one, compiler=compiler, target=local)


# Cases.


def with_byte(case: Case, at: int, value: int) -> Case:
    data = bytearray(case.memory)
    data[at] = value
    return dataclasses.replace(case, memory=bytes(data))


def with_canaries(case: Case) -> Case:
    return dataclasses.replace(case, memory=case.memory + b"\xa5" * 64)


def everywhere(interface: Interface) -> dict[str, Case]:
    """Every place, protection, pointer and way that a case can have; for any contract."""
    ksize = interface.ksize
    good = interface.case()
    big = interface.case(usize=ksize + 16)
    found = {
        "good": good,
        "short by one": interface.case(usize=ksize - 1),
        "VER0": interface.case(usize=interface.contract.versions[0].size),
        "zero": interface.case(usize=0),
        "one": interface.case(usize=1),
        "zero tail": big,
        "canaries": with_canaries(good),
        "canaries behind a tail": with_canaries(big),
        "first byte of a tail": with_byte(big, ksize, 0x80),
        "last byte of a tail": with_canaries(with_byte(big, ksize + 15, 1)),
        "at the end": dataclasses.replace(good, hole=len(good.memory)),
        "at the end, a tail": dataclasses.replace(big, hole=len(big.memory)),
        "one byte is not there": dataclasses.replace(good, hole=ksize - 1),
        "a hole in the tail": dataclasses.replace(big, hole=ksize + 7),
        "a byte before the hole": with_byte(dataclasses.replace(big, hole=ksize + 7), ksize, 1),
        "a hole at once": dataclasses.replace(good, hole=0),
        "a hole after a byte": dataclasses.replace(good, hole=1),
        "at a page's start": dataclasses.replace(with_canaries(good), at_page_start=True),
        "moved from a page's start": dataclasses.replace(good, at_page_start=True, shift=9),
        "moved": dataclasses.replace(with_canaries(good), shift=15),
        "read-only": dataclasses.replace(good, protection=Protection.READ),
        "read-only, a tail": dataclasses.replace(
            with_byte(big, ksize, 1), protection=Protection.READ
        ),
        "inaccessible": dataclasses.replace(good, protection=Protection.NONE),
        "NULL": dataclasses.replace(good, pointer=0),
        "the kernel's": dataclasses.replace(good, pointer=0xFFFF_8880_0000_0000),
        "the last byte": dataclasses.replace(good, pointer=(1 << 32) - 1),
    }
    if interface.size_bits >= 16:
        page = interface.case(usize=PAGE)
        found["a page"] = page
        found["a page, its last byte"] = with_byte(page, PAGE - 1, 0xFF)
        found["beyond a page"] = interface.case(usize=PAGE + 1)
    if interface.size_bits == 64:
        huge = (1 << 32) + ksize
        memory = cases.with_usize(interface.contract, good.memory, huge)
        found["4 GiB more"] = dataclasses.replace(good, usize=huge, memory=memory)
    for arg in interface.contract.flags_args:
        known = max(interface.contract.flags(arg).known.values())
        for bit in (7, 31, 32, 63):
            found[f"flag {bit}"] = dataclasses.replace(good, flags=((arg, known | 1 << bit),))
    for way in WAYS[interface.abi.name][1:]:
        names = ("good", "a byte before the hole", "NULL", "flag 63", "4 GiB more", "read-only")
        for name in names:
            if name in found:
                found[f"{name} by {way.name}"] = dataclasses.replace(found[name], way=way)
    return found


def mismatch_of(interface: Interface, case: Case, *, seen: str = "success") -> Mismatch:
    return Mismatch(
        first=str(case),
        last=str(case),
        count=1,
        allowed=str(interface.predict(case)),
        seen=seen,
        cause="for a test",
        case=case,
    )


def source_of(interface: Interface, case: Case, *, seen: str = "success") -> str:
    text = repro.render(interface, mismatch_of(interface, case, seen=seen), prop="P3")
    assert text is not None
    return text


#: Programs by what they are made from, the first comment left out.
BUILT: dict[tuple[object, ...], Path] = {}


def compiled(text: str, one: ABI, where: Path, flags: tuple[str, ...] = STATIC) -> Path:
    """The program; the compiler has nothing to complain of.

    Two that differ in their first comment alone are one.
    """
    key = (text.partition(" */\n")[2], one, flags)
    if key in BUILT:
        return BUILT[key]
    handle, name = tempfile.mkstemp(dir=where, suffix=".c")
    os.close(handle)
    source = Path(name)
    source.write_text(text)
    program = source.with_suffix("")
    done = subprocess.run(
        ["gcc", one.cflag, *flags, "-o", program, source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, f"{done.stderr}\n{text}"
    BUILT[key] = program
    return program


def all_compiled(
    texts: dict[str, str], one: ABI, where: Path, flags: tuple[str, ...] = STATIC
) -> dict[str, Path]:
    """Several programs, by as many compilers at once as there are processors."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        programs = pool.map(lambda text: compiled(text, one, where, flags), texts.values())
        return dict(zip(texts, programs, strict=True))


# A kernel before a program.


@dataclasses.dataclass
class Ended:
    """How a program ended, and the calls of its that were answered here."""

    code: int
    output: str
    calls: list[Called]

    @property
    def word(self) -> str:
        return self.output.partition(":")[0]


LIBC = ctypes.CDLL(None, use_errno=True)


class Process:
    """The memory of a program that waits for its answer."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def _move(self, call: str, address: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
        ours = struct.pack("=QQ", ctypes.addressof(buffer), len(buffer))
        theirs = struct.pack("=QQ", address, len(buffer))
        done: int = getattr(LIBC, call)(self.pid, ours, 1, theirs, 1, 0)
        return max(0, done)

    def read(self, address: int, length: int) -> bytes:
        buffer = ctypes.create_string_buffer(length)
        done = self._move("process_vm_readv", address, buffer)
        return buffer.raw[:done]

    def write(self, address: int, data: bytes) -> bool:
        buffer = ctypes.create_string_buffer(data, len(data))
        return self._move("process_vm_writev", address, buffer) == len(data)


#: Negative for an errno; None: no answer at all.
Kernel = Callable[[Process, Called], int | Descriptor | None]


def run_before(program: Path, number: int, kernel: Kernel | None) -> Ended:
    """Run a program whose calls of ``number`` are answered by ``kernel``; without one, SIGSYS."""
    action = fakekernel.SECCOMP_RET_USER_NOTIF if kernel else fakekernel.SECCOMP_RET_TRAP
    code = ctypes.create_string_buffer(fakekernel.filter_bytes(number, action))
    head = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", 4, ctypes.addressof(code)))
    flags = fakekernel.SECCOMP_FILTER_FLAG_NEW_LISTENER if kernel else 0
    ours, theirs = socket.socketpair()

    def install() -> None:
        LIBC.prctl(fakekernel.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        fd = LIBC.syscall(NR_SECCOMP, fakekernel.SECCOMP_SET_MODE_FILTER, flags, head)
        if fd < 0:
            raise OSError(ctypes.get_errno(), "seccomp")
        socket.send_fds(theirs, [b"x"], [fd])

    with ours, theirs, contextlib.ExitStack() as stack:
        child = stack.enter_context(
            subprocess.Popen(
                [program],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                preexec_fn=install,  # noqa: PLW1509 - the filter is for the program alone
            )
        )
        stack.callback(child.kill)
        calls: list[Called] = []
        if kernel:
            _, (listener, *_), _, _ = socket.recv_fds(ours, 1, 1)
            stack.callback(os.close, listener)
            serve(child, listener, kernel, calls)
        output, _ = child.communicate(timeout=SECONDS)
        return Ended(code=child.returncode, output=output, calls=calls)


def serve(child: subprocess.Popen[str], listener: int, kernel: Kernel, calls: list[Called]) -> None:
    """Answer until the program has ended."""
    pidfd = os.pidfd_open(child.pid)
    try:
        while True:
            ready, _, _ = select.select([listener, pidfd], [], [], SECONDS)
            if pidfd in ready or not ready:
                return
            raw = bytearray(NOTIF.size)
            try:
                fcntl.ioctl(listener, fakekernel.NOTIF_RECV, raw)
            except FileNotFoundError:
                return  # it has ended, or is about to
            ident, _, _, nr, arch, _, *args = NOTIF.unpack(raw)
            calls.append(Called(number=nr, arch=arch, args=tuple(args)))
            answer = kernel(Process(child.pid), calls[-1])
            # A signal may have ended the wait.
            with contextlib.suppress(FileNotFoundError):
                reply(listener, ident, answer)
    finally:
        os.close(pidfd)


def reply(listener: int, ident: int, answer: int | Descriptor | None) -> None:
    if isinstance(answer, Descriptor):
        try:
            raw = ADDFD.pack(ident, fakekernel.ADDFD_FLAG_SEND, answer.fd, 0, 0)
            fcntl.ioctl(listener, fakekernel.NOTIF_ADDFD, raw)
        finally:
            os.close(answer.fd)
    elif answer is not None:
        failed = -MAX_ERRNO <= answer < 0
        value, error = (0, answer) if failed else (answer, 0)
        fcntl.ioctl(
            listener, fakekernel.NOTIF_SEND, bytearray(RESPONSE.pack(ident, value, error, 0))
        )


def modelled(interface: Interface) -> Kernel:
    """The kernel that the contract describes: it knows registers and memory, no case."""
    contract, layout = interface.contract, interface.layout

    def answer(process: Process, call: Called) -> int | Descriptor:
        register = 32 if call.arch == ARCH_I386 else 64
        args = [value % (1 << register) for value in call.args]
        pointer = args[contract.pointer]
        reach = 3 * PAGE
        memory = process.read(pointer, reach)
        match contract.size:
            case SizeField(offset=start, end=end):
                usize = int.from_bytes(memory[start:end], "little")
            case SizeArg(arg=arg, width=width):
                usize = args[arg] % (1 << width)
            case SizeIoctl(arg=arg, most=most):
                usize = args[arg] >> 16 & most
        outcome = model.outcome(
            contract,
            layout,
            model.Call(
                usize=usize,
                memory=memory,
                hole=len(memory) if len(memory) < reach else None,
                args=dict(enumerate(args)),
            ),
        )
        where = contract.size
        if outcome.written is not None and isinstance(where, SizeField):
            new = (outcome.written % (1 << 8 * where.width)).to_bytes(where.width, "little")
            process.write(pointer + where.offset, new)
        if outcome.errno:
            return -outcome.errno
        match contract.effect:
            case ReadBack():
                assert outcome.held is not None
                return holding(outcome.held)
            case DescriptorEffect():
                return holding(b"")
            case _:
                return 12345

    return answer


def holding(data: bytes) -> Descriptor:
    """A descriptor of which read(2) gives these bytes."""
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return Descriptor(reading)


def xyzzy_with(fault: str = "") -> Kernel:
    def answer(process: Process, call: Called) -> int | Descriptor:
        return FakeXyzzy(cast(FakeKernel, process), fault, ksize=32)(call)

    return answer


def number_of(interface: Interface, case: Case) -> int:
    return interface.number(interface.contract.number, case.way)


# What a program does is what the case says.


def same_call(interface: Interface, case: Case, process: Process, call: Called) -> None:
    """Registers and memory of a program's call, against the case's."""
    contract = interface.contract
    # What the 32-bit entry cuts off is there when seccomp looks.
    register = interface.abi.register
    i386 = interface.abi.name == "m32" or (case.way is not None and case.way.int80)
    assert call.arch == (ARCH_I386 if i386 else ARCH_X86_64)
    for index, value in enumerate(cases.registers(contract, case)[: len(contract.args)]):
        arg, seen = contract.args[index], call.args[index]
        if isinstance(arg, Bytes):
            assert process.read(seen, len(arg.data)) == arg.data
        elif isinstance(value, int):
            assert seen == value % (1 << register), f"argument {index}"
        else:
            same_memory(case, process, seen)


def same_memory(case: Case, process: Process, at: int) -> None:
    present = case.memory if case.hole is None else case.memory[: case.hole]
    if case.protection is Protection.NONE:
        assert not process.read(at, 1)
    elif present:
        assert process.read(at, len(present)) == present
        first = process.read(at, 1)
        writable = case.protection is Protection.READ_WRITE
        assert process.write(at, first) is writable
    if case.hole is not None:
        assert not process.read(at + case.hole, 1)
        assert (at + case.hole) % PAGE == 0
    elif case.at_page_start:
        start = at - case.shift
        assert start % PAGE == 0
        assert not process.read(start - 1, 1)
    else:
        assert at % PAGE == case.shift


CONTRACTS = {one.name: one for one in (XYZZY, SIX, SPLIT, IOCTL, *WIDE)}


#: What is tried of the other contracts, whose memory is laid out as xyzzy's.
FEW = ("good", "zero", "one byte is not there", "first byte of a tail", "flag 31", "flag 63")
#: What is tried of xyzzy besides, but for m64, which has all.
MORE = ("at a page's start", "moved", "read-only, a tail", "inaccessible", "NULL", "the kernel's")


def chosen(interface: Interface) -> dict[str, Case]:
    names = FEW + MORE if interface.contract is XYZZY else FEW
    return {
        what: case
        for what, case in everywhere(interface).items()
        if (interface.contract is XYZZY and interface.abi.name == "m64")
        or what.partition(" by ")[0] in names
    }


@pytest.mark.parametrize("name", CONTRACTS)
def test_each_case_is_made_as_it_is(here: ABI, name: str, make: Make, tmp_path: Path) -> None:
    """Every register and byte; exit 0 before a right kernel, 1 before one with another errno."""
    interface = make(CONTRACTS[name], here)
    right = modelled(interface)
    tried = chosen(interface)
    texts = {what: source_of(interface, case) for what, case in tried.items()}
    for what, program in all_compiled(texts, here, tmp_path).items():
        case = tried[what]

        def look(process: Process, call: Called, case: Case = case) -> int | Descriptor | None:
            same_call(interface, case, process, call)
            return right(process, call)

        done = run_before(program, number_of(interface, case), look)
        assert (done.code, done.word, len(done.calls)) == (BEHAVES, "behaves", 1), what
        answer = 0 if interface.predict(case).errno else -errno.EXDEV
        wrong = run_before(program, number_of(interface, case), one_answer(answer))
        assert (wrong.code, wrong.word) == (MISBEHAVES, "misbehaves"), what
        assert wrong.output.count("\n") == 1


# A kernel with a fault: found by the harness, confirmed by the program.


@pytest.fixture(scope="module")
def found(compiler: Compiler, programs: Programs) -> Iterator[Callable[[ABI, str], list[Mismatch]]]:
    """What the harness finds in a xyzzy with a fault, by calls of a real caller."""
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(targets.local(programs.agent, programs.callers))
        kernels: dict[ABI, FakeKernel] = {}

        def find(one: ABI, fault: str) -> list[Mismatch]:
            if one not in kernels:
                kernels[one] = stack.enter_context(fakekernel.fake_kernel(target, one))
            kernels[one].answer = FakeXyzzy(kernels[one], fault, ksize=32)
            interface = Interface(XYZZY, one, compiler=compiler, target=target)
            try:
                interface.check_all(
                    *(
                        case
                        for case in (*everywhere(interface).values(), *of_xyzzy(interface))
                        if case.way is None
                    )
                )
            except ContractBrokenError as exc:
                return exc.mismatches
            return []

        yield find


def of_xyzzy(interface: Interface) -> list[Case]:
    """What provokes the checks that xyzzy alone has."""
    return [
        interface.case(usize=23),
        interface.case(param_1=1 << 31),
        interface.case(param_1=4, param_3=0),
        interface.case(param_3=1_000_000_000),
        interface.case(param_3=1_000_000_001),
        interface.case(usize=28),
        dataclasses.replace(interface.case(usize=31), hole=31),
        dataclasses.replace(with_byte(interface.case(), 32 - 1, 0xFF), flags=((1, 1 << 7),)),
        dataclasses.replace(interface.case(usize=20), flags=((1, 1 << 7),)),
        # One byte that is not the size's, where nobody may write.
        with_canaries(dataclasses.replace(interface.case(), at_page_start=True, shift=16)),
    ]


def test_a_right_kernel_is_not_accused(
    here: ABI, found: Callable[[ABI, str], list[Mismatch]]
) -> None:
    assert found(here, "") == []


#: What no single call shows; sweeps and the battery have other means.
NOT_OF_A_CALL = {"writes-before", "cloexec-inverted"}


@pytest.mark.parametrize(
    "fault", sorted(FAULTS.keys() - NOT_OF_A_CALL - PRIVILEGE.keys() - POINTERS.keys())
)
def test_a_fault_is_confirmed(
    here: ABI,
    fault: str,
    found: Callable[[ABI, str], list[Mismatch]],
    make: Make,
    tmp_path: Path,
) -> None:
    """Exit 1 before the kernel with the fault, 0 before the one without it."""
    if fault == "flags-64" and here.register == 32:
        pytest.skip("a 32-bit program has no upper half to set")
    interface = make(XYZZY, here)
    mismatches = found(here, fault)
    assert mismatches, FAULTS[fault]
    mismatch = mismatches[0]
    path = repro.write(interface, mismatch, tmp_path, prop="P1", number=1)
    assert path is not None
    assert mismatch.case is not None
    program = compiled(path.read_text(), here, tmp_path)
    nr = number_of(interface, mismatch.case)
    bad = run_before(program, nr, xyzzy_with(fault))
    assert (bad.code, bad.word) == (MISBEHAVES, "misbehaves"), mismatch
    good = run_before(program, nr, xyzzy_with())
    assert (good.code, good.word) == (BEHAVES, "behaves"), mismatch


def privileged_cases(interface: Interface) -> dict[str, Case]:
    """Everybody who can make a call, and everybody whom it can name."""
    good = interface.case()
    found = {who.name: dataclasses.replace(good, who=who) for who in identities("CAP_SYS_RESOURCE")}
    for peer in PEERS:
        found[peer.name] = dataclasses.replace(good, who=NOBODY, peer=("param_4", peer))
    return found


def privileged(fault: str = "") -> Kernel:
    """A xyzzy that looks at who calls it."""

    def answer(process: Process, call: Called) -> int | Descriptor:
        return FakeXyzzy(
            cast(FakeKernel, process), fault, ksize=32, capability=CAPABILITY, names=True
        )(dataclasses.replace(call, pid=process.pid))

    return answer


@pytest.mark.parametrize("fault", PRIVILEGE)
def test_a_fault_of_privilege_is_confirmed(
    fault: str, compiler: Compiler, programs: Programs, tmp_path: Path
) -> None:
    """The program becomes whom the finding names, and names whom the finding does."""
    here = hosttarget.running()[0]
    found: list[Mismatch] = []
    with (
        targets.local(programs.agent, programs.callers) as target,
        fakekernel.fake_kernel(target, here) as kernel,
    ):
        kernel.answer = FakeXyzzy(kernel, fault, ksize=32, capability=CAPABILITY, names=True)
        interface = Interface(NEWER, here, compiler=compiler, target=target)
        for item in [item for item in BATTERY if item.prop == "P19"]:
            try:
                item.run(interface, Level())
            except ContractBrokenError as exc:
                found += exc.mismatches
        texts = {}
        for number, mismatch in enumerate((found[0], found[-1])):
            text = repro.render(interface, mismatch, prop="P19")
            assert text is not None
            texts[f"{number}: {mismatch}"] = text
    assert texts
    for what, program in all_compiled(texts, here, tmp_path).items():
        nr = fakekernel.number(here)
        bad = run_before(program, nr, privileged(fault))
        assert (bad.code, bad.word) == (MISBEHAVES, "misbehaves"), (what, bad)
        good = run_before(program, nr, privileged())
        assert (good.code, good.word) == (BEHAVES, "behaves"), (what, good)


def pointed(fault: str = "") -> Kernel:
    """A xyzzy with an address in its struct."""

    def answer(process: Process, call: Called) -> int | Descriptor:
        return FakeXyzzy(cast(FakeKernel, process), fault, points=16)(call)

    return answer


@pytest.mark.parametrize("fault", ["pointer-cut", "pointer-einval"])
def test_a_fault_of_a_pointer_is_confirmed(
    here: ABI, fault: str, make: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The program has at that address what the contract has there."""
    tmp_path = tmp_path_factory.mktemp("pointer")
    compiler = Compiler(headers=fakexyzzy.headers(tmp_path / "include", POINTING))
    plain = make(XYZZY, here)
    interface = Interface(POINTING, here, compiler=compiler, target=plain.target)
    case = interface.case(param_2=piece_at() | 1 << 40)
    assert interface.predict(case).errno == errno.EFAULT
    good = interface.case(param_2=piece_at())
    assert interface.predict(good).errno == 0
    bad, fine = (compiled(source_of(interface, one), here, tmp_path) for one in (case, good))
    nr = number_of(interface, case)
    assert run_before(bad, nr, pointed(fault)).code == MISBEHAVES
    assert run_before(bad, nr, pointed()).code == BEHAVES
    assert run_before(fine, nr, pointed()).code == BEHAVES


@pytest.mark.parametrize("at_page_start", [False, True])
def test_a_byte_before_the_struct(
    here: ABI, at_page_start: bool, make: Make, tmp_path: Path
) -> None:
    """The harness needs a sweep for that; a program looks at all of its memory."""
    interface = make(XYZZY, here)
    case = dataclasses.replace(interface.case(), at_page_start=at_page_start, shift=3)
    program = compiled(source_of(interface, case), here, tmp_path)
    done = run_before(program, number_of(interface, case), xyzzy_with("writes-before"))
    assert (done.code, "the byte at -3 from the struct" in done.output) == (MISBEHAVES, True)
    assert run_before(program, number_of(interface, case), xyzzy_with()).code == BEHAVES


def one_answer(answer: int | Descriptor | None) -> Kernel:
    return lambda process, call: answer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Oddity:
    """An answer that no fault of xyzzy's gives, and what a program has to say of it."""

    kernel: Callable[[bytes], Kernel | None]  #: given what read(2) should give
    code: int
    says: str
    seen: str = "EXDEV"  #: what the mismatch says that the kernel did


ODDITIES = {
    "no such call": Oddity(
        kernel=lambda held: one_answer(-errno.ENOSYS), code=NOT_TRIED, says="no such call"
    ),
    "no such call, which is the finding": Oddity(
        kernel=lambda held: one_answer(-errno.ENOSYS),
        code=MISBEHAVES,
        says="Function not implemented",
        seen="ENOSYS",
    ),
    "no permission": Oddity(
        kernel=lambda held: one_answer(-errno.EPERM), code=NOT_TRIED, says="may not"
    ),
    "no access": Oddity(
        kernel=lambda held: one_answer(-errno.EACCES), code=NOT_TRIED, says="may not"
    ),
    "no access, which is the finding": Oddity(
        kernel=lambda held: one_answer(-errno.EACCES),
        code=MISBEHAVES,
        says="Permission denied",
        seen="EACCES, size set to 24",
    ),
    "a filter": Oddity(kernel=lambda held: None, code=NOT_TRIED, says="Bad system call"),
    "no descriptor": Oddity(
        kernel=lambda held: one_answer(77), code=MISBEHAVES, says="gives -1 bytes"
    ),
    "an empty record": Oddity(
        kernel=lambda held: lambda p, c: holding(b""), code=MISBEHAVES, says="gives 0 bytes"
    ),
    "a short record": Oddity(
        kernel=lambda held: lambda p, c: holding(held[:-1]), code=MISBEHAVES, says="gives 31"
    ),
    "a long record": Oddity(
        kernel=lambda held: lambda p, c: holding(held + b"\0"), code=MISBEHAVES, says="gives 33"
    ),
    "another last byte": Oddity(
        kernel=lambda held: lambda p, c: holding(held[:-1] + b"\xff"),
        code=MISBEHAVES,
        says="byte 31 of what read(2) gives is 0xff instead of 0",
    ),
    "a signal": Oddity(
        kernel=lambda held: killing(signal.SIGSEGV), code=MISBEHAVES, says="Segmentation fault"
    ),
    "no answer": Oddity(kernel=lambda held: one_answer(None), code=MISBEHAVES, says="Alarm clock"),
}


def killing(number: int) -> Kernel:
    def answer(process: Process, call: Called) -> None:
        os.kill(process.pid, number)

    return answer


@pytest.mark.parametrize("name", ODDITIES)
def test_odd_answers(here: ABI, name: str, make: Make, tmp_path: Path) -> None:
    one = ODDITIES[name]
    interface = make(XYZZY, here)
    case = interface.case()
    text = source_of(interface, case, seen=one.seen)
    assert text.count("alarm(10)") == 1
    program = compiled(text.replace("alarm(10)", "alarm(1)"), here, tmp_path)
    held = interface.predict(case).held
    assert held is not None
    done = run_before(program, number_of(interface, case), one.kernel(held))
    assert (done.code, done.output.count("\n")) == (one.code, 1)
    assert one.says in done.output


def test_an_enosys_that_the_contract_asks_for(here: ABI, make: Make, tmp_path: Path) -> None:
    """Then it is no reason to say that nothing was tried."""
    checks = tuple(
        dataclasses.replace(check, errno=errno.ENOSYS) if isinstance(check, Tail) else check
        for check in XYZZY.checks
    )
    interface = make(dataclasses.replace(XYZZY, checks=checks), here)
    case = with_byte(interface.case(usize=48), 40, 1)
    program = compiled(source_of(interface, case), here, tmp_path)
    nr = number_of(interface, case)
    assert run_before(program, nr, modelled(interface)).code == BEHAVES
    assert run_before(program, nr, xyzzy_with()).code == MISBEHAVES


def test_a_descriptor_that_is_none(here: ABI, make: Make, tmp_path: Path) -> None:
    interface = make(SIX, here)
    case = interface.case()
    program = compiled(source_of(interface, case), here, tmp_path)
    done = run_before(program, number_of(interface, case), one_answer(77))
    assert (done.code, "no descriptor" in done.output) == (MISBEHAVES, True)


@pytest.mark.parametrize("flags", [("-O0",), ("-O3",), ("-O2", "-fPIE", "-pie")], ids=" ".join)
def test_other_ways_of_compiling(
    here: ABI, flags: tuple[str, ...], make: Make, tmp_path: Path
) -> None:
    """Six arguments set by hand do not depend on how gcc uses registers."""
    interface = make(SIX, here)
    right = modelled(interface)
    for way in (None, *WAYS[here.name][1:]):
        case = dataclasses.replace(interface.case(), way=way, flags=((4, 1),))
        program = compiled(source_of(interface, case), here, tmp_path, (*STRICT, *flags))

        def look(process: Process, call: Called, case: Case = case) -> int | Descriptor | None:
            same_call(interface, case, process, call)
            return right(process, call)

        assert run_before(program, number_of(interface, case), look).code == BEHAVES


# What cannot run here is compiled.


@pytest.mark.parametrize("name", CONTRACTS)
def test_each_case_compiles_as_mx32(name: str, make: Make, tmp_path: Path) -> None:
    interface = make(CONTRACTS[name], abi("mx32"))
    tried = chosen(interface)
    if interface.contract is XYZZY:
        tried |= privileged_cases(interface)
    texts = {what: source_of(interface, case) for what, case in tried.items()}
    all_compiled(texts, interface.abi, tmp_path, (*STRICT, "-c"))


def test_whole_registers_on_x32(make: Make) -> None:
    """libc's syscall() has 32-bit longs there: what needs more is set by hand."""
    interface = make(XYZZY, abi("mx32"))
    good = interface.case()
    assert "asm" not in source_of(interface, good)
    wide = source_of(interface, dataclasses.replace(good, flags=((1, 1 << 63 | 1),)))
    assert '"syscall"' in wide
    assert "0x8000000000000001ULL);\t/* XYZZY_CLOEXEC | bit 63 */" in wide
    kernels = dataclasses.replace(good, pointer=0xFFFF_8880_0000_0000)
    assert "0xffff888000000000ULL,\t/* struct xyzzy_params * */" in source_of(interface, kernels)
    by_int80 = dataclasses.replace(good, way=WAYS["mx32"][2])
    assert '"int $0x80"' in source_of(interface, by_int80)
    # The other bit of the number needs nothing but the number.
    without = source_of(interface, dataclasses.replace(good, way=WAYS["mx32"][1]))
    assert f"#define NR_XYZZY {fakekernel.NUMBER}\n" in without
    assert "syscall(NR_XYZZY, params, 0UL);" in without


@pytest.mark.parametrize("one", ABIS, ids=lambda one: one.name)
def test_a_forgotten_flag_is_noticed(one: ABI, make: Make, tmp_path: Path) -> None:
    interface = make(XYZZY, one)
    source = tmp_path / "repro.c"
    source.write_text(source_of(interface, interface.case()))
    for other in ABIS:
        done = subprocess.run(
            ["gcc", other.cflag, "-fsyntax-only", source],
            capture_output=True,
            text=True,
            check=False,
        )
        assert bool(done.returncode) is (other != one)
        assert (f"compile this with {one.cflag}" in done.stderr) is (other != one)


# How it reads.


def test_the_first_comment(make: Make, tmp_path: Path) -> None:
    interface = make(XYZZY, abi("m32"))
    case = with_byte(interface.case(usize=40), 33, 0x80)
    mismatch = Mismatch(
        first="usize 40, byte 33 ^= 0x80",
        last="usize 4096, byte 4095 ^= 0x80",
        count=1234567,
        allowed="E2BIG, size set to 32 (Tail)",
        seen="success, a word of the kernel's */ in between",
        cause="E2BIG → success",
        case=case,
    )
    path = repro.write(interface, mismatch, tmp_path / "new", prop="P3", number=7)
    assert path == tmp_path / "new" / "repro-xyzzy-P3-m32-7.c"
    text = path.read_text()
    first, comment, rest = text.partition("\n/*\n")[0], *text.partition("/*\n")[2].split(" */", 1)
    assert first == "// SPDX-License-Identifier: GPL-2.0-only"
    said = " ".join(comment.replace("\n *", " ").split())
    for words in (
        "xyzzy() as m32 breaks its contract: P3, trailing bytes",
        "call usize 40, byte 33 ^= 0x80",
        "allowed E2BIG, size set to 32 (Tail)",
        f"(Linux {interface.target.hello.release})",
        f"contract {XYZZY.source}",
        "1,234,567 such calls",
        "usize 4096, byte 4095 ^= 0x80",
        "gcc -m32 -static -O2 -Wall -o repro repro-xyzzy-P3-m32-7.c",
        "exits 1 while",
    ):
        assert words in said, words
    assert "harness" not in text
    assert "int main" in rest


def test_the_command_of_the_first_comment(here: ABI, make: Make, tmp_path: Path) -> None:
    """As a person would use it: in the directory, with what the comment says."""
    interface = make(XYZZY, here)
    mismatch = mismatch_of(interface, interface.case())
    path = repro.write(interface, mismatch, tmp_path, prop="P1", number=1)
    assert path is not None
    commands = re.findall(r"^ \*\t(.+)$", path.read_text(), re.MULTILINE)
    assert len(commands) == 2
    for command, code in zip(commands, (0, NOT_TRIED), strict=True):
        done = subprocess.run(command.split(), cwd=tmp_path, check=False, capture_output=True)
        assert done.returncode == code
        assert not done.stderr


@pytest.mark.parametrize("name", CONTRACTS)
@pytest.mark.parametrize("one", ABIS, ids=lambda one: one.name)
def test_kernel_style(one: ABI, name: str, make: Make) -> None:
    """Tabs, no blank at a line's end, 100 columns, no blank line twice; as checkpatch.pl has it."""
    interface = make(CONTRACTS[name], one)
    tried = everywhere(interface)
    if interface.contract is XYZZY:
        tried |= privileged_cases(interface)
    for what, case in tried.items():
        text = source_of(interface, case)
        lines = text.splitlines()
        for line in lines:
            assert len(line.expandtabs(8)) <= 100, (what, line)
            assert line == line.rstrip(), (what, line)
            assert not line.startswith(" " * 8), (what, line)
            assert "\t " not in line.lstrip("\t ")
        assert "\n\n\n" not in text, what
        assert "{\n\n" not in text, what
        assert "\n\n}" not in text, what
        assert text.endswith("}\n")
        assert not text.endswith("\n\n")


def test_long_memory_is_short(make: Make) -> None:
    """A page with one byte in its middle, a page of one byte: two lines more than none of it."""
    interface = make(XYZZY, abi("m64"))
    page = interface.case(usize=PAGE)
    plain = len(source_of(interface, page).splitlines())
    one = source_of(interface, with_byte(page, 2048, 7))
    assert "\t[2048] = 0x07,\n" in one
    # That one is refused, so read(2) has nothing to give.
    assert len(one.splitlines()) < plain
    full = dataclasses.replace(page, memory=page.memory[:32] + b"\xff" * (PAGE - 32))
    assert "\t[32 ... 4095] = 0xff,\n" in source_of(interface, full)


def test_fields_are_named(make: Make) -> None:
    interface = make(XYZZY, abi("m64"))
    text = source_of(interface, interface.case(usize=30, param_4=0x0102030405060708))
    assert "[0] = 0x1e,\t/* size = 30 */" in text
    assert "[4] = 0x01,\t/* param_1 = 1 */" in text
    assert "\t/* param_2 = 0x1122334455667788 */" in text
    assert "[24] = 0x08, 0x07, 0x06, 0x05, 0x04, 0x03,\t/* param_4, its first 6 bytes */" in text


def test_the_stack_is_poisoned_where_it_can_show(make: Make) -> None:
    """Only a short struct that is accepted, and read back, shows what was on the stack."""
    interface = make(XYZZY, abi("m64"))
    poisoned = {
        what: "poison_stack();" in source_of(interface, case)
        for what, case in everywhere(interface).items()
    }
    assert {what for what, is_so in poisoned.items() if is_so} == {"VER0", "zero", "short by one"}
    calls = re.findall(
        r"\n\tpoison_stack\(\);\n\n\tret = ", source_of(interface, interface.case(usize=24))
    )
    assert len(calls) == 1


#: What stands beside a mismatch that has no program, and the words that are its reason.
REASON = NoProgram(why="it is for a test")


def test_a_mismatch_has_a_program_or_a_reason(make: Make, tmp_path: Path) -> None:
    interface = make(XYZZY, abi("m64"))
    known = mismatch_of(interface, interface.case())
    with pytest.raises(ValueError, match="no reason why"):
        dataclasses.replace(known, case=None)
    canary = dataclasses.replace(known, case=None, how=REASON)
    where = tmp_path / "none"
    assert reproducers.write(interface, canary, where, prop="P5", number=1) is REASON
    assert not where.exists()


def test_each_kind_of_mismatch_is_a_program_or_a_reason() -> None:
    """Whatever harness/how.py has, and a stall, a race, a watch: reproducers knows it.

    And no item says what a kernel did wrong by an assertion, which would have neither.
    """
    kinds = {
        value
        for _, value in inspect.getmembers(hows, inspect.isclass)
        if value.__module__ == hows.__name__ and not issubclass(value, enum.Enum)
    }
    parts = {hows.Claim}  # of Claims
    assert kinds - parts | {Stall, Race, Watch} == set(reproducers.KINDS)
    for module in ("battery", *(one.__name__.split(".")[-1] for one in MODULES)):
        source = Path(battery.__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Assert):
                text = ast.unparse(node.test)
                narrows = re.fullmatch(r"isinstance\(.*\)|.* is not None", text)
                assert narrows, f"{module}.py:{node.lineno}: {text}"


LAYOUT = Layout(
    struct="s",
    size=32,
    align=8,
    fields=(
        Field(name="size", offset=0, size=4),
        Field(name="wide", offset=8, size=12),
        Field(name="overlaid", offset=8, size=4),
        Field(name="last", offset=21, size=2),
        Field(name="a_name_of_some_forty_characters_or_so", offset=24, size=8),
    ),
)


def bytes_of(lines: tuple[str, ...], length: int) -> bytes:
    """What C's compiler makes of initialisers; each byte is given once at most."""
    data: list[int | None] = [None] * length
    for line in lines:
        assert len(f"\t{line}".expandtabs(8)) <= 100
        if line.startswith("/*"):
            continue
        match = re.fullmatch(r"\[(\d+)(?: \.\.\. (\d+))?\] = ((?:0x[0-9a-f]{2},? ?)+)(\t.*)?", line)
        assert match, line
        values = [int(value, 16) for value in re.findall(r"0x..", match[3])]
        first = int(match[1])
        if match[2]:
            assert len(values) == 1
            values *= int(match[2]) - first + 1
        for at, value in enumerate(values, start=first):
            assert data[at] is None
            data[at] = value
    return bytes(value or 0 for value in data)


PIECES = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.builds(
            lambda byte, count: bytes([byte]) * count, st.integers(0, 255), st.integers(0, 40)
        ),
        st.integers(0, 40).map(bytes),
    ),
    max_size=12,
)


@given(PIECES)
def test_initialisers_are_the_bytes(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    lines = repro.initialisers(data, LAYOUT, size_field="size")
    assert bytes_of(lines, len(data)) == data
    # No line that says nothing, and no zeros at length.
    for line in lines:
        assert "] = 0x00,\t" not in line
        assert line.count("0x00") < repro.BYTES_PER_LINE


# The real kernel.


OPEN_FLAGS = {"O_CREAT": os.O_CREAT, "O_DIRECTORY": os.O_DIRECTORY, "O_CLOEXEC": os.O_CLOEXEC}

#: As much of openat2(2)'s contract as is the same in all kernels since 5.6.
OPENAT2 = Contract(
    name="openat2",
    number="__NR_openat2",
    header="linux/openat2.h",
    struct="open_how",
    declaration="struct open_how { __u64 flags; __u64 mode; __u64 resolve; };",
    size=SizeArg(arg=3),
    versions=(Version(name="VER0", size=24),),
    zero_means=None,
    args=(Value(value=-100 % (1 << 64)), Bytes(data=b"/\0"), Pointer(), SizeValue()),
    checks=(
        SizeBounds(minimum=24, maximum=PAGE, too_small=errno.EINVAL, too_big=errno.E2BIG),
        Tail(errno=errno.E2BIG),
        Copy(),
        UnknownBits(field="flags", known=OPEN_FLAGS),
        UnknownBits(field="resolve", known={"RESOLVE_NO_XDEV": 1}),
        OnlyWith(field="mode", other="flags", bits=os.O_CREAT),
    ),
    example={"flags": os.O_DIRECTORY | os.O_CLOEXEC, "mode": 0, "resolve": 0},
    effect=DescriptorEffect(),
    source="openat2(2), fs/open.c:SYSCALL_DEFINE4(openat2)",
)


#: sched_setattr(2), which writes its size back; of this process, and nothing changes.
def changed(contract: Contract, kind: type, **fields: Any) -> Contract:
    """The contract with one check changed."""
    checks = tuple(
        dataclasses.replace(check, **fields) if isinstance(check, kind) else check
        for check in contract.checks
    )
    return dataclasses.replace(contract, checks=checks)


#: A contract, the same with one promise changed, and a case that tells them apart.
BROKEN: dict[str, tuple[Contract, Contract, Callable[[Interface], Case]]] = {
    "openat2's tail": (
        OPENAT2,
        changed(OPENAT2, Tail, errno=errno.EINVAL),
        lambda interface: with_byte(interface.case(usize=40), 30, 1),
    ),
    "openat2's smallest size": (
        OPENAT2,
        changed(OPENAT2, SizeBounds, too_small=errno.E2BIG),
        lambda interface: interface.case(usize=23),
    ),
    "openat2's fault": (
        OPENAT2,
        changed(OPENAT2, Copy, errno=errno.EINVAL),
        lambda interface: dataclasses.replace(interface.case(), hole=23),
    ),
    "openat2's fault behind NULL": (
        OPENAT2,
        changed(OPENAT2, Copy, errno=errno.EINVAL),
        lambda interface: dataclasses.replace(interface.case(), pointer=0),
    ),
    "openat2's mode": (
        OPENAT2,
        changed(OPENAT2, OnlyWith, errno=errno.EPERM),
        lambda interface: interface.case(mode=0o644),
    ),
    "openat2's known flags": (
        OPENAT2,
        changed(OPENAT2, UnknownBits, known={}),
        lambda interface: dataclasses.replace(interface.case(), protection=Protection.READ),
    ),
    "sched_setattr's write-back": (
        SCHED_SETATTR,
        changed(SCHED_SETATTR, SizeBounds, writes_size=False),
        lambda interface: with_canaries(interface.case(usize=40)),
    ),
    "sched_setattr's tail": (
        SCHED_SETATTR,
        changed(SCHED_SETATTR, Tail, errno=errno.EINVAL, writes_size=False),
        lambda interface: with_byte(interface.case(usize=interface.ksize + 8), -1, 1),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_real_calls(here: ABI, name: str, local: Target, tmp_path: Path) -> None:
    """Contract changed: the harness finds a mismatch, its program exits 1.  Right: 0."""
    right, wrong, provoke = BROKEN[name]
    compiler = hosttarget.COMPILER
    broken = Interface(wrong, here, compiler=compiler, target=local)
    # This machine's kernel may have no x32.
    other = [way for way in WAYS[here.name][1:] if way.int80]
    for way in (None, *(other if name.endswith("tail") else ())):
        case = dataclasses.replace(provoke(broken), way=way)
        with pytest.raises(ContractBrokenError) as caught:
            broken.check_all(case)
        (mismatch,) = caught.value.mismatches
        path = repro.write(broken, mismatch, tmp_path, prop="P17", number=1)
        assert path is not None
        assert ran(compiled(path.read_text(), here, tmp_path)) == (MISBEHAVES, "misbehaves")

        intact = Interface(right, here, compiler=compiler, target=local)
        intact.check_all(case)
        program = compiled(source_of(intact, case), here, tmp_path)
        assert ran(program) == (BEHAVES, "behaves")


def ran(program: Path) -> tuple[int, str]:
    """Exit code and first word, before this machine's kernel."""
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.partition(":")[0]
