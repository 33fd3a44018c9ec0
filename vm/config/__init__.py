# SPDX-License-Identifier: GPL-2.0-only
"""Kconfig fragments; vm/kconfig.py reads them."""
