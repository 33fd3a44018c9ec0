# SPDX-License-Identifier: GPL-2.0-only
"""One module an interface: its contract, written as data."""
