# SPDX-License-Identifier: GPL-2.0-only
"""`python -m harness`, the same as the installed command."""

from harness.cli import main

if __name__ == "__main__":
    main()
