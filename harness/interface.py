# SPDX-License-Identifier: GPL-2.0-only
"""A contract, an ABI and a target brought together: what a test is given.

def test_flags(interface: Interface) -> None:
    bits = Dim(kind=Kind.ARG_BIT, index=1, start=0, stop=32)
    interface.verify(Sweep(dims=(bits,), usize=interface.ksize, template=interface.template()))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from harness import case as cases
from harness import layout as layouts
from harness import model, sweep
from harness.abi import ABI, ABIS, WAYS, Way, abi
from harness.case import BYTES_AT, Case, Protection
from harness.contract import Bytes, Check, Contract, Needs, Nothing, ReadBack, SizeArg, SizeField
from harness.findings import Causes, ContractBrokenError, Mismatch
from harness.identity import Identity, Peer
from harness.layout import Compiler, Layout
from harness.program import AREA_BYTES, ARENA, SCRATCH, Entry, Program, Result, ResultOf, at
from harness.sweep import Sweep, SweepResult
from harness.target import Caller, Target

#: In what an outcome can differ from the allowed one.
ASPECTS = frozenset({"errno", "write-back", "effect", "memory"})
#: Cases that go into one request; each is a dozen operations.
CASES_PER_PROGRAM = 80
#: Bytes of memory that one request lays out; a frame holds 256 KiB (wire.h).
BYTES_PER_PROGRAM = 150_000
#: A sweep's own deadline for one call that blocks, in milliseconds.
SWEEP_DEADLINE_MS = 2000
#: A sweep of so many calls is shared out among the callers that a target has CPUs for.
SPLIT_CALLS = 1_000_000
#: Into so many parts for each: the longer ones must not leave a CPU idle at the end.
PARTS_PER_LANE = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observed:
    """What one call did, in the model's words."""

    errno: int
    written: int | None
    held: bytes | None  #: what read(2) gave, when the contract has that effect
    strayed: bool  #: a byte of the struct outside the size field changed
    signal: int = 0  #: that ended the call, which then returned nothing
    results: tuple[Result, ...]  #: of the whole program, for a closer look

    @property
    def ending(self) -> str:
        """How the call ended, without what it left."""
        return model.ending(self.errno, self.signal)

    def __str__(self) -> str:
        parts = [self.ending]
        if self.written is not None:
            parts.append(f"size set to {self.written}")
        if self.held is not None:
            parts.append(f"the kernel holds {self.held.hex()}")
        if self.strayed:
            parts.append("another byte of the struct changed")
        return ", ".join(parts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Placed:
    """Where a case's operations are in its program."""

    case: Case
    call: ResultOf
    got: ResultOf | None
    shown: ResultOf | None
    after: ResultOf | None
    pid: ResultOf | None = None  #: of the process that a field names


class Interface:
    """One interface, called in one ABI's way on one target."""

    def __init__(
        self,
        contract: Contract,
        abi: ABI,
        *,
        compiler: Compiler,
        target: Target,
        described: tuple[Path, ...] = (),
    ) -> None:
        """``described`` are objects of the kernel under test, with DWARF."""
        self.described = described
        self.abi = abi
        self.compiler = compiler
        self.target = target
        #: With what the caller on this target may and may not do.
        self.contract = self._for_the_caller(contract)

    def _for_the_caller(self, contract: Contract) -> Contract:
        if not contract.needs:
            return contract
        held = self.target.capabilities

        def known(check: Check) -> Check:
            if not isinstance(check, Needs):
                return check
            has = bool(held >> self.capability(check.capability) & 1)
            return dataclasses.replace(check, caller_has=has)

        return dataclasses.replace(contract, checks=tuple(map(known, contract.checks)))

    @property
    def caller(self) -> Caller:
        return self.target.caller(self.abi)

    @property
    def ways(self) -> tuple[Way, ...]:
        """The ways into the kernel that a program of this ABI has, its own first."""
        return WAYS[self.abi.name]

    @property
    def other_ways(self) -> list[Way]:
        """The further ways that this kernel has: one without i386 or x32 lacks theirs."""
        missing = [one.name for one in ABIS if self.target.lacks(one)]
        return [way for way in self.ways[1:] if way.table not in missing]

    @cached_property
    def layout(self) -> Layout:
        """The struct as this kernel's header and this ABI's compiler have it."""
        return layouts.layout(
            self.compiler,
            self.abi,
            struct=self.contract.struct,
            fields=self.field_names,
            includes=(self.contract.header,),
        )

    @cached_property
    def declared(self) -> Layout:
        """The struct as the contract declares it."""
        return layouts.layout(
            self.compiler,
            self.abi,
            struct=self.contract.struct,
            fields=self.field_names,
            declaration=self.contract.declaration,
        )

    @cached_property
    def kernels_own(self) -> Layout | None:
        """The struct as the kernel's own compiler had it, where its DWARF is at hand."""
        for path in self.described:
            found = layouts.from_dwarf(path, self.contract.struct)
            if found:
                return found
        return None

    @cached_property
    def field_names(self) -> tuple[str, ...]:
        return layouts.field_names(self.contract.declaration, self.contract.struct)

    @property
    def ksize(self) -> int:
        """The kernel's size of the struct, bytes."""
        return self.layout.size

    def constant(self, expression: str, *includes: str) -> int:
        """A constant expression of C in this ABI, from this kernel's headers."""
        names = includes or (self.contract.header, *self.contract.includes)
        found = layouts.constants(
            self.compiler, self.abi, includes=names, expressions={"value": expression}
        )
        return found["value"]

    def number(self, name: str, way: Way | None = None) -> int:
        """A system call's number by this way into the kernel; x32's has bit 30 set."""
        table = abi(way.table) if way else self.abi
        found = layouts.constants(
            self.compiler,
            table,
            includes=("asm/unistd.h",),
            expressions={"value": name if name.startswith("__NR_") else f"__NR_{name}"},
        )
        return found["value"]

    # The struct.

    def template(self, **fields: int) -> bytes:
        """The example's bytes for a sweep, which sets the size by itself."""
        return bytes(self.layout.new(**{**self.contract.example, **fields}))

    def example(self, *, usize: int | None = None, **fields: int) -> bytes:
        """An accepted struct of ``usize`` bytes (the kernel's own size by default)."""
        size = self.ksize if usize is None else usize
        length = max(size, self.contract.field_end)
        memory = self.template(**fields)[:length].ljust(length, b"\0")
        return cases.with_usize(self.contract, memory, size)

    def case(self, *, usize: int | None = None, **fields: int) -> Case:
        """A call that is accepted, but for what is asked for here."""
        size = self.ksize if usize is None else usize
        return Case(usize=size, memory=self.example(usize=size, **fields))

    def capability(self, name: str) -> int:
        """A capability's number."""
        return self.constant(name, "linux/capability.h")

    # One call.

    def predict(self, case: Case) -> model.Outcome:
        """What the contract allows."""
        return cases.predict(self.contract, self.layout, case, register=self.abi.register)

    def _enter(self, program: Program, several: Sequence[Case]) -> dict[Peer, ResultOf]:
        """Begin a program for cases that one identity makes: whom they name, who they are."""
        who = several[0].who
        pids: dict[Peer, ResultOf] = {}
        named = {case.peer[1] for case in several if case.peer is not None}
        own = [peer for peer in named if peer.identity is None]
        for peer in sorted(named.difference(own), key=lambda one: one.name):
            assert peer.identity is not None
            pids[peer] = program.peer(peer.identity.who(self.capability, ended=peer.ended))
        if who is not None:
            program.become(who.who(self.capability))
        if own:
            pids |= dict.fromkeys(own, program.syscall(self.number("getpid")))
        return pids

    def _place(
        self, program: Program, case: Case, pids: Mapping[Peer, ResultOf] = MappingProxyType({})
    ) -> _Placed:
        """Add a case to a program: memory, call, effect, and a look at the memory."""
        program.reset()
        for arg in self.contract.args:
            if isinstance(arg, Bytes):
                program.write(SCRATCH, BYTES_AT, arg.data)
        present = case.memory if case.hole is None else case.memory[: case.hole]
        if case.pointer is None:
            program.write(ARENA, case.offset, present)
        if case.peer is not None and case.pointer is None:
            name, peer = case.peer
            field = self.layout.field(name)
            program.store(
                ARENA, case.offset + field.offset, pids[peer], width=field.size, plus=peer.plus
            )
        if case.protection is not Protection.READ_WRITE:
            value = self.constant(case.protection.value, "linux/mman.h")
            program.syscall(self.number("mprotect"), at(ARENA), AREA_BYTES, value)
        placed = self.place_call(program, case, look=len(present) if case.pointer is None else 0)
        pid = pids[case.peer[1]] if case.peer is not None else None
        return dataclasses.replace(placed, pid=pid)

    def place_call(self, program: Program, case: Case, *, look: int) -> _Placed:
        """Add a case's call and its effect to a program that has laid out the memory.

        ``look`` bytes of the struct are read back afterwards.
        """
        number = self.number(self.contract.number, case.way)
        entry = Entry.INT80 if case.way and case.way.int80 else Entry.NATIVE
        call = program.syscall(number, *cases.registers(self.contract, case), entry=entry)
        got = shown = None
        if isinstance(self.contract.effect, ReadBack):
            length = self.ksize + sweep.BUFFER_SPARE
            program.fill(SCRATCH, 0, length, sweep.BUFFER_FILL)
            got = program.syscall(self.number("read"), call, at(SCRATCH), length)
            shown = program.read(SCRATCH, 0, length)
        if not isinstance(self.contract.effect, Nothing):
            program.syscall(self.number("close"), call)
        after = None
        if look and case.protection is not Protection.NONE:
            after = program.read(ARENA, case.offset, look)
        return _Placed(case=case, call=call, got=got, shown=shown, after=after)

    def _look(self, placed: _Placed, results: list[Result]) -> Observed:
        """What became of a placed case."""
        mine = results[placed.call.index]
        written, strayed = None, False
        if placed.after is not None:
            new = self._unnamed(placed, results, results[placed.after.index].data)
            old = placed.case.memory[: len(new)]
            where = self.contract.size
            if isinstance(where, SizeField) and len(new) >= where.end:
                if new[where.offset : where.end] != old[where.offset : where.end]:
                    written = int.from_bytes(new[where.offset : where.end], "little")
                new = new[: where.offset] + old[where.offset : where.end] + new[where.end :]
            strayed = new != old
        held = None
        if not mine.errno and placed.got is not None and placed.shown is not None:
            length = results[placed.got.index].ret
            shown = results[placed.shown.index].data
            spare = bytes([sweep.BUFFER_FILL]) * sweep.BUFFER_SPARE
            held = shown[:length] if shown.endswith(spare) and length >= 0 else shown
            held = self._unnamed(placed, results, held)
        return Observed(
            errno=mine.errno,
            written=written,
            held=held,
            strayed=strayed,
            signal=mine.signal,
            results=tuple(results),
        )

    def _unnamed(self, placed: _Placed, results: list[Result], data: bytes) -> bytes:
        """The struct with zeros for the pid that was put there, as the case has it."""
        if placed.pid is None or placed.case.peer is None:
            return data
        name, peer = placed.case.peer
        field = self.layout.field(name)
        pid = (results[placed.pid.index].ret + peer.plus).to_bytes(9, "little")[: field.size]
        if data[field.offset : field.end] != pid:
            return data
        return data[: field.offset] + bytes(field.size) + data[field.end :]

    def observe(self, case: Case) -> Observed:
        """Make one call and see what came of it."""
        program = Program()
        placed = self._place(program, case, self._enter(program, [case]))
        return self._look(placed, self.caller.run(program))

    def observe_in(self, program: Program, case: Case) -> Observed:
        """Make one call behind a program that has laid out the memory in its own way."""
        placed = self.place_call(program, case, look=0)
        return self._look(placed, self.caller.run(program))

    def compare(
        self, case: Case, seen: Observed, *, about: frozenset[str] = ASPECTS
    ) -> list[Mismatch]:
        """Nothing when the contract allows what was seen, else the one mismatch.

        ``about`` narrows it to some of ASPECTS: what a property is about, so
        that another property's fault does not turn it red.
        """
        allowed = self.predict(case)
        held = allowed.held if isinstance(self.contract.effect, ReadBack) else None
        differ = {
            "errno": ((allowed.errno, 0), (seen.errno, seen.signal)),
            "write-back": (allowed.written, seen.written),
            "effect": (held, seen.held),
            "memory": (False, seen.strayed),
        }
        wrong = [
            name for name, (ours, theirs) in differ.items() if ours != theirs and name in about
        ]
        # What else should have become of a call with another errno, nobody can say.
        if "errno" not in about and allowed.errno != seen.errno:
            return []
        # Where the memory was not looked at, nothing can be said of it.
        if case.pointer is not None or case.protection is Protection.NONE:
            wrong = [name for name in wrong if name not in ("write-back", "memory")]
        # What cannot be written to, is not.
        if case.protection is Protection.READ and seen.written is None:
            wrong = [name for name in wrong if name != "write-back"]
        if not wrong:
            return []
        text = str(allowed)
        if held is not None and "effect" in wrong:
            text += f", the kernel holds {held.hex()}"
        cause = f"{model.ending(allowed.errno)} → {seen.ending}"
        words = cases.describe(self.contract, self.layout, case, register=self.abi.register)
        return [
            Mismatch(
                first=words,
                last=words,
                count=1,
                allowed=f"{text} ({allowed.why})" if allowed.why else text,
                seen=str(seen),
                cause=cause if "errno" in wrong else ", ".join(wrong),
                case=case,
            )
        ]

    def check(self, case: Case) -> Observed:
        """Make one call; ContractBrokenError when the contract does not allow what came of it."""
        seen = self.observe(case)
        self.fail_on(self.compare(case, seen))
        return seen

    def check_all(self, *several: Case, about: frozenset[str] = ASPECTS) -> None:
        """Make calls, many to a request; ContractBrokenError names every cause."""
        found = Causes()
        for mismatches in self.judge(several, about=about):
            for mismatch in mismatches:
                found.add(mismatch)
        self.fail_on(found.all())

    def judge(
        self, several: Sequence[Case], *, about: frozenset[str] = ASPECTS
    ) -> list[list[Mismatch]]:
        """Make calls, many to a request; what each did that the contract does not allow."""
        found: list[list[Mismatch]] = [[] for _ in several]
        for batch in self._batches(several):
            program = Program()
            pids = self._enter(program, [several[index] for index in batch])
            placed = [self._place(program, several[index], pids) for index in batch]
            results = self.caller.run(program)
            for index, one in zip(batch, placed, strict=True):
                found[index] = self.compare(one.case, self._look(one, results), about=about)
        return found

    def _batches(self, several: Sequence[Case]) -> Iterator[list[int]]:
        """Which cases go into one request: one identity's, and not more than it holds."""
        by_identity: dict[Identity | None, list[int]] = {}
        for index, case in enumerate(several):
            by_identity.setdefault(case.who, []).append(index)
        for indices in by_identity.values():
            batch: list[int] = []
            used = 0
            for index in indices:
                length = len(several[index].memory)
                if batch and (len(batch) == CASES_PER_PROGRAM or used + length > BYTES_PER_PROGRAM):
                    yield batch
                    batch, used = [], 0
                batch.append(index)
                used += length
            yield batch

    # Many calls.

    def sweep(self, rule: Sweep) -> SweepResult:
        """Run a sweep to its end."""
        after = sweep.after_ops(
            self.contract.effect,
            read=self.number("read"),
            close=self.number("close"),
            ksize=self.ksize,
        )
        caller = self.caller
        parts = [rule]
        if caller.lanes > 1 and sweep.count(rule, self.contract) >= SPLIT_CALLS:
            parts = sweep.split(rule, self.contract, PARTS_PER_LANE * caller.lanes)
        payloads = [
            sweep.encode(
                part,
                self.contract,
                number=self.number(self.contract.number, part.way),
                before=sweep.poison_ops(self.number) if part.poison else [],
                after=after,
                deadline_ms=SWEEP_DEADLINE_MS,
            )
            for part in parts
        ]
        if len(payloads) == 1:
            return caller.sweep(payloads[0])
        whole = [sweep.count(part, self.contract) for part in parts]
        return sweep.join(caller.sweeps(payloads), whole)

    def mismatches(self, rule: Sweep) -> list[Mismatch]:
        """Where the kernel did what the contract does not allow."""
        register = rule.way.register if rule.way else self.abi.register
        return sweep.compare(rule, self.contract, self.layout, self.sweep(rule), register=register)

    def verify(self, *rules: Sweep) -> None:
        """Run sweeps; ContractBrokenError when an outcome is not the allowed one."""
        found = Causes()
        for rule in rules:
            for mismatch in self.mismatches(rule):
                found.add(mismatch)
        self.fail_on(found.all())

    def fail_on(self, found: list[Mismatch]) -> None:
        """Raise ContractBrokenError with these mismatches, if there are any."""
        if found:
            raise ContractBrokenError(
                f"{self.abi.name}: {self.contract.name}() breaks its contract:", found
            )

    @property
    def size_bits(self) -> int:
        """How wide the size is in this ABI, in bits."""
        match self.contract.size:
            case SizeField(width=width):
                return 8 * width
            case SizeArg(width=width):
                return min(width, self.abi.register)
            case _:
                return 14
