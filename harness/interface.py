# SPDX-License-Identifier: GPL-2.0-only
"""A contract, an ABI and a target brought together: what a test is given.

def test_flags(interface: Interface) -> None:
    bits = Dim(kind=Kind.ARG_BIT, index=1, start=0, stop=32)
    interface.verify(Sweep(dims=(bits,), usize=interface.ksize, template=interface.template()))
"""

from __future__ import annotations

import dataclasses
import errno as codes
import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from harness import case as cases
from harness import layout as layouts
from harness import local, model, sweep
from harness.abi import ABI, ABIS, Way, abi, ways
from harness.case import Case, Protection
from harness.contract import (
    DATA_AT,
    Check,
    Child,
    Constant,
    Contract,
    Descriptor,
    Fills,
    OfFile,
    Privileged,
    ReadBack,
    Record,
    SizeArg,
    SizeField,
    SizeFixed,
    Value,
)
from harness.contract import Argument as Parameter
from harness.findings import Causes, ContractBrokenError, Mismatch
from harness.identity import Identity, Peer
from harness.layout import Compiler, Layout
from harness.program import (
    AREA_BYTES,
    ARENA,
    SCRATCH,
    Argument,
    Program,
    Result,
    ResultOf,
    at,
    entry_of,
)
from harness.splats import Asked
from harness.sweep import Kind, Sweep, SweepResult
from harness.target import Caller, Target
from vm.errors import BuildError

#: In what an outcome can differ from the allowed one.
ASPECTS = frozenset({"errno", "write-back", "effect", "memory"})
#: Cases that go into one request; each is a dozen operations.
CASES_PER_PROGRAM = 80
#: Bytes of memory that one request lays out; a frame holds 256 KiB (wire.h).
BYTES_PER_PROGRAM = 150_000
#: Effects that cost far more than a refusal, and what is tried of the sizes then.
COSTLY = (Child, Fills)
NEAR_SIZES, STEP, LAST_SIZES = 24, 89, 10
#: Calls of a rule that are made one by one, at most about so many.
SAMPLES = 300
#: A sweep's own deadline for one call that blocks, in milliseconds.
SWEEP_DEADLINE_MS = 2000
#: A sweep of so many calls is shared out among the callers that a target has CPUs for.
SPLIT_CALLS = 1_000_000
#: Into so many parts for each: the longer ones must not leave a CPU idle at the end.
PARTS_PER_LANE = 16


