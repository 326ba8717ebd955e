"""One run at a time: who holds the lock is named, and who is gone holds nothing."""

from __future__ import annotations

import json
import os

import pytest

from flaxft.errors import UserError
from flaxft.train.lock import Lock


def test_a_second_is_refused_by_name_and_a_left_over_lock_is_taken(tmp_path):
    (tmp_path / "lock").write_text('{"pid": 1, "host": "elsewhere", "since": "long ago"}')  # of a process that is gone
    with Lock(tmp_path), pytest.raises(UserError, match=rf"in use by process {os.getpid()} on \S+ since .*; wait for it, stop it, or give another --workdir"):
        Lock(tmp_path).__enter__()
    with Lock(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


def test_a_full_disk_leaves_no_lock_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            Lock(tmp_path).__enter__()
    with Lock(tmp_path):
        pass
