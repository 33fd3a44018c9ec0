# SPDX-License-Identifier: GPL-2.0-only
"""A reproducer put to the proof: compiled for its ABI, and run on the kernel that it accuses."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

from harness.interface import Interface
from harness.lab import Lab
from vm import proc

#: As its first comment says, and no warning.
STATIC = ("-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s", "-pthread")
COMPILE_SECONDS = 60.0
#: The program itself gives its call ten.
RUN_SECONDS = 60.0

_numbers = itertools.count()


def in_guest(lab: Lab, interface: Interface, source: Path, *, headers: Path | None = None) -> str:
    """Compile ``source`` and run it in the guest; its exit code and its line.

    ``headers`` are a kernel's, for a program that says it needs them: of all
    reproducers one about a layout alone does.

    The guest sees its root directory over 9p, which keeps what it has looked
    up but asks for names that it never saw: a directory of a new name is found.
    On this machine's own kernel it runs here.  What does not compile is said.
    """
    home = lab.setup.report if lab.setup.local else lab.root
    where = home / f"prove-{next(_numbers)}"
    where.mkdir()
    program = where / "repro"
    include = ["-isystem", str(headers)] if headers else []
    try:
        built = proc.run(
            ["gcc", interface.abi.cflag, *STATIC, *include, "-o", program, source],
            timeout=COMPILE_SECONDS,
            check=False,
            quiet=True,
        )
        if built.code:
            return f"it does not compile: {built.out.strip()}"
        inside = str(program) if lab.setup.local else f"/{program.relative_to(home)}"
        done = interface.target.execute([inside], seconds=RUN_SECONDS)
        return f"exit {done.code}: {done.output.strip()}"
    finally:
        shutil.rmtree(where)
