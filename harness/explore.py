# SPDX-License-Identifier: GPL-2.0-only
"""Exploration: contents and combinations beyond the sweeps, against the same model.

A sweep varies one thing and keeps the rest; here Hypothesis varies many at a
time: size, fields, tail, flags, holes, places, protections, ways into the
kernel.  An example is a batch of calls and costs one request.  What a contract
does not allow is shrunk, each cause by itself, to one call that differs from
the contract's example in as little as possible.

The examples are the same in every run; pytest's ``--hypothesis-seed=N`` gives
others.  Importing this module adds its item to the battery.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, configuration, core
from hypothesis import strategies as st

from harness import case as cases
from harness import model
from harness.abi import Way
from harness.battery import BATTERY, LAST_USIZE, Item, Level
from harness.case import PAGE, Case, Protection
from harness.contract import (
    VALUE_CHECKS,
    AtLeast,
    AtMost,
    BothOrNeither,
    Contract,
    Half,
    NotTogether,
    OneOf,
    OnlyWith,
    Privileged,
    ReadBack,
    SizeField,
    UnknownBits,
    Wide,
)
from harness.findings import Causes, ContractBrokenError, Mismatch
from harness.how import NoProgram
from harness.identity import Identity, without
from harness.interface import Interface
from harness.layout import Layout
from vm import paths
from vm.errors import HarnessError

QUICK = Level()
#: Rounds of a quick and of a full battery, the examples of a round, the calls of each.
QUICK_ROUNDS = 1
FULL_ROUNDS = 20
#: Behind its tenth example Hypothesis tries what it had with little changed, five
#: times out of six; that is most of the calls over again, so a round ends there.
EXAMPLES = 10
CASES = 80
#: Values that a batch has of each thing that varies, besides the plain one: of
#: sizes and tails, which are many, and of the others.  A value costs draws; that
#: some meet in one more combination costs nothing.
MANY, FEW = 8, 4
#: How long shrinking may take once something was found, in seconds: a call
#: that blocks where it must not costs its whole deadline each time.
SHRINK_SECONDS = 20.0
#: An accepted value of a bounded field that may be a delay: 65 µs, if nanoseconds.
SMALL = 1 << 16
#: Sizes for a contract without an upper bound: what the arena holds in any place.
REACH = 12288
#: Cases that are kept while a batch shrinks.
DRAFTS = 8192
#: What lies behind usize, where something does.
BEYOND = bytes([0xA5]) * 64

Judge = Callable[[Sequence[Case]], list[list[Mismatch]]]


# What a call has.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tail:
    """What lies behind the struct that the kernel knows."""

    patches: tuple[tuple[int, int], ...] = ()  #: (position behind ksize, value), going round
    dense: bool = False  #: ones in every byte
    beyond: bool = False  #: something behind usize too, which nobody may look at


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spot:
    """Where the struct lies; a hole says it all."""

    anchor: str = "start"  #: what a hole is counted from: start, ksize or usize
    hole: int | None = None  #: bytes from there
    at_page_start: bool = False
    shift: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gate:
    """How the call comes to the kernel."""

    way: Way | None = None
    pointer: int | None = None
    protection: Protection = Protection.READ_WRITE
    who: Identity | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Draft:
    """A value for everything that a call has, before it is made into memory."""

    usize: int
    fields: tuple[tuple[str, int], ...]
    flags: tuple[tuple[int, int], ...]
    tail: Tail
    spot: Spot
    gate: Gate


class Batch:
    """The calls of one request."""

    def __init__(self, calls: Sequence[Case]) -> None:
        self.calls = calls

    def __repr__(self) -> str:
        # Hypothesis writes an example down before anybody asks for it.
        return f"{len(self.calls)} calls"


# Strategies.  Integers mean the same in each branch, and the widest range stands
# first: a value that a narrow branch has found can be lowered when the shrinker
# goes back to the first branch.


def _ranges(*spans: tuple[int, int], within: tuple[int, int]) -> st.SearchStrategy[int]:
    """Integers of any of these spans, ends included, cut to ``within``."""
    low, high = within
    cut = [(max(low, first), min(high, last)) for first, last in spans]
    return st.one_of([st.integers(first, last) for first, last in cut if first <= last])


def _nobody(number: int) -> int:
    """A value that no process has as its pid, nor if the struct ends within it."""
    return number << 24


def _with_unknown_bit(mask: int, width: int) -> st.SearchStrategy[int]:
    """One bit that ``mask`` lacks: alone, beside all that it has, or beside any of them."""
    bits = [1 << bit for bit in range(width) if not mask >> bit & 1]
    if not bits:
        return st.nothing()
    beside = st.one_of(st.just(0), st.just(mask), st.integers(0, mask).map(lambda v: v & mask))
    return st.builds(lambda one, known: one | known, st.sampled_from(bits), beside)


def _or(plain: Any, *strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Any of these; the plain value, for which nothing more is drawn, is the simplest."""
    return st.one_of(st.just(plain), *strategies)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space:
    """What can be varied about one interface's calls.  It makes no calls."""

    contract: Contract
    layout: Layout  #: the kernel's own
    register: int  #: bits of an argument register of the ABI
    size_bits: int  #: how wide the size is in this ABI
    ways: tuple[Way, ...] = ()  #: into the kernel, besides the ABI's own

    @property
    def effect_is_known(self) -> bool:
        """Whether the contract says what every accepted value does."""
        return isinstance(self.contract.effect, ReadBack)

    @property
    def size_field(self) -> str | None:
        where = self.contract.size
        return where.field if isinstance(where, SizeField) else None

    @cached_property
    def example(self) -> Mapping[str, int]:
        """The accepted example, every field of it but the size."""
        plain = dict.fromkeys((f.name for f in self.layout.fields), 0) | dict(self.contract.example)
        return {name: value for name, value in plain.items() if name != self.size_field}

    @cached_property
    def bounded(self) -> tuple[str, ...]:
        """Fields with an upper bound."""
        return tuple(c.field for c in self.contract.checks if isinstance(c, AtMost))

    @property
    def reach(self) -> int:
        """The most bytes of a struct that are laid out."""
        return LAST_USIZE if self.contract.bounds.maximum is not None else REACH

    @cached_property
    def sizes(self) -> st.SearchStrategy[int]:
        """Sizes as their distance from ksize, which is the plainest."""
        contract, ksize = self.contract, self.layout.size
        if contract.fixed:
            return st.just(ksize)
        last = (1 << self.size_bits) - 1
        if contract.bounds.maximum is None:
            last = min(last, REACH)
        near = [0, contract.bounds.minimum, PAGE, *(version.size for version in contract.versions)]
        powers = [1 << 15, 1 << 16, 1 << 31, 1 << 32, (1 << 32) + ksize, 1 << 63, 1 << 64]
        powers = [one + step for one in powers for step in (-1, 0, 1) if one + step <= last]
        ordinary = _ranges(
            (-ksize, min(last, LAST_USIZE) - ksize),
            (0, 8),
            (0, 96),
            (0, 96),
            (-ksize, 0),
            *((one - 1 - ksize, one + 1 - ksize) for one in near),
            within=(-ksize, last - ksize),
        )
        sizes = ordinary.map(lambda distance: ksize + distance)
        return st.one_of(sizes, st.sampled_from(powers)) if powers else sizes

    @cached_property
    def tails(self) -> st.SearchStrategy[Tail]:
        positions = _ranges((0, self.reach), (0, 7), (0, 95), (0, 95), within=(0, self.reach))
        patch = st.tuples(positions, st.integers(1, 255))
        several = st.lists(patch, max_size=3).map(tuple)
        return _or(
            Tail(),
            st.builds(Tail, patches=several, beyond=st.booleans()),
            st.builds(Tail, patches=st.tuples(patch), beyond=st.booleans()),
            st.builds(Tail, patches=st.tuples(patch)),
            st.builds(Tail, dense=st.just(True), beyond=st.booleans()),
        )

    @cached_property
    def spots(self) -> st.SearchStrategy[Spot]:
        holes = [("start", (0, self.reach)), ("ksize", (-2, 2)), ("ksize", (0, 95))]
        holes += [("usize", (-1, 0)), ("usize", (-8, 8))]
        strategies = [
            st.builds(Spot, anchor=st.just(anchor), hole=st.integers(*span))
            for anchor, span in holes
        ]
        whole = st.builds(Spot, at_page_start=st.booleans(), shift=st.integers(0, 15))
        return _or(Spot(), whole, whole.map(lambda spot: spot), *strategies)

    @cached_property
    def gates(self) -> st.SearchStrategy[Gate]:
        # Addresses at which no struct can be.
        pointers = [0, PAGE - 1, (1 << self.register) - 1]
        protections = [Protection.READ, Protection.NONE]
        three = [st.just(one) for one in protections]
        kinds = [
            st.builds(Gate, protection=st.sampled_from(protections)),
            st.builds(Gate, pointer=st.sampled_from(pointers)),
        ]
        if self.contract.privileged:
            # Anybody can become these; whom else there is, P19's own items try.
            several = [None, *(without(check.capability) for check in self.contract.privileged)]
            ways_or_none = st.sampled_from([None, *self.ways])
            kinds.append(st.builds(Gate, who=st.sampled_from(several[1:])))
            kinds.append(st.builds(Gate, way=ways_or_none, who=st.sampled_from(several)))
        if self.ways:
            ways = st.sampled_from(self.ways)
            kinds += [
                st.builds(Gate, way=ways),
                st.builds(Gate, way=ways, protection=_or(Protection.READ_WRITE, *three)),
            ]
        return _or(Gate(), *kinds)

    @cached_property
    def fields(self) -> Mapping[str, st.SearchStrategy[int]]:
        """Field → its values, for every field that may be varied."""
        found = {}
        named = {check.field for check in self.contract.processes}
        pointing = {check.field for check in self.contract.pointers}
        for field in self.layout.fields:
            if field.name == self.size_field or field.name in pointing:
                continue
            if field.name in named:
                found[field.name] = _or(
                    0, st.integers(1, (1 << 8 * field.size - 24) - 1).map(_nobody)
                )
                continue
            values = (
                [self._any_value(field.name, 8 * field.size)]
                if self.effect_is_known
                else self._refused_values(field.name, 8 * field.size)
            )
            if values:
                found[field.name] = _or(self.example[field.name], *values)
        return found

    def _any_value(self, name: str, width: int) -> st.SearchStrategy[int]:
        """Known bits and bounds for a field that is judged, anything for one that is not."""
        top = (1 << width) - 1
        spans = [(0, top), (top, top), (1 << width - 1, 1 << width - 1)]
        known = 0
        for check in self.contract.checks:
            if isinstance(check, UnknownBits) and check.field == name:
                known |= check.mask
                spans += [(bit, bit) for bit in check.known.values()]
                spans += [(check.mask, check.mask), (0, check.mask + 1)]
            if isinstance(check, AtMost) and check.field == name:
                spans += [(0, min(SMALL, check.maximum)), (check.maximum + 1, check.maximum + 2)]
            if isinstance(check, OnlyWith) and check.other == name:
                spans += [(check.bits, check.bits)]
            if isinstance(check, Privileged) and check.field == name:
                edge = check.bits & -check.bits if check.above is None else check.above + 1
                spans += [(edge, edge), (edge, top)]
            if isinstance(check, NotTogether) and check.field == name:
                spans += [(check.bits, check.bits)]
        plain = _ranges(*spans, within=(0, top))
        bits = st.integers(0, width - 1).map(lambda bit: 1 << bit)
        beside = st.integers(0, width - 1).map(lambda bit: known | 1 << bit)
        return st.one_of(plain, bits, beside)

    def _refused_values(self, name: str, width: int) -> list[st.SearchStrategy[int]]:
        """Only what must be refused: what an accepted value does is not in the contract."""
        top = (1 << width) - 1
        found: list[st.SearchStrategy[int]] = []
        for check in self.contract.checks:
            match check:
                case UnknownBits(field=field) if field == name:
                    found.append(_with_unknown_bit(check.mask, width))
                case AtMost(field=field, maximum=most) if field == name and most < top:
                    spans = ((most + 1, top), (most + 1, most + 2))
                    found.append(_ranges(*spans, within=(0, top)))
                case NotTogether(field=field, bits=bits) if field == name:
                    found.append(st.just(bits))
                case OnlyWith(field=field, other=other, bits=bits) if field == name:
                    if not self.example.get(other, 0) & bits:
                        found.append(_ranges((1, top), (1, 1), within=(1, top)))
                case AtLeast(field=field, minimum=least) if field == name and least:
                    spans = ((0, least - 1), (least - 1, least - 1))
                    found.append(_ranges(*spans, within=(0, top)))
                case OneOf(field=field, values=few) if field == name:
                    found.append(st.integers(0, top).filter(lambda v: v not in few))
                case BothOrNeither(field=field, other=other) if field == name:
                    if not self.example.get(other, 0):
                        found.append(_ranges((1, top), (1, 1), within=(1, top)))
                    else:
                        found.append(st.just(0))
        return found

    @cached_property
    def flags(self) -> Mapping[int, st.SearchStrategy[int]]:
        """Argument that carries flags → values of its register, upper half included."""
        found = {}
        for index in self.contract.flags_args:
            flags = self.contract.flags(index)
            values = [_with_unknown_bit(flags.mask, min(flags.width, self.register))]
            if self.effect_is_known:
                known = [*flags.known.values(), flags.mask]
                top = (1 << flags.width) - 1
                values.insert(0, _ranges((0, top), *((v, v) for v in known), within=(0, top)))
            found[index] = _or(0, *values)
            if flags.width <= 32 < self.register:
                upper = _or(0, st.integers(0, (1 << 32) - 1))
                found[index] = st.builds(lambda low, high: low | high << 32, found[index], upper)
        for index, arg in enumerate(self.contract.args):
            if self.effect_is_known and isinstance(arg, (Wide, Half)):
                width = 32 if isinstance(arg, Half) else 64
                bits = st.integers(0, width - 1).map(lambda bit: 1 << bit)
                found[index] = _or(arg.value, bits, st.integers(0, (1 << width) - 1))
        return found

    @cached_property
    def batches(self) -> st.SearchStrategy[Batch]:
        """Batches of calls; the plainest call is the contract's example at ksize."""
        return _batches(self)

    # From a draft to a case.

    @cached_property
    def _built(self) -> dict[Draft, Case]:
        """What was built lately: while it shrinks, a batch changes little at a time."""
        return {}

    def predict(self, case: Case) -> model.Outcome:
        return cases.predict(self.contract, self.layout, case, register=self.register)

    def build(self, draft: Draft) -> Case:
        """The call that a draft stands for, without what the contract says nothing of."""
        if draft not in self._built:
            if len(self._built) >= DRAFTS:
                self._built.clear()
            case = self._case(draft)
            settle = self._prompt if self.effect_is_known else self._refused
            settled = settle(draft, case)
            self._built[draft] = case if settled == draft else self._case(settled)
        return self._built[draft]

    def covered(self, usize: int, way: Way | None) -> int:
        """Bytes of the struct that are laid out for this value of the size."""
        register = self.register if way is None else way.register
        sized = cases.with_usize(self.contract, bytes(self.contract.field_end), usize)
        effective = cases.effective_usize(
            self.contract, Case(usize=usize, memory=sized), register=register
        )
        length = min(effective or self.contract.zero_means or 0, self.reach)
        return max(length, self.contract.field_end)

    def _case(self, draft: Draft) -> Case:
        ksize = self.layout.size
        length = self.covered(draft.usize, draft.gate.way)
        data = self.layout.new(length=length, **{**self.example, **dict(draft.fields)})
        if draft.tail.dense:
            data[ksize:length] = b"\xff" * max(0, length - ksize)
        for position, value in draft.tail.patches if length > ksize else ():
            data[ksize + position % (length - ksize)] = value
        memory = cases.with_usize(self.contract, bytes(data), draft.usize)
        memory += BEYOND if draft.tail.beyond else b""
        spot, hole = draft.spot, None
        if spot.hole is not None:
            origin = {"start": 0, "ksize": ksize, "usize": length}[spot.anchor]
            hole = max(0, min(origin + spot.hole, len(memory)))
        return Case(
            usize=draft.usize,
            memory=memory,
            hole=hole,
            at_page_start=spot.at_page_start and hole is None,
            shift=0 if hole is not None else spot.shift,
            pointer=draft.gate.pointer,
            flags=draft.flags,
            way=draft.gate.way,
            protection=draft.gate.protection,
            who=draft.gate.who,
        )

    def _prompt(self, draft: Draft, case: Case) -> Draft:
        """What is accepted must not block, nor be told to come back later.

        A bounded field may be a delay: of the values that are accepted, small
        ones do; and none where a flag says not to wait.
        """
        held = self.predict(case).held
        if held is None:
            return draft
        effect = self.contract.effect
        assert isinstance(effect, ReadBack)
        if effect.record:
            size = self.covered(draft.usize, draft.gate.way)
            call = model.Call(usize=size, memory=case.memory)
            held = model.held(self.contract, self.layout, call, size=size)
        most = SMALL
        if effect.nonblock and dict(case.flags).get(effect.nonblock[0], 0) & effect.nonblock[1]:
            most = 0
        long = [name for name in self.bounded if self.layout.get(held, name) > most]
        return dataclasses.replace(
            draft,
            fields=tuple((name, 0 if name in long else value) for name, value in draft.fields),
        )

    def _refused(self, draft: Draft, case: Case) -> Draft:
        """A field whose value is not refused takes the example's.

        A short size may have cut the bit off for which it would be refused.
        """
        size = self.covered(draft.usize, draft.gate.way)
        call = model.Call(usize=size, memory=case.memory)
        kept = model.held(self.contract, self.layout, call, size=size)
        fields = tuple(one for one in draft.fields if self._is_refused(kept, one[0]))
        if draft.gate.pointer == 0 and not draft.usize:
            # No struct at all: flags may then be a question of their own, which no
            # contract says yet (landlock_create_ruleset(2): its version).
            return dataclasses.replace(draft, fields=fields, flags=())
        return dataclasses.replace(draft, fields=fields)

    def _is_refused(self, kept: bytes, name: str) -> bool:
        if name in {check.field for check in self.contract.processes}:
            return bool(self.layout.get(kept, name))
        judging = [check for check in self.contract.checks if isinstance(check, VALUE_CHECKS)]
        return any(c.field == name and model.wrong(c, self.layout, kept) for c in judging)

    def describe(self, case: Case) -> str:
        """The call in words: what differs from the contract's example."""
        return cases.describe(self.contract, self.layout, case, register=self.register)


