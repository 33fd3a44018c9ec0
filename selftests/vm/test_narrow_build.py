# SPDX-License-Identifier: GPL-2.0-only
"""vm/narrow.py on a real kernel: what it links is what a make that looks everywhere would link."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path

import pytest

from harness.lab import Lab
from vm import build, cache, narrow, paths
from vm.build import Built

MUTANTS = paths.VM.parent / "kernel-patches" / "mutants"
#: Of kernel/xyzzy.c, each.
EDITS = ("03-page-refused.patch", "04-no-upper-bound.patch")
#: What make says of each file that it makes; of a makefile's own it says nothing.
_MADE = re.compile(r"^  (CC|AS|AR|LD|HOSTCC|LDS|SYSTBL|SYSHDR|OBJCOPY)\s+(\S+)", re.M)
#: For a make that looks everywhere and finds nothing to do, in seconds.
SECONDS = 300.0


def made(log: str) -> set[str]:
    """The objects that a make's log has, but for those of linking."""
    return {name for how, name in _MADE.findall(log) if how == "CC"}


@pytest.fixture(name="edited", scope="module")
def _edited(lab: Lab) -> Built:
    """A kernel of which one file was edited since another was built in its place."""
    if lab.setup.bzimage or lab.setup.kernel_tree:
        pytest.skip("the edits are for the sources that we build ourselves")
    for name in EDITS:
        order = Lab(dataclasses.replace(lab.setup, patches=(MUTANTS / name,))).order
        build.forget(order)
        built = order.fill()
    return built


def test_nothing_is_left_to_be_made(edited: Built) -> None:
    log = (edited.directory / "make.log").read_text()
    assert made(log) == {"kernel/xyzzy.o"}
    assert "subdir-ym=" in log
    objects = Path(edited.record["objects"])
    image = objects / narrow.GOAL
    before = cache.sha256_file(image)
    again = subprocess.run(
        edited.record["command"], capture_output=True, text=True, check=True, timeout=SECONDS
    )
    assert _MADE.findall(again.stdout) == []
    assert cache.sha256_file(image) == before


def test_the_image_is_the_one_of_a_make_that_looks_everywhere(edited: Built) -> None:
    objects = Path(edited.record["objects"])
    before = cache.sha256_file(objects / narrow.GOAL)
    for name in ("built-in.a", "vmlinux.a", "vmlinux.o", "vmlinux", "kernel/built-in.a"):
        (objects / name).unlink()
    (objects / "kernel" / "xyzzy.o").unlink()
    done = subprocess.run(
        edited.record["command"], capture_output=True, text=True, check=True, timeout=SECONDS
    )
    assert made(done.stdout) == {"kernel/xyzzy.o"}
    assert cache.sha256_file(objects / narrow.GOAL) == before
