# SPDX-License-Identifier: GPL-2.0-only
"""harness.skew without a guest: programs, rows, what is red when, the differential, the report.

Kernels of two ages are played by fakexyzzy.py in a live caller.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import fakekernel
import fakexyzzy
import hosttarget
import pytest
from fakexyzzy import FakeXyzzy

from harness import layout as layouts
from harness.abi import ABI, ABIS
from harness.contract import Contract, Process, UnknownBits
from harness.findings import ContractBrokenError
from harness.interface import Interface
from harness.interfaces import xyzzy
from harness.layout import Compiler, Layout
from harness.skew import differential, finish, labs, matrix, programs, results, show
from harness.skew.differential import Declared, Recording
from harness.skew.labs import SAME_CALLS, Age
from harness.skew.matrix import Cell, Row
from harness.skew.programs import RELEASES, Attempt, Program, Release
from harness.skew.results import CellResult, Pair
from harness.sweep import Dim, Kind
from harness.target import Target
from vm.errors import BuildError, InfraError, UserError, Verdict

#: The releases that the fake kernels and their headers are of, and the future.
OLD, NEW = RELEASES[0], RELEASES[1]
FUTURE = RELEASES[-1]
#: What the fake kernel is before it grows; its privilege is one that tests may have.
OLDER = dataclasses.replace(
    fakexyzzy.NEWER,
    versions=fakexyzzy.NEWER.versions[:1],
    declaration=xyzzy.CONTRACT.declaration,
    checks=tuple(one for one in fakexyzzy.NEWER.checks if not isinstance(one, Process)),
)
CONTRACTS: Mapping[str, Contract] = {"VER0": OLDER, "VER1": fakexyzzy.NEWER}
SIZES = {"VER0": 24, "VER1": 32, "VER3": 56}
ROWS = matrix.rows((OLD, NEW, FUTURE))


@pytest.fixture(scope="module")
def include(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Headers of each age."""
    where = tmp_path_factory.mktemp("include")
    return {name: fakexyzzy.headers(where / name, one) for name, one in CONTRACTS.items()}


