# SPDX-License-Identifier: GPL-2.0-only
"""vm.build and vm.kbuild, on a fake kernel tree that a real make and gcc build."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import fakelinux
import pytest

from vm import build, cache, kbuild, patches, source, trees
from vm.errors import BuildError, InfraError, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Desk:
    """A fake kernel, its series and fragment, and an empty cache."""

    top: Path
    series: patches.Series

    @property
    def tree(self) -> Path:
        return self.top / "linux"

    @property
    def cache(self) -> Path:
        return self.top / "cache"

    @property
    def fragment(self) -> Path:
        return self.top / "fake.config"

    def build(self, **changes: object) -> build.Built:
        asked: dict[str, object] = {
            "kernel_tree": self.tree,
            "fragments": [str(self.fragment)],
            "series": self.series,
            "cache": self.cache,
            "jobs": 2,
            **changes,
        }
        return build.build("6.12", **asked)  # type: ignore[arg-type]

    def work(self) -> Path:
        """The family's directory, with its work and object tree."""
        (path,) = (p for p in (self.cache / "work").iterdir() if p.name.startswith("tree-"))
        return path

    def kernels(self) -> list[str]:
        """What the cache has under kernels/, lock files aside."""
        found = (self.cache / "kernels").glob("*")
        return sorted(path.name for path in found if path.is_dir())

    def compiled(self) -> list[str]:
        """What the last make compiled and linked."""
        lines = (self.work() / "make.log").read_text().splitlines()
        return sorted(line.split()[1] for line in lines if line.startswith("  "))

    def code(self) -> str:
        """A program that builds this desk's kernel, for another process."""
        return f"""
            import pathlib
            from vm import build, patches
            built = build.build(
                "6.12",
                kernel_tree=pathlib.Path({str(self.tree)!r}),
                fragments=[{str(self.fragment)!r}],
                series=patches.load_series(pathlib.Path({str(self.series.directory)!r})),
                cache=pathlib.Path({str(self.cache)!r}),
                jobs=1,
            )
            print("cached" if built.cached else "built", built.key)
        """


@pytest.fixture(name="desk")
def _desk(tmp_path: Path) -> Desk:
    fakelinux.make_tree(tmp_path / "linux")
    fakelinux.make_fragment(tmp_path / "fake.config")
    directory = fakelinux.make_series(
        tmp_path / "series", core=fakelinux.CORE, tables=fakelinux.TABLES
    )
    return Desk(top=tmp_path, series=patches.load_series(directory))


#: What the fake series' first patch puts into kernel/new.c.
NEW = "int new(void) { return 3; }"


def functions(image: Path) -> set[str]:
    out = subprocess.run(["nm", image], check=True, capture_output=True, text=True).stdout
    return {line.split()[-1] for line in out.splitlines()}


# --- built once


def test_a_kernel_is_built_once_and_never_writes_the_users_tree(desk: Desk) -> None:
    before = fakelinux.fingerprint(desk.tree)
    first = desk.build()
    assert not first.cached
    assert first.seconds_cpu > 0
    assert first.release == "6.12.1"
    assert functions(first.image) == {"foo", "bar", "new"}
    assert first.image.name == "bzImage"
    assert first.vmlinux is not None
    assert functions(first.vmlinux) == {"foo", "bar", "new"}
    assert first.config.read_text() == "CONFIG_SMP=y\nCONFIG_TTY=y\n"
    headers = {p.name: p.read_text() for p in first.headers.rglob("*") if p.is_file()}
    assert headers == {"one.h": "#define ONE 1\n", "new.h": "#define NEW 3\n"}
    assert fakelinux.fingerprint(desk.tree) == before

    kept = fakelinux.fingerprint(first.directory)
    second = desk.build()
    assert second.cached
    assert second.seconds_cpu == 0
    assert (second.image, second.key) == (first.image, first.key)
    assert fakelinux.fingerprint(first.directory) == kept
    assert fakelinux.fingerprint(desk.tree) == before


