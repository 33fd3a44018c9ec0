# SPDX-License-Identifier: GPL-2.0-only
"""vm.kernels: the table of kernels and variants, and what a wrong name is told."""

from __future__ import annotations

from pathlib import Path

import fakelinux
import pytest

from vm import build, kconfig, kernels, patches
from vm.errors import InfraError, UserError
from vm.kernels import Variant


def test_every_variant_names_fragments_that_there_are() -> None:
    for variant in kernels.load_variants().values():
        for name in variant.fragments:
            assert kconfig.load_fragment(kconfig.find_fragment(name)).settings


def test_the_defaults_are_rows_of_the_tables() -> None:
    assert kernels.kernel(kernels.DEFAULT_KERNEL).name == kernels.DEFAULT_KERNEL
    assert kernels.variant(kernels.DEFAULT_VARIANT).name == kernels.DEFAULT_VARIANT


def test_both_long_term_series_have_a_pinned_tarball() -> None:
    for name in ("6.1", "6.12"):
        kernel = kernels.kernel(name)
        assert kernel.upstream.startswith(f"{name}.")
        assert kernel.version == tuple(map(int, name.split(".")))
        assert kernel.sha256 is not None
        assert len(bytes.fromhex(kernel.sha256)) == 32
        assert kernel.signer


def test_a_variant_is_a_stack_of_series_below_the_kernels_own() -> None:
    row = kernels.kernel("6.1")
    assert kernels.variant("ver0").series(row) == ("linux-6.1",)
    assert kernels.variant("ver2").series(row) == (
        "linux-6.1",
        "linux-6.1/ver1",
        "linux-6.1/ver2",
    )


def test_all_kernels_are_those_of_the_version_skew() -> None:
    """Those that share an object tree, and so cost an incremental build each."""
    together = {one.name for one in kernels.load_variants().values() if not one.alone}
    assert together == {"off", "ver0", "ver1", "ver2"}
    for variant in kernels.load_variants().values():
        parts = [kconfig.load_fragment(kconfig.find_fragment(name)) for name in variant.fragments]
        assert any(part.objects for part in parts) == variant.alone


def test_off_is_the_first_version_without_the_option() -> None:
    off, ver0 = (kernels.variant(name) for name in ("off", "ver0"))
    assert off.stack == ver0.stack

    def options(variant: Variant) -> dict[str, str]:
        parts = [kconfig.load_fragment(kconfig.find_fragment(name)) for name in variant.fragments]
        return {setting.symbol: setting.value for setting in kconfig.merge(parts, (6, 12))}

    assert options(off) == {**options(ver0), "XYZZY_SYSCALL": "n"}


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("6.12.117", "6.12"),
        ("6.11.3", "6.1"),
        ("6.1.0-rc3", "6.1"),
        ("5.15.9", "6.1"),
        ("7.2.0-rc1", "6.12"),
    ],
)
def test_the_kernel_nearest_to_a_tree(version: str, name: str) -> None:
    assert kernels.nearest(version).name == name


@pytest.mark.parametrize("text", ["", "six", "6"])
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(ValueError, match="no version"):
        kernels.parse_version(text)


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"KERNEL=5\.4: no such kernel") as caught:
        kernels.kernel("5.4")
    assert caught.value.hint == "known: 6.1, 6.12"
    with pytest.raises(UserError, match="VARIANT=ver9: no such variant") as caught:
        kernels.variant("ver9")
    assert caught.value.hint == f"known: {', '.join(kernels.load_variants())}"


@pytest.mark.parametrize(
    "text",
    ["[[kernel]", "", '[[kernel]]\nname = "6.12"\n', "[[variant]]\nname = 1\nstack = 3\n"],
    ids=["no TOML", "no rows", "a row too short", "a wrong type"],
)
def test_a_damaged_table_is_ours_to_mend(tmp_path: Path, text: str) -> None:
    table = tmp_path / "kernels.toml"
    table.write_text(text)
    for load in (kernels.load_kernels, kernels.load_variants):
        with pytest.raises(InfraError, match=r"kernels\.toml: not a table of kernels"):
            load(table)


# --- the series of a variant, in a directory of a test's own


@pytest.fixture(name="row")
def _row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> kernels.Kernel:
    """A fake kernel with a series, and a second one on top of it."""
    top = tmp_path / "kernel-patches" / "linux-fake"
    fakelinux.make_series(top, core=fakelinux.CORE, tables=fakelinux.TABLES)
    change = "--- a/kernel/new.c\n+++ b/kernel/new.c\n@@ -1 +1 @@\n-int new(void) { return 3; }\n"
    fakelinux.make_series(top / "ver1", more=f"{change}+int new(void) {{ return 4; }}\n")
    monkeypatch.setattr("vm.paths.VM", tmp_path / "vm")
    return fakelinux.make_kernel(tmp_path / "no.tar.xz")


def test_the_stack_of_a_variant(row: kernels.Kernel) -> None:
    one, two = (build.stacked(row, name) for name in ("ver0", "ver1"))
    assert [patch.name for patch in one.patches] == ["core.patch", "tables.patch"]
    assert [patch.name for patch in two.patches] == ["core.patch", "tables.patch", "more.patch"]
    assert build.stacked(row, "off").digest == one.digest != two.digest


def test_a_variant_without_its_series_is_refused_by_name(row: kernels.Kernel) -> None:
    with pytest.raises(UserError) as caught:
        build.stacked(row, "ver2")
    assert str(caught.value) == (
        "VARIANT=ver2: Linux fake has no such variant: "
        "there is no series linux-fake/ver2 in kernel-patches"
    )
    assert caught.value.hint == "for Linux fake there are: ver0, ver1, off, conformance"


def test_a_stack_of_one_is_that_series(row: kernels.Kernel) -> None:
    assert patches.stack(["linux-fake"]) == patches.load_series(patches.series_dir("linux-fake"))
