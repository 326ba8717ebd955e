"""What all tests share: CPU, quiet hub, a cache folder of their own, and compiled programs kept between tests and runs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# Before jax is imported. Many tests compile the same small programs; the cache is keyed by program, compiler and flags.
_CACHE = Path(tempfile.gettempdir()) / f"flaxft-tests-{os.getuid()}"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("FLAXFT_CACHE", str(_CACHE))
os.environ["HF_HUB_OFFLINE"] = "1"

import hypothesis  # noqa: E402

hypothesis.settings.register_profile("flaxft", deadline=None)  # speed is no test
hypothesis.settings.load_profile("flaxft")

import flaxft  # noqa: E402, F401  (sets malloc and the compile cache up)
