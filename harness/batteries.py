# SPDX-License-Identifier: GPL-2.0-only
"""The whole battery: each module of items adds its own to BATTERY when it is imported."""

from __future__ import annotations

from harness import (
    battery_absent,
    battery_kernel,
    battery_outside,
    battery_pointer,
    battery_privilege,
    battery_stall,
    explore,
)
from harness.battery import BATTERY, ELSEWHERE, Item, Level
from harness.report.results import PROPERTIES

#: The modules that add items beside harness.battery itself.
MODULES = (
    battery_stall,
    battery_pointer,
    battery_privilege,
    battery_outside,
    battery_kernel,
    battery_absent,
    explore,
)

_ORDER = list(PROPERTIES)
BATTERY.sort(key=lambda item: _ORDER.index(item.prop))

__all__ = ["BATTERY", "ELSEWHERE", "MODULES", "Item", "Level"]
