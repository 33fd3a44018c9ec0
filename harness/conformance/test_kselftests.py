# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own selftests of the interfaces that are checked, on the same guest, in each ABI."""

from __future__ import annotations

import pytest

from harness import interfaces
from harness.abi import ABI
from harness.kselftests import run, table
from harness.kselftests.table import Program
from harness.lab import Lab
from harness.plugin import CONTRACTS, together
from vm import kernels


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each program that is about an interface of this run."""
    if "selftest" in metafunc.fixturenames:
        names = {one.name for one in metafunc.config.stash[CONTRACTS]}
        programs = [one for one in table.load().programs if one.interface in names]
        metafunc.parametrize(
            "selftest",
            [
                pytest.param(one, id=one.name, marks=together(metafunc.config, one.interface))
                for one in programs
            ],
        )


@pytest.mark.prop("kselftest")
def test_theirs(selftest: Program, abi: ABI, lab: Lab) -> None:
    """Nothing of theirs fails without a reason; what passes, a property of ours checks too."""
    if lab.setup.bzimage or lab.setup.local:
        pytest.skip("a selftest is built from the kernel's tree, which is not at hand")
    if selftest.left_out:
        pytest.skip(f"{selftest.name}: {selftest.left_out}")
    release = kernels.parse_version(lab.target().hello.release)
    if release < selftest.since:
        pytest.skip(f"{selftest.name}: run since {selftest.since[0]}.{selftest.since[1]}")
    programs = run.build(lab, abi, selftest.target)
    if selftest.name in programs.missing:
        pytest.skip(f"{selftest.name} as {abi.name}: {programs.missing[selftest.name]}")
    contract = interfaces.load(selftest.interface)
    for _ in range(run.TIMES if selftest.timed else 1):
        found = run.run(lab, abi, selftest, programs.built[selftest.name])
        lab.verify_alive()
        judged = run.judge(found, program=selftest.name, abi=abi.name, version=release)
        wrong = run.problems(judged, contract=contract, abi=abi)
        if not wrong:
            break
    assert not wrong, "\n".join(wrong)
    assert any(one.case.number for one in judged), "it reported nothing"
