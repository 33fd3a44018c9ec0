# SPDX-License-Identifier: GPL-2.0-only
"""What the log of a kernel's build says: warnings, and the files that they are about."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Collection
from pathlib import Path

#: gcc, Kconfig, objtool, ld and modpost all write the word, in two cases.
_WARNING = re.compile(
    r"^(?:(?P<place>[^\s:]+)(?::(?P<line>\d+))?(?::\d+)?: ?)?.*?\bwarning: ", re.I
)

#: scripts/checksyscalls.sh: a table of the architecture lacks a call.
_NOT_IMPLEMENTED = re.compile(r"#warning syscall (\w+) not implemented")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Warned:
    """One warning."""

    file: str | None  #: of the source tree, relative to it, where it names one
    text: str  #: the line of the log, with that path

    def about(self, files: Collection[str], calls: Collection[str]) -> bool:
        """Whether it is about one of these files or system calls."""
        missing = _NOT_IMPLEMENTED.search(self.text)
        return self.file in files or (missing is not None and missing[1] in calls)


def warnings(log: str, *, tree: Path, objects: Path) -> tuple[Warned, ...]:
    """Every warning in ``log``, each once, in the order in which they came.

    ``tree`` and ``objects`` are what make was run with: paths in the log are
    absolute, or relative to one of the two, as the kernel's version has it.
    """
    found: dict[Warned, None] = {}
    for raw in log.splitlines():
        line = raw.strip()
        if match := _WARNING.match(line):
            place = match["place"]
            file = _source(place, tree=tree, objects=objects) if place else None
            text = line.replace(place, file, 1) if file and place else line
            found[Warned(file=file, text=text)] = None
    return tuple(found)


def _source(place: str, *, tree: Path, objects: Path) -> str | None:
    """The source file that a place in the log stands for, if it is one."""
    for base in (objects, tree):
        path = Path(os.path.normpath(base / place))
        if path.is_relative_to(objects):
            path = tree / path.relative_to(objects)
        if path.suffix == ".o":  # objtool reads what the compiler has written
            path = path.with_suffix(".c")
        if path.is_relative_to(tree) and path.is_file():
            return str(path.relative_to(tree))
    return None
