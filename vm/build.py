# SPDX-License-Identifier: GPL-2.0-only
"""From a kernel's source, patches and fragments to a kernel in the cache.

    source ──► patched tree ──► work tree ──make──► object tree ──► kernels/NAME
               (by content)     (kept, by family)                   (by content)

Kernels are kept under a key made of everything that goes into them, and never
change.  Work and object trees are kept by family (a series of kernels, or a
user's tree) and brought in step by content: what two variants of one series
share is compiled once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vm import buildlog, graft, kbuild, kconfig, kernels, narrow, patches, paths, proc, trees
from vm import cache as store
from vm import source as sources
from vm.errors import BuildError, InfraError, UserError
from vm.kbuild import Cost, Make
from vm.kernels import DEFAULT_VARIANT, Kernel, Variant, Version, parse_version
from vm.source import Source

#: Raise when the same input would give another kernel: flags, goals, layout.
FORMAT = "kernel-2"

#: Objects that are compiled once more with DWARF, if the kernel has them: what
#: the kernel itself takes the sample's struct to be.  A whole kernel with DWARF
#: takes half as long again to build, and BTF needs it.  Of those that count what
#: is executed (gcov) the notes are kept, by which the counts are read.
DESCRIBED = ("kernel/xyzzy.o", "kernel/xyzzyat.o", "arch/x86/kernel/xyzzyat_x32.o")

#: Beside a work tree: the source that it holds, and the files that were patched in it.
IN_STEP = "in-step.json"

#: The object tree, below a family's directory.
OBJECTS = "objects"

#: How many files are named that an incremental build starts from.
SHOWN_CHANGES = 10

#: How many warnings a message names.
SHOWN_WARNINGS = 5

#: Deadlines in seconds.  A first build takes some six minutes of CPU time; a
#: slow machine with one core gets ten times that.
BUILD_SECONDS = 2 * 3600.0
HEADERS_SECONDS = 900.0
CONFIG_SECONDS = 600.0
TOOL_SECONDS = 60.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Built:
    """A kernel in the cache, and what it was made from."""

    image: Path  #: what QEMU boots
    config: Path  #: the final .config
    headers: Path  #: the UAPI headers' include directory
    release: str  #: what `uname -r` says in it
    key: str
    cached: bool  #: whether it was there already
    seconds_cpu: float  #: CPU time that the build took; 0 when it was there
    vmlinux: Path | None  #: the ELF file, without debugging sections
    record: dict[str, Any]  #: build.json: versions, commands, times
    described: Mapping[str, Path]  #: object → a copy of it with DWARF
    make_tree: Callable[[], Path] = dataclasses.field(repr=False, compare=False)

    @property
    def directory(self) -> Path:
        return self.image.parent

    @property
    def tree(self) -> Path:
        """The patched source tree, not to be written to.

        Made again when the cache has the kernel but no longer its source.
        """
        return self.make_tree()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Plan:
    """Everything that goes into a kernel, before anything is unpacked."""

    cache: Path
    digest: str  #: of the source
    family: str
    version: Version
    owned: bool  #: whether the source is ours, and not a user's tree
    series: patches.Series
    obtain: Callable[[], Source]
    base: Callable[[], Path]  #: the tree that the series was made for

    def prune(self, parent: Path) -> None:
        """Keep only the last states of a user's tree, each edit being one."""
        if not self.owned:
            store.prune(parent, f"{self.family}-*", keep=store.KEEP)

    def patched(self) -> Path:
        source = self.obtain()
        if self.owned:
            return patches.apply(self.series, source, cache=self.cache)
        return graft.apply(self.series, source, cache=self.cache, base=self.base)


def compiler(cc: str = "gcc", ld: str = "ld") -> str:
    """Identity of the compiler and the linker: the first lines that they print."""
    asked = (proc.run([tool, "--version"], timeout=TOOL_SECONDS, quiet=True) for tool in (cc, ld))
    return "; ".join(done.out.partition("\n")[0] for done in asked)