@pytest.fixture(scope="module")
def build(include: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Builder:
    return Builder(include, tmp_path_factory.mktemp("cache"))


@dataclasses.dataclass(frozen=True)
class Builder:
    """Compiles programs, with headers of any age."""

    include: Mapping[str, Path]
    cache: Path

    def compiler(self, release: Release) -> Compiler:
        return Compiler(
            headers=self.include.get(release.version, self.include["VER1"]), before=release.overlay
        )

    def __call__(self, release: Release, abi: ABI, *, headers: str | None = None) -> Program:
        compiler = self.compiler(release)
        if headers:
            compiler = Compiler(headers=self.include[headers])
        return programs.build(
            release, abi, compiler=compiler, contract=xyzzy.CONTRACT, cache=self.cache
        )


# Programs.


@pytest.mark.parametrize("one", ABIS, ids=lambda one: one.name)
@pytest.mark.parametrize("release", [OLD, NEW, FUTURE], ids=lambda one: one.version)
def test_a_program_is_what_its_headers_say(build: Builder, release: Release, one: ABI) -> None:
    """Its struct comes out of its own DWARF, and is what the compiler says of the headers."""
    program = build(release, one)
    assert program.layout.size == SIZES[release.version]
    assert max(program.sizes, key=program.sizes.__getitem__) == release.version
    probed = layouts.layout(
        build.compiler(release),
        one,
        struct="xyzzy_params",
        fields=[field.name for field in program.layout.fields],
        includes=("linux/xyzzy.h",),
    )
    assert program.layout == dataclasses.replace(probed, align=program.layout.align)


@pytest.mark.parametrize("one", ABIS, ids=lambda one: one.name)
def test_the_future_begins_as_today(build: Builder, one: ABI) -> None:
    """A newer struct that moved an older field would be no extension."""
    before, after = build(NEW, one).layout, build(FUTURE, one).layout
    assert after.fields[: len(before.fields)] == before.fields
    assert not after.padding()


def test_headers_of_another_release_are_no_program_of_it(build: Builder) -> None:
    with pytest.raises(BuildError, match="VER1: struct xyzzy_params of these headers is 24 bytes"):
        build(NEW, ABIS[0], headers="VER0")


def test_a_program_of_another_release_is_another_file(build: Builder) -> None:
    paths = {build(one, abi).path for one in (OLD, NEW, FUTURE) for abi in ABIS}
    assert len(paths) == 9
    assert build(OLD, ABIS[0]).path in paths


def test_a_program_runs_where_there_is_no_such_call(build: Builder, here: ABI) -> None:
    program = build(FUTURE, here)
    fields = {"param_1": 1, "param_8": 8}
    argv = [str(program.path), *programs.arguments(fields)]
    out = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    seen = programs.parse(out)
    assert (seen.sizeof, seen.sizes, seen.record) == (56, program.sizes, None)
    assert seen.attempts == (Attempt(usize=56, errno=errno.ENOSYS, size=56),)


@pytest.mark.parametrize(
    "asked", ["param_4=1", "param_1", "param_1=one", "param_1=", "=1", "size=24"]
)
def test_a_program_knows_its_own_fields_only(build: Builder, here: ABI, asked: str) -> None:
    done = subprocess.run(
        [build(OLD, here).path, asked], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert asked in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "",
        "call usize=24 errno=0 size=24",
        "headers pid=1 sizeof=24\nheaders pid=1 sizeof=24",
        "headers sizeof=24 VER0=24",
        "headers pid=1 sizeof=24 VER0=24\ncall usize=24 errno=x size=24",
        "headers pid=1 sizeof=24 VER0=24\ncall usize=24 errno=0",
        "headers pid=1 sizeof=24 VER0=24\nread got=24 errno=0 record=0",
        "headers pid=1 sizeof=24 VER0=24\nSegmentation fault",
    ],
)
def test_what_is_no_transcript_is_refused(text: str) -> None:
    with pytest.raises(InfraError, match="no transcript"):
        programs.parse(text)


def kernels_layout(build: Builder, version: str, abi: ABI = ABIS[0]) -> Layout:
    """The struct of a kernel of that age."""
    return build(OLD if version == "VER0" else NEW, abi).layout


def test_what_a_newer_program_should_see_on_an_older_kernel(build: Builder) -> None:
    """As long as its new fields are zero it works; else E2BIG, the size, and once more."""
    program = build(FUTURE, ABIS[0])
    kernel = kernels_layout(build, "VER0")
    works = programs.expected(xyzzy.CONTRACT, kernel, program, {"param_1": 1})
    assert works.attempts == (Attempt(usize=56, errno=0, size=56),)
    assert works.record is not None
    assert works.record.got == 24  # the kernel's struct, though the program has room for more
    assert works.record.data[24:] == bytes([programs.FILL]) * 32
    again = programs.expected(xyzzy.CONTRACT, kernel, program, {"param_1": 1, "param_8": 9})
    assert again.attempts == (
        Attempt(usize=56, errno=errno.E2BIG, size=24),
        Attempt(usize=24, errno=0, size=24),
    )


def test_what_an_older_program_should_see_on_a_newer_kernel(build: Builder) -> None:
    """What it saw on the kernel of its day."""
    program = build(OLD, ABIS[0])
    seen = [
        programs.expected(contract, kernels_layout(build, name), program, {"param_1": 1})
        for name, contract in CONTRACTS.items()
    ]
    assert seen[0] == seen[1]
    assert seen[1].record is not None
    assert seen[1].record.got == 24


