# SPDX-License-Identifier: GPL-2.0-only
"""vm.graft: a series on a user's tree, whatever that has around it, and what is refused."""

from __future__ import annotations

import difflib
import json
import shutil
import subprocess
from pathlib import Path

import fakelinux
import pytest

from vm import build, graft, patches, source, syscalls, trees
from vm.errors import HarnessError, UserError

#: What the fake table looks like with the series.
LINE = "106\tcommon\tnew\tsys_new\n"


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> Path:
    return fakelinux.make_tree(tmp_path / "linux")


@pytest.fixture(name="pristine")
def _pristine(tmp_path: Path) -> Path:
    """The source that the series was made for."""
    return fakelinux.make_tree(tmp_path / "pristine")


@pytest.fixture(name="series")
def _series(tmp_path: Path) -> patches.Series:
    directory = fakelinux.make_series(
        tmp_path / "series", core=fakelinux.CORE, tables=fakelinux.TABLES
    )
    return patches.load_series(directory)


def grafted(series: patches.Series, tree: Path, base: Path) -> Path:
    cache = base.parent / "cache"
    users = source.user_tree(tree, cache=cache)
    return graft.apply(series, users, cache=cache, base=lambda: base)


def states(tree: Path) -> list[str]:
    return list(json.loads((tree.parent / "patches.json").read_text())["patches"].values())


def refusal(series: patches.Series, tree: Path, base: Path) -> HarnessError:
    before = fakelinux.fingerprint(tree)
    with pytest.raises(HarnessError) as caught:
        grafted(series, tree, base)
    assert not list((base.parent / "cache/patched").glob("[!.]*"))
    assert fakelinux.fingerprint(tree) == before
    return caught.value


def patched(tree: Path, series: patches.Series, scratch: Path) -> Path:
    """A copy of ``tree`` that has the series, as a user may have made it."""
    shutil.copytree(tree, scratch)
    for patch in series.patches:
        assert patches.put(patch, scratch)
    return scratch


def diff(path: str, old: str, new: str) -> str:
    """A patch of one file, as diff -u makes it."""
    names = (f"a/{path}" if old else "/dev/null", f"b/{path}")
    lines = (old.splitlines(keepends=True), new.splitlines(keepends=True))
    return "".join(difflib.unified_diff(*lines, *names))


# --- as it is, or there already


def test_a_users_tree_gets_the_series_in_a_copy(
    tree: Path, pristine: Path, series: patches.Series
) -> None:
    before = fakelinux.fingerprint(tree)
    done = grafted(series, tree, pristine)
    assert LINE in (done / "arch/x86/calls.tbl").read_text()
    assert states(done) == ["applied", "applied"]
    assert graft.notes(done) == ()
    assert fakelinux.fingerprint(tree) == before
    assert not patches.already_applied(series, tree)
    assert trees.scan(done).keys() == {*fakelinux.FILES, *series.touched}


def test_a_users_tree_that_has_the_series_is_taken_as_it_is(
    tmp_path: Path, tree: Path, pristine: Path, series: patches.Series
) -> None:
    theirs = patched(tree, series, tmp_path / "theirs")
    before = fakelinux.fingerprint(theirs)
    assert patches.already_applied(series, theirs)
    done = grafted(series, theirs, pristine)
    assert {n: row[0] for n, row in fakelinux.fingerprint(done).items()} == {
        n: row[0] for n, row in before.items()
    }
    assert fakelinux.fingerprint(theirs) == before
    assert states(done) == ["present", "present"]
    (said,) = graft.notes(done)
    assert said == f"tree {theirs} has series already: of series nothing is applied"