def _plan(
    kernel: Kernel,
    *,
    kernel_tree: Path | None,
    mirror: str | None,
    series: patches.Series,
    mends: Sequence[str],
    cache: Path | None,
) -> _Plan:
    home = cache or paths.cache_dir()
    if re.search(r"[\s:]", str(home)):
        raise UserError(
            f"{home}: the kernel cannot be built below a path with spaces or colons",
            hint="EXTSYS_CACHE names another place for the cache",
        )

    def obtain() -> Source:
        return sources.obtain(kernel, mirror=mirror, cache=home)

    if kernel_tree is not None:
        source = sources.user_tree(kernel_tree, cache=home)
        version = parse_version(source.version)
        if version <= kernel.version:
            series += patches.stack(mends)
        if series.patches and (adapting := patches.newer(kernel.series, version)):
            series += adapting
        return _Plan(
            cache=home,
            digest=source.digest,
            family=source.family,
            version=version,
            owned=False,
            series=series,
            obtain=lambda: source,
            base=lambda: obtain().tree,
        )
    series += patches.stack(mends)
    digest = sources.locate(kernel, mirror=mirror, cache=home) or obtain().digest
    return _Plan(
        cache=home,
        digest=digest,
        family=kernel.series,
        version=kernel.version,
        owned=True,
        series=series,
        obtain=obtain,
        base=lambda: obtain().tree,
    )


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    """Report a full disk or a missing permission as a line, not a traceback."""
    try:
        yield
    except OSError as exc:
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
        raise InfraError(
            f"{exc.filename or 'the cache'}: {exc.strerror or exc}",
            hint="the cache needs 4 GB; EXTSYS_CACHE names another place" if full else None,
        ) from exc


def headers(
    kernel_name: str | Kernel,
    *,
    variant: str | Variant = DEFAULT_VARIANT,
    kernel_tree: Path | None = None,
    mirror: str | None = None,
    series: patches.Series | None = None,
    jobs: int | None = None,
    cache: Path | None = None,
) -> Path:
    """The UAPI headers of a kernel, as an include directory; builds no kernel.

    They are what `make headers_install` would install
    (Documentation/kbuild/headers_install.rst) and do not depend on the
    configuration.
    """
    kernel, row = _row(kernel_name), _variant(variant)
    with _disk():
        plan = _plan(
            kernel,
            kernel_tree=kernel_tree,
            mirror=mirror,
            series=series or stacked(kernel, row),
            mends=row.mending(kernel),
            cache=cache,
        )
        return _headers(plan, _jobs(jobs))[0]


def order(
    kernel_name: str | Kernel,
    *,
    variant: str | Variant = DEFAULT_VARIANT,
    kernel_tree: Path | None = None,
    fragments: Sequence[str] | None = None,
    jobs: int | None = None,
    mirror: str | None = None,
    series: patches.Series | None = None,
    compressed: bool = True,
    cache: Path | None = None,
) -> Order:
    """A kernel that is yet to be built, or found: its key is known at once.

    The arguments are those of ``build``.
    """
    kernel, row = _row(kernel_name), _variant(variant)
    wanted = row.fragments if fragments is None else fragments
    with _disk():
        return Order(
            plan=_plan(
                kernel,
                kernel_tree=kernel_tree,
                mirror=mirror,
                series=series or stacked(kernel, row),
                mends=row.mending(kernel),
                cache=cache,
            ),
            fragments=tuple(kconfig.load_fragment(kconfig.find_fragment(name)) for name in wanted),
            compiler=compiler(),
            arch=row.arch,
            # User-mode Linux is a program: there is nothing to decompress.
            goal="bzImage" if compressed and row.arch == kernels.X86 else "vmlinux",
            jobs=_jobs(jobs),
            lines=kernel.lines,
            make_args=row.make_args,
        )


def build(
    kernel_name: str | Kernel,
    *,
    variant: str | Variant = DEFAULT_VARIANT,
    kernel_tree: Path | None = None,
    fragments: Sequence[str] | None = None,
    jobs: int | None = None,
    mirror: str | None = None,
    series: patches.Series | None = None,
    compressed: bool = True,
    cache: Path | None = None,
) -> Built:
    """Build a kernel unless the cache has it.

    ``kernel_name`` and ``variant`` name rows of kernels.toml, or are some;
    ``kernel_tree`` is a user's tree to take instead of the kernel's source;
    ``fragments`` are names or paths of Kconfig fragments, later ones winning,
    and ``series`` is a series, each instead of the variant's.  Without
    ``compressed`` no bzImage is made, and ``image`` is the ELF file, which QEMU
    boots by its PVH note.

    Raises UserError for what the user named, BuildError when it does not build.
    """
    return order(
        kernel_name,
        variant=variant,
        kernel_tree=kernel_tree,
        fragments=fragments,
        jobs=jobs,
        mirror=mirror,
        series=series,
        compressed=compressed,
        cache=cache,
    ).fill()


