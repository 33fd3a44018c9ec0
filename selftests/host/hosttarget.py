# SPDX-License-Identifier: GPL-2.0-only
"""Callers on this machine's own kernel, for tests that need no guest.

Which ABIs this kernel executes is found out with a program of a few
instructions; nothing of the harness is asked.  The fixtures are in conftest.py.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import os
import struct
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from harness import layout as layouts
from harness.abi import ABI, ABIS
from harness.layout import Compiler
from harness.program import AREA_BYTES, ARENA, SCRATCH, Area, Program, at
from harness.target import Target

COMPILER = Compiler(headers=None)

#: System calls that the tests make.  mmap's offset is in pages as mmap2.
CALLS = {
    name: f"__NR_{name}"
    for name in (
        *("close", "clock_nanosleep", "dup", "exit_group", "fcntl", "getpid", "getppid"),
        *("kill", "lseek", "memfd_create", "mmap", "mprotect", "nanosleep", "openat"),
        *("pipe2", "poll", "prctl", "pread64", "ftruncate"),
        *("clone3", "pwrite64", "read", "sched_setattr", "seccomp", "waitid", "write"),
    )
}
CALLS_OF_M32 = {**CALLS, "mmap": "__NR_mmap2"}

PROT_READ_WRITE = 3
MAP_PRIVATE_FIXED_ANONYMOUS = 0x32

#: e_machine and the code of a program that does nothing but exit with 7.
EXIT_7 = {
    # mov $60, %eax; mov $7, %edi; syscall
    "m64": (62, bytes.fromhex("b83c000000bf070000000f05")),
    # mov $1, %eax; mov $7, %ebx; int $0x80
    "m32": (3, bytes.fromhex("b801000000bb07000000cd80")),
    # mov $0x4000003c, %eax; mov $7, %edi; syscall
    "mx32": (62, bytes.fromhex("b83c000040bf070000000f05")),
}


def tiny_program(abi: ABI) -> bytes:
    """An ELF file of that ABI, header and code in one segment, which exits with 7."""
    machine, code = EXIT_7[abi.name]
    base = 0x10000
    if abi.elf_class == 64:
        size = 64 + 56
        ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
        head = struct.pack(
            "<HHIQQQIHHHHHH", 2, machine, 1, base + size, 64, 0, 0, 64, 56, 1, 0, 0, 0
        )
        total = size + len(code)
        segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, total, total, 4096)
    else:
        size = 52 + 32
        ident = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
        head = struct.pack(
            "<HHIIIIIHHHHHH", 2, machine, 1, base + size, 52, 0, 0, 52, 32, 1, 0, 0, 0
        )
        total = size + len(code)
        segment = struct.pack("<IIIIIIII", 1, 0, base, base, total, total, 5, 4096)
    return ident + head + segment + code


@functools.cache
def refusal(abi: ABI) -> int:
    """Zero when this kernel executes programs of the ABI, else execve()'s errno."""
    handle, name = tempfile.mkstemp(prefix="extsys-tiny-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(tiny_program(abi))
        Path(name).chmod(0o700)
        done = subprocess.run([name], check=False)
    except OSError as exc:
        return exc.errno or errno.ENOEXEC
    finally:
        Path(name).unlink()
    assert done.returncode == 7, f"{abi.name}: {done.returncode}"
    return 0


def running() -> list[ABI]:
    """The ABIs that this kernel executes."""
    return [abi for abi in ABIS if not refusal(abi)]


@functools.cache
def numbers(abi: ABI) -> Mapping[str, int]:
    """System call numbers of an ABI, from this machine's headers."""
    return layouts.constants(
        COMPILER,
        abi,
        includes=("asm/unistd.h",),
        expressions=CALLS_OF_M32 if abi.name == "m32" else CALLS,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process:
    """A caller as the host sees it."""

    pid: int
    arena: int  #: address of its first byte
    scratch: int


def look_up(target: Target, abi: ABI) -> Process:
    """Ask the caller of ``abi`` for its pid and where its areas are.

    mmap() with MAP_FIXED gives back the address that it was given.
    """
    nr = numbers(abi)
    program = Program()
    pid = program.syscall(nr["getpid"])

    def address(area: Area) -> int:
        return program.syscall(
            nr["mmap"],
            at(area),
            AREA_BYTES,
            PROT_READ_WRITE,
            MAP_PRIVATE_FIXED_ANONYMOUS,
            (1 << 64) - 1,
            0,
        ).index

    arena, scratch = address(ARENA), address(SCRATCH)
    results = target.caller(abi).run(program)
    mask = (1 << 8 * abi.pointer) - 1
    return Process(
        pid=results[pid.index].ret,
        arena=results[arena].ret & mask,
        scratch=results[scratch].ret & mask,
    )
