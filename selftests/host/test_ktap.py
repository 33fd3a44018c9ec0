# SPDX-License-Identifier: GPL-2.0-only
"""harness.report.ktap: what selftests really print, and what is wrong with it when it is.

data/ktap/ has outputs of real programs: xyzzy's own selftest in a guest
(harness-passes) and on a kernel without the call (harness-skips, run-of-three),
programs written to fail with kselftest_harness.h (harness-fails) and with
kselftest.h (kselftest-fails, kselftest-bails).  truncated is harness-skips cut
off; nested is after Documentation/dev-tools/ktap.rst; noise has other
programs' words among it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report import ktap
from harness.report.ktap import Case, Parsed

DATA = Path(__file__).resolve().parent / "data" / "ktap"


def golden(name: str) -> Parsed:
    return ktap.parse((DATA / f"{name}.txt").read_text())


def names(cases: tuple[Case, ...]) -> list[str]:
    return [case.name for case in cases]


def test_every_golden_output_is_used() -> None:
    used = Path(__file__).read_text()
    for path in DATA.iterdir():
        assert f'golden("{path.stem}")' in used, path.name


def test_all_pass() -> None:
    parsed = golden("harness-passes")
    assert parsed.planned == len(parsed.cases) == 31
    assert (parsed.failed, parsed.skipped, parsed.problems) == ((), (), ())
    assert names(parsed.cases)[:2] == ["global.layout", "xyzzy.record_then_eof"]
    assert parsed.cases[1].number == 2
    assert parsed.cases[1].lines == (
        "#  RUN           xyzzy.record_then_eof ...",
        "#            OK  xyzzy.record_then_eof",
    )


def test_skips_carry_their_reason() -> None:
    parsed = golden("harness-skips")
    assert (len(parsed.cases), len(parsed.skipped)) == (31, 30)
    assert (parsed.failed, parsed.problems) == ((), ())
    assert parsed.cases[0].skip is None
    assert parsed.cases[1].name == "xyzzy.record_then_eof"
    assert parsed.cases[1].skip == "no xyzzy() as system call 463: Invalid argument"


def test_failures_of_the_harness() -> None:
    parsed = golden("harness-fails")
    assert (parsed.planned, len(parsed.cases), parsed.problems) == (13, 13, ())
    assert names(parsed.failed) == [
        *("global.fails", "global.dies_as_asked", "global.crashes", "pair.two.same"),
        *("pair.two.expected", "pair.three.same", "slow.hangs"),
    ]
    # An expected failure is "ok"; its directive is no skip.
    assert parsed.cases[11] == Case(
        number=12, name="pair.three.expected", ok=True, lines=parsed.cases[11].lines
    )
    assert [(case.name, case.skip) for case in parsed.skipped] == [
        ("global.skips", "not # here"),
        ("global.skips_silently", "unknown"),
    ]
    assert parsed.cases[1].lines[1:3] == (
        "# harness.c:10:fails:Expected 1 (1) == 2 (2)",
        "# harness.c:10:fails:size 24",
    )
    assert "# crashes: Test terminated unexpectedly by signal 11" in parsed.cases[5].lines


def test_failures_of_kselftest_h() -> None:
    """Names and directives as ksft_test_result_*() writes them: some have no name."""
    parsed = golden("kselftest-fails")
    assert (parsed.planned, parsed.problems) == (6, ())
    assert [(case.name, case.ok, case.skip) for case in parsed.cases] == [
        ("opens", True, None),
        ("reads: got -22", False, None),
        ("", True, "no driver"),
        ("", True, None),
        ("", False, None),
        ("closes", True, None),
    ]
    assert parsed.cases[0].lines == ("# a message",)


def test_a_bail_out_is_a_problem_and_so_is_what_it_left_out() -> None:
    parsed = golden("kselftest-bails")
    assert parsed.problems == ("bailed out: no memory", "9 tests planned, 6 reported")
    assert len(parsed.failed) == 2


def test_a_run_of_three_programs() -> None:
    parsed = golden("run-of-three")
    assert parsed.problems == ()
    assert [(case.name, case.ok, case.skip) for case in parsed.cases] == [
        ("xyzzy_test_64", True, None),
        ("xyzzy_test_32", True, None),
        ("xyzzy_test_x32", True, "the kernel does not run this ABI"),
    ]
    inner = ktap.parse("\n".join(line.removeprefix("# ") for line in parsed.cases[0].lines))
    assert len(inner.cases) == 31


def test_an_output_that_was_cut_off() -> None:
    parsed = golden("truncated")
    assert parsed.problems == ("31 tests planned, 3 reported",)


def test_subtests_belong_to_the_test_that_follows_them() -> None:
    parsed = golden("nested")
    assert parsed.problems == ()
    assert [(case.name, case.ok) for case in parsed.cases] == [("example", False), ("fine", True)]
    assert "    not ok 2 broken_test" in parsed.cases[0].lines
    assert parsed.cases[1].lines == ("    KTAP version 1", "    1..1", "    ok 1 only_test")


def test_noise_is_kept_and_does_no_harm() -> None:
    parsed = golden("noise")
    assert parsed.problems == ()
    assert [(case.name, case.ok) for case in parsed.cases] == [
        ("first_thing", True),
        ('second: a thing, "quoted" <and> more', False),
    ]
    assert parsed.cases[0].lines == (
        "mount: /sys/kernel/debug: already mounted",
        "[    1.234567] random: crng init done",
    )
    assert parsed.cases[1].lines == ("Segmentation fault",)


# What is wrong, one at a time.

GOOD = "TAP version 13\n1..2\nok 1 a\nok 2 b\n"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", ("no version line", "no plan")),
        ("Killed\n", ("no version line", "no plan")),
        ("1..1\nok 1 a\n", ("no version line",)),
        ("KTAP version 1\nok 1 a\n", ("no plan",)),
        ("KTAP version 2\n1..0\n", ("no version line",)),
        (GOOD, ()),
        (GOOD.replace("TAP version 13", "KTAP version 1"), ()),
        (GOOD.replace("\n", "\r\n"), ()),
        (GOOD.removesuffix("\n"), ()),
        (GOOD.replace("ok 2 b\n", ""), ("2 tests planned, 1 reported",)),
        (GOOD + "ok 3 c\n", ("2 tests planned, 3 reported",)),
        (GOOD.replace("ok 2", "ok 1"), ("the numbers do not run from 1",)),
        (GOOD.replace("ok 2", "ok 3"), ("the numbers do not run from 1",)),
        (GOOD.replace("ok 1", "ok 0"), ("the numbers do not run from 1",)),
        (GOOD.replace("ok 2 b", "ok b"), ("2 tests planned, 1 reported",)),
        (GOOD + "1..2\n", ("a second plan",)),
        (GOOD + "TAP version 13\n", ("a second version line",)),
        (GOOD + "Bail out!\n", ("bailed out: no reason given",)),
        (GOOD + GOOD, None),
    ],
)
def test_problems(text: str, problems: tuple[str, ...] | None) -> None:
    parsed = ktap.parse(text)
    if problems is None:  # a program that ran twice: more than one thing is wrong
        assert len(parsed.problems) >= 3
    else:
        assert parsed.problems == problems


def test_a_plan_of_nothing_with_its_reason() -> None:
    parsed = ktap.parse("TAP version 13\n1..0 # SKIP no such device\n")
    assert (parsed.planned, parsed.cases, parsed.problems) == (0, (), ())


@given(st.text())
def test_no_text_is_too_strange(text: str) -> None:
    parsed = ktap.parse(text)
    assert len(parsed.cases) + len(parsed.problems) >= 0
    if not parsed.cases:
        assert parsed.problems or parsed.planned == 0


# Writing.


def test_what_is_written() -> None:
    text = ktap.write(
        [
            Case(number=1, name="a", ok=True),
            Case(number=2, name="b[m32]", ok=False, lines=("why", "", "it failed")),
            Case(number=3, name="c", ok=True, skip="no KVM here"),
        ]
    )
    assert text == (
        "KTAP version 1\n1..3\nok 1 a\n# why\n#\n# it failed\nnot ok 2 b[m32]\n"
        "ok 3 c # SKIP no KVM here\n"
    )


WORDS = st.lists(
    st.text(
        st.characters(codec="ascii", categories=["L", "N", "P"], exclude_characters="#-"),
        min_size=1,
    ),
    min_size=1,
).map(" ".join)


@given(
    st.lists(
        st.builds(
            Case,
            number=st.just(0),
            name=WORDS,
            ok=st.booleans(),
            skip=st.none() | WORDS,
            lines=st.lists(WORDS).map(tuple),
        )
    )
)
def test_round_trip(cases: list[Case]) -> None:
    from dataclasses import replace

    cases = [replace(case, number=number) for number, case in enumerate(cases, start=1)]
    parsed = ktap.parse(ktap.write(cases))
    assert parsed.problems == ()
    assert parsed.planned == len(cases)
    shown = [replace(case, lines=tuple(f"# {line}" for line in case.lines)) for case in cases]
    assert list(parsed.cases) == shown


@given(
    st.lists(
        st.tuples(st.text(), st.booleans(), st.none() | st.text(), st.lists(st.text())), max_size=5
    )
)
def test_nothing_that_is_written_can_be_read_as_something_else(
    said: list[tuple[str, bool, str | None, list[str]]],
) -> None:
    """A line break, a `#` or a result line in a name, a reason or a diagnostic."""
    cases = [
        Case(number=number, name=name, ok=ok, skip=skip, lines=tuple(lines))
        for number, (name, ok, skip, lines) in enumerate(said, start=1)
    ]
    parsed = ktap.parse(ktap.write(cases))
    assert parsed.problems == ()
    assert [(case.ok, case.skip is None) for case in parsed.cases] == [
        (case.ok, case.skip is None) for case in cases
    ]


@pytest.mark.parametrize(
    "case",
    [
        Case(number=1, name="a\nnot ok 2 b", ok=True),
        Case(number=1, name="a # SKIP not really", ok=False),
        Case(number=1, name="a", ok=True, skip="two\nlines"),
        Case(number=1, name="a", ok=True, lines=("one\x0cok 7 two",)),
        Case(number=1, name="a", ok=True, lines=("one\u2028Bail out! now",)),
    ],
)
def test_a_hostile_case_stays_one_case(case: Case) -> None:
    parsed = ktap.parse(ktap.write([case]))
    assert parsed.problems == ()
    assert [(one.ok, one.skip is None) for one in parsed.cases] == [(case.ok, case.skip is None)]
