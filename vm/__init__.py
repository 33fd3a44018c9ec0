# SPDX-License-Identifier: GPL-2.0-only
"""From a kernel's source to a running guest.  Knows nothing of contracts."""