@pytest.mark.parametrize("have", [0, 1])
def test_of_a_series_that_is_there_in_part_the_rest_is_applied(
    tmp_path: Path, tree: Path, pristine: Path, series: patches.Series, have: int
) -> None:
    names = ("core", "tables")
    part = patches.load_series(
        fakelinux.make_series(
            tmp_path / "part", **{names[have]: (fakelinux.CORE, fakelinux.TABLES)[have]}
        )
    )
    theirs = patched(tree, part, tmp_path / "theirs")
    assert not patches.already_applied(series, theirs)
    assert patches.present(series, theirs) == (have == 0, have == 1)
    done = grafted(series, theirs, pristine)
    assert (done / "arch/x86/calls.tbl").read_text().count(LINE) == 1
    assert (done / "kernel/new.c").exists()
    (said,) = graft.notes(done)
    assert said.endswith(f"already: of series only {names[1 - have]}.patch is applied")


def test_a_patch_whose_lines_a_later_one_changed_is_found_too(
    tmp_path: Path, tree: Path, series: patches.Series
) -> None:
    again = """\
--- a/arch/x86/calls.tbl
+++ b/arch/x86/calls.tbl
@@ -6,3 +6,3 @@
 6\tcommon\tcall6\tsys_call6
-106\tcommon\tnew\tsys_new
+106\t64\tnew\tsys_new
 7\tcommon\tcall7\tsys_call7
"""
    longer = series + patches.load_series(fakelinux.make_series(tmp_path / "more", again=again))
    theirs = patched(tree, longer, tmp_path / "theirs")
    assert patches.present(longer, theirs) == (True, True, True)
    assert patches.present(series, theirs) == (True, False)


def test_a_tree_with_another_file_of_that_name_is_refused_by_name(
    tree: Path, pristine: Path, series: patches.Series
) -> None:
    (tree / "include/uapi/linux/new.h").write_text("#define NEW 99\n")
    exc = refusal(series, tree, pristine)
    assert isinstance(exc, UserError)
    assert f"tree {tree} has its own include/uapi/linux/new.h" in str(exc)
    assert "core.patch:19 would create" in str(exc)


# --- three-way


def test_a_changed_line_beside_ours_is_merged(
    tree: Path, pristine: Path, series: patches.Series
) -> None:
    """patch(1) without fuzz refuses it: the outermost line of the context is another."""
    table = tree / "arch/x86/calls.tbl"
    table.write_text(fakelinux.TABLE.replace("4\tcommon\tcall4\t", "4\ti386\tcall4\t"))
    done = grafted(series, tree, pristine)
    lines = (done / "arch/x86/calls.tbl").read_text().splitlines(keepends=True)
    assert lines[lines.index(LINE) - 1].startswith("6\t")
    assert lines[3] == "4\ti386\tcall4\tsys_call4\n"
    assert states(done) == ["applied", "merged"]


def test_a_conflict_names_patch_file_and_hunk(
    tree: Path, pristine: Path, series: patches.Series
) -> None:
    table = tree / "arch/x86/calls.tbl"
    table.write_text(fakelinux.TABLE.replace("31\tcommon", "31\ti386"))
    exc = refusal(series, tree, pristine)
    assert isinstance(exc, UserError)
    path = series.directory / "tables.patch"
    assert str(exc) == (
        f"tables.patch does not merge into tree {tree} (Linux 6.12.1): "
        f"hunk 2 of arch/x86/calls.tbl in {path}:15"
    )


def test_every_hunk_in_conflict_is_named(
    tree: Path, pristine: Path, series: patches.Series
) -> None:
    (tree / "arch/x86/calls.tbl").write_text("nothing of the kind\n")
    said = str(refusal(series, tree, pristine))
    assert "hunk 1 of arch/x86/calls.tbl" in said
    assert "hunk 2 of arch/x86/calls.tbl" in said


def test_a_file_that_is_not_there_is_named(
    tree: Path, pristine: Path, series: patches.Series
) -> None:
    (tree / "arch/x86/calls.tbl").unlink()
    exc = refusal(series, tree, pristine)
    assert f"tables.patch:5: tree {tree} has no file arch/x86/calls.tbl" in str(exc)


