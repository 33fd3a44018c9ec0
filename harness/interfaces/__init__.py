# SPDX-License-Identifier: GPL-2.0-only
"""One module an interface: its contract, written as data."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
import traceback
import types
from collections.abc import Sequence
from pathlib import Path

from harness import layout as layouts
from harness.abi import ABIS
from harness.contract import Contract, Fills, SizeField, fields_of
from harness.layout import Compiler
from vm import proc
from vm.errors import HarnessError, LateError, UserError

#: Those that no kernel has but ours.
SAMPLES = ("xyzzy", "xyzzyat")
HERE = Path(__file__).resolve().parent
#: For a user's file to define its contract, in seconds; that takes milliseconds.
LOAD_SECONDS = 10.0


class _Fresh(importlib.machinery.SourceFileLoader):
    """Leaves no bytecode beside a user's file.

    Bytecode is told from stale bytecode by the file's size and the second of
    its last change: one digit changed soon after a run would not be seen.
    """

    def set_data(self, path: str, data: object, *, _mode: int = 0o666) -> None:
        """Write nothing."""


def names() -> list[str]:
    """The interfaces that are here."""
    return sorted(path.stem for path in HERE.glob("[a-z]*.py"))


def own() -> list[str]:
    """Linux's own: all but the samples."""
    return [name for name in names() if name not in SAMPLES]


def families(named: str) -> tuple[tuple[Contract, ...], ...]:
    """Interfaces by names with commas, or all that are here: each as family() has it."""
    wanted = names() if named == "all" else [one.strip() for one in named.split(",")]
    return tuple(family(one) for one in dict.fromkeys(wanted) if one)


def load_several(named: str) -> tuple[Contract, ...]:
    """The same, each as load() has it."""
    return tuple(one[0] for one in families(named))


def load(named: str) -> Contract:
    """A contract by its name here, or out of a file of the user's.

    Either defines CONTRACT.  Raises UserError that says what is wrong, and in
    which line of the file.
    """
    return family(named)[0]


def family(named: str) -> tuple[Contract, ...]:
    """The same, and behind it the contracts of each version, if it defines CONTRACTS.

    Those are one interface as it grew: which of them a kernel has to keep is
    told by the size of its struct.  Raises UserError as load() does.
    """
    path = Path(named).expanduser()
    if not named.endswith(".py"):
        path = HERE / f"{named}.py"
        if not path.is_file():
            raise UserError(
                f"no interface {named!r}", hint=f"known: {', '.join(names())}; or a file FILE.py"
            )
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.resolve().parent != HERE:
        _check_that_it_ends(path)
    try:
        module = execute(path)
    except HarnessError as exc:
        raise UserError(f"{path}:{_line(exc, path)}: {exc}", hint=exc.hint) from exc
    except Exception as exc:  # the user's code may raise anything
        raise UserError(f"{path}:{_line(exc, path)}: {type(exc).__name__}: {exc}") from exc
    found = getattr(module, "CONTRACT", None)
    if not isinstance(found, Contract):
        raise UserError(f"{path}: defines no CONTRACT", hint="see docs/contract.md")
    versions = getattr(module, "CONTRACTS", ())
    if not all(isinstance(one, Contract) and one.name == found.name for one in versions):
        raise UserError(f"{path}: CONTRACTS has something else than versions of {found.name}")
    for one in (found, *versions):
        try:
            _check_fields(one)
        except UserError as exc:
            raise UserError(f"{path}: {exc}", hint=exc.hint) from exc
    return (found, *versions)


def execute(path: Path) -> types.ModuleType:
    """The module that a contract's file makes; whatever it raises comes through."""
    name = f"extsys_contract_{path.stem}"
    loader = _Fresh(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None  # it is given a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks itself up there
    loader.exec_module(module)
    return module


def _check_that_it_ends(path: Path) -> None:
    """Refuse a user's file that loops for ever.  UserError.

    It is executed once by another process, which can be ended whatever it is
    at.  What else is wrong with it is told when it is loaded.
    """
    text = "import pathlib; from harness import interfaces as i; i.execute(pathlib.Path({!r}))"
    try:
        proc.run(
            [sys.executable, "-c", text.format(str(path.resolve()))],
            timeout=LOAD_SECONDS,
            env={"PYTHONPATH": os.pathsep.join(one or str(Path.cwd()) for one in sys.path)},
            check=False,
            quiet=True,
        )
    except LateError as exc:
        raise UserError(
            f"{path}: not loaded within {LOAD_SECONDS:g} s",
            hint="a contract is data: does it loop, or wait for something?",
        ) from exc


def _check_fields(contract: Contract) -> None:
    """Refuse a contract whose words are of fields that its declaration has not.  UserError."""
    fields = {one.name: one for one in layouts.declared(contract.declaration, contract.struct)}
    known = {*fields, contract.rest}
    where, effect = contract.size, contract.effect
    used = [(type(one).__name__, name) for one in contract.checks for name in fields_of(one)]
    used += [("example", name) for name in contract.example]
    if isinstance(where, SizeField):
        used.append(("SizeField", where.field))
    used += [("layouts", name) for laid in contract.layouts.values() for name in laid.fields]
    if isinstance(effect, Fills):
        used += [("Fills", name) for name in effect.fields]
    for word, name in used:
        if name not in known:
            raise UserError(
                f"contract {contract.name}: {word} names a field {name!r}, which "
                f"{contract.tag} has not",
                hint=f"it has {', '.join(fields)}",
            )
    if isinstance(where, SizeField) and not layouts.has_attributes(contract.declaration):
        field = fields[where.field]
        if (field.offset, field.size) != (where.offset, where.width):
            raise UserError(
                f"contract {contract.name}: SizeField is at {where.offset}, {where.width} bytes; "
                f"{where.field} is declared at {field.offset}, {field.size} bytes"
            )
    for name, value in contract.example.items():
        bits = 8 * fields[name].size if name in fields else 64
        if not -(1 << bits - 1) <= value < 1 << bits:
            raise UserError(
                f"contract {contract.name}: example has {name} = {value:#x}, "
                f"which needs more than its {bits // 8} bytes"
            )


def of_size(several: Sequence[Contract], ksize: int) -> Contract:
    """Of several versions the one for a kernel whose struct has ``ksize`` bytes.

    That of the last version that is not longer: what a kernel has beyond it no
    contract here says, and `Contract.version_of` refuses.
    """
    known = [one for one in several if one.versions[-1].size <= ksize]
    return max(known or several[:1], key=lambda one: one.versions[-1].size)


def for_kernel(several: Sequence[Contract], compiler: Compiler) -> Contract:
    """Of several versions the one for the kernel whose headers the compiler has.

    Raises BuildError when these do not have the struct.
    """
    first = several[0]
    if len(several) == 1:
        return first
    found = layouts.constants(
        compiler,
        ABIS[0],
        includes=(first.header,),
        expressions={"ksize": f"sizeof({layouts.tag(first.struct)})"},
    )
    return of_size(several, found["ksize"])


def _line(exc: BaseException, path: Path) -> int:
    """The line of the user's file in which it happened."""
    if isinstance(exc, SyntaxError):
        return exc.lineno or 0
    frames = traceback.extract_tb(exc.__traceback__)
    return next((f.lineno or 0 for f in reversed(frames) if f.filename == str(path)), 0)