def stacked(kernel: str | Kernel, variant: str | Variant) -> patches.Series:
    """All patches of a variant of a kernel.

    Raises UserError when that kernel has no such series: the variant is not
    written for it.
    """
    row, kind = _row(kernel), _variant(variant)
    for name in kind.series(row):
        if not patches.has_series(name):
            raise UserError(
                f"VARIANT={kind.name}: Linux {row.name} has no such variant: "
                f"there is no series {name} in kernel-patches",
                hint=f"for Linux {row.name} there are: {', '.join(variants(row)) or 'none'}",
            )
    return patches.stack(kind.series(row))


def variants(kernel: str | Kernel) -> tuple[str, ...]:
    """The variants for which a kernel has all the series."""
    row = _row(kernel)
    return tuple(
        name
        for name, kind in kernels.load_variants().items()
        if all(patches.has_series(part) for part in kind.series(row))
    )


def forget(order: Order) -> None:
    """Remove what the cache has of an order's series: kernels, headers, the patched tree.

    For a series that is tried once, such as a mutant: 30 MB each.  The objects
    that it has in common with others stay.  A kernel that another run is
    booting right now must not be forgotten.
    """
    plan = order.plan
    series = plan.series.digest
    for entry in sorted((plan.cache / "kernels").glob(f"{plan.family}-*")):
        if (store.read_json(entry / "build.json") or {}).get("series") == series:
            with store.guard(entry, f"removing {entry.name}"):
                store.remove(entry)
    for entry in (
        plan.cache / "headers" / _headers_name(plan),
        patches.applied_path(series, digest=plan.digest, family=plan.family, cache=plan.cache),
    ):
        with store.guard(entry, f"removing {entry.name}"):
            store.remove(entry)


def _row(kernel: str | Kernel) -> Kernel:
    return kernels.kernel(kernel) if isinstance(kernel, str) else kernel


def _variant(variant: str | Variant) -> Variant:
    return kernels.variant(variant) if isinstance(variant, str) else variant