def test_without_the_source_that_it_was_made_for_there_is_no_merge(
    tmp_path: Path, tree: Path, series: patches.Series
) -> None:
    def base() -> Path:
        raise UserError("linux.tar.xz: not there", hint="apt-get install it")

    (tree / "arch/x86/calls.tbl").write_text("nothing of the kind\n")
    cache = tmp_path / "cache"
    with pytest.raises(
        UserError, match=r"tables\.patch does not apply .* as it is, .*: linux"
    ) as c:
        graft.apply(series, source.user_tree(tree, cache=cache), cache=cache, base=base)
    assert c.value.hint == "apt-get install it"


@pytest.mark.parametrize("text", ["nothing of the kind\n", ""], ids=["another", "no file"])
def test_a_patch_that_fits_neither_tree_is_named_too(
    tree: Path, pristine: Path, series: patches.Series, text: str
) -> None:
    """Such as one that was made for the user's tree, and does not apply to it any more."""
    for top in (tree, pristine):
        (top / "arch/x86/calls.tbl").write_text(text)
    if not text:
        (pristine / "arch/x86/calls.tbl").unlink()
    exc = refusal(series, tree, pristine)
    assert isinstance(exc, UserError)
    assert f"hunk 2 of arch/x86/calls.tbl in {series.directory}/tables.patch:15" in str(exc)


# --- lists


STUBS = "COND_SYSCALL(a);\nCOND_SYSCALL(b);\nCOND_SYSCALL(c);\n/* end */\n/* of it */\n"
OURS = STUBS.replace("(c);\n", "(c);\n\nCOND_SYSCALL(xyzzy);\n")


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        (
            STUBS.replace("(c);\n", "(c);\nCOND_SYSCALL(d);\n"),
            OURS.replace("(xyzzy);\n", "(xyzzy);\nCOND_SYSCALL(d);\n"),
        ),
        (
            STUBS.replace("COND_SYSCALL(c);\n", "COND_SYSCALL(d);\n"),
            OURS.replace("COND_SYSCALL(c);\n", "COND_SYSCALL(d);\n"),
        ),
    ],
    ids=["an entry at the same place", "the entry before it is another"],
)
def test_two_entries_at_one_place_of_a_list_are_no_conflict(
    tmp_path: Path, tree: Path, pristine: Path, theirs: str, expected: str
) -> None:
    name = "kernel/sys_ni.c"
    (pristine / name).write_text(STUBS)
    (tree / name).write_text(theirs)
    directory = fakelinux.make_series(tmp_path / "s", stub=diff(name, STUBS, OURS))
    done = grafted(patches.load_series(directory), tree, pristine)
    assert (done / name).read_text() == expected
    assert graft.notes(done) == (
        "hunk 1 of kernel/sys_ni.c in stub.patch: put beside lines that others have added",
        "s/stub.patch: merged three-way",
    )


def test_in_any_other_file_they_are(tmp_path: Path, tree: Path, pristine: Path) -> None:
    name = "kernel/signal.c"
    (pristine / name).write_text(STUBS)
    (tree / name).write_text(STUBS.replace("(c);\n", "(c);\nCOND_SYSCALL(d);\n"))
    directory = fakelinux.make_series(tmp_path / "s", stub=diff(name, STUBS, OURS))
    said = str(refusal(patches.load_series(directory), tree, pristine))
    assert "hunk 1 of kernel/signal.c" in said


def test_a_line_of_a_list_that_is_taken_away_is_a_conflict(
    tmp_path: Path, tree: Path, pristine: Path
) -> None:
    name = "kernel/sys_ni.c"
    (pristine / name).write_text(STUBS)
    (tree / name).write_text(STUBS.replace("(b)", "(bb)"))
    directory = fakelinux.make_series(
        tmp_path / "s", stub=diff(name, STUBS, STUBS.replace("COND_SYSCALL(b);\n", ""))
    )
    said = str(refusal(patches.load_series(directory), tree, pristine))
    assert "hunk 1 of kernel/sys_ni.c" in said


