# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own selftests of Linux's interfaces, beside the battery: what each side checks."""
