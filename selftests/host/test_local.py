# SPDX-License-Identifier: GPL-2.0-only
"""A run on this machine's own kernel: what it may do, and what it leaves out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import interfaces, layout, local
from harness.abi import ABIS
from harness.layout import Compiler
from vm.errors import BuildError

HEADERS = Compiler(headers=None)


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", "check", *words],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="another user has no capability to give up")
def test_root_gives_up_its_capabilities() -> None:
    """For good: those that a program of root's would be given again are out of its bounds."""
    again = ("sh", "-c", "cat /proc/self/status")
    said = subprocess.run(
        local.unprivileged(again), capture_output=True, text=True, check=True
    ).stdout
    masks = {
        name: int(value, 16)
        for name, _, value in (line.partition(":") for line in said.splitlines())
        if name.startswith("Cap")
    }
    assert masks == dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0)


def test_others_run_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert local.unprivileged(["true"]) == ["true"]


def test_the_headers_version_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = local.headers_version(HEADERS)
    assert headers > (4, 0)

    class Same:
        release = f"{headers[0]}.{headers[1]}.7-some"

    class Other:
        release = "9.9.0"

    monkeypatch.setattr(os, "uname", Same)
    assert local.age(HEADERS) is None
    monkeypatch.setattr(os, "uname", Other)
    assert "the kernel is 9.9: what only one of them knows" in (local.age(HEADERS) or "")


def test_what_is_left_out_is_said() -> None:
    several = interfaces.load_several("openat2,mount_setattr,xyzzy")
    found = local.left_out(several, HEADERS)
    assert found["mount_setattr"].startswith("it needs root: CAP_SYS_ADMIN")
    assert found["xyzzy"] == "the headers have no struct xyzzy_params, or no __NR_xyzzy"
    try:
        layout.number(HEADERS, ABIS[0], "__NR_openat2")
    except BuildError:
        pytest.skip("this machine's headers are older than openat2")
    assert "openat2" not in found


def test_nothing_to_try_is_a_users_mistake() -> None:
    done = run("mount_setattr", "--local")
    assert done.returncode == 2
    assert "left out: mount_setattr: it needs root" in done.stderr
    assert done.stderr.endswith("can be tried on this machine's own kernel\n")
    assert "Traceback" not in done.stderr


def test_the_others_are_tried(tmp_path: Path) -> None:
    """Names and files of a list, without those that cannot be tried."""
    path = tmp_path / "mine.py"
    path.write_text(Path(interfaces.HERE / "openat2.py").read_text())
    words = ("--local", "--abi", "m64", "--report", tmp_path, "--", "--collect-only")
    done = run(f"mount_setattr,{path}", *words)
    assert "left out: mount_setattr" in done.stderr
    assert "test_contract[P1-every-size-m64]" in done.stdout
    assert "mount_setattr" not in done.stdout
