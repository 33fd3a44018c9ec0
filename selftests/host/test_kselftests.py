# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own selftests beside the battery: the table, and what fails a run."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from harness import interfaces
from harness.abi import ABIS
from harness.kselftests import beside, run, table
from harness.kselftests.run import Judged
from harness.kselftests.table import Check
from harness.report import conformance
from harness.report.ktap import Case
from vm import guestroot, kselftest, proc
from vm.errors import BuildError, InfraError

M64 = ABIS[0]
KERNEL = (6, 12)
#: A libc header and nothing else: a whole selftest in the kernel's manner.
SOURCE = """
#include <stdio.h>
#include <sys/capability.h>

int main(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	cap_value_t one = CAP_SETUID;
	cap_flag_value_t is = CAP_CLEAR;
	cap_t cap = cap_get_proc();

	if (!cap || head.version != cap->head.version)
		return 1;
	cap_clear(cap);
	cap_set_flag(cap, CAP_EFFECTIVE, 1, &one, CAP_SET);
	cap_get_flag(cap, one, CAP_EFFECTIVE, &is);
	printf("TAP version 13\\n1..1\\n%s 1 flag as size %zu\\n",
		is == CAP_SET && cap->data[0].effective == 1 << CAP_SETUID ? "ok" : "not ok",
		sizeof(long) + sizeof(void *));
	return cap_free(cap);
}
"""
#: What selftests/lib.mk does with the flags that it is given.
MAKEFILE = """
CFLAGS += -fsanitize=address $(USERCFLAGS)
LDFLAGS += $(USERLDFLAGS)
$(OUTPUT)/%: %.c
	gcc $(CFLAGS) $(LDFLAGS) $< -lcap -o $@
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    home = tmp_path / "tree/tools/testing/selftests/deep/one"
    home.mkdir(parents=True)
    (home / "Makefile").write_text(MAKEFILE)
    (home / "good_test.c").write_text(SOURCE)
    (home / "bad_test.c").write_text("int main(void) { return nothing; }\n")
    return tmp_path / "tree"


@pytest.mark.parametrize("cflag", [one.cflag for one in ABIS])
def test_programs_are_built_for_an_abi(tree: Path, tmp_path: Path, cflag: str) -> None:
    """Statically, without sanitizers, and one that does not build stops no other."""
    names = ["good_test", "bad_test", "absent_test"]
    found = [
        kselftest.build_for(
            "deep/one", names, cflag=cflag, tree=tree, headers=tmp_path / "none", cache=tmp_path
        )
        for _ in range(2)
    ]
    assert found[0] == found[1]
    assert list(found[0].built) == ["good_test"]
    assert "nothing" in found[0].missing["bad_test"]
    assert found[0].missing["absent_test"] == "the tree has no such selftest"
    if cflag != "-mx32":  # which few kernels run
        size = {"-m64": 16, "-m32": 8}[cflag]
        said = proc.run([found[0].built["good_test"]], timeout=10, quiet=True).out
        assert f"ok 1 flag as size {size}" in said


def test_a_target_that_the_tree_has_not(tree: Path, tmp_path: Path) -> None:
    found = kselftest.build_for(
        "none", ["a"], cflag="-m64", tree=tree, headers=tmp_path, cache=tmp_path
    )
    assert found.missing == {"a": "the tree has no such selftest"}
    with pytest.raises(BuildError, match="no selftest of that name"):
        kselftest.build("none", tree=tree, headers=tmp_path, cache=tmp_path)


def test_the_stage_is_for_guests(tmp_path: Path) -> None:
    stage = guestroot.compile_program(run.STAGE_SOURCE, tmp_path / "stage")
    done = proc.run([stage, "/bin/true"], timeout=10, check=False, quiet=True)
    assert done.code == run.NO_STAGE[0]
    assert "for a guest" in done.out


def test_every_row_is_about_something_that_is_there() -> None:
    tests = table.load()
    names = [one.name for one in tests.programs]
    assert len(set(names)) == len(names)
    for program in tests.programs:
        assert program.interface in interfaces.own()
        rows = [one for one in tests.checks if one.program == program.name]
        assert rows or program.left_out, program.name
    for check in tests.checks:
        program = tests.program(check.program)
        contract = interfaces.load(program.interface)
        for abi in ABIS:
            assert check.uncovered(contract, abi) is None
        assert check.beyond or check.why, check.name


def test_openat2s_pairs_are_each_in_the_contract() -> None:
    """Each pair that openat2_test has refused is told from the others."""
    pairs = [
        one.rules
        for one in table.load().checks
        if one.program == "openat2_test" and "incompatible" in one.name
    ]
    assert len(pairs) == len(set(pairs)) == 9


def case(name: str, *, ok: bool = True, skip: str | None = None, said: str = "") -> Case:
    return Case(number=1, name=name, ok=ok, skip=skip, lines=tuple(said.splitlines()))


def judged(
    name: str,
    *,
    program: str = "openat2_test",
    ok: bool = True,
    skip: str | None = None,
    said: str = "",
) -> list[Judged]:
    one = case(name, ok=ok, skip=skip, said=said)
    return run.judge([one], program=program, abi="m64", version=KERNEL)


def problems(found: list[Judged], interface: str = "openat2") -> list[str]:
    return run.problems(found, contract=interfaces.load(interface), abi=M64)


BIT = "openat2 with currently unknown bit (1 << 63) fails with -22 (Invalid argument)"


def test_what_fails_a_run() -> None:
    assert problems(judged(BIT)) == []
    assert problems(judged(BIT, skip="not here")) == []
    (failed,) = problems(judged(BIT, ok=False, said="a\nb"))
    assert failed == f"theirs fails: {BIT}: a / b"
    (unknown,) = problems(judged("openat2 of something new succeeds"))
    assert unknown.startswith("theirs, and not in tests.toml")
    expected = judged("global.cred_transfer", program="base_test", ok=False)
    assert expected[0].expected is not None
    assert problems(expected, "landlock_create_ruleset") == []


def test_never_fewer_than_theirs() -> None:
    """A check that passes and that no property of ours checks fails the run."""
    contract = interfaces.load("openat2")
    found = judged(BIT)
    for less in (
        dataclasses.replace(contract, checks=contract.checks[:3]),
        interfaces.load("cachestat"),
    ):
        (only,) = run.problems(found, contract=less, abi=M64)
        assert only == f"only theirs: {BIT}: the contract of {less.name} has no UnknownBits flags"
    row = Check(program="openat2_test", name=re.escape(BIT), props=("P10",), why="")
    (only,) = problems([dataclasses.replace(found[0], check=row)])
    assert only.endswith("P10 flags argument does not apply to openat2 as m64")


def test_what_was_printed_before_tells_results_of_one_name_apart() -> None:
    name = "[1] Result (-22) matches expectation (-22)"
    size, flag = (
        judged(name, program="clone3", said=f"# Trying clone3() with flags 0 (size {size})")
        for size in (56, 0)
    )
    assert size[0].check is not None
    assert flag[0].check is not None
    assert (size[0].check.props, flag[0].check.props) == (("P1",), ("P11",))


def test_a_broken_output_is_a_result_that_is_not_ok() -> None:
    (plan,) = [one for one in run.cases("TAP version 13\n1..2\nok 1 a\n") if not one.ok]
    assert plan.name == "KTAP: 2 tests planned, 1 reported"
    (code,) = [one for one in run.cases("TAP version 13\n1..1\nok 1 a\n", code=3) if not one.ok]
    assert code.name == "exit code 3, and nothing failed"
    assert all(one.ok for one in run.cases("TAP version 13\n1..1\nok 1 a\n", code=0))


@pytest.mark.parametrize(
    "text",
    [
        "[[program]]\nname = 3",
        '[[program]]\ntarget="a"\nname="a"\ninterface="a"\nwhat=""\nseconds=1\n'
        '[[check]]\nprogram="b"\nname="x"\nbeyond="y"',
        '[[program]]\ntarget="a"\nname="a"\ninterface="a"\nwhat=""\nseconds=1\n'
        '[[check]]\nprogram="a"\nname="x"\nbeyond="y"\nprops=["P1"]',
        '[[program]]\ntarget="a"\nname="a"\ninterface="a"\nwhat=""\nseconds=1\n'
        '[[check]]\nprogram="a"\nname="x"\nprops=["P99"]',
        '[[program]]\ntarget="a"\nname="a"\ninterface="a"\nwhat=""\nseconds=1\n'
        '[[check]]\nprogram="a"\nname="("\nbeyond="y"',
    ],
)
def test_a_damaged_table_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tests.toml"
    path.write_text(text)
    with pytest.raises(InfraError, match="not a table of selftests"):
        table.load(path)


def kept(report: Path, program: str, abi: str, *lines: str) -> None:
    path = run.report_of(report, table.load().program(program), abi)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("TAP version 13", f"1..{len(lines)}", *lines)) + "\n")


def test_both_sides(tmp_path: Path) -> None:
    """Counts of theirs and marks of ours, by property; what one side alone has."""
    kept(
        tmp_path,
        "openat2_test",
        "m64",
        f"ok 1 {BIT}",
        "ok 2 openat2 with valid how.mode and O_CREAT succeeds",
        "ok 3 openat2 with normal struct argument [misalign=1] # SKIP no openat2",
    )
    kept(tmp_path, "futex_waitv", "m64", "ok 1 futex_waitv without FUTEX_32")
    marks = {("openat2", "P11"): "F", ("openat2", "P1"): "+", ("futex_waitv", "P11"): "o"}
    sides = beside.side_by_side(
        run.read(tmp_path, ["m64", "m32"], KERNEL),
        ["m64", "m32"],
        lambda interface, prop, abi: marks.get((interface, prop), "."),
        none=".",
    )
    openat2, futex = sides
    covered = {row.prop: row.covered(conformance.UNTRIED) for row in openat2.rows}
    assert covered == {"P1": beside.OURS, "P11": beside.BOTH}
    (beyond,) = openat2.beyond
    assert beyond.covered(conformance.UNTRIED) == beside.THEIRS
    assert str(openat2.total("m64")) == "2, 1 skipped"
    assert str(openat2.total("m32")) == ""
    (row,) = (row for row in futex.rows if row.prop == "P11")
    assert str(row.theirs["m64"]) == "1, 1 vacuous"
    assert row.covered(conformance.UNTRIED) == beside.THEIRS
    (why,) = futex.vacuous
    assert why[:2] == ("futex_waitv", "futex_waitv without FUTEX_32")
    (lack,) = beside.lacking(sides, (conformance.SKIPPED,))
    assert lack.startswith("futex_waitv, P11 fields that carry flags, m64: 1, 1 vacuous of theirs")
