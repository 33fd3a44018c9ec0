# SPDX-License-Identifier: GPL-2.0-only
"""vm.buildlog: warnings of every program of a kernel's build, and whose they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm import buildlog


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> Path:
    for name in ("kernel/xyzzy.c", "include/linux/one.h", "init/Kconfig"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "tree"


def read(tree: Path, line: str) -> list[buildlog.Warned]:
    log = f"  CC      kernel/xyzzy.o\n{line}\n  LD      vmlinux\n"
    return list(buildlog.warnings(log, tree=tree, objects=tree.parent / "objects"))


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("{tree}/kernel/xyzzy.c:9:1: warning: unused variable 'a' [-Wunused]", "kernel/xyzzy.c"),
        ("../tree/kernel/xyzzy.c:9:1: warning: no previous prototype", "kernel/xyzzy.c"),
        ("kernel/xyzzy.c:9: warning: Function parameter 'a' not described", "kernel/xyzzy.c"),
        ("./include/linux/one.h:7:3: warning: 'struct s' declared inside", "include/linux/one.h"),
        ("kernel/xyzzy.o: warning: objtool: f+0x1: unreachable instruction", "kernel/xyzzy.c"),
        ("init/Kconfig:3:warning: ignoring unsupported character", "init/Kconfig"),
        ("vmlinux.o: warning: objtool: f+0x1: unreachable instruction", None),
        ("ld: warning: .tmp_vmlinux1 has a LOAD segment with RWX permissions", None),
        ("WARNING: modpost: vmlinux: section mismatch in reference", None),
        ("warning: the compiler differs from the one used to build the kernel", None),
        ("/usr/include/stdio.h:1:2: warning: of a system header", None),
    ],
)
def test_a_warning_and_its_file(tree: Path, line: str, file: str | None) -> None:
    (found,) = read(tree, line.format(tree=tree))
    assert found.file == file
    assert str(tree) not in found.text
    assert found.about({"kernel/xyzzy.c"}, set()) == (file == "kernel/xyzzy.c")


@pytest.mark.parametrize(
    "line",
    [
        "  CC      lib/warning.o",
        "kernel/xyzzy.c:9:1: error: expected ';'",
        "kernel/xyzzy.c: In function 'f':",
        "    9 | #warning soon",
    ],
)
def test_what_is_none(tree: Path, line: str) -> None:
    assert read(tree, line) == []


def test_a_call_that_a_table_lacks(tree: Path) -> None:
    """scripts/checksyscalls.sh compiles a list from stdin."""
    (found,) = read(tree, "<stdin>:1567:2: warning: #warning syscall xyzzy not implemented [-Wcpp]")
    assert found.about(set(), {"xyzzy"})
    assert not found.about(set(), {"openat2"})


def test_each_is_told_once(tree: Path) -> None:
    line = "kernel/xyzzy.c:9:1: warning: twice, from a header"
    assert len(read(tree, f"{line}\n{line}")) == 1
