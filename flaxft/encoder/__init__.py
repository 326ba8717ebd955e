"""A small pretrained encoder that comes with the package, so that the quick configs learn something with no network. Its model card is README.md here."""

from __future__ import annotations

import pathlib

DIRECTORY = pathlib.Path(__file__).parent
