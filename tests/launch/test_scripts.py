"""What holds for every launcher: shellcheck finds nothing, files parse, and a dry run says what would happen and does nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.fakes import LAUNCH, NASTY, ROOT, Fakes

SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
SETTINGS = {"TPU_ZONE": "us-west4-a", "CLUSTER": "mine", "IMAGE": "registry/flaxft"}


def tool(name: str) -> str:
    """A program that pip installs beside this Python, or one of the system."""
    beside = Path(sys.prefix) / "bin" / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; it comes with the launch extra")
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck(script):
    done = subprocess.run([tool("shellcheck"), script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_shellcheck_would_find_something(tmp_path):
    (tmp_path / "bad.sh").write_text("#!/usr/bin/env bash\nrm $1\n")
    assert subprocess.run([tool("shellcheck"), tmp_path / "bad.sh"], capture_output=True).returncode == 1


@pytest.mark.parametrize(
    "command",
    [
        ["local.sh", "--dry-run"], ["tpu_vm.sh", "--dry-run", "start"], ["tpu_vm.sh", "--dry-run", "babysit"], ["gke_xpk.sh", "--dry-run"],
        ["slurm.sbatch", "--dry-run"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_dry_run_prints_what_would_be_run(tmp_path, command):
    """Every line is a command that can be pasted, and none of the tools is called."""
    fakes = Fakes(tmp_path)
    for name in ("gcloud", "xpk", "srun", "sbatch", "scontrol", "python3", "pip"):
        fakes.add(name)
    name, *flags = command
    done = fakes.run("bash", LAUNCH / name, *flags, *NASTY, **SETTINGS, FLAXFT_VENV=str(tmp_path / "no-venv"))
    assert done.returncode == 0, done.stderr
    assert fakes.calls() == []
    assert not list(tmp_path.rglob("ran"))
    last = subprocess.run(["bash", "-c", f"printf '%s\\0' {done.stdout.strip().rpartition(chr(10))[2]}"], capture_output=True, text=True)
    assert last.returncode == 0, done.stdout
    assert any(word in last.stdout for word in ("flaxft.main", "local.sh", "tpu_worker.sh"))


def test_local_makes_the_environment_and_runs_the_command(tmp_path):
    fakes = Fakes(tmp_path)
    python, installed = tmp_path / "venv" / "bin" / "python", tmp_path / "installed"
    body = f"""#!/usr/bin/env bash
case "$*" in
  "-m pip show -q flaxft") [ -f {installed} ] ;;
  "-m pip install"*) printf '%s\\0' "$@" >~/pip; touch {installed} ;;
  *) printf '%s\\0' "$@" >~/arguments ;;
esac
"""
    (tmp_path / "python").write_text(body)
    (tmp_path / "python").chmod(0o755)
    fakes.add("python3", f"mkdir -p {python.parent}; cp {tmp_path}/python {python}")
    for _ in range(2):
        done = fakes.run(LAUNCH / "local.sh", *NASTY, FLAXFT_VENV=str(tmp_path / "venv"), FLAXFT_EXTRA="tpu")
        assert done.returncode == 0, done.stderr
        assert (fakes.home / "arguments").read_text().split("\0")[:-1] == ["-m", "flaxft.main", *NASTY]
    assert fakes.calls() == [["python3", "-m", "venv", str(tmp_path / "venv")]]  # the second time it is there
    assert (fakes.home / "pip").read_text().split("\0")[:-1] == ["-m", "pip", "install", "-q", "-e", f"{ROOT}[tpu]"]
