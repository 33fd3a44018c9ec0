# SPDX-License-Identifier: GPL-2.0-only
"""A quilt-style series of mail-formatted patches, and trees that have it.

Here is the source that a series was made for; vm/graft.py puts it on others.

Patches are applied with GNU patch and no fuzz: hunks may sit at other lines
than when they were made (a point release moves them), but their context must
be there word for word, as `git am` would have it.  A line that lands beside a
changed context would be a guess, and a guess in a system call table is an ABI.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import operator
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from vm import cache as store
from vm import paths, proc, syscalls, trees
from vm.errors import BuildError, UserError
from vm.kernels import Version, parse_version
from vm.source import Source

#: Raise when a patched tree would come out different from the same input.
FORMAT = "patched-1"

#: Deadline of one run of patch(1), in seconds; it takes milliseconds.
PATCH_SECONDS = 120.0

#: Starts the name of a directory with what a series needs on newer trees.
SINCE = "since-"

#: How many hunks that do not apply are named before the rest is counted.
NAMED_HUNKS = 5

_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_TREE = re.compile(r"tree:\s*(\S+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hunk:
    """One hunk: where it stands in the patch file, and in the old file."""

    line: int  #: line of its @@ in the patch file, from 1
    at: int  #: line of the old file that it starts at
    body: tuple[bytes, ...]  #: its lines, each with the mark before it

    def side(self, mark: bytes) -> tuple[bytes, ...]:
        """The lines before it, for ``mark`` b"-", or behind it, for b"+"."""
        found: list[bytes] = []
        previous = b""
        for line in self.body:
            if line[:1] == b"\\":  # "No newline at end of file": of the line above
                if found and previous in (b" ", mark):
                    found[-1] = found[-1].removesuffix(b"\n")
                continue
            previous = b" " if line == b"\n" else line[:1]
            if previous in (b" ", mark):
                found.append(line[1:] if line != b"\n" else line)
        return tuple(found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileDiff:
    """What a patch does to one file.  Paths are relative to the tree."""

    old: str | None  #: None: the patch creates the file
    new: str | None  #: None: the patch deletes it
    line: int  #: line of its `---` in the patch file, from 1
    hunks: tuple[Hunk, ...]

    @property
    def added(self) -> tuple[str, ...]:
        """The lines that it adds, without their ends."""
        return tuple(
            line[1:].decode(errors="surrogateescape").rstrip("\n")
            for hunk in self.hunks
            for line in hunk.body
            if line[:1] == b"+"
        )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple({name: None for name in (self.old, self.new) if name})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patch:
    """One patch file, parsed."""

    path: Path
    files: tuple[FileDiff, ...]
    body: bytes  #: the diff without the mail around it

    @property
    def name(self) -> str:
        return self.path.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """The patches of a `series` file that are for the kernel, in order."""

    directory: Path
    patches: tuple[Patch, ...] = ()
    elsewhere: tuple[tuple[str, str], ...] = ()  #: (patch, tree) of the others

    @property
    def digest(self) -> str:
        """Identity of what the series does; rewording a message keeps it."""
        return store.key(*(patch.body for patch in self.patches))

    @property
    def calls(self) -> tuple[syscalls.Call, ...]:
        """The system calls that the series adds."""
        return syscalls.calls(
            (diff.new, diff.added) for patch in self.patches for diff in patch.files if diff.new
        )

    @property
    def touched(self) -> tuple[str, ...]:
        """Every file that the series names, once."""
        names = (name for patch in self.patches for diff in patch.files for name in diff.names)
        return tuple(dict.fromkeys(names))

    def __add__(self, other: Series) -> Series:
        """``other`` on top of this series: a mutant, an extension."""
        return Series(
            directory=other.directory,
            patches=self.patches + other.patches,
            elsewhere=self.elsewhere + other.elsewhere,
        )


def _places(name: str) -> tuple[Path, Path]:
    """Where the series ``name`` may be: in the checkout, in the installed package."""
    return (paths.VM.parent / "kernel-patches" / name, paths.VM / "kernel_patches" / name)


def has_series(name: str) -> bool:
    """Whether there is a series ``name``."""
    return any((place / "series").is_file() for place in _places(name))


def series_dir(name: str) -> Path:
    """Where the series ``name`` is: in the checkout, or in the installed package.

    Raises UserError when there is none of that name.
    """
    places = _places(name)
    for place in places:
        if (place / "series").is_file():
            return place
    raise UserError(f"{name}: no such patch series", hint=f"looked for {places[0] / 'series'}")


def load_series(directory: Path) -> Series:
    """Read ``directory``/series and the patches that it lists.

    A `#` starts a comment; `# tree: NAME` behind a patch says that it is for
    another tree than the kernel's.  Raises UserError naming file and line for
    a patch that is missing, listed twice, or no diff.
    """
    path = directory / "series"
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError as exc:
        raise UserError(f"{path}: no such file", hint="a patch series needs one") from exc
    patches: list[Patch] = []
    elsewhere: list[tuple[str, str]] = []
    for number, line in enumerate(lines, 1):
        name, _, comment = (part.strip() for part in line.partition("#"))
        if not name:
            continue
        if not (directory / name).is_file():
            raise UserError(f"{path}:{number}: {name}: no such patch")
        if name in [patch.name for patch in patches]:
            raise UserError(f"{path}:{number}: {name}: listed twice")
        if tree := _TREE.match(comment):
            elsewhere.append((name, tree[1]))
        else:
            patches.append(load_patch(directory / name))
    return Series(directory=directory, patches=tuple(patches), elsewhere=tuple(elsewhere))


def stack(names: Sequence[str]) -> Series:
    """Several series, each on top of those before it, as one; of none, one without patches.

    Raises UserError when there is none of a name.
    """
    found = (load_series(series_dir(name)) for name in names)
    return functools.reduce(operator.add, found, Series(directory=paths.VM))


def newer(name: str, version: Version) -> Series | None:
    """What the series ``name`` needs on a tree of ``version``, if that is newer than its own.

    A directory since-6.13 below the series' own is for trees of 6.13 on.
    """
    found = [
        (parse_version(path.parent.name.removeprefix(SINCE)), path.parent)
        for place in _places(name)
        for path in place.glob(f"{SINCE}*/series")
    ]
    fitting = [load_series(path) for since, path in sorted(found) if since <= version]
    return functools.reduce(operator.add, fitting) if fitting else None


def single(files: Sequence[Path]) -> Series:
    """Patches that are in no series, to go on top of one: mutants, a trial.

    Raises UserError for a file that is missing or no diff.
    """
    for path in files:
        if not path.is_file():
            raise UserError(f"{path}: no such patch")
    loaded = tuple(load_patch(path) for path in files)
    return Series(directory=files[0].parent, patches=loaded, elsewhere=())


def load_patch(path: Path) -> Patch:
    """Parse one patch.  Raises UserError naming the line that is wrong."""
    lines = path.read_bytes().splitlines(keepends=True)
    files: list[FileDiff] = []
    body: list[bytes] = []
    index = 0
    while index < len(lines):
        if lines[index].startswith(b"GIT binary patch"):
            raise UserError(f"{path}:{index + 1}: a binary patch, which patch(1) cannot apply")
        if not _is_header(lines, index):
            index += 1
            continue
        start = index
        hunks, index = _hunks(path, lines, start + 2)
        old, new = (_stripped(lines[start + k]) for k in (0, 1))
        files.append(FileDiff(old=old, new=new, line=start + 1, hunks=hunks))
        body += lines[start:index]
    if not files:
        raise UserError(f"{path}: no diff in it")
    return Patch(path=path, files=tuple(files), body=b"".join(body))


def _is_header(lines: Sequence[bytes], index: int) -> bool:
    """Whether a file's diff starts here: ---, +++ and @@, one below the other."""
    starts = (b"--- ", b"+++ ", b"@@ -")
    return index + 2 < len(lines) and all(
        lines[index + k].startswith(start) for k, start in enumerate(starts)
    )


