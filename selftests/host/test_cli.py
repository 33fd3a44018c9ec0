# SPDX-License-Identifier: GPL-2.0-only
"""harness.cli: how a run ends that is told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

#: A command of the real command line that waits for a child which ends by itself much later.
WAITING = """\
import sys

from harness import cli
from vm import proc


@cli.cli.command()
def waiting() -> None:
    proc.run(["sh", "-c", "echo $$ > {flag}; sleep 300; true"], timeout=400)


sys.argv[1:] = ["waiting"]
cli.main()
"""


def there(group: int) -> bool:
    """Whether a process group has anybody in it."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_what_was_started_ends_with_it(tmp_path: Path, how: signal.Signals) -> None:
    flag = tmp_path / "pid"
    script = tmp_path / "waiting.py"
    script.write_text(WAITING.format(flag=flag))
    child = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 30
        while not (flag.exists() and flag.read_text().endswith("\n")):
            assert child.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        child.send_signal(how)
        said = child.communicate(timeout=30)[1]
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 128 + how
    assert "Traceback" not in said
    # What was ended is there until init has reaped it.
    end = time.monotonic() + 10
    while there(int(flag.read_text())):
        assert time.monotonic() < end
        time.sleep(0.02)
