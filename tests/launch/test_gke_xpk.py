"""gke_xpk.sh against a recording xpk, and against xpk itself where it is installed: the manifest that it makes runs what was typed."""

from __future__ import annotations

import shutil

import pytest

from tests.launch.fakes import LAUNCH, NASTY, Fakes

SETTINGS = {"CLUSTER": "mine", "IMAGE": "registry/flaxft:tpu", "TPU_ZONE": "us-west4-a", "TPU_PROJECT": "p"}


def check_command(fakes: Fakes, command: str) -> None:
    """What the container's bash hands to Python."""
    fakes.add("python")
    done = fakes.run("bash", "-c", command)
    assert done.returncode == 0, done.stderr
    assert fakes.calls("python") == [["python", "-m", "flaxft.main", *NASTY]]
    assert not list(fakes.home.rglob("ran"))


def test_what_xpk_is_asked(tmp_path):
    fakes = Fakes(tmp_path)
    fakes.add("xpk")
    done = fakes.run(LAUNCH / "gke_xpk.sh", *NASTY, **SETTINGS, STORAGE="bucket", TPU_SPOT="1", NUM_SLICES="2")
    assert done.returncode == 0, done.stderr
    (call,) = fakes.calls("xpk")
    assert call[1:-1] == [
        "workload", "create", "--workload=flaxft", "--cluster=mine", "--tpu-type=v5litepod-16", "--num-slices=2", "--zone=us-west4-a", "--project=p",
        "--storage=bucket", "--spot", "--docker-image=registry/flaxft:tpu", "--max-restarts=10", "--termination-grace-period-seconds=120",
        "--env=FLAXFT_DISTRIBUTED=1",
    ]  # fmt: skip
    assert "\n" not in call[-1]
    check_command(fakes, call[-1].removeprefix("--command="))


@pytest.mark.parametrize("missing", ["CLUSTER", "IMAGE"])
def test_a_setting_is_missing(tmp_path, missing):
    fakes = Fakes(tmp_path)
    fakes.add("xpk")
    done = fakes.run(LAUNCH / "gke_xpk.sh", "--config=x", **{name: value for name, value in SETTINGS.items() if name != missing})
    assert done.returncode != 0
    assert f"{missing} is not set; give" in done.stderr
    assert fakes.calls() == []


def test_the_manifest_of_xpk_itself(tmp_path):
    real = shutil.which("xpk")
    if real is None:
        pytest.skip("xpk is not installed (pip install xpk, best in an environment of its own that is on PATH)")
    yaml = pytest.importorskip("yaml")
    fakes = Fakes(tmp_path)
    fakes.add("xpk", f'cd ~; exec {real} "$@" --dry-run --skip-validation --output-manifest-file={tmp_path}/manifest.yaml')
    done = fakes.run(LAUNCH / "gke_xpk.sh", *NASTY, **SETTINGS)
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = yaml.safe_load((tmp_path / "manifest.yaml").read_text())
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == SETTINGS["IMAGE"]
    assert {"name": "FLAXFT_DISTRIBUTED", "value": "1"} in container["env"]
    assert pod["terminationGracePeriodSeconds"] == 120
    assert manifest["spec"]["failurePolicy"]["maxRestarts"] == 10
    again = job["podFailurePolicy"]["rules"][0]["onExitCodes"]
    assert again["operator"] == "NotIn"  # what is not in the list fails for good: a mistake does, a preemption does not
    assert not {1, 2, 3, 4, 5} & set(again["values"])
    assert {134, 137, 143} <= set(again["values"])
    assert container["command"][:2] == ["bash", "-c"]
    check_command(fakes, container["command"][2])
