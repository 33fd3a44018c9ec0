# SPDX-License-Identifier: GPL-2.0-only
"""A reproducer put to the proof: compiled for its ABI, and run on the kernel that it accuses."""

from __future__ import annotations

import itertools
import shutil

from harness.lab import Lab
from harness.report.reproducers import Reproducer
from harness.target import Target
from vm import proc

#: As its first comment says, and no warning.
STATIC = ("-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s", "-pthread")
COMPILE_SECONDS = 60.0
#: The program itself gives its call ten.
RUN_SECONDS = 60.0

_numbers = itertools.count()


def in_guest(lab: Lab, target: Target, program: Reproducer) -> str:
    """Compile a reproducer and run it in the guest; its exit code and its line.

    With the kernel's own headers where it says that it takes them: of all
    reproducers one about a layout alone does.

    The guest sees its root directory over 9p, which keeps what it has looked
    up but asks for names that it never saw: a directory of a new name is found.
    On this machine's own kernel it runs here.  What does not compile is said.
    """
    home = lab.setup.report if lab.setup.local else lab.root
    where = home / f"prove-{next(_numbers)}"
    where.mkdir()
    built_as = where / "repro"
    own = lab.compiler.headers if program.headers else None
    include = ["-isystem", str(own)] if own else []
    try:
        built = proc.run(
            ["gcc", program.abi.cflag, *STATIC, *include, "-o", built_as, program.path],
            timeout=COMPILE_SECONDS,
            check=False,
            quiet=True,
        )
        if built.code:
            return f"it does not compile: {built.out.strip()}"
        inside = str(built_as) if lab.setup.local else f"/{built_as.relative_to(home)}"
        done = target.execute([inside], seconds=RUN_SECONDS)
        return f"exit {done.code}: {done.output.strip()}"
    finally:
        shutil.rmtree(where)
