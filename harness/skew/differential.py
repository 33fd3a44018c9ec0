# SPDX-License-Identifier: GPL-2.0-only
"""The same calls on two kernels: what differs is listed, and only the declared may.

No contract and no model is asked: outcomes are compared with outcomes.  What is
allowed to differ between two versions is data, in differences.toml.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import sweep
from harness.abi import ABI
from harness.contract import PAGE, Contract
from harness.interface import SWEEP_DEADLINE_MS, Interface
from harness.layout import Layout
from harness.program import SCRATCH, Address, ResultOf, encode_op
from harness.skew import matrix
from harness.skew.results import Pair
from harness.sweep import Dim, Kind, Point, Row, Seen, Sweep
from harness.wire import lib
from vm.errors import InfraError

TABLE = Path(__file__).resolve().parent / "differences.toml"
#: Sizes up to this one have each of their bits flipped, in bytes: beyond any version.
LAST = 64
BITS = Dim(kind=Kind.BIT, start=0, stop=8)


def rules(contract: Contract, layout: Layout, abi: ABI) -> dict[str, Sweep]:
    """The calls, by name: the same for every kernel.

    ``contract`` and ``layout`` are the newest version's; they only say which
    bytes take time or depend on which processes there are.
    """
    first = contract.versions[0].size
    template = bytes(layout.new(**contract.example))[:first]
    found = {"every size": Sweep(dims=(Dim(kind=Kind.USIZE, start=0, stop=PAGE + 9),))}
    for start, stop in (*matrix.spans(contract, layout), (layout.size, LAST)):
        span = Dim(kind=Kind.BYTE, start=start, stop=stop)
        sizes = Dim(kind=Kind.USIZE, start=max(first, stop), stop=LAST + 1)
        found[f"bytes {start} to {stop - 1}"] = Sweep(dims=(sizes, span, BITS))
    for arg in contract.flags_args:
        bits = Dim(kind=Kind.ARG_BIT, index=arg, start=0, stop=abi.register)
        found[f"bits of argument {arg}"] = Sweep(dims=(bits,), usize=first)
    return {name: dataclasses.replace(one, template=template) for name, one in found.items()}


# Recorded.


def record(interface: Interface, several: Mapping[str, Sweep]) -> dict[str, list[Row]]:
    """Make the calls on one kernel."""
    payloads = {
        name: sweep.encode(
            rule,
            interface.contract,
            number=interface.number(interface.contract.number, rule.way),
            before=[],
            after=_after(interface),
            deadline_ms=SWEEP_DEADLINE_MS,
        )
        for name, rule in several.items()
    }
    return {name: list(interface.caller.sweep(data).rows) for name, data in payloads.items()}


def _after(interface: Interface) -> list[bytes]:
    """Read the record into the first version's struct, and close."""
    length = interface.contract.versions[0].size
    buffer = Address(SCRATCH, 0)
    fill = encode_op(kind=lib.WIRE_OP_FILL, args=(buffer, length, sweep.BUFFER_FILL))
    get = encode_op(
        kind=lib.WIRE_OP_SYSCALL, nr=interface.number("read"), args=(ResultOf(0), buffer, length)
    )
    show = encode_op(kind=lib.WIRE_OP_READ, args=(buffer, length))
    end = encode_op(kind=lib.WIRE_OP_SYSCALL, nr=interface.number("close"), args=(ResultOf(0),))
    return [fill, get, show, end]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recording:
    """What one kernel did with the calls, and which these were."""

    age: str  #: the kernel's name in the matrix
    version: str  #: of the struct, that the kernel knows
    abi: str
    fields: Mapping[str, tuple[int, int]]  #: of the newest version: name → (offset, end), bytes
    sizes: Mapping[str, int]  #: version → bytes
    rules: Mapping[str, Sweep]
    rows: Mapping[str, Sequence[Row]]

    @property
    def calls(self) -> int:
        return sum(row.count for rows in self.rows.values() for row in rows if row.canary is None)

    def to_json(self) -> str:
        """As it is kept beside a report, so that kernels of several runs can be compared."""
        rules = {name: _rule_to_json(rule) for name, rule in self.rules.items()}
        rows = {name: [dataclasses.asdict(row) for row in one] for name, one in self.rows.items()}
        plain = {name: getattr(self, name) for name in ("age", "version", "abi", "fields", "sizes")}
        return json.dumps({**plain, "rules": rules, "rows": rows})

    @classmethod
    def from_json(cls, text: str) -> Recording:
        """The opposite of ``to_json``.  Raises ValueError for anything else."""
        try:
            kept = json.loads(text)
            kept["fields"] = {name: tuple(span) for name, span in kept["fields"].items()}
            kept["rules"] = {name: _rule_of_json(rule) for name, rule in kept["rules"].items()}
            kept["rows"] = {
                name: [Row(**{**row, "seen": Seen(**row["seen"])}) for row in rows]
                for name, rows in kept["rows"].items()
            }
            return cls(**kept)
        except (TypeError, KeyError, AttributeError) as exc:
            raise ValueError(f"no recording: {exc}") from exc


def _rule_to_json(rule: Sweep) -> dict[str, Any]:
    dims = [{**dataclasses.asdict(dim), "kind": dim.kind.name} for dim in rule.dims]
    return {"dims": dims, "usize": rule.usize, "template": rule.template.hex()}


def _rule_of_json(kept: dict[str, Any]) -> Sweep:
    dims = tuple(Dim(**{**dim, "kind": Kind[dim["kind"]]}) for dim in kept["dims"])
    return Sweep(dims=dims, usize=kept["usize"], template=bytes.fromhex(kept["template"]))


