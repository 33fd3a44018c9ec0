# SPDX-License-Identifier: GPL-2.0-only
"""vm.kernelset: every kernel in every variant, on fake kernels that a real make builds."""

from __future__ import annotations

import io
import shutil
import signal
import subprocess
import time
from pathlib import Path

import fakelinux
import pytest
from rich.console import Console

from vm import kernelset
from vm.errors import BuildError, UserError
from vm.kernels import Kernel, Variant

#: On top of the fake series: what the second variant's patch makes of new.c.
MORE = """\
--- a/kernel/new.c
+++ b/kernel/new.c
@@ -1 +1 @@
-int new(void) { return 3; }
+int newer(void) { return 4; }
"""


class Yard:
    """Fake kernels, the series for them, two variants, and an empty cache."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.cache = top / "cache"
        tree = fakelinux.make_tree(top / "linux")
        tarball = fakelinux.make_tarball(tree, top / "src/linux.tar.xz")
        self.rows = [
            fakelinux.make_kernel(tarball, name=name, series=f"linux-{name}")
            for name in ("old", "new")
        ]
        fragment = fakelinux.make_fragment(top / "fake.config")
        self.variants = [
            Variant(name="one", what="the first", stack=(".",), fragments=(fragment,)),
            Variant(name="two", what="the second", stack=(".", "two"), fragments=(fragment,)),
        ]
        for row in self.rows:
            self.series(row, "")
            self.series(row, "two", more=MORE)

    def series(self, row: Kernel, name: str, **patches: str) -> None:
        directory = self.top / "kernel-patches" / row.series / name
        fakelinux.make_series(
            directory, **patches or {"core": fakelinux.CORE, "tables": fakelinux.TABLES}
        )

    def members(self) -> tuple[kernelset.Member, ...]:
        return kernelset.members(rows=self.rows, variants=self.variants, jobs=1, cache=self.cache)

    def kernels(self) -> list[str]:
        """What the cache has under kernels/; what is being made has a dot before it."""
        return sorted(path.name for path in (self.cache / "kernels").glob("[!.]*"))

    def run(self) -> list[list[str]]:
        """The table's rows: kernel, variant, what became of it."""
        out = io.StringIO()
        try:
            kernelset.run(self.members(), Console(file=out, width=200))
        finally:
            self.said = out.getvalue()
        return [line.split()[:3] for line in self.said.splitlines()[1:-1]]

    def code(self) -> str:
        """A program that does the same, for another process."""
        return f"""
            import pathlib
            from rich.console import Console
            from vm import kernelset, paths
            from vm.kernels import Kernel, Variant
            from pathlib import PosixPath
            paths.VM = pathlib.Path({str(self.top / "vm")!r})
            wanted = kernelset.members(
                rows={self.rows!r}, variants={self.variants!r}, jobs=1,
                cache=pathlib.Path({str(self.cache)!r}),
            )
            kernelset.run(wanted, Console())
        """


@pytest.fixture(name="yard")
def _yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    monkeypatch.setattr("vm.paths.VM", tmp_path / "vm")
    return Yard(tmp_path)


def functions(image: Path) -> set[str]:
    out = subprocess.run(["nm", image], check=True, capture_output=True, text=True).stdout
    return {line.split()[-1] for line in out.splitlines()}


def test_all_are_built_and_then_all_are_reused(yard: Yard) -> None:
    names = [["old", "one"], ["old", "two"], ["new", "one"], ["new", "two"]]
    assert yard.run() == [[*name, "built"] for name in names]
    assert len(yard.kernels()) == 4
    assert "the second" in yard.said
    assert yard.run() == [[*name, "reused"] for name in names]
    newer = [functions(one.order.fill().image) for one in yard.members()]
    assert ["newer" in have for have in newer] == [False, True, False, True]


def test_a_kernels_variants_share_an_object_tree(yard: Yard) -> None:
    wanted = yard.members()
    records = [outcome.built.record for outcome in kernelset.fill(wanted) if outcome.built]
    assert [record["incremental"] for record in records] == [False, True, False, True]


def test_what_is_missing_is_built_and_the_rest_reused(yard: Yard) -> None:
    yard.run()
    shutil.rmtree(yard.members()[2].order.directory)
    assert [row[2] for row in yard.run()] == ["reused", "reused", "built", "reused"]


def test_variants_without_a_series_are_named_before_anything_is_built(yard: Yard) -> None:
    for row in yard.rows:
        shutil.rmtree(yard.top / "kernel-patches" / row.series / "two")
    with pytest.raises(UserError) as caught:
        yard.members()
    said = str(caught.value)
    assert "VARIANT=two: Linux old has no such variant" in said
    assert "VARIANT=two: Linux new has no such variant" in said
    assert not (yard.cache / "kernels").exists()
    assert not (yard.cache / "source").exists()


def test_one_that_does_not_build_stops_none_of_the_others(
    yard: Yard, capfd: pytest.CaptureFixture[str]
) -> None:
    """And why it does not is said at once, not when the others are there."""
    yard.series(yard.rows[0], "two", more=MORE.replace("return 4;", "return four;"))
    with pytest.raises(BuildError, match=r"^old two: .*new\.c:1:\d+: error: ") as caught:
        yard.run()
    assert "whole log" in (caught.value.hint or "")
    rows = [line.split()[:3] for line in yard.said.splitlines()[1:-1]]
    assert [row[2] for row in rows] == ["built", "failed", "built", "built"]
    said = capfd.readouterr().err
    assert 0 < said.index("error: ") < said.index("3/4 new one: built")


#: A compiler that waits at the second variant's file, once.
SLOW = """
case "$*" in *new.c*) if grep -q newer "${{@: -1}}" && mkdir "{flag}" 2>/dev/null; then
    trap 'kill $!; exit 1' TERM
    sleep 30 & wait $!
fi;; esac
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_is_continued_by_the_next(yard: Yard, how: signal.Signals) -> None:
    flag = yard.top / "flag"
    bin_dir = yard.top / "bin"
    bin_dir.mkdir()
    script = f'#!/bin/bash\n{SLOW.format(flag=flag)}\nexec {shutil.which("gcc")} "$@"\n'
    (bin_dir / "gcc").write_text(script)
    (bin_dir / "gcc").chmod(0o755)
    child = fakelinux.python(yard.code(), path=bin_dir)
    end = time.monotonic() + 30
    while not flag.exists():
        assert child.poll() is None, child.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.02)
    child.send_signal(how)
    said = child.communicate(timeout=30)[0]
    assert child.returncode != 0
    if how is signal.SIGINT:  # the others end Python where it is
        assert "old     two      not built" in said
    assert "kernels: 1/4 old one: built" in said
    assert len(yard.kernels()) == 1, "nothing half-made"
    assert [row[2] for row in yard.run()] == ["reused", "built", "built", "built"]
    assert "newer" in functions(yard.members()[1].order.fill().image)
    assert not [path for path in (yard.cache / "kernels").glob(".*") if path.is_dir()]