def test_a_program_may_name_itself(build: Builder, here: ABI) -> None:
    program = build(NEW, here)
    fields = {"param_1": 1, "param_4": programs.SELF}
    assert programs.arguments(fields) == ["param_1=0x1", "param_4=self"]
    argv = [str(program.path), *programs.arguments(fields)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert programs.parse(done.stdout).pid > 1
    wanted = programs.expected(
        fakexyzzy.NEWER, kernels_layout(build, "VER1", here), program, fields, pid=77
    )
    assert wanted.record is not None
    assert program.layout.get(wanted.record.data, "param_4") == 77


def test_scenarios_set_each_later_field_and_no_reserved_one(build: Builder) -> None:
    program = build(FUTURE, ABIS[0])
    values = {one.name: 7 for one in program.layout.fields}
    found = dict(programs.scenarios(program, values, first=24))
    assert list(found["new fields zero"]) == ["param_1", "param_2", "param_3"]
    later = ["param_4", "param_5", "param_6", "param_7", "param_8"]
    assert [name for name in found if name.endswith(" set")] == [
        *(f"{name} set" for name in later),
        "all set",
    ]
    assert found["param_5 set"] == {"param_1": 7, "param_2": 7, "param_3": 7, "param_5": 7}
    assert not any("__reserved" in fields or "size" in fields for fields in found.values())


# The rows.


def test_the_rows_share_no_size_and_leave_none_out() -> None:
    sizes = [size for row in ROWS for size in row.sizes(xyzzy.CONTRACT, SIZES)]
    assert sorted(sizes) == [0, *range(24, 57)]
    assert [row.name for row in ROWS] == ["VER0", "VER0-VER1", "VER1", "VER1-VER3", "VER3"]


@pytest.mark.parametrize(
    ("sizes", "ksize", "word"),
    [((0, 24), 24, "as its own"), ((24,), 32, "zero-extended"), ((25, 31), 24, "E2BIG, 24")],
)
def test_what_a_cell_shows(sizes: tuple[int, ...], ksize: int, word: str) -> None:
    assert matrix.shows(sizes, ksize) == word


# What is red when: kernels of an age, with a fault, in a live caller.


@dataclasses.dataclass(frozen=True)
class Rig:
    """A fake kernel, and the cells that it has."""

    build: Builder
    interface: Interface
    kernel: fakekernel.FakeKernel

    def cell(self, row: Row) -> Cell:
        release = row.release
        return Cell(
            row=row,
            interface=self.interface,
            program=self.build(release, self.interface.abi),
            own=self.interface.for_the_caller(CONTRACTS.get(release.version, fakexyzzy.NEWER)),
            where=lambda program: str(program.path),
        )

    def plays(self, fault: str = "") -> None:
        """Have the kernel be one of this age, with that fault."""
        ksize = self.interface.ksize
        self.kernel.answer = FakeXyzzy(self.kernel, fault=fault, ksize=ksize, names=ksize > 24)

    def red(self, fault: str = "") -> dict[str, set[str]]:
        """The rows that are red, and by which parts; programs run in no fake kernel."""
        self.plays(fault)
        found: dict[str, set[str]] = {}
        for row in ROWS:
            for part in matrix.PARTS:
                if part.name != "program" and part.check(self.cell(row)):
                    found.setdefault(row.name, set()).add(part.name)
        return found


@contextlib.contextmanager
def rigged(local: Target, one: ABI, build: Builder, version: str = "VER1") -> Iterator[Rig]:
    with fakekernel.fake_kernel(local, one) as kernel:
        compiler = Compiler(headers=build.include[version])
        interface = Interface(CONTRACTS[version], one, compiler=compiler, target=local)
        yield Rig(build, interface, kernel)


@pytest.fixture(name="rig")
def _rig(local: Target, here: ABI, build: Builder, request: pytest.FixtureRequest) -> Iterator[Rig]:
    with rigged(local, here, build, getattr(request, "param", "VER1")) as rig:
        yield rig


@pytest.mark.parametrize("rig", ["VER0", "VER1"], indirect=True)
def test_a_kernel_that_keeps_its_promises_is_green(rig: Rig) -> None:
    assert rig.red() == {}
    before = rig.kernel.calls
    matrix.PARTS[0].check(rig.cell(ROWS[0]))
    assert rig.kernel.calls > before  # that is, calls were made


SHORTER = {"VER0", "VER0-VER1"}
LONGER = {"VER1-VER3", "VER3"}


@pytest.mark.parametrize(
    ("fault", "rows", "parts"),
    [
        ("no-zero-fill", SHORTER, {"accepted", "as of old"}),
        ("no-write-back", LONGER, {"refused", "retry"}),
        ("wrong-write-back", LONGER, {"refused", "retry"}),
        ("tail-unchecked", LONGER, {"refused", "retry"}),
        ("tail-einval", LONGER, {"refused", "retry"}),
        ("copies-ksize", SHORTER, {"accepted", "as of old"}),
        ("only-versions", {"VER0-VER1"}, {"accepted", "as of old"}),
        ("zero-refused", {"VER0"}, {"accepted", "as of old"}),
        ("ver0-refused", {"VER0"}, {"accepted", "as of old"}),
    ],
)
def test_a_fault_turns_the_cells_red_that_it_hits(
    local: Target, build: Builder, fault: str, rows: set[str], parts: set[str]
) -> None:
    """Shorter structs than the kernel's own, or longer ones, or one size: and no other row.

    In one ABI: the fault is not of a kind that differs between them.
    """
    with rigged(local, hosttarget.running()[0], build) as rig:
        red = rig.red(fault)
    assert set(red) == rows
    assert set().union(*red.values()) <= parts
    assert all("accepted" in one or "refused" in one for one in red.values())


def test_a_contract_that_changes_for_older_programs_is_found(rig: Rig) -> None:
    """A kernel that does what its contract says, which is not what the older one said."""
    strict = tuple(
        dataclasses.replace(check, known={}) if isinstance(check, UnknownBits) else check
        for check in fakexyzzy.NEWER.checks
    )
    cell = rig.cell(ROWS[0])
    changed = Interface(
        dataclasses.replace(fakexyzzy.NEWER, checks=strict, example={}),
        cell.interface.abi,
        compiler=cell.interface.compiler,
        target=cell.interface.target,
    )
    rule = next(
        one
        for one in matrix._fields(dataclasses.replace(cell, interface=changed))
        if one.usize == 24
    )
    (found,) = matrix._changed(dataclasses.replace(cell, interface=changed), rule)
    assert found.count == 2  # XYZZY_P1_URGENT and XYZZY_P1_TEST
    assert found.allowed.startswith("success, effect") or found.allowed.startswith("success")
    assert "by the contract of VER0" in found.allowed


def test_absent_is_enosys_and_nothing_else(rig: Rig) -> None:
    row = ROWS[1]  # sizes between two releases: no program is run
    rig.kernel.answer = lambda call: -errno.ENOSYS
    matrix.check_absent(rig.cell(row))
    rig.plays()
    with pytest.raises(ContractBrokenError, match="allowed: ENOSYS"):
        matrix.check_absent(rig.cell(row))


def test_a_red_cell_names_its_part_and_its_calls(rig: Rig) -> None:
    rig.plays("no-write-back")
    row = next(one for one in ROWS if one.name == "VER1-VER3")
    with pytest.raises(ContractBrokenError) as caught:
        matrix.check(rig.cell(row))
    text = str(caught.value)
    assert "xyzzy(), VER1-VER3, breaks its contract:" in text
    assert "refused: usize 33, byte 32 ^= 0x01" in text
    assert "allowed: E2BIG, size set to 32\n  kernel:  E2BIG" in text


# The differential.


def recorded(rig: Rig, age: str, fault: str = "") -> Recording:
    """What a fake kernel does with the calls; the big ones are left out, for time."""
    rig.plays(fault)
    newest = rig.build(NEW, rig.interface.abi)
    rules = differential.rules(fakexyzzy.NEWER, newest.layout, rig.interface.abi)
    rules = {name: rules[name] for name in CHOSEN}
    few = Dim(kind=Kind.USIZE, start=0, stop=65)
    rules["every size"] = dataclasses.replace(rules["every size"], dims=(few,))
    return Recording(
        age=age,
        version=rig.interface.contract.version_of(rig.interface.ksize).name,
        abi=rig.interface.abi.name,
        fields={one.name: (one.offset, one.end) for one in newest.layout.fields},
        sizes=newest.sizes,
        rules=rules,
        rows=differential.record(rig.interface, rules),
    )


CHOSEN = ("every size", "bytes 4 to 7", "bytes 27 to 31", "bits of argument 1")


@pytest.fixture(scope="module")
def two(local: Target, build: Builder) -> dict[str, Recording]:
    """The same calls on a kernel of each age, and on newer ones with faults."""
    found = {}
    for version, faults in (
        ("VER0", ["", "tail-einval"]),
        ("VER1", ["", "no-zero-fill", "p1-unchecked"]),
    ):
        with fakekernel.fake_kernel(local, ABIS[0]) as kernel:
            compiler = Compiler(headers=build.include[version])
            interface = Interface(CONTRACTS[version], ABIS[0], compiler=compiler, target=local)
            for fault in faults:
                found[f"{version} {fault}".strip()] = recorded(
                    Rig(build, interface, kernel), f"6.12-{version.lower()}", fault
                )
    return found


def test_declared_differences_are_counted_and_nothing_else_differs(
    two: dict[str, Recording],
) -> None:
    pair = differential.compare(two["VER0"], two["VER1"], xyzzy.CONTRACT)
    assert pair.good, pair
    assert pair.name == "6.12-ver0 → 6.12-ver1"
    # 40 bits at usize 32 and beyond: all are param_4's, and nobody has such a pid.
    assert pair.declared["param_4 is taken"] > 0
    assert pair.declared["the size that is written back"] == 23  # sizes 1 to 23
    again = differential.compare(two["VER1"], two["VER1"], xyzzy.CONTRACT)
    assert (again.good, again.declared) == (True, {})


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("VER0 tail-einval", "VER1", "usize 32, byte 27 ^= 0x01"),
        ("VER0", "VER1 p1-unchecked", "EINVAL → success"),
    ],
)
def test_what_is_not_declared_is_listed(
    two: dict[str, Recording], old: str, new: str, words: str
) -> None:
    pair = differential.compare(two[old], two[new], xyzzy.CONTRACT)
    assert not pair.good
    assert any(words in line for line in pair.undeclared), pair.undeclared


