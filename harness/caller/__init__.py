# SPDX-License-Identifier: GPL-2.0-only
"""The C side: wire.h, the caller built three times, the agent."""
