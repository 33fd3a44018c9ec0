# SPDX-License-Identifier: GPL-2.0-only
"""Callers on this machine's own kernel, as fixtures; see hosttarget.py.

A test that takes ``here`` runs once for each ABI that this kernel executes.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import hosttarget
import hypothesis
import pytest

from harness import target as targets
from harness.abi import ABIS
from harness.caller import build
from harness.caller.build import Programs
from harness.target import Target

#: The same examples in every run, and no time limit that a loaded machine breaks.
hypothesis.settings.register_profile("host", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("host")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One run for each ABI that this machine can execute."""
    if "here" in metafunc.fixturenames:
        metafunc.parametrize("here", hosttarget.running(), ids=lambda abi: abi.name)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> Iterator[None]:
    """SIGINT as at a terminal: a script's background job is started with it ignored, and waits."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """The agent and a caller for every ABI, built from the sources as they are."""
    cache = tmp_path_factory.mktemp("callers")
    return build.build(ABIS, compiler=hosttarget.COMPILER, cache=cache)


@pytest.fixture(scope="module")
def local(programs: Programs) -> Iterator[Target]:
    """This machine's kernel, with an agent of the module's own."""
    with targets.local(programs.agent, programs.callers) as target:
        yield target
