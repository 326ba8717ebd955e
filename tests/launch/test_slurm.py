"""slurm.sbatch against a recording srun and scontrol; what it sets is what jax reads, which two real processes show."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.launch.fakes import LAUNCH, NASTY, Fakes

SCRIPT = LAUNCH / "slurm.sbatch"


@pytest.fixture
def fakes(tmp_path):
    result = Fakes(tmp_path)
    result.add("srun", 'env | grep -E "^(FLAXFT|SLURM)_" >~/variables; exit "$(cat ~/code 2>/dev/null || echo 0)"')
    result.add("scontrol")
    (tmp_path / "checkout" / "launch").mkdir(parents=True)
    local = tmp_path / "checkout" / "launch" / "local.sh"
    local.write_text("#!/usr/bin/env bash\n")
    local.chmod(0o755)
    return result


def job(tmp_path, *, nodes: int = 1) -> dict[str, str]:
    return {"SLURM_JOB_ID": "77", "SLURM_NNODES": str(nodes), "SLURM_SUBMIT_DIR": str(tmp_path / "checkout")}


def test_the_options_for_sbatch():
    options = re.findall(r"^#SBATCH (\S+)$", SCRIPT.read_text(), re.MULTILINE)
    assert {"--ntasks-per-node=1", "--requeue", "--signal=TERM@120"} <= set(options)
    above = SCRIPT.read_text().partition("#SBATCH --signal")[0]  # sbatch stops reading at the first command
    assert all(line.startswith("#") for line in above.splitlines())


@pytest.mark.parametrize("nodes", [1, 2])
def test_what_srun_is_asked(fakes, tmp_path, nodes):
    done = fakes.run("bash", SCRIPT, *NASTY, **job(tmp_path, nodes=nodes))
    assert done.returncode == 0, done.stderr
    assert fakes.calls() == [["srun", f"{tmp_path}/checkout/launch/local.sh", *NASTY]]
    variables = (fakes.home / "variables").read_text().splitlines()
    assert "FLAXFT_EXTRA=cuda" in variables
    assert ("FLAXFT_DISTRIBUTED=1" in variables) == (nodes > 1)


@pytest.mark.parametrize(("code", "again"), [(0, False), (143, True), (1, False), (3, False)])
def test_a_job_that_was_stopped_is_queued_again(fakes, tmp_path, code, again):
    (fakes.home / "code").write_text(str(code))
    assert fakes.run("bash", SCRIPT, "--config=x", **job(tmp_path)).returncode == code
    assert fakes.calls("scontrol") == ([["scontrol", "requeue", "77"]] if again else [])


PROBE = """
import os, jax
jax.distributed.initialize()
print(jax.process_index(), jax.process_count(), jax.device_count())
"""


def test_jax_finds_the_processes_of_a_step_by_itself():
    """FLAXFT_DISTRIBUTED=1 alone is enough under Slurm: jax takes coordinator, number and rank from the step's variables. Two processes on one host."""
    step = {
        "SLURM_JOB_ID": str(os.getpid()),  # the coordinator's port follows from it
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_LOCALID": "0",
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")} | step | {"JAX_PLATFORMS": "cpu"}
    processes = [
        subprocess.Popen([sys.executable, "-c", PROBE], env=kept | {"SLURM_PROCID": str(rank)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        answers = [process.communicate(timeout=60) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert sorted(out.strip() for out, _ in answers) == ["0 2 2", "1 2 2"], answers