#: Size, tail, spot, gate, then flags and fields: how often each is plain, of four
#: times, and how many other values it has.
MIXTURE = ((2, MANY), (2, MANY), (2, FEW), (3, FEW), *[(2, FEW)] * 12)


def _mixed() -> list[list[int]]:
    """Which values meet in each call: fixed, so that a combination stays while they shrink."""
    source = random.Random(0)
    return [[0] * len(MIXTURE)] + [
        [0 if source.randrange(4) < plain else source.randint(1, count) for plain, count in MIXTURE]
        for _ in range(CASES - 1)
    ]


MIXED = _mixed()


@st.composite
def _batches(draw: st.DrawFn, space: Space) -> Batch:
    things: list[tuple[Any, st.SearchStrategy[Any]]] = [
        (space.layout.size, space.sizes),
        (Tail(), space.tails),
        (Spot(), space.spots),
        (Gate(), space.gates),
        *((0, values) for values in space.flags.values()),
        *((space.example[name], values) for name, values in space.fields.items()),
    ]
    values = [
        [plain, *(draw(some) for _ in range(count))]
        for (plain, some), (_, count) in zip(things, itertools.cycle(MIXTURE), strict=False)
    ]
    found = []
    for row in MIXED:
        chosen = [some[pick] for some, pick in zip(values, itertools.cycle(row), strict=False)]
        usize, tail, spot, gate, *rest = chosen
        flags = tuple(zip(space.flags, rest, strict=False))
        fields = tuple(zip(space.fields, rest[len(flags) :], strict=True))
        found.append(
            space.build(
                Draft(usize=usize, fields=fields, flags=flags, tail=tail, spot=spot, gate=gate)
            )
        )
    return Batch(found)


