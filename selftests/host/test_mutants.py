# SPDX-License-Identifier: GPL-2.0-only
"""harness.mutants: what a patch says of itself, and what a run's results say of it."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import cli
from harness.abi import ABIS as EVERY_ABI
from harness.lab import Setup
from harness.mutants import (
    again,
    bench,
    command,
    edits,
    judge,
    matrix,
    run,
    state,
    suites,
    trailers,
)
from harness.mutants.judge import State
from harness.mutants.trailers import Mutant
from harness.report import results as records
from harness.report.results import TestResult
from vm import build, paths
from vm.errors import HarnessError, UserError, Verdict

ABIS = ("m64", "m32", "mx32")
MAIL = """\
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
Subject: [PATCH mutant] xyzzy: Look at less

Why it looks right: it does.

Mutant: 06-less
Fault: the last byte
 is not looked at
{more}Property: P3
Also: {also}
Shows-in: {shows}
Modelled-on: none known
Signed-off-by: A <a@b.example>
---
 kernel/xyzzy.c | 2 +-

--- a/kernel/xyzzy.c
+++ b/kernel/xyzzy.c
@@ -1 +1 @@
-a
+b
"""


def write(
    directory: Path, *, more: str = "", also: str = "none", shows: str = "m64 m32 mx32"
) -> Path:
    path = directory / "06-less.patch"
    path.write_text(MAIL.format(more=more, also=also, shows=shows))
    return path


def mutant(directory: Path, *, also: str = "none", shows: str = "m64 m32 mx32") -> Mutant:
    return trailers.load(write(directory, also=also, shows=shows))


def result(
    prop: str, abi: str, verdict: Verdict = Verdict.PASS, *, skip: str | None = None
) -> TestResult:
    name = f"a.py::test_contract[{prop}-some-{abi}]"
    return TestResult(name=name, verdict=verdict, prop=prop, abi=abi, skip=skip)


def results(**red: str) -> list[TestResult]:
    """P1 to P4 in each ABI, red where asked for: P3="m64 m32"."""
    return [
        result(prop, abi, Verdict.FAIL if abi in red.get(prop, "").split() else Verdict.PASS)
        for prop in ("P1", "P2", "P3", "P4", "explore")
        for abi in ABIS
    ]


# Trailers.


def test_the_trailers(tmp_path: Path) -> None:
    one = mutant(tmp_path, also="P4 P12@m64,mx32", shows="mx32 m32")
    assert (one.name, one.kind, one.prop) == ("06-less", "06", "P3")
    assert one.fault == "the last byte is not looked at"
    assert (one.base, one.suite, one.verdict) == ("ver0", "target", Verdict.FAIL)
    assert one.shows_in == ("m32", "mx32")
    assert one.also == {"P4": ("m32", "mx32"), "P12": ("m64", "mx32")}


def test_the_trailers_that_may_be_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, more="On: ver1\nSuite: off\n")
    text = path.read_text().replace("Property: P3\n", "Property: P3\nVerdict: BUILD\n")
    path.write_text(text)
    one = trailers.load(path)
    assert (one.base, one.suite, one.verdict) == ("ver1", "off", Verdict.BUILD)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Mutant: 06-less", "Mutant: 07-more", ":6: Mutant: 07-more, in a file named 06-less"),
        ("Property: P3", "Property: P99", ":9: Property: P99: no such property"),
        ("Property: P3\n", "", ": no trailer Property:"),
        ("Property: P3", "Property:", ":9: Property: is empty"),
        ("Also: none", "Also: P4 P4", ":10: Also: P4: stands there twice"),
        ("Also: none", "Also: P4@m16", ":10: Also: m16: not one of m64, m32, mx32"),
        ("Shows-in: m64", "Shows-in: i386", ":11: Shows-in: i386: not one of m64"),
        ("Fault:", "Shows: x\nFault:", ":7: Shows: no such trailer"),
        ("Fault:", "the\nFault:", ":7: not a trailer: the"),
        ("Also: none\n", "Also: none\nAlso: P4\n", ":11: Also: stands there twice"),
        ("Mutant: 06-less\nFault: the last byte\n is not looked at", "Fault: x\nMutant: 06-less",
         ": the trailers are not in the order Mutant, Fault"),
        ("---\n kernel", "kernel", ": no line `---`"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_trailer_is_told_by_name(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        trailers.load(path)
    assert str(caught.value).startswith(f"{path}{said}")


def test_every_mutant_here_is_well_formed() -> None:
    found = trailers.load_all()
    assert len(found) >= 6
    for one in found:
        assert suites.suite_of(one).tests
        assert suites.base_of(one).name == one.base
        series = build.stacked("6.12", suites.base_of(one).variant)
        assert len(series.patches) >= 3


def test_choosing() -> None:
    found = trailers.load_all()
    assert trailers.choose(found, []) == found
    assert [one.kind for one in trailers.choose(found, ["22,23"])] == ["22", "23"]
    name = found[0].name
    assert [one.name for one in trailers.choose(found, [name])] == [name]
    with pytest.raises(UserError, match="MUTANT=99: no such mutant"):
        trailers.choose(found, ["99"])


def test_bases_and_suites_are_named(tmp_path: Path) -> None:
    one = mutant(tmp_path)
    with pytest.raises(UserError, match="On: ver9: no such base"):
        suites.base_of(dataclasses.replace(one, base="ver9"))
    with pytest.raises(UserError, match="Suite: host: no such suite"):
        suites.suite_of(dataclasses.replace(one, suite="host"))
    (tmp_path / "base-other").mkdir()
    (tmp_path / "base-other" / "series").write_text("06-less.patch\n")
    (tmp_path / "base-other" / "06-less.patch").write_text(one.path.read_text())
    (tmp_path / "base-other" / "contract.py").write_text("CONTRACT = 1\n")
    other = dataclasses.replace(one, base="base-other")
    assert suites.base_of(other).patches == (tmp_path / "base-other" / "06-less.patch",)
    assert suites.suite_of(other).tests == (suites.BATTERY,)
    assert suites.suite_of(one).tests != (suites.BATTERY,)


# Judging.


def test_killed_by_the_named_property(tmp_path: Path) -> None:
    judged = judge.judge(mutant(tmp_path), results(P3="m64 m32 mx32"))
    assert judged.state is State.KILLED
    assert judged.verdict is Verdict.PASS
    assert judged.tests == ("a.py::test_contract[P3-some]",)


def test_what_tries_everything_may_go_red(tmp_path: Path) -> None:
    one = mutant(tmp_path, shows="m32")
    assert judge.judge(one, results(P3="m32", explore="m32")).state is State.KILLED
    judged = judge.judge(one, results(P3="m32", explore="m32 m64"))
    assert judged.why == ("should be green: explore (m64)",)


def test_a_survivor(tmp_path: Path) -> None:
    judged = judge.judge(mutant(tmp_path), results())
    assert judged.state is State.SURVIVED
    assert judged.why[0] == "P3 stayed green in m64"
    assert len(judged.why) == 3
    assert judged.verdict is Verdict.FAIL


def test_one_abi_is_not_enough(tmp_path: Path) -> None:
    judged = judge.judge(mutant(tmp_path), results(P3="m64 m32"))
    assert judged.state is State.SURVIVED
    assert judged.why == ("P3 stayed green in mx32", "by accident: P3 (m32 m64)")


def test_an_abi_in_which_it_must_not_show(tmp_path: Path) -> None:
    judged = judge.judge(mutant(tmp_path, shows="m32"), results(P3="m64 m32"))
    assert judged.state is State.ACCIDENT
    assert judged.why == ("should be green: P3 (m64)",)


def test_another_property_alone_is_a_survivor(tmp_path: Path) -> None:
    judged = judge.judge(mutant(tmp_path, also="P4"), results(P4="m64 m32 mx32"))
    assert judged.state is State.SURVIVED
    assert judged.why[-1] == "by accident: P4 (m32 m64 mx32)"


def test_another_property_beside_it(tmp_path: Path) -> None:
    red = results(P3="m64 m32 mx32", P4="m64")
    assert judge.judge(mutant(tmp_path), red).state is State.ACCIDENT
    assert judge.judge(mutant(tmp_path, also="P4"), red).state is State.KILLED
    assert judge.judge(mutant(tmp_path, also="P4@m32"), red).state is State.ACCIDENT


def test_an_also_that_stays_green_is_noted(tmp_path: Path) -> None:
    judged = judge.judge(mutant(tmp_path, also="P4"), results(P3="m64 m32 mx32"))
    assert judged.state is State.KILLED
    assert judged.stale == ("P4",)


def test_a_skipped_property_kills_nothing(tmp_path: Path) -> None:
    rows = [one for one in results() if one.prop != "P3"]
    rows += [result("P3", abi, skip="no userfaultfd") for abi in ABIS]
    judged = judge.judge(mutant(tmp_path), rows)
    assert judged.state is State.SURVIVED
    assert judged.why[0] == "P3 was not tried in m64"


def test_a_crash_is_not_a_kill(tmp_path: Path) -> None:
    rows = [result("P3", abi, Verdict.PANIC) for abi in ABIS]
    judged = judge.judge(mutant(tmp_path), rows)
    assert judged.state is State.SURVIVED
    assert judged.why[0] == "P3 is PANIC in m64, and not FAIL"


def test_unless_it_is_named(tmp_path: Path) -> None:
    one = dataclasses.replace(mutant(tmp_path), verdict=Verdict.OOPS)
    rows = [result("P3", abi, Verdict.OOPS) for abi in ABIS]
    assert judge.judge(one, rows).state is State.KILLED
    assert judge.judge(one, results(P3="m64 m32 mx32")).state is State.SURVIVED


@pytest.mark.parametrize("verdict", [Verdict.HANG, Verdict.LOST, Verdict.INFRA])
def test_a_machine_that_went_away_proves_nothing(tmp_path: Path, verdict: Verdict) -> None:
    rows = [*results(P3="m64 m32 mx32"), result("P4", "m64", verdict)]
    judged = judge.judge(mutant(tmp_path), rows)
    assert judged.state is State.SPOILT
    assert judged.verdict is verdict
    assert run.spoilt(rows, expected=Verdict.FAIL)
    assert not run.spoilt(results(P3="m64"), expected=Verdict.FAIL)


def test_a_program_that_does_not_build_is_the_machines_unless_it_is_named() -> None:
    rows = [result("P3", "m64", Verdict.BUILD)]
    assert run.spoilt(rows, expected=Verdict.FAIL)
    assert not run.spoilt(rows, expected=Verdict.BUILD)


def test_a_kernel_that_does_not_build_is_no_kill(tmp_path: Path) -> None:
    rows = [TestResult(name="build", verdict=Verdict.BUILD)]
    judged = judge.judge(mutant(tmp_path), rows)
    assert judged.state is State.SURVIVED
    assert judged.why[-1] == "by accident: no property (BUILD in no ABI)"


def test_without_a_property_its_mutants_survive(tmp_path: Path) -> None:
    rows = results(P3="m64 m32 mx32", P4="m64 m32 mx32")
    one = mutant(tmp_path, also="P4")
    assert judge.judge(one, rows).state is State.KILLED
    judged = judge.judge(one, rows, without=("P3",))
    assert judged.state is State.SURVIVED
    assert judged.why[0] == "P3 is left out in m64"
    assert judge.judge(one, rows, without=("P4",)).state is State.KILLED
    assert judge.survivors_without([(one, rows)]) == {"P3": ("06-less",)}


def test_tests_and_their_mutants(tmp_path: Path) -> None:
    judged = [judge.judge(mutant(tmp_path), results(P3="m64 m32 mx32"))]
    found = judge.tests_of(judged, results())
    assert found["a.py::test_contract[P3-some]"] == ("06-less",)
    assert found["a.py::test_contract[P1-some]"] == ()


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("a.py::test_contract[P3-bits-m64]", "a.py::test_contract[P3-bits]"),
        ("a.py::test_poll[mx32]", "a.py::test_poll"),
        ("a.py::test_errnos[m32-xyzzyat]", "a.py::test_errnos[xyzzyat]"),
        ("a.py::test_m64", "a.py::test_m64"),
    ],
)
def test_a_tests_name_without_its_abi(name: str, bare: str) -> None:
    assert judge.test_name(name) == bare


def test_every_round_counts(tmp_path: Path) -> None:
    def played(number: int, abi: str, verdict: Verdict) -> TestResult:
        name = f"a.py::test_contract[P3-some-round{number}-{abi}]"
        return TestResult(name=name, verdict=verdict, prop="P3", abi=abi)

    one = mutant(tmp_path)
    rows = [played(number, abi, Verdict.FAIL) for number in range(3) for abi in ABIS]
    assert again.rounds(one, rows) == [True] * 3
    rows[4] = played(1, "m32", Verdict.PASS)
    assert again.rounds(one, rows) == [True, False, True]
    assert again.rounds(one, results(P3="m64 m32 mx32")) == []


# What is shown.


def page(tmp_path: Path, *, also: str = "none", without: tuple[str, ...] = ()) -> matrix.Page:
    one = mutant(tmp_path, also=also, shows="m64 m32")
    rows = results(P3="m64 m32 mx32", P4="m64")
    judged = [judge.judge(one, rows, without=without)]
    return matrix.Page(
        judged=judged,
        tests=judge.tests_of(judged, results()),
        relied_on={"P3": (one.name,)},
        without=without,
        seconds=1.0,
        whole=True,
    )


def test_the_signs(tmp_path: Path) -> None:
    (one,) = page(tmp_path, also="P4").judged
    assert matrix.signs(one, "P3") == "KK!"
    assert matrix.signs(one, "P4") == "+··"
    assert matrix.signs(one, "P1") == "···"
    assert matrix.signs(one, "P22") == "   "
    (one,) = page(tmp_path, without=("P3",)).judged
    assert matrix.signs(one, "P3") == "?? "


def test_every_form_says_how_many_and_what_is_wrong(tmp_path: Path) -> None:
    shown = page(tmp_path)
    assert (shown.passed, shown.failed) == (0, 1)
    wrong = "ACCIDENT: 06-less: should be green: P3 (mx32), P4 (m64)"
    assert wrong in matrix.notes(shown)
    vacuous = "no mutant turns it red: a.py::test_contract[P1-some]"
    assert vacuous in matrix.notes(shown)
    for text in (matrix.markdown(shown), matrix.html(shown)):
        assert "0 passed, 1 failed" in text
        assert wrong in text
        assert "a.py::test_contract[P1-some]" in text
    assert "KK!" in matrix.terminal(shown, width=80, color=False)


def test_what_survives_without_a_property_is_told(tmp_path: Path) -> None:
    noticed = matrix.notes(page(tmp_path, without=("P3",)))
    assert "without P3 survive: 06-less" in noticed
    assert not any("nothing else turns red" in text for text in noticed)
    unseen = matrix.notes(page(tmp_path, without=("P3", "P4")))
    assert "  of these nothing else turns red: 06-less" in unseen
    assert "without P4 survive: none; no mutant here names it" in unseen


def test_a_property_that_no_mutant_needs_is_told(tmp_path: Path) -> None:
    told = [text for text in matrix.notes(page(tmp_path)) if "relies on it" in text]
    assert "no mutant relies on it: P4" in told
    assert "no mutant relies on it: P3" not in told
    assert "no mutant relies on it: explore" not in told


# The harness's own.


def test_every_edit_fits_the_file_that_it_names() -> None:
    found = edits.load()
    assert len(found) >= 12
    assert len({edit.name for edit in found}) == len(found)
    for edit in found:
        text = (paths.VM.parent / edit.file).read_text()
        assert edits.applied(edit, text) != text
        assert any((paths.VM.parent / part).is_file() for part in edit.tests)


def test_an_edit_that_no_longer_fits_is_told() -> None:
    (edit, *_) = edits.load()
    with pytest.raises(HarnessError, match="its old text stands 0 times"):
        edits.applied(edit, "")
    with pytest.raises(UserError, match="MUTANT=none: no such edit"):
        edits.choose([edit], ["none"])


def edited(top: Path, *, test: str) -> str:
    """What becomes of an edit of a tree with one module and one test."""
    (top / "one.py").write_text("LIMIT = 24\n")
    (top / "test_one.py").write_text(f"from one import LIMIT\ndef test_it(): assert {test}\n")
    edit = edits.Edit(name="x", what="x", file="one.py", old="24", new="25", tests=("test_one.py",))
    word, _ = edits.attempt(edit, top, set())
    assert (top / "one.py").read_text() == "LIMIT = 24\n", "it is put back"
    return word


def test_an_edit_is_killed_by_a_test_that_fails_and_by_nothing_else(tmp_path: Path) -> None:
    assert edited(tmp_path, test="LIMIT == 24") == "killed"
    assert edited(tmp_path, test="LIMIT") == "SURVIVED"
    assert edited(tmp_path, test="LIMIT == 25") == "red without it"
    assert edited(tmp_path, test="LIMIT == 24 or __import__('os')._exit(9)").startswith("ACCIDENT")


# Running.


def test_results_as_json(tmp_path: Path) -> None:
    rows = [result("P3", "m64", Verdict.OOPS), result("P4", "m32", skip="none")]
    records.dump(tmp_path / "r.json", rows)
    assert records.load(tmp_path / "r.json") == rows
    (tmp_path / "r.json").write_text('{"results": [{"name": 1}]}')
    with pytest.raises(HarnessError, match="not the results of a run"):
        records.load(tmp_path / "r.json")


@pytest.mark.parametrize("code", [0, 1, 3, 4, 13])
def test_a_pytest_that_broke_off_proves_nothing(tmp_path: Path, code: int) -> None:
    """Of a mutant whose tests were not run nobody knows whether it survives."""
    (tmp_path / "log").write_text("INTERNALERROR> IndexError\n")
    rows = [result("P3", "m64")]
    found = run.completed(rows, code, tmp_path / "log")
    assert run.spoilt(found, expected=Verdict.FAIL) == (code in (3, 4))
    assert list(found[:1]) == rows


def checkout(top: Path) -> Path:
    """A harness with two tests, one of which uses what the other does not."""
    text = {
        "harness/plugin.py": "from harness import interfaces, known\n",
        "harness/interfaces/__init__.py": "",
        "harness/interfaces/xyzzy.py": "from harness.contract import Contract\n",
        "harness/interfaces/clone3.py": "from harness.contract import Contract\n",
        "harness/known.py": "import harness.findings\n",
        "harness/findings.py": "",
        "harness/contract.py": "",
        "harness/battery.py": "def item():\n    from harness import model, sweep\n",
        "harness/model.py": "LIMIT = 1\n",
        "harness/sweep.py": "",
        "harness/stall.py": "",
        "harness/mutants/judge.py": "",
        "harness/caller/caller.c": "",
        "tests/a.py": "import harness.battery as one\n",
        "tests/b.py": "from harness import battery, stall\n",
    }
    for name, said in text.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(said)
    return top


@pytest.mark.parametrize(
    ("name", "more", "decides"),
    [
        ("harness/model.py", "LIMIT = 2\n", "a b"),  # imported in a function
        ("harness/model.py", "# as it was\n", ""),
        ("harness/sweep.py", '"""Now with a docstring."""\n', "a b"),
        ("harness/caller/caller.c", "/* not looked at closely */\n", "a b"),
        ("harness/interfaces/__init__.py", "LIMIT = 2\n", "a b"),
        ("harness/interfaces/xyzzy.py", "LIMIT = 2\n", "a b"),
        ("harness/contract.py", "LIMIT = 2\n", "a b"),
        ("harness/stall.py", "LIMIT = 2\n", "b"),
        ("tests/b.py", "LIMIT = 2\n", "b"),
        ("harness/interfaces/clone3.py", "LIMIT = 2\n", ""),
        ("harness/known.py", "LIMIT = 2\n", ""),
        ("harness/findings.py", "LIMIT = 2\n", ""),  # what only known.py imports
        ("harness/mutants/judge.py", "LIMIT = 2\n", ""),
    ],
)
def test_what_the_tests_import_decides_their_results(
    tmp_path: Path, name: str, more: str, decides: str
) -> None:
    tests = {"a": ["tests/a.py"], "b": ["tests"]}

    def keys(top: Path) -> dict[str, str]:
        return {suite: state.of(names, root=top) for suite, names in tests.items()}

    before = keys(checkout(tmp_path / "before"))
    after = checkout(tmp_path / "after")
    with (after / name).open("a") as file:
        file.write(more)
    changed = [suite for suite, now in keys(after).items() if now != before[suite]]
    assert changed == decides.split()


def test_another_contract_decides(tmp_path: Path) -> None:
    top = checkout(tmp_path)
    own = top / "contract.py"
    own.write_text("from harness import stall\n")
    found = state.files(["tests/a.py"], own, root=top)
    assert {"contract.py", "harness/stall.py", "harness/model.py"} <= set(found)
    assert "harness/interfaces/xyzzy.py" not in found


def test_what_decides_here() -> None:
    """Of this checkout: the oracle and the callers do, and nothing that stands apart."""
    found = set(state.files(suites.SUITES["target"].tests))
    assert {"harness/model.py", "harness/battery_stall.py", "harness/report/ktap.py"} <= found
    assert {"harness/caller/caller.c", "selftests/target/test_xyzzy.py", "vm/guest.py"} <= found
    assert not {"harness/cli.py", "harness/bench.py", "harness/interfaces/clone3.py"} & found
    top = paths.VM.parent
    for name in (*state.ALWAYS, *state.APART, state.SAMPLE):
        assert (top / name).exists(), name
    for pattern in state.DATA:
        assert list(top.glob(pattern)), pattern


def test_the_parts_are_the_whole() -> None:
    found = trailers.load_all()
    parts = [command.part(found, number, 4) for number in (1, 2, 3, 4)]
    assert sorted(one.name for each in parts for one in each) == [one.name for one in found]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    with pytest.raises(UserError, match="SHARD=5/4: not one of 4 parts"):
        command.part(found, 5, 4)


def test_a_sample_is_of_kernels_that_are_quickly_built() -> None:
    found = command.quick(trailers.load_all())
    assert {"ver0", "ver1"} <= {one.base for one in found}
    assert "at" not in {one.base for one in found}
    left = {one.name for one in trailers.load_all()} - {one.name for one in found}
    assert {"31-i386-line-missing", "32-64-instead-of-common"} <= left


def test_a_sample_changes_with_the_content() -> None:
    found = trailers.load_all()
    samples = {
        tuple(one.name for one in command.sampled(found, 2, str(code))) for code in range(20)
    }
    assert len(samples) > 3
    assert command.sampled(found, 2, "a") == command.sampled(found, 2, "a")
    assert all(len(sample) == 2 for sample in samples)


def test_sigterm_leaves_no_tests_behind(tmp_path: Path) -> None:
    """As Ctrl-C: what runs on a mutant is in a group of its own, and ends with the run."""
    code = f"""
        import subprocess, sys
        from harness.mutants import command, run
        class Running:
            done = False
            def __init__(self, task, asked):
                pass
            def start(self):
                self.child = subprocess.Popen(["sleep", "60"])
                print(self.child.pid, flush=True)
            def end(self):
                self.child.kill()
                print("ended", self.child.wait(), flush=True)
        run.Running = Running
        command.end_as_by_ctrl_c()
        list(run.run_all([None], command.Setup(abis=(), report={str(tmp_path)!r}, jobs=1)))
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert int(child.stdout.readline())
        child.terminate()
        assert child.stdout.read() == f"ended {-signal.SIGKILL}\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--mutant", "99"], "MUTANT=99: no such mutant"),
        (["--without", "P77"], "P77: no such"),
        (["--shard", "0/4"], "SHARD=0/4: not one of 4 parts"),
    ],
)
def test_a_users_mistake(args: list[str], said: str) -> None:
    done = CliRunner().invoke(cli.cli, ["mutants", *args])
    assert isinstance(done.exception, UserError)
    assert said in str(done.exception)


def test_what_all_mutants_cost_is_computed_from_what_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at a time: one that is recorded, one that is not; and the kernel below them."""
    known = tmp_path / "known"
    known.mkdir()
    (known / "ran.json").write_text('{"seconds": 50.0}')
    several = [one for one in trailers.load_all() if one.base == trailers.BASE][:2]
    places = {several[0].name: known, several[1].name: tmp_path / "none"}
    monkeypatch.setattr(trailers, "load_all", lambda: several)
    monkeypatch.setattr(run.Task, "kept", lambda task, setup: places[task.name])
    monkeypatch.setattr(bench, "from_nothing", lambda *_: {"seconds_cpu": 400.0})
    setup = Setup(abis=EVERY_ABI, report=tmp_path, jobs=2)
    found = bench.all_cold(setup, [30.0, 20.0, 40.0])
    assert found.ours == (50 / 2 + 30 / 2 + 400 / 2,)
    assert found.other == (50 / 2 + 30 / 2,)
    assert "computed" in found.name
    assert "1 mutants as recorded" in found.other_is