def test_a_difference_in_what_is_read_is_told_by_its_hash(two: dict[str, Recording]) -> None:
    """Outcomes in the same words, which are not the same outcome."""
    name = "every size"
    rows_of = two["VER0"].rows[name]
    (at, row), *_ = ((i, one) for i, one in enumerate(rows_of) if not one.seen.errno)
    other = dataclasses.replace(row, seen=dataclasses.replace(row.seen, effect=1))
    rows = {**two["VER0"].rows, name: [*rows_of[:at], other, *rows_of[at + 1 :]]}
    changed = dataclasses.replace(two["VER0"], rows=rows)
    (found,) = differential.differences(two["VER0"], changed, xyzzy.CONTRACT)
    assert found.count == row.count
    assert found.old != found.new
    assert found.new.endswith("effect 0x0000000000000001")


def test_what_is_declared_and_does_not_show_is_a_fault(two: dict[str, Recording]) -> None:
    table = [Declared(between=("VER0", "VER1"), what="a wonder", old=("x",), new=("y",), why="")]
    pair = differential.compare(two["VER0"], two["VER1"], xyzzy.CONTRACT, table)
    assert pair.missing == ("a wonder",)
    assert pair.undeclared
    assert not pair.good


def test_kernels_that_were_given_other_calls_are_not_compared(two: dict[str, Recording]) -> None:
    other = dataclasses.replace(two["VER1"], rules={})
    with pytest.raises(InfraError, match="not given the same calls"):
        differential.compare(two["VER0"], other, xyzzy.CONTRACT)


