# SPDX-License-Identifier: GPL-2.0-only
"""What a run says of itself: terminal, KTAP, JUnit, Markdown."""
