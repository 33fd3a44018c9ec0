# SPDX-License-Identifier: GPL-2.0-only
"""vm.patches and vm.trees: a series on a tree, repeatably, and what refuses."""

from __future__ import annotations

import os
from pathlib import Path

import fakelinux
import pytest

from vm import patches, source, trees
from vm.errors import BuildError, HarnessError, UserError

#: What the fake table looks like with the series.
LINE = "106\tcommon\tnew\tsys_new\n"


def owned(tree: Path, digest: str = "d") -> source.Source:
    """A tree as if it came from a package."""
    return source.Source(
        tree=tree,
        version="6.12.1",
        digest=digest,
        origin="package linux-source-6.12",
        owned=True,
        family="linux-fake",
    )


def users(tree: Path, cache: Path) -> source.Source:
    return source.user_tree(tree, cache=cache)


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> Path:
    return fakelinux.make_tree(tmp_path / "linux")


@pytest.fixture(name="series")
def _series(tmp_path: Path) -> patches.Series:
    directory = fakelinux.make_series(
        tmp_path / "series", core=fakelinux.CORE, tables=fakelinux.TABLES
    )
    return patches.load_series(directory)


def patched(tree: Path, series: patches.Series, scratch: Path) -> Path:
    """A copy of ``tree`` that has the series, as a user may have made it."""
    done = patches.apply(series, owned(tree, "for a user"), cache=scratch)
    copy = scratch / "copy"
    for name in trees.scan(done):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((done / name).read_bytes())
    return copy


# --- reading


def test_a_series_is_read_as_quilt_does(tmp_path: Path) -> None:
    directory = fakelinux.make_series(
        tmp_path / "s", core=fakelinux.CORE, page=fakelinux.CORE, tables=fakelinux.TABLES
    )
    (directory / "series").write_text(
        "# a comment\n\ncore.patch # the core\n  page.patch  # tree: man-pages\n#tables.patch\n"
        "tables.patch\n"
    )
    series = patches.load_series(directory)
    assert [patch.name for patch in series.patches] == ["core.patch", "tables.patch"]
    assert series.elsewhere == (("page.patch", "man-pages"),)
    assert series.touched == ("kernel/new.c", "include/uapi/linux/new.h", "arch/x86/calls.tbl")


def test_hunks_are_found_and_prose_is_not_taken_for_one(series: patches.Series) -> None:
    core, tables = series.patches
    assert [(d.old, d.new) for d in core.files] == [
        (None, "kernel/new.c"),
        (None, "include/uapi/linux/new.h"),
    ]
    lines = tables.path.read_text().splitlines()
    (diff,) = tables.files
    assert [lines[hunk.line - 1] for hunk in diff.hunks] == [
        "@@ -4,6 +4,7 @@",
        "@@ -29,6 +30,7 @@",
    ]
    assert [hunk.at for hunk in diff.hunks] == [4, 29]


def test_the_digest_is_of_the_diffs_alone(tmp_path: Path, series: patches.Series) -> None:
    reworded = fakelinux.CORE.replace("Add the new call", "Add new()")
    other = patches.load_series(
        fakelinux.make_series(tmp_path / "o", other_name=reworded, tables=fakelinux.TABLES)
    )
    assert other.digest == series.digest
    changed = fakelinux.CORE.replace("return 3", "return 4")
    other = patches.load_series(
        fakelinux.make_series(tmp_path / "c", core=changed, tables=fakelinux.TABLES)
    )
    assert other.digest != series.digest


@pytest.mark.parametrize(
    ("listing", "said"),
    [
        ("none.patch\n", r"series:1: none\.patch: no such patch"),
        ("core.patch\ncore.patch\n", r"series:2: core\.patch: listed twice"),
        ("prose.patch\n", r"prose\.patch: no diff in it"),
        ("cut.patch\n", r"cut\.patch:\d+: hunk 2 ends early: 3 old and 4 new lines are missing"),
        ("binary.patch\n", r"binary\.patch:1: a binary patch"),
    ],
)
def test_a_bad_series_is_refused_with_its_line(tmp_path: Path, listing: str, said: str) -> None:
    directory = fakelinux.make_series(
        tmp_path / "s",
        core=fakelinux.CORE,
        prose="Subject: no\n\nnothing\n",
        cut=fakelinux.TABLES.partition("+131")[0],
        binary="GIT binary patch\nliteral 1\n",
    )
    (directory / "series").write_text(listing)
    with pytest.raises(UserError, match=said):
        patches.load_series(directory)


