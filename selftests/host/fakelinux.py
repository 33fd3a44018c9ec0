# SPDX-License-Identifier: GPL-2.0-only
"""A kernel tree of a dozen files whose make does in milliseconds what the real one does.

It has the goals that vm/build.py uses, compiles real C files into a real ELF
file, and drops Kconfig symbols that it does not know, as the real one would.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

from vm.kernels import Kernel

MAKEFILE = """\
# SPDX-License-Identifier: GPL-2.0
VERSION = 6
PATCHLEVEL = 12
SUBLEVEL = 1
EXTRAVERSION =

objs := $(patsubst %.c,$(O)/%.o,$(wildcard kernel/*.c))

.DELETE_ON_ERROR:
.PHONY: allnoconfig olddefconfig headers bzImage vmlinux

allnoconfig:
\t@test ! -e .config || { echo "The source tree is not clean"; exit 1; }
\t@grep -F -f Kconfig $(KCONFIG_ALLCONFIG) > $(KCONFIG_CONFIG) || true

olddefconfig: allnoconfig
\t@echo configured

headers:
\t@mkdir -p $(O)/usr/include/linux
\t@cp include/uapi/linux/*.h $(O)/usr/include/linux/
\t@touch $(O)/usr/include/linux/.not-a-header.cmd

$(O)/kernel/%.o: kernel/%.c
\t@mkdir -p $(@D)
\t@echo "  CC      $<"
\t@$(CC) -c -o $@ $<

$(O)/vmlinux: $(objs)
\t@echo "  LD      vmlinux"
\t@ld -r -o $@ $^

vmlinux: $(O)/vmlinux
\t@mkdir -p $(O)/include/config
\t@echo $(VERSION).$(PATCHLEVEL).$(SUBLEVEL) > $(O)/include/config/kernel.release
\t@test -z "$$MAKEFLAGS_PROBE$$KCFLAGS"

bzImage: vmlinux
\t@mkdir -p $(O)/arch/x86/boot
\t@cp $(O)/vmlinux $(O)/arch/x86/boot/bzImage
"""

#: A table of system calls, long enough for two hunks that do not touch.
TABLE = "".join(f"{n}\tcommon\tcall{n}\tsys_call{n}\n" for n in range(1, 41))

FILES = {
    "Makefile": MAKEFILE,
    "Kconfig": "CONFIG_SMP\nCONFIG_TTY\nCONFIG_NEW\n",
    "Kbuild": "# nothing\n",
    "arch/x86/Makefile": "# nothing\n",
    "arch/x86/calls.tbl": TABLE,
    "scripts/kconfig/Makefile": "# nothing\n",
    "include/uapi/linux/one.h": "#define ONE 1\n",
    "kernel/foo.c": "int foo(void) { return 1; }\n",
    "kernel/bar.c": "int bar(void) { return 2; }\n",
}

FRAGMENT = """\
# SPDX-License-Identifier: GPL-2.0-only

# Two CPUs.
CONFIG_SMP=y
# A console.
CONFIG_TTY=y
"""

#: The first patch of the fake series: a new file, and a line in a table.
CORE = """\
From 1 Mon Sep 17 00:00:00 2001
From: A Tester <tester@example.org>
Subject: [PATCH 1/2] new: Add the new call

--- this is prose, and not the start of a diff

---
 kernel/new.c | 1 +
 include/uapi/linux/new.h | 1 +

diff --git a/kernel/new.c b/kernel/new.c
new file mode 100644
--- /dev/null
+++ b/kernel/new.c
@@ -0,0 +1 @@
+int new(void) { return 3; }
diff --git a/include/uapi/linux/new.h b/include/uapi/linux/new.h
new file mode 100644
--- /dev/null
+++ b/include/uapi/linux/new.h
@@ -0,0 +1 @@
+#define NEW 3
--
2.39.5
"""

#: The second: two hunks in one file.
TABLES = """\
From 2 Mon Sep 17 00:00:00 2001
Subject: [PATCH 2/2] x86: Wire it up

---
--- a/arch/x86/calls.tbl
+++ b/arch/x86/calls.tbl
@@ -4,6 +4,7 @@
 4\tcommon\tcall4\tsys_call4
 5\tcommon\tcall5\tsys_call5
 6\tcommon\tcall6\tsys_call6
+106\tcommon\tnew\tsys_new
 7\tcommon\tcall7\tsys_call7
 8\tcommon\tcall8\tsys_call8
 9\tcommon\tcall9\tsys_call9
@@ -29,6 +30,7 @@
 29\tcommon\tcall29\tsys_call29
 30\tcommon\tcall30\tsys_call30
 31\tcommon\tcall31\tsys_call31
+131\tx32\tnew\tsys_new
 32\tcommon\tcall32\tsys_call32
 33\tcommon\tcall33\tsys_call33
 34\tcommon\tcall34\tsys_call34
--
2.39.5
"""


def make_tree(top: Path, **changes: str) -> Path:
    """Write the fake tree; ``changes`` maps a path's last name to its text."""
    for name, text in FILES.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(changes.get(path.name.replace(".", "_"), text))
    return top


def make_series(directory: Path, **patches: str) -> Path:
    """Write a series of patches, in the order given; names get ``.patch``."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in patches.items():
        (directory / f"{name}.patch").write_text(text)
    (directory / "series").write_text("".join(f"{name}.patch\n" for name in patches))
    return directory


def make_fragment(path: Path, text: str = FRAGMENT) -> str:
    path.write_text(text)
    return str(path)


def make_tarball(tree: Path, tarball: Path) -> Path:
    tarball.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["tar", "-cJf", tarball, f"--transform=s,^,{tarball.name},", "-C", tree.parent, tree.name],
        check=True,
    )
    return tarball


def make_kernel(tarball: Path, **changes: str | None) -> Kernel:
    row = {
        "name": "fake",
        "series": "linux-fake",
        "package": "linux-source-of-no-distribution",
        "upstream": "6.12.1",
        "base": "http://127.0.0.1:9",
    }
    return Kernel(tarball=tarball, **{**row, **changes})  # type: ignore[arg-type]


def fingerprint(top: Path) -> dict[str, tuple[str, int, int, int]]:
    """Content, mode, mtime and inode of every file: equal when nobody wrote."""
    found = {}
    for path in sorted(top.rglob("*")):
        info = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        digest = hashlib.sha256(content).hexdigest()
        found[str(path.relative_to(top))] = (digest, info.st_mode, info.st_mtime_ns, info.st_ino)
    return found


def python(code: str, *, path: Path | None = None) -> subprocess.Popen[str]:
    """Start a Python process that runs ``code`` with this project's modules."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    if path is not None:
        env["PATH"] = f"{path}{os.pathsep}{env['PATH']}"
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
