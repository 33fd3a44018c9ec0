# SPDX-License-Identifier: GPL-2.0-only
"""A kernel's source: from the distribution's package, kernel.org, or the user.

Whatever it comes from, it ends as a tree in the cache that nobody writes to,
with an identity that is made from its content.  A user's own tree is copied
there, kept in step by content, and itself only ever read.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Sequence
from pathlib import Path

from vm import cache as store
from vm import download, kernels, paths, proc, trees
from vm.errors import InfraError, UserError
from vm.kernels import Kernel
from vm.progress import step

#: Deadline of unpacking a kernel tarball, in seconds; it takes about ten.
UNPACK_SECONDS = 900.0

#: Deadline of one question to dpkg or apt, in seconds.
ASK_SECONDS = 60.0

#: What every kernel tree has at its top, and what uses it here.
KERNEL_TREE = ("Makefile", "Kconfig", "Kbuild", "arch/x86", "scripts/kconfig", "include/uapi")

#: A file that was changed within this many seconds before it was read may be
#: changed again without its times moving: it is read again the next time.
RACY_SECONDS = 2.0

_MAKEFILE = re.compile(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)\s*=[ \t]*(.*)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """An unpatched kernel tree in the cache.  Nobody writes to it."""

    tree: Path
    version: str  #: from its Makefile: "6.12.117"
    digest: str  #: identity of the content
    origin: str  #: for people: "Debian package linux-source-6.12 …", "tree ~/linux"
    owned: bool  #: False: ``tree`` is a copy of a user's tree, maybe patched already
    family: str  #: sources of one family are built one on top of the other


def makefile_version(tree: Path) -> str:
    """The version that a kernel tree's Makefile states, as "6.12.117-rc1"."""
    found = dict(_MAKEFILE.findall((tree / "Makefile").read_text(errors="replace")[:4096]))
    numbers = [found[part] for part in ("VERSION", "PATCHLEVEL", "SUBLEVEL") if found.get(part)]
    return f"{'.'.join(numbers)}{found.get('EXTRAVERSION', '')}"


def locate(kernel: Kernel, *, mirror: str | None = None, cache: Path) -> str | None:
    """The digest of what ``obtain`` would give, where that is known before.

    So a kernel that is in the cache is found without unpacking its source.
    """
    if mirror is None and kernel.tarball.is_file():
        return _tarball_digest(kernel.tarball, cache)
    if kernel.sha256:
        return kernel.sha256
    record = store.read_json(_upstream_entry(kernel, cache) / "source.json")
    return str(record["digest"]) if record else None


def obtain(
    kernel: Kernel,
    *,
    mirror: str | None = None,
    cache: Path,
    network: download.Network = download.PATIENT,
) -> Source:
    """The source of ``kernel``, unpacked in the cache.

    The tarball of the distribution's package is used when it is installed.
    Where the distribution has no such package, or when ``mirror`` (the URL of
    a directory with the tarball and its sha256sums.asc) is given, kernel.org's
    tarball of the pinned version is downloaded.

    Raises UserError, naming the command, when the package exists and is not
    installed; InfraError when a file is damaged or cannot be had.
    """
    if mirror is None and kernel.tarball.is_file():
        return _package(kernel, cache)
    if mirror is None and not _upstream_entry(kernel, cache).is_dir() and _in_apt(kernel.package):
        raise UserError(
            f"{kernel.tarball}: not there: the package {kernel.package} is not installed",
            hint=f"apt-get install --no-install-recommends {kernel.package}",
        )
    return _upstream(kernel, mirror or kernel.base, cache, network)


def _in_apt(package: str) -> bool:
    """Whether this machine's package lists have ``package``."""
    if not shutil.which("apt-cache"):
        return False
    argv = ["apt-cache", "policy", package]
    out = proc.run(argv, timeout=ASK_SECONDS, env={"LC_ALL": "C"}, check=False, quiet=True).out
    candidate = re.search(r"^\s*Candidate:\s*(\S+)", out, re.MULTILINE)
    return candidate is not None and candidate[1] != "(none)"


def _tarball_digest(tarball: Path, cache: Path) -> str:
    """SHA-256 of a tarball; read anew only when its inode or times moved."""
    memo = cache / "source" / f".{tarball.name}.sha256.json"
    info = tarball.stat()
    now = [str(tarball), info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]
    known = store.read_json(memo)
    if known is None or known["file"] != now:
        known = {"file": now, "sha256": store.sha256_file(tarball)}
        store.write_json(memo, known)
    return str(known["sha256"])


