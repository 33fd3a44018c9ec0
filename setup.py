# SPDX-License-Identifier: GPL-2.0-only
"""The one thing that pyproject.toml cannot say: build the cffi module."""

from setuptools import setup

setup(cffi_modules=["harness/caller/wire_build.py:ffi"])
