# SPDX-License-Identifier: GPL-2.0-only
"""What `make series-check` knows without building anything: tables, commits, mails."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from vm import kernels, patches, paths
from vm.errors import BuildError, UserError
from vm.review import bench as benches
from vm.review import checks, commits, growth, mails, run, table, tables
from vm.review.bench import Bench, SkipError

ROOT = paths.VM.parent / "kernel-patches"

#: A pristine tree of one call, in the form of Linux 6.12.
PRISTINE = {
    tables.TABLE_64: "1\tcommon\twrite\t\tsys_write\n2\tcommon\topen\t\tsys_open\n",
    tables.TABLE_32: "4\ti386\twrite\t\tsys_write\n5\ti386\topen\t\tsys_open\tcompat_sys_open\n",
    tables.GENERIC_TABLE: "64\tcommon\twrite\t\tsys_write\n",
    tables.GENERIC_HEADER: "#define __NR_write 64\n__SYSCALL(__NR_write, sys_write)\n"
    "#undef __NR_syscalls\n#define __NR_syscalls 65\n",
    tables.PROTOTYPES: "asmlinkage long sys_write(int fd);\n",
    tables.COMPAT_PROTOTYPES: "asmlinkage long compat_sys_open(int fd);\n",
    tables.STUBS: "COND_SYSCALL(write);\n",
    "tools/perf/arch/x86/entry/syscalls/syscall_64.tbl": "1\tcommon\twrite\t\tsys_write\n",
    "arch/arm/tools/syscall.tbl": "4\tcommon\twrite\t\tsys_write\n",
    "arch/alpha/kernel/syscalls/syscall.tbl": "114\tcommon\twrite\t\tsys_write\n",
}
#: What is added to it: a call with an entry for each ABI, as xyzzyat has.
ADDED = {
    tables.TABLE_64: "65\t64\tat\t\tsys_at\n65\tx32\tat\t\tcompat_sys_x32_at\n",
    tables.TABLE_32: "65\ti386\tat\t\tsys_ia32_at\tcompat_sys_at\n",
    tables.GENERIC_TABLE: "65\tcommon\tat\t\tsys_at\tcompat_sys_at\n",
    tables.PROTOTYPES: "asmlinkage long sys_at(int fd, loff_t offset);\n",
    tables.COMPAT_PROTOTYPES: "asmlinkage long compat_sys_at(int fd, compat_arg_u64(offset));\n",
    tables.STUBS: "COND_SYSCALL(at);\nCOND_SYSCALL(ia32_at);\nCOND_SYSCALL_COMPAT(at);\n"
    "COND_SYSCALL_COMPAT(x32_at);\n",
    "kernel/at.c": "SYSCALL_DEFINE2(at, int, fd, loff_t, offset)\n{\n}\n"
    "SYSCALL_DEFINE3(ia32_at, int, fd, u32, lo, u32, hi)\n{\n}\n"
    "COMPAT_SYSCALL_DEFINE3(at, int, fd, compat_arg_u64_dual(offset))\n{\n}\n"
    "COMPAT_SYSCALL_DEFINE2(x32_at, int, fd, loff_t, offset)\n{\n}\n",
}
HEADER = (
    "#define __NR_write 64\n__SYSCALL(__NR_write, sys_write)\n"
    "#define __NR_at 65\n__SC_COMP(__NR_at, sys_at, compat_sys_at)\n"
    "#undef __NR_syscalls\n#define __NR_syscalls 66\n"
)


@dataclasses.dataclass(frozen=True)
class Trees:
    """A pristine tree and one with the call."""

    pristine: Path
    tree: Path

    def edit(self, name: str, old: str, new: str) -> None:
        """Change a file of the tree, which has ``old``."""
        path = self.tree / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def problems(self, *, lagging: bool = True) -> list[str]:
        return tables.problems(self.tree, self.pristine, list(ADDED), lagging)


@pytest.fixture
def pair(tmp_path: Path) -> Trees:
    made = Trees(tmp_path / "pristine", tmp_path / "tree")
    for top in (made.pristine, made.tree):
        for name, text in PRISTINE.items():
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text(text)
    for name, text in ADDED.items():
        path = made.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((path.read_text() if path.exists() else "") + text)
    (made.tree / tables.GENERIC_HEADER).write_text(HEADER)
    return made


def test_tables_that_agree(pair: Trees) -> None:
    assert tables.added(pair.tree, pair.pristine) == ("at",)
    assert pair.problems() == []


#: File, what is changed in it, and a word of what has to be said.
FAULTS = [
    pytest.param(tables.TABLE_32, "65\ti386", "66\ti386", "numbers differ", id="number"),
    pytest.param(tables.TABLE_32, "65\ti386\tat", "65\ti386\tother", "no at", id="i386-missing"),
    pytest.param(tables.TABLE_64, "65\tx32", "548\tx32", "numbers differ", id="x32-number"),
    pytest.param(tables.TABLE_64, "65\tx32", "520\tx32", "closed", id="x32-closed"),
    pytest.param(
        tables.TABLE_64,
        "65\t64\tat\t\tsys_at\n65\tx32\tat\t\tcompat_sys_x32_at\n",
        "65\tcommon\tat\t\tsys_at\n",
        "shares the 64-bit one",
        id="x32-shares",
    ),
    pytest.param(
        tables.TABLE_64, "65\tx32\tat\t\tcompat_sys_x32_at\n", "", "neither", id="x32-missing"
    ),
    pytest.param(tables.GENERIC_TABLE, "\tcompat_sys_at", "", "other entries", id="generic"),
    pytest.param(
        tables.GENERIC_HEADER, "__NR_syscalls 66", "__NR_syscalls 65", "not 66", id="count"
    ),
    pytest.param(tables.STUBS, "COND_SYSCALL(at);\n", "", "COND_SYSCALL(at)", id="stub"),
    pytest.param(
        tables.STUBS, "COND_SYSCALL_COMPAT(x32_at);\n", "", "COMPAT(x32_at)", id="compat-stub"
    ),
    pytest.param(tables.PROTOTYPES, "sys_at(", "sys_et(", "prototype", id="prototype"),
    pytest.param(
        tables.COMPAT_PROTOTYPES, "compat_sys_at(", "compat_sys_et(", "prototype", id="compat"
    ),
    pytest.param("kernel/at.c", "DEFINE2(at,", "DEFINE3(at,", "with 2 arguments", id="count-args"),
    pytest.param("kernel/at.c", "DEFINE2(x32_at,", "DEFINE2(y,", "no file", id="undefined"),
    pytest.param(
        "tools/perf/arch/x86/entry/syscalls/syscall_64.tbl",
        "1\t",
        "65\t64\tat\t\tsys_at\n1\t",
        "left alone",
        id="copy",
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "said"), FAULTS)
def test_tables_that_do_not_agree(pair: Trees, name: str, old: str, new: str, said: str) -> None:
    pair.edit(name, old, new)
    assert any(said in line for line in pair.problems()), pair.problems()


def test_a_copy_that_should_have_followed(pair: Trees) -> None:
    assert any("is not as in" in line for line in pair.problems(lagging=False))


@pytest.mark.parametrize(
    ("name", "number"),
    [("arch/arm/tools/syscall.tbl", 65), ("arch/alpha/kernel/syscalls/syscall.tbl", 175)],
)
def test_a_number_that_another_architecture_has(pair: Trees, name: str, number: int) -> None:
    (pair.pristine / name).write_text(f"{number}\tcommon\tother\t\tsys_other\n")
    assert any(f"{name}: {number} is other" in line for line in pair.problems())


def test_a_tree_without_a_new_call(pair: Trees) -> None:
    assert tables.problems(pair.pristine, pair.pristine, [], True) == [
        f"{tables.TABLE_64}: no system call was added"
    ]


# The table of checks.


def test_each_row_has_a_function_and_each_function_a_row() -> None:
    rows = [one.name for one in table.load().checks]
    assert sorted(rows) == sorted(checks.CHECKS)
    assert len(set(rows)) == len(rows)


def test_each_section_is_one_of_the_document() -> None:
    document = {
        "Designing the API: Planning for Extension",
        "Designing the API: Other Considerations",
        "Proposing the API",
        "Generic System Call Implementation",
        "x86 System Call Implementation",
        "Testing",
        "Man Page",
    }
    assert {one.section for one in table.load().checks if one.section} <= document


def bench(tmp_path: Path) -> Bench:
    return Bench(
        kernel=kernels.kernel("6.12"), table=table.load(), report=tmp_path / "report", jobs=1
    )


def test_a_check_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nonsense: no such check"):
        run.run(bench(tmp_path), ["nonsense"])


def test_what_becomes_of_a_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Passed, failed with its lines, skipped with its reason; a patch that does not apply fails."""

    def refuse(_: Bench) -> list[str]:
        raise BuildError("git am does not take it")

    def skip(_: Bench) -> list[str]:
        raise SkipError("too old")

    monkeypatch.setattr(
        run,
        "CHECKS",
        {
            "checkpatch": lambda _: ["a line"],
            "git-am": refuse,
            "tables": skip,
            "mails": lambda _: [],
        },
    )
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "groff" else f"/bin/{name}")
    results = run.run(bench(tmp_path), ["checkpatch", "git-am", "tables", "mails"])
    found = {one.name: (one.result, one.lines) for one in results}
    assert found == {
        "checkpatch": ("failed", ("a line",)),
        "git-am": ("failed", ("git am does not take it",)),
        "tables": ("skipped", ("too old",)),
        "mails": ("skipped", ("groff is not installed",)),
    }
    assert run.summary(results) == "0 passed, 2 failed, 2 skipped"
    assert "a line" in capsys.readouterr().out
    assert (tmp_path / "report" / "series-check.json").exists()


