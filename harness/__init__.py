# SPDX-License-Identifier: GPL-2.0-only
"""The package that a test author imports: contracts, model, battery, callers.

It knows nothing of how a kernel is built or booted; `vm` does.
"""
