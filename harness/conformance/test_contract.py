# SPDX-License-Identifier: GPL-2.0-only
"""Every item of the battery that applies to the contract, in every ABI."""

from __future__ import annotations

import pytest

from harness.battery import Item, Level
from harness.interface import Interface


def test_contract(battery_item: Item, interface: Interface, level: Level) -> None:
    """The kernel does what the contract allows, and nothing else."""
    # Of a kernel of the user's the version is known only now.
    contract = interface.asked if battery_item.older else interface.contract
    reason = battery_item.unless(contract, interface.abi)
    if reason is not None:
        pytest.skip(reason)
    battery_item.run(interface, level)
