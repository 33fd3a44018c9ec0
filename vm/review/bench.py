# SPDX-License-Identifier: GPL-2.0-only
"""What the checks of a series work with: its commits, trees at each of them, builds."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from vm import cache as store
from vm import kernels, patches, paths, source, trees
from vm.errors import BuildError, UserError
from vm.kbuild import Make
from vm.kernels import Kernel
from vm.patches import Series
from vm.review import commits
from vm.review.commits import Commit, Repository
from vm.review.table import Config, Table
from vm.source import Source

#: One make of a few objects, in seconds; the first one of a tree prepares it.
OBJECTS_SECONDS = 1800.0


class SkipError(Exception):
    """A check cannot be made here; the reason is the message."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One series of the stack: a directory of kernel-patches/."""

    name: str  #: "linux-6.12/at"
    series: Series

    @property
    def short(self) -> str:
        """What it is called whichever kernel it is for: "ver0", "ver1", "at"."""
        return self.name.partition("/")[2] or kernels.DEFAULT_VARIANT

    @property
    def mails(self) -> tuple[tuple[Path, str], ...]:
        """Its patches for all trees in the order of the mails, each with its tree."""
        own = [(patch.path, "kernel") for patch in self.series.patches]
        other = [(self.series.directory / name, tree) for name, tree in self.series.elsewhere]
        return tuple(sorted((*own, *other)))


@dataclasses.dataclass
class Bench:
    """One kernel and the series for it.  Everything is made when it is first asked for."""

    kernel: Kernel
    table: Table
    report: Path  #: directory of what the checks leave
    jobs: int
    mirror: str | None = None
    cache: Path = dataclasses.field(default_factory=paths.cache_dir)

    def parts_of(self, variant: str) -> tuple[Part, ...]:
        """The stack of a variant of kernels.toml, as far as this kernel has it."""
        names = kernels.variant(variant).series(self.kernel)
        return tuple(
            Part(name=name, series=patches.load_series(patches.series_dir(name)))
            for name in names
            if patches.has_series(name)
        )

    @cached_property
    def stacks(self) -> dict[str, tuple[Part, ...]]:
        """The stack of each variant that has patches, and all series one upon the other."""
        found = {name: self.parts_of(name) for name in kernels.load_variants()}
        distinct: dict[str, tuple[Part, ...]] = {}
        for name, parts in (*found.items(), ("all", self.parts)):
            if parts and parts not in distinct.values():
                distinct[name] = parts
        return distinct

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Every series that there is, each on those that stand before it in kernels.toml.

        Raises UserError when this kernel has none.
        """
        found = {
            part.name: part for name in kernels.load_variants() for part in self.parts_of(name)
        }
        if not found:
            raise UserError(f"Linux {self.kernel.name}: there is no series for it")
        return tuple(found.values())

    @cached_property
    def source(self) -> Source:
        return source.obtain(self.kernel, mirror=self.mirror, cache=self.cache)

    @property
    def home(self) -> Path:
        return self.cache / "work" / f"review-{self.kernel.series}"

    def repository(self, parts: Sequence[Part], name: str) -> Repository:
        """The commits of a stack.  Raises BuildError for a patch that git am does not take."""
        wanted = [patch for part in parts for patch in part.series.patches]
        return commits.apply(wanted, self.source.tree, self.report / "git" / name)

    @cached_property
    def series(self) -> Repository:
        """The commits of all series, one upon the other."""
        return self.repository(self.parts, "series")

    @cached_property
    def manual(self) -> Repository:
        """The manual pages' commits, on top of nothing."""
        wanted = [
            patches.load_patch(path)
            for part in self.parts
            for path, tree in part.mails
            if tree == "man-pages"
        ]
        return commits.apply(wanted, None, self.report / "git" / "man-pages")

    @property
    def pages(self) -> tuple[Path, ...]:
        """The manual pages as they are after the last commit."""
        repo = self.manual
        return tuple(sorted(repo.path / name for name in repo.touched))

    # A work tree that is moved from commit to commit.

    @contextlib.contextmanager
    def workplace(self) -> Iterator[Workplace]:
        """The kernel's whole tree, for this run alone."""
        with store.locked(self.home / "lock", f"using {self.home}") as lock:
            tree = self.home / "tree"
            if not tree.is_dir():
                with store.making(tree) as temp:
                    temp.rmdir()
                    trees.link_copy(self.source.tree, temp)
            yield Workplace(bench=self, tree=tree, lock=lock)