def test_what_nothing_is_built_from_may_be_left_out(
    tmp_path: Path, tree: Path, pristine: Path
) -> None:
    (pristine / "MAINTAINERS").write_text(STUBS)
    (tree / "MAINTAINERS").write_text("nothing of the kind\n")
    directory = fakelinux.make_series(tmp_path / "s", who=diff("MAINTAINERS", STUBS, OURS))
    done = grafted(patches.load_series(directory), tree, pristine)
    assert (done / "MAINTAINERS").read_text() == "nothing of the kind\n"
    assert graft.notes(done)[0].endswith("left out: nothing is built from that file")


# --- numbers, and a tree that has the call


X86_64 = "arch/x86/entry/syscalls/syscall_64.tbl"
I386 = "arch/x86/entry/syscalls/syscall_32.tbl"
GENERIC = "include/uapi/asm-generic/unistd.h"
COPY = "tools/perf/arch/x86/entry/syscalls/syscall_64.tbl"
HEADER = "include/uapi/linux/xyzzy.h"


def table(abi: str, last: int = 462) -> str:
    return "".join(f"{n}\t{abi}\tcall{n}\tsys_call{n}\n" for n in range(450, last + 1))


def generic(last: int = 462) -> str:
    calls = (f"#define __NR_call{n} {n}\n__SYSCALL(__NR_call{n}, c)\n" for n in (460, last))
    return "".join(calls) + f"\n#undef __NR_syscalls\n#define __NR_syscalls {last + 1}\n"


def tables(last: int = 462) -> dict[str, str]:
    """The tables of a tree whose newest call has that number."""
    return {
        X86_64: table("common", last),
        I386: table("i386", last),
        GENERIC: generic(last),
        COPY: table("common", last),
    }


