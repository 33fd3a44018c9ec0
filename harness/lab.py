# SPDX-License-Identifier: GPL-2.0-only
"""What a run works with: a kernel, callers, and one warm guest.

Everything is made when it is first asked for, and kept for the whole run.  A
guest that is lost is replaced by a fresh one for the tests that remain, a few
times; then the run gives up.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

from harness import layout as layouts
from harness import target as targets
from harness.abi import ABI, OF_ARCH
from harness.caller import build as callers
from harness.caller.build import Programs
from harness.channel import Channel, Hello, RefusedError
from harness.contract import Contract
from harness.layout import Compiler
from harness.splats import SplatError
from harness.target import Target
from harness.wire import lib
from vm import accel, build, image, kernels, kselftest, ltp, patches, paths, source
from vm.accel import Accel
from vm.build import Built
from vm.console import Event
from vm.deadline import Deadline
from vm.errors import GuestError, HarnessError, InfraError, UserError, Verdict
from vm.guest import Guest, GuestSpec
from vm.guestroot import make_root
from vm.kernels import Version
from vm.uml import ForbiddenError, Uml, UmlSpec

#: The virtio-serial port of the agent (agent.c:PORT).
PORT = "extsys.0"
#: Where the project's files are in the guest.
GUEST_DIR = "/extsys"
#: From virtme-run's start to the agent's first frame, in seconds.  Two under
#: TCG on an idle machine; a loaded CI runner gets thirty times that, and a kernel that
#: looks at itself more (vm.kernels.Variant.boot_seconds).
BOOT_SECONDS = 60.0
#: How long the console may take to come to the end of a report, in seconds.
SETTLE_SECONDS = 1.0
#: So many reports of one test are printed; the kernel is silent about those behind.
#: A WARN_ON() in the way of a sweep would print for minutes.
MOST_REPORTS = 3
#: Has WARN_ON_ONCE() and the like report again (kernel/panic.c:clear_warn_once_set).
CLEAR_WARN_ONCE = "/sys/kernel/debug/clear_warn_once"
#: What has happened to this kernel since it booted (Documentation/admin-guide/
#: tainted-kernels.rst).
TAINTED = "/proc/sys/kernel/tainted"
PRINTK = "/proc/sys/kernel/printk"
#: The mark behind what a test did.
OVER = "over"
#: Lines of a report that are shown.
REPORT_LINES = 40
#: Reports that a test has asked for, and judges by itself: it had kmemleak scan.
ASKED_FOR = frozenset({"kmemleak"})
#: After one of these the kernel looks no more, or not at that place: lockdep.c:
#: debug_locks_off(), ubsan.c:was_reported().
BLINDED = frozenset({"lockdep", "ubsan"})
#: Guests that one run may lose before it gives up: a fault that ends a guest does so
#: in each of three ABIs, in the test that is about it and in the two that try everything,
#: explore and the kernel's own selftest; and a fourth may meet it.
MOST_BOOTS = 12
#: What the kernel prints on the console while tests run: all but debugging.
LOGLEVEL = b"8\n"
#: And what it prints while it is to be silent: panics.
SILENT = b"1\n"
#: What every installed UAPI include directory has.
ASM = "asm/unistd.h"
HEADERS_HINT = (
    "HEADERS= names what `make headers_install INSTALL_HDR_PATH=DIR` made in that kernel's tree"
)
#: What a kernel built elsewhere may lack, and so not come up.
ELSEWHERE_HINT = (
    "a kernel built elsewhere needs built in what vm/config/base.config and abi.config ask for"
)
#: What a user may ask for.
ACCELS = ("auto", "kvm", "tcg")
#: What a kernel lacks that is built for something else than x86, by what asks for it.
LACKING: Mapping[str, Mapping[str, str]] = {
    kernels.UM: {
        "tracepoints": "user-mode Linux has no tracepoints of system calls: "
        "arch/um/Kconfig does not select HAVE_SYSCALL_TRACEPOINTS",
        "PTRACE_GET_SYSCALL_INFO": "user-mode Linux has no PTRACE_GET_SYSCALL_INFO: "
        "arch/um/Kconfig does not select HAVE_ARCH_TRACEHOOK",
    }
}
#: CPUID's signature, by kind of acceleration.
SIGNATURES = {"kvm": "KVMKVMKVM", "tcg": "TCGTCGTCGTCG"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """What the user asked for."""

    abis: tuple[ABI, ...]
    report: Path  #: directory of the run's output
    kernel: str = ""  #: a row of kernels.toml; none: the default, for a tree the one nearest
    variant: str = kernels.DEFAULT_VARIANT
    kernel_tree: Path | None = None
    accel: str = "auto"
    jobs: int | None = None
    mirror: str | None = None
    local: bool = False  #: this machine's own kernel instead of a guest
    bzimage: Path | None = None  #: a kernel built elsewhere, a bzImage or a vmlinux
    headers: Path | None = None  #: its UAPI include directory
    patches: tuple[Path, ...] = ()  #: on top of the series: a mutant, an extension
    fragments: tuple[str, ...] = ()  #: Kconfig fragments on top of the variant's
    memory: int = 256  #: MiB of the guest
    cpus: int = 1
    ltp: tuple[Path, ...] = ()  #: sources of LTP, each with its library
    cache: Path = dataclasses.field(default_factory=paths.cache_dir)

    def __post_init__(self) -> None:
        """Refuse what would otherwise be found wrong after minutes of building.  UserError."""
        if not self.kernel:
            tree = self.kernel_tree
            name = source.tree_kernel(tree).name if tree else kernels.DEFAULT_KERNEL
            object.__setattr__(self, "kernel", name)  # the one way in a frozen class
        kernels.kernel(self.kernel)
        runs = OF_ARCH[kernels.variant(self.variant).arch]
        if not self.local and not self.bzimage and not set(self.abis) <= set(runs):
            # All of them is what nobody has asked for.
            chosen = tuple(one for one in self.abis if one in runs)
            if not chosen:
                names = ", ".join(one.name for one in runs)
                raise UserError(f"VARIANT={self.variant} runs {names} programs only")
            object.__setattr__(self, "abis", chosen)
        if not self.local and not self.bzimage:
            build.stacked(self.kernel, self.variant)
        if self.accel not in ACCELS:
            raise UserError(
                f"ACCEL={self.accel}: not a way to run a guest", hint=f"one of {', '.join(ACCELS)}"
            )
        ltp.find(self.ltp)
        self._check_elsewhere()

    def _check_elsewhere(self) -> None:
        """A kernel built elsewhere: what there has to be with it, and what there cannot be."""
        for option, path in (("--bzimage", self.bzimage), ("--headers", self.headers)):
            if path is not None and not path.exists():
                raise UserError(f"{option} {path}: no such file")
        if self.headers and (self.headers / "include" / ASM).is_file():
            object.__setattr__(self, "headers", self.headers / "include")
        if self.headers and not (self.headers / ASM).is_file():
            raise UserError(f"--headers {self.headers}: no {ASM} in it", hint=HEADERS_HINT)
        if not self.bzimage:
            return
        if self.kernel_tree or self.local or self.patches:
            raise UserError(
                "--bzimage is a kernel by itself: no --kernel-tree, no --patch and no --local"
            )
        image.check(self.bzimage)
        if not self.headers:
            raise UserError(
                f"--bzimage {self.bzimage}: that kernel's headers are needed too: --headers",
                hint=HEADERS_HINT,
            )


class Lab:
    """A run's kernel, programs and target."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.files: dict[
            str, Path
        ] = {}  #: further files of the guest's: name below GUEST_DIR → file
        self.at_end: list[Callable[[Lab, Target], None]] = []  #: called before a guest is ended
        self.boots = 0
        self.broken: HarnessError | None = None  #: why the run gave up on guests
        #: Why the machine's own headers will not do, by contract and ABI; None: they will.
        self.left_open: dict[tuple[str, str], str | None] = {}
        self.guest: Guest | Uml | None = None
        self._target: Target | None = None
        self._release: str | None = None
        self._stack = contextlib.ExitStack()
        self._seen_events = 0
        self._told: dict[str, str] = {}  # by take_over()
        self._hushed = False
        self._clears = True  #: the guest's WARN_ON_ONCE() can be made to report again
        self._tainted = 0
        self._blind: set[str] = set()  #: kinds of which this guest reports no other
        self._told_of: set[tuple[str, str]] = set()  #: such a kind, and an ABI that met it
        self.boot_events: list[str] = []  #: splats while the last guest booted

    # What is built.

    @cached_property
    def order(self) -> build.Order:
        """The kernel as it is asked for, built or not."""
        asked = self.setup
        series = build.stacked(asked.kernel, asked.variant)
        if asked.patches:
            series += patches.single(asked.patches)
        return build.order(
            asked.kernel,
            variant=asked.variant,
            series=series,
            fragments=(*kernels.variant(asked.variant).fragments, *asked.fragments),
            kernel_tree=asked.kernel_tree,
            jobs=asked.jobs,
            mirror=asked.mirror,
            compressed=not asked.patches,  # QEMU boots the ELF file; a trial needs no other
            cache=asked.cache,
        )

    @cached_property
    def built(self) -> Built:
        """The kernel, built if the cache does not have it."""
        return self.order.fill()

    @cached_property
    def compiler(self) -> Compiler:
        """The compiler with the headers of the kernel that is tested."""
        asked = self.setup
        if asked.headers or asked.local:
            return Compiler(headers=asked.headers)
        return Compiler(headers=self.built.headers)

    def check_headers(self, contract: Contract) -> None:
        """Raise UserError when headers that the user has named lack the contract's call."""
        asked = self.setup
        if asked.headers is None:
            return
        for one in asked.abis:
            wanted, where = (contract.number,), (contract.number_header,)
            if layouts.undefined(self.compiler, one, includes=where, names=wanted):
                raise UserError(
                    f"--headers {asked.headers}: no {contract.number} for {one.name}: "
                    f"these are not the headers of a kernel that has {contract.name}",
                    hint=HEADERS_HINT,
                )

    @cached_property
    def programs(self) -> Programs:
        """The agent and the callers."""
        return callers.build(self.setup.abis, compiler=self.compiler, cache=self.setup.cache)

    @property
    def selftests(self) -> tuple[str, ...]:
        """The targets below tools/testing/selftests/ that the variant's series bring."""
        series = build.stacked(self.setup.kernel, self.setup.variant)
        return kselftest.targets(series.touched)

    @cached_property
    def kselftests(self) -> Mapping[str, Path]:
        """The series' own selftests, a program for each ABI; built kernels only."""
        if self.setup.bzimage:
            return {}
        found: dict[str, Path] = {}
        for target in self.selftests:
            found |= kselftest.build(
                target,
                tree=self._selftests_tree,
                headers=self.built.headers,
                cache=self.setup.cache,
            )
        return found

    @property
    def _selftests_tree(self) -> Path:
        """The kernel's tree, or one whose tools/ is the same.

        What is tried on top of a variant mostly leaves the selftests alone, and a
        tree of its own takes longer than a build.
        """
        tried = patches.single(self.setup.patches).touched if self.setup.patches else ()
        if not tried or any(name.startswith("tools/") for name in tried):
            return self.built.tree
        return Lab(dataclasses.replace(self.setup, patches=())).order.tree

    @cached_property
    def ltp_tests(self) -> Mapping[str, Path]:
        """LTP's tests of the series' calls, xyzzy01-m64 and so on; none where LTP is not."""
        places = ltp.find(self.setup.ltp)
        if self.setup.bzimage or not places:
            return {}
        return ltp.programs(
            self.selftests,
            places=places,
            cflags={one.name: one.cflag for one in self.setup.abis},
            headers=self.built.headers,
            output=self.setup.report / "ltp",
        )

    def prepare(self) -> None:
        """Build the programs of the guest, unless the cache has them."""
        _ = self.programs
        _ = self.kselftests

    @property
    def described(self) -> tuple[Path, ...]:
        """Objects of the kernel under test that have DWARF; none of a kernel built elsewhere."""
        if self.setup.local or self.setup.bzimage:
            return ()
        return tuple(self.built.described.values())

    @cached_property
    def accel(self) -> Accel:
        """KVM where a kernel has booted under it, else TCG.  NoKvmError when it was insisted on.

        Raises UserError for a kernel that is no machine's.
        """
        if self.arch != kernels.X86:
            raise UserError(
                f"VARIANT={self.setup.variant} is no kernel for QEMU",
                hint="make uml-test runs it",
            )
        return accel.choose(self.setup.accel, self.image, cache=self.setup.cache)

    @property
    def arch(self) -> str:
        """What the kernel is built for: kernels.X86, or kernels.UM."""
        if self.setup.bzimage or self.setup.local:
            return kernels.X86
        return kernels.variant(self.setup.variant).arch

    @property
    def machine(self) -> str:
        """What the kernel runs on, for people."""
        if self.arch == kernels.UM:
            return "none: user-mode Linux is a process of this machine"
        return str(self.accel)

    @property
    def image(self) -> Path:
        """What QEMU boots: the ELF file, which needs no decompression."""
        if self.setup.bzimage:
            return self.setup.bzimage
        return self.built.vmlinux or self.built.image

    @property
    def _root_dir(self) -> Path:
        """Of this process alone: another run may use the same report directory."""
        return self.setup.report / f"root-{os.getpid()}"

    @cached_property
    def root(self) -> Path:
        """The guest's root directory."""
        files = {f"{GUEST_DIR}/agent": self.programs.agent}
        for abi, path in self.programs.callers.items():
            files[f"{GUEST_DIR}/caller-{abi.name}"] = path
        for name, path in self.kselftests.items():
            files[f"{GUEST_DIR}/{name}"] = path
        for name, path in self.ltp_tests.items():
            files[f"{GUEST_DIR}/{name}"] = path
        for name, path in self.files.items():
            files[f"{GUEST_DIR}/{name}"] = path
        return make_root(self._root_dir, files)

    # Where it runs.

    def target(self) -> Target:
        """The run's target; a fresh guest when the one before was lost.

        Raises the GuestError that ended the last guest when there have been
        too many, ForbiddenError where user-mode Linux cannot run, and whatever
        building or booting raises.
        """
        if self.broken:
            raise self.broken
        if self._target is None:
            self._target = self._local() if self.setup.local else self._boot()
            self._release = self._target.hello.release
        return self._target

    def _local(self) -> Target:
        return self._stack.enter_context(targets.local(self.programs.agent, self.programs.callers))

    def _boot(self) -> Target:
        self.boots += 1
        logs = self.setup.report / f"guest-{self.boots}"
        logs.mkdir(parents=True, exist_ok=True)
        if not self.setup.bzimage:
            shutil.copyfile(self.built.config, logs / "config")
        row = kernels.variant(self.setup.variant)
        if self.arch == kernels.UM:
            return self._boot_uml(logs)
        spec = GuestSpec(
            image=self.image,
            root=self.root,
            program=f"{GUEST_DIR}/agent",
            ports=(PORT,),
            memory=max(self.setup.memory, row.memory),
            cpus=self.setup.cpus,
            accel=self.accel,
            log_dir=logs,
            kernel_args=row.kernel_args,
        )
        try:
            guest = self._stack.enter_context(Guest.boot(spec, max(BOOT_SECONDS, row.boot_seconds)))
            channel = Channel(guest.ports[PORT], watch=lambda: self._watch(guest, channel))
            hello = channel.hello(Deadline.after(BOOT_SECONDS, "the agent's first frame"))
        except GuestError as exc:
            if self.setup.bzimage:
                exc.hint = f"{ELSEWHERE_HINT}; {exc.hint}"
            self.lose(exc)
            raise
        signature = SIGNATURES[self.accel.kind]
        if hello.hypervisor != signature:
            raise InfraError(
                f"the guest runs under {hello.hypervisor or 'no hypervisor'}, not {signature}",
                hint="QEMU fell back to another accelerator; ACCEL=tcg avoids KVM",
            )
        return self._booted(guest, channel, hello, name=f"Linux {hello.release}")

    def _boot_uml(self, logs: Path) -> Target:
        spec = UmlSpec(
            image=self.image,
            root=self.root,
            program=f"{GUEST_DIR}/agent",
            port=PORT,
            memory=max(self.setup.memory, kernels.variant(self.setup.variant).memory),
            log_dir=logs,
        )
        try:
            guest = self._stack.enter_context(Uml.boot(spec, BOOT_SECONDS))
            channel = Channel(guest.ports[PORT], watch=lambda: self._watch(guest, channel))
            hello = channel.hello(Deadline.after(BOOT_SECONDS, "the agent's first frame"))
        except ForbiddenError as exc:
            self.broken = exc
            raise
        except GuestError as exc:
            self.lose(exc)
            raise
        return self._booted(guest, channel, hello, name=f"user-mode Linux {hello.release}")

    def _booted(self, guest: Guest | Uml, channel: Channel, hello: Hello, *, name: str) -> Target:
        """The target that a guest is which has said its first word."""
        paths_in_guest = {abi: f"{GUEST_DIR}/caller-{abi.name}" for abi in self.setup.abis}
        target = Target(
            channel,
            paths_in_guest,
            hello,
            name=name,
            guest=True,
            built_for=OF_ARCH[self.arch],
            lacking=LACKING.get(self.arch),
        )
        target.write_file(PRINTK, LOGLEVEL)
        self.guest = guest
        self._hushed = False
        self._clears = True
        self._tainted = int(target.read_file(TAINTED))
        # No call of ours has caused what the kernel said while it booted: it is
        # told in the report, and fails nothing.
        self.boot_events = [event.text for event in guest.console.events]
        self._seen_events = len(self.boot_events)
        return target

    def lose(self, why: GuestError) -> None:
        """Give this guest up: end it, and boot another for the next test, if that may help."""
        self._end()
        if self.boots >= MOST_BOOTS or self.setup.local:
            self.broken = why

    def restart(self) -> None:
        """End the guest, so that the next use boots another; not counted as a loss."""
        self._end()
        self.boots = 0

    def _end(self) -> None:
        """End the guest; who wants to have something of it gets it first, if it is well."""
        if self._target is not None and not self.broken:
            for last in self.at_end:
                with contextlib.suppress(GuestError, RefusedError):
                    last(self, self._target)
        self._stack.close()
        self._target = None
        self.guest = None
        self._blind.clear()

    def _watch(self, guest: Guest | Uml, channel: Channel) -> None:
        """While an answer is waited for: see that the guest is well, and not lost in reports."""
        guest.check()
        if not self._hushed and len(guest.console.events) - self._seen_events > MOST_REPORTS:
            self._hushed = True
            channel.tell(lib.WIRE_T_WRITE, f"{PRINTK}\0".encode() + SILENT)

    def fresh(self, abi: str) -> None:
        """Before a test in ``abi``: another guest, if this one is blind for what it may meet.

        That is when a test in another ABI has had it report what it reports once.
        """
        if any((kind, abi) not in self._told_of for kind in self._blind):
            self._end()

    def listen(self) -> None:
        """Before a test: the kernel reports what it has to, also what it has reported before."""
        target = self.target()
        if not target.guest:
            return
        if self._hushed:
            target.write_file(PRINTK, LOGLEVEL)
            self._hushed = False
        if self._clears:
            try:
                target.write_file(CLEAR_WARN_ONCE, b"1")
            except RefusedError:  # ENOENT: this kernel has no debugfs
                self._clears = False

    def heard(self) -> list[Event]:
        """What the kernel has reported since the last time, each report whole.

        Raises GuestError when the guest is not well.
        """
        guest, target = self.guest, self._target
        if guest is None or target is None:
            return []
        guest.check()
        if self._hushed:
            target.write_file(PRINTK, LOGLEVEL)
            self._hushed = False
        # What the kernel said before this line is there when the line is.
        after = guest.console.position
        target.mark(OVER)
        guest.console.mark(OVER, Deadline.after(SETTLE_SECONDS, "a mark"), after=after)
        events = guest.console.events[self._seen_events :]
        if events:
            guest.console.settle(SETTLE_SECONDS)
        self._seen_events += len(events)
        return [one for one in events if one.kind not in ASKED_FOR]

    def verify_alive(self, explain: Callable[[Event], str] | None = None, *, abi: str = "") -> None:
        """Raise what the guest's console has said since the last time: OOPS, PANIC, LOST.

        A report that the kernel lives on with is a SplatError, in which
        ``explain`` tells the call that caused it; ``abi`` is that of the test.
        """
        guest, target = self.guest, self._target
        if guest is None or target is None:
            return
        events = self.heard()
        tainted = int(target.read_file(TAINTED))
        new, self._tainted = tainted & ~self._tainted, tainted
        bad = [event for event in events if event.verdict is not Verdict.PASS]
        if not bad and not new:
            return
        error = SplatError(
            f"the kernel is tainted ({new:#x}), and has not said why", verdict=Verdict.OOPS
        )
        if bad:
            first = bad[0]
            error = SplatError(
                f"the kernel reported: {first.kind}: {first.text}",
                verdict=first.verdict,
                console_tail=tuple(first.report[:REPORT_LINES]),
            )
            error.kind = first.kind
            if explain:
                error.args = (f"{error}\n  caused by: {explain(first)}",)
        blind = BLINDED & {one.kind for one in bad}
        self._blind |= blind
        self._told_of |= {(kind, abi) for kind in blind}
        raise error

    @property
    def release(self) -> str | None:
        """What `uname -r` says on the target; None before there was one."""
        return self._release

    @property
    def version(self) -> Version | None:
        """The first two numbers of that."""
        return kernels.parse_version(self._release) if self._release else None

    def take_over(self, facts: dict[str, str], release: str | None) -> None:
        """What another process of this run had for a target, which this one has not."""
        booted = int(self._told.get("guests booted", 0)) + int(facts.get("guests booted", 0))
        self._told = {**self._told, **facts}
        if booted:
            self._told["guests booted"] = str(booted)
        self._release = self._release or release

    def facts(self) -> dict[str, str]:
        """What a reader of the report has to know about the run."""
        if self._target is None and not self.boots:
            return dict(self._told)
        found = {"kernel": self._target.name if self._target else "lost"}
        if not self.setup.local:
            origin = self.setup.bzimage or self.built.record.get("origin", self.built.release)
            found["built from"] = str(origin)
            if not self.setup.bzimage:
                found["variant"] = str(kernels.variant(self.setup.variant))
                if notes := self.built.record.get("notes"):
                    found["patches"] = "; ".join(notes)
            found["accelerator"] = self.machine
            found["guests booted"] = str(self.boots)
            if self.boot_events:
                found["while booting"] = "; ".join(self.boot_events)
        return found

    def close(self) -> None:
        """End the guest and everything that belongs to it."""
        self._end()
        shutil.rmtree(self._root_dir, ignore_errors=True)