# What is done with them.


class _FoundError(Exception):
    """A call that the contract does not allow.

    Each cause is a class of its own: Hypothesis then takes it for a fault of
    its own and shrinks it by itself.
    """

    def __init__(self, case: Case, mismatch: Mismatch) -> None:
        super().__init__(str(mismatch))
        self.case = case
        self.mismatch = mismatch


class _Memory:
    """What came of a round's calls: none is made twice, whatever the shrinker does."""

    def __init__(self, judge: Judge, expected: Callable[[Mismatch], bool]) -> None:
        self._judge = judge
        self._expected = expected
        #: For each cause of what is expected, the call that met it first.
        self.met: dict[str, tuple[Case, Mismatch]] = {}
        self._known: dict[Case, Mismatch | None] = {}
        self._kinds: dict[str, type[_FoundError]] = {}
        self._stop: float | None = None
        self.reported: set[str] = set()  #: causes that need no second call
        self.lost: HarnessError | None = None

    @property
    def late(self) -> bool:
        """Whether the time to shrink is over."""
        return self._stop is not None and time.monotonic() > self._stop

    def forget(self) -> None:
        """Begin another round."""
        self._known.clear()

    def look(self, calls: Sequence[Case]) -> None:
        """Make the calls that are new; raise what is found wrong first.

        When the machine is lost, or the time is over, nothing new is called and
        nothing new is wrong; what was wrong stays so.
        """
        new = [case for case in dict.fromkeys(calls) if case not in self._known]
        if new and not self.late and self.lost is None:
            try:
                for case, found in zip(new, self._judge(new), strict=True):
                    self._known[case] = found[0] if found else None
            except HarnessError as exc:
                # Raised from here, Hypothesis would take it for a fault to be shrunk.
                self.lost = exc
        for case in calls:
            mismatch = self._known.get(case)
            if mismatch is None or mismatch.cause in self.reported:
                continue
            if self._expected(mismatch):
                self.met.setdefault(mismatch.cause, (case, mismatch))
            else:
                self._stop = self._stop or time.monotonic() + SHRINK_SECONDS
                raise self._kind(mismatch.cause)(case, mismatch)

    def _kind(self, cause: str) -> type[_FoundError]:
        if cause not in self._kinds:
            self._kinds[cause] = type("_FoundError", (_FoundError,), {})
        return self._kinds[cause]


