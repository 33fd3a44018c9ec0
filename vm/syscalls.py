# SPDX-License-Identifier: GPL-2.0-only
"""The tables of system calls in a kernel tree: read, numbered, added to.

A new call has one number for all tables and architectures (since Linux 5.1),
and every tree gives the next free one away to somebody else.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

#: Whose numbers a table has.  "generic": those of architectures without a
#: table of their own.
Kind = Literal["x86-64", "i386", "generic"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """One file of a kernel tree that lists system calls."""

    path: str
    kind: Kind
    header: bool = False  #: C: __NR_name and __SYSCALL(), not a line for each call
    copied: bool = False  #: tools/perf's copy of another table


#: Every table that a number is looked up in, and put into.  No tree has all:
#: 6.1 has no scripts/syscall.tbl, and 6.12 no copy of it below tools/.
TABLES = (
    Table(path="arch/x86/entry/syscalls/syscall_64.tbl", kind="x86-64"),
    Table(path="arch/x86/entry/syscalls/syscall_32.tbl", kind="i386"),
    Table(path="scripts/syscall.tbl", kind="generic"),
    Table(path="include/uapi/asm-generic/unistd.h", kind="generic", header=True),
    Table(
        path="tools/perf/arch/x86/entry/syscalls/syscall_64.tbl",
        kind="x86-64",
        copied=True,
    ),
    Table(
        path="tools/perf/arch/x86/entry/syscalls/syscall_32.tbl",
        kind="i386",
        copied=True,
    ),
    Table(path="tools/scripts/syscall.tbl", kind="generic", copied=True),
    Table(
        path="tools/include/uapi/asm-generic/unistd.h",
        kind="generic",
        header=True,
        copied=True,
    ),
)

BY_PATH: Mapping[str, Table] = {table.path: table for table in TABLES}

#: x32's own numbers for calls that it shares with nobody (arch/x86/entry/
#: syscalls/syscall_64.tbl says so); no new call gets one.
LEGACY = range(512, 548)

_ROW = re.compile(r"(\d+)\s+(\w+)\s+(\w+)\b")
_DEFINE = re.compile(r"#define\s+__NR(?:3264)?_(\w+)\s+(\d+)")
_ENTRY = re.compile(r"__(?:SYSCALL|SC_COMP|SC_3264|SC_COMP_3264)\(__NR_(\w+),\s*(\w+)")
_COUNT = re.compile(r"#define\s+__NR_syscalls\s+(\d+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table, or one number of a header."""

    number: int
    name: str
    index: int  #: of its line, from 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """A system call that a series adds, as the series has it."""

    name: str
    number: int
    lines: Mapping[Kind, tuple[str, ...]]  #: of tables that are no header
    entry: str | None  #: the function behind the generic number: "sys_xyzzy"

    def text(self, table: Table, number: int) -> str | None:
        """What ``table`` gets, under another number; None: nothing."""
        if table.header:
            if self.entry is None:
                return None
            return (
                f"#define __NR_{self.name} {number}\n__SYSCALL(__NR_{self.name}, {self.entry})\n\n"
            )
        lines = self.lines.get(table.kind, ())
        if not lines and table.kind == "generic" and self.entry:
            lines = (f"{self.number}\tcommon\t{self.name}\t\t\t\t{self.entry}",)
        return "".join(f"{number}{line.lstrip('0123456789')}\n" for line in lines) or None


def rows(lines: Iterable[str], *, header: bool) -> tuple[Row, ...]:
    """The calls that lines of a table name, in their order."""
    found = []
    for index, line in enumerate(lines):
        if header:
            if (match := _DEFINE.match(line)) and match[1] != "syscalls":
                found.append(Row(number=int(match[2]), name=match[1], index=index))
        elif match := _ROW.match(line):
            found.append(Row(number=int(match[1]), name=match[3], index=index))
    return tuple(found)


def calls(added: Iterable[tuple[str, Sequence[str]]]) -> tuple[Call, ...]:
    """The calls that lines added to tables bring: (path, lines) of one series.

    Files that are no table of a kernel are passed over.
    """
    numbers: dict[str, int] = {}
    tables: dict[str, dict[Kind, tuple[str, ...]]] = {}
    entries: dict[str, str] = {}
    for path, lines in added:
        table = BY_PATH.get(path)
        if table is None:
            continue
        for row in rows(lines, header=table.header):
            numbers.setdefault(row.name, row.number)
            if not table.header:
                kinds = tables.setdefault(row.name, {})
                kinds[table.kind] = (*kinds.get(table.kind, ()), lines[row.index])
        if table.header:
            entries |= {found[1]: found[2] for line in lines if (found := _ENTRY.match(line))}
    return tuple(
        Call(name=name, number=number, lines=tables.get(name, {}), entry=entries.get(name))
        for name, number in numbers.items()
    )


def tables(tree: Path) -> tuple[Table, ...]:
    """The tables that ``tree`` has."""
    return tuple(table for table in TABLES if (tree / table.path).is_file())


def read(tree: Path, table: Table) -> list[str]:
    """The lines of a table, with their ends."""
    return (tree / table.path).read_text(errors="surrogateescape").splitlines(keepends=True)


def where(tree: Path, name: str) -> Mapping[str, int]:
    """The tables of ``tree`` that have a call of that name, and its number there."""
    return {
        table.path: row.number
        for table in tables(tree)
        for row in rows(read(tree, table), header=table.header)
        if row.name == name
    }


def numbered(wanted: Sequence[Call], tree: Path) -> Mapping[str, int]:
    """A number for each call: one that no other call has in any table of ``tree``.

    The one that ``tree`` has given it already, else its own where that is free,
    else the next free one.
    """
    taken: dict[int, set[str]] = {}
    for table in tables(tree):
        for row in rows(read(tree, table), header=table.header):
            taken.setdefault(row.number, set()).add(row.name)
    given: dict[str, int] = {}
    for call in wanted:
        there = set(where(tree, call.name).values())
        if len(there) == 1:
            number = there.pop()
        elif taken.get(call.number, set()) <= {call.name}:
            number = call.number
        else:
            number = max(number for number in taken if number not in LEGACY) + 1
            number = LEGACY.stop if number in LEGACY else number
        given[call.name] = number
        taken.setdefault(number, set()).add(call.name)
    return given


def put(tree: Path, table: Table, call: Call, number: int) -> bool:
    """Add a call to one table of ``tree``; False when it has it, or is not to have it.

    The file is replaced and not written to.
    """
    lines = read(tree, table)
    text = call.text(table, number)
    if text is None or any(row.name == call.name for row in rows(lines, header=table.header)):
        return False
    if table.header:
        lines = _in_header(lines, text, number)
    else:
        before = [
            row
            for row in rows(lines, header=False)
            if row.number < number and (row.number < LEGACY.start or number >= LEGACY.stop)
        ]
        last = max(before, key=lambda row: (row.number, row.index))
        if not lines[last.index].endswith("\n"):
            lines[last.index] += "\n"
        lines.insert(last.index + 1, text)
    path = tree / table.path
    temp = path.with_name(f"{path.name}.extsys-new")
    temp.write_text("".join(lines), errors="surrogateescape")
    temp.replace(path)
    return True


def _in_header(lines: list[str], text: str, number: int) -> list[str]:
    """A header's lines with one more call, and __NR_syscalls counting it."""
    done: list[str] = []
    for line in lines:
        if line.startswith("#undef __NR_syscalls"):
            done.append(text)
        match = _COUNT.match(line)
        count = max(int(match[1]), number + 1) if match else 0
        done.append(line.replace(match[1], str(count)) if match else line)
    return done