def _stripped(line: bytes) -> str | None:
    """The path of a `---` or `+++` line, less its first component (-p1)."""
    name = line[4:].split(b"\t")[0].strip().decode(errors="surrogateescape")
    return None if name == "/dev/null" else name.partition("/")[2]


def _hunks(path: Path, lines: Sequence[bytes], index: int) -> tuple[tuple[Hunk, ...], int]:
    """The hunks that start at ``index``, and the index behind the last."""
    hunks: list[Hunk] = []
    while index < len(lines) and (match := _HUNK.match(lines[index])):
        start = index
        old, new = int(match[2] or 1), int(match[4] or 1)
        index += 1
        while old > 0 or new > 0:
            kind = lines[index][:1] if index < len(lines) else b""
            if kind not in (b" ", b"-", b"+", b"\\", b"\n"):
                raise UserError(
                    f"{path}:{index + 1}: hunk {len(hunks) + 1} ends early: "
                    f"{old} old and {new} new lines are missing",
                    hint="the patch was cut or edited by hand; make it anew",
                )
            old -= kind in (b" ", b"-", b"\n")
            new -= kind in (b" ", b"+", b"\n")
            index += 1
        if index < len(lines) and lines[index].startswith(b"\\"):
            index += 1
        body = tuple(lines[start + 1 : index])
        hunks.append(Hunk(line=start + 1, at=int(match[1]), body=body))
    return tuple(hunks), index


