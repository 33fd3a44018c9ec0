# SPDX-License-Identifier: GPL-2.0-only
"""Nothing but this checkout's own plugin: fixtures and options live there.

When the package is installed, its entry point has loaded the plugin already.
"""

from importlib.metadata import entry_points

if not any(entry.value == "harness.plugin" for entry in entry_points(group="pytest11")):
    pytest_plugins = ["harness.plugin"]