def test_the_record_says_what_it_was_made_from(desk: Desk) -> None:
    record = desk.build().record
    assert record["version"] == record["release"] == "6.12.1"
    assert record["origin"] == f"tree {desk.tree}"
    assert record["patches"] == ["core.patch", "tables.patch"]
    assert record["fragments"] == ["fake"]
    assert "gcc" in record["compiler"]
    assert record["seconds_cpu"] > 0
    assert record["command"][-1] == "bzImage"
    assert "-j2" in record["command"]


def test_the_patched_tree_is_there_with_the_kernel(desk: Desk) -> None:
    built = desk.build()
    assert (built.tree / "kernel/new.c").exists()
    shutil.rmtree(desk.cache / "patched")
    again = desk.build()
    assert again.cached
    assert not (desk.cache / "patched").exists()
    assert (again.tree / "kernel/new.c").exists()


def test_a_packaged_kernel_is_found_without_its_source(desk: Desk) -> None:
    tarball = fakelinux.make_tarball(desk.tree, desk.top / "src/linux.tar.xz")
    kernel = fakelinux.make_kernel(tarball)

    def make() -> build.Built:
        return build.build(
            kernel, fragments=[str(desk.fragment)], series=desk.series, cache=desk.cache
        )

    first = make()
    assert not first.cached
    assert first.directory.name == f"linux-fake-{first.key}"
    assert first.record["origin"] == "package linux-source-of-no-distribution"
    # As in CI, which keeps only the kernels from one run to the next.
    for name in ("source", "patched", "work", "headers"):
        shutil.rmtree(desk.cache / name)
    second = make()
    assert second.cached
    assert not (desk.cache / "patched").exists()
    assert (second.tree / "kernel/new.c").exists()


