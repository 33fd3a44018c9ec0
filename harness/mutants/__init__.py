# SPDX-License-Identifier: GPL-2.0-only
"""Proof that the harness would have noticed: faults put into the sample, each to be found."""
