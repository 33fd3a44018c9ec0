# SPDX-License-Identifier: GPL-2.0-only
"""Mutants: patches that put one fault into the sample, and say what has to notice it.

What is expected of a run stands in the patch itself, as trailers of its
message (git-interpret-trailers(1)); kernel-patches/mutants/README.md is their
reference.  A line that begins with a blank continues the one before.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.abi import ABIS
from harness.report.results import PROPERTIES
from vm import kernels, paths
from vm.errors import UserError, Verdict

#: What stands below a mutant when its patch does not say.
BASE = kernels.DEFAULT_VARIANT
#: What is run on a mutant when its patch does not say.
SUITE = "target"
#: All trailers, in their order, and whether each may be left out.
TRAILERS: Mapping[str, bool] = {
    "Mutant": False,
    "Fault": False,
    "On": True,
    "Suite": True,
    "Property": False,
    "Verdict": True,
    "Also": False,
    "Shows-in": False,
    "Modelled-on": False,
}
#: Verdicts with which a fault of the kernel's may show; the others are the machine's.
VERDICTS = ("FAIL", "OOPS", "PANIC", "BUILD")

_NAMES = tuple(one.name for one in ABIS)
_LINE = re.compile(r"([A-Z][A-Za-z-]*):[ \t]*(.*)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mutant:
    """One patch, and what its trailers say."""

    path: Path
    name: str  #: that of the file without .patch
    fault: str  #: what the kernel does wrong
    base: str  #: the series below it: a variant of the sample, or a directory beside it
    suite: str  #: which tests are run: a key of harness.mutants.suites.SUITES
    prop: str  #: the property that has to go red
    verdict: Verdict  #: how it has to go red
    shows_in: tuple[str, ...]  #: the ABIs in which it has to
    also: Mapping[str, tuple[str, ...]]  #: property → ABIs in which it may go red too
    modelled_on: str

    @property
    def kind(self) -> str:
        """Its number: several mutants may be of one kind."""
        return self.name.partition("-")[0]


def directory() -> Path:
    """Where the mutants are: in the checkout, or in the installed package."""
    places = (paths.VM.parent / "kernel-patches" / "mutants", paths.VM / "kernel_patches/mutants")
    return next((place for place in places if place.is_dir()), places[0])


def load_all(where: Path | None = None) -> list[Mutant]:
    """Every mutant of a directory, by name.  UserError when there is none."""
    place = where or directory()
    found = [load(path) for path in sorted(place.glob("*.patch"))]
    if not found:
        raise UserError(f"{place}: no mutants in it")
    return found


def choose(mutants: Sequence[Mutant], asked: Iterable[str]) -> list[Mutant]:
    """Those that are asked for, by number or name, several with commas; all for nothing.

    Raises UserError for one that there is not.
    """
    names = [name.strip() for one in asked for name in one.split(",") if name.strip()]
    for name in names:
        if not any(name in (one.kind, one.name) for one in mutants):
            raise UserError(
                f"MUTANT={name}: no such mutant",
                hint=f"known: {', '.join(one.name for one in mutants)}",
            )
    return [one for one in mutants if not names or one.kind in names or one.name in names]


def load(path: Path) -> Mutant:
    """Read one patch's trailers.  UserError names the file, the line and the trailer."""
    if not path.is_file():
        raise UserError(f"{path}: no such mutant")
    found = _trailers(path)
    for name, optional in TRAILERS.items():
        if name not in found and not optional:
            raise UserError(f"{path}: no trailer {name}:", hint="see kernel-patches/mutants/README")
    order = [name for name in TRAILERS if name in found]
    if [name for name in found if name in TRAILERS] != order:
        raise UserError(f"{path}: the trailers are not in the order {', '.join(order)}")
    text = {name: value for name, (_, value) in found.items()}
    where = {name: f"{path}:{line}: {name}" for name, (line, _) in found.items()}
    if text["Mutant"] != path.stem:
        raise UserError(f"{where['Mutant']}: {text['Mutant']}, in a file named {path.stem}")
    shows_in = _abis(text["Shows-in"].split(), where["Shows-in"])
    (prop,) = _properties([text["Property"]], where["Property"])
    verdict = text.get("Verdict", VERDICTS[0])
    if verdict not in VERDICTS:
        raise UserError(f"{where['Verdict']}: {verdict}: not one of {', '.join(VERDICTS)}")
    return Mutant(
        path=path,
        name=path.stem,
        fault=text["Fault"],
        base=text.get("On", BASE),
        suite=text.get("Suite", SUITE),
        prop=prop,
        verdict=Verdict[verdict],
        shows_in=shows_in,
        also=_also(text["Also"], shows_in, where["Also"]),
        modelled_on=text["Modelled-on"],
    )


def _trailers(path: Path) -> dict[str, tuple[int, str]]:
    """Trailer → the line that it is in, and its value: the message's last paragraph."""
    lines = path.read_text(errors="replace").splitlines()
    try:
        end = lines.index("---")
    except ValueError:
        raise UserError(f"{path}: no line `---` between message and diff") from None
    start = max((at for at in range(end) if not lines[at].strip()), default=end) + 1
    found: dict[str, tuple[int, str]] = {}
    last = ""
    for number, line in enumerate(lines[start:end], start + 1):
        if line[:1].isspace() and last:
            found[last] = (found[last][0], f"{found[last][1]} {line.strip()}")
        elif match := _LINE.fullmatch(line):
            last, value = match[1], match[2].strip()
            if last in found and last in TRAILERS:
                raise UserError(f"{path}:{number}: {last}: stands there twice")
            found[last] = (number, value)
        else:
            raise UserError(f"{path}:{number}: not a trailer: {line}")
    for name, (number, value) in found.items():
        if not value:
            raise UserError(f"{path}:{number}: {name}: is empty")
        if name not in TRAILERS and name != "Signed-off-by":
            raise UserError(
                f"{path}:{number}: {name}: no such trailer", hint=f"known: {', '.join(TRAILERS)}"
            )
    return found


def _properties(names: Sequence[str], where: str) -> Sequence[str]:
    for name in names:
        if name not in PROPERTIES:
            raise UserError(f"{where}: {name}: no such property")
    return names


def _abis(names: Sequence[str], where: str) -> tuple[str, ...]:
    for name in names:
        if name not in _NAMES:
            raise UserError(f"{where}: {name}: not one of {', '.join(_NAMES)}")
    return tuple(name for name in _NAMES if name in names)


def _also(text: str, shows_in: tuple[str, ...], where: str) -> Mapping[str, tuple[str, ...]]:
    """`P4 P12@m64,mx32`: properties, in the ABIs of Shows-in or in those behind the @."""
    if text == "none":
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for one in text.split():
        name, _, abis = one.partition("@")
        _properties([name], where)
        if name in found:
            raise UserError(f"{where}: {name}: stands there twice")
        found[name] = _abis(abis.split(","), where) if abis else shows_in
    return found