def applied_path(series: str, *, digest: str, family: str, cache: Path) -> Path:
    """The cache entry of a source, by its digest, with a series, by its own, applied."""
    return cache / "patched" / f"{family}-{store.key(FORMAT, digest, series)}"


def apply(series: Series, source: Source, *, cache: Path) -> Path:
    """The tree ``source`` with ``series`` applied: made once, never written after.

    Its files are hard links into ``source.tree`` but for those that the series
    names.  For the source that a series was made for; vm/graft.py has a user's
    tree.  Raises BuildError that says which hunk of which patch does not apply,
    and where.
    """
    final = applied_path(series.digest, digest=source.digest, family=source.family, cache=cache)

    def make(temp: Path) -> None:
        tree = temp / "tree"
        trees.link_copy(source.tree, tree)
        for name in series.touched:
            trees.unshare(tree / name)
        for patch in series.patches:
            _apply_one(patch, tree, source)
        record = {"source": source.origin, "version": source.version, "digest": source.digest}
        names = [patch.name for patch in series.patches]
        store.write_json(temp / "patches.json", {**record, "patches": names})

    store.entry(final, f"patching {source.origin}", make)
    return final / "tree"


@contextlib.contextmanager
def applied_files(series: Series, source: Source) -> Iterator[Path]:
    """A temporary tree of just the files that ``series`` names, as it leaves them.

    For what is tried once: a whole tree is 87,000 links.  Raises as ``apply`` does.
    """
    with _scratch(series, source.tree) as tree:
        for patch in series.patches:
            _apply_one(patch, tree, source)
        yield tree


def already_applied(series: Series, tree: Path) -> bool:
    """Whether ``tree`` has the whole series.  Never writes to ``tree``."""
    return all(present(series, tree))


def present(series: Series, tree: Path) -> tuple[bool, ...]:
    """Which patches of the series ``tree`` has.  Never writes to ``tree``.

    A patch is there when it can be taken back.  A later patch may have changed
    its lines again, so first the longest run of patches from the start is
    looked for that can be taken back from its end; then each of the others.
    """
    count = len(series.patches)
    for length in range(count, 0, -1):
        head = series.patches[:length]
        with _scratch(series, tree) as copy:
            if all(_reverses(patch, copy) for patch in reversed(head)):
                break
    else:
        length = 0
    rest = []
    for patch in series.patches[length:]:
        with _scratch(series, tree) as copy:
            rest.append(_reverses(patch, copy))
    return (True,) * length + tuple(rest)


