# SPDX-License-Identifier: GPL-2.0-only
"""vm.image: a kernel told from what is none, before QEMU is asked."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vm import image
from vm.errors import UserError

#: What the kernel's own arch/x86/platform/pvh/head.S puts into its notes.
PVH = """
.section .note.Xen, "a", @note
.balign 4
.long 4, 4, {kind}
.asciz "Xen"
.long 0x1000000
.text
.globl _start
_start: ret
"""


def linked(tmp_path: Path, *, kind: int = 18, flag: str = "-m64") -> Path:
    source, out = tmp_path / "head.S", tmp_path / "vmlinux"
    source.write_text(PVH.format(kind=kind))
    options = ["-nostdlib", "-static", "-Wl,--build-id=none"]
    subprocess.run(["gcc", flag, *options, "-o", str(out), str(source)], check=True)
    return out


def said(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        image.check(path)
    return str(caught.value)


def test_an_elf_file_with_a_pvh_note(tmp_path: Path) -> None:
    image.check(linked(tmp_path))


def test_an_elf_file_without_one(tmp_path: Path) -> None:
    assert "without a PVH note" in said(linked(tmp_path, kind=17))
    assert "without a PVH note" in said(Path("/bin/sh").resolve())


def test_an_elf_file_of_another_machine(tmp_path: Path) -> None:
    assert "not of an x86-64 kernel" in said(linked(tmp_path, flag="-m32"))


def test_a_bzimage(tmp_path: Path) -> None:
    path = tmp_path / "bzImage"
    path.write_bytes(b"MZ".ljust(0x202, b"\0") + b"HdrS" + bytes(1000))
    image.check(path)


@pytest.mark.parametrize("data", [b"", b"nothing of the kind\n", b"\x7fELF", b"HdrS", bytes(1000)])
def test_what_is_no_kernel(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    assert str(path) in said(path)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    assert "Is a directory" in said(tmp_path)