# Compared.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Declared:
    """A difference that may be, and must be."""

    between: tuple[str, str]
    what: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    why: str
    nonzero: tuple[str, ...] = ()  #: fields; none: any call

    def covers(self, one: Difference, new: Recording) -> bool:
        """Whether it is this difference; ``new`` is what the newer kernel did."""
        spans = [new.fields[name] for name in self.nonzero]
        inside = [start <= at < stop for start, stop in spans for at in one.nonzero]
        if self.nonzero and not any(inside):
            return False
        old = [text.format(**new.sizes) for text in self.old]
        return one.old in old and one.new in [text.format(**new.sizes) for text in self.new]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """One call, or neighbouring ones, with other outcomes on two kernels."""

    rule: str
    first: str
    last: str
    count: int
    old: str
    new: str
    nonzero: tuple[int, ...]  #: the byte that is flipped, when it is within the call's size

    def __str__(self) -> str:
        span = self.first if self.count == 1 else f"{self.first} … {self.last}"
        return f"{self.count:,} of {self.rule}: {span}: {self.old} → {self.new}"


@functools.cache
def declared(table: Path = TABLE) -> tuple[Declared, ...]:
    """The table.  Raises InfraError when it, a part of this project, is damaged."""
    try:
        return tuple(_row(row) for row in tomllib.loads(table.read_text())["difference"])
    except (KeyError, TypeError, ValueError) as exc:
        raise InfraError(f"{table}: not a table of differences: {exc}") from exc


def _row(row: dict[str, Any]) -> Declared:
    older, newer = row["between"]
    old, new = (
        (row[name],) if isinstance(row[name], str) else tuple(row[name]) for name in ("old", "new")
    )
    return Declared(
        between=(older, newer),
        what=row["what"],
        old=old,
        new=new,
        why=row["why"],
        nonzero=tuple(row.get("nonzero", ())),
    )


def _expanded(rows: Iterable[Row]) -> Iterator[tuple[Seen, int | None]]:
    for row in rows:
        if row.canary is None:
            for _ in range(row.count):
                yield row.seen, None
        else:
            yield row.seen, row.canary


def differences(old: Recording, new: Recording, contract: Contract) -> list[Difference]:
    """Where two kernels' outcomes differ, neighbouring calls of one kind as one.

    Raises InfraError when the two were not given the same calls.
    """
    if old.rules != new.rules:
        raise InfraError(
            f"{old.age} and {new.age} were not given the same calls as {new.abi}",
            hint="the two runs are of different versions of this project",
        )
    found: list[Difference] = []
    for name, rule in new.rules.items():
        found += _differences(name, rule, old.rows[name], new.rows[name], contract)
    return found


def compare(
    old: Recording, new: Recording, contract: Contract, table: Sequence[Declared] | None = None
) -> Pair:
    """What differs between two kernels, by what is declared; InfraError as ``differences``."""
    known = declared() if table is None else table
    allowed = [one for one in known if one.between == (old.version, new.version)]
    counts = {one.what: 0 for one in allowed}
    undeclared = []
    for one in differences(old, new, contract):
        by = next((kind for kind in allowed if kind.covers(one, new)), None)
        if by is None:
            undeclared.append(str(one))
        else:
            counts[by.what] += one.count
    return Pair(
        old=old.age,
        new=new.age,
        abi=new.abi,
        declared={what: count for what, count in counts.items() if count},
        undeclared=tuple(undeclared),
        missing=tuple(what for what, count in counts.items() if not count),
    )


def pairs(recordings: Sequence[Recording]) -> Iterator[tuple[Recording, Recording]]:
    """Which to compare: neighbouring versions of one series, and one version of two series.

    ``recordings`` are in the order of the kernels, a series' versions from the oldest on.
    """
    for index, new in enumerate(recordings):
        versions = list(new.sizes)
        for old in recordings[:index]:
            step = versions.index(new.version) - versions.index(old.version)
            if old.abi == new.abi and step == (_series(old) == _series(new)):
                yield old, new


def _series(one: Recording) -> str:
    return one.age.rpartition("-")[0]


def _differences(
    name: str, rule: Sweep, old: Sequence[Row], new: Sequence[Row], contract: Contract
) -> Iterator[Difference]:
    run: Difference | None = None
    points = list(sweep.points(rule, contract))
    ours, theirs = list(_expanded(old)), list(_expanded(new))
    if not len(points) == len(ours) == len(theirs):
        yield Difference(
            rule=name,
            first="the number of outcomes",
            last="",
            count=1,
            old=f"{len(ours)} of {len(points)}",
            new=f"{len(theirs)} of {len(points)}",
            nonzero=(),
        )
        return
    for point, before, after in zip(points, ours, theirs, strict=True):
        if before == after:
            continue
        one = _difference(name, point, before, after)
        if run and (run.old, run.new, run.nonzero) == (one.old, one.new, one.nonzero):
            run = dataclasses.replace(run, last=one.last, count=run.count + 1)
        else:
            if run:
                yield run
            run = one
    if run:
        yield run


def _difference(
    name: str, point: Point, before: tuple[Seen, int | None], after: tuple[Seen, int | None]
) -> Difference:
    inside = point.byte is not None and point.byte < point.usize
    old, new = _words(*before), _words(*after)
    if old == new:  # the record differs: by its hash, which is all that there is of it
        old, new = str(before[0]), str(after[0])
    return Difference(
        rule=name,
        first=str(point),
        last=str(point),
        count=1,
        old=old,
        new=new,
        nonzero=(point.byte,) if inside and point.byte is not None else (),
    )


def _words(seen: Seen, canary: int | None) -> str:
    """An outcome, without what an accepted call left."""
    if canary is not None:
        return f"the byte at {canary:+d} from the struct changed"
    return str(dataclasses.replace(seen, effect=None))
