"""A worker whose task makes features of numbers, dies, sleeps or refuses as a record says. `python -m tests.data.made_up_worker FD`."""

from __future__ import annotations

import os
import sys
import time
from multiprocessing.connection import Connection

import numpy as np

from flaxft.data.base import Features
from flaxft.data.workers import serve
from flaxft.errors import UserError


class MadeUp:
    def __init__(self, *, is_worker: bool):
        self.is_worker = is_worker

    def features(self, record, tokenizer, *, max_length):
        if "bad" in record:
            raise UserError(record["bad"])
        if record.get("dies") and self.is_worker:
            os._exit(9)
        if self.is_worker:
            time.sleep(record.get("sleeps", 0))
        here = self.is_worker if record.get("tells") else False
        made = []
        for number, length in enumerate(record["lengths"]):
            tokens = {"input_ids": np.full(length, length + here, np.int32)}
            kind = record.get("kind", 0)
            if kind % 2:
                tokens = {"labels": np.arange(length, dtype=np.int16)} | tokens
            example = {"span": np.array([number, kind])} if kind > 1 else {}
            host = {"spans": np.zeros((number % 2, 2), np.float32)} if kind == 3 else {}
            made.append(Features(tokens, example, record.get("group", -1), host, num_cut=0))
        return made


if __name__ == "__main__":
    connection = Connection(int(sys.argv[1]))
    assert connection.recv_bytes() == b"setup"
    serve(connection, MadeUp(is_worker=True), None)