def _jobs(asked: int | None) -> int:
    return asked or len(os.sched_getaffinity(0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """One kernel to be built, or found."""

    plan: _Plan
    fragments: tuple[kconfig.Fragment, ...]
    compiler: str
    arch: str  #: as make's ARCH
    goal: str
    jobs: int
    lines: int | None
    make_args: tuple[str, ...] = ()  #: variables of make's, which some objects are made by

    @property
    def settings(self) -> tuple[kconfig.Setting, ...]:
        return kconfig.merge(self.fragments, self.plan.version)

    @property
    def left_out(self) -> tuple[kconfig.Setting, ...]:
        """What the fragments ask of other kernels than this one."""
        return kconfig.left_out(self.fragments, self.plan.version)

    @property
    def key(self) -> str:
        """The content key: everything that decides what the kernel will be."""
        plan = self.plan
        return store.key(
            FORMAT,
            plan.digest,
            plan.series.digest,
            kconfig.text(self.settings),
            self.compiler,
            self.goal,
            *(() if self.arch == kernels.X86 else (self.arch,)),
            *(() if plan.owned else (graft.FORMAT,)),
            *self.make_args,
        )

    @property
    def directory(self) -> Path:
        """The cache entry that the kernel has, or will have."""
        return self.plan.cache / "kernels" / f"{self.plan.family}-{self.key}"

    @property
    def tree(self) -> Path:
        """The patched source tree, made when it is not there; not to be written to."""
        return self.plan.patched()

    @property
    def there(self) -> bool:
        """Whether the cache has it."""
        return self.directory.is_dir()

    @property
    def home(self) -> Path:
        """Where this order's family keeps its work and object trees.

        Fragments that change every object have an object tree of their own.
        """
        own = [fragment.objects for fragment in self.fragments if fragment.objects]
        return self.plan.cache / "work" / "-".join([self.plan.family, *own])

    def verify(self) -> None:
        """Raise BuildError when the series does not fit the source; makes no tree for that."""
        with _disk(), patches.applied_files(self.plan.series, self.plan.obtain()):
            pass

    def fill(self) -> Built:
        """Build it unless it is there.  Raises as ``build`` does."""
        with _disk():
            return self._fill()

    def _fill(self) -> Built:
        final = self.directory
        cost = Cost()

        def make(temp: Path) -> None:
            nonlocal cost
            cost = self._make(temp)

        cached = store.entry(final, f"building {final.name}", make)
        self.plan.prune(final.parent)
        if not cached:
            store.trim(self.plan.cache)
        record = store.read_json(final / "build.json")
        for note in record.get("notes", ()):
            print(f"  {note}", file=sys.stderr)
        return Built(
            image=final / self.goal,
            config=final / "config",
            headers=final / "headers" / "include",
            release=record["release"],
            key=self.key,
            cached=cached,
            seconds_cpu=cost.cpu,
            vmlinux=final / "vmlinux",
            record=record,
            described={
                name: path
                for name in DESCRIBED
                if (path := final / f"{Path(name).stem}.dwarf.o").exists()
            },
            make_tree=self.plan.patched,
        )

    def _make(self, temp: Path) -> Cost:
        """Build into ``temp``, the cache entry that is being made."""
        plan = self.plan
        started = time.monotonic()
        # An object tree is of one architecture.
        objects = OBJECTS if self.arch == kernels.X86 else f"{OBJECTS}-headers"
        include, cost = _headers(plan, self.jobs, home=self.home, objects=objects)
        trees.link_copy(include, temp / "headers" / "include")
        source = plan.obtain()
        with _workplace(plan, self.home, self.jobs, arch=self.arch, args=self.make_args) as make:
            behind = narrow.take(make.objects, make.argv(self.goal))
            configured = self._configure(make)
            cost += configured
            fresh = not (make.objects / "vmlinux").exists()
            plain = self.goal == narrow.GOAL and self.arch == kernels.X86
            certain = plain and behind is not None and not configured.lines
            where = narrow.goals(make.tree, make.objects, behind or ()) if certain else ()
            with self._watched(make) as warned:
                cost += make.run(
                    self.goal,
                    *where,
                    title=f"building Linux {source.version} ({self.goal})",
                    seconds=BUILD_SECONDS,
                    total=self.lines if fresh else None,
                )
            narrow.whole(make.objects, make.argv(self.goal))
            out = make.objects
            if self.goal == "bzImage":
                shutil.copyfile(out / "arch/x86/boot/bzImage", temp / "bzImage")
            strip = ["objcopy", "--strip-debug", str(out / "vmlinux"), str(temp / "vmlinux")]
            proc.run(strip, timeout=TOOL_SECONDS)
            for name in DESCRIBED:
                make.describe(name, temp / f"{Path(name).stem}.dwarf.o")
                notes = (out / name).with_suffix(".gcno")
                if self.make_args and notes.exists():
                    shutil.copyfile(notes, temp / notes.name)
            # Once more: make itself may have had to ask Kconfig again.
            kconfig.check(self.settings, (out / ".config").read_text())
            shutil.copyfile(out / ".config", temp / "config")
            shutil.copyfile(make.log, temp / "make.log")
            release = (out / "include/config/kernel.release").read_text().strip()
            command = make.argv(self.goal)
        record = {
            "version": source.version,
            "release": release,
            "origin": source.origin,
            "notes": [] if plan.owned else list(graft.notes(plan.patched())),
            "source": source.digest,
            "patches": [patch.name for patch in plan.series.patches],
            "series": plan.series.digest,
            "fragments": [fragment.name for fragment in self.fragments],
            "left_out": [f"CONFIG_{one.symbol} ({one.span})" for one in self.left_out],
            "compiler": self.compiler,
            "objects": str(out),
            "command": command,
            "incremental": not fresh,
            "warnings": [one.text for one in warned],
            "seconds_cpu": round(cost.cpu, 1),
            "seconds_wall": round(time.monotonic() - started, 1),
            "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        store.write_json(temp / "build.json", record)
        return cost

    @contextlib.contextmanager
    def _watched(self, make: Make) -> Iterator[list[buildlog.Warned]]:
        """Refuse a build that warns about what the series itself brings.

        The list holds every warning once the block has ended.  Raises
        BuildError; also when make itself has failed, the files that were warned
        about are compiled again the next time: an object that is there already
        would let the next run pass in silence.
        """
        warned: list[buildlog.Warned] = []
        series = self.plan.series
        calls = {call.name for call in series.calls}
        try:
            yield warned
        finally:
            log = make.log.read_text(errors="replace")
            warned += buildlog.warnings(log, tree=make.tree, objects=make.objects)
            ours = [one for one in warned if one.about(series.touched, calls)]
            for file in {one.file for one in ours if one.file}:
                # Its place in the work tree: laid anew by the next run, newer
                # than every object made from it.
                (make.tree / file).unlink(missing_ok=True)
        if ours:
            more = f" | and {len(ours) - SHOWN_WARNINGS} more" if len(ours) > SHOWN_WARNINGS else ""
            raise BuildError(
                f"{len(ours)} warning(s) about what the patches bring: "
                + " | ".join(one.text for one in ours[:SHOWN_WARNINGS])
                + more,
                hint=f"the whole log: {make.log}",
            )

    def _configure(self, make: Make) -> Cost:
        """Write the object tree's .config from the fragments, and check it.

        It is left alone while everything that it is made from is the same:
        asking Kconfig takes as long as compiling a file that was edited.
        """
        config, stamp = make.objects / ".config", make.objects.parent / "configured.json"
        made_from = [
            kconfig.text(self.settings),
            self.compiler,
            _kconfig_state(self.plan, make.tree),
        ]
        if config.exists() and store.read_json(stamp) == made_from:
            return Cost()
        stamp.unlink(missing_ok=True)
        for one in self.left_out:
            print(f"  left out: CONFIG_{one.symbol}: {one.span} ({one.where})", file=sys.stderr)
        wanted = make.objects.parent / "wanted.config"
        wanted.write_text(kconfig.text(self.settings))
        # Beside the .config, which is replaced only by another content: a new
        # date alone would have Kbuild look at everything again.
        new = make.objects / ".config.new"
        cost = make.run(
            f"KCONFIG_CONFIG={new}",
            f"KCONFIG_ALLCONFIG={wanted}",
            "allnoconfig",
            "olddefconfig",
            title="configuring",
            seconds=CONFIG_SECONDS,
        )
        kconfig.check(self.settings, new.read_text())
        if config.exists() and config.read_text() == new.read_text():
            new.unlink()
        else:
            new.replace(config)
        store.write_json(stamp, made_from)
        return cost


def _kconfig_state(plan: _Plan, work: Path) -> str:
    """Identity of what Kconfig reads and runs in a plan's tree, which ``work`` holds.

    Its files, and the scripts that these call to probe the compiler.  Of a source
    of ours what the series changes of them tells that; in a user's tree, which is
    edited, they are looked at.  Work trees' files are replaced when their content
    changes (vm/trees.py:sync), so inode and date will do.
    """
    if not plan.owned:
        state = (
            f"{name} {info.st_ino} {info.st_mtime_ns}"
            for name, info in sorted(trees.scan(work).items())
            if _is_kconfigs(name)
        )
        return store.key(*state)
    parts: list[str | bytes] = [plan.digest]
    for patch in plan.series.patches:
        for diff in patch.files:
            if any(_is_kconfigs(name) for name in diff.names):
                parts += diff.names
                parts += [line for hunk in diff.hunks for line in hunk.body]
    return store.key(*parts)


def _is_kconfigs(name: str) -> bool:
    if name.startswith("tools/"):  # has makefiles of its own kind
        return False
    return name.startswith("scripts/") or Path(name).name.startswith(("Kconfig", "Makefile"))


def _headers_name(plan: _Plan) -> str:
    return f"{plan.family}-{store.key(FORMAT, plan.digest, plan.series.digest)}"


def _headers(
    plan: _Plan, jobs: int, home: Path | None = None, objects: str = OBJECTS
) -> tuple[Path, Cost]:
    """The headers of ``plan``, made in the work tree at ``home`` if need be.

    They are x86's: user-mode Linux, whose programs are x86's, has none of its own.
    """
    name = _headers_name(plan)
    final = plan.cache / "headers" / name
    cost = Cost()

    def make_entry(temp: Path) -> None:
        nonlocal cost
        place = home or plan.cache / "work" / plan.family
        with _workplace(plan, place, jobs, objects=objects) as make:
            cost = make.run("headers", title="making headers", seconds=HEADERS_SECONDS)
            # headers_install would copy them with rsync, which may be missing.
            top = make.objects / "usr" / "include"
            for name in trees.scan(top):
                if name.endswith(".h"):
                    target = temp / "include" / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(top / name, target)

    store.entry(final, f"making headers {name}", make_entry)
    plan.prune(final.parent)
    return final / "include", cost


@contextlib.contextmanager
def _workplace(
    plan: _Plan,
    home: Path,
    jobs: int,
    *,
    arch: str = kernels.X86,
    objects: str = OBJECTS,
    args: tuple[str, ...] = (),
) -> Iterator[Make]:
    """The work tree at ``home``, holding ``plan``'s content, for this run alone."""
    work, stamp = home / "tree", home / IN_STEP
    with store.locked(home / "lock", f"using {home}") as lock:
        make = Make(
            tree=work,
            objects=home / objects,
            log=home / "make.log",
            jobs=jobs,
            lock=lock,
            arch=arch,
            args=args,
            ccache=plan.cache / kbuild.CCACHE,
        )
        held = store.read_json(stamp) or {}
        stamp.unlink(missing_ok=True)
        if not work.is_dir():
            tree = plan.patched()
            # Objects of a tree that is gone have nothing to be compared with.
            store.remove(make.objects)
            with store.making(work) as temp:
                temp.rmdir()
                trees.link_copy(tree, temp)
        else:
            laid = (held.get("source"), held.get("log")) == (plan.digest, _date(make))
            with narrow.laying(home, killed=make.marker.exists()) as names:
                if plan.owned and laid:
                    names.extend(_lay(plan, work, held["touched"]))
                else:
                    changed = trees.sync(plan.patched(), work)
                    names.extend([*changed.written, *changed.removed])
            for name in names[:SHOWN_CHANGES]:
                print(f"  changed: {name}", file=sys.stderr)
            if len(names) > SHOWN_CHANGES:
                print(f"  and {len(names) - SHOWN_CHANGES} more", file=sys.stderr)
        _mend(make)
        make.log.write_bytes(b"")
        yield make
        # Not when anything was wrong; and whoever uses the tree writes the log.
        touched = list(plan.series.touched)
        store.write_json(stamp, {"source": plan.digest, "touched": touched, "log": _date(make)})


def _date(make: Make) -> int:
    """When the log of an object tree was written, in nanoseconds; 0 when there is none."""
    return make.log.stat().st_mtime_ns if make.log.exists() else 0


def _lay(plan: _Plan, work: Path, held: Sequence[str]) -> list[str]:
    """Bring a work tree in step that holds the same source, with ``held`` patched.

    Only those files can differ, and the plan's own: looking at all takes longer
    than compiling what has changed.  Gives those that were touched.
    """
    source = plan.obtain()
    ours = plan.series.touched
    with patches.applied_files(plan.series, source) as layer:
        changed = [name for name in ours if trees.lay(name, layer, work)]
    return changed + [
        name for name in held if name not in ours and trees.lay(name, source.tree, work)
    ]


def _mend(make: Make) -> None:
    """Remove what a killed build may have cut short; all else of it stays."""
    if not make.marker.exists():
        return
    since = make.marker.stat().st_mtime - 1.0
    files = trees.scan(make.objects) if make.objects.is_dir() else {}
    doubtful = kbuild.unfinished(files, since=since)
    for name in doubtful:
        (make.objects / name).unlink()
    make.marker.unlink()
    made = sum(info.st_mtime >= since for info in files.values())
    print(
        f"a build in {make.objects} was killed: of {made} files {len(doubtful)} are made again",
        file=sys.stderr,
    )
