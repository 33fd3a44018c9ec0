# SPDX-License-Identifier: GPL-2.0-only
"""Version skew: programs and kernels of different ages, each with each."""