def _package(kernel: Kernel, cache: Path) -> Source:
    digest = _tarball_digest(kernel.tarball, cache)
    final = cache / "source" / f"{kernel.series}-package-{digest[: store.KEY_DIGITS]}"

    def make(temp: Path) -> None:
        version = _verified_package(kernel)
        _unpack(kernel.tarball, temp / "tree")
        _record(temp, digest=digest, origin=f"package {kernel.package}{version}")

    store.entry(final, f"unpacking {kernel.tarball}", make)
    return _recorded(final, kernel)


def _verified_package(kernel: Kernel) -> str:
    """The installed package's version, with a space before it, or nothing.

    Raises InfraError when dpkg knows another content of the tarball.  A tarball
    that no package owns has nobody to ask; xz's own checksum has to do.
    """
    if not shutil.which("dpkg-query"):
        return ""
    ask = ["dpkg-query", "--show", "--showformat=${Version}", kernel.package]
    version = proc.run(ask, timeout=ASK_SECONDS, check=False, quiet=True)
    if version.code != 0 or not version.out.strip():
        return ""
    check = ["dpkg", "--verify", kernel.package]
    changed = proc.run(check, timeout=ASK_SECONDS, check=False, quiet=True).out
    if str(kernel.tarball) in changed:
        raise InfraError(
            f"{kernel.tarball}: altered or truncated: not what {kernel.package} "
            f"{version.out.strip()} installed",
            hint=f"apt-get install --reinstall {kernel.package}",
        )
    return f" {version.out.strip()}"


def _upstream_entry(kernel: Kernel, cache: Path) -> Path:
    return cache / "source" / f"{kernel.series}-upstream-{kernel.upstream}"


def _upstream(kernel: Kernel, base: str, cache: Path, network: download.Network) -> Source:
    final = _upstream_entry(kernel, cache)

    def make(temp: Path) -> None:
        archive = temp / kernel.archive
        digest, signed = download.fetch_checked(
            base,
            archive,
            pinned=kernel.sha256,
            signer=kernel.signer,
            network=network,
        )
        _unpack(archive, temp / "tree")
        archive.unlink()
        _record(temp, digest=digest, origin=f"{kernel.archive} from {base} ({signed})")

    store.entry(final, f"downloading {kernel.archive}", make)
    return _recorded(final, kernel)


def _unpack(tarball: Path, tree: Path) -> None:
    """Unpack a kernel tarball, less its top directory, as ``tree``."""
    tree.mkdir()
    argv = ["tar", "--extract", f"--file={tarball}", f"--directory={tree}"]
    argv += ["--strip-components=1", "--no-same-owner"]
    with step(f"unpacking {tarball.name}"):
        done = proc.run(argv, timeout=UNPACK_SECONDS, check=False)
    if done.code != 0:
        tail = " / ".join(done.out.strip().splitlines()[-3:])
        raise InfraError(f"{tarball}: cannot be unpacked: {tail}")
    if missing := _missing(tree):
        raise InfraError(f"{tarball}: no kernel source: it has no {missing[0]}")


def _record(temp: Path, *, digest: str, origin: str) -> None:
    version = makefile_version(temp / "tree")
    store.write_json(temp / "source.json", {"version": version, "digest": digest, "origin": origin})


def _recorded(final: Path, kernel: Kernel) -> Source:
    record = store.read_json(final / "source.json")
    return Source(tree=final / "tree", owned=True, family=kernel.series, **record)


def _missing(tree: Path) -> list[str]:
    return [name for name in KERNEL_TREE if not (tree / name).exists()]


def tree_top(path: Path) -> Path:
    """The top directory of a user's kernel tree, links resolved.

    Raises UserError when ``path`` is no kernel tree.
    """
    try:
        top = path.expanduser().resolve(strict=True)
    except (OSError, RuntimeError) as exc:
        raise UserError(f"KERNEL_TREE={path}: no such directory") from exc
    if missing := _missing(top):
        built_from = top / "source"
        hint = (
            f"it is an object tree; its source is {built_from.resolve()}"
            if built_from.is_symlink()
            else "name the top directory of a Linux source tree"
        )
        raise UserError(f"KERNEL_TREE={path}: no kernel tree: it has no {missing[0]}", hint=hint)
    return top


