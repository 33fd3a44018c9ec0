# SPDX-License-Identifier: GPL-2.0-only
"""A build that looks only where something can have changed.

To find out that nothing has changed, Kbuild starts a make in each of a
kernel's 400 directories: five seconds, where the compiler takes one.  Which
objects are made of a file, Kbuild has written down beside each of them (the
.cmd files of scripts/basic/fixdep.c).  So for a few edited sources the
directories are known, and make is told to go nowhere else.

What is linked is the same, bit by bit, and a make without all this has
nothing left to do; where that is not certain, everything is looked at.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from vm import cache as store

#: Beside a work tree, for each of its object trees: what has changed in it since they were made.
BEHIND = "behind-{objects}.json"

#: Directories of a kernel tree that no object of the kernel is made of.
NO_SOURCE = ("Documentation/", "tools/testing/")
#: Files that Kbuild knows every object of.
SOURCE = (".c", ".h")
#: The one goal that this is for: an image's own directories are made in another way.
GOAL = "vmlinux"

#: That all directories are reached from the list of the top one (6.1 and newer).
_FROM_THE_TOP = re.compile(r"^build-dir\s*:=\s*\.$", re.M)

#: In the command that makes a directory's archive: another directory's, below it.
_ARCHIVE = re.compile(r"(?<=\s)([\w./-]+)/built-in\.a(?=\s)")


@contextlib.contextmanager
def laying(home: Path, *, killed: bool) -> Iterator[list[str]]:
    """Files of the work tree in ``home`` are laid anew, or removed, in this block.

    It puts their names into the list.  Should it not come to its end, or was a
    make ``killed``, what objects are made of is nobody's knowledge.
    """
    held = {path: store.read_json(path) for path in home.glob(BEHIND.format(objects="*"))}
    for path in held:
        path.unlink()
    names: list[str] = []
    yield names
    for path, known in held.items() if not killed else ():
        if known:
            store.write_json(path, {**known, "names": sorted({*known["names"], *names})})


def take(objects: Path, argv: Sequence[str]) -> list[str] | None:
    """What has changed since ``objects`` were made whole by ``argv``; None: nobody knows.

    It is nobody's knowledge from then on, until they are ``whole`` again.
    """
    path = objects.parent / BEHIND.format(objects=objects.name)
    known = store.read_json(path) or {}
    path.unlink(missing_ok=True)
    names: list[str] | None = known.get("names")
    return names if known.get("argv") == list(argv) else None


def whole(objects: Path, argv: Sequence[str]) -> None:
    """Note that ``objects`` were made by ``argv``, all of them."""
    path = objects.parent / BEHIND.format(objects=objects.name)
    store.write_json(path, {"argv": list(argv), "names": []})


def goals(tree: Path, objects: Path, names: Sequence[str]) -> tuple[str, ...]:
    """What make is told to go only where something is made of ``names``.

    Nothing, where it has to look everywhere.
    """
    several = [name for name in names if not name.startswith(NO_SOURCE)]
    from_the_top = _FROM_THE_TOP.search((tree / "Makefile").read_text())
    ordinary = from_the_top and all(name.endswith(SOURCE) for name in several)
    if not ordinary or not (objects / GOAL).exists():
        return ()
    made = made_of(objects, [f"/{name}".encode() for name in several])
    if made is None:
        return ()
    above = _above(objects)
    below: dict[str, set[str]] = {}
    for path in made:
        folder = path.parent.relative_to(objects).as_posix()
        while folder != ".":
            if len(above.get(folder, ())) != 1:
                return ()
            (one,) = above[folder]
            below.setdefault(one, set()).add(folder)
            folder = one
    # Which of its subdirectories a directory's make goes into (scripts/Makefile.build).
    chosen = (f"$(if $(filter {one},$(obj)),{' '.join(sorted(below[one]))})" for one in below)
    return (f"subdir-ym={''.join(chosen)}",)


def made_of(objects: Path, wanted: Sequence[bytes]) -> list[Path] | None:
    """The objects that Kbuild has noted to be made of files with one of these in their path.

    None when something else is made of one: a makefile's part, offsets for assembly.
    """
    found: list[Path] = []
    for path in objects.rglob(".*.cmd") if wanted else ():
        if path.is_relative_to(objects / "usr/include"):  # copies, made by a goal of their own
            continue
        text = path.read_bytes()
        if any(one in text for one in wanted):
            made = path.with_name(path.name.removeprefix(".").removesuffix(".cmd"))
            if made.suffix != ".o" or not (path.parent / "built-in.a").exists():
                return None
            found.append(made)
    return found


def _above(objects: Path) -> dict[str, set[str]]:
    """Directory → those whose archives are made of its own: whose makefiles name it.

    That is not always the next one up: the top one's names arch/x86/lib.
    """
    found: dict[str, set[str]] = {}
    for note in objects.rglob(".built-in.a.cmd"):
        where = note.parent.relative_to(objects)
        command = note.read_text().partition("\n")[0]
        for name in _ARCHIVE.findall(command):
            found.setdefault((where / name).as_posix(), set()).add(where.as_posix())
    return found
