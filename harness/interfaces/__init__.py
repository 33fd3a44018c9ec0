# SPDX-License-Identifier: GPL-2.0-only
"""One module an interface: its contract, written as data."""

from __future__ import annotations

import importlib.util
import traceback
from pathlib import Path

from harness.contract import Contract
from vm.errors import HarnessError, UserError

HERE = Path(__file__).resolve().parent


def names() -> list[str]:
    """The interfaces that are here."""
    return sorted(path.stem for path in HERE.glob("[a-z]*.py"))


def load(named: str) -> Contract:
    """A contract by its name here, or out of a file of the user's.

    Either defines CONTRACT.  Raises UserError that says what is wrong, and in
    which line of the file.
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
    spec = importlib.util.spec_from_file_location(f"extsys_contract_{path.stem}", path)
    assert spec is not None  # it is given a path that ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except HarnessError as exc:
        raise UserError(f"{path}:{_line(exc, path)}: {exc}", hint=exc.hint) from exc
    except Exception as exc:  # the user's code may raise anything
        raise UserError(f"{path}:{_line(exc, path)}: {type(exc).__name__}: {exc}") from exc
    found = getattr(module, "CONTRACT", None)
    if not isinstance(found, Contract):
        raise UserError(f"{path}: defines no CONTRACT", hint="see docs/contract.md")
    return found


def _line(exc: BaseException, path: Path) -> int:
    """The line of the user's file in which it happened."""
    if isinstance(exc, SyntaxError):
        return exc.lineno or 0
    frames = traceback.extract_tb(exc.__traceback__)
    return next((f.lineno or 0 for f in reversed(frames) if f.filename == str(path)), 0)
