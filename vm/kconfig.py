# SPDX-License-Identifier: GPL-2.0-only
"""Kconfig fragments whose every symbol states its reason, and what became of them.

A fragment (config/*.config) is what the kernel's own scripts/kconfig reads,
with one more rule: directly above each symbol stands a comment that says what
needs it.  Kconfig drops a symbol whose dependencies are not met without a
word; here every symbol that was asked for is looked up afterwards.

Among those comments `# since: 6.3` and `# until: 6.2` say which kernels have
the symbol, both included: one fragment serves all, and what is left out of a
kernel is left out by name.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vm import paths
from vm.errors import BuildError, UserError
from vm.kernels import Version

#: Where the project's own fragments are.
FRAGMENTS = paths.VM / "config"

_SET = re.compile(r"CONFIG_(\w+)=(.+)")
_UNSET = re.compile(r"# CONFIG_(\w+) is not set")
_OBJECTS = re.compile(r"# object-tree: ([\w-]+)")
_SPAN = re.compile(r"# (since|until): (\d+)\.(\d+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """One symbol as a fragment asks for it."""

    symbol: str  #: without CONFIG_
    value: str  #: as in a .config; "n" when it is not to be set
    reason: str
    where: str  #: "base.config:12"
    since: Version | None = None  #: the first kernel that has it; None: any
    until: Version | None = None  #: the last

    def holds(self, version: Version) -> bool:
        """Whether a kernel of ``version`` is asked for it."""
        return (self.since or version) <= version <= (self.until or version)

    @property
    def span(self) -> str:
        """The kernels that have it, for people: "since 6.3"."""
        ends = (("since", self.since), ("until", self.until))
        return " ".join(f"{word} {end[0]}.{end[1]}" for word, end in ends if end)

    @property
    def line(self) -> str:
        """The line of a .config that says the same."""
        if self.value == "n":
            return f"# CONFIG_{self.symbol} is not set"
        return f"CONFIG_{self.symbol}={self.value}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fragment:
    """The settings of one file."""

    name: str
    settings: tuple[Setting, ...]
    #: Name of an object tree of its own, when the fragment changes every
    #: object (a sanitizer): `# object-tree: NAME` in the file.
    objects: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lost:
    """A symbol that the final configuration has otherwise than asked."""

    setting: Setting
    found: str  #: the value that it has; "n" when it is not set

    def __str__(self) -> str:
        s = self.setting
        return f"CONFIG_{s.symbol}={s.value} became {self.found} ({s.where}: {s.reason})"


def find_fragment(name: str) -> Path:
    """The file of a fragment: one of the project's by name, or a user's by path.

    Raises UserError, naming those there are.
    """
    own = FRAGMENTS / f"{name}.config"
    if own.is_file():
        return own
    path = Path(name).expanduser()
    if path.is_file():
        return path
    known = ", ".join(sorted(path.stem for path in FRAGMENTS.glob("*.config")))
    raise UserError(f"{name}: no such Kconfig fragment", hint=f"a file, or one of: {known}")


def load_fragment(path: Path) -> Fragment:
    """Parse a fragment.

    Raises UserError, naming the line, for a symbol without a comment directly
    above it, for one that is set twice for the same kernel, and for a line that
    Kconfig would not understand.
    """
    settings: list[Setting] = []
    reason: list[str] = []
    span: dict[str, Version] = {}
    objects: str | None = None
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        where = f"{path.name}:{number}"
        match = _SET.fullmatch(line) or _UNSET.fullmatch(line)
        if match is None:
            if found := _OBJECTS.fullmatch(line):
                objects = found[1]
            elif found := _SPAN.fullmatch(line):
                span[found[1]] = (int(found[2]), int(found[3]))
            elif line.startswith("#"):
                reason.append(line.lstrip("# ").rstrip())
            elif line.strip():
                raise UserError(f"{where}: {line.strip()!r}: not a Kconfig setting")
            else:
                reason, span = [], {}
            continue
        symbol, value = match[1], match[2] if match.re is _SET else "n"
        if not any(reason):
            raise UserError(
                f"{where}: CONFIG_{symbol} has no reason",
                hint="put a comment directly above it that says what needs it",
            )
        asked = Setting(symbol=symbol, value=value, reason=" ".join(reason), where=where, **span)
        for other in settings:
            if other.symbol == symbol and _overlap(other, asked):
                raise UserError(f"{where}: CONFIG_{symbol} is set in {other.where} already")
        settings.append(asked)
        reason, span = [], {}
    return Fragment(name=path.stem, settings=tuple(settings), objects=objects)


def _overlap(one: Setting, other: Setting) -> bool:
    """Whether there can be a kernel that is asked for both."""
    ends = [setting.until for setting in (one, other) if setting.until]
    starts = [setting.since for setting in (one, other) if setting.since]
    return not (ends and starts) or max(starts) <= min(ends)


def merge(fragments: Iterable[Fragment], version: Version) -> tuple[Setting, ...]:
    """All settings for a kernel of ``version``, by symbol, a later fragment's over an earlier's."""
    merged = {s.symbol: s for fragment in fragments for s in fragment.settings if s.holds(version)}
    return tuple(merged[symbol] for symbol in sorted(merged))


def left_out(fragments: Iterable[Fragment], version: Version) -> tuple[Setting, ...]:
    """The settings that a kernel of ``version`` is not asked for."""
    return tuple(s for fragment in fragments for s in fragment.settings if not s.holds(version))


def text(settings: Sequence[Setting]) -> str:
    """The settings as one fragment, for KCONFIG_ALLCONFIG; no reasons in it."""
    return "".join(f"{setting.line}\n" for setting in settings)


def values(config: str) -> Mapping[str, str]:
    """Every symbol that the text of a .config sets, and its value."""
    found = (_SET.fullmatch(line) for line in config.splitlines())
    return {match[1]: match[2] for match in found if match}


def lost(settings: Sequence[Setting], config: str) -> tuple[Lost, ...]:
    """The settings that the text of a .config does not have as asked."""
    have = values(config)
    pairs = ((setting, have.get(setting.symbol, "n")) for setting in settings)
    return tuple(Lost(setting=s, found=found) for s, found in pairs if s.value != found)


def check(settings: Sequence[Setting], config: str) -> None:
    """Raise BuildError, naming each, when a setting did not survive."""
    if gone := lost(settings, config):
        raise BuildError(
            f"{len(gone)} Kconfig symbol(s) did not survive olddefconfig: "
            + "; ".join(map(str, gone)),
            hint="what it depends on is not set, or the kernel has no such symbol",
        )