def test_fewer_outcomes_than_calls_is_a_difference(two: dict[str, Recording]) -> None:
    rows = {**two["VER1"].rows, "bits of argument 1": ()}
    pair = differential.compare(
        two["VER1"], dataclasses.replace(two["VER1"], rows=rows), xyzzy.CONTRACT
    )
    assert "the number of outcomes" in pair.undeclared[0]


def test_a_recording_is_kept_whole(two: dict[str, Recording]) -> None:
    one = two["VER1"]
    assert Recording.from_json(one.to_json()) == dataclasses.replace(
        one, rows={name: list(rows) for name, rows in one.rows.items()}
    )
    for text in ("", "[]", "{}", '{"age": "x"}'):
        with pytest.raises(ValueError, match=r"recording|Expecting"):
            Recording.from_json(text)


def test_which_kernels_are_compared(two: dict[str, Recording]) -> None:
    """Neighbouring versions of a series, one version of two series; never across a gap."""
    sizes = {"VER0": 24, "VER1": 32, "VER2": 40}

    def kernel(series: str, version: str, abi: str = "m64") -> Recording:
        age = f"{series}-{version.lower()}"
        return dataclasses.replace(two["VER0"], age=age, version=version, abi=abi, sizes=sizes)

    chosen = [
        *(kernel("6.12", version) for version in ("VER0", "VER1")),
        kernel("6.12", "VER2", "m32"),
        *(kernel("6.1", version) for version in ("VER0", "VER2")),
    ]
    assert [(old.age, new.age) for old, new in differential.pairs(chosen)] == [
        ("6.12-ver0", "6.12-ver1"),
        ("6.12-ver0", "6.1-ver0"),
    ]


