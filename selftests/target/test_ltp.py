# SPDX-License-Identifier: GPL-2.0-only
"""LTP's tests of both samples, kernel-patches/ltp/, compiled and run where LTP is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from harness.lab import GUEST_DIR, Lab
from harness.plugin import LAB
from vm import ltp

if TYPE_CHECKING:
    from harness.interface import Interface

# With both samples, so once: `make at-test`, `make uml-test`.
pytestmark = pytest.mark.series("at")

#: One test, in seconds; libltp itself gives up after 30.
SECONDS = 60.0
#: What libltp says at its end, and what may not have happened.
SUMMARY = re.compile(r"^(passed|failed|broken|skipped|warnings) +(\d+)$", re.M)
NONE_OF = ("failed", "broken", "skipped", "warnings")
#: Shown as one test where there is no LTP.
ABSENT = "LTP"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One run for each test."""
    if "ltp_test" in metafunc.fixturenames:
        lab = metafunc.config.stash[LAB]
        names = [path.stem for path in ltp.tests(lab.selftests)]
        metafunc.parametrize("ltp_test", names if ltp.find(lab.setup.ltp) else [ABSENT])


@pytest.mark.prop("ltp")
def test_ltp(interface: Interface, lab: Lab, ltp_test: str) -> None:
    """Everything in it passes, and nothing is skipped."""
    if ltp_test == ABSENT:
        pytest.skip("no LTP here: LTP= names a tree in which its library is built")
    name = f"{ltp_test}-{interface.abi.name}"
    if name not in lab.ltp_tests:
        pytest.skip(f"no libltp for {interface.abi.name} in what LTP= names")
    ran = interface.target.execute([f"{GUEST_DIR}/{name}"], seconds=SECONDS)
    (lab.setup.report / f"ltp-{name}.txt").write_text(ran.output)
    counted = {word: int(number) for word, number in SUMMARY.findall(ran.output)}
    assert counted.get("passed"), ran.output
    assert not any(counted[word] for word in NONE_OF), ran.output
    assert ran.code == 0, ran