@dataclasses.dataclass
class Workplace:
    """The tree at one commit, and builds in it."""

    bench: Bench
    tree: Path
    lock: store.Lock

    def move(self, commit: str) -> list[str]:
        """Bring the tree to a commit of the series; the files that changed."""
        repo = self.bench.series
        changed = []
        for name in repo.touched:
            target = self.tree / name
            content = repo.content(commit, name)
            old = target.read_bytes() if target.is_file() else None
            if content == old:
                continue
            changed.append(name)
            if content is None:
                target.unlink()
                continue
            # By rename: the file may be a link into the cache.
            target.parent.mkdir(parents=True, exist_ok=True)
            new = target.with_name(target.name + trees.NEW)
            new.write_bytes(content)
            new.chmod(0o755 if repo.executable(commit, name) else 0o644)
            new.replace(target)
        return changed

    def make(self, config: Config, compiler: str = "gcc") -> Make:
        """The make of the object tree of a configuration and a compiler."""
        name = f"{config.name}-{compiler}"
        logs = self.bench.report / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        return Make(
            tree=self.tree,
            objects=self.bench.home / name,
            log=logs / f"{name}.log",
            jobs=self.bench.jobs,
            lock=self.lock,
            arch=config.arch,
        )

    def configure(self, config: Config, compiler: str = "gcc") -> None:
        """Run allnoconfig with the configuration's settings, when Kconfig may have changed."""
        make = self.make(config, compiler)
        wanted = make.objects.parent / f"{config.name}.wanted"
        wanted.parent.mkdir(parents=True, exist_ok=True)
        lines = [*config.settings, *(f"{one}={config.options}" for one in self.options())]
        wanted.write_text("".join(f"CONFIG_{line}\n" for line in lines))
        stamp = make.objects.parent / f"{config.name}-{compiler}.stamp"
        state = store.key((self.tree / "init/Kconfig").read_bytes(), wanted.read_bytes())
        if (make.objects / ".config").exists() and store.read_json(stamp) == state:
            return
        make.run(
            *_compiler(compiler),
            f"KCONFIG_ALLCONFIG={wanted}",
            "allnoconfig",
            title=f"configuring {config.name} for {compiler}",
            seconds=OBJECTS_SECONDS,
        )
        store.write_json(stamp, state)

    def options(self) -> list[str]:
        """The options that the series has added to init/Kconfig so far."""
        old = (self.bench.source.tree / "init/Kconfig").read_text().splitlines()
        now = (self.tree / "init/Kconfig").read_text().splitlines()
        known = set(old)
        return [line.split()[1] for line in now if line.startswith("config ") and line not in known]

    def objects(self, config: Config) -> list[str]:
        """The objects of the touched files that there are and that this configuration has."""
        return [
            f"{name[:-2]}.o"
            for name in self.bench.series.touched
            if name.endswith(".c")
            and name.startswith(("kernel/", "arch/x86/"))
            and name not in config.without
            and (self.tree / name).is_file()
        ]

    def compile(
        self, config: Config, *goals: str, compiler: str = "gcc", what: str = ""
    ) -> list[str]:
        """Compile the touched files and the tables; warnings in what the series touches.

        ``goals`` are further words for make, such as W=1.  An error of the
        compiler is one of the lines.
        """
        self.configure(config, compiler)
        make = self.make(config, compiler)
        targets = dict.fromkeys((*self.objects(config), *config.tables))
        start = make.log.stat().st_size if make.log.exists() else 0
        failed: list[str] = []
        try:
            make.run(
                *_compiler(compiler),
                *goals,
                *targets,
                title=f"{what or 'compiling'}: {config.what}, {compiler}",
                seconds=OBJECTS_SECONDS,
            )
        except BuildError as exc:
            failed = [str(exc)]
        with make.log.open("rb") as log:
            log.seek(start)
            text = log.read().decode(errors="replace")
        return [*failed, *complaints(text, self.bench.series.touched)]


def _compiler(name: str) -> tuple[str, ...]:
    return () if name == "gcc" else (f"CC={name}",)


def complaints(text: str, touched: Sequence[str]) -> list[str]:
    """The warnings and errors of a build's output that are about the touched files."""
    found = (
        line.strip()
        for line in text.splitlines()
        if ("warning:" in line or "error:" in line) and any(name in line for name in touched)
    )
    return list(dict.fromkeys(found))


def tool(name: str) -> str:
    """The path of a program.  Raises SkipError that names it."""
    found = shutil.which(name)
    if found is None:
        raise SkipError(f"{name} is not installed")
    return found


def part_of(bench: Bench, commit: Commit) -> Part:
    """The series that a commit belongs to."""
    return next(
        part
        for part in bench.parts
        if commit.patch in [patch.path for patch in part.series.patches]
    )
