# SPDX-License-Identifier: GPL-2.0-only
"""harness.report.results and .show: a run's results, and how they are shown."""

from __future__ import annotations

import pytest

from harness.report import show
from harness.report.results import PROPERTIES, Cell, Count, TestResult, counts, table
from vm.errors import Verdict


def result(
    prop: str | None = "P1",
    abi: str | None = "m64",
    verdict: Verdict = Verdict.PASS,
    *,
    skip: str | None = None,
    calls: int = 0,
) -> TestResult:
    return TestResult(name="a::b", verdict=verdict, skip=skip, prop=prop, abi=abi, calls=calls)


def test_a_cell_adds_up() -> None:
    cells = table(
        [
            result(calls=10),
            result(calls=5),
            result(verdict=Verdict.FAIL, calls=1),
            result(skip="no KVM"),
            result(abi="m32", calls=7),
        ]
    )
    assert cells == {
        "P1": {
            "m64": Cell(passed=2, failed=1, skipped=1, calls=16, worst=Verdict.FAIL),
            "m32": Cell(passed=1, calls=7),
        }
    }


def test_the_worst_verdict_is_shown() -> None:
    cells = table(
        [result(verdict=verdict) for verdict in (Verdict.FAIL, Verdict.PANIC, Verdict.HANG)]
    )
    assert cells["P1"]["m64"].worst is Verdict.PANIC
    assert str(cells["P1"]["m64"]) == "PANIC 3 of 3"


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Cell(), ""),
        (Cell(passed=1), "ok"),
        (Cell(passed=2, calls=12345), "12,345 calls"),
        (Cell(skipped=2), "skipped"),
        (Cell(passed=1, skipped=1), "ok"),
        (Cell(passed=3, failed=1, worst=Verdict.FAIL), "FAIL 1 of 4"),
        (Cell(failed=1, skipped=1, worst=Verdict.NO_KVM), "NO-KVM 1 of 1"),
    ],
)
def test_a_cell_in_words(cell: Cell, text: str) -> None:
    assert str(cell) == text


def test_rows_stand_in_the_order_of_the_properties() -> None:
    names = list(PROPERTIES)
    assert list(table([result(prop=name) for name in reversed(names)])) == names


def test_what_has_no_property_or_no_abi_is_in_no_cell() -> None:
    assert table([result(prop=None), result(abi=None)]) == {}
    # but it is counted where it has an ABI
    assert counts([result(prop=None), result(abi=None)]) == {"m64": Count(passed=1)}


def test_counts_by_abi() -> None:
    found = counts(
        [
            result(),
            result(verdict=Verdict.LOST),
            result(skip="why"),
            result(abi="mx32", skip="why"),
        ]
    )
    assert found == {
        "m64": Count(passed=1, failed=1, skipped=1),
        "mx32": Count(skipped=1),
    }
    assert show.count_line(found) == (
        "m64: 1 passed, 1 failed, 1 skipped; mx32: 0 passed, 0 failed, 1 skipped"
    )


RESULTS = [
    result(calls=4105),
    result(abi="m32", verdict=Verdict.OOPS),
    result(prop="P3", abi="m32", skip="not built [for m32]"),
    result(prop=None, abi=None, verdict=Verdict.FAIL),
]


def test_the_terminal_s_table() -> None:
    text = show.terminal(RESULTS, title="a title", width=80, color=False)
    assert "\x1b" not in text
    lines = [[part.strip() for part in line.split("\u2502")[1:-1]] for line in text.splitlines()]
    assert [cells for cells in lines if cells] == [
        ["P1 size lattice", "4,105 calls", "OOPS 1 of 1"],
        ["P3 trailing bytes", "", "skipped"],
    ]
    head = next(line for line in text.splitlines() if "property" in line)
    assert head.index("property") < head.index("m64") < head.index("m32")
    assert text.startswith("a title")


def test_colour_only_where_it_is_asked_for() -> None:
    text = show.terminal(RESULTS, title="a title", width=80, color=True)
    assert "\x1b[31m" in text, "a failure is red"
    assert "\x1b[32m" in text, "a pass is green"


def test_a_narrow_terminal_loses_no_verdict() -> None:
    assert "OOPS" in show.terminal(RESULTS, title="t", width=40, color=False)


def test_the_markdown_summary() -> None:
    text = show.markdown(RESULTS, title="A run", facts={"kernel": "Linux 6.12", "guests": "1"})
    assert text == (
        "# A run\n"
        "\n"
        "- kernel: Linux 6.12\n"
        "- guests: 1\n"
        "\n"
        "| ABI | passed | failed | skipped |\n"
        "| --- | --- | --- | --- |\n"
        "| m64 | 1 | 0 | 0 |\n"
        "| m32 | 0 | 1 | 1 |\n"
        "\n"
        "| property | m64 | m32 |\n"
        "| --- | --- | --- |\n"
        "| P1 size lattice | 4,105 calls | OOPS 1 of 1 |\n"
        "| P3 trailing bytes |  | skipped |\n"
        "\n"
        "## Failed\n"
        "\n"
        "- OOPS `a::b`\n"
        "- FAIL `a::b`\n"
        "\n"
        "## Skipped\n"
        "\n"
        "- `a::b`: not built [for m32]\n"
    )


def test_a_run_of_nothing() -> None:
    text = show.markdown([], title="A run", facts={})
    assert "Failed" not in text
    assert "| property |" not in text
