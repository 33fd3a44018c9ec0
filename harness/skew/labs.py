# SPDX-License-Identifier: GPL-2.0-only
"""The kernels of the matrix, one warm guest after the other, and the programs in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from harness import interfaces
from harness.abi import ABI
from harness.contract import Contract
from harness.interface import Interface
from harness.interfaces import xyzzy
from harness.lab import GUEST_DIR, Lab, Setup
from harness.layout import Compiler
from harness.skew import differential, matrix, programs
from harness.skew.differential import Recording
from harness.skew.matrix import Cell, Row
from harness.skew.programs import RELEASES, Program, Release
from vm import build, kernels
from vm.errors import UserError

#: The variant that has no interface.
OFF = "off"
#: The row of what the differential compares.
SAME_CALLS = "the same calls"


@dataclasses.dataclass(frozen=True, kw_only=True, order=True)
class Age:
    """A kernel of the matrix: its series, and which age of the interface it has."""

    kernel: str  #: "6.12"
    variant: str  #: "ver1"

    @property
    def name(self) -> str:
        return f"{self.kernel}-{self.variant}"

    @property
    def off(self) -> bool:
        return self.variant == OFF

    def __str__(self) -> str:
        return f"Linux {self.kernel} {self.variant}"


def ages(asked: Sequence[str], variants: Sequence[str] = ()) -> tuple[Age, ...]:
    """The kernels of these series, or of all, in the order in which they are built and booted.

    ``variants`` narrows it.  Raises UserError for a name that is not known.
    """
    known = kernels.load_kernels()
    for name in asked:
        kernels.kernel(name)
    for name in variants:
        kernels.variant(name)
    found = tuple(
        Age(kernel=name, variant=variant)
        for name in known
        if not asked or name in asked
        for variant in build.variants(name)
        if not kernels.variant(variant).alone
        if not variants or variant in variants
    )
    if not found:
        raise UserError(
            f"no kernel is {' or '.join(asked)} and {' or '.join(variants)}",
            hint="; ".join(f"Linux {one} has {', '.join(build.variants(one))}" for one in known),
        )
    return found


def releases(kernel: str) -> tuple[Release, ...]:
    """The releases whose headers a series of kernels has, and the future."""
    have = build.variants(kernel)
    return tuple(one for one in RELEASES if one.variant is None or one.variant in have)


class SkewLab(Lab):
    """A kernel of the matrix, with the programs of every release in its guest."""

    def __init__(self, setup: Setup, age: Age) -> None:
        """``setup`` is what the run was asked for; its kernel and variant are the age's."""
        report = setup.report / age.name
        super().__init__(
            dataclasses.replace(setup, kernel=age.kernel, variant=age.variant, report=report)
        )
        self.age = age

    def headers(self, release: Release) -> Compiler:
        """The compiler with the headers of a release."""
        asked = self.setup
        newest = self._known[-1].variant
        assert newest is not None
        found = build.headers(
            asked.kernel,
            variant=release.variant or newest,
            jobs=asked.jobs,
            mirror=asked.mirror,
            cache=asked.cache,
        )
        return Compiler(headers=found, before=release.overlay)

    @cached_property
    def old_and_new(self) -> dict[tuple[str, ABI], Program]:
        """The programs, by version and ABI."""
        found = {
            (release.version, abi): programs.build(
                release,
                abi,
                compiler=self.headers(release),
                contract=xyzzy.CONTRACT,
                cache=self.setup.cache,
            )
            for release in releases(self.age.kernel)
            for abi in self.setup.abis
        }
        self.files |= {_in_guest(one): one.path for one in found.values()}
        return found

    def prepare(self) -> None:
        _ = self.programs
        _ = self.old_and_new

    @property
    def kselftests(self) -> dict[str, Path]:
        """None: they belong to the kernel's own age."""
        return {}

    @property
    def root(self) -> Path:
        _ = self.old_and_new
        return super().root

    @property
    def rows(self) -> tuple[Row, ...]:
        return matrix.rows(releases(self.age.kernel))

    def interface(self, abi: ABI) -> Interface:
        """The interface on this kernel, by its own contract and headers."""
        return Interface(
            self.contract,
            abi,
            compiler=self.compiler,
            target=self.target(),
            described=self.described,
        )

    @cached_property
    def contract(self) -> Contract:
        """What this kernel promises."""
        return interfaces.for_kernel(xyzzy.CONTRACTS, self.compiler)

    def record(self, abi: ABI) -> Recording:
        """Give the kernel the calls that every kernel is given."""
        interface = self.interface(abi)
        newest = self.old_and_new[self._known[-1].version, abi]
        rules = differential.rules(xyzzy.CONTRACTS[-1], newest.layout, abi)
        return Recording(
            age=self.age.name,
            version=interface.contract.version_of(interface.ksize).name,
            abi=abi.name,
            fields={one.name: (one.offset, one.end) for one in newest.layout.fields},
            sizes=newest.sizes,
            rules=rules,
            rows=differential.record(interface, rules),
        )

    @property
    def _known(self) -> list[Release]:
        """The releases that a kernel of this series knows, the newest last."""
        return [one for one in releases(self.age.kernel) if one.variant]

    def cell(self, row: Row, abi: ABI) -> Cell:
        """A row on this kernel in one ABI."""
        interface = self.interface(abi)
        program = self.old_and_new[row.release.version, abi]
        own = interfaces.of_size(xyzzy.CONTRACTS, program.layout.size)
        return Cell(
            row=row,
            interface=interface,
            program=program,
            own=interface.for_the_caller(own),
            where=lambda program: f"{GUEST_DIR}/{_in_guest(program)}",
        )


def _in_guest(program: Program) -> str:
    return f"program-{program.version}-{program.abi.name}"
