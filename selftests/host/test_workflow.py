# SPDX-License-Identifier: GPL-2.0-only
"""The GitHub workflows: by their schema, and against the project that they run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.mutants.run import PLACE
from harness.skew import labs
from vm import kernels

ROOT = Path(__file__).resolve().parent.parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEXTS = {path.stem: path.read_text() for path in WORKFLOWS}


def check(path: Path) -> subprocess.CompletedProcess[str]:
    """check-jsonschema with the schema that it carries: no network."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema"),
            *("--builtin-schema", "vendor.github-workflows", path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_schema(path: Path) -> None:
    done = check(path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_schema_would_notice(path: Path, tmp_path: Path) -> None:
    broken = tmp_path / path.name
    broken.write_text(path.read_text().replace("runs-on:", "run-on:", 1))
    assert check(broken).returncode == 1


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("vm-test", ["host-test", "kernel", "vm-test"]),
        ("skew", ["kernels", "skew", "vm-test", "skew"]),
        ("mutants", ["mutants", "mutants-harness", "mutants"]),
        ("conformance", ["kernels", "conformance", "conformance"]),
        ("series-check", ["series-check", "series", "uml-test"]),
    ],
)
def test_it_types_what_a_person_types(name: str, wanted: list[str]) -> None:
    targets = re.findall(r"run: make (\S+)", TEXTS[name])
    assert targets == wanted
    makefile = (ROOT / "Makefile").read_text()
    for target in targets:
        assert f"\n{target}: ## " in makefile


@pytest.mark.parametrize("name", TEXTS)
def test_every_file_in_the_caches_key_exists(name: str) -> None:
    (listed,) = set(re.findall(r"hashFiles\((.*)\)", TEXTS[name]))
    patterns = re.findall(r"'([^']+)'", listed)
    assert len(patterns) > 5
    for pattern in patterns:
        assert any(path.is_file() for path in ROOT.glob(pattern.replace("**", "**/*"))), pattern


@pytest.mark.parametrize("name", TEXTS)
def test_actions_are_pinned_and_jobs_end(name: str) -> None:
    text = TEXTS[name]
    uses = re.findall(r"uses: (\S+)", text)
    assert all(re.fullmatch(r"actions/[\w/-]+@v\d+", action) for action in uses)
    jobs = len(re.findall(r"^  [\w-]+:", text.partition("\njobs:\n")[2], re.MULTILINE))
    assert text.count("runs-on: ubuntu-24.04") == text.count("timeout-minutes:") == jobs >= 2
    assert "\npermissions:\n  contents: read\n" in text


def test_the_shards_are_the_whole_matrix() -> None:
    """Every kernel that there is has a machine, and the parameters of make are its own."""
    text = TEXTS["skew"]

    def values(name: str) -> set[str]:
        (listed,) = re.findall(rf"^ +{name}: \[(.*)\]$", text, re.MULTILINE)
        return set(re.findall(r'"([^"]+)"', listed))

    assert values("series") == set(kernels.load_kernels())
    assert values("version") == {age.variant for age in labs.ages([])}
    levels = set(re.findall(r"BATTERY=(\w+)$", text, re.MULTILINE))
    assert values("battery") == {"skew", *levels}
    assert "\n      KERNEL: ${{ matrix.series }}\n      VARIANT: ${{ matrix.version }}\n" in text


def test_the_parts_of_the_mutants_are_all_of_them() -> None:
    """And the page is made from the results that they publish, where the cache has them."""
    text = TEXTS["mutants"]
    (listed,) = re.findall(r"^ +part: \[(.*)\]$", text, re.MULTILINE)
    parts = re.findall(r'"(\d+)/(\d+)"', listed)
    assert parts == [(str(number), str(len(parts))) for number in range(1, len(parts) + 1)]
    assert "\n        run: make mutants SHARD=${{ matrix.part }}\n" in text
    assert f"path: ~/.cache/extsys/{PLACE}/\n" in text
    assert f"path: ~/.cache/extsys/{PLACE}\n          merge-multiple: true\n" in text
    assert "name: results-$" in text
    assert "pattern: results-*" in text


def test_every_series_is_put_to_the_test() -> None:
    """Each has a machine, and publishes what the table is made of where that is looked for."""
    text = TEXTS["conformance"]
    (listed,) = re.findall(r"^ +series: \[(.*)\]$", text, re.MULTILINE)
    assert set(re.findall(r'"([^"]+)"', listed)) == set(kernels.load_kernels())
    assert "\n      KERNEL: ${{ matrix.series }}\n      VARIANT: conformance\n" in text
    assert kernels.variant("conformance").stack == ()  # so no patch is in the cache's key
    assert "name: linux-${{ matrix.series }}\n" in text
    assert "path: build/report/conformance/linux-${{ matrix.series }}/\n" in text
    (taken,) = re.findall(r"pattern: (\S+)\n +path: (\S+)\n", text)
    assert taken == ("linux-*", "build/conformance")
    assert f"MERGE={taken[1]}\n" in text


def test_every_series_is_reviewed() -> None:
    listed = re.findall(r"^ +series: \[(.*)\]$", TEXTS["series-check"], re.MULTILINE)
    assert len(listed) == 2
    for one in listed:
        assert set(re.findall(r'"([^"]+)"', one)) == set(kernels.load_kernels())


def test_what_the_shards_publish_is_what_is_merged() -> None:
    text = TEXTS["skew"]
    (published,) = re.findall(r"name: (cells-)\$", text)
    (taken,) = re.findall(r"pattern: (\S+)", text)
    assert taken == f"{published}*"
    (where,) = re.findall(r"path: (\S+)\n\n +- name: make skew", text)
    assert f"MERGE={where} " in text
