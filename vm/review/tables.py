# SPDX-License-Identifier: GPL-2.0-only
"""Whether all the places that have to know a system call say the same of it.

A system call stands in a dozen files: tables by architecture, a generic table
in two forms, prototypes, fallback stubs, and copies of some of these below
tools/.  Nothing in the kernel's build compares them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

#: The x86 tables; the first holds x86-64 and x32, the second i386.
TABLE_64 = "arch/x86/entry/syscalls/syscall_64.tbl"
TABLE_32 = "arch/x86/entry/syscalls/syscall_32.tbl"
#: The generic table: as a header, and since 6.11 as a file like the others.
GENERIC_HEADER = "include/uapi/asm-generic/unistd.h"
GENERIC_TABLE = "scripts/syscall.tbl"
PROTOTYPES = "include/linux/syscalls.h"
COMPAT_PROTOTYPES = "include/linux/compat.h"
STUBS = "kernel/sys_ni.c"

#: Copies below tools/, and what each is a copy of (tools/perf/check-headers.sh).
COPIES = {
    "tools/include/uapi/asm-generic/unistd.h": GENERIC_HEADER,
    "tools/perf/arch/x86/entry/syscalls/syscall_64.tbl": TABLE_64,
    "tools/perf/arch/x86/entry/syscalls/syscall_32.tbl": TABLE_32,
    "tools/scripts/syscall.tbl": GENERIC_TABLE,
}
#: alpha's new numbers are those of all others and 110 (its syscall.tbl says so).
ALPHA_SHIFT = 110
#: x32 numbers of its own that are closed to new calls (syscall_64.tbl says so).
CLOSED_X32 = range(512, 548)
_ROW = re.compile(r"^(\d+)[ \t]+(\S+)[ \t]+(\w+)(?:[ \t]+(\S+))?(?:[ \t]+(\S+))?", re.M)
_NUMBER = re.compile(r"^#define __NR_(?:3264_)?(\w+)[ \t]+(\d+)$", re.M)
_ENTRY = re.compile(r"^(__SYSCALL|__SC_COMP)\(__NR_(\w+),\s*(\w+)(?:,\s*\\?\s*(\w+))?\)", re.M)
_DEFINE = re.compile(r"^(COMPAT_)?SYSCALL_DEFINE(\d)\((\w+),?(.*?)\)\n\{", re.M | re.S)
_COUNT = re.compile(r"^#define __NR_syscalls[ \t]+(\d+)$", re.M)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table."""

    number: int
    abi: str  #: common, 64, x32, i386
    name: str
    native: str | None
    compat: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Definition:
    """One SYSCALL_DEFINEn or COMPAT_SYSCALL_DEFINEn."""

    name: str
    compat: bool
    stated: int  #: the n
    counted: int  #: arguments that are there, each a type and a name
    where: str


def rows(text: str) -> list[Row]:
    """The lines of a table, comments left out."""
    return [
        Row(
            number=int(number),
            abi=abi,
            name=name,
            native=native or None,
            compat=compat or None,
        )
        for number, abi, name, native, compat in _ROW.findall(text)
    ]


def header_rows(text: str) -> list[Row]:
    """The entries of the generic header, as lines of a table."""
    numbers = {name: int(number) for name, number in _NUMBER.findall(text)}
    found = []
    for kind, name, native, compat in _ENTRY.findall(text):
        number = numbers.get(name.removeprefix("3264_"))
        if number is not None:
            found.append(
                Row(
                    number=number,
                    abi="common",
                    name=name,
                    native=native,
                    compat=compat if kind == "__SC_COMP" else None,
                )
            )
    return found


def definitions(tree: Path, files: Sequence[str]) -> list[Definition]:
    """The entry points that these files of ``tree`` define."""
    found = []
    for path in files:
        if path.endswith(".c") and (tree / path).is_file():
            for compat, count, name, args in _DEFINE.findall((tree / path).read_text()):
                # A 64-bit argument of a compat call is a macro for two pairs.
                pairs = re.sub(r"compat_arg_u64_dual\(\w+\)", "u32, lo, u32, hi", args)
                counted = len([one for one in pairs.split(",") if one.strip()])
                found.append(
                    Definition(
                        name=name,
                        compat=bool(compat),
                        stated=int(count),
                        counted=counted // 2,
                        where=path,
                    )
                )
    return found


def added(tree: Path, pristine: Path) -> tuple[str, ...]:
    """The system calls that x86-64's table of ``tree`` has and ``pristine``'s has not."""
    old = {row.name for row in rows((pristine / TABLE_64).read_text())}
    new = (row.name for row in rows((tree / TABLE_64).read_text()))
    return tuple(dict.fromkeys(name for name in new if name not in old))


def problems(tree: Path, pristine: Path, touched: Sequence[str], lagging: bool) -> list[str]:
    """What the places of ``tree`` do not agree on, of the calls that are not in ``pristine``.

    ``touched`` are the files of the series, in which the calls are defined.
    With ``lagging`` the copies below tools/ are to be as they were.
    """
    names = added(tree, pristine)
    if not names:
        return [f"{TABLE_64}: no system call was added"]
    return [
        *(line for name in names for line in _of(name, tree, touched)),
        *_of_counts(tree),
        *_of_copies(names, tree, lagging),
        *_of_others(names, tree, pristine),
    ]


