# SPDX-License-Identifier: GPL-2.0-only
"""harness.known and the table of Linux's own interfaces."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from harness import interfaces, known
from harness.findings import Mismatch
from harness.how import NoProgram
from harness.known import Known, Sign
from harness.report import conformance
from harness.report.conformance import Run
from harness.report.results import TestResult
from vm import kernels
from vm.errors import InfraError, Verdict

BIT = Known(
    name="a-bit",
    interface="openat2",
    what="A bit is accepted.",
    abis=("m64", "m32"),
    signs=(Sign(props=("P11",), cause="EINVAL → success", first="flags = 0x4"),),
    source="fs/open.c",
    promise="openat2(2)",
    matters="It is dropped.",
    until=(6, 13),
)
ABIS = ("m64", "m32", "mx32")


def mismatch(cause: str = "EINVAL → success", first: str = "usize 24, flags = 0x4") -> Mismatch:
    return Mismatch(
        first=first,
        last=first,
        count=1,
        allowed="EINVAL",
        seen="success",
        cause=cause,
        how=NoProgram(why="it is for a test"),
    )


def test_the_table_is_whole() -> None:
    table = known.load()
    assert table
    for one in table.values():
        # The sample keeps what it promises, on what it was made for.
        assert one.interface in interfaces.own() or one.arch != kernels.X86, one.name
        assert set(one.abis) <= set(ABIS)
        assert one.abis
        assert one.signs
        assert one.what.endswith(".")
        assert one.matters.endswith(".")
        assert one.source
        assert one.promise


@pytest.mark.parametrize(
    ("found", "prop", "who", "mine"),
    [
        (mismatch(), "P11", "m64", True),
        (mismatch(), "P11", "mx32", False),
        (mismatch(), "P10", "m64", False),
        (mismatch(cause="EINVAL → success, too"), "P11", "m64", False),
        (mismatch(first="usize 24, flags = 0x8"), "P11", "m64", False),
    ],
)
def test_what_a_finding_explains(found: Mismatch, prop: str, who: str, mine: bool) -> None:
    names, new = known.explain([found], [BIT], prop=prop, abi=who)
    assert (names, new) == (["a-bit"], []) if mine else ([], [found])


def test_beside_a_known_finding_a_new_one_is_new() -> None:
    other = mismatch(cause="E2BIG → EINVAL")
    assert known.explain([mismatch(), other], [BIT], prop="P11", abi="m64") == (["a-bit"], [other])


def test_a_finding_has_its_kernels() -> None:
    assert BIT.holds((6, 12))
    assert BIT.holds((6, 13))
    assert not BIT.holds((6, 14))
    assert BIT.span == "until 6.13"


@pytest.mark.parametrize(
    "text",
    [
        "[[finding]]\nname = 'x'\n",
        "[[finding]]\nname = 'x'\n[[finding.sign]]\nprops = ['P99']\ncause = 'x'\n",
        "[[finding]]\nname = 'x'\n[[finding.sign]]\nprops = ['P1']\ncause = '('\n",
        "finding",
    ],
)
def test_a_damaged_table_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "findings.toml"
    path.write_text(text)
    with pytest.raises(InfraError, match="not a table of findings"):
        known.load(path)


def result(prop: str, abi: str, interface: str = "openat2", **more: object) -> TestResult:
    facts = {"verdict": Verdict.PASS, "calls": 7, **more}
    return TestResult(name=f"{prop}-{abi}", prop=prop, abi=abi, interface=interface, **facts)  # type: ignore[arg-type]


def run(release: str, *results: TestResult) -> Run:
    return Run(
        kernel=release,
        directory=Path(f"linux-{release}"),
        release=release,
        facts={"kernel": f"Linux {release}"},
        gone=(),
        results=results,
    )


NEW = run(
    "6.12.1",
    result("P1", "m64"),
    result(
        "P1", "m32", verdict=Verdict.FAIL, text="two lines\nreproducer: /a/b/reproducers/repro-1.c"
    ),
    result("P11", "m64", known=("openat2-nonotify",), text="m64: openat2() <breaks>"),
    result("P1", "m64", interface="clone3"),
)
OLD = run(
    "6.1.1",
    result("P1", "m64"),
    result("P1", "m32"),
    result("P11", "m64", skip="no reason"),
    result("P1", "m64", interface="clone3", skip="clone3 came with Linux 9.9"),
    result("P18", "m64", interface="clone3"),
    result("P18", "m32", interface="clone3", verdict=Verdict.FAIL, text="ENOSYS, it was to be"),
)


def test_a_cell_has_a_mark_for_each_abi() -> None:
    cells = {prop: conformance.cell(NEW, "openat2", prop, ABIS) for prop in ("P1", "P11")}
    assert cells == {"P1": "+X.", "P11": "F.."}
    assert conformance.cell(OLD, "openat2", "P11", ABIS) == "o.."


def test_kernels_are_compared() -> None:
    assert ("openat2", "P1", ["+X.", "++."]) in conformance.differences([NEW, OLD], ABIS)
    assert not conformance.differences([NEW, NEW], ABIS)


def test_both_pages_have_all_of_it() -> None:
    page = conformance.markdown([NEW, OLD], ABIS)
    web = conformance.html([NEW, OLD], ABIS)
    for text in (page, web):
        assert "6.12.1" in text
        assert "6.1.1" in text
        assert "clone3 came with Linux 9.9; P18 not there: +X" in text
        assert "openat2-nonotify" in text
        assert "reproducers/repro-1.c" in text
        assert "/a/b/" not in text
    assert 'href="#1-openat2-P1-m32"' in web
    assert 'id="1-openat2-P1-m32"' in web
    assert 'href="linux-6.12.1/reproducers/repro-1.c"' in web
    assert "&lt;breaks&gt;" in web


def test_a_mark_leads_to_what_stands_behind_it() -> None:
    page = conformance.markdown([NEW, OLD], ABIS)
    assert "[`+`](index.html#1-openat2-P1-m64)[`X`](index.html#1-openat2-P1-m32)`.`" in page
    alone = conformance.markdown([NEW, OLD], ABIS, evidence_at="")
    assert "index.html" not in alone
    (heading,) = (line for line in alone.splitlines() if line.startswith("### openat2-nonotify"))
    slug = re.sub(r"[^\w -]", "", heading[4:].lower()).replace(" ", "-")
    assert f"[`F`](#{slug})" in alone
    # Two spans of code that touch would be one, with two backticks in it.
    cells = [line for line in (page + alone).splitlines() if line.startswith("| openat2 ")]
    assert cells
    assert not [line for line in cells if "``" in line]


def test_a_tests_files_are_seen_from_the_report() -> None:
    """Those of a worker of pytest-xdist lie in a directory of its own."""
    said = "a\nreproducer: /x/report/gw1/reproducers/repro-1.c\nreproducer: /x/reproducers/2.c"
    found = conformance.evidence(result("P1", "m64", text=said))
    assert found == "a\nreproducer: gw1/reproducers/repro-1.c\nreproducer: reproducers/2.c"


def test_a_tests_beginning_is_found_on_the_console(tmp_path: Path) -> None:
    one = result("P11", "m64")
    console = tmp_path / "guest-1/console.log"
    console.parent.mkdir()
    console.write_text(f"[ 1.0] boot\n[ 2.0] extsys-mark: begin {one.name}\n")
    ran = dataclasses.replace(run("6.12.1", one), directory=tmp_path)
    assert ran.begins == {one.name: ("guest-1/console.log", 2)}
    assert ran.guests == ("guest-1",)
    web = conformance.html([ran], ABIS)
    assert f'href="{tmp_path.name}/guest-1/console.log">console</a>, line 2' in web


def test_what_a_test_calls_is_said_in_words() -> None:
    name = "t.py::test_contract[openat2-P11-every-bit-of-every-field-m64]"
    one = dataclasses.replace(result("P11", "m64"), name=name)
    assert conformance.about(one).startswith("Each bit of each field that the contract judges")
    assert conformance.about(result("P11", "m64")) == ""


def test_both_pages_are_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    written = conformance.write([NEW], ABIS, tmp_path / "report", page=page)
    assert [one.name for one in written] == ["index.html", "interfaces.md", "page.md"]
    assert page.read_text().startswith(f"{conformance.LICENCE}\n# What")
    assert all(one.stat().st_size for one in written)


def test_results_travel(tmp_path: Path) -> None:
    import json

    raw = {"facts": {}, "release": "6.1", "gone": [], "results": [r.as_json() for r in NEW.results]}
    (tmp_path / "results.json").write_text(json.dumps(raw))
    assert conformance.load("6.1", tmp_path).results == NEW.results
    with pytest.raises(InfraError, match="no results of a run"):
        conformance.load("6.1", tmp_path / "none")
