# SPDX-License-Identifier: GPL-2.0-only
"""What a file that is said to be a kernel is: told before QEMU is asked."""

from __future__ import annotations

import struct
from pathlib import Path

from vm.errors import UserError

#: Where a bzImage says that it is one, and what it says: Documentation/arch/x86/boot.rst,
#: "header".
BOOT_MAGIC_AT, BOOT_MAGIC = 0x202, b"HdrS"

#: QEMU boots an ELF file by its PVH note: include/xen/interface/elfnote.h.
ELF_MAGIC = b"\x7fELF"
ELFCLASS64, EM_X86_64, PT_NOTE = 2, 62, 4
XEN_ELFNOTE_PHYS32_ENTRY = 18

#: ELF's header and one program header of it, of 64 bits, little-endian.
ELF_HEADER = struct.Struct("<4sB11xHH4x8xQ8x4xHHH")
PROGRAM_HEADER = struct.Struct("<I4xQ8x8xQ")
NOTE = struct.Struct("<III")


def check(path: Path) -> None:
    """Raise UserError when ``path`` is nothing that QEMU boots as a Linux kernel for x86-64."""
    try:
        with path.open("rb") as file:
            head = file.read(BOOT_MAGIC_AT + len(BOOT_MAGIC))
            if head.endswith(BOOT_MAGIC) and len(head) == BOOT_MAGIC_AT + len(BOOT_MAGIC):
                return
            if head.startswith(ELF_MAGIC):
                file.seek(0)
                _check_elf(path, file.read(1 << 20))
                return
    except OSError as exc:
        raise UserError(f"{path}: {exc.strerror or exc}") from exc
    raise UserError(
        f"{path}: no kernel image: neither a bzImage nor an ELF file",
        hint="arch/x86/boot/bzImage, or vmlinux, of an x86-64 kernel's object tree",
    )


def _check_elf(path: Path, data: bytes) -> None:
    """The ELF file of a kernel with CONFIG_PVH; its headers and notes are in ``data``."""
    machine = 0
    if len(data) >= ELF_HEADER.size:
        _, wide, _, machine, at, _, size, count = ELF_HEADER.unpack_from(data)
        if wide == ELFCLASS64 and machine == EM_X86_64:
            for index in range(count):
                start = at + index * size
                if start + PROGRAM_HEADER.size > len(data):
                    break
                kind, offset, length = PROGRAM_HEADER.unpack_from(data, start)
                # The notes lie with the kernel's data, beyond what was read: from the file.
                if kind == PT_NOTE and _is_pvh(_read(path, offset, length)):
                    return
    if machine != EM_X86_64:
        raise UserError(f"{path}: an ELF file, but not of an x86-64 kernel")
    raise UserError(
        f"{path}: an ELF file without a PVH note, by which QEMU would boot it",
        hint="a kernel with CONFIG_PVH=y has one; or name arch/x86/boot/bzImage",
    )


def _read(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(min(length, 1 << 16))


def _is_pvh(notes: bytes) -> bool:
    """Whether notes hold Xen's 32-bit entry point."""
    at = 0
    while at + NOTE.size <= len(notes):
        name_size, size, kind = NOTE.unpack_from(notes, at)
        name = notes[at + NOTE.size : at + NOTE.size + name_size]
        if name.rstrip(b"\0") == b"Xen" and kind == XEN_ELFNOTE_PHYS32_ENTRY:
            return True
        at += NOTE.size + (name_size + 3 & ~3) + (size + 3 & ~3)
    return False