def test_the_table_of_differences_is_about_versions_and_fields_that_there_are(
    build: Builder,
) -> None:
    fields = {one.name for one in build(FUTURE, ABIS[0]).layout.fields}
    versions = [one.version for one in RELEASES]
    for one in differential.declared():
        old, new = (versions.index(name) for name in one.between)
        assert new == old + 1
        assert set(one.nonzero) <= fields
        assert one.why
        for text in (*one.old, *one.new):
            text.format(**{one.version: 0 for one in RELEASES})


@pytest.mark.parametrize(
    "text", ["", "[[difference]]", "difference = 3", "[[difference]]\nbetween = [1]"]
)
def test_a_damaged_table_is_said(tmp_path: Path, text: str) -> None:
    table = tmp_path / "differences.toml"
    table.write_text(text)
    with pytest.raises(InfraError, match="not a table of differences"):
        differential.declared(table)


# The tests that there are.


def collected(*options: str) -> list[str]:
    """The ids of the matrix's tests for these options."""
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    test = Path(matrix.__file__).parent.parent / "conformance" / "test_skew.py"
    done = subprocess.run(
        [*argv, *options, test], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"::(\S+\[\S+\])", done.stdout)


def test_one_kernel_s_tests_stand_together() -> None:
    """So that there is one guest at a time."""
    found = collected("--kernel", "6.12", "--abi", "m64")
    kernels = [re.search(r"\[([^-]+-[^-]+)-", one)[1] for one in found]  # type: ignore[index]
    assert [name for name, _ in itertools.groupby(kernels)] == [
        age.name for age in labs.ages(["6.12"])
    ]
    assert "test_cell[6.12-ver1-VER0-m64]" in found
    assert "test_the_same_calls[6.12-ver1-m64]" in found
    assert not any(one.startswith("test_the_same_calls[6.12-off") for one in found)


def test_a_kernel_alone_has_its_own_tests_and_no_empty_one() -> None:
    """As a machine of the workflow runs it."""
    found = collected("--skew-kernel", "6.12-off", "--abi", "m32")
    assert len(found) == len(matrix.rows(labs.releases("6.12")))
    assert all(one.startswith("test_cell[6.12-off-") and one.endswith("-m32]") for one in found)


# The report.


def result(row: str, variant: str, abi: str, **more: object) -> CellResult:
    plain = CellResult(
        kernel="6.12",
        variant=variant,
        row=row,
        abi=abi,
        verdict=Verdict.PASS,
        shows="zero-extended",
        release="6.12.117",
        calls=100,
        seconds=0.5,
    )
    return dataclasses.replace(plain, **more)  # type: ignore[arg-type]


