# SPDX-License-Identifier: GPL-2.0-only
"""A series on a tree that it was not made for: a user's, of any recent version.

Whoever reviews a system call has a tree with other lines around it, the number
given away, or the call there already.  So, patch by patch:

  - what the tree has is left alone, in whatever shape it has it: it is that
    which is reviewed;
  - what the series needs on a newer tree, where a function it calls is gone, comes
    on top (directories since-VERSION), never over a call that the tree has;
  - tables of system calls are not merged but added to (vm/syscalls.py), under a
    number that is free in all of them;
  - anything else is merged three-way, hunk by hunk, with the source that the
    series was made for as the common ancestor.

All of it happens in a copy; a user's tree is only ever read.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from vm import cache as store
from vm import patches, proc, syscalls, trees
from vm.errors import HarnessError, InfraError, UserError
from vm.patches import NAMED_HUNKS, FileDiff, Hunk, Patch, Series
from vm.source import Source

#: Raise when a tree would come out different from the same input.
FORMAT = "grafted-1"

#: Deadline of one run of diff3(1), in seconds; it takes milliseconds.
MERGE_SECONDS = 60.0

#: How many lines on one side are enough to tell a place, at most.
ANCHOR_LINES = 12

#: The directory of the project's own series.
PATCHES = "kernel-patches"

#: What becomes of a patch, in patches.json.
PRESENT = "present"  #: there, as the series has it
OWN = "own"  #: there, in the tree's own shape
APPLIED = "applied"  #: as it is
MERGED = "merged"

_VERSION = re.compile(r"#define\s+(\w+_SIZE_VER(\d+))\b")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listed:
    """A file whose lines are entries of a list: their order means nothing.

    Two who add an entry at the same place are no conflict there.
    """

    path: str
    why: str
    built: bool = True  #: False: nothing is built from it; an entry may be left out


LISTS: Mapping[str, Listed] = {
    row.path: row
    for row in (
        Listed(path="MAINTAINERS", why="a paragraph for each subsystem", built=False),
        Listed(path="include/linux/syscalls.h", why="declarations"),
        Listed(path="init/Kconfig", why="a block for each option"),
        Listed(path="kernel/Makefile", why="a line for each object"),
        Listed(path="kernel/sys_ni.c", why="a fallback stub for each call"),
        Listed(path="tools/testing/selftests/Makefile", why="a line for each target"),
    )
}


def apply(series: Series, source: Source, *, cache: Path, base: Callable[[], Path]) -> Path:
    """A copy of a user's tree that has ``series``, made once, never written after.

    ``base`` gives the tree that the series was made for; it is asked only when
    a patch does not apply as it is.  Raises UserError that names patch, file
    and hunk of a conflict.
    """
    final = cache / "patched" / f"{source.family}-{key(series, source)}"

    def make(temp: Path) -> None:
        tree = temp / "tree"
        trees.link_copy(source.tree, tree)
        for name in (*series.touched, *(table.path for table in syscalls.TABLES)):
            trees.unshare(tree / name)
        with tempfile.TemporaryDirectory(prefix="extsys-graft-") as scratch:
            graft = _Graft(series, tree, source, base=base, scratch=Path(scratch))
            graft.run()
        record = {"source": source.origin, "version": source.version, "digest": source.digest}
        store.write_json(
            temp / "patches.json", {**record, "patches": graft.states, "notes": graft.notes}
        )

    store.entry(final, f"patching {source.origin}", make)
    store.prune(final.parent, f"{source.family}-*", keep=store.KEEP)
    return final / "tree"


def key(series: Series, source: Source) -> str:
    """The content key of what ``apply`` gives."""
    return store.key(FORMAT, source.digest, series.digest)


def notes(tree: Path) -> tuple[str, ...]:
    """What there is to say of a tree that ``apply`` gave, a line each."""
    record = store.read_json(tree.parent / "patches.json") or {}
    return tuple(record.get("notes", ()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """The patches of one series of a stack: the call itself, or one version of it."""

    series: Series
    start: int  #: index of its first patch in the stack

    @property
    def adapts(self) -> bool:
        """Whether it is what those before it need on a newer tree, and brings nothing itself."""
        return self.series.directory.name.startswith(patches.SINCE)

    @property
    def versions(self) -> Mapping[str, int]:
        """The newest version of a struct that each UAPI header gets: file, n of _SIZE_VERn."""
        found: dict[str, int] = {}
        for patch in self.series.patches:
            for diff in patch.files:
                if diff.new and diff.new.startswith("include/uapi/"):
                    for line in diff.added:
                        if match := _VERSION.match(line):
                            found[diff.new] = max(found.get(diff.new, 0), int(match[2]))
        return found

    def there(self, tree: Path) -> bool:
        """Whether ``tree`` has what this part brings, in whatever shape."""
        calls = [call.name for call in self.series.calls]
        if not all(syscalls.where(tree, name) for name in calls):
            return False
        versions = self.versions
        have = {path: newest(tree / path) for path in versions}
        return bool(calls or versions) and all(
            (there := have[path]) is not None and there >= n for path, n in versions.items()
        )


def newest(header: Path) -> int | None:
    """The newest version of a struct that a UAPI header knows: n of _SIZE_VERn."""
    if not header.is_file():
        return None
    found = (_VERSION.match(line) for line in header.read_text(errors="replace").splitlines())
    return max((int(match[2]) for match in found if match), default=None)


def parts(series: Series) -> tuple[Part, ...]:
    """The series that a stack was made of, told apart by their directories."""
    done, start = [], 0
    for directory, group in itertools.groupby(series.patches, key=lambda patch: patch.path.parent):
        members = tuple(group)
        one = Series(directory=directory, patches=members, elsewhere=())
        done.append(Part(series=one, start=start))
        start += len(members)
    return tuple(done)


class _NoAncestorError(Exception):
    """A patch does not fit the source that its series was made for."""


class _Graft:
    """One run of a series onto one copy of a tree."""

    def __init__(
        self,
        series: Series,
        tree: Path,
        source: Source,
        *,
        base: Callable[[], Path],
        scratch: Path,
    ) -> None:
        self.series = series
        self.tree = tree
        self.source = source
        self.states: dict[str, str] = {}
        self.notes: list[str] = []
        self._base = base
        self._scratch = scratch
        self._ancestor: Path | None = None
        self._ancestor_has = 0  #: patches of the series that the ancestor has
        self._calls = {call.name: call for call in series.calls}
        self._numbers = syscalls.numbered(series.calls, tree)

    def run(self) -> None:
        flags = patches.present(self.series, self.tree)
        added: list[syscalls.Call] = []
        theirs = False  #: whether the tree has brought the call itself
        for part in parts(self.series):
            there = theirs if part.adapts else part.there(self.tree)
            theirs = theirs or (there and not part.adapts)
            missing = []
            for number, patch in enumerate(part.series.patches, part.start):
                label = f"{_name(patch.path.parent)}/{patch.name}"
                if flags[number]:
                    self.states[label] = PRESENT
                elif there and not self._adds_only_what_is_missing(patch):
                    self.states[label] = OWN
                else:
                    missing.append((number, patch, label))
            if not part.adapts and (there or len(missing) < len(part.series.patches)):
                self._say_what_is_there(part, missing=[patch for _, patch, _ in missing])
            for number, patch, label in missing:
                self.states[label] = self._add(number, patch)
                if self.states[label] == MERGED:
                    self.notes.append(f"{label}: merged three-way")
            if missing and not there:
                added += part.series.calls
        self._fill_tables(added)

    def _adds_only_what_is_missing(self, patch: Patch) -> bool:
        """Whether a patch brings files, and the tree has none of them."""
        created = [diff.new for diff in patch.files if diff.old is None and diff.new]
        return bool(created) and not any((self.tree / name).exists() for name in created)

    def _say_what_is_there(self, part: Part, *, missing: Sequence[Patch]) -> None:
        said = []
        for call in part.series.calls:
            if numbers := set(syscalls.where(self.tree, call.name).values()):
                told = " and ".join(map(str, sorted(numbers)))
                said.append(f"{call.name}() with number {told}")
        for path in part.versions:
            if (version := newest(self.tree / path)) is not None:
                said.append(f"VER{version} of the struct in {path}")
        name = _name(part.series.directory)
        rest = ", ".join(patch.name for patch in missing)
        self.notes.append(
            f"{self.source.origin} has {' and '.join(said) or name} already: of {name} "
            + (f"only {rest} is applied" if rest else "nothing is applied")
        )

    # One patch.

    def _add(self, number: int, patch: Patch) -> str:
        renumbered = any(
            self._numbers[call.name] != call.number
            for call in syscalls.calls((diff.new, diff.added) for diff in patch.files if diff.new)
        )
        if not renumbered and patches.applies(patch, self.tree):
            patches.put(patch, self.tree)
            return APPLIED
        conflicts: list[str] = []
        try:
            for diff in patch.files:
                conflicts += self._change(number, patch, diff)
        except _NoAncestorError:
            # Made for this very tree, or for another kernel: there is nothing to
            # merge with, and patch(1) has the word.
            conflicts = list(patches.failing(patch, self.tree)) or [patch.name]
        if conflicts:
            more = len(conflicts) - NAMED_HUNKS
            raise UserError(
                f"{patch.name} does not merge into {self.source.origin} "
                f"(Linux {self.source.version}): "
                + "; ".join(conflicts[:NAMED_HUNKS])
                + (f", and {more} more" if more > 0 else ""),
                hint="the same lines were changed there; rebase the patch",
            )
        return MERGED

    def _change(self, number: int, patch: Patch, diff: FileDiff) -> Iterator[str]:
        """Do to the tree what a patch does to one file; name what cannot be done."""
        where = f"{patch.path}:{diff.line}"
        if diff.new in syscalls.BY_PATH and all(
            line.startswith((b"+", b" ", b"\n")) or b"__NR_syscalls" in line
            for hunk in diff.hunks
            for line in hunk.body
        ):
            return  # _fill_tables() does it
        if diff.old is None:
            path = self.tree / str(diff.new)
            text = b"".join(line for hunk in diff.hunks for line in hunk.side(b"+"))
            if path.exists() and path.read_bytes() != text:
                raise UserError(
                    f"{self.source.origin} has its own {diff.new}, which {where} would create",
                    hint="its content is not the series'; compare the two, "
                    "or name a tree without it",
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
            return
        mine = self.tree / diff.old
        if not mine.exists():
            raise UserError(
                f"{where}: {self.source.origin} has no file {diff.old}",
                hint=f"the series is made for another kernel than {self.source.version}",
            )
        if diff.new is None:
            if mine.read_bytes() != self._before(number, diff.old):
                yield f"{diff.old}, which {where} removes, is another there"
            mine.unlink()
            return
        yield from self._merge_file(number, patch, diff, mine)

    def _merge_file(self, number: int, patch: Patch, diff: FileDiff, mine: Path) -> Iterator[str]:
        assert diff.old is not None
        old = _lines(self._before(number, diff.old))
        now = _lines(mine.read_bytes())
        listed = LISTS.get(diff.old)
        shift = 0
        for count, hunk in enumerate(diff.hunks, 1):
            where = f"hunk {count} of {diff.old} in {patch.path}:{hunk.line}"
            told = f"hunk {count} of {diff.old} in {patch.name}"
            before, after = hunk.side(b"-"), hunk.side(b"+")
            start = _find(old, before, near=hunk.at - 1 + shift)
            if start is None:
                raise _NoAncestorError
            new = [*old[:start], *after, *old[start + len(before) :]]
            merged = self._merged(now, old, new)
            if merged is None and listed:
                merged = _listed(now, old, start, hunk)
                if merged is not None:
                    self.notes.append(f"{told}: put beside lines that others have added")
            if merged is None and listed and not listed.built:
                self.notes.append(f"{told}: left out: nothing is built from that file")
                merged = now
            if merged is None:
                yield where
            now = merged if merged is not None else now
            old = new
            shift += len(after) - len(before)
        _replace(mine, b"".join(now))

    def _merged(self, mine: list[bytes], old: list[bytes], new: list[bytes]) -> list[bytes] | None:
        """The three-way merge of diff3(1), or None when there is a conflict."""
        names = [self._scratch / name for name in ("mine", "old", "new")]
        for path, lines in zip(names, (mine, old, new), strict=True):
            path.write_bytes(b"".join(lines))
        # Both sides may have lines that are no UTF-8: the result is read as bytes.
        done = proc.run(
            ["diff3", "--merge", *names],
            timeout=MERGE_SECONDS,
            log=(out := self._scratch / "merged"),
            env={"LC_ALL": "C"},
            check=False,
            quiet=True,
        )
        if done.code not in (0, 1):
            raise InfraError(f"diff3 failed: {done.out.strip()[-200:]}")
        return _lines(out.read_bytes()) if done.code == 0 else None

    def _before(self, number: int, name: str) -> bytes:
        """A file of the source that the series was made for, with the patches before ``number``."""
        if self._ancestor is None:
            try:
                base = self._base()
            except HarnessError as exc:
                raise type(exc)(
                    f"{self.series.patches[number].name} does not apply to {self.source.origin} "
                    f"as it is, and to merge it the source that it was made for is needed: {exc}",
                    hint=exc.hint,
                ) from exc
            self._ancestor = self._scratch / "ancestor"
            self._ancestor.mkdir()
            for path in self.series.touched:
                if (base / path).is_file():
                    (self._ancestor / path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(base / path, self._ancestor / path)
        for patch in self.series.patches[self._ancestor_has : number]:
            patches.put(patch, self._ancestor)
        self._ancestor_has = max(self._ancestor_has, number)
        try:
            return (self._ancestor / name).read_bytes()
        except FileNotFoundError:
            raise _NoAncestorError from None

    # The tables.

    def _fill_tables(self, calls: Sequence[syscalls.Call]) -> None:
        """See to it that every table has the calls that were added, under one number."""
        for name in dict.fromkeys(call.name for call in calls):
            call, number = self._calls[name], self._numbers[name]
            renumbered = number != call.number
            filled = [
                table.path
                for table in syscalls.tables(self.tree)
                if (renumbered or not table.copied) and syscalls.put(self.tree, table, call, number)
            ]
            if renumbered:
                self.notes.append(
                    f"{call.number} is not free in {self.source.origin}: "
                    f"{name}() has number {number} in {', '.join(filled)}"
                )


def _name(directory: Path) -> str:
    """A series' directory below kernel-patches/, for people."""
    parts = directory.parts
    return "/".join(parts[parts.index(PATCHES) + 1 :]) if PATCHES in parts else directory.name