@contextlib.contextmanager
def _scratch(series: Series, tree: Path) -> Iterator[Path]:
    """A temporary tree of copies of just the files that a series names."""
    with tempfile.TemporaryDirectory(prefix="extsys-patch-") as name:
        top = Path(name)
        for path in series.touched:
            if (tree / path).is_file():
                (top / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(tree / path, top / path)  # scripts are executable
        yield top


def _reverses(patch: Patch, tree: Path) -> bool:
    """Take ``patch`` back from ``tree``, a scratch tree; whether that worked."""
    # Asked for by name first: patch(1) calls a missing file reversed already.
    for diff in patch.files:
        if (diff.new is not None) != (tree / (diff.new or diff.old or "")).exists():
            return False
    return _patch(patch, tree, "--reverse", quiet=True).code == 0


def _patch(patch: Patch, tree: Path, *options: str, quiet: bool) -> proc.Finished:
    argv = [
        *("patch", "--strip=1", "--fuzz=0", "--forward", "--get=0", "--unified"),
        *("--no-backup-if-mismatch", "--reject-file=-", f"--directory={tree}"),
        *options,
        f"--input={patch.path.resolve()}",
    ]
    return proc.run(argv, timeout=PATCH_SECONDS, env={"LC_ALL": "C"}, check=False, quiet=quiet)


def applies(patch: Patch, tree: Path) -> bool:
    """Whether a patch applies to ``tree`` as it is.  Writes nothing."""
    for diff in patch.files:
        # Asked for by name first: patch(1) would call a file that is there applied.
        if (diff.old is not None) != (tree / (diff.old or diff.new or "")).exists():
            return False
    return _patch(patch, tree, "--dry-run", quiet=True).code == 0


def put(patch: Patch, tree: Path) -> bool:
    """Apply a patch to a scratch tree; False when not all of it applied."""
    return _patch(patch, tree, quiet=True).code == 0


def failing(patch: Patch, tree: Path) -> tuple[str, ...]:
    """The hunks of a patch that do not apply to ``tree`` as it is, each with its place."""
    return tuple(_failed(patch, _patch(patch, tree, "--dry-run", quiet=True).out))


def _apply_one(patch: Patch, tree: Path, source: Source) -> None:
    for diff in patch.files:
        where = f"{patch.path}:{diff.line}"
        if diff.old is None and (tree / str(diff.new)).exists():
            raise BuildError(
                f"{source.origin} has its own {diff.new}, which {where} would create",
                hint="its content is not the series'; compare the two",
            )
        if diff.old is not None and not (tree / diff.old).exists():
            raise BuildError(
                f"{where}: {source.origin} has no file {diff.old}",
                hint=f"the series is made for another kernel than {source.version}",
            )
    done = _patch(patch, tree, quiet=True)
    if done.code == 0:
        return
    failed = list(_failed(patch, done.out))
    if not failed:  # not a hunk: no permission, no space, an odd file
        raise BuildError(f"{patch.path}: patch(1) failed: {done.out.strip()}")
    more = f", and {len(failed) - NAMED_HUNKS} more" if len(failed) > NAMED_HUNKS else ""
    raise BuildError(
        f"{patch.name} does not apply to {source.origin} (Linux {source.version}): "
        + "; ".join(failed[:NAMED_HUNKS])
        + more,
        hint="the lines around it differ there; rebase the patch",
    )


def _failed(patch: Patch, output: str) -> Iterator[str]:
    """Name the hunks that patch(1) reports as failed."""
    by_name = {name: diff for diff in patch.files for name in diff.names}
    diff: FileDiff | None = None
    for line in output.splitlines():
        if match := re.match(r"(?:checking|patching) file '?(.+?)'?(?: \(.*\))?$", line):
            diff = by_name.get(match[1])
        elif (match := re.match(r"Hunk #(\d+) (?:FAILED|ignored) at (\d+)", line)) and diff:
            hunk = diff.hunks[int(match[1]) - 1]
            yield f"hunk {match[1]} of {diff.new or diff.old} in {patch.path}:{hunk.line}"
