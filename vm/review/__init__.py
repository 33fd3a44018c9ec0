# SPDX-License-Identifier: GPL-2.0-only
"""What a reviewer of a series runs and reads: `make series-check` and `make series`."""
