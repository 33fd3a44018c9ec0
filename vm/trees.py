# SPDX-License-Identifier: GPL-2.0-only
"""Source trees on disk: linked, kept in step by content, listed.

A kernel tree is some 87,000 files and 1.4 GB.  A hard-linked copy of one costs
a second and only its directories; the price is that no file in the cache may
ever be written in place.  Everything here replaces files by rename(2).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import filecmp
import fnmatch
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from vm import cache as store
from vm import proc
from vm.errors import InfraError

#: Deadline of `git ls-files` over a kernel tree, in seconds (0.3 s when cached).
GIT_SECONDS = 120.0

#: Suffix of a file that is being written, within a tree that nobody reads yet.
NEW = ".extsys-new"

#: Directories that only a build makes, as patterns over the path below the top
#: of a kernel tree.  tools/include/generated is not one: it is source.
BUILT_DIRECTORIES = ("include/config", "include/generated", "arch/*/include/generated")

#: Names and suffixes of what a build leaves in a tree without a `.NAME.cmd`
#: beside it: written by shell scripts, not through Kbuild's if_changed.
BUILT_NAMES = frozenset(
    {
        ".config",
        ".config.old",
        ".version",
        ".missing-syscalls.d",
        "Module.symvers",
        "System.map",
        "modules.builtin",
        "modules.builtin.modinfo",
        "modules.order",
        "vmlinux",
        "vmlinux.a",
        "vmlinux.o",
        "vmlinux.symvers",
    }
)
BUILT_SUFFIXES = (".o", ".a", ".ko", ".mod", ".cmd", ".gcno", ".gcda")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Synced:
    """What ``sync`` had to touch: paths relative to the tree."""

    written: tuple[str, ...]
    removed: tuple[str, ...]


def scan(root: Path) -> dict[str, os.stat_result]:
    """Every file and symbolic link below ``root``, by relative path."""
    found: dict[str, os.stat_result] = {}
    stack = [""]
    while stack:
        prefix = stack.pop()
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(f"{prefix}{entry.name}/")
                else:
                    found[prefix + entry.name] = entry.stat(follow_symlinks=False)
    return found


def link_copy(source: Path, target: Path) -> None:
    """Make ``target`` a copy of ``source`` whose files are hard links.

    ``target`` must not exist and lie on the same file system.  Both must be
    the cache's own: a link shares the file's content and its times.
    """
    target.mkdir(parents=True)
    with os.scandir(source) as entries:
        for entry in entries:
            path = target / entry.name
            if entry.is_dir(follow_symlinks=False):
                link_copy(Path(entry.path), path)
            else:
                os.link(entry.path, path, follow_symlinks=False)


def unshare(path: Path) -> None:
    """Give a hard-linked file an inode of its own, keeping mode and times."""
    if path.is_symlink() or not path.is_file() or path.stat().st_nlink == 1:
        return
    temp = path.with_name(path.name + NEW)
    shutil.copy2(path, temp)
    temp.rename(path)


def copy_content(source: Path, target: Path) -> None:
    """Copy a file's content and exec bit, sharing blocks where the fs can.

    copy_file_range(2) makes a reflink on btrfs and XFS, and copies within the
    kernel elsewhere.  The copy's modification time is now.
    """
    with source.open("rb") as src, target.open("wb") as dst:
        try:
            while os.copy_file_range(src.fileno(), dst.fileno(), 1 << 30):
                pass
        except OSError as exc:
            if exc.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
                raise
            src.seek(0)
            dst.truncate(0)
            dst.seek(0)
            shutil.copyfileobj(src, dst)
    target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)


def _place(source: Path, target: Path) -> None:
    """Put a copy of ``source`` at ``target``, whole or not at all, dated now."""
    if target.is_dir() and not target.is_symlink():
        store.remove(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temp = target.with_name(target.name + NEW)
    temp.unlink(missing_ok=True)
    if source.is_symlink():
        temp.symlink_to(source.readlink())
    else:
        copy_content(source, temp)
    temp.rename(target)


def _same(source: Path, one: os.stat_result, target: Path, other: os.stat_result) -> bool:
    """Whether two paths have the same type, exec bit and content."""
    if stat.S_IFMT(one.st_mode) != stat.S_IFMT(other.st_mode):
        return False
    if stat.S_ISLNK(one.st_mode):
        return source.readlink() == target.readlink()
    if one.st_size != other.st_size or (one.st_mode ^ other.st_mode) & 0o100:
        return False
    return filecmp.cmp(source, target, shallow=False)


def sync(source: Path, target: Path) -> Synced:
    """Give ``target`` the content of ``source``; touch only what differs.

    A file whose content changes becomes a new file dated now, so it is newer
    than every object made from what was there before.  The time that it has
    in ``source`` would not do: going back to a variant that was patched
    earlier must rebuild too.  All other files keep their times, so `make`
    builds nothing for them.
    """
    want, have = scan(source), scan(target)
    removed = sorted(have.keys() - want.keys())
    for name in removed:
        (target / name).unlink()
        # Its directories go with their last file: kbuild globs some of them.
        with contextlib.suppress(OSError):
            for parent in Path(name).parents[:-1]:
                (target / parent).rmdir()
    written = []
    for name, info in want.items():
        old = have.get(name)
        # Most files are links to one inode: said before any path is put together.
        if old is not None and (info.st_ino, info.st_dev) == (old.st_ino, old.st_dev):
            continue
        if old is None or not _same(source / name, info, target / name, old):
            _place(source / name, target / name)
            written.append(name)
    return Synced(written=tuple(sorted(written)), removed=tuple(removed))


def lay(name: str, source: Path, target: Path) -> bool:
    """Give one file of ``target`` the content that it has in ``source``, which may be none.

    As ``sync`` does it; returns whether that touched anything.
    """
    want, have = source / name, target / name
    if not os.path.lexists(want):
        if not os.path.lexists(have):
            return False
        have.unlink()
        with contextlib.suppress(OSError):
            for parent in Path(name).parents[:-1]:
                (target / parent).rmdir()
        return True
    if os.path.lexists(have) and _same(want, want.lstat(), have, have.lstat()):
        return False
    _place(want, have)
    return True


def listing(tree: Path) -> list[str]:
    """The source files of a tree that may hold build products, relative.

    In a git tree what git calls tracked, or untracked and not ignored; in any
    other directory (or without git on this machine) every file but those that
    a kernel build makes.
    """
    if (tree / ".git").exists() and shutil.which("git"):
        return _listing_git(tree)
    return sorted(_listing_plain(tree))


def _listing_git(tree: Path) -> list[str]:
    argv = [
        *("git", "-C", str(tree)),
        # The tree may belong to another user than this one (sudo), and its
        # config must not start a daemon in it.
        *("-c", "safe.directory=*", "-c", "core.fsmonitor=false"),
        *("ls-files", "-z", "--cached", "--others", "--exclude-standard"),
    ]
    proc.show(argv)
    try:
        # Not proc.run(): that reads stdout and stderr as one, and a warning in
        # the middle of this list would make a file disappear from it.
        done = subprocess.run(
            argv,
            capture_output=True,
            timeout=GIT_SECONDS,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except subprocess.TimeoutExpired as exc:
        raise InfraError(f"git ls-files in {tree}: no end within {GIT_SECONDS:g} s") from exc
    if done.returncode != 0:
        raise InfraError(f"git ls-files in {tree}: {os.fsdecode(done.stderr).strip()}")
    return sorted({name for name in os.fsdecode(done.stdout).split("\0") if name})


def _listing_plain(tree: Path) -> Iterator[str]:
    stack = [""]
    while stack:
        prefix = stack.pop()
        with os.scandir(tree / prefix) as entries:
            found = list(entries)
        names = {entry.name for entry in found}
        for entry in found:
            path = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                if not _built_directory(tree, path):
                    stack.append(f"{path}/")
            elif not _built_file(entry.name, names):
                yield path


def _built_file(name: str, names: set[str]) -> bool:
    """Whether a build made it: Kbuild keeps the command of NAME in .NAME.cmd."""
    return (
        name in BUILT_NAMES
        or name.endswith(BUILT_SUFFIXES)
        or name.startswith(".tmp_")
        or f".{name}.cmd" in names
    )


def _built_directory(tree: Path, path: str) -> bool:
    return (
        path == ".git"
        or any(fnmatch.fnmatchcase(path, pattern) for pattern in BUILT_DIRECTORIES)
        # Another build's object tree: its Makefile's `source` leads to a tree.
        or ((tree / path / "source").is_symlink() and (tree / path / ".config").exists())
    )
