# SPDX-License-Identifier: GPL-2.0-only
"""The three ABIs that x86 has, as data."""

from __future__ import annotations

import dataclasses

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


def abi(name: str) -> ABI:
    """The ABI of that name.  Raises UserError that lists the known ones."""
    for one in ABIS:
        if one.name == name:
            return one
    known = ", ".join(one.name for one in ABIS)
    raise UserError(f"unknown ABI {name!r}", hint=f"one of {known}")
