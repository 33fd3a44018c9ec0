# SPDX-License-Identifier: GPL-2.0-only
"""The battery as pytest's tests; run by `extsys check` and by `make vm-test`."""
