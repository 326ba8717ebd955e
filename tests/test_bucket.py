"""A workdir in a bucket: the real command against a local stand-in for Google Cloud Storage, stopped and resumed."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from benchmarks import reliability

server = pytest.importorskip("gcp_storage_emulator.server", reason="pip install gcp-storage-emulator")
pytest.importorskip("gcsfs", reason="gcsfs comes with the gcs extra")


@pytest.fixture
def bucket():
    """Environment variables that lead gcsfs and TensorStore to the stand-in."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = server.create_server("localhost", port, in_memory=True, default_bucket="bucket")
    running.start()
    address = f"http://localhost:{port}"
    yield {"STORAGE_EMULATOR_HOST": address, "TENSORSTORE_GCS_HTTP_URL": address, "GOOGLE_CLOUD_PROJECT": "test"}
    running.stop()


def test_a_run_in_a_bucket_is_the_run_on_a_disk(bucket, tmp_path):
    job = reliability.job(tmp_path, num_steps=60)
    workdir: Path = "gs://bucket/runs/one"  # type: ignore[assignment]
    for do, code in (("term@34", 143), ("", 0), ("", 0)):
        process = job.start(workdir, "--config.log.report=true", do=do, extra=bucket)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == code, output
        assert "Traceback" not in output
    assert "resumed from step 60" in output
    assert f"report in {workdir}/report/index.html" in output
    predicted = job.start(workdir, "--mode=eval", extra=bucket)
    output, _ = predicted.communicate(timeout=300)
    assert predicted.returncode == 0, output
    evals = json.loads(next(line for line in output.splitlines() if line.startswith('{"evals"')))["evals"]
    assert evals["test"] == pytest.approx(json.loads((job.whole / "results.json").read_text())["evals"]["test"], abs=1e-6)
