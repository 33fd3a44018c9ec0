# SPDX-License-Identifier: GPL-2.0-only
"""Where things are: the project's own files, the cache, the run's output."""

from __future__ import annotations

import os
from pathlib import Path

#: Environment variable that moves the cache.
CACHE_VARIABLE = "EXTSYS_CACHE"

#: The directory of this package, where kernels.toml and config/ are.
VM = Path(__file__).resolve().parent


def cache_dir() -> Path:
    """Kernel sources, patched trees and built kernels, by content.

    Outside the checkout, so that `git clean`, a second clone and CI share it.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().resolve() / "extsys"
