# SPDX-License-Identifier: GPL-2.0-only
"""The record of the document: nothing in it is empty, and all that it names is there."""

from __future__ import annotations

import dataclasses
import functools
import re
import subprocess
import sys

import pytest

from harness import interfaces, record
from harness.abi import ABIS, OF_ARCH
from harness.batteries import BATTERY
from harness.record import Row
from vm import kernels, ltp, patches, paths
from vm.review import table

ROOT = paths.VM.parent
MAKEFILE = (ROOT / "Makefile").read_text()
ROWS = record.load()
EVERY = pytest.mark.parametrize(
    "row", ROWS, ids=[f"{n}-{row.section}" for n, row in enumerate(ROWS)]
)
#: What is collected once, to see which tests there are.
COLLECTED = ("selftests/target", "selftests/vm", "selftests/host/test_manual.py")


@functools.cache
def added() -> dict[str, str]:
    """File → what the series for 6.12 add to it, all versions and samples."""
    found: dict[str, list[str]] = {}
    row = kernels.kernel("6.12")
    names = {name for one in kernels.load_variants().values() for name in one.series(row)}
    for name in sorted(names):
        for mail in sorted(patches.series_dir(name).glob("*.patch")):
            for part in mail.read_text().split("\ndiff --git ")[1:]:
                path = part.partition("\n")[0].rpartition(" b/")[2]
                lines = found.setdefault(path, [])
                lines += [line[1:] for line in part.splitlines() if line.startswith("+")]
    return {path: "\n".join(lines) for path, lines in found.items()}


@functools.cache
def collected() -> frozenset[str]:
    """FILE::NAME of every test, whatever it is parametrized with."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"),
            *("--variant", "at", *COLLECTED),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    ids = (line.partition("[")[0] for line in done.stdout.splitlines() if "::" in line)
    return frozenset(ids)


def problems(row: Row) -> list[str]:
    """What a row names and there is not."""
    wrong = [
        f"{word} is empty" for word in ("says", "did", "where", "checks") if not getattr(row, word)
    ]
    if row.section not in record.SECTIONS:
        wrong.append(f"{row.section}: no heading of the document")
    for one in row.where:
        path, _, text = one.partition(":")
        if path not in added():
            wrong.append(f"{path}: no patch touches it")
        elif text not in added()[path]:
            wrong.append(f"{path}: no patch adds {text!r} to it")
    wrong += [f"{one}: there is no such check" for one in row.checks if not exists(one)]
    if not any(in_make_test(one) for one in row.checks):
        wrong.append("none of its checks is one that `make test` runs")
    return wrong


def exists(check: str) -> bool:
    kind, _, name = check.partition(":")
    match kind:
        case "battery":
            contract = interfaces.family("xyzzy")[-1]
            return any(
                item.prop == name and item.unless(contract, abi) is None
                for item in BATTERY
                for abi in ABIS
            )
        case "uml":
            contract = interfaces.family("xyzzy")[0]
            return any(
                item.prop == name and item.unless(contract, abi) is None
                for item in BATTERY
                for abi in OF_ARCH[kernels.UM]
            )
        case "ltp":
            return any(path.stem == name for path in ltp.tests(("xyzzy", "xyzzyat")))
        case "test":
            return name in collected()
        case "kselftest":
            target, _, test = name.partition("/")
            text = added().get(f"tools/testing/selftests/{target}/{target}_test.c", "")
            return bool(re.search(rf"^TEST(_F)?\((\w+, )?{test}\)$", text, re.M))
        case "series":
            return name in [one.name for one in table.load().checks]
        case "mutant":
            return (ROOT / "kernel-patches" / "mutants" / f"{name}.patch").is_file()
        case _:
            return False


def in_make_test(check: str) -> bool:
    """Whether `make test` runs it: the tests, the battery, the series' quick checks."""
    kind, _, name = check.partition(":")
    if kind == "series":
        return any(one.name == name and one.quick for one in table.load().checks)
    if kind == "uml":
        (line,) = re.findall(r"^test: (?!one-kernel)(.*)$", MAKEFILE, re.M)
        return "uml-test" in line
    return kind in ("battery", "test", "kselftest")


@EVERY
def test_all_that_a_row_names_is_there(row: Row) -> None:
    assert problems(row) == []


def test_each_section_has_a_row_and_they_are_in_its_order() -> None:
    sections = list(dict.fromkeys(row.section for row in ROWS))
    assert sections == list(record.SECTIONS)


def test_the_page_is_what_the_rows_make() -> None:
    assert record.PAGE.read_text(encoding="utf-8") == record.render(ROWS), (
        "run `python -m harness record`"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"checks": ()}, "checks is empty"),
        ({"did": ""}, "did is empty"),
        ({"checks": ("test:selftests/target/test_xyzzy.py::test_nothing",)}, "no such check"),
        ({"checks": ("battery:P18",)}, "no such check"),
        ({"checks": ("kselftest:xyzzy/nothing",)}, "no such check"),
        ({"checks": ("mutant:99-none",)}, "no such check"),
        ({"checks": ("uml:P13",)}, "no such check"),
        ({"checks": ("ltp:xyzzy99",)}, "no such check"),
        ({"checks": ("ltp:xyzzy01",)}, "none of its checks"),
        ({"checks": ("series:sparse",)}, "none of its checks"),
        ({"where": ("kernel/xyzzy.c:no_such_symbol",)}, "no patch adds"),
        ({"where": ("kernel/fork.c",)}, "no patch touches"),
        ({"section": "Elsewhere"}, "no heading"),
    ],
)
def test_a_row_that_is_wrong(change: dict[str, object], said: str) -> None:
    row = dataclasses.replace(ROWS[1], **change)  # type: ignore[arg-type]
    assert any(said in line for line in problems(row)), problems(row)
