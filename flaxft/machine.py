"""This machine and installation as flaxft sees them: versions, devices, memory, folders, optional packages."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterable
from pathlib import Path

from flaxft import encoder, errors, runtime
from flaxft.errors import printable, reason
from flaxft.version import VERSION

PACKAGES = "jax jaxlib flax optax orbax-checkpoint transformers tokenizers datasets numpy".split()
# Package -> what it is for, and the extra that brings it.
OPTIONAL = {
    "torch": ("ONNX exports and .bin weights", "onnx"),
    "onnxruntime": ("ONNX exports", "onnx"),
    "flatbuffers": ("StableHLO exports", "stablehlo"),
    "wandb": ("log.wandb", "wandb"),
    "mlflow": ("log.mlflow", "mlflow"),
    "trackio": ("log.trackio", "trackio"),
    "gcsfs": ("workdirs in a bucket, gs://...", "gcs"),
}
ACCELERATORS = (("/dev/nvidia0", "gpu", "an NVIDIA GPU", "cuda"), ("/dev/accel0", "tpu", "a TPU", "tpu"), ("/dev/vfio/0", "tpu", "a TPU", "tpu"))
FREE = 1 << 30  # bytes of a disk below which it is told


@dataclasses.dataclass
class Machine:
    """What was found: heading -> what is so, and what keeps flaxft from working here."""

    facts: dict[str, str] = dataclasses.field(default_factory=dict)
    problems: list[str] = dataclasses.field(default_factory=list)


def examine() -> Machine:
    """Looks at everything; writes nothing but an empty file, which goes away, where caches lie."""
    found = Machine()
    found.facts["flaxft"] = f"{VERSION}, in {Path(__file__).parent}"
    found.facts["python"] = f"{platform.python_version()}, {sys.executable}, {platform.system()} {platform.machine()}"
    found.facts["packages"] = ", ".join(_versions(PACKAGES))
    _devices(found)
    found.facts["memory"] = f"{_memory() / 2**30:.1f} GiB, {_cores()} CPU cores for this process"
    _folders(found)
    if not (encoder.DIRECTORY / "model.safetensors").is_file():
        found.problems.append(f"{encoder.DIRECTORY} has no model.safetensors, the encoder that comes with flaxft; install flaxft again")
    here = [name for name in OPTIONAL if importlib.util.find_spec(name) is not None]
    found.facts["optional"] = f"{', '.join(_versions(here)) or 'none'}; not installed: " + (
        ", ".join(f"{name} ({OPTIONAL[name][0]}: flaxft[{OPTIONAL[name][1]}])" for name in OPTIONAL if name not in here) or "none"
    )
    return found


def _devices(found: Machine) -> None:
    """The devices that jax has, and those of the machine that it does not."""
    try:
        import jax

        devices = jax.devices()
    except Exception as error:  # noqa: BLE001 (a backend that does not come up raises what it likes)
        found.problems.append(f"jax finds no device ({reason(error)}); reinstall jax for this machine, or set JAX_PLATFORMS=cpu")
        return
    kinds = {device.device_kind for device in devices}
    found.facts["devices"] = f"{len(devices)} {devices[0].platform} ({', '.join(sorted(kinds))}); {runtime.keep_heap()}"
    for path, backend, name, extra in ACCELERATORS:
        if Path(path).exists() and devices[0].platform != backend and not os.environ.get("JAX_PLATFORMS"):
            found.problems.append(f'{path} says that {name} is here, but jax computes on the {devices[0].platform}; pip install "flaxft[{extra}]"')
            return


def _folders(found: Machine) -> None:
    cache = Path(os.environ.get("FLAXFT_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaxft")
    hub = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    offline = [name for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE") if os.environ.get(name) not in (None, "", "0")]
    found.facts["cache"] = f"{cache}: {_size(cache)} (tokenised data, compiled programs; FLAXFT_CACHE names another)"
    found.facts["hub"] = f"{hub}: {_size(hub)} (models and data sets; HF_HOME names another){f'; {offline[0]} is set' if offline else ''}"
    place = next(folder for folder in (cache, *cache.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        found.problems.append(f"{cache} cannot be written ({error.strerror}); name another folder in FLAXFT_CACHE")
    free = shutil.disk_usage(place).free
    found.facts["disk"] = f"{free / 2**30:.1f} GiB free in {place}, {shutil.disk_usage('.').free / 2**30:.1f} GiB here"
    if free < FREE:
        found.problems.append(f"{place} has {free / 2**20:.0f} MiB free; make room, or name another folder in FLAXFT_CACHE")


def _versions(names: Iterable[str]) -> list[str]:
    return [f"{name} {importlib.metadata.version(name)}" for name in names]


def _size(folder: Path) -> str:
    if not folder.is_dir():
        return "not there yet"
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            file = Path(root, name)
            total += 0 if file.is_symlink() or not file.exists() else file.stat().st_size
    return f"{total / 2**30:.2f} GiB"


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def show(found: Machine) -> int:
    """Prints what was found, the problems on stderr, and returns the exit code."""
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    for name, fact in found.facts.items():
        print(textwrap.fill(printable(fact), width, initial_indent=f"{name:<9} ", subsequent_indent=" " * 10, break_on_hyphens=False, break_long_words=False))
    sys.stdout.flush()
    for problem in found.problems:
        print(f"error: {printable(problem)}", file=sys.stderr)
    if not found.problems:
        print("\nno problem found; flaxft doctor FILE looks at data, flaxft train FILE trains")
    return errors.USER_ERROR if found.problems else errors.OK
