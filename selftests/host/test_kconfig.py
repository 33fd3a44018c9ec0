# SPDX-License-Identifier: GPL-2.0-only
"""vm.kconfig: fragments with reasons, and what became of the symbols."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm import kconfig, kernels
from vm.errors import BuildError, UserError


def fragment(tmp_path: Path, text: str, name: str = "f.config") -> kconfig.Fragment:
    path = tmp_path / name
    path.write_text(text)
    return kconfig.load_fragment(path)


def test_each_symbol_has_the_comment_above_it(tmp_path: Path) -> None:
    parsed = fragment(
        tmp_path,
        "# What the file is about.\n"
        "\n"
        "# Two CPUs,\n"
        "# for races.\n"
        "CONFIG_SMP=y\n"
        "# Few.\n"
        "CONFIG_NR_CPUS=8\n"
        "\n"
        "# Not here.\n"
        "# CONFIG_EFI is not set\n"
        "# A name.\n"
        'CONFIG_NAME="a # b"\n',
    )
    assert [(s.symbol, s.value, s.reason, s.where) for s in parsed.settings] == [
        ("SMP", "y", "Two CPUs, for races.", "f.config:5"),
        ("NR_CPUS", "8", "Few.", "f.config:7"),
        ("EFI", "n", "Not here.", "f.config:10"),
        ("NAME", '"a # b"', "A name.", "f.config:12"),
    ]
    assert kconfig.text(parsed.settings) == (
        'CONFIG_SMP=y\nCONFIG_NR_CPUS=8\n# CONFIG_EFI is not set\nCONFIG_NAME="a # b"\n'
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("CONFIG_A=y\n", r"f\.config:1: CONFIG_A has no reason"),
        ("# why\nCONFIG_A=y\nCONFIG_B=y\n", r"f\.config:3: CONFIG_B has no reason"),
        ("# why\n\nCONFIG_A=y\n", r"f\.config:3: CONFIG_A has no reason"),
        ("#\nCONFIG_A=y\n", r"f\.config:2: CONFIG_A has no reason"),
        ("# CONFIG_A is not set\n", r"f\.config:1: CONFIG_A has no reason"),
        ("# a\nCONFIG_A=y\n# b\nCONFIG_A=n\n", r"f\.config:4: CONFIG_A is set in f\.config:2"),
        ("# a\nCONFIG_A\n", r"f\.config:2: 'CONFIG_A': not a Kconfig setting"),
        ("# a\n CONFIG_A=y\n", r"f\.config:2: 'CONFIG_A=y': not a Kconfig setting"),
    ],
)
def test_a_bad_fragment_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        fragment(tmp_path, text)


def test_a_later_fragment_wins(tmp_path: Path) -> None:
    first = fragment(tmp_path, "# on\nCONFIG_A=y\n# too\nCONFIG_B=y\n", "one.config")
    second = fragment(tmp_path, "# off\n# CONFIG_A is not set\n", "two.config")
    merged = kconfig.merge([first, second], (6, 12))
    assert [(s.symbol, s.value, s.where) for s in merged] == [
        ("A", "n", "two.config:2"),
        ("B", "y", "one.config:4"),
    ]


def test_one_fragment_serves_kernels_of_several_ages(tmp_path: Path) -> None:
    parsed = fragment(
        tmp_path,
        "# any\nCONFIG_ANY=y\n"
        "# new, and why\n# since: 6.3\nCONFIG_NEW=y\n"
        "# until: 6.2\n# old\nCONFIG_OLD=y\n"
        "# few, then\n# until: 6.2\nCONFIG_NR_CPUS=8\n"
        "# more, now\n# since: 6.3\n# until: 6.20\nCONFIG_NR_CPUS=16\n",
    )

    def asked(version: tuple[int, int]) -> list[str]:
        return [setting.line for setting in kconfig.merge([parsed], version)]

    assert asked((6, 2)) == ["CONFIG_ANY=y", "CONFIG_NR_CPUS=8", "CONFIG_OLD=y"]
    assert asked((6, 3)) == ["CONFIG_ANY=y", "CONFIG_NEW=y", "CONFIG_NR_CPUS=16"]
    assert asked((6, 20)) == asked((6, 3))
    assert asked((6, 21)) == ["CONFIG_ANY=y", "CONFIG_NEW=y"]
    gone = kconfig.left_out([parsed], (6, 21))
    assert [(one.symbol, one.span) for one in gone] == [
        ("OLD", "until 6.2"),
        ("NR_CPUS", "until 6.2"),
        ("NR_CPUS", "since 6.3 until 6.20"),
    ]
    assert parsed.settings[1].reason == "new, and why"


@pytest.mark.parametrize(
    "second",
    ["CONFIG_A=n", "# since: 6.2\nCONFIG_A=n", "# until: 6.2\nCONFIG_A=n"],
    ids=["always", "from the same on", "up to one inside"],
)
def test_a_symbol_that_is_set_twice_for_one_kernel(tmp_path: Path, second: str) -> None:
    text = f"# a\n# since: 6.1\n# until: 6.2\nCONFIG_A=y\n# b\n{second}\n"
    with pytest.raises(UserError, match=r"CONFIG_A is set in f\.config:4 already"):
        fragment(tmp_path, text)


def test_what_did_not_survive_is_named_with_its_reason(tmp_path: Path) -> None:
    asked = fragment(
        tmp_path,
        "# kept\nCONFIG_KEPT=y\n# the root\nCONFIG_9P_FS=y\n# few\nCONFIG_NR_CPUS=8\n"
        "# away\n# CONFIG_EFI is not set\n# not there\n# CONFIG_GONE is not set\n",
    ).settings
    config = "CONFIG_KEPT=y\n# CONFIG_9P_FS is not set\nCONFIG_NR_CPUS=64\nCONFIG_EFI=y\n"
    kconfig.check(asked[:1], config)
    with pytest.raises(BuildError) as caught:
        kconfig.check(asked, config)
    said = str(caught.value)
    assert said.startswith("3 Kconfig symbol(s) did not survive olddefconfig: ")
    assert "CONFIG_9P_FS=y became n (f.config:4: the root)" in said
    assert "CONFIG_NR_CPUS=8 became 64 (f.config:6: few)" in said
    assert "CONFIG_EFI=n became y (f.config:8: away)" in said
    assert "GONE" not in said
    assert "KEPT" not in said


def test_fragments_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    assert kconfig.find_fragment("base") == kconfig.FRAGMENTS / "base.config"
    own = tmp_path / "own.config"
    own.touch()
    assert kconfig.find_fragment(str(own)) == own
    with pytest.raises(UserError, match="nothing: no such Kconfig fragment") as caught:
        kconfig.find_fragment("nothing")
    assert "base" in (caught.value.hint or "")


def test_an_object_tree_of_its_own_can_be_asked_for(tmp_path: Path) -> None:
    assert fragment(tmp_path, "# object-tree: kasan\n# finds it\nCONFIG_A=y\n").objects == "kasan"
    assert fragment(tmp_path, "# finds it\nCONFIG_A=y\n").objects is None


@pytest.mark.parametrize("path", sorted(kconfig.FRAGMENTS.glob("*.config")), ids=lambda p: p.name)
def test_the_projects_fragments_keep_the_rule(path: Path) -> None:
    assert path.read_text().startswith("# SPDX-License-Identifier: GPL-2.0-only\n")
    assert kconfig.load_fragment(path).settings


def test_the_default_kernel_has_three_abis_the_call_and_a_patterned_stack() -> None:
    names = kernels.variant(kernels.DEFAULT_VARIANT).fragments
    parts = [kconfig.load_fragment(kconfig.find_fragment(name)) for name in names]
    have = {setting.symbol: setting.value for setting in kconfig.merge(parts, (6, 12))}
    for symbol in ("IA32_EMULATION", "X86_X32_ABI", "XYZZY_SYSCALL", "INIT_STACK_ALL_PATTERN"):
        assert have[symbol] == "y"