def test_a_directory_without_a_series_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"series: no such file"):
        patches.load_series(tmp_path)
    with pytest.raises(UserError, match=r"linux-0\.1: no such patch series"):
        patches.series_dir("linux-0.1")


def test_the_projects_own_series_can_be_read() -> None:
    series = patches.load_series(patches.series_dir("linux-6.12"))
    assert "kernel/sys_ni.c" in series.touched
    assert "man-pages" in [tree for _, tree in series.elsewhere]


# --- applying


def test_applying_is_repeatable_and_leaves_the_pristine_tree_alone(
    tmp_path: Path, tree: Path, series: patches.Series
) -> None:
    before = fakelinux.fingerprint(tree)
    first = patches.apply(series, owned(tree), cache=tmp_path / "cache")
    done = fakelinux.fingerprint(first)
    assert (first / "kernel/new.c").read_text() == "int new(void) { return 3; }\n"
    assert LINE in (first / "arch/x86/calls.tbl").read_text()
    assert patches.apply(series, owned(tree), cache=tmp_path / "cache") == first
    assert fakelinux.fingerprint(first) == done
    assert fakelinux.fingerprint(tree) == before
    # Nothing of patch(1)'s is left, and what it did not touch is shared.
    assert trees.scan(first).keys() == {*fakelinux.FILES, *series.touched}
    assert (first / "kernel/foo.c").samefile(tree / "kernel/foo.c")

    # Elsewhere it comes out the same.
    second = patches.apply(series, owned(tree), cache=tmp_path / "other")
    assert {n: row[0] for n, row in fakelinux.fingerprint(second).items()} == {
        n: row[0] for n, row in done.items()
    }


def test_the_offsets_of_a_point_release_survive(
    tmp_path: Path, tree: Path, series: patches.Series
) -> None:
    table = tree / "arch/x86/calls.tbl"
    table.write_text("# a comment\n" * 30 + fakelinux.TABLE.replace("20\tcommon", "20\ti386"))
    done = patches.apply(series, owned(tree), cache=tmp_path / "cache")
    lines = (done / "arch/x86/calls.tbl").read_text().splitlines(keepends=True)
    assert lines[lines.index(LINE) - 1].startswith("6\t")
    assert lines[lines.index("131\tx32\tnew\tsys_new\n") - 1].startswith("31\t")


def refusal(series: patches.Series, tree: source.Source, cache: Path) -> HarnessError:
    with pytest.raises(HarnessError) as caught:
        patches.apply(series, tree, cache=cache)
    assert not [path for path in (cache / "patched").iterdir() if path.is_dir()]
    return caught.value


def test_a_hunk_that_does_not_apply_is_named(
    tmp_path: Path, tree: Path, series: patches.Series
) -> None:
    table = tree / "arch/x86/calls.tbl"
    table.write_text(fakelinux.TABLE.replace("32\tcommon", "32\ti386"))
    exc = refusal(series, owned(tree), tmp_path / "cache")
    assert isinstance(exc, BuildError)
    path = tmp_path / "series/tables.patch"
    assert f"hunk 2 of arch/x86/calls.tbl in {path}:15" in str(exc)
    assert "hunk 1" not in str(exc)
    assert "Linux 6.12.1" in str(exc)


def test_a_changed_context_is_no_place_for_a_line(
    tmp_path: Path, tree: Path, series: patches.Series
) -> None:
    """patch(1)'s default would put it there: the outermost context line is fuzz."""
    table = tree / "arch/x86/calls.tbl"
    table.write_text(fakelinux.TABLE.replace("4\tcommon\tcall4\t", "4\ti386\tcall4\t"))
    assert "hunk 1 of arch/x86/calls.tbl" in str(refusal(series, owned(tree), tmp_path / "cache"))