def _lines(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True) if b"\r" not in data else re.findall(b".*\n|.+", data)


def _replace(path: Path, data: bytes) -> None:
    """Give a file another content, in a new inode with the old one's mode."""
    temp = path.with_name(path.name + trees.NEW)
    temp.write_bytes(data)
    temp.chmod(path.stat().st_mode & 0o777)
    temp.rename(path)


def _find(lines: Sequence[bytes], wanted: Sequence[bytes], *, near: int) -> int | None:
    """Where ``wanted`` stands in ``lines``, word for word, the place nearest to ``near``."""
    places = range(len(lines) - len(wanted) + 1)
    found = (at for at in places if tuple(lines[at : at + len(wanted)]) == tuple(wanted))
    return min(found, key=lambda at: abs(at - near), default=None)


def _listed(
    mine: Sequence[bytes], old: Sequence[bytes], start: int, hunk: Hunk
) -> list[bytes] | None:
    """``mine`` with the entries that a hunk adds to a list; None: it does not only add.

    ``start`` is where the hunk applies to ``old``.  An entry goes behind the
    lines that it stands behind in ``old``, or, where these are gone, before
    those that follow it.
    """
    done, at = list(mine), start
    for added, group in itertools.groupby(hunk.body, key=lambda line: line[:1] == b"+"):
        lines = list(group)
        if not added:
            if any(line[:1] in (b"-", b"\\") for line in lines):
                return None
            at += len(lines)
            continue
        place = _anchor(done, old, at)
        if place is None:
            return None
        done[place:place] = [line[1:] for line in lines]
    return done


def _anchor(mine: Sequence[bytes], old: Sequence[bytes], at: int) -> int | None:
    """The place in ``mine`` of the gap before ``old[at]``, by the fewest lines that tell it."""
    for count in range(1, min(ANCHOR_LINES, at) + 1):
        found = _places(mine, old[at - count : at])
        if len(found) == 1:
            return found[0] + count
        if not found:
            break
    for count in range(1, min(ANCHOR_LINES, len(old) - at) + 1):
        found = _places(mine, old[at : at + count])
        if len(found) == 1:
            return found[0]
        if not found:
            break
    return None


def _places(lines: Sequence[bytes], wanted: Sequence[bytes]) -> list[int]:
    """Every place where ``wanted`` stands in ``lines``."""
    size = len(wanted)
    return [
        at for at in range(len(lines) - size + 1) if list(lines[at : at + size]) == list(wanted)
    ]