@contextmanager
def _files_of_hypothesis() -> Iterator[None]:
    """What Hypothesis keeps goes to the cache, not into the directory where the user is."""
    before = configuration.storage_directory(intent_to_write=False).home_directory
    configuration.set_hypothesis_home_dir(paths.cache_dir() / "hypothesis")
    try:
        yield
    finally:
        configuration.set_hypothesis_home_dir(before)


def search(
    space: Space,
    judge: Judge,
    *,
    rounds: int,
    brief: bool = False,
    expected: Callable[[Mismatch], bool] = lambda mismatch: False,
) -> list[tuple[Case, Mismatch]]:
    """Explore; for each cause of what the contract does not allow, its smallest call.

    With ``brief`` the first that is found will do, as it is; so will it for what
    is ``expected``.  ``judge`` makes calls and gives each one's mismatches.
    Raises the HarnessError that ended it, if one did.
    """
    found = []
    memory = _Memory(judge, expected)
    with _files_of_hypothesis():
        for number in range(rounds):
            memory.forget()
            # Again, for what lay behind the first thing that was wrong.
            while wrong := _round(space, memory, number, brief=brief):
                found += wrong
                if brief:
                    return [(one.case, one.mismatch) for one in found]
                memory.reported |= {one.mismatch.cause for one in wrong}
            if memory.late:
                break
    return [*((one.case, one.mismatch) for one in found), *memory.met.values()]


