# SPDX-License-Identifier: GPL-2.0-only
"""The guest's root: a directory with next to nothing in it.

virtme-ng exports a directory as the guest's root.  The host's own root would
do, but a guest that finds udev, systemd and /etc there spends seconds on them,
and behaves as the host's installation does.  This root holds what virtme-ng's
init needs to reach our program, and the program: the same few files on every
host.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from vm.errors import InfraError
from vm.paths import VM
from vm.proc import run

#: The shell's source.
SHELL_SOURCE = VM / "guest" / "sh.c"

#: A file in the root by which make_root() knows a directory as its own.
MARKER = ".guest-root"

#: Seconds to compile a program in; it takes a tenth of one.
COMPILE_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Flag:
    """One compiler option, and why it is there."""

    text: str
    reason: str


#: How vm/guest/'s programs are compiled: freestanding C, for x86-64.
FLAGS = (
    Flag("-std=gnu11", "the kernel's own dialect"),
    Flag("-Os", "each page is fetched over 9p"),
    Flag("-Wall", "warnings are faults"),
    Flag("-Wextra", "warnings are faults"),
    Flag("-Werror", "warnings are faults"),
    Flag("-ffreestanding", "there is no C library: 10 KB instead of 760"),
    Flag("-fno-tree-loop-distribute-patterns", "no loop may become a call of memcpy"),
    Flag("-fno-stack-protector", "there is no __stack_chk_fail"),
    Flag("-fno-asynchronous-unwind-tables", "nothing unwinds"),
    Flag("-fno-pie", "nothing relocates"),
    Flag("-no-pie", "nothing relocates"),
    Flag("-static", "there is no dynamic linker in the guest"),
    Flag("-nostdlib", "it has its own _start"),
    Flag("-s", "no symbols: smaller"),
    Flag("-Wl,--build-id=none", "the same bytes from the same source"),
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A directory of the root, with who needs it."""

    path: str
    reason: str
    mode: int = 0o755


DIRECTORIES = (
    Entry("bin", "the shell"),
    Entry("dev", "mount point of devtmpfs: virtme-run's first commands"),
    Entry("etc", "passwd and group; virtme-ng-init covers files in it"),
    Entry("etc/lvm", "virtme-ng-init binds a directory over it"),
    Entry("lib/modules", "virtme-ng-init makes it when it is missing, and cannot: read-only"),
    Entry("proc", "mount point: virtme-ng-init"),
    Entry("root", "root's home, as virtme-ng-init sets HOME", 0o700),
    Entry("run", "mount point: virtme-run's first commands"),
    Entry("sys", "mount point: virtme-ng-init"),
    Entry("tmp", "mount point: a tmpfs, by the shell's `su`", 0o1777),
    Entry("var/tmp", "mount point: virtme-ng-init", 0o1777),
)


@dataclasses.dataclass(frozen=True)
class Text:
    """A small file of the root, its contents, and who reads it."""

    path: str
    contents: str
    reason: str


TEXTS = (
    Text(
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
        "virtme-ng-init makes /etc/shadow of it; nobody is for unprivileged calls",
    ),
    Text("etc/group", "root:x:0:\nnogroup:x:65534:\n", "the groups of passwd"),
    Text("etc/fstab", "", "virtme-ng binds an empty file over it"),
    Text("etc/shadow", "", "virtme-ng-init binds one of its own over it"),
    Text("etc/sudoers", "", "virtme-ng-init binds one of its own over it"),
)

#: The names the shell is called by: virtme-run's init= and virtme-ng-init's `su`.
SHELL_NAMES = ("bin/sh", "bin/su")


def compile_program(source: Path, output: Path) -> Path:
    """Compile one of vm/guest/'s freestanding programs, and return ``output``.

    Raises InfraError when the compiler is missing or refuses the source.
    """
    run(
        ["gcc", *(flag.text for flag in FLAGS), "-o", output, source],
        timeout=COMPILE_SECONDS,
        quiet=True,
    )
    return output


def _inside(root: Path, guest_path: str) -> Path:
    """Where ``guest_path`` of the guest lies under ``root`` on the host."""
    pure = PurePosixPath(guest_path)
    if not pure.is_absolute() or ".." in pure.parts or len(pure.parts) < 2:
        raise ValueError(f"{guest_path!r}: an absolute path in the guest is wanted, without `..`")
    return root.joinpath(*pure.parts[1:])


def make_root(dest: Path, files: Mapping[str, Path]) -> Path:
    """Build the guest's root in ``dest`` and return it.

    ``files`` maps absolute paths in the guest to files of the host; they are
    copied, with their mode, so that a later build does not change a program
    under a running guest.  A root that an earlier call made in ``dest`` is
    replaced as a whole.

    Raises ValueError for a guest path that is not absolute or that is one of
    the root's own, and InfraError when ``dest`` holds something else, a file is
    missing, or the shell does not compile.
    """
    if dest.exists() and any(dest.iterdir()) and not (dest / MARKER).exists():
        raise InfraError(
            f"{dest}: not empty, and not a guest root that was made here",
            hint="name another directory, or remove it",
        )
    own = {f"/{name}" for name in (*SHELL_NAMES, *(text.path for text in TEXTS))}
    for guest_path, host_path in files.items():
        _inside(dest, guest_path)
        if guest_path in own:
            raise ValueError(f"{guest_path}: the guest's root has a file of its own there")
        if not host_path.is_file():
            raise InfraError(f"{host_path}: no such file, wanted as {guest_path} in the guest")

    dest.parent.mkdir(parents=True, exist_ok=True)
    fresh = dest.with_name(f".{dest.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir()
        (fresh / MARKER).touch()
        for entry in DIRECTORIES:
            path = fresh / entry.path
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(entry.mode)
        for text in TEXTS:
            (fresh / text.path).write_text(text.contents)
        shell = compile_program(SHELL_SOURCE, fresh / SHELL_NAMES[0])
        for name in SHELL_NAMES[1:]:
            (fresh / name).hardlink_to(shell)
        for guest_path, host_path in files.items():
            target = _inside(fresh, guest_path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(host_path, target)
        if dest.exists():
            shutil.rmtree(dest)
        fresh.rename(dest)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return dest
