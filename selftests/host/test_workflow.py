# SPDX-License-Identifier: GPL-2.0-only
"""The GitHub workflow: by its schema, and against the project it runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WORKFLOW = ROOT / ".github" / "workflows" / "vm-test.yml"
TEXT = WORKFLOW.read_text()


def check(path: Path) -> subprocess.CompletedProcess[str]:
    """check-jsonschema with the schema that it carries: no network."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema"),
            *("--builtin-schema", "vendor.github-workflows", path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


def test_schema() -> None:
    done = check(WORKFLOW)
    assert done.returncode == 0, done.stdout + done.stderr


def test_schema_would_notice(tmp_path: Path) -> None:
    broken = tmp_path / "vm-test.yml"
    broken.write_text(TEXT.replace("runs-on:", "run-on:", 1))
    assert check(broken).returncode == 1


def test_it_types_what_a_person_types() -> None:
    targets = re.findall(r"run: make (\S+)", TEXT)
    assert targets == ["host-test", "kernel", "vm-test"]
    makefile = (ROOT / "Makefile").read_text()
    for target in targets:
        assert f"\n{target}: ## " in makefile


def test_every_file_in_the_caches_key_exists() -> None:
    (listed,) = re.findall(r"hashFiles\((.*)\)", TEXT)
    patterns = re.findall(r"'([^']+)'", listed)
    assert len(patterns) > 5
    for pattern in patterns:
        assert any(path.is_file() for path in ROOT.glob(pattern.replace("**", "**/*"))), pattern


def test_actions_are_pinned_and_jobs_end() -> None:
    uses = re.findall(r"uses: (\S+)", TEXT)
    assert all(re.fullmatch(r"actions/[\w/-]+@v\d+", action) for action in uses)
    assert TEXT.count("runs-on: ubuntu-24.04") == TEXT.count("timeout-minutes:") == 2
    assert "\npermissions:\n  contents: read\n" in TEXT