def _round(space: Space, memory: _Memory, number: int, *, brief: bool) -> list[_FoundError]:
    """Some examples; if something is wrong, what is the smallest that is, by cause."""

    @hypothesis.seed(f"{seed()} {number}")
    @hypothesis.settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=(Phase.generate,) if brief else (Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        report_multiple_bugs=not brief,
        print_blob=False,
    )
    @hypothesis.given(space.batches)
    def allowed(batch: Batch) -> None:
        memory.look(batch.calls)

    found: Sequence[Exception] = ()
    try:
        allowed()
    except _FoundError as exc:
        found = [exc]
    except hypothesis.errors.Flaky:
        # A fault that is not met again: the machine was lost on the way.
        if memory.lost is None:
            raise
    except ExceptionGroup as exc:
        found = exc.exceptions
    if memory.lost is not None:
        raise memory.lost
    return [one for one in found if isinstance(one, _FoundError)]


def seed() -> str:
    """The seed of all examples: --hypothesis-seed's, or 0."""
    return str(core.global_force_seed or 0)


def space_of(interface: Interface) -> Space:
    """What can be varied about an interface on its target."""
    return Space(
        contract=interface.contract,
        layout=interface.layout,
        register=interface.register,
        size_bits=interface.size_bits,
        # By another entry some contracts have another struct, or other registers.
        ways=tuple(way for way in interface.other_ways if interface.by(way) is interface),
    )