def _mine(text: str, name: str, parse: object = rows) -> list[Row]:
    found = header_rows(text) if parse is header_rows else rows(text)
    return [row for row in found if row.name == name]


def _of(name: str, tree: Path, touched: Sequence[str]) -> Iterator[str]:
    """One call: one number everywhere, an entry for each ABI, each entry defined and stubbed."""
    wide = _mine((tree / TABLE_64).read_text(), name)
    narrow = _mine((tree / TABLE_32).read_text(), name)
    generic = _mine((tree / GENERIC_HEADER).read_text(), name, header_rows)
    listed = {TABLE_64: wide, TABLE_32: narrow, GENERIC_HEADER: generic}
    if (tree / GENERIC_TABLE).is_file():
        listed[GENERIC_TABLE] = _mine((tree / GENERIC_TABLE).read_text(), name)
    for path, found in listed.items():
        if not found:
            yield f"{path}: no {name}"
    numbers = {path: {row.number for row in found} for path, found in listed.items()}
    if len({number for found in numbers.values() for number in found}) != 1:
        yield f"{name}: its numbers differ: {numbers}"
    if sorted(row.abi for row in wide) not in (["common"], ["64", "x32"]):
        yield f"{TABLE_64}: {name} is neither `common` nor `64` with `x32`"
    for row in wide:
        if row.abi == "x32" and row.number in CLOSED_X32:
            yield f"{TABLE_64}: {name}: {row.number} is a number of x32's own, which are closed"
    if GENERIC_TABLE in listed and [(r.native, r.compat) for r in listed[GENERIC_TABLE]] != [
        (r.native, r.compat) for r in generic
    ]:
        yield f"{name}: {GENERIC_TABLE} and {GENERIC_HEADER} name other entries"
    compat = any(row.compat for row in (*narrow, *generic))
    if compat != any(row.abi == "x32" for row in wide):
        yield f"{name}: i386 has a compat entry and x32 shares the 64-bit one, or the reverse"
    yield from _of_entries(name, tree, touched, [*wide, *narrow, *generic])


def _of_entries(name: str, tree: Path, touched: Sequence[str], found: list[Row]) -> Iterator[str]:
    """Each entry that a table names: defined, with a stub, and with a prototype."""
    defined = definitions(tree, touched)
    for one in defined:
        if one.stated != one.counted:
            yield f"{one.where}: {one.name}: DEFINE{one.stated} with {one.counted} arguments"
    known = {f"{'compat_' if one.compat else ''}sys_{one.name}" for one in defined}
    stubs = (tree / STUBS).read_text()
    entries = {entry for row in found for entry in (row.native, row.compat) if entry}
    for entry in sorted(entries):
        bare = entry.removeprefix("compat_").removeprefix("sys_")
        if entry not in known:
            yield f"{entry}: a table names it, and no file of the series defines it"
        kind = "COND_SYSCALL_COMPAT" if entry.startswith("compat_") else "COND_SYSCALL"
        if f"{kind}({bare});" not in stubs:
            yield f"{STUBS}: no {kind}({bare})"
    for entry, path in (
        (f"sys_{name}", PROTOTYPES),
        (f"compat_sys_{name}", COMPAT_PROTOTYPES),
    ):
        text = (tree / path).read_text()
        there = re.search(rf"^asmlinkage long {entry}\(", text, re.M)
        if entry in entries and not there:
            yield f"{path}: no prototype of {entry}()"


def _of_counts(tree: Path) -> Iterator[str]:
    """__NR_syscalls is one more than the largest number."""
    text = (tree / GENERIC_HEADER).read_text()
    last = max(row.number for row in header_rows(text))
    count = _COUNT.search(text)
    if count is None or int(count[1]) != last + 1:
        yield f"{GENERIC_HEADER}: __NR_syscalls is not {last + 1}"


def _of_copies(names: Sequence[str], tree: Path, lagging: bool) -> Iterator[str]:
    """Copies have every call as the original has, or with ``lagging`` none."""
    for copy, original in COPIES.items():
        if not (tree / copy).is_file():
            continue
        parse = header_rows if copy.endswith(".h") else rows
        for name in names:
            mine = _mine((tree / copy).read_text(), name, parse)
            theirs = _mine((tree / original).read_text(), name, parse)
            if lagging and mine:
                yield f"{copy}: has {name}, and the copies below tools/ were to be left alone"
            if not lagging and mine != theirs:
                yield f"{copy}: {name} is not as in {original}"


def _of_others(names: Sequence[str], tree: Path, pristine: Path) -> Iterator[str]:
    """No architecture has another call under the number."""
    numbers = {row.number: row.name for row in rows((tree / TABLE_64).read_text())}
    mine = {number: name for number, name in numbers.items() if name in names}
    for table in sorted(pristine.glob("arch/*/**/syscall*.tbl")):
        path = str(table.relative_to(pristine))
        shift = ALPHA_SHIFT if path.startswith("arch/alpha/") else 0
        for row in rows(table.read_text()):
            if row.abi != "x32" and row.number - shift in mine:
                yield f"{path}: {row.number} is {row.name}"
