# SPDX-License-Identifier: GPL-2.0-only
"""The series' own kselftests, run in the guest in three ABIs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.lab import GUEST_DIR, Lab
from harness.plugin import LAB
from harness.report import ktap
from harness.target import LateError

if TYPE_CHECKING:
    from harness.batteries import Level
    from harness.interface import Interface

#: The whole selftest, in seconds; it takes two under TCG, and has taken more than a
#: minute with KASAN on a loaded machine.  Where it has a fault to find it is not waited
#: for as long: it may be what hangs.
SECONDS, BRIEF_SECONDS = 180.0, 20.0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One run for each selftest that the variant's series bring."""
    if "selftest" in metafunc.fixturenames:
        metafunc.parametrize("selftest", metafunc.config.stash[LAB].selftests)


@pytest.mark.prop("kselftest")
def test_kselftest(interface: Interface, lab: Lab, level: Level, selftest: str) -> None:
    """Its KTAP is well formed, nothing fails, nothing is skipped."""
    if lab.setup.bzimage:
        pytest.skip("the selftest is built from the kernel's tree; this one was built elsewhere")
    name = f"{selftest}_test_{interface.abi.suffix}"
    assert name in lab.kselftests, f"the series builds no {name}"
    seconds = BRIEF_SECONDS if level.brief else SECONDS
    try:
        ran = interface.target.execute([f"{GUEST_DIR}/{name}"], seconds=seconds)
    except LateError as exc:  # the guest answers: what hangs is the selftest
        pytest.fail("\n".join(exc.lines()))
    (lab.setup.report / f"kselftest-{selftest}-{interface.abi.name}.ktap").write_text(ran.output)
    parsed = ktap.parse(ran.output)
    assert parsed.problems == ()
    assert parsed.cases
    bad = [f"{case.name}: {' / '.join(case.lines)}" for case in parsed.failed]
    assert not bad, "\n".join(bad)
    assert parsed.skipped == ()
    assert ran.code == 0, ran
