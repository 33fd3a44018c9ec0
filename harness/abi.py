# SPDX-License-Identifier: GPL-2.0-only
"""The three ABIs that x86 has, as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from vm import kernels
from vm.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ABI:
    """A compiler flag, a data model and a way into the kernel."""

    name: str  #: as reports and options name it: m64, m32, mx32
    cflag: str  #: what selects it in gcc and clang
    channel: int  #: its caller's channel number on the wire, 1 to 7
    pointer: int  #: sizeof(void *), bytes
    long: int  #: sizeof(long), bytes
    u64_align: int  #: _Alignof(uint64_t) inside a struct, bytes
    register: int  #: bits of an argument register that a program can set
    elf_class: int  #: 32 or 64, of its object files
    suffix: str  #: of the programs that the kernel's selftests build for it
    why: str  #: what it shows that the others cannot


ABIS: tuple[ABI, ...] = (
    ABI(
        name="m64",
        cflag="-m64",
        channel=1,
        pointer=8,
        long=8,
        u64_align=8,
        register=64,
        elf_class=64,
        suffix="64",
        why="the native entry, entry_SYSCALL_64",
    ),
    ABI(
        name="m32",
        cflag="-m32",
        channel=2,
        pointer=4,
        long=4,
        u64_align=4,
        register=32,
        elf_class=32,
        suffix="32",
        why="the compat entry, int 0x80: i386's table, and uint64_t aligned to 4 bytes",
    ),
    ABI(
        name="mx32",
        cflag="-mx32",
        channel=3,
        pointer=4,
        long=4,
        u64_align=8,
        register=64,
        elf_class=32,
        suffix="x32",
        why="the native entry with bit 30 set in the number: ILP32 over 64-bit registers",
    ),
)


#: The ABIs of which a kernel of ours runs programs, by what it is built for.  User-mode
#: Linux has one table (arch/x86/um/sys_call_table_64.c), whichever way a call is made.
OF_ARCH: Mapping[str, tuple[ABI, ...]] = {kernels.X86: ABIS, kernels.UM: ABIS[:1]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Way:
    """A way into the kernel, from a program of one ABI."""

    name: str
    int80: bool  #: the instruction: int 0x80, else the ABI's own
    table: str  #: the ABI whose <asm/unistd.h> numbers the calls
    register: int  #: bits of a register that reach the kernel's handler
    why: str
    queued: bool = False  #: by an entry of an io_uring's submission queue
    worker: bool = False  #: and then by a thread of the kernel's, whatever it is


#: By ABI; its own way first.
WAYS: Mapping[str, tuple[Way, ...]] = {
    "m64": (
        Way(name="syscall", int80=False, table="m64", register=64, why="entry_SYSCALL_64"),
        Way(
            name="x32 bit",
            int80=False,
            table="mx32",
            register=64,
            why="any 64-bit program can set bit 30: do_syscall_x32()",
        ),
        Way(
            name="int 0x80",
            int80=True,
            table="m32",
            register=32,
            why="any 64-bit program can use the 32-bit entry; upper halves are cut off",
        ),
    ),
    "m32": (
        Way(name="int 0x80", int80=True, table="m32", register=32, why="do_int80_emulation()"),
    ),
    "mx32": (
        Way(name="x32", int80=False, table="mx32", register=64, why="do_syscall_x32()"),
        Way(
            name="no x32 bit",
            int80=False,
            table="m64",
            register=64,
            why="an x32 program can leave bit 30 out: do_syscall_x64()",
        ),
        Way(
            name="int 0x80",
            int80=True,
            table="m32",
            register=32,
            why="any 64-bit program can use the 32-bit entry",
        ),
    ),
}

#: The same of a call that is queued.  Its arguments are members of struct io_uring_sqe, as
#: wide as they are there in every ABI, and its number is an opcode.
QUEUED_WAYS: Mapping[str, tuple[Way, ...]] = {
    one.name: (
        Way(
            name="queue",
            int80=False,
            table=one.name,
            register=64,
            why="io_uring_enter(): done where it is submitted, if nothing blocks",
            queued=True,
        ),
        Way(
            name="worker",
            int80=False,
            table=one.name,
            register=64,
            why="IOSQE_ASYNC: what was prepared is done by a thread of io_uring's",
            queued=True,
            worker=True,
        ),
    )
    for one in ABIS
}


def ways(name: str, *, queued: bool = False) -> tuple[Way, ...]:
    """An ABI's ways into the kernel, of a call that is queued or of a system call."""
    return (QUEUED_WAYS if queued else WAYS)[name]


def abi(name: str) -> ABI:
    """The ABI of that name.  Raises UserError that lists the known ones."""
    for one in ABIS:
        if one.name == name:
            return one
    known = ", ".join(one.name for one in ABIS)
    raise UserError(f"unknown ABI {name!r}", hint=f"one of {known}")