class SetupError(AssertionError):
    """What a contract's calls need could not be set up on this kernel."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observed:
    """What one call did, in the model's words."""

    errno: int
    written: int | None
    held: bytes | None  #: what read(2) gave, when the contract has that effect
    strayed: bool  #: a byte of the struct changed that nobody may write
    memory: bytes = b""  #: the struct afterwards, as far as it was looked at
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
        entry: ABI | None = None,
    ) -> None:
        """``described`` are objects of the kernel under test, with DWARF.

        ``entry`` is the ABI whose entry the calls go through, and whose struct and
        registers they have, where that is not the program's own: see by().
        """
        self.described = described
        self.entry = entry or abi
        self.asked = contract  #: as it was written, for any kernel
        self.abi = abi
        self.compiler = compiler
        self.target = target

    def by(self, way: Way | None) -> Interface:
        """The interface as it is by another way: with the struct and the registers of its entry.

        What it makes are calls for that way; which they go is still theirs to say.
        """
        if way is None or not self.asked.differs or way.table == self.entry.name:
            return self
        return Interface(
            self.asked,
            self.abi,
            compiler=self.compiler,
            target=self.target,
            described=self.described,
            entry=abi(way.table),
        )

    @property
    def asked_args(self) -> tuple[Parameter, ...]:
        """The arguments as they were asked for, before anything was made, each in its register."""
        return self.asked.in_abi(self.entry).args

    def in_abi(self, one: ABI) -> Interface:
        """The interface called in another ABI's way, on the same target."""
        return Interface(
            self.asked,
            one,
            compiler=self.compiler,
            target=self.target,
            described=self.described,
        )

    def for_the_caller(self, contract: Contract) -> Contract:
        """A contract with what the caller on this target may and may not do."""
        if not contract.privileged:
            return contract
        held = self.target.capabilities

        def known(check: Check) -> Check:
            if not isinstance(check, Privileged):
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
        return ways(self.abi.name, queued=self.asked.queued)

    @property
    def other_ways(self) -> list[Way]:
        """The further ways that this kernel has: one without i386 or x32 lacks theirs."""
        missing = [one.name for one in ABIS if self.target.lacks(one)]
        # By another way a number that has a pointer's size in it is another operation.
        return [
            way
            for way in self.ways[1:]
            if way.table not in missing and self._constants(abi(way.table)) == self._constants()
        ]

    def _constants(self, one: ABI | None = None) -> dict[str, int]:
        """What stands for the contract's Constants in an ABI, this one by default."""
        names = [arg.name for arg in self.asked.args if isinstance(arg, Constant)]
        if not names:
            return {}
        return layouts.constants(
            self.compiler,
            one or self.abi,
            includes=(self.asked.header, *self.asked.includes),
            expressions={name: name for name in names},
        )

    @cached_property
    def contract(self) -> Contract:
        """The contract as it is here: what the header has, who we are, what the set-up made."""
        asked = self.for_the_caller(self.asked)
        gone = self.missing_bits
        found = asked.on(fields=self.layout.has, bits=lambda name: name not in gone)
        found = found.with_constants(self.constant)
        if isinstance(found.effect, ReadBack) and found.effect.record:
            found = found.with_record(self._record_layout(found.effect.record), self.files)
        found = found.in_abi(self.entry)
        return found.with_made(self.made) if asked.setup else found

    def _record_layout(self, record: Record) -> Layout:
        return layouts.layout(
            self.compiler,
            self.abi,
            struct=record.struct,
            fields=[name for name, _ in record.fields],
            includes=(self.asked.header,),
        )

    @cached_property
    def files(self) -> dict[OfFile, int]:
        """What statx(2) says in this ABI's caller of the files that a record is about.

        Raises SetupError when it fails.
        """
        found: dict[OfFile, int] = {}
        for one in self.asked.files:
            where = layouts.layout(
                self.compiler,
                self.abi,
                struct="statx",
                fields=(one.member,),
                includes=("linux/stat.h",),
            )
            dfd = self.asked.args[one.dfd]
            assert isinstance(dfd, Value)  # the contract was checked
            program = Program()
            program.reset()
            program.write(SCRATCH, DATA_AT, self.asked.data)
            call = program.syscall(
                self.number("statx"),
                dfd.value,
                at(SCRATCH, self.asked.data_at(one.path)),
                0,
                self.constant("STATX_BASIC_STATS", "linux/stat.h"),
                at(SCRATCH),
            )
            shown = program.read(SCRATCH, 0, where.size)
            results = self.caller.run(program)
            if results[call.index].errno:
                raise SetupError(f"{self.abi.name}: statx() failed: {results[call.index]}")
            found[one] = where.get(results[shown.index].data, one.member)
        return found

    @cached_property
    def layout(self) -> Layout:
        """The struct as the calls have it: the header's, and the rest if that has a name."""
        found = self.header_layout
        if not self.asked.rest:
            return found
        end = max(one.end for one in found.fields)
        rest = layouts.Field(name=self.asked.rest, offset=end, size=found.size - end)
        return dataclasses.replace(found, fields=(*found.fields, rest))

    @cached_property
    def header_layout(self) -> Layout:
        """The struct as this kernel's header and this ABI's compiler have it.

        A kernel that is older than the declaration has a shorter struct: the
        fields behind its end are not asked for.
        """
        asked = self.asked
        whole = self.declared_whole
        found = self._header_fields(
            [one.name for one in whole.fields if one.name not in asked.unnamed]
        )
        # A word of bit-fields has no name in the header, and so no offsetof().
        fields = {one.name: one for one in found.fields}
        fields |= {
            one.name: one
            for one in whole.fields
            if one.name in asked.unnamed and one.end <= found.size
        }
        ordered = tuple(fields[one.name] for one in whole.fields if one.name in fields)
        return dataclasses.replace(found, fields=ordered)

    def left_open(self, release: tuple[int, int]) -> str | None:
        """Why a machine's own kernel of this ``release`` cannot be judged; None: it can.

        The machine's own headers may be older than the kernel that it runs: what a struct
        has gained in between would be taken for unknown, and so would a flag.
        """
        try:
            size = self.header_layout.size
            self.number(self.asked.number)
            newest = self.asked.in_abi(self.entry).versions[-1].size
        except BuildError:
            return (
                f"the headers here have no {layouts.tag(self.asked.struct)}: --headers has others"
            )
        own = local.headers_version(self.compiler)
        if own >= release or (newest <= size and not self.missing_bits):
            return self._refused_here()
        return (
            f"the headers here are of Linux {own[0]}.{own[1]}, the kernel is {release[0]}."
            f"{release[1]}: which {layouts.tag(self.asked.struct)} it has, they do not say:"
            " --headers has others"
        )

    def _refused_here(self) -> str | None:
        """Why the kernel at hand does not take the interface's calls at all; None: it does.

        It may have been built without it; and io_uring may be forbidden (kernel.io_uring_disabled).
        """
        absent = {codes.ENOSYS, self.asked.absent.errno if self.asked.absent else codes.ENOSYS}
        if self.asked.queued:
            absent.add(codes.EPERM)
        try:
            case = self.case()
            seen, allowed = self.observe(case), self.predict(case)
        except SetupError as exc:
            return str(exc)
        if seen.errno not in absent or seen.errno == allowed.errno:
            return None
        options = " and ".join(f"CONFIG_{one}" for one in self.asked.needs.options)
        needs = f": it needs {options}" if options else ""
        return f"this kernel answers {seen.ending}{needs}"

    def _header_fields(self, names: list[str]) -> Layout:
        """The layout of those of these fields that the header has; all, if nothing is wrong."""
        asked = self.asked
        try:
            return self._header_layout(names)
        except BuildError:
            offsets = {f"offsetof({layouts.tag(asked.struct)}, {name})": name for name in names}
            gone = layouts.undefined(
                self.compiler, self.entry, includes=("stddef.h", asked.header), names=offsets
            )
            there = [name for offset, name in offsets.items() if offset not in gone]
            if not there:
                raise
            return self._header_layout(there)

    def _header_layout(self, names: list[str]) -> Layout:
        return layouts.layout(
            self.compiler,
            self.entry,
            struct=self.asked.struct,
            fields=names,
            includes=(self.asked.header,),
        )

    @cached_property
    def declared_whole(self) -> Layout:
        """The struct as the contract declares it, in its newest version."""
        return layouts.layout(
            self.compiler,
            self.entry,
            struct=self.asked.struct,
            fields=self.field_names,
            declaration=self.asked.declaration,
        )

    @property
    def declared(self) -> Layout:
        """The struct as the contract declares it, as far as this kernel's version goes."""
        whole, size = self.declared_whole, self.header_layout.size
        if size >= whole.size or size not in {one.size for one in self.asked.versions}:
            return whole
        fields = tuple(one for one in whole.fields if one.end <= size)
        if self.asked.rest:  # of a union, members grow without the whole
            fields = tuple(one for one in fields if self.header_layout.has(one.name))
        return dataclasses.replace(whole, size=size, fields=fields)

    @cached_property
    def missing_bits(self) -> frozenset[str]:
        """Names of known bits that this kernel's header does not have: it came before them."""
        includes = (self.asked.header, *self.asked.includes)
        return layouts.undefined(self.compiler, self.abi, includes=includes, names=self.asked.newer)

    @cached_property
    def made(self) -> dict[str, int]:
        """What the steps of the set-up returned in this ABI's caller; they are made once in it.

        Raises SetupError when one fails.
        """
        kept = self.target.kept(self.abi)
        if self.asked.name in kept:
            return kept[self.asked.name]
        made: dict[str, int] = {}
        for step in self.asked.setup:
            program = Program()
            program.reset()
            program.write(SCRATCH, DATA_AT, self.asked.data)
            args = sweep.step_args(step.with_constants(self.constant).with_made(made))
            call = program.syscall(self.number(step.call), *args)
            result = self.caller.run(program)[call.index]
            if (result.errno or result.signal) and not step.may_fail:
                raise SetupError(
                    f"{self.abi.name}: the set-up of {self.asked.name} failed: {step.call}(): "
                    + model.ending(result.errno, result.signal)
                )
            if step.name:
                made[step.name] = result.ret
        kept[self.asked.name] = made
        return made

    @cached_property
    def kernels_own(self) -> Layout | None:
        """The struct as the kernel's own compiler had it, where its DWARF is at hand.

        That of this ABI's entry, where each has one of its own.
        """
        laid = self.asked.layouts.get(self.entry.name)
        for path in self.described:
            found = layouts.from_dwarf(path, laid.kernel if laid else self.contract.struct)
            if found:
                return found
        return None

    @cached_property
    def field_names(self) -> tuple[str, ...]:
        names = layouts.field_names(self.asked.declaration, self.asked.struct)
        return tuple(name for name in names if name != self.asked.rest)

    @property
    def ksize(self) -> int:
        """The kernel's size of the struct, bytes."""
        return self.layout.size

    def constant(self, expression: str, *includes: str) -> int:
        """A constant expression of C in this ABI, from this kernel's headers."""
        names = includes or (self.asked.header, *self.asked.includes)
        found = layouts.constants(
            self.compiler, self.abi, includes=names, expressions={"value": expression}
        )
        return found["value"]

    def constants(self, *names: str) -> dict[str, int]:
        """Constants of the contract's headers in this ABI, out of one translation unit."""
        return layouts.constants(
            self.compiler,
            self.abi,
            includes=(self.asked.header, *self.asked.includes),
            expressions={name: name for name in names},
        )

    def number(self, name: str, way: Way | None = None) -> int:
        """A system call's number by this way into the kernel; x32's has bit 30 set."""
        table = abi(way.table) if way else self.abi
        header = self.asked.number_header
        if name == self.asked.number and header != layouts.UNISTD:
            found = layouts.constants(
                self.compiler, table, includes=(header,), expressions={"value": name}
            )
            return found["value"]
        return layouts.number(self.compiler, table, name)

    @property
    def register(self) -> int:
        """Bits of an argument that reach the call by the ABI's own way."""
        return self.ways[0].register if self.asked.queued else self.abi.register

    # The struct.

    def template(self, **fields: int) -> bytes:
        """The example's bytes for a sweep, which sets the size by itself."""
        return bytes(self.layout.new(**{**self.contract.example, **fields}))

    def example(self, *, usize: int | None = None, **fields: int) -> bytes:
        """An accepted struct of ``usize`` bytes (the kernel's own size by default)."""
        size = self.ksize if usize is None else usize
        length = self.contract.extent(size)
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
        # An x32 program's ioctl() is the compat one: a pointer's upper half is cut off.
        ioctl = self.contract.number == "__NR_ioctl" and self.abi.name == "mx32"
        register = 32 if ioctl else self.register
        return cases.predict(self.contract, self.layout, case, register=register)

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
        self,
        program: Program,
        case: Case,
        pids: Mapping[Peer, ResultOf] = MappingProxyType({}),
        *,
        effect: bool = True,
    ) -> _Placed:
        """Add a case to a program: memory, call, effect, and a look at the memory."""
        program.reset()
        program.write(SCRATCH, DATA_AT, self.contract.data)
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
        look = len(present) if case.pointer is None else 0
        placed = self.place_call(program, case, look=look, effect=effect)
        pid = pids[case.peer[1]] if case.peer is not None else None
        return dataclasses.replace(placed, pid=pid)

    def place_in(self, program: Program, case: Case) -> ResultOf:
        """Add a case's struct and its call to a program; what was accepted is undone."""
        program.write(ARENA, case.offset, case.memory)
        return self.place_call(program, case, look=0, effect=False).call

    def place_call(
        self, program: Program, case: Case, *, look: int, effect: bool = True
    ) -> _Placed:
        """Add a case's call and its effect to a program that has laid out the memory.

        ``look`` bytes of the struct are read back afterwards.  Without
        ``effect`` what was accepted is undone, and not looked at: that may block.
        """
        self.place_before(program)
        call = self.enter(program, cases.registers(self.contract, case), way=case.way)
        got = shown = None
        if effect and isinstance(self.contract.effect, ReadBack):
            length = self.contract.effect.length(self.ksize) + sweep.BUFFER_SPARE
            program.fill(SCRATCH, 0, length, sweep.BUFFER_FILL)
            got = program.syscall(self.number("read"), call, at(SCRATCH), length)
            shown = program.read(SCRATCH, 0, length)
        self.place_undo(program, call)
        after = None
        if look and case.protection is not Protection.NONE:
            after = program.read(ARENA, case.offset, look)
        return _Placed(case=case, call=call, got=got, shown=shown, after=after)

    def place_before(self, program: Program) -> None:
        """Add the steps that each call needs before it."""
        for step in self.contract.before:
            program.syscall(self.number(step.call), *sweep.step_args(step))

    def place_undo(self, program: Program, call: ResultOf) -> None:
        """Add what undoes an accepted call: its child waited for, its steps, its descriptor closed.

        Each is skipped when the call failed.
        """
        if isinstance(self.contract.effect, Child):
            wait = (sweep.P_PID, call, 0, sweep.WEXITED | sweep.WALL, 0)
            program.syscall(self.number("waitid"), *wait)
        for step in self.contract.after:
            args = sweep.step_args(step, call)
            program.syscall(self.number(step.call), *args, only_after=call)
        if isinstance(self.contract.effect, (ReadBack, Descriptor)):
            program.syscall(self.number("close"), call)

    def enter(
        self, program: Program, registers: Sequence[Argument], *, way: Way | None = None
    ) -> ResultOf:
        """Add the interface's call with these arguments to a program, by this way."""
        number = self.number(self.contract.number, way)
        return program.syscall(number, *registers, entry=entry_of(way, queued=self.contract.queued))

    def _look(self, placed: _Placed, results: Sequence[Result]) -> Observed:
        """What became of a placed case."""
        mine = results[placed.call.index]
        written, strayed, memory = None, False, b""
        if placed.after is not None:
            new = self._unnamed(placed, results, results[placed.after.index].data)
            old = placed.case.memory[: len(new)]
            memory = new
            where = self.size_place
            if where is not None and len(new) >= where[1]:
                start, end = where
                if new[start:end] != old[start:end]:
                    written = int.from_bytes(new[start:end], "little")
                new = new[:start] + old[start:end] + new[end:]
            if isinstance(self.contract.effect, Fills) and not mine.errno:
                for start, end in self.predict(placed.case).filled:
                    new = new[:start] + old[start:end] + new[end:]
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
            memory=memory,
            signal=mine.signal,
            results=tuple(results),
        )

    @property
    def size_place(self) -> tuple[int, int] | None:
        """The size field's first byte and the one behind it, where there is such a field.

        A struct that is an answer may have one that the call is not told by.
        """
        where, effect = self.contract.size, self.contract.effect
        if isinstance(where, SizeField):
            return where.offset, where.end
        if isinstance(effect, Fills) and effect.size_holds:
            field = self.layout.field("size")
            return field.offset, field.end
        return None

    def _unnamed(self, placed: _Placed, results: Sequence[Result], data: bytes) -> bytes:
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
        caller = self.caller
        self._tell(several=(case,))
        return self._look(placed, caller.run(program))

    def observe_in(self, program: Program, case: Case) -> Observed:
        """Make one call behind a program that has laid out the memory in its own way."""
        placed = self.place_call(program, case, look=0)
        caller = self.caller
        self._tell(several=(case,))
        return self._look(placed, caller.run(program))

    def _tell(self, *, several: tuple[Case, ...] = (), rule: Sweep | None = None) -> None:
        """Say what the next request is about, for what the kernel may say of it."""
        self.target.about = Asked(contract=self.contract, abi=self.abi, several=several, rule=rule)

    def compare(
        self, case: Case, seen: Observed, *, about: frozenset[str] = ASPECTS
    ) -> list[Mismatch]:
        """Nothing when the contract allows what was seen, else the one mismatch.

        ``about`` narrows it to some of ASPECTS: what a property is about, so
        that another property's fault does not turn it red.
        """
        allowed = self.predict(case)
        held = allowed.held if isinstance(self.contract.effect, ReadBack) else None
        written = allowed.written
        place = self.size_place
        if allowed.filled and place is not None:
            # To write what is there already is not seen.
            there = int.from_bytes(case.memory[slice(*place)], "little")
            written = None if written == there else written
        differ = {
            "errno": ((allowed.errno, 0), (seen.errno, seen.signal)),
            "write-back": (written, seen.written),
            "effect": (held, seen.held),
            "memory": (False, seen.strayed),
        }
        wrong = [
            name for name, (ours, theirs) in differ.items() if ours != theirs and name in about
        ]
        # What else should have become of a call with another errno, nobody can say.
        if "errno" not in about and allowed.errno != seen.errno:
            return []
        # An answer that met a fault may have been written in part.
        if isinstance(self.contract.effect, Fills) and allowed.errno == self.contract.copy.errno:
            wrong = [name for name in wrong if name not in ("write-back", "memory")]
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
        words = cases.describe(self.contract, self.layout, case, register=self.register)
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
        seen = self.observe_all(several, effect="effect" in about)
        return [
            self.compare(case, one, about=about) for case, one in zip(several, seen, strict=True)
        ]

    def observe_all(self, several: Sequence[Case], *, effect: bool = True) -> list[Observed]:
        """Make calls, many to a request, and see what came of each.

        Without ``effect`` what was accepted is undone, and not looked at.
        """
        found: dict[int, Observed] = {}
        for batch in self._batches(several):
            program = Program()
            pids = self._enter(program, [several[index] for index in batch])
            placed = [self._place(program, several[index], pids, effect=effect) for index in batch]
            caller = self.caller
            self._tell(several=tuple(several[index] for index in batch))
            results = tuple(caller.run(program))
            found |= {
                index: self._look(one, results) for index, one in zip(batch, placed, strict=True)
            }
        return [found[index] for index in range(len(several))]

    def _batches(self, several: Sequence[Case]) -> Iterator[list[int]]:
        """Which cases go into one request: one identity's, and not more than it holds."""
        by_identity: dict[Identity | None, list[int]] = {}
        for index, case in enumerate(several):
            by_identity.setdefault(case.who, []).append(index)
        for indices in by_identity.values():
            batch: list[int] = []
            used = 0
            for index in indices:
                length = len(several[index].memory) + len(self.contract.data)
                if batch and (len(batch) == CASES_PER_PROGRAM or used + length > BYTES_PER_PROGRAM):
                    yield batch
                    batch, used = [], 0
                batch.append(index)
                used += length
            yield batch

    # Many calls.

    def sweep(self, rule: Sweep, *, again: bool = True) -> SweepResult:
        """Run a sweep to its end.

        Without ``again`` the answer that this target gave to the very same
        request of this ABI's will do, if it is one of the last.
        """
        caller = self.caller
        parts = self._parts(rule)
        payloads = self._payloads(parts)
        known = None if again else self.target.answered(self.abi, payloads)
        if known is not None:
            return known
        self._tell(rule=rule)
        if len(payloads) == 1:
            found = caller.sweep(payloads[0])
            self.target.remember(self.abi, payloads, found)
            return found
        whole = [sweep.count(part, self.contract) for part in parts]
        return sweep.join(caller.sweeps(payloads), whole)

    def _parts(self, rule: Sweep) -> list[Sweep]:
        """The rule, or the sweeps in which several callers share it."""
        # What a set-up made is in one caller alone.
        alone = self.caller.lanes == 1 or self.asked.setup
        if alone or sweep.count(rule, self.contract) < SPLIT_CALLS:
            return [rule]
        return sweep.split(rule, self.contract, PARTS_PER_LANE * self.caller.lanes)

    def _payloads(self, parts: Sequence[Sweep]) -> list[bytes]:
        """The requests for sweeps."""
        after = sweep.after_ops(self.contract, number=self.number, ksize=self.ksize)
        return [
            sweep.encode(
                part,
                self.contract,
                number=self.number(self.contract.number, part.way),
                before=[
                    *(sweep.poison_ops(self.number) if part.poison else []),
                    *sweep.before_ops(self.contract, number=self.number),
                ],
                after=after,
                deadline_ms=SWEEP_DEADLINE_MS,
            )
            for part in parts
        ]

    def mismatches(self, rule: Sweep) -> list[Mismatch]:
        """Where the kernel did what the contract does not allow."""
        register = rule.way.register if rule.way else self.register
        return sweep.compare(rule, self.contract, self.layout, self.sweep(rule), register=register)

    def thinned(self, rule: Sweep) -> list[Sweep]:
        """The sweeps to make for a rule: itself, or fewer sizes of it.

        Where an accepted call costs a hundred times a refused one, every size
        near the struct's is tried, and beyond it one of STEP: what a size up to
        a page can do wrong, it does at a bound or everywhere.
        """
        if not isinstance(self.contract.effect, COSTLY):
            return [rule]
        found = [rule]
        for depth, dim in enumerate(rule.dims):
            near = self.ksize + NEAR_SIZES
            if dim.kind is not Kind.USIZE or dim.stop - dim.start <= NEAR_SIZES or dim.step > 1:
                continue
            spans = [
                dataclasses.replace(dim, stop=min(near, dim.stop)),
                dataclasses.replace(dim, start=max(near, dim.start), step=STEP),
                dataclasses.replace(dim, start=max(dim.stop - LAST_SIZES, dim.start)),
            ]
            found = [
                dataclasses.replace(one, dims=(*one.dims[:depth], span, *one.dims[depth + 1 :]))
                for one in found
                for span in spans
                if span.start < span.stop
            ]
        return found

    def rows(self, rule: Sweep, *, again: bool = True) -> tuple[object, ...]:
        """Outcomes of a rule's calls, for a comparison with another way's or ABI's.

        ``again`` is sweep()'s.
        """
        if isinstance(self.contract.effect, Fills):
            several = self.observe_all(self.sampled(rule)[::5])
            return tuple((one.errno, one.written, one.strayed) for one in several)
        return tuple(row for one in self.thinned(rule) for row in self.sweep(one, again=again).rows)

    def calls_of(self, rule: Sweep) -> Iterator[Case]:
        """The calls behind rows(), in their order."""
        if isinstance(self.contract.effect, Fills):
            yield from self.sampled(rule)[::5]
            return
        for one in self.thinned(rule):
            for point in sweep.points(one, self.contract):
                yield sweep.case_of(one, self.contract, point)

    def verify(self, *rules: Sweep) -> None:
        """Run sweeps; ContractBrokenError when an outcome is not the allowed one."""
        found = Causes()
        for rule in rules:
            if isinstance(self.contract.effect, Fills):
                for mismatches in self.judge(self.sampled(rule)):
                    for mismatch in mismatches:
                        found.add(mismatch)
                continue
            for one in self.thinned(rule):
                for mismatch in self.mismatches(one):
                    found.add(mismatch)
        self.fail_on(found.all())

    def sampled(self, rule: Sweep) -> list[Case]:
        """A rule's calls as cases, or so many of them: where each call writes the struct.

        A sweep looks for what was written where nobody may; here that is most of it.
        """
        total = sum(sweep.count(one, self.contract) for one in self.thinned(rule))
        step = max(1, total // SAMPLES) | 1
        every = (
            (one, point) for one in self.thinned(rule) for point in sweep.points(one, self.contract)
        )
        chosen = itertools.islice(every, 0, None, step)
        return [sweep.case_of(one, self.contract, point) for one, point in chosen]

    def fail_on(self, found: list[Mismatch]) -> None:
        """Raise ContractBrokenError with these mismatches, if there are any."""
        if found:
            raise ContractBrokenError(
                f"{self.abi.name}: {self.asked.name}() breaks its contract:", found
            )

    @property
    def size_bits(self) -> int:
        """How wide the size is in this ABI, in bits."""
        match self.contract.size:
            case SizeField(width=width):
                return 8 * width
            case SizeFixed():
                return 0
            case SizeArg(width=width):
                return min(width, self.register)
            case _:
                return 14