def with_tables(tree: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    return tree


SIZE0 = "#define XYZZY_PARAMS_SIZE_VER0\t24\n"
SIZE1 = "#define XYZZY_PARAMS_SIZE_VER1\t32\n"


@pytest.fixture(name="call")
def _call(tmp_path: Path, pristine: Path) -> patches.Series:
    """A series that adds a call, as the project's own does, for a tree with 462 calls."""
    old = tables()
    with_tables(pristine, old)
    header = old[GENERIC].replace(
        "\n#undef", "\n#define __NR_xyzzy 463\n__SYSCALL(__NR_xyzzy, sys_xyzzy)\n\n#undef"
    )
    new = {
        X86_64: f"{old[X86_64]}463\tcommon\txyzzy\t\t\tsys_xyzzy\n",
        I386: f"{old[I386]}463\ti386\txyzzy\t\t\tsys_xyzzy\n",
        GENERIC: header.replace("__NR_syscalls 463", "__NR_syscalls 464"),
    }
    core = diff(HEADER, "", SIZE0) + diff("kernel/xyzzy.c", "", "int xyzzy = 24;\n")
    directory = fakelinux.make_series(
        tmp_path / "xyzzy",
        core=core + diff(GENERIC, old[GENERIC], new[GENERIC]),
        wire="".join(diff(name, old[name], new[name]) for name in (X86_64, I386)),
        check=diff("tools/testing/check.c", "", "int check;\n"),
    )
    return patches.load_series(directory)


@pytest.fixture(name="more")
def _more(tmp_path: Path, call: patches.Series) -> patches.Series:
    """The same with another version on top."""
    directory = fakelinux.make_series(
        tmp_path / "xyzzy/ver1",
        grow=diff(HEADER, SIZE0, SIZE0 + SIZE1)
        + diff("kernel/xyzzy.c", "int xyzzy = 24;\n", "int xyzzy = 32;\n"),
    )
    return call + patches.load_series(directory)


def test_a_free_number_is_kept_and_copies_are_left_to_others(
    tree: Path, pristine: Path, call: patches.Series
) -> None:
    with_tables(tree, tables())
    done = grafted(call, tree, pristine)
    assert syscalls.where(done, "xyzzy") == {X86_64: 463, I386: 463, GENERIC: 463}
    assert states(done) == ["applied"] * 3
    assert graft.notes(done) == ()


def test_a_taken_number_is_another_one_in_every_table(
    tree: Path, pristine: Path, call: patches.Series
) -> None:
    with_tables(tree, tables(470))
    done = grafted(call, tree, pristine)
    assert syscalls.where(done, "xyzzy") == {X86_64: 471, I386: 471, GENERIC: 471, COPY: 471}
    assert "#define __NR_syscalls 472\n" in (done / GENERIC).read_text()
    *merged, said = graft.notes(done)
    assert merged == [f"xyzzy/{name}.patch: merged three-way" for name in ("core", "wire")]
    assert said.startswith(f"463 is not free in tree {tree}: xyzzy() has number 471 in ")
    assert all(name in said for name in (X86_64, I386, GENERIC, COPY))
    assert states(done) == ["merged", "merged", "applied"]
    assert (done / "kernel/xyzzy.c").exists()


def test_a_number_that_one_table_alone_has_given_away_is_not_free(
    tree: Path, pristine: Path, call: patches.Series
) -> None:
    """The contexts fit, and patch(1) would put two calls under one number."""
    texts = tables()
    texts[COPY] += "463\tcommon\tsomebody\tsys_somebody\n"
    with_tables(tree, texts)
    done = grafted(call, tree, pristine)
    assert syscalls.where(done, "xyzzy") == {X86_64: 464, I386: 464, GENERIC: 464, COPY: 464}


def test_a_table_that_the_series_kernel_has_not_is_filled_too(
    tree: Path, pristine: Path, call: patches.Series
) -> None:
    with_tables(tree, {**tables(), "scripts/syscall.tbl": table("common")})
    done = grafted(call, tree, pristine)
    assert syscalls.where(done, "xyzzy")["scripts/syscall.tbl"] == 463


def theirs(tree: Path, pristine: Path, call: patches.Series) -> Path:
    """A tree that carries the series under a number of its own, as a git repository."""
    done = grafted(call, with_tables(tree, tables(470)), pristine)
    copy = tree.parent / "theirs"
    shutil.copytree(done, copy)
    for argv in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *argv], cwd=copy, check=True)
    return copy


def test_a_tree_that_has_the_call_is_left_alone_and_told(
    tree: Path, pristine: Path, call: patches.Series
) -> None:
    copy = theirs(tree, pristine, call)
    (copy / "kernel/xyzzy.c").write_text("int xyzzy = 24; /* in another way */\n")
    before = fakelinux.fingerprint(copy)
    done = grafted(call, copy, pristine)
    assert states(done) == ["own", "own", "present"]
    assert graft.notes(done) == (
        f"tree {copy} has xyzzy() with number 471 and VER0 of the struct in {HEADER} already: "
        "of xyzzy nothing is applied",
    )
    assert (done / "kernel/xyzzy.c").read_text().endswith("in another way */\n")
    assert fakelinux.fingerprint(copy) == before, ".git and its index included"


def test_a_fault_of_the_trees_own_is_not_mended(
    tree: Path, pristine: Path, call: patches.Series
) -> None:
    """A line that is missing in one table is what a review is there to find."""
    copy = theirs(tree, pristine, call)
    (copy / I386).write_text(table("i386", 470))
    done = grafted(call, copy, pristine)
    assert I386 not in syscalls.where(done, "xyzzy")


def test_only_the_selftest_that_it_lacks_is_added(
    tree: Path, pristine: Path, call: patches.Series
) -> None:
    copy = theirs(tree, pristine, call)
    (copy / "tools/testing/check.c").unlink()
    done = grafted(call, copy, pristine)
    assert states(done) == ["own", "own", "applied"]
    assert graft.notes(done)[0].endswith("already: of xyzzy only check.patch is applied")
    assert (done / "tools/testing/check.c").exists()


