# SPDX-License-Identifier: GPL-2.0-only
"""What is run on a mutant, and what stands below it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from harness import conformance, interfaces
from harness.mutants.trailers import BASE, Mutant
from vm import kernels, patches
from vm.errors import UserError

#: The battery, a part of the package.
BATTERY = str(Path(conformance.__file__).parent / "test_contract.py")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
    """Tests that are run on a mutant, seen from the checkout."""

    tests: tuple[str, ...]
    options: tuple[str, ...] = ()  #: of pytest's: only some of them


def _only(*properties: str) -> tuple[str, ...]:
    return tuple(word for name in properties for word in ("--prop", name))


#: By variant, the sample that its mutants are faults of, where that is not xyzzy.
SAMPLES: Mapping[str, Path] = {"at": interfaces.HERE / "xyzzyat.py"}

SUITES: Mapping[str, Suite] = {
    # What `make vm-test` runs.
    "target": Suite(tests=(BATTERY, "selftests/target")),
    # On a kernel that looks at itself, and takes ten times as long: what allocates,
    # reads, waits and fails, and not the long sweeps.
    "kernel": Suite(
        tests=(BATTERY, "selftests/target"),
        options=_only("P2", "P8", "P11", "P17", "P19", "P20", "P21", "P23", "P24"),
    ),
    # Guests without the interface: the option off.
    "off": Suite(tests=("selftests/vm/test_off.py",)),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base:
    """What a mutant is put on top of."""

    name: str
    variant: str = BASE  #: of vm/kernels.toml
    patches: tuple[Path, ...] = ()  #: on top of that variant's series
    contract: Path | None = None  #: of another sample than xyzzy


def base_of(mutant: Mutant) -> Base:
    """The base that a mutant names.  UserError when there is none of that name."""
    if mutant.base in kernels.load_variants():
        sample = SAMPLES.get(mutant.base)
        return Base(name=mutant.base, variant=mutant.base, contract=sample)
    place = mutant.path.parent / mutant.base
    if not (place / "series").is_file():
        raise UserError(
            f"{mutant.path}: On: {mutant.base}: no such base",
            hint=f"a variant of the sample ({', '.join(kernels.load_variants())}) or a directory "
            f"of patches in {mutant.path.parent}",
        )
    contract = place / "contract.py"
    return Base(
        name=mutant.base,
        patches=tuple(one.path for one in patches.load_series(place).patches),
        contract=contract if contract.is_file() else None,
    )


def suite_of(mutant: Mutant) -> Suite:
    """The tests that a mutant asks for.  UserError for a suite that there is not."""
    if mutant.suite not in SUITES:
        raise UserError(
            f"{mutant.path}: Suite: {mutant.suite}: no such suite",
            hint=f"known: {', '.join(SUITES)}",
        )
    suite = SUITES[mutant.suite]
    if base_of(mutant).patches:  # selftests/target are of our own series
        return dataclasses.replace(suite, tests=suite.tests[:1])
    return suite
