# SPDX-License-Identifier: GPL-2.0-only
"""The battery's items for P23 and P24: what calls leave in the kernel, and memory that is short.

Importing this module adds them.  That the kernel reports nothing is looked at
behind every test (harness/lab.py:verify_alive) and counts as P23 as well.  What
needs a kernel with kmemleak and fault injection, vm/config/sanitizers.config has.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import re
import time
import weakref
from collections.abc import Iterator

import pytest

from harness import case as cases
from harness.abi import ABI
from harness.battery import BATTERY, Item, Level, lowest_free, no_descriptor, provoked_alone
from harness.case import Case, Protection
from harness.channel import RefusedError
from harness.contract import DATA_AT, PAGE, Contract, SizeField
from harness.findings import Causes, ContractBrokenError, Mismatch
from harness.how import KeepsNothing, Meter, NoProgram, StepFails, WithoutDescriptors
from harness.interface import Interface, Observed
from harness.program import AREA_BYTES, ARENA, SCRATCH, Argument, Program, at
from harness.splats import SplatError
from harness.sweep import Dim, Kind, Sweep
from harness.target import Target
from vm.errors import Verdict

#: Refused calls that may leave nothing behind: in each ABI, or a third of them, since what
#: is refused is the same function's to give back in all three, and each is asked.
REFUSED_CALLS = 100_000
QUICK_REFUSED_CALLS = 34_000
#: So many of them are asked for at once: each request has a deadline, and a call that
#: allocates takes a hundred times as long with KASAN.
CALLS_PER_REQUEST, CALLS_PER_REQUEST_KASAN = 5_000, 1_000
#: The square of this many are accepted, and each is closed: in each ABI, or a third of
#: them; where each costs fifty times as much, fewer.
ACCEPTED_SIDE, QUICK_ACCEPTED_SIDE, ACCEPTED_SIDE_KASAN = 100, 58, 30
#: That part of them before, of each kind, so that all caches are as full as they get; with
#: KASAN as many again.
WARM_UP = 10
#: The least that the allocator gives (KMALLOC_MIN_SIZE), in bytes.
LEAST = 8
#: Growth that is no leak, in KiB, however few the calls are; over all of Linux's own
#: interfaces on a guest with nothing else to do it was 16 at the most.
MOST_SLAB = 64
#: With KASAN, what was freed stays for a while, up to a 32nd of the memory, and
#: comes and goes in portions: mm/kasan/quarantine.c.
MOST_SLAB_KASAN = 4096
#: KiB of pages: what the slab may have, and file pages that the guest's root brings.  There
#: it was 40; a page that each of a kind's calls loses is 5,000 and more.
MOST_PAGES, MOST_PAGES_KASAN = 2048, 8192
#: Open files that are not closed yet.
MOST_FILES = 64
#: What is freed late, behind an RCU grace period or by a worker, has so long, in seconds:
#: ten thousand perf events took four of them on a host with nine jobs for its two cores.
LATE_SECONDS = 20.0
#: Has the kernel give back at once what kfree_rcu() keeps for five seconds so as to free it
#: together (kernel/rcu/tree.c:KFREE_DRAIN_JIFFIES and its shrinker).
DROP_CACHES, SHRINK = "/proc/sys/vm/drop_caches", b"2"

MEMLEAK = "/sys/kernel/debug/kmemleak"
#: An object has to be as old before kmemleak reports it (MSECS_MIN_AGE), in seconds.
LEAK_AGE = 5.0
#: All memory is looked through: two seconds with KASAN, thirty beside other work.
SCAN_SECONDS = 180.0
#: Objects that a report shows.
SHOWN_LEAKS = 3
#: The calls that may have lost something.
REFUSED, FAILED = "what is refused, and what is accepted", "a step that fails"

FAIL_NTH = b"/proc/thread-self/fail-nth"
#: What is set before: allocations that may wait fail as well, and no fault is reported.
FAULT_SETTINGS = {
    "/sys/kernel/debug/failslab/ignore-gfp-wait": b"N",
    "/sys/kernel/debug/failslab/verbose": b"0",
    "/sys/kernel/debug/fail_usercopy/verbose": b"0",
}
#: Sites that are tried; the sample has about ten.
MOST_SITES = 200
#: Where the file's name and what is written to it lie in the scratch area: before the
#: contract's own bytes and pieces (contract.py:DATA_AT).
NAME_AT, TEXT_AT, LIMIT_AT = 24576, 25088, 25600
#: getrlimit(2): linux/resource.h.
RLIMIT_NOFILE = 7


# P23: what is held.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Held:
    """What the kernel holds, as it says itself."""

    slab: int  #: KiB of kmalloc() and the like that cannot be reclaimed
    taken: int  #: KiB that are not free
    files: int  #: open files

    def beyond(self, before: Held, most: Held) -> str | None:
        """What has grown by more than ``most``; None: nothing."""
        grown = [
            f"{name} grew by {now - then:,} {unit}"
            for name, now, then, least, unit in (
                ("the slab", self.slab, before.slab, most.slab, "KiB"),
                ("memory in use", self.taken, before.taken, most.taken, "KiB"),
                ("the number of open files", self.files, before.files, most.files, "files"),
            )
            if now - then > least
        ]
        return ", ".join(grown) or None


def may_grow(times: int, *, kasan: bool = False) -> Held:
    """What so many calls may leave behind and yet keep nothing: half of the least, if each did."""
    if kasan:
        return Held(slab=MOST_SLAB_KASAN, taken=MOST_PAGES_KASAN, files=MOST_FILES)
    least = times * LEAST // 2 // 1024
    return Held(slab=max(MOST_SLAB, least), taken=MOST_PAGES, files=MOST_FILES)


def held(interface: Interface) -> Held:
    """What the kernel holds now."""
    text = interface.target.read_file("/proc/meminfo").decode()
    kib = {name: int(value) for name, value in re.findall(r"^(\w+): +(\d+) kB", text, re.M)}
    files = interface.target.read_file("/proc/sys/fs/file-nr").split()
    return Held(slab=kib["SUnreclaim"], taken=kib["MemTotal"] - kib["MemFree"], files=int(files[0]))


def has(interface: Interface, path: str) -> bool:
    """Whether the target has a file that can be read."""
    try:
        interface.target.read_file(path)
    except RefusedError:
        return False
    return True


def _kasan(interface: Interface) -> bool:
    """Whether the kernel has kmemleak, and KASAN with it; asked of each target once."""
    target = interface.target
    if target not in _HAVE_KASAN:
        _HAVE_KASAN[target] = has(interface, MEMLEAK)
    return _HAVE_KASAN[target]


_HAVE_KASAN: weakref.WeakKeyDictionary[Target, bool] = weakref.WeakKeyDictionary()


def _queued(contract: Contract, abi: ABI) -> str | None:
    """Why the steps of a call cannot be told from those of others."""
    return "a queued call is several system calls" if contract.queued else None


def _no_loop(contract: Contract, abi: ABI) -> str | None:
    """Why refused calls cannot be made one after the other by nothing but the call."""
    return _queued(contract, abi) or (
        "each call needs another before it" if contract.before else None
    )


def _only_a_guest(interface: Interface) -> None:
    if not interface.target.guest:
        pytest.skip("what this machine's kernel holds is not ours alone")


def _compare(
    interface: Interface,
    before: Held,
    what: str,
    case: Case,
    *,
    times: int,
    warm: int,
    no_descriptors: bool = False,
) -> list[Mismatch]:
    """Nothing when the kernel holds no more than before; what is freed late is waited for.

    ``case`` was made ``warm`` times before, and so many ``times`` since.
    """
    most = may_grow(times, kasan=_kasan(interface))
    end = time.monotonic() + LATE_SECONDS
    while (grown := held(interface).beyond(before, most)) and time.monotonic() < end:
        with contextlib.suppress(RefusedError):  # a kernel without it takes its five seconds
            interface.target.write_file(DROP_CACHES, SHRINK)
        time.sleep(0.05)
    if not grown:
        return []
    allowed = "nothing is left behind"
    how = KeepsNothing(
        meters=(
            (Meter.SLAB, most.slab),
            (Meter.MEMORY, most.taken),
            (Meter.FILES, most.files),
        ),
        times=times,
        before=warm,
        no_descriptors=no_descriptors,
    )
    return [
        Mismatch(
            first=what,
            last=what,
            count=1,
            allowed=allowed,
            seen=grown,
            cause="held",
            case=case,
            how=how,
        )
    ]


def _loop(interface: Interface, case: Case, count: int) -> None:
    """Make a refused call again and again; its memory lies there from the last observe()."""
    contract = interface.contract
    place = interface.size_place
    poke = None
    if place is not None and isinstance(contract.size, SizeField) and contract.size.width == 4:
        poke = (case.offset + place[0], case.usize)
    args: list[Argument] = cases.registers(contract, case)
    number = interface.number(contract.number)
    most = CALLS_PER_REQUEST_KASAN if _kasan(interface) else CALLS_PER_REQUEST
    for start in range(0, count, most):
        interface.caller.loop(
            number,
            args,
            min(most, count - start),
            poke=poke if case.pointer is None else None,
        )


def _calls(interface: Interface, level: Level) -> int:
    """How many refusals are made; fewer where each costs fifty times as much.

    There kmemleak finds one lost object as well as a hundred thousand.
    """
    if _kasan(interface):
        return REFUSED_CALLS // 20
    return REFUSED_CALLS if level.full else QUICK_REFUSED_CALLS


def _warm(interface: Interface, case: Case, count: int) -> tuple[Held, int]:
    """Make some of the calls; what the kernel holds then, and how many they were."""
    warm = count if _kasan(interface) else count // WARM_UP
    _loop(interface, case, warm)
    return held(interface), warm


def _loops(interface: Interface) -> list[Case]:
    """Refused calls that can be made in a loop: by this process, with memory that stays."""
    return [
        case
        for case in provoked_alone(interface)
        if case.who is None
        and case.peer is None
        and case.protection is Protection.READ_WRITE
        and interface.predict(case).errno
    ]


def _refused_calls_keep_nothing(interface: Interface, level: Level) -> None:
    """A hundred thousand refusals over the ABIs, of every kind: no memory, page or file stays."""
    _only_a_guest(interface)
    several = _loops(interface)
    found = Causes()
    for case in several:
        seen = interface.observe(case)
        if seen.errno != interface.predict(case).errno:
            continue  # another property's
        count = _calls(interface, level) // len(several)
        before, warm = _warm(interface, case, count)
        _loop(interface, case, count)
        words = cases.describe(
            interface.contract, interface.layout, case, register=interface.abi.register
        )
        words = f"{count:,} times {words}"
        for mismatch in _compare(interface, before, words, case, times=count, warm=warm):
            found.add(mismatch)
    # So many may have taken what a process has of its own, its descriptors: that is
    # for P20 to say, and not for each test that finds none left.
    interface.target.gone(interface.abi)
    interface.fail_on(found.all())


@contextlib.contextmanager
def _no_descriptors(interface: Interface) -> Iterator[None]:
    """The caller may open no further file."""
    number = interface.number("prlimit64")

    def limit(soft: int, hard: int) -> None:
        program = Program()
        data = soft.to_bytes(8, "little") + hard.to_bytes(8, "little")
        program.write(SCRATCH, LIMIT_AT, data)
        program.syscall(number, 0, RLIMIT_NOFILE, at(SCRATCH, LIMIT_AT), 0)
        interface.caller.run(program)

    program = Program()
    program.syscall(number, 0, RLIMIT_NOFILE, 0, at(SCRATCH, LIMIT_AT))
    shown = program.read(SCRATCH, LIMIT_AT, 16)
    data = interface.caller.run(program)[shown.index].data
    soft, hard = (int.from_bytes(data[at_ : at_ + 8], "little") for at_ in (0, 8))
    limit(0, hard)
    try:
        yield
    finally:
        limit(soft, hard)


def _calls_without_a_descriptor_keep_nothing(interface: Interface, level: Level) -> None:
    """EMFILE, which comes behind all checks: what was made until then is given back."""
    _only_a_guest(interface)
    case = interface.case()
    found: list[Mismatch] = []
    with _no_descriptors(interface):
        seen = interface.observe(case)
        if seen.errno != errno.EMFILE:
            raise ContractBrokenError(
                f"{interface.abi.name}: {interface.contract.name}() with RLIMIT_NOFILE at 0:",
                [_not(case, interface, "EMFILE", seen, how=WithoutDescriptors(errno=errno.EMFILE))],
            )
        count = _calls(interface, level)
        before, warm = _warm(interface, case, count)
        _loop(interface, case, count)
        found = _compare(
            interface,
            before,
            f"{count:,} times EMFILE",
            case,
            times=count,
            warm=warm,
            no_descriptors=True,
        )
    interface.fail_on(found)


def _not(case: Case, interface: Interface, allowed: str, seen: object, *, how: object) -> Mismatch:
    words = cases.describe(
        interface.contract, interface.layout, case, register=interface.abi.register
    )
    return Mismatch(
        first=words,
        last=words,
        count=1,
        allowed=allowed,
        seen=str(seen),
        cause=allowed,
        case=case,
        how=how,
    )


def _accepted_calls_keep_nothing(interface: Interface, level: Level) -> None:
    """Ten thousand descriptors over the ABIs, read from and closed: the kernel holds no more."""
    _only_a_guest(interface)
    side = ACCEPTED_SIDE if level.full else QUICK_ACCEPTED_SIDE
    side = ACCEPTED_SIDE_KASAN if _kasan(interface) else side
    # Moved about, a call is the same call; the two dimensions make it so many.
    moves = Dim(kind=Kind.SHIFT, start=0, stop=side)
    rule = Sweep(dims=(moves, moves), usize=interface.ksize, template=interface.template())
    interface.sweep(rule)
    before = held(interface)
    interface.sweep(rule)
    case, times = interface.case(), side**2
    words = f"{times:,} times {case}, and close()"
    interface.fail_on(_compare(interface, before, words, case, times=times, warm=times))


# P23: what is lost.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leak:
    """An object that nothing points to, as kmemleak has it."""

    size: int  #: bytes
    comm: str  #: the program that it was allocated for
    trace: tuple[str, ...]  #: the allocation, innermost first

    def __str__(self) -> str:
        return f"{self.size} bytes, allocated for {self.comm} by {' < '.join(self.trace[:8])}"


_OBJECT = re.compile(r"^unreferenced object 0x[0-9a-f]+ \(size (\d+)\):$", re.M)
_COMM = re.compile(r'^  comm "([^"]*)"', re.M)
_FRAME = re.compile(r"^    (?:\[<[0-9a-f]+>\] )?(\S+\+0x\S+)", re.M)


def leaks(report: str) -> list[Leak]:
    """The objects of a report: mm/kmemleak.c:print_unreferenced()."""
    found = []
    starts = [*(one.start() for one in _OBJECT.finditer(report)), len(report)]
    for start, stop in itertools.pairwise(starts):
        text = report[start:stop]
        size, comm = _OBJECT.search(text), _COMM.search(text)
        assert size is not None
        found.append(
            Leak(
                size=int(size[1]),
                comm=comm[1] if comm else "?",
                trace=tuple(_FRAME.findall(text)),
            )
        )
    return found


#: On each target, the calls that may have lost something, by interface and ABI, and whether
#: kmemleak has looked since they were made.
_LOOKED: weakref.WeakKeyDictionary[Target, dict[tuple[str, str, str], bool]]
_LOOKED = weakref.WeakKeyDictionary()


def _key(interface: Interface, what: str) -> tuple[str, str, str]:
    return interface.contract.name, interface.abi.name, what


def _made(interface: Interface, what: str) -> None:
    """Note that calls were made, for check_leaks()."""
    _LOOKED.setdefault(interface.target, {})[_key(interface, what)] = False


def _were_made(interface: Interface, what: str) -> bool:
    """Whether they were, on this target."""
    return _key(interface, what) in _LOOKED.get(interface.target, {})


def check_leaks(interface: Interface, what: str) -> None:
    """What kmemleak says that this ABI's callers have lost by ``what``; SplatError names it.

    All memory is looked through for that, which takes seconds: for all ABIs whose
    calls were made by then at once.
    """
    target = interface.target
    looked = _LOOKED.setdefault(target, {})
    if not looked.get(_key(interface, what)):
        _scan(target)
        looked.update(dict.fromkeys(looked, True))
    name = f"caller-{interface.abi.name}"
    mine = [text for comm, text in target.lost if comm == name]
    if not mine:
        return
    target.lost = [(comm, text) for comm, text in target.lost if comm != name]
    error = SplatError(
        f"memory that nothing points to: {len(mine):,} objects\n"
        "  no reproducer: any call before may have lost it; where it was allocated is told",
        verdict=Verdict.OOPS,
        console_tail=tuple(dict.fromkeys(mine))[:SHOWN_LEAKS],
    )
    error.kind = "kmemleak"
    raise error


def _scan(target: Target) -> None:
    """Have kmemleak look for what callers have lost, and keep what it tells of each.

    Twice: what it sees for the first time may be on its way from one place to
    another, so it reports only what has not changed since (mm/kmemleak.c:
    update_checksum()).  Told once: it then forgets all of it.
    """
    time.sleep(LEAK_AGE)
    for _ in range(2):
        target.write_file(MEMLEAK, b"scan", seconds=SCAN_SECONDS)
    told = leaks(target.read_file(MEMLEAK).decode(errors="replace"))
    if told:
        target.lost = [*target.lost, *((one.comm, str(one)) for one in told)]
        target.write_file(MEMLEAK, b"clear")


def _refused_and_accepted(interface: Interface, level: Level) -> None:
    """Every way to be refused, and what is accepted: the next item looks at what they lost."""
    if not _kasan(interface):
        pytest.skip("this kernel has no kmemleak: VARIANT=sanitizers has")
    interface.check_all(*provoked_alone(interface), about=frozenset())
    if no_descriptor(interface.contract, interface.abi) is None:
        with _no_descriptors(interface):
            interface.observe(interface.case())
    _made(interface, REFUSED)


def _nothing_is_lost(interface: Interface, level: Level) -> None:
    """After all that was refused and accepted: no object that nothing points to."""
    if not _were_made(interface, REFUSED):  # by another guest, which is gone, or not at all
        _refused_and_accepted(interface, level)
    check_leaks(interface, REFUSED)


# P24: injected faults.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Injected:
    """A call of which one step failed that never fails by itself."""

    hit: bool  #: there was such a step; else the call was made as always
    seen: Observed


def _with_fault(interface: Interface, case: Case, nth: int) -> Injected:
    """Make a call in which the ``nth`` allocation or copy fails (fault-injection.rst: fail-nth).

    What the call needs is made before, and what it leaves undone behind: only its own
    steps fail.
    """
    program = Program()
    program.reset()
    program.write(SCRATCH, DATA_AT, interface.contract.data)
    program.write(ARENA, case.offset, case.memory[: case.hole])
    program.write(SCRATCH, NAME_AT, FAIL_NTH + b"\0")
    program.write(SCRATCH, TEXT_AT, str(nth).encode() + b"\0")
    mode = interface.constant("O_RDWR", "linux/fcntl.h")
    nowhere = interface.constant("AT_FDCWD", "linux/fcntl.h")
    file = program.syscall(interface.number("openat"), nowhere, at(SCRATCH, NAME_AT), mode, 0)
    interface.place_before(program)
    text = len(str(nth))
    armed = program.syscall(interface.number("write"), file, at(SCRATCH, TEXT_AT), text)
    placed = interface.enter(program, cases.registers(interface.contract, case))
    # What is still armed fails in here, and is then over.
    told = program.syscall(interface.number("pread64"), file, at(SCRATCH, TEXT_AT), 16, 0, 0)
    shown = program.read(SCRATCH, TEXT_AT, 1)
    program.write(SCRATCH, TEXT_AT, b"0\0")
    program.syscall(interface.number("write"), file, at(SCRATCH, TEXT_AT), 1)
    program.syscall(interface.number("write"), file, at(SCRATCH, TEXT_AT), 1)
    program.syscall(interface.number("close"), file)
    interface.place_undo(program, placed)
    results = interface.caller.run(program)
    if results[file.index].errno or results[armed.index].errno:
        pytest.skip("this kernel injects no faults: VARIANT=sanitizers does")
    hit = not results[told.index].errno and results[shown.index].data == b"0"
    one = results[placed.index]
    seen = Observed(
        errno=one.errno,
        written=None,
        held=None,
        strayed=False,
        signal=one.signal,
        results=tuple(results),
    )
    return Injected(hit=hit, seen=seen)


def _each_step_fails(interface: Interface, level: Level) -> None:
    """Every allocation and copy of a call fails in turn: a stated error, and nothing is left.

    Stated is ENOMEM for memory, and the contract's own error for a copy; or
    the step was one that the call can do without.
    """
    if not has(interface, FAIL_NTH.decode()):
        pytest.skip("this kernel injects no faults: VARIANT=sanitizers does")
    for path, value in FAULT_SETTINGS.items():
        interface.target.write_file(path, value)
    found = Causes()
    lowest = lowest_free(interface)
    tried = [interface.case(), *_loops(interface)]
    for case in tried:
        if case.pointer is not None or (case.hole or 0) > AREA_BYTES - PAGE:
            continue
        usual = interface.predict(case).errno
        stated = {usual, errno.ENOMEM, interface.contract.copy.errno}
        for nth in range(1, MOST_SITES + 1):
            injected = _with_fault(interface, case, nth)
            if not injected.hit:
                break
            how = StepFails(
                nth=nth, stated=tuple(sorted(stated)), settings=tuple(FAULT_SETTINGS.items())
            )
            if injected.seen.errno not in stated or injected.seen.signal:
                names = ", ".join(errno.errorcode.get(one, "success") for one in sorted(stated))
                words = f"step {nth} fails: {names}"
                found.add(_not(case, interface, words, injected.seen, how=how))
            if (now := lowest_free(interface)) != lowest:
                free = f"step {nth} fails: the lowest free descriptor stays {lowest}"
                found.add(_not(case, interface, free, f"it is {now}", how=how))
                lowest = now
        else:
            reason = NoProgram(
                why="that a call has more steps than are tried is no fault of its own"
            )
            found.add(_not(case, interface, f"at most {MOST_SITES} steps", "more", how=reason))
    _made(interface, FAILED)
    interface.fail_on(found.all())


def _nothing_is_lost_by_a_step_that_fails(interface: Interface, level: Level) -> None:
    """After all those: no object that nothing points to."""
    if not _were_made(interface, FAILED):
        _each_step_fails(interface, level)
    check_leaks(interface, FAILED)


BATTERY += [
    Item(
        prop="P23",
        name="refused-calls-keep-nothing",
        run=_refused_calls_keep_nothing,
        unless=_no_loop,
    ),
    Item(
        prop="P23",
        name="calls-without-a-descriptor-keep-nothing",
        run=_calls_without_a_descriptor_keep_nothing,
        unless=lambda contract, abi: no_descriptor(contract, abi) or _no_loop(contract, abi),
    ),
    Item(
        prop="P23",
        name="accepted-calls-keep-nothing",
        run=_accepted_calls_keep_nothing,
        unless=no_descriptor,
    ),
    Item(prop="P23", name="refused-and-accepted", run=_refused_and_accepted),
    Item(prop="P23", name="nothing-is-lost", run=_nothing_is_lost),
    Item(prop="P24", name="each-step-fails", run=_each_step_fails, unless=_queued),
    Item(
        prop="P24",
        name="nothing-is-lost-by-a-step-that-fails",
        run=_nothing_is_lost_by_a_step_that_fails,
        unless=_queued,
    ),
]
