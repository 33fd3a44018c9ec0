# SPDX-License-Identifier: GPL-2.0-only
"""What the pages show is what there is: contracts load, commands, lines and files exist."""

from __future__ import annotations

import inspect
import re
import shlex
import textwrap
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from harness import batteries, contract, interfaces
from harness.battery import ELSEWHERE
from harness.cli import cli
from harness.contract import Contract
from harness.report.results import PROPERTIES
from vm.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.M | re.S)
COMMANDS = re.findall(r"^    (extsys .*)$", TEXT + README, re.M)
#: Rows of the page's tables, each as its cells.
ROWS = [
    [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith("| ---")
]
#: The classes that a contract is made of.
WORDS = {
    name
    for name, value in inspect.getmembers(contract, inspect.isclass)
    if value.__module__ == contract.__name__
}
#: The page's first, into which its mistakes are made.
SMALLEST = next(block for block in BLOCKS if "sched_setattr" in block)


def save(directory: Path, text: str) -> Path:
    path = directory / "my_contract.py"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("block", BLOCKS, ids=lambda text: re.findall(r'name="(\w+)"', text)[0])
def test_each_contract_of_the_page_loads(block: str, tmp_path: Path) -> None:
    assert isinstance(interfaces.load(str(save(tmp_path, block))), Contract)


def test_the_page_shows_both_places_of_a_size(tmp_path: Path) -> None:
    found = {type(interfaces.load(str(save(tmp_path, block))).size) for block in BLOCKS}
    assert found == {contract.SizeField, contract.SizeArg}


def test_every_word_is_on_the_page() -> None:
    missing = [word for word in sorted(WORDS) if not re.search(rf"\b{word}\(", TEXT)]
    assert not missing


def test_every_example_of_a_word_is_one() -> None:
    """`Word(…)` in a table's first or second cell can be written so."""
    names = {name: getattr(contract, name) for name in (*WORDS, "PAGE")} | {"E2BIG": 7}
    examples = [
        one
        for row in ROWS
        for cell in row
        for one in re.findall(r"`([A-Z][A-Za-z]+\([^`]*\))`", cell)
        if one.partition("(")[0] in WORDS and "…" not in one and one != "UnknownFlags(2)"
    ]
    assert len(examples) > 20
    for one in examples:
        made = eval(one, {"__builtins__": {}}, names)
        assert type(made).__name__ in WORDS


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_is_understood(line: str) -> None:
    argv = shlex.split(line, comments=True)[1:]
    command = cli.get_command(click.Context(cli), argv[0])
    assert command is not None, f"there is no command {argv[0]}"
    words = argv[1:]
    own = words[: words.index("--")] if "--" in words else words
    known = {option for one in command.params for option in one.opts}
    assert {word for word in own if word.startswith("--")} <= known
    for word in own:
        assert not word.startswith("-") or word in known, f"{argv[0]} has no option {word}"


@pytest.mark.parametrize("option", re.findall(r"`(--[a-z][a-z-]+)", TEXT))
def test_each_option_in_the_text_is_one_of_check(option: str) -> None:
    command = cli.get_command(click.Context(cli), "check")
    assert command is not None
    assert option in {one for parameter in command.params for one in parameter.opts}


def test_the_help_names_the_options_that_the_page_names() -> None:
    shown = CliRunner().invoke(cli, ["check", "--help"]).output
    for option in ("--local", "--kernel-tree", "--bzimage", "--headers", "--patch", "--battery"):
        assert option in shown
        assert option in TEXT


def test_every_property_that_is_tried_is_on_the_page() -> None:
    shown = {row[0].partition(" ")[0] for row in ROWS}
    items = {item.prop for item in batteries.BATTERY}
    assert items <= shown
    assert not {one for one in shown if re.fullmatch(r"P\d+", one)} - set(PROPERTIES)
    assert not shown & set(ELSEWHERE), "what the battery does not try is not said to be tried"


def test_each_mistake_gives_the_line_of_the_page(tmp_path: Path) -> None:
    """The page's mistakes, made in its own smallest contract."""
    mistakes = {
        "a check left out": ("        Tail(errno=E2BIG, writes_size=True),\n", ""),
        "a field judged above `Copy()`": (
            "        Copy(),\n",
            '        AtMost(field="sched_policy", maximum=7),\n        Copy(),\n',
        ),
        "`UnknownFlags` of an argument that is no `Flags`": ("(arg=2)", "(arg=1)"),
        "a minimum above the first version": ("minimum=48", "minimum=56"),
        "a field misspelt": ('"sched_priority"', '"sched_prio"'),
        "the size elsewhere": ("offset=0, width=4", "offset=4, width=4"),
        "an example of no field": ("example={}", 'example={"sched_police": 1}'),
        "words without their names: `UnknownFlags(2)`": ("UnknownFlags(arg=2)", "UnknownFlags(2)"),
        "the file defines something else": ("CONTRACT =", "OTHER ="),
    }
    lines = {row[0]: row[1].strip("`") for row in ROWS if len(row) == 2}
    for mistake, (right, wrong) in mistakes.items():
        assert right in SMALLEST
        path = save(tmp_path, SMALLEST.replace(right, wrong, 1))
        with pytest.raises(UserError) as caught:
            interfaces.load(str(path))
        assert str(caught.value) == lines[mistake].replace("my_contract.py", str(path)), mistake


@pytest.mark.parametrize(
    "loop",
    ["while True:\n    pass", "sum(range(10**15))", "import time; time.sleep(10**6)"],
    ids=["in Python", "in C", "asleep"],
)
def test_a_contract_that_does_not_end(
    loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is at, and whatever it does about exceptions: one line, and in time."""
    body = textwrap.indent(loop, "        ")
    text = f"while True:\n    try:\n{body}\n    except BaseException:\n        pass\n"
    path = save(tmp_path, SMALLEST + text)
    lines = {row[0]: row[1].strip("`") for row in ROWS if len(row) == 2}
    wanted = lines["a loop that does not end"].replace("my_contract.py", str(path))
    monkeypatch.setattr(interfaces, "LOAD_SECONDS", 1.0)
    with pytest.raises(UserError) as caught:
        interfaces.load(str(path))
    assert str(caught.value) == wanted.replace("10 s", "1 s")
    assert wanted.endswith("within 10 s")


def test_every_path_on_the_map_exists() -> None:
    """The map of the README: its folders, and the files that its text names."""
    block = README.split("## The map of the house")[1].split("## ")[0]
    folders = re.findall(r"^    (\S+/)\s", block, re.M)
    assert folders
    for name in folders:
        assert (ROOT / name).is_dir(), name
    files = r"`((?:harness|vm|kernel-patches|docs|build/venv)/[\w./-]+\.\w+)`"
    for name in re.findall(files, README + TEXT):
        assert (ROOT / name).exists(), name