def explore(interface: Interface, judge: Judge, *, rounds: int, level: Level = QUICK) -> None:
    """Explore an interface; ContractBrokenError names each cause with its smallest call."""
    space = space_of(interface)
    found = Causes()
    wrong = search(space, judge, rounds=rounds, brief=level.brief, expected=level.expected)
    for case, mismatch in wrong:
        words = space.describe(case)
        # Each call has fresh memory: what others leave behind is in the kernel.
        if judge([case])[0]:
            one = dataclasses.replace(mismatch, first=words, last=words, case=case)
        else:
            seen = f"{mismatch.seen}, but only behind other calls"
            how = NoProgram(why="the call does so only behind others of its batch")
            one = dataclasses.replace(
                mismatch, first=words, last=words, seen=seen, case=case, how=how
            )
        found.add(one)
    if found.all():
        raise ContractBrokenError(
            f"{interface.abi.name}: {interface.contract.name}() breaks its contract"
            f" (examples of seed {seed()}):",
            found.all(),
        )


def _combinations(interface: Interface, level: Level) -> None:
    """Everything that a call has, varied together."""
    rounds = FULL_ROUNDS if level.full else QUICK_ROUNDS
    explore(interface, interface.judge, rounds=rounds, level=level)


BATTERY.append(Item(prop="explore", name="combinations", run=_combinations))
