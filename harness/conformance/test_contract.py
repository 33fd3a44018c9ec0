# SPDX-License-Identifier: GPL-2.0-only
"""Every item of the battery that applies to the contract, in every ABI."""

from __future__ import annotations

from harness.battery import Item, Level
from harness.interface import Interface


def test_contract(battery_item: Item, interface: Interface, level: Level) -> None:
    """The kernel does what the contract allows, and nothing else."""
    battery_item.run(interface, level)
