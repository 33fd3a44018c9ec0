# SPDX-License-Identifier: GPL-2.0-only
"""What the pages show is what there is: contracts load, commands and files exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness import interfaces
from harness.cli import cli
from vm.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/contract.md").read_text()
README = (ROOT / "README.md").read_text()
CONTRACTS = [
    block for block in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "CONTRACT" in block
]


@pytest.mark.parametrize("number", range(len(CONTRACTS)))
def test_a_contract_of_the_page_loads(number: int, tmp_path: Path) -> None:
    path = tmp_path / "my_contract.py"
    path.write_text(CONTRACTS[number])
    assert interfaces.load(str(path)).versions


def test_there_is_a_contract_on_the_page() -> None:
    assert CONTRACTS


def test_a_check_that_is_missing_is_said_as_the_page_says(tmp_path: Path) -> None:
    (block,) = CONTRACTS
    path = tmp_path / "my_contract.py"
    path.write_text(re.sub(r"\n +Tail\(.*\),", "", block))
    with pytest.raises(UserError, match="Tail must stand once among the checks") as caught:
        interfaces.load(str(path))
    assert re.search(r"my_contract\.py:\d+: contract sched_setattr", str(caught.value))


@pytest.mark.parametrize("text", [PAGE, README], ids=["contract.md", "README.md"])
def test_every_option_of_check_exists(text: str) -> None:
    lines = re.findall(r"^    extsys check (.*?)(?:  +#.*)?$", text, re.M)
    assert lines
    known = {option for param in cli.commands["check"].params for option in param.opts}
    used = {word for line in lines for word in line.split() if word.startswith("--")}
    assert used <= known


def test_every_path_on_the_map_exists() -> None:
    """The map's first column, folder by folder."""
    block = README.split("## The map of the house")[1].split("## ")[0]
    for line in re.findall(r"^    (\S+/)\s", block, re.M):
        assert (ROOT / line).is_dir(), line
    for name in re.findall(
        r"`((?:harness|vm|kernel-patches|docs|build/venv)/[\w./-]+\.\w+)`", README
    ):
        assert (ROOT / name).exists(), name
