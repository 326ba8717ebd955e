"""Stand-ins for tools that are not to be had here (gcloud, srun, ...): each records its arguments and then runs what the test says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "launch"
# Arguments that a careless quote would change, lose or run.
NASTY = [
    "--config=configs/ner.py", "--config.task.train=two words.conll", "--a=it's", '--b="quoted"', "--c=$HOME ${HOME} $(touch ran) `touch ran`",
    "--d=a;touch ran", "--e=a & b | c > d < e", "--f=line\nbreak", "--g=tab\there", "--h=back\\slash \\", "--i=*?[a]~", "--j=", "--k=  two  spaces  ",
    "--l=ü 北京", "--m=!history #no",
]  # fmt: skip


class Fakes:
    """A folder of fake tools that comes first on PATH."""

    def __init__(self, folder: Path):
        self.home, self._bin, self._record = folder / "home", folder / "bin", folder / "record"
        self.home.mkdir()
        self._bin.mkdir()

    def add(self, name: str, body: str = "") -> None:
        """`body` is bash, with the arguments as "$@"; its exit code is the tool's."""
        file = self._bin / name
        file.write_text(f"#!/usr/bin/env bash\n{{ printf '%s\\0' {name} \"$@\"; printf '\\1'; }} >>'{self._record}'\n{body}\n")
        file.chmod(0o755)

    def run(self, *command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TPU_", "SLURM_", "FLAXFT_", "SKYPILOT_"))}
        variables = kept | {"PATH": f"{self._bin}:{os.environ['PATH']}", "HOME": str(self.home)} | environment
        return subprocess.run(list(map(str, command)), env=variables, cwd=self.home, capture_output=True, text=True, timeout=60)

    def calls(self, name: str | None = None) -> list[list[str]]:
        """The recorded calls in order, [tool, argument, ...]; of one tool alone with `name`."""
        text = self._record.read_text() if self._record.exists() else ""
        found = [call.removesuffix("\0").split("\0") for call in text.split("\1")[:-1]]
        return [call for call in found if name in (None, call[0])]
