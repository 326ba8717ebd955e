"""tpu_vm.sh against a gcloud that records, and tpu_worker.sh for real, in a home folder of its own: what reaches Python is what was typed."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.launch.fakes import LAUNCH, NASTY, Fakes

ZONE = {"TPU_ZONE": "us-west4-a"}
PREFIX = ["gcloud", "compute", "tpus", "tpu-vm"]
# A TPU VM in a folder: its state is a file, and `ssh --command` runs there as gcloud has ssh run it (split at blanks, joined again by ssh, read by a shell).
VM = """
vm=$HOME/vm
mkdir -p "$vm"
case $4 in
  describe) [ -f "$vm/state" ] && cat "$vm/state" ;;
  create) [ ! -f "$vm/full" ] && echo READY >"$vm/state" ;;
  delete) rm -rf "$vm"/* ;;
  scp) cp "$5" "$vm/flaxft.tgz" ;;
  ssh)
    for one in "$@"; do case $one in --command=*) command=${one#--command=} ;; esac; done
    cd "$vm" && HOME=$vm bash -c "$command"
    ;;
esac
"""
# What stands for launch/local.sh on the VM: records its arguments, and ends as the test says.
LOCAL = """#!/usr/bin/env bash
printf '%s\\0' "$@" >~/arguments
echo "$FLAXFT_EXTRA $FLAXFT_DISTRIBUTED" >~/variables
"""


@pytest.fixture
def fakes(tmp_path):
    result = Fakes(tmp_path)
    result.add("gcloud", VM)
    result.add("mountpoint", "exit 1")
    result.add("gcsfuse")
    return result


def checkout(folder: Path, *, ends: str = "exit 0") -> Path:
    """A copy of launch/ whose local.sh ends as said."""
    shutil.copytree(LAUNCH, folder / "launch")
    (folder / "launch" / "local.sh").write_text(LOCAL + ends + "\n")
    return folder / "launch"


def wait_for(file: Path, *, seconds: float = 10.0) -> str:
    deadline = time.monotonic() + seconds
    while not file.exists() or not file.read_text():
        assert time.monotonic() < deadline, f"no {file}"
        time.sleep(0.02)
    return file.read_text()


def test_every_verb(fakes):
    create = ["create", "flaxft", "--zone=us-west4-a", "--accelerator-type=v5litepod-8", "--version=v2-alpha-tpuv5-lite"]
    for verb, expected in {
        "create": create,
        "follow": ["ssh", "flaxft", "--zone=us-west4-a", "--worker=0", "--command=tail -n +1 -F flaxft.log"],
        "status": ["ssh", "flaxft", "--zone=us-west4-a", "--worker=all", "--command=bash flaxft/launch/tpu_worker.sh 'status'"],
        "stop": ["ssh", "flaxft", "--zone=us-west4-a", "--worker=all", "--command=bash flaxft/launch/tpu_worker.sh 'stop'"],
        "delete": ["delete", "flaxft", "--zone=us-west4-a", "--quiet"],
    }.items():
        fakes.add("gcloud")
        fakes.run(LAUNCH / "tpu_vm.sh", verb, **ZONE)
        assert fakes.calls()[-1] == [*PREFIX, *expected]
    fakes.run(LAUNCH / "tpu_vm.sh", "create", **ZONE, TPU_NAME="pod", TPU_TYPE="v6e-64", TPU_VERSION="v2-alpha-tpuv6e", TPU_PROJECT="p", TPU_SPOT="1")
    settings = ["--zone=us-west4-a", "--project=p", "--accelerator-type=v6e-64", "--version=v2-alpha-tpuv6e", "--spot"]
    assert fakes.calls()[-1] == [*PREFIX, "create", "pod", *settings]
    fakes.run(LAUNCH / "tpu_vm.sh", "fetch", "gs://bucket/runs/ner", "here", **ZONE)
    assert fakes.calls()[-1] == ["gcloud", "storage", "rsync", "--recursive", "gs://bucket/runs/ner", "here"]


@pytest.mark.parametrize(("arguments", "message"), [(["create"], "TPU_ZONE is not set"), ([], "babysit ARGS"), (["crate"], "babysit ARGS")])
def test_a_wrong_command(fakes, arguments, message):
    done = fakes.run(LAUNCH / "tpu_vm.sh", *arguments)
    assert (done.returncode, message in done.stderr) == (2, True)
    assert fakes.calls() == []


def test_copy_and_start_hand_every_argument_on(fakes, tmp_path):
    script = checkout(tmp_path) / "tpu_vm.sh"
    assert fakes.run(script, "create", **ZONE).returncode == 0
    done = fakes.run(script, "copy", **ZONE)
    assert done.returncode == 0, done.stderr
    vm = fakes.home / "vm"
    done = fakes.run(script, "start", *NASTY, "--workdir=gs://bucket/runs/a b", "--config.task.train", "gs://other/train.conll", **ZONE)
    assert done.returncode == 0, done.stderr
    assert wait_for(vm / "flaxft.exit") == "0\n"
    found = (vm / "arguments").read_text().split("\0")[:-1]
    assert found == [*NASTY, f"--workdir={vm}/gcs/bucket/runs/a b", "--config.task.train", f"{vm}/gcs/other/train.conll"]
    assert (vm / "variables").read_text() == "tpu 1\n"
    assert fakes.calls("gcsfuse") == [["gcsfuse", "--implicit-dirs", name, f"{vm}/gcs/{name}"] for name in ("bucket", "other")]
    assert not list(tmp_path.rglob("ran"))
    assert fakes.run(script, "status", **ZONE).stdout == "flaxft: ended with 0\n"


def test_stop_lets_the_run_end_and_says_how(fakes, tmp_path):
    script = checkout(tmp_path, ends="trap 'sleep 0.3; touch ~/saved; exit 143' TERM; touch ~/up; while :; do sleep 0.05; done") / "tpu_vm.sh"
    for verb in (["create"], ["copy"], ["start", "--config=x"]):
        assert fakes.run(script, *verb, **ZONE).returncode == 0
    vm = fakes.home / "vm"
    while not (vm / "up").exists():
        time.sleep(0.02)
    assert fakes.run(script, "status", **ZONE).stdout == "flaxft: running\n"
    again = fakes.run(script, "start", "--config=y", **ZONE)
    assert (again.returncode, "stop it first" in again.stderr) == (1, True)
    assert fakes.run(script, "stop", **ZONE).returncode == 0
    assert (vm / "saved").exists()
    assert fakes.run(script, "status", **ZONE).stdout == "flaxft: ended with 143\n"


def test_babysit_starts_again_after_a_preemption(fakes, tmp_path):
    """First there is no capacity; the first start is preempted, the second crashes, the third ends well."""
    ends = """
count=$(($(cat "$HOME/../count" 2>/dev/null || echo 0) + 1))
echo $count >"$HOME/../count"
case $count in
  1) echo PREEMPTED >~/state; sleep 0.2; exit 143 ;;
  2) exit 134 ;;
esac
"""
    script = checkout(tmp_path, ends=ends) / "tpu_vm.sh"
    (fakes.home / "vm").mkdir()
    fakes.add("sleep", 'rm -f "$HOME"/vm/full; /usr/bin/env -i PATH=/usr/bin:/bin sleep "$1"')
    (fakes.home / "vm" / "full").touch()
    done = fakes.run(script, "babysit", "--config=configs/ner.py", "--workdir=gs://bucket/runs/ner", **ZONE, TPU_SPOT="1", TPU_POLL="0.3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "the run has ended"
    assert "the TPU is PREEMPTED" in done.stdout
    assert (fakes.home / "count").read_text() == "3\n"
    verbs = [call[4] for call in fakes.calls("gcloud")]
    assert [verbs.count(verb) for verb in ("create", "delete", "scp")] == [3, 1, 3]
    arguments = (fakes.home / "vm" / "arguments").read_text().split("\0")[:-1]
    assert arguments == ["--config=configs/ner.py", f"--workdir={fakes.home}/vm/gcs/bucket/runs/ner"]


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5])
def test_babysit_stops_where_no_second_try_helps(fakes, tmp_path, code):
    script = checkout(tmp_path, ends=f"exit {code}") / "tpu_vm.sh"
    done = fakes.run(script, "babysit", "--config=configs/ner.py", **ZONE, TPU_POLL="0.2")
    assert done.returncode == code, done.stdout + done.stderr
    assert f"the run has ended with {code}; " in done.stderr
    assert sum(call[4] == "scp" for call in fakes.calls("gcloud")) == 1


@pytest.mark.parametrize(
    ("lines", "starts"),
    [
        (["running"] * 4, False),
        (["running", "ended with 0"], False),
        (["running", "ended with 139"], True),
        (["running", "not started"], True),
        ([], True),
    ],
    ids=str,
)
def test_babysit_on_a_slice(fakes, tmp_path, lines, starts):
    """Four workers answer in four lines: one that is gone takes the others with it."""
    script = checkout(tmp_path) / "tpu_vm.sh"
    answers = "".join(f"flaxft: {line}\\n" for line in lines)
    body = f"""
case "$*" in
  *describe*) echo READY ;;
  *status*) n=$(cat ~/looks 2>/dev/null || echo 0); echo $((n + 1)) >~/looks
    if [ "$n" = 0 ]; then printf '{answers}'; else printf 'flaxft: ended with 0\\r\\nflaxft: ended with 0\\n'; fi ;;
esac
"""
    fakes.add("gcloud", body)
    done = fakes.run(script, "babysit", "--config=x", **ZONE, TPU_POLL="0.05")
    assert done.returncode == 0, done.stderr
    commands = [call[-1] for call in fakes.calls("gcloud")]
    assert any("'start' '--config=x'" in command for command in commands) == starts
    assert any("'stop'" in command for command in commands) == starts