AGES = (Age(kernel="6.12", variant="ver0"), Age(kernel="6.12", variant="ver1"))
GOOD = [result("VER0", one.variant, abi) for one in AGES for abi in ("m64", "m32")]
KEYS = [one.key for one in GOOD]


def finished(where: Path, *cells: CellResult) -> finish.Finished:
    """What is made of these cells."""
    shard = where / "shard"
    shard.mkdir()
    results.write(shard, cells)
    return finish.finish([where], report=where / "whole", ages=AGES, keys=KEYS)


def test_a_whole_matrix(tmp_path: Path) -> None:
    done = finished(tmp_path, *GOOD)
    assert done.verdict is Verdict.PASS
    assert done.matrix.summary == "4 cells in m64, m32: 4 passed, 0 failed; 400 calls"
    text = show.terminal(done.matrix, width=100, color=False)
    assert text.count("zero-extended") == 2
    assert "| VER0 | zero-extended | zero-extended |" in show.markdown(done.matrix)
    page = (tmp_path / "whole" / finish.HTML).read_text()
    assert page.count('<td class="good">') == 2
    cases = ET.parse(tmp_path / "whole" / finish.JUNIT).getroot().findall("testsuite/testcase")
    assert [(one.get("classname"), one.get("name")) for one in cases] == [
        (f"skew.6.12-{variant}", f"VER0[{abi}]")
        for variant in ("ver0", "ver1")
        for abi in ("m64", "m32")
    ]
    facts = {one.get("name"): one.get("value") for one in cases[0].findall("properties/property")}
    assert facts["variant"] == "ver0"
    assert facts["calls"] == "100"


def test_a_cell_that_failed_in_one_abi(tmp_path: Path) -> None:
    text = "m32: xyzzy(), VER0, breaks its contract:\n\x1b<&>"
    bad = dataclasses.replace(GOOD[3], verdict=Verdict.FAIL, text=text)
    done = finished(tmp_path, *GOOD[:3], bad)
    assert done.verdict is Verdict.FAIL
    shown = show.terminal(done.matrix, width=100, color=False)
    assert "m64: zero-extended" in shown
    assert "m32: FAIL" in shown
    assert "1 failed" in shown
    assert "breaks its contract" in show.markdown(done.matrix)
    page = (tmp_path / "whole" / finish.HTML).read_text()
    assert '<td class="bad">' in page
    assert "&lt;&amp;&gt;" in page
    root = ET.parse(tmp_path / "whole" / finish.JUNIT).getroot()
    (failure,) = root.findall(".//failure")
    assert failure.get("message") == "m32: xyzzy(), VER0, breaks its contract:"


def test_what_the_machine_spoilt_is_no_failure(tmp_path: Path) -> None:
    lost = dataclasses.replace(GOOD[3], verdict=Verdict.PANIC, shows="", text="PANIC: it did")
    done = finished(tmp_path, *GOOD[:3], lost)
    assert done.verdict is Verdict.PANIC
    root = ET.parse(tmp_path / "whole" / finish.JUNIT).getroot()
    assert [one.get("type") for one in root.findall(".//error")] == ["PANIC"]
    assert root.findall(".//failure") == []


def test_a_cell_that_is_missing_is_no_pass(tmp_path: Path) -> None:
    """A shard that died has published nothing."""
    done = finished(tmp_path, *GOOD[:3])
    assert done.verdict is Verdict.FAIL
    assert done.matrix.absent == (("6.12", "ver1", "VER0", "m32"),)
    assert "1 missing" in done.matrix.summary
    assert done.matrix.missing == ["6.12-ver1: VER0 in m32"]
    assert "not run: 6.12-ver1: VER0 in m32" in show.terminal(done.matrix, width=100, color=False)
    assert "- not run: 6.12-ver1: VER0 in m32" in show.markdown(done.matrix)
    root = ET.fromstring(show.junit(done.matrix).partition("\n")[2])
    (case,) = root.findall("testsuite[@name='skew.missing']/testcase")
    assert case.get("name") == "6.12-ver1-VER0-m32"


