# SPDX-License-Identifier: GPL-2.0-only
"""What is kept between runs: made whole or not at all, by one run at a time.

An entry is a directory that is built under a temporary name beside its final
one and renamed when it is complete; rename(2) is atomic, so whoever sees the
final name sees all of it.  flock(2) keeps two runs from making the same entry
twice.  The kernel drops such a lock with the last descriptor of it, however
its holder ends, so a lock can never be left behind; a temporary directory can,
and is removed by the next run that makes an entry beside it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from vm.errors import InfraError

#: How often a lock that is held by another run is tried again, in seconds.
POLL = 0.2

#: How long to wait for another run, in seconds.  Longer than any build takes,
#: so that only a run that was stopped (SIGSTOP) for good makes this one fail.
PATIENCE = 3 * 3600.0

#: Length of a key in hex digits.  64 bits: names stay readable, and a clash by
#: accident is out of the question for a cache of some thousand entries.
KEY_DIGITS = 16

#: How many states of a user's tree are kept: an edit, and its way back.
KEEP = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limit:
    """How many entries of one part of the cache are kept, those last used."""

    part: str
    keep: int
    why: str


#: Every series of patches, and every mutant on top of one, makes entries that no
#: later run may ask for.
LIMITS = (
    Limit(part="kernels", keep=120, why="13 MB each: two series, ten variants, all mutants"),
    Limit(part="headers", keep=120, why="one for each kernel; the files are the same ones"),
    Limit(part="patched", keep=24, why="50 MB of directories each, made anew in seconds"),
    Limit(part="kselftest", keep=60, why="3 MB each"),
)

#: An entry that was used within so many seconds stays: another run may have it.
IN_USE_SECONDS = 2 * 3600.0


@dataclasses.dataclass(frozen=True)
class Lock:
    """A lock that is held.

    ``fd`` may be given to a child: the lock then lasts until both have ended,
    so a `make` that outlives its killed parent still has its tree alone.
    """

    path: Path
    fd: int


@contextlib.contextmanager
def locked(path: Path, what: str, *, patience: float = PATIENCE) -> Iterator[Lock]:
    """Hold the lock file ``path``; ``what`` names the work that it guards.

    Says so, once, when another run has it.  Raises InfraError when that run
    does not let go within ``patience`` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _acquire(fd, path, what, patience)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield Lock(path, fd)
    finally:
        os.close(fd)


def _acquire(fd: int, path: Path, what: str, patience: float) -> None:
    end = time.monotonic() + patience
    told = False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                told = True
                holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
                print(f"waiting for another run (pid {holder}): {what}", file=sys.stderr)
                sys.stderr.flush()
            if time.monotonic() >= end:
                raise InfraError(
                    f"{what}: another run has held {path} for {patience:.0f} s",
                    hint="end that run, or name another cache with EXTSYS_CACHE",
                ) from None
            time.sleep(POLL)
        else:
            return


def guard(final: Path, what: str) -> contextlib.AbstractContextManager[Lock]:
    """The lock of the cache entry ``final``, a file beside it."""
    return locked(final.with_name(f".{final.name}.lock"), what)


@contextlib.contextmanager
def making(final: Path) -> Iterator[Path]:
    """A temporary directory that becomes ``final`` when the block succeeds.

    The caller holds ``guard(final)``.  When the block raises, nothing is left;
    when the process is killed, the next call removes what it left.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{final.name}.new-"
    for stale in final.parent.glob(f"{prefix}*"):
        remove(stale)
    _sweep(final.parent)
    temp = Path(tempfile.mkdtemp(prefix=prefix, dir=final.parent))
    temp.chmod(0o755)  # mkdtemp's 0700 would shut out other users of the cache
    try:
        yield temp
        # A directory is there already only when it was found to be unusable.
        remove(final)
        temp.rename(final)
    except BaseException:
        remove(temp)
        raise


def _sweep(parent: Path) -> None:
    """Remove what killed runs left of entries that nobody is making now.

    Their keys may never come again, so nobody else would.
    """
    for stale in parent.glob(".*.new-*"):
        lock = parent / f"{stale.name.rpartition('.new-')[0]}.lock"
        if not lock.exists() or not stale.is_dir():
            continue
        with contextlib.suppress(BlockingIOError), lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(stale)


def entry(final: Path, what: str, make: Callable[[Path], None]) -> bool:
    """Make the directory ``final`` with ``make(temp)`` unless it is there.

    Returns whether it was there.  Looks without the lock first, since a
    complete entry never changes.
    """
    if final.is_dir():
        touch(final)
        return True
    with guard(final, what):
        if final.is_dir():
            return True
        with making(final) as temp:
            make(temp)
    return False


def remove(path: Path) -> None:
    """Remove a file or a tree, whatever the modes of its directories are."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        try:
            shutil.rmtree(path)
        except PermissionError:
            for folder, _, _ in os.walk(path):
                Path(folder).chmod(0o700)
            shutil.rmtree(path)


def trim(home: Path) -> None:
    """Keep every part of the cache at ``home`` within its limit."""
    for limit in LIMITS:
        # Not what is being made, nor a lock: these begin with a dot.
        prune(home / limit.part, "[!.]*", keep=limit.keep, spare=IN_USE_SECONDS)


def prune(parent: Path, pattern: str, *, keep: int, spare: float = 0.0) -> None:
    """Remove the entries that match ``pattern``, but for the newest ``keep``.

    For entries of which every edit makes another.  ``touch`` makes one new;
    what is newer than ``spare`` seconds is kept in any case.
    """
    found = sorted(
        (path for path in parent.glob(pattern) if path.is_dir()),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    oldest = time.time() - spare if spare else math.inf
    for path in found[keep:]:
        if path.stat().st_mtime < oldest:
            remove(path)


def touch(path: Path) -> None:
    """Mark an entry as used, so that ``prune`` keeps it."""
    os.utime(path)


@contextlib.contextmanager
def writing(final: Path) -> Iterator[IO[bytes]]:
    """A file that appears as ``final`` when the block succeeds, whole."""
    final.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix=f".{final.name}.new-", dir=final.parent)
    temp = Path(name)
    try:
        with os.fdopen(fd, "wb") as out:
            yield out
        temp.chmod(0o644)
        temp.rename(final)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    """Write a JSON file, whole or not at all."""
    with writing(path) as out:
        out.write(json.dumps(value, indent=1).encode() + b"\n")


def read_json(path: Path) -> Any:
    """What ``write_json`` wrote, or None when the file is not there."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as exc:
        raise InfraError(f"{path}: not JSON: {exc}", hint=f"remove {path}") from exc


def key(*parts: str | bytes) -> str:
    """A content key over ``parts``; ("ab", "c") and ("a", "bc") differ."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode(errors="surrogateescape") if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()[:KEY_DIGITS]


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
