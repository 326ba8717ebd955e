"""The image's recipe: linted, and what it copies is enough to install. No image is built: that needs a Docker daemon."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.launch.fakes import LAUNCH, ROOT, Fakes
from tests.launch.test_scripts import tool

DOCKERFILE = LAUNCH / "Dockerfile"


def steps() -> list[tuple[str, str]]:
    """(instruction, rest) for each step, continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line.strip())]


def test_hadolint():
    done = subprocess.run([tool("hadolint"), "--no-color", DOCKERFILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_python_is_not_behind_a_shell_and_not_root():
    last = dict(steps())
    assert last["ENTRYPOINT"] == '["python", "-m", "flaxft.main"]'
    assert last["USER"] == "1000"


def test_what_is_copied_is_a_whole_package(tmp_path):
    """A wheel is built from the copied files alone, and holds every module and config; nothing that is copied is ignored."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed; it comes with the launch extra")
    sent = {line.removeprefix("!") for line in (LAUNCH / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    for instruction, rest in steps():
        if instruction == "COPY":
            *sources, target = rest.split()
            assert set(sources) <= sent
            for source in sources:
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / source, tmp_path / target)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "out"], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "out").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {path.relative_to(ROOT).as_posix() for path in (ROOT / "flaxft").rglob("*.py")} | {f"flaxft/configs/{p.name}" for p in ROOT.glob("configs/*.py")}
    assert wanted - names == set()


@pytest.mark.parametrize(("device", "installs"), [("cpu", "."), ("cuda", ".[cuda]"), ("tpu", ".[tpu]"), ("gpu", None)])
def test_the_build_argument(tmp_path, device, installs):
    """The RUN step itself, in a shell as Docker runs it."""
    (command,) = (rest for instruction, rest in steps() if instruction == "RUN")
    fakes = Fakes(tmp_path)
    for name in ("pip", "useradd", "install"):
        fakes.add(name)
    done = fakes.run("sh", "-c", command, DEVICE=device)
    if installs is None:
        assert (done.returncode, done.stderr) == (1, "DEVICE is gpu; allowed are cpu, cuda and tpu\n")
        assert fakes.calls() == []
    else:
        assert done.returncode == 0, done.stderr
        assert fakes.calls()[0] == ["pip", "install", "--no-cache-dir", installs]
        assert [call[0] for call in fakes.calls()] == ["pip", "useradd", "install"]