def tree_kernel(path: Path) -> Kernel:
    """The row of kernels.toml whose patches fit a user's tree best.

    Raises UserError when ``path`` is no kernel tree, or says no version.
    """
    version = makefile_version(tree_top(path))
    try:
        return kernels.nearest(version)
    except ValueError as exc:
        raise UserError(f"KERNEL_TREE={path}: its Makefile: {exc}") from exc


def user_tree(path: Path, *, cache: Path | None = None) -> Source:
    """A user's own kernel tree, as a copy in the cache that has its content.

    ``path`` is never written to.  The copy follows it by content: a file that
    was not changed since the last call is not even read.  Raises UserError when
    ``path`` is no kernel tree.
    """
    top = tree_top(path)
    kept = cache or paths.cache_dir()
    if kept.is_relative_to(top):
        raise UserError(
            f"{kept}: the cache is inside KERNEL_TREE={path}, which is never written to",
            hint="EXTSYS_CACHE names another place for the cache",
        )
    family = f"tree-{store.key(str(top))[:8]}"
    home = kept / "trees" / family
    with store.guard(home, f"copying {path}"), step(f"looking at {path}"):
        index = _follow(top, home)
        digest = store.key(*(f"{name}\0{row[-2]}\0{row[-1]}" for name, row in index.items()))
        # What runs build from is a copy of its own, which the next call leaves
        # alone: a run that is under way must not see a later edit.
        final = home / f"at-{digest}"

        def make(temp: Path) -> None:
            trees.link_copy(home / "copy", temp / "tree")

        store.entry(final, f"copying {path}", make)
        store.prune(home, "at-*", keep=store.KEEP)
    return Source(
        tree=final / "tree",
        version=makefile_version(final / "tree"),
        digest=digest,
        origin=f"tree {path}",
        owned=False,
        family=family,
    )


#: One file of a user's tree: size, mtime, ctime (ns), inode and mode when it
#: was read; then what the copy holds: its kind (file, exec, link) and SHA-256.
Row = Sequence[int | str]


def _follow(top: Path, home: Path) -> dict[str, Row]:
    """Bring ``home``/copy in step with the user's tree; return its index."""
    copy = home / "copy"
    copy.mkdir(parents=True, exist_ok=True)
    try:
        old: dict[str, Row] = json.loads((home / "index.json").read_bytes())
    except (FileNotFoundError, ValueError):
        old = {}
    settled = time.time_ns() - int(RACY_SECONDS * 1e9)
    new: dict[str, Row] = {}
    base = f"{top}/"
    for name in trees.listing(top):
        try:
            info = os.lstat(base + name)  # 87,000 times: not through Path
        except FileNotFoundError:
            continue  # git tracks it, and the user removed it
        if not (stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode)):
            continue  # a submodule, a fifo
        seen = (info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_mode)
        row = old.get(name)
        if row is None or tuple(row[:5]) != seen:
            kind, digest = _copied(top / name, copy / name, row)
            # Times of 0 fit no file: this one is read again the next time.
            times = seen if info.st_ctime_ns < settled else (0,) * 5
            row = (*times, kind, digest)
        new[name] = row
    if new != old:
        for name in trees.scan(copy).keys() - new.keys():
            (copy / name).unlink()
        with store.writing(home / "index.json") as out:
            out.write(json.dumps(new).encode())
    return new


def _copied(source: Path, target: Path, row: Row | None) -> tuple[str, str]:
    """Copy one file unless the copy has its content; say what the copy holds."""
    if target.is_dir() and not target.is_symlink():
        store.remove(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temp = target.with_name(target.name + trees.NEW)
    temp.unlink(missing_ok=True)
    if source.is_symlink():
        text = os.fspath(source.readlink())
        kind, digest = "link", store.key(text)
        temp.symlink_to(text)
    else:
        trees.copy_content(source, temp)
        # The copy is hashed, not the source: the two may differ by now.
        kind = "exec" if temp.stat().st_mode & 0o100 else "file"
        digest = store.sha256_file(temp)
    if row is not None and (kind, digest) == tuple(row[5:]) and target.exists():
        temp.unlink()
    else:
        temp.rename(target)
    return kind, digest
