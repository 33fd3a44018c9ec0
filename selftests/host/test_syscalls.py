# SPDX-License-Identifier: GPL-2.0-only
"""vm.syscalls: tables read, a free number found, a call added to every table."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm import patches, syscalls

X86_64 = """\
# 64-bit system call numbers
0\tcommon\tread\t\t\tsys_read
461\tcommon\tlsm_list_modules\tsys_lsm_list_modules
462 \tcommon  mseal\t\t\tsys_mseal

# x32
512\tx32\trt_sigaction\t\tcompat_sys_rt_sigaction
547\tx32\tpwritev2\t\tcompat_sys_pwritev64v2
# end
"""
I386 = "0\ti386\trestart\tsys_restart\n462\ti386\tmseal \t\t\tsys_mseal"  # no newline at its end
GENERIC = "0\tcommon\tio_setup\tsys_io_setup\n462\tcommon\tmseal\tsys_mseal\n"
HEADER = """\
#define __NR_io_setup 0
__SC_COMP(__NR_io_setup, sys_io_setup, compat_sys_io_setup)
#define __NR_arch_specific_syscall 244
#define __NR_mseal 462
__SYSCALL(__NR_mseal, sys_mseal)

#undef __NR_syscalls
#define __NR_syscalls 463

/* the end */
#define __NR3264_lseek 62
"""

TEXTS = {
    "arch/x86/entry/syscalls/syscall_64.tbl": X86_64,
    "arch/x86/entry/syscalls/syscall_32.tbl": I386,
    "scripts/syscall.tbl": GENERIC,
    "include/uapi/asm-generic/unistd.h": HEADER,
}

XYZZY = syscalls.Call(
    name="xyzzy",
    number=463,
    lines={
        "x86-64": ("463\tcommon\txyzzy\t\t\tsys_xyzzy",),
        "i386": ("463\ti386\txyzzy\t\t\tsys_xyzzy",),
    },
    entry="sys_xyzzy",
)


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> Path:
    for name, text in TEXTS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def added(tree: Path, name: str) -> list[str]:
    """The lines of a table that it did not have."""
    before = TEXTS[name].splitlines()
    return [line for line in (tree / name).read_text().splitlines() if line not in before]


def test_the_projects_series_adds_one_call_to_the_tables_of_its_kernel() -> None:
    (new,) = patches.stack(["linux-6.12"]).calls
    assert (new.name, new.number, new.entry) == ("xyzzy", 463, "sys_xyzzy")
    assert new.lines.keys() == {"x86-64", "i386", "generic"}
    (old,) = patches.stack(["linux-6.1"]).calls
    assert (old.name, old.entry) == ("xyzzy", "sys_xyzzy")
    assert old.lines.keys() == {"x86-64", "i386"}, "6.1 has no scripts/syscall.tbl"


def test_its_own_number_where_that_is_free(tree: Path) -> None:
    assert syscalls.numbered([XYZZY], tree) == {"xyzzy": 463}


@pytest.mark.parametrize("name", TEXTS)
def test_the_next_free_one_when_any_table_has_it(tree: Path, name: str) -> None:
    taken = "#define __NR_other 463\n" if name.endswith(".h") else "463\tcommon\tother\tsys_other\n"
    (tree / name).write_text(taken + TEXTS[name])
    assert syscalls.numbered([XYZZY], tree) == {"xyzzy": 464}


def test_two_calls_never_share_a_number(tree: Path) -> None:
    (tree / "scripts/syscall.tbl").write_text(f"{GENERIC}463\tcommon\tother\tsys_other\n")
    at = syscalls.Call(name="xyzzyat", number=464, lines={}, entry="sys_xyzzyat")
    assert syscalls.numbered([XYZZY, at], tree) == {"xyzzy": 464, "xyzzyat": 465}


def test_x32s_old_range_is_given_to_nobody(tree: Path) -> None:
    text = X86_64.replace("\n# x32", "511\tcommon\tlast\tsys_last\n463\tcommon\to\tsys_o\n# x32")
    (tree / "arch/x86/entry/syscalls/syscall_64.tbl").write_text(text)
    assert syscalls.numbered([XYZZY], tree) == {"xyzzy": 548}


def test_a_number_that_the_tree_has_given_it_is_kept(tree: Path) -> None:
    (tree / "scripts/syscall.tbl").write_text(f"{GENERIC}470\tcommon\txyzzy\tsys_xyzzy\n")
    assert syscalls.where(tree, "xyzzy") == {"scripts/syscall.tbl": 470}
    assert syscalls.numbered([XYZZY], tree) == {"xyzzy": 470}


def test_every_table_gets_the_call(tree: Path) -> None:
    for table in syscalls.tables(tree):
        assert syscalls.put(tree, table, XYZZY, 472)
        assert not syscalls.put(tree, table, XYZZY, 472), "it has it by now"
    assert set(syscalls.where(tree, "xyzzy")) == set(TEXTS)
    line = "472\tcommon\txyzzy\t\t\tsys_xyzzy"
    lines = (tree / "arch/x86/entry/syscalls/syscall_64.tbl").read_text().splitlines()
    assert lines[lines.index(line) - 1].startswith("462 ")
    i386 = (tree / "arch/x86/entry/syscalls/syscall_32.tbl").read_text()
    assert i386 == f"{I386}\n472\ti386\txyzzy\t\t\tsys_xyzzy\n"
    # The series has no line for it; the header's entry says what it is.
    assert added(tree, "scripts/syscall.tbl") == ["472\tcommon\txyzzy\t\t\t\tsys_xyzzy"]
    assert added(tree, "include/uapi/asm-generic/unistd.h") == [
        "#define __NR_xyzzy 472",
        "__SYSCALL(__NR_xyzzy, sys_xyzzy)",
        "#define __NR_syscalls 473",
    ]
    header = (tree / "include/uapi/asm-generic/unistd.h").read_text()
    assert header.index("__NR_xyzzy 472") < header.index("#undef __NR_syscalls")


def test_a_split_line_of_x32_is_carried_over() -> None:
    lines = ("463\t64\tnew\tsys_new", "463\tx32\tnew\tcompat_sys_new")
    (call,) = syscalls.calls([("arch/x86/entry/syscalls/syscall_64.tbl", lines)])
    assert call.text(syscalls.TABLES[0], 9) == "9\t64\tnew\tsys_new\n9\tx32\tnew\tcompat_sys_new\n"
    assert call.text(syscalls.TABLES[1], 9) is None


def test_a_hole_in_the_numbers_is_filled_where_it_is(tree: Path) -> None:
    name = "scripts/syscall.tbl"
    (tree / name).write_text(f"{GENERIC}470\tcommon\tother\tsys_other\n")
    assert syscalls.put(tree, syscalls.BY_PATH[name], XYZZY, 463)
    numbers = [line.split()[0] for line in (tree / name).read_text().splitlines()]
    assert numbers == ["0", "462", "463", "470"]