def test_a_newer_version_is_recognised(
    tree: Path, pristine: Path, call: patches.Series, more: patches.Series
) -> None:
    copy = theirs(tree, pristine, more)
    (copy / "kernel/xyzzy.c").write_text("int xyzzy = 32; /* in another way */\n")
    for series in (call, more):
        done = grafted(series, copy, pristine)
        assert "VER1 of the struct" in graft.notes(done)[0]
        assert set(states(done)) == {"own", "present"}


def test_the_next_version_goes_on_top_of_what_is_there(
    tree: Path, pristine: Path, call: patches.Series, more: patches.Series
) -> None:
    copy = theirs(tree, pristine, call)
    done = grafted(more, copy, pristine)
    assert states(done) == ["own", "own", "present", "applied"]
    assert (done / "kernel/xyzzy.c").read_text() == "int xyzzy = 32;\n"
    assert set(syscalls.where(done, "xyzzy").values()) == {471}


@pytest.fixture(name="adapted")
def _adapted(tmp_path: Path, call: patches.Series) -> patches.Series:
    """The same with what it needs on a newer tree."""
    change = diff("kernel/xyzzy.c", "int xyzzy = 24;\n", "long xyzzy = 24;\n")
    directory = fakelinux.make_series(tmp_path / "xyzzy/since-6.13", types=change)
    return call + patches.load_series(directory)


def test_what_a_newer_tree_needs_comes_on_top(
    tree: Path, pristine: Path, adapted: patches.Series
) -> None:
    done = grafted(adapted, with_tables(tree, tables()), pristine)
    assert (done / "kernel/xyzzy.c").read_text() == "long xyzzy = 24;\n"
    assert states(done) == ["applied"] * 4


def test_but_never_over_a_call_that_the_tree_has(
    tree: Path, pristine: Path, call: patches.Series, adapted: patches.Series
) -> None:
    copy = theirs(tree, pristine, call)
    done = grafted(adapted, copy, pristine)
    assert states(done) == ["own", "own", "present", "own"]
    assert (done / "kernel/xyzzy.c").read_text() == "int xyzzy = 24;\n"
    assert len(graft.notes(done)) == 1


def test_which_trees_are_newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vm.paths.VM", tmp_path / "vm")
    top = tmp_path / "kernel-patches" / "linux-fake"
    fakelinux.make_series(top, core=fakelinux.CORE)
    assert patches.newer("linux-fake", (9, 0)) is None
    for version in ("6.9", "6.13"):
        text = fakelinux.CORE.replace("new", f"new{version}")
        fakelinux.make_series(top / f"since-{version}", **{f"on-{version}": text})

    def names(version: tuple[int, int]) -> list[str]:
        found = patches.newer("linux-fake", version)
        return [patch.name for patch in found.patches] if found else []

    assert names((6, 8)) == []
    assert names((6, 9)) == names((6, 12)) == ["on-6.9.patch"]
    assert names((7, 0)) == ["on-6.9.patch", "on-6.13.patch"]


def test_the_projects_own_for_newer_trees_fit_every_version(tmp_path: Path) -> None:
    """On a scratch tree of the files that the sample itself brings."""
    newer = patches.newer("linux-6.12", (7, 2))
    assert newer is not None
    for number, variant in enumerate(("ver0", "ver1", "ver2")):
        series = build.stacked("6.12", variant)
        tree = tmp_path / str(number)
        tree.mkdir()
        for patch in series.patches:
            patches.put(patch, tree)  # what it does to the kernel's own files fails here
        for patch in newer.patches:
            assert patches.put(patch, tree), (variant, patch.name)
        assert "hrtimer_init" not in (tree / "kernel/xyzzy.c").read_text()