@pytest.mark.parametrize("what", ["source", "series", "fragment", "goal", "compiler"])
def test_whatever_goes_in_is_part_of_the_key(
    desk: Desk, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = desk.build()
    changes: dict[str, object] = {}
    match what:
        case "source":
            (desk.tree / "kernel/foo.c").write_text("int foo(void) { return 5; }\n")
        case "series":
            changed = fakelinux.CORE.replace("return 3", "return 4")
            directory = fakelinux.make_series(desk.top / "other", core=changed)
            changes["series"] = patches.load_series(directory)
        case "fragment":
            fakelinux.make_fragment(desk.fragment, f"{fakelinux.FRAGMENT}# New.\nCONFIG_NEW=y\n")
        case "goal":
            changes["compressed"] = False
        case "compiler":
            put_gcc(desk, 'case "$*" in *--version*) echo "gcc 99"; exit;; esac', monkeypatch)
    second = desk.build(**changes)
    assert not second.cached
    assert second.key != first.key
    assert len(desk.kernels()) == 2


def test_the_key_is_known_before_anything_is_built(desk: Desk) -> None:
    asked = build.order(
        "6.12",
        kernel_tree=desk.tree,
        fragments=[str(desk.fragment)],
        series=desk.series,
        cache=desk.cache,
    )
    assert not asked.directory.exists()
    built = desk.build()
    assert (built.key, built.directory) == (asked.key, asked.directory)


def test_a_reason_or_a_commit_message_is_not_part_of_the_key(desk: Desk) -> None:
    desk.build()
    fakelinux.make_fragment(desk.fragment, fakelinux.FRAGMENT.replace("Two", "2"))
    reworded = fakelinux.CORE.replace("Add the new call", "Add it")
    directory = fakelinux.make_series(desk.top / "o", core=reworded, tables=fakelinux.TABLES)
    assert desk.build(series=patches.load_series(directory)).cached


def put_gcc(desk: Desk, script: str, monkeypatch: pytest.MonkeyPatch | None = None) -> Path:
    """A gcc that runs ``script`` before the real one; returns its directory."""
    directory = desk.top / "bin"
    directory.mkdir()
    (directory / "gcc").write_text(f'#!/bin/sh\n{script}\nexec {shutil.which("gcc")} "$@"\n')
    (directory / "gcc").chmod(0o755)
    passing = directory / "ccache"
    passing.write_text('#!/bin/sh\nexec "$@"\n')  # one that keeps nothing: that compiler is asked
    passing.chmod(0o755)
    if monkeypatch:
        monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return directory


def test_the_elf_file_alone(desk: Desk) -> None:
    built = desk.build(compressed=False)
    assert built.image == built.vmlinux
    assert not (built.directory / "bzImage").exists()


def test_the_same_input_gives_the_same_kernel(desk: Desk) -> None:
    one = desk.build()
    other = desk.build(cache=desk.top / "other-cache")
    assert other.key == one.key
    assert not other.cached
    assert other.image.read_bytes() == one.image.read_bytes()


def test_make_sees_nothing_of_the_environment_that_would_change_the_kernel(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MAKEFLAGS_PROBE", "KCFLAGS"):  # the fake vmlinux insists on neither
        monkeypatch.setenv(name, "-O0")
    monkeypatch.setenv("MAKEFLAGS", "n")  # a dry run, if it came through
    monkeypatch.setenv("O", "/nonexistent")
    assert desk.build().image.exists()


# --- step by step


def test_an_edit_compiles_only_what_it_touches(desk: Desk) -> None:
    desk.build()
    assert desk.compiled() == ["kernel/bar.c", "kernel/foo.c", "kernel/new.c", "vmlinux"]
    (desk.tree / "kernel/foo.c").write_text("int foo(void) { return 5; }\nint more;\n")
    second = desk.build()
    assert desk.compiled() == ["kernel/foo.c", "vmlinux"]
    assert functions(second.image) == {"foo", "bar", "new", "more"}
    assert second.record["incremental"]


def test_kconfig_is_asked_again_only_when_its_input_changes(desk: Desk) -> None:
    def asked() -> bool:
        return "configured\n" in (desk.work() / "make.log").read_text()

    desk.build()
    assert asked()
    (desk.tree / "kernel/foo.c").write_text("int foo(void) { return 5; }\n")
    desk.build()
    assert not asked()
    (desk.tree / "Kconfig").write_text("CONFIG_SMP\n")  # TTY is gone
    with pytest.raises(BuildError, match="CONFIG_TTY=y became n"):
        desk.build()
    # Nor is the state from before the failure believed.
    with pytest.raises(BuildError, match="CONFIG_TTY=y became n"):
        desk.build()
    fakelinux.make_fragment(desk.fragment, "# Two CPUs.\nCONFIG_SMP=y\n")
    assert desk.build().config.read_text() == "CONFIG_SMP=y\n"
    assert asked()


def test_a_work_tree_is_laid_by_what_is_patched_while_nobody_else_uses_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a source of ours: as good as a comparison of all files, and there is none."""
    tarball = fakelinux.make_tarball(desk.tree, desk.top / "src/linux.tar.xz")
    kernel = fakelinux.make_kernel(tarball)

    def trial(name: str, value: object) -> build.Built:
        change = (
            f"--- a/kernel/{name}.c\n+++ b/kernel/{name}.c\n@@ -1 +1 @@\n"
            f"-{fakelinux.FILES[f'kernel/{name}.c'].strip()}\n"
            f"+int {name}(void) {{ return {value}; }}\n"
        )
        series = patches.load_series(fakelinux.make_series(desk.top / f"{name}-{value}", m=change))
        return build.build(
            kernel,
            fragments=[str(desk.fragment)],
            series=desk.series + series,
            cache=desk.cache,
            jobs=2,
        )

    def in_step(built: build.Built) -> bool:
        return trees.sync(built.tree, work) == trees.Synced(written=(), removed=())

    first = trial("foo", 11)
    (work,) = (desk.cache / "work").glob("*/tree")
    with monkeypatch.context() as patch:
        patch.delattr(trees, "sync")
        second = trial("bar", 12)
    assert in_step(second)
    assert not in_step(first)
    # It is second's again, and somebody else's run has used it meanwhile.
    trees.sync(second.tree, work)
    (work / "kernel/foo.c").unlink()
    (work.parent / "make.log").write_text("another checkout's\n")
    assert in_step(trial("foo", 13))
    # One that fails leaves no claim behind.
    with pytest.raises(BuildError):
        trial("bar", "nonsense")
    assert not (work.parent / build.IN_STEP).exists()
    assert in_step(trial("bar", 14))


def test_variants_share_objects_and_going_back_rebuilds(desk: Desk) -> None:
    def variant(text: str) -> patches.Series:
        change = f"--- a/kernel/new.c\n+++ b/kernel/new.c\n@@ -1 +1 @@\n-{NEW}\n+{text}\n"
        directory = fakelinux.make_series(desk.top / f"m-{len(text)}", m=change)
        return desk.series + patches.load_series(directory)

    desk.build()
    a = desk.build(series=variant("int new_a(void) { return 4; }"))
    assert desk.compiled() == ["kernel/new.c", "vmlinux"]
    b = desk.build(series=variant("int new_bb(void) { return 5; }"))
    assert functions(a.image) == {"foo", "bar", "new_a"}
    assert functions(b.image) == {"foo", "bar", "new_bb"}
    # The first one again, which was patched before b's objects were made.
    cache.remove(a.directory)
    again = desk.build(series=variant("int new_a(void) { return 4; }"))
    assert not again.cached
    assert desk.compiled() == ["kernel/new.c", "vmlinux"]
    assert functions(again.image) == {"foo", "bar", "new_a"}
    assert (
        again.image.read_bytes()
        == desk.build(
            series=variant("int new_a(void) { return 4; }"), cache=desk.top / "other"
        ).image.read_bytes()
    )


@pytest.mark.skipif(not shutil.which("ccache"), reason="there is no ccache here, which is optional")
def test_objects_that_come_out_the_same_are_compiled_once(desk: Desk) -> None:
    """make looks at dates: what includes a header is made anew, whatever it uses of it."""

    def hits() -> int:
        env = {"PATH": os.environ["PATH"], "CCACHE_DIR": str(desk.cache / "ccache")}
        told = subprocess.run(
            ["ccache", "--print-stats"], check=True, capture_output=True, text=True, env=env
        ).stdout
        counts = dict(line.split("\t") for line in told.splitlines())
        return int(counts["direct_cache_hit"]) + int(counts["preprocessed_cache_hit"])

    header = desk.tree / "kernel" / "numbers.h"
    header.write_text("#define NUMBER 1\n")
    for name in ("foo", "bar"):
        source_file = desk.tree / "kernel" / f"{name}.c"
        source_file.write_text(f'#include "numbers.h"\nint {name}(void) {{ return 1; }}\n')
    one = desk.build()
    assert hits() == 0
    header.write_text("#define NUMBER 1\n#define MORE 2\n")
    cache.remove(desk.work())
    other = desk.build()
    assert desk.compiled() == ["kernel/bar.c", "kernel/foo.c", "kernel/new.c", "vmlinux"]
    assert hits() == 3
    assert not other.cached
    assert other.image.read_bytes() == one.image.read_bytes()


def test_without_ccache_a_kernel_is_built_all_the_same(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "ccache" else find(name))
    assert "CC=ccache gcc" not in desk.build().record["command"]
    assert not (desk.cache / "ccache").exists()


WARNING = '#warning "look here"'


def warning_series(desk: Desk, text: str = NEW) -> patches.Series:
    core = fakelinux.CORE.replace(
        "@@ -0,0 +1 @@\n+int new", f"@@ -0,0 +1,2 @@\n+{WARNING}\n+int new"
    )
    assert WARNING in core
    directory = fakelinux.make_series(desk.top / "warns", core=core.replace(NEW, text))
    return patches.load_series(directory)


def test_a_warning_about_a_patched_file_is_an_error_every_time(desk: Desk) -> None:
    for _ in range(2):  # the second time its object is there, and compiles nothing
        with pytest.raises(BuildError) as caught:
            desk.build(series=warning_series(desk))
        assert "1 warning(s) about what the patches bring: kernel/new.c:1:2: " in str(caught.value)
        assert "look here" in str(caught.value)
        assert desk.kernels() == []
    assert desk.build().image.exists()


def test_a_warning_is_not_lost_when_make_fails_on_something_else(desk: Desk) -> None:
    (desk.tree / "kernel/zoo.c").write_text("int zoo(void) { return }\n")
    with pytest.raises(BuildError, match=r"zoo\.c:1"):
        desk.build(series=warning_series(desk), jobs=1)
    assert WARNING in (desk.work() / "make.log").read_text(), "new.c was to be compiled first"
    (desk.tree / "kernel/zoo.c").write_text("int zoo(void) { return 1; }\n")
    with pytest.raises(BuildError, match="look here"):
        desk.build(series=warning_series(desk))


def test_a_warning_about_another_file_is_recorded(desk: Desk) -> None:
    (desk.tree / "kernel/foo.c").write_text(f"{WARNING}\nint foo(void) {{ return 5; }}\n")
    (said,) = desk.build().record["warnings"]
    assert said.startswith("kernel/foo.c:1:2: warning: #warning")


def test_a_setting_of_other_kernels_is_left_out_by_name(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"{fakelinux.FRAGMENT}# gone by now\n# until: 6.11\nCONFIG_ONCE=y\n"
    fakelinux.make_fragment(desk.fragment, text)
    built = desk.build()
    assert built.config.read_text() == "CONFIG_SMP=y\nCONFIG_TTY=y\n"
    assert built.record["left_out"] == ["CONFIG_ONCE (until 6.11)"]
    assert "left out: CONFIG_ONCE: until 6.11 (fake.config:9)" in capsys.readouterr().err


def test_a_fragment_that_changes_every_object_has_its_own(desk: Desk) -> None:
    desk.build()
    heavy = desk.top / "heavy.config"
    heavy.write_text("# object-tree: heavy\n# Everything differs.\nCONFIG_NEW=y\n")
    desk.build(fragments=[str(desk.fragment), str(heavy)])
    homes = sorted(path.name for path in (desk.cache / "work").iterdir() if path.is_dir())
    assert len(homes) == 2
    assert homes[1] == f"{homes[0]}-heavy"


def test_headers_alone_build_no_kernel(desk: Desk) -> None:
    include = build.headers(
        "6.12", kernel_tree=desk.tree, series=desk.series, cache=desk.cache, jobs=1
    )
    assert sorted(path.name for path in (include / "linux").iterdir()) == ["new.h", "one.h"]
    assert not list(desk.cache.rglob("vmlinux"))
    built = desk.build()
    assert (built.headers / "linux/new.h").read_text() == "#define NEW 3\n"
    again = build.headers("6.12", kernel_tree=desk.tree, series=desk.series, cache=desk.cache)
    assert again == include


def test_only_the_last_kernels_of_a_users_tree_are_kept(desk: Desk) -> None:
    for number in range(6):
        (desk.tree / "kernel/foo.c").write_text(f"int foo(void) {{ return {number}; }}\n")
        last = desk.build()
    assert len(desk.kernels()) == cache.KEEP
    assert last.directory.name in desk.kernels()
    for name in ("headers", "patched"):
        kept = [path for path in (desk.cache / name).iterdir() if path.is_dir()]
        assert len(kept) == cache.KEEP


# --- a user's tree, in whatever state


def test_a_tree_that_was_built_in_place_and_is_patched_already(desk: Desk) -> None:
    done = desk.build().tree
    theirs = desk.top / "theirs"
    shutil.copytree(done, theirs)
    (theirs / ".config").write_text("CONFIG_SMP=n\n")  # the fake make refuses it, too
    (theirs / "kernel/foo.o").write_text("not an object")
    (theirs / "include/config").mkdir()
    (theirs / "include/config/auto.conf").touch()
    before = fakelinux.fingerprint(theirs)
    built = desk.build(kernel_tree=theirs)
    assert functions(built.image) == {"foo", "bar", "new"}
    assert fakelinux.fingerprint(theirs) == before


def test_what_is_no_tree_and_what_the_series_does_not_fit_are_the_users(desk: Desk) -> None:
    with pytest.raises(UserError, match="no kernel tree"):
        desk.build(kernel_tree=desk.top)
    tarball = fakelinux.make_tarball(desk.tree, desk.top / "src/linux.tar.xz")
    (desk.tree / "arch/x86/calls.tbl").write_text("another\n")
    with pytest.raises(UserError, match=r"hunk 1 of arch/x86/calls\.tbl"):
        build.build(
            fakelinux.make_kernel(tarball),
            kernel_tree=desk.tree,
            fragments=[str(desk.fragment)],
            series=desk.series,
            cache=desk.cache,
        )
    assert desk.kernels() == []


def test_what_was_merged_is_told_with_every_run(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = patches.apply(
        desk.series,
        source.Source(tree=desk.tree, version="6", digest="d", origin="o", owned=True, family="f"),
        cache=desk.top / "theirs",
    )
    note = f"tree {theirs} has series already: of series nothing is applied"
    for cached in (False, True):
        built = desk.build(kernel_tree=theirs)
        assert built.cached is cached
        assert built.record["notes"] == [note]
        assert note in capsys.readouterr().err


# --- what goes wrong


def test_a_cache_where_no_kernel_can_be_built_is_refused(desk: Desk) -> None:
    with pytest.raises(UserError, match="a b: the kernel cannot be built below a path with"):
        desk.build(cache=desk.top / "a b")
    with pytest.raises(UserError, match=r"linux/cache: the cache is inside KERNEL_TREE="):
        desk.build(cache=desk.tree / "cache")
    assert not (desk.tree / "cache").exists()


def test_a_file_that_cannot_be_written_is_a_line_and_not_a_traceback(desk: Desk) -> None:
    (desk.cache).mkdir()
    (desk.cache / "kernels").write_text("no directory")
    with pytest.raises(InfraError, match="kernels"):
        desk.build()


def test_a_symbol_that_kconfig_drops_is_named(desk: Desk) -> None:
    text = f"{fakelinux.FRAGMENT}# The root is there.\nCONFIG_9P_FS=y\n"
    fakelinux.make_fragment(desk.fragment, text)
    with pytest.raises(BuildError) as caught:
        desk.build()
    said = str(caught.value)
    assert "CONFIG_9P_FS=y became n (fake.config:8: The root is there.)" in said
    assert "SMP" not in said
    assert desk.kernels() == []


def test_a_compile_error_is_shown_with_the_log(desk: Desk) -> None:
    (desk.tree / "kernel/foo.c").write_text("int foo(void) { return nothing; }\n")
    with pytest.raises(BuildError) as caught:
        desk.build()
    said = caught.value.lines()
    assert "building Linux 6.12.1 (bzImage): make bzImage failed (exit code 2)" in said[0]
    assert "kernel/foo.c:1:24: error: " in said[0]
    log = desk.work() / "make.log"
    assert said[1] == f"hint: the whole log: {log}"
    assert "error: " in log.read_text()
    assert desk.kernels() == []

    (desk.tree / "kernel/foo.c").write_text("int foo(void) { return 1; }\n")
    assert functions(desk.build().image) == {"foo", "bar", "new"}


def test_the_first_errors_of_a_long_log() -> None:
    lines = [f"a.c:{n}:1: error: number {n}" for n in range(1, 9)]
    said = kbuild.first_errors("\n".join(["  CC a.o", *lines, "make: *** [a.o] Error 1"]))
    assert said == f"{' | '.join(lines[:5])} | and 3 more"
    assert kbuild.first_errors("x\nmake: *** No rule to make target 'y'.") == (
        "make: *** No rule to make target 'y'."
    )
    assert kbuild.first_errors("ld: a.o: undefined reference to `b'").startswith("ld: a.o")
    assert kbuild.first_errors("Killed") == "Killed"
    assert kbuild.first_errors("") == "it printed nothing"


def test_a_make_that_does_not_end_is_ended_with_all_below_it(desk: Desk) -> None:
    with cache.locked(desk.top / "lock", "a test") as lock:
        make = kbuild.Make(
            tree=desk.tree, objects=desk.top / "o", log=desk.top / "log", jobs=1, lock=lock
        )
        (desk.tree / "Makefile").write_text("slow:\n\techo $$$$ > $(O)/pid; sleep 60 & wait\n")
        start = time.monotonic()
        with pytest.raises(InfraError, match=r"being slow: no end within 0\.5 s"):
            make.run("slow", title="being slow", seconds=0.5)
        assert time.monotonic() - start < 5
        # make ended in an orderly way: nothing has to be mended.
        assert not make.marker.exists()
    group = int((desk.top / "o/pid").read_text())
    assert not Path(f"/proc/{group}").exists()


# --- interrupted, and two at once


#: A compiler that is slow with bar.c, and has half written its object by then.
SLOW = """
case "$*" in *bar.c*)
    for last; do :; done
    while [ "$1" != -o ]; do shift; done
    printf 'half an object' > "$2"
    trap 'kill $!; exit 1' TERM
    sleep {seconds} &
    touch "{flag}"
    wait $!
    set -- -c -o "$2" "$last"
esac
"""


def wait_for(path: Path, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.02)


def makes_of(desk: Desk) -> list[int]:
    """The processes that work on this desk's tree."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if b"make\0" in words and str(desk.cache).encode() in words:
            found.append(int(path.parent.name))
    return found


def test_a_killed_build_leaves_no_kernel_no_make_and_no_half_object(desk: Desk) -> None:
    flag = desk.top / "flag"
    wrapper = put_gcc(desk, SLOW.format(flag=flag, seconds=20))
    child = fakelinux.python(desk.code(), path=wrapper)
    wait_for(flag)
    child.kill()
    child.communicate()
    # make outlives its parent for as long as it takes to clean up.
    end = time.monotonic() + 10
    while makes_of(desk):
        assert time.monotonic() < end, "make was left behind"
        time.sleep(0.02)
    assert not [name for name in desk.kernels() if not name.startswith(".")]
    built = desk.build()
    assert functions(built.image) == {"foo", "bar", "new"}
    assert desk.kernels() == [built.directory.name]


def test_objects_that_were_half_written_when_all_was_killed_are_made_again(desk: Desk) -> None:
    flag = desk.top / "flag"
    wrapper = put_gcc(desk, SLOW.format(flag=flag, seconds=20))
    child = fakelinux.python(desk.code(), path=wrapper)
    wait_for(flag)
    makes = makes_of(desk)
    for pid in makes:
        os.killpg(pid, signal.SIGKILL)
    child.kill()
    child.communicate()
    half = desk.work() / "objects/kernel/bar.o"
    assert half.read_text() == "half an object"
    built = desk.build()
    assert functions(built.image) == {"foo", "bar", "new"}


def test_what_was_finished_long_before_a_build_was_killed_stays(tmp_path: Path) -> None:
    """Else one that is killed after ten minutes has done nothing."""
    start = 1_700_000_000
    for name, when in {
        "before.o": -100.0,
        "done.o": 10.0,
        ".done.o.cmd": 10.5,
        "sub/done.o": 11.0,
        "sub/.done.o.cmd": 11.0,
        "sub/cut.o": 12.0,  # being written over: its note is of the build before
        "sub/.cut.o.cmd": -50.0,
        "generated.h": 13.0,
        "late.o": 100.0,
        ".late.o.cmd": 101.0,
        "last.o": 130.0,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (start + when, start + when))
    found = kbuild.unfinished(trees.scan(tmp_path), since=start)
    assert sorted(found) == [".late.o.cmd", "last.o", "late.o", "sub/cut.o"]
    assert kbuild.unfinished({}, since=start) == []


def test_two_runs_at_once_build_one_kernel(desk: Desk) -> None:
    flag = desk.top / "flag"
    wrapper = put_gcc(desk, SLOW.format(flag=flag, seconds=1))
    first = fakelinux.python(desk.code(), path=wrapper)
    wait_for(flag)
    second = fakelinux.python(desk.code(), path=wrapper)
    said = [child.communicate(timeout=30)[0] for child in (first, second)]
    (name,) = desk.kernels()
    key = name.rpartition("-")[2]
    assert said[0].endswith(f"built {key}\n")
    assert f"waiting for another run (pid {first.pid}): building {name}\n" in said[1]
    assert said[1].endswith(f"cached {key}\n")
