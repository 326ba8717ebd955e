"""What all tests share: CPU, quiet hub, a cache folder of their own, and programs that are compiled quickly and kept between tests, processes and runs."""

from __future__ import annotations

import functools
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

# Before jax is imported. Many tests compile the same small programs; the cache is keyed by program, compiler and flags.
_CACHE = Path(tempfile.gettempdir()) / f"flaxft-tests-{os.getuid()}"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("FLAXFT_CACHE", str(_CACHE))
os.environ["HF_HUB_OFFLINE"] = "1"
# Half of the suite's time would go into making programs fast that run once or twice: compiled like this they cost less than half as much. .ci/run's slow phase
# tries what counts on programs as users have them too (FLAXFT_TEST_PROGRAMS=users). XLA ends a process that gives it a flag which it does not know, so the
# flags are for the version that they were tried with.
if os.environ.get("FLAXFT_TEST_PROGRAMS", "quick") == "quick" and "XLA_FLAGS" not in os.environ and version("jaxlib").startswith("0.10."):
    quick = ("--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true", "--xla_cpu_parallel_codegen_split_count=1")
    os.environ["XLA_FLAGS"] = " ".join([*quick, "--xla_cpu_use_fusion_emitters=false"])

import hypothesis  # noqa: E402

hypothesis.settings.register_profile("flaxft", deadline=None, max_examples=25)  # speed is no test; other examples each time
hypothesis.settings.load_profile("flaxft")

import flaxft  # noqa: E402, F401  (sets malloc and the compile cache up)
from flaxft.train import peak  # noqa: E402

peak._measured = functools.cache(peak._measured)  # a fifth of a second of every tiny run