def test_only_complaints_about_touched_files_count() -> None:
    log = (
        "kernel/xyzzy.c:3:1: warning: mine\n"
        "arch/x86/entry/common.c:206: warning: not mine\n"
        "kernel/xyzzy.c:3:1: warning: mine\n"
        "../kernel/xyzzyat.c:9:1: error: mine too\n"
    )
    assert benches.complaints(log, ("kernel/xyzzy.c", "kernel/xyzzyat.c")) == [
        "kernel/xyzzy.c:3:1: warning: mine",
        "../kernel/xyzzyat.c:9:1: error: mine too",
    ]


# Commits and mails.


MAIL = """\
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: Somebody <somebody@example.org>
Date: Mon, 6 Jan 2025 09:01:00 +0000
Subject: [PATCH 1/1] a: Change it

Because.

Signed-off-by: Somebody <somebody@example.org>
---
 a.c | 2 +-
 1 file changed, 1 insertion(+), 1 deletion(-)

diff --git a/a.c b/a.c
--- a/a.c
+++ b/a.c
@@ -1 +1 @@
-old
+new
"""


def test_a_patch_becomes_a_commit(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.c").write_text("old\n")
    (tmp_path / "p.patch").write_text(MAIL)
    wanted = [patches.load_patch(tmp_path / "p.patch")]
    made = commits.apply(wanted, tmp_path / "tree", tmp_path / "repo")
    (commit,) = made.commits
    assert (commit.subject, commit.files) == ("a: Change it", ("a.c",))
    assert made.content(commit.hash, "a.c") == b"new\n"
    assert made.content(made.base, "a.c") == b"old\n"
    assert made.content(commit.hash, "b.c") is None


def test_a_patch_that_git_am_does_not_take(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.c").write_text("other\n")
    (tmp_path / "p.patch").write_text(MAIL)
    with pytest.raises(BuildError, match="git am does not take it"):
        commits.apply(
            [patches.load_patch(tmp_path / "p.patch")], tmp_path / "tree", tmp_path / "repo"
        )


@pytest.mark.parametrize("kernel", sorted(kernels.load_kernels()))
def test_every_series_has_a_cover_letter_that_answers(kernel: str, tmp_path: Path) -> None:
    one = dataclasses.replace(bench(tmp_path), kernel=kernels.kernel(kernel))
    assert {part.short for part in one.parts} == {"ver0", "ver1", "ver2", "at"}
    for part in one.parts:
        text = (ROOT / mails.COVERS / f"{part.short}.txt").read_text()
        subject, _, body = text.partition("\n\n")
        assert len(subject) < 70
        assert "How is it extended?" in body
        assert "How is it tested?" in body
        trees = [tree for _, tree in part.mails]
        assert trees.count("man-pages") == 1


# --- how headers grow

OLD = """
#define IT_SIZE_VER0 16
struct it { __u32 size; __u32 a; __aligned_u64 b; };
"""


def grown(tmp_path: Path, new: str, flag: str = "-m64") -> list[str]:
    """What is wrong with a header that was OLD and is ``new``."""
    shown = []
    for name, text in (("old", OLD), ("new", new)):
        include = tmp_path / name
        (include / "linux").mkdir(parents=True)
        (include / "linux/it.h").write_text(text)
        shown.append(growth.surface(include, "linux/it.h", flag, tmp_path))
    return list(growth.problems(*shown))


@pytest.mark.parametrize("flag", checks.ABI_FLAGS)
def test_a_structure_that_grows_at_its_end(tmp_path: Path, flag: str) -> None:
    new = "\n#define IT_SIZE_VER0 16\n#define IT_SIZE_VER1 24\n" + OLD.split("VER0 16")[1].replace(
        "b; }", "b; __u32 c[2]; }"
    )
    assert grown(tmp_path, new, flag) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("__u32 a;", "__u32 c; __u32 a;"), "a was Member(offset=4"),
        (("__u32 a;", "__u16 a; __u16 c;"), "a was Member(offset=4, size=4)"),
        (("__u32 a; ", ""), "a was"),
        (("struct it", "struct other"), "struct it is gone"),
        (("VER0 16", "VER0 24"), "IT_SIZE_VER0 was 16, and is 24"),
        (("#define IT_SIZE_VER0 16", ""), "IT_SIZE_VER0 was 16, and is None"),
        ((" __aligned_u64 b;", ""), "16 bytes became 8"),
    ],
    ids=["moved", "narrowed", "removed", "renamed", "constant", "no-constant", "shrunk"],
)
def test_a_header_that_breaks_programs(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    assert any(says in line for line in grown(tmp_path, OLD.replace(*change)))


def test_a_field_in_what_was_padding(tmp_path: Path) -> None:
    """Old programs have anything there."""
    old = growth.Surface(
        structs={"it": growth.Struct(size=16, members={"a": growth.Member(offset=0, size=4)})},
        macros={},
    )
    members = {
        "a": growth.Member(offset=0, size=4),
        "b": growth.Member(offset=8, size=8),
    }
    new = growth.Surface(structs={"it": growth.Struct(size=16, members=members)}, macros={})
    assert list(growth.problems(old, new)) == ["struct it: b is at 8, within the 16 bytes"]


def test_a_header_that_does_not_compile(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="does not compile"):
        grown(tmp_path, "struct it { nothing_known size; };\n")
