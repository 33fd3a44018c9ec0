# SPDX-License-Identifier: GPL-2.0-only
"""`make shell`: a shell in the guest, on the host's own root.

For looking around by hand: virtme-ng's ordinary mode, with every program of the
host at hand and nothing of the host writable.  The terminal is passed through;
this process becomes virtme-run, so that there is nothing to clean up after it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from vm.accel import Accel
from vm.errors import UserError
from vm.guest import find_virtme_run
from vm.guestroot import compile_program
from vm.paths import VM
from vm.proc import show

#: What `vng` itself covers with an overlay, so that a package manager or an
#: editor finds its directories writable; what is written there is lost at the
#: end (virtme_ng/run.py:_get_virtme_overlay_rwdir).
OVERLAYS = ("/etc", "/lib", "/home", "/opt", "/srv", "/usr", "/var", "/tmp")

#: What the guest's PATH holds behind the directory that is asked for.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: Runs the shell, and ends the guest when that ends.
SESSION_SOURCE = VM / "guest" / "session.c"


def _session(cache: Path) -> Path:
    """The compiled session.c, in the cache under its content's name."""
    digest = hashlib.sha256()
    for source in (SESSION_SOURCE, SESSION_SOURCE.with_name("sys.h")):
        digest.update(source.read_bytes())
    path = cache / "guest" / f"session-{digest.hexdigest()[:16]}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = compile_program(SESSION_SOURCE, path.with_name(f".{path.name}.{os.getpid()}"))
        fresh.replace(path)
    return path


def command(
    image: Path,
    accel: Accel,
    *,
    session: Path,
    programs: Path | None = None,
    overlay: bool = False,
    memory: int = 512,
    cpus: int = 1,
    kernel_args: Sequence[str] = (),
) -> list[str]:
    """The virtme-run command for a shell; see interactive()."""
    words = [str(find_virtme_run()), "--kimg", str(image), "--mods", "none"]
    words += ["--root", "/", "--user", "root", "--pwd"]
    words += ["--memory", f"{memory}M", "--cpus", str(cpus)]
    words += ["--shell", str(session)]
    # See vm/qemu.toml: these three are there for the same reasons.
    words += ["--force-9p", "--disable-microvm"]
    if accel.kind == "tcg":
        words += ["--disable-kvm"]
    if overlay:
        for directory in OVERLAYS:
            # A symbolic link leads into a directory that has an overlay already.
            if Path(directory).is_dir() and not Path(directory).is_symlink():
                words += ["--overlay-rwdir", directory]
    if programs is not None:
        words += ["--kopt", f"PATH={programs.resolve()}:{DEFAULT_PATH}"]
    for argument in kernel_args:
        words += ["--kopt", argument]
    machine = "kvm" if accel.kind == "kvm" else "tcg"
    return [*words, "--qemu-opts", "-machine", f"q35,accel={machine}", "-no-reboot"]


def interactive(
    image: Path,
    accel: Accel,
    *,
    cache: Path,
    programs: Path | None = None,
    overlay: bool = False,
    memory: int = 512,
    cpus: int = 1,
    kernel_args: Sequence[str] = (),
) -> NoReturn:
    """Become a root shell in a guest that runs ``image`` on the host's root.

    ``cache`` keeps the small program that ends the guest with the shell.
    ``programs`` is put first on the guest's PATH.  ``overlay`` says that the
    kernel has CONFIG_OVERLAY_FS: then the usual directories are writable, and
    what is written is gone with the guest; otherwise all but /run and the like
    is read-only.  ``memory`` is in MiB.  Ctrl-D ends the guest, Ctrl-A X QEMU.

    Raises UserError when standard input is no terminal, and InfraError when
    there is no virtme-run.
    """
    if not sys.stdin.isatty():
        raise UserError(
            "make shell: standard input is no terminal",
            hint="a shell in the guest wants one; `script -qc 'make shell'` can lend it",
        )
    argv = command(
        image,
        accel,
        session=_session(cache),
        programs=programs,
        overlay=overlay,
        memory=memory,
        cpus=cpus,
        kernel_args=kernel_args,
    )
    show(argv)
    os.environ["PATH"] = f"{Path(argv[0]).parent}:{os.environ.get('PATH', os.defpath)}"
    sys.stdout.flush()
    os.execv(argv[0], argv)