def test_a_file_that_is_not_there_is_named(
    tmp_path: Path, tree: Path, series: patches.Series
) -> None:
    (tree / "arch/x86/calls.tbl").unlink()
    exc = refusal(series, owned(tree), tmp_path / "cache")
    assert "tables.patch:5: package linux-source-6.12 has no file arch/x86/calls.tbl" in str(exc)


def test_a_series_on_top_of_another(tmp_path: Path, tree: Path, series: patches.Series) -> None:
    mutant = """\
--- a/kernel/new.c
+++ b/kernel/new.c
@@ -1 +1 @@
-int new(void) { return 3; }
+int new(void) { return 4; }
"""
    more = patches.load_series(fakelinux.make_series(tmp_path / "m", mutant=mutant))
    done = patches.apply(series + more, owned(tree), cache=tmp_path / "cache")
    assert "return 4" in (done / "kernel/new.c").read_text()
    assert (series + more).digest not in (series.digest, more.digest)


def test_gnu_patch_does_not_write_through_a_hard_link(
    tmp_path: Path, tree: Path, series: patches.Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The linked tree does not rest on this, but a change of it should be known."""
    monkeypatch.setattr(trees, "unshare", lambda path: None)
    before = fakelinux.fingerprint(tree)
    patches.apply(series, owned(tree), cache=tmp_path / "cache")
    assert fakelinux.fingerprint(tree) == before


def test_unshare_gives_a_file_an_inode_of_its_own(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("content")
    one.chmod(0o755)
    os.link(one, two)
    trees.unshare(two)
    assert not one.samefile(two)
    assert two.read_text() == "content"
    assert two.stat().st_mode == one.stat().st_mode
    assert two.stat().st_mtime_ns == one.stat().st_mtime_ns
    trees.unshare(tmp_path / "none")


# --- keeping a tree in step


def test_sync_touches_only_what_differs_and_dates_it_now(tmp_path: Path, tree: Path) -> None:
    other = tmp_path / "other"
    trees.link_copy(tree, other)
    assert trees.sync(tree, other) == trees.Synced(written=(), removed=())

    # The other tree's files are older than what was made from them.
    want = fakelinux.make_tree(tmp_path / "want", foo_c="int foo(void) { return 7; }\n")
    (want / "kernel/bar.c").unlink()
    (want / "new/deep").mkdir(parents=True)
    (want / "new/deep/file").touch()
    (want / "scripts/kconfig/Makefile").chmod(0o755)
    (want / "link").symlink_to("Makefile")
    for path in [*want.rglob("*"), *other.rglob("*")]:
        os.utime(path, (1000, 1000), follow_symlinks=False)
    before = fakelinux.fingerprint(other)
    done = trees.sync(want, other)
    assert done.written == ("kernel/foo.c", "link", "new/deep/file", "scripts/kconfig/Makefile")
    assert done.removed == ("kernel/bar.c",)
    after = fakelinux.fingerprint(other)
    kept = [name for name in fakelinux.FILES if name not in (*done.written, *done.removed)]
    assert all(after[name] == before[name] for name in kept)
    assert all((other / name).lstat().st_mtime > 1_000_000 for name in done.written)
    assert {n: r[:2] for n, r in after.items()} == {
        n: r[:2] for n, r in fakelinux.fingerprint(want).items()
    }

    # A name that was a file becomes a directory, and the other way round.
    (want / "Kbuild").unlink()
    (want / "Kbuild").mkdir()
    (want / "Kbuild/inner").write_text("x")
    (want / "new/deep/file").unlink()
    (want / "new/deep").rmdir()
    (want / "new/deep").write_text("y")
    trees.sync(want, other)
    assert (other / "Kbuild/inner").read_text() == "x"
    assert (other / "new/deep").read_text() == "y"
    assert trees.sync(want, other) == trees.Synced(written=(), removed=())