def test_a_kernel_that_is_missing_is_one_line(tmp_path: Path) -> None:
    done = finished(tmp_path, *GOOD[:2])
    assert done.matrix.missing == ["6.12-ver1: all of it"]
    assert "2 missing" in done.matrix.summary


def test_a_skipped_cell_is_no_pass(tmp_path: Path) -> None:
    done = finished(tmp_path, *GOOD[:3], dataclasses.replace(GOOD[3], skip="no x32"))
    assert done.verdict is Verdict.FAIL
    assert "1 skipped" in done.matrix.summary


def test_cells_of_several_runs_are_one_table_and_the_worse_counts(tmp_path: Path) -> None:
    bad = dataclasses.replace(GOOD[0], verdict=Verdict.FAIL)
    for name, cells in (("a", GOOD[:2]), ("b", GOOD[2:]), ("c", [bad]), ("d", [GOOD[0]])):
        (tmp_path / name).mkdir()
        results.write(tmp_path / name, cells)
    done = finish.finish([tmp_path], report=tmp_path / "whole", ages=AGES, keys=KEYS)
    assert len(done.matrix.cells) == 4
    assert done.verdict is Verdict.FAIL


def test_the_differential_counts(tmp_path: Path, two: dict[str, Recording]) -> None:
    """And it is made of what several runs left."""
    for name, one in (("a", two["VER0"]), ("b", two["VER1 p1-unchecked"])):
        (tmp_path / name).mkdir()
        path = tmp_path / name / results.ROWS.format(age=one.age, abi=one.abi)
        path.write_text(one.to_json())
    done = finished(tmp_path, *GOOD)
    assert [one.good for one in done.matrix.pairs] == [False]
    assert done.verdict is Verdict.FAIL
    for text in (
        show.terminal(done.matrix, width=100, color=False),
        show.markdown(done.matrix),
        show.html(done.matrix),
    ):
        assert "6.12-ver0 → 6.12-ver1, m64" in text
        assert "NOT DECLARED" in text
    root = ET.fromstring(show.junit(done.matrix).partition("\n")[2])
    (case,) = root.findall("testsuite[@name='skew.differential']/testcase")
    assert case.get("name") == "6.12-ver0 → 6.12-ver1[m64]"
    assert case.find("failure") is not None


def test_pairs_that_are_alike_in_several_abis_are_one_line() -> None:
    pairs = [
        Pair(old="a", new="b", abi=abi, declared={"x": 1}, undeclared=()) for abi in ("m64", "m32")
    ]
    arranged = show.arrange(GOOD, pairs=pairs, ages=["a", "b"], rows=["VER0"])
    text = show.terminal(arranged, width=100, color=False)
    assert "a → b, m64, m32\n    declared: x: 1 calls" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Expecting value"),
        ('{"format": 99, "cells": []}', "format 99"),
        ('{"format": 1, "cells": [{"kernel": 1}]}', "verdict"),
        ("[]", "."),
    ],
)
def test_a_file_that_holds_no_cells_is_said(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / results.CELLS).write_text(text)
    with pytest.raises(UserError, match=words):
        results.merge([tmp_path])


def test_nothing_to_merge_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no cells\.json below"):
        results.merge([tmp_path])
    with pytest.raises(UserError, match="no such directory"):
        results.merge([tmp_path / "nowhere"])


def test_a_whole_matrix_has_every_row_and_no_calls_where_there_is_no_interface() -> None:
    off = Age(kernel="6.12", variant="off")
    keys = finish.wanted([AGES[0], off], ABIS[:1])
    rows = [key[2] for key in keys if key[1] == "ver0"]
    assert rows[-1] == SAME_CALLS
    assert [key[2] for key in keys if key[1] == "off"] == rows[:-1]


def test_cells_are_json(tmp_path: Path) -> None:
    results.write(tmp_path, GOOD)
    assert json.loads((tmp_path / results.CELLS).read_text())["format"] == results.FORMAT
    assert results.read(tmp_path / results.CELLS) == GOOD
