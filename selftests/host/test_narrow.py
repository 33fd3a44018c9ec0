# SPDX-License-Identifier: GPL-2.0-only
"""vm/narrow.py: where make goes for an edit, and when it has to look everywhere."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from vm import narrow

ARGV = ["make", "vmlinux"]
KERNEL = "$(if $(filter .,$(obj)),kernel)"

#: What a build leaves: each object, and what it was made of.
MADE = {
    "kernel/fork.o": ("kernel/fork.c", "include/linux/sched.h", "include/linux/list.h"),
    "kernel/exit.o": ("kernel/exit.c", "include/linux/list.h"),
    "kernel/sched/core.o": ("kernel/sched/core.c", "include/linux/sched.h"),
    "arch/x86/kernel/traps.o": ("arch/x86/kernel/traps.c", "include/linux/list.h"),
    "arch/x86/lib/copy.o": ("arch/x86/lib/copy.c",),
    "arch/x86/odd/odd.o": ("arch/x86/odd/odd.c",),
    "arch/x86/kernel/asm-offsets.s": ("arch/x86/kernel/asm-offsets.c", "include/linux/thread.h"),
    "scripts/kallsyms.o": ("scripts/kallsyms.c", "scripts/hash.h"),
    "usr/include/linux/list.h": ("include/linux/list.h",),
}
#: Each directory, and those of which its archive is made; odd is named by two.
ARCHIVES = {
    ".": ("kernel", "arch/x86", "arch/x86/lib", "arch/x86/odd"),
    "kernel": ("sched",),
    "kernel/sched": (),
    "arch/x86": ("kernel", "odd"),
    "arch/x86/kernel": (),
    "arch/x86/lib": (),
    "arch/x86/odd": (),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """A work tree and what was built of it."""

    home: Path

    @property
    def tree(self) -> Path:
        return self.home / "tree"

    @property
    def objects(self) -> Path:
        return self.home / "objects"

    def goals(self, *names: str) -> tuple[str, ...]:
        return narrow.goals(self.tree, self.objects, names)


@pytest.fixture(name="family")
def _family(tmp_path: Path) -> Family:
    made = Family(home=tmp_path)
    made.tree.mkdir()
    (made.tree / "Makefile").write_text("VERSION = 6\nbuild-dir\t:= .\n")
    for name, sources in MADE.items():
        path = made.objects / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        listed = " \\\n".join(f"  {made.tree}/{one}" for one in sources)
        note = path.with_name(f".{path.name}.cmd")
        note.write_text(f"savedcmd_{name} := gcc\n\ndeps_{name} := \\\n{listed} \\\n")
    for folder, below in ARCHIVES.items():
        (made.objects / folder / "built-in.a").write_text("")
        parts = " ".join(f"{one}/built-in.a" for one in below)
        note = made.objects / folder / ".built-in.a.cmd"
        note.write_text(
            f"savedcmd_{folder}/built-in.a := rm -f {folder}/built-in.a; "
            f'printf "{folder}/%s " x.o {parts} | xargs ar cDPrST {folder}/built-in.a\n'
        )
    (made.objects / "vmlinux").write_text("")
    return made


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["kernel/exit.c"], KERNEL),
        (["kernel/exit.c", "kernel/fork.c"], KERNEL),
        # A selftest, or a document, is no object's source; nor is a file that nothing includes.
        (["tools/testing/selftests/x/Makefile", "Documentation/x.rst"], ""),
        (["include/linux/nobody.h"], ""),
        (["kernel/exit.c", "tools/testing/selftests/x/x.c"], KERNEL),
        # Those above are archives of what is below, and made behind it.
        (
            ["kernel/sched/core.c"],
            "$(if $(filter kernel,$(obj)),kernel/sched)$(if $(filter .,$(obj)),kernel)",
        ),
        (
            ["arch/x86/kernel/traps.c"],
            "$(if $(filter arch/x86,$(obj)),arch/x86/kernel)$(if $(filter .,$(obj)),arch/x86)",
        ),
        # Named by the top one's makefile, and not by that of the next one up.
        (["arch/x86/lib/copy.c"], "$(if $(filter .,$(obj)),arch/x86/lib)"),
    ],
)
def test_make_goes_where_something_is_made_of_it(
    family: Family, names: list[str], wanted: str
) -> None:
    assert family.goals(*names) == (f"subdir-ym={wanted}",)


def test_a_header_is_looked_for_in_every_directory(family: Family) -> None:
    """What each make of a directory then takes for its subdirectories, make itself says."""
    (argument,) = family.goals("include/linux/list.h", "include/linux/sched.h")
    told = {}
    for folder in (*ARCHIVES, "scripts"):
        done = subprocess.run(
            ["make", "-f", "-", argument, f"obj={folder}", "-s"],
            input="all: ; @echo $(subdir-ym)\n",
            capture_output=True,
            text=True,
            check=True,
        )
        told[folder] = done.stdout.split()
    assert told == {
        ".": ["arch/x86", "kernel"],
        "kernel": ["kernel/sched"],
        "kernel/sched": [],
        "arch/x86": ["arch/x86/kernel"],
        "arch/x86/kernel": [],
        "arch/x86/lib": [],
        "arch/x86/odd": [],
        "scripts": [],
    }


@pytest.mark.parametrize(
    "names",
    [
        ["kernel/Makefile"],
        ["init/Kconfig", "kernel/exit.c"],
        ["arch/x86/entry/syscalls/syscall_64.tbl"],
        ["arch/x86/kernel/vmlinux.lds.S"],
        ["include/linux/thread.h"],  # offsets for assembly, by which other objects change
        ["scripts/hash.h"],  # a program that the build runs
        ["arch/x86/odd/odd.c"],  # whose makefile it is that goes there, is not plain
    ],
)
def test_it_looks_everywhere_for_what_no_object_alone_is_made_of(
    family: Family, names: list[str]
) -> None:
    assert family.goals(*names) == ()


def test_it_looks_everywhere_where_there_is_no_kernel_yet(family: Family) -> None:
    (family.objects / "vmlinux").unlink()
    assert family.goals("kernel/exit.c") == ()


def test_it_looks_everywhere_in_a_tree_with_other_makefiles(family: Family) -> None:
    (family.tree / "Makefile").write_text("vmlinux-dirs := init kernel\n")
    assert family.goals("kernel/exit.c") == ()


def lay(family: Family, *names: str, killed: bool = False) -> None:
    with narrow.laying(family.home, killed=killed) as laid:
        laid.extend(names)


def test_what_has_changed_adds_up_until_the_objects_are_whole_again(family: Family) -> None:
    narrow.whole(family.objects, ARGV)
    lay(family, "a.c")
    lay(family)
    lay(family, "b.c", "a.c")
    assert narrow.take(family.objects, ARGV) == ["a.c", "b.c"]
    assert narrow.take(family.objects, ARGV) is None  # a make that failed made some of them
    narrow.whole(family.objects, ARGV)
    assert narrow.take(family.objects, ARGV) == []


def test_a_work_tree_may_have_several_object_trees(family: Family) -> None:
    other = family.home / "objects-headers"
    narrow.whole(family.objects, ARGV)
    lay(family, "a.c")
    narrow.whole(other, ARGV)
    lay(family, "b.c")
    assert narrow.take(family.objects, ARGV) == ["a.c", "b.c"]
    assert narrow.take(other, ARGV) == ["b.c"]


def test_nothing_is_known_of_objects_that_another_command_made(family: Family) -> None:
    narrow.whole(family.objects, [*ARGV, "CC=ccache gcc"])
    assert narrow.take(family.objects, ARGV) is None


@pytest.mark.parametrize("how", ["ended", "killed"])
def test_nothing_is_known_when_files_were_laid_by_halves(family: Family, how: str) -> None:
    narrow.whole(family.objects, ARGV)
    if how == "ended":
        with pytest.raises(KeyboardInterrupt), narrow.laying(family.home, killed=False):
            raise KeyboardInterrupt
    else:
        lay(family, "a.c", killed=True)
    assert narrow.take(family.objects, ARGV) is None
