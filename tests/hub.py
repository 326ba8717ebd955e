"""A Hugging Face hub on the loopback: serves a local folder to `datasets` and `huggingface_hub`, so that hub tests need no network."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

API = re.compile(r"/api/(models|datasets)/(.+?)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.+))?)?")
FILE = re.compile(r"/(datasets/)?(.+?)/resolve/([^/]+)/(.+)")


class HubServer:
    """Serves `root/models/ORG/NAME/...` and `root/datasets/ORG/NAME/...`; each repository has the one commit `commit(kind, repo_id)`.

    A key of `moved` is an old name that redirects to its value, as `glue` does to `nyu-mll/glue`.
    `requests` collects "METHOD path" of everything that was asked. Use it as a context manager; `stop()` is also fine halfway.
    """

    def __init__(self, root: Path, *, moved: Mapping[str, str] | None = None):
        self.root = root
        self.moved = moved or {}
        self.requests: list[str] = []
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """From here on the port refuses; a second call does nothing."""
        if not self._thread.is_alive():
            return
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @staticmethod
    def commit(kind: str, repo_id: str) -> str:
        """The commit of a repository: 40 hex digits that depend on its kind ("models", "datasets") and id alone."""
        return hashlib.sha1(f"{kind}/{repo_id}".encode()).hexdigest()

    def environment(self, home: Path, *, offline: bool = False) -> dict[str, str]:
        """The environment of a client process: this hub, `home` as its cache folder, no token, no telemetry."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
        asked = {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": str(int(offline))}
        # `datasets` counts loads at an address outside the endpoint.
        return kept | asked | {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0", "HF_HUB_DISABLE_XET": "1"}

    def client(self, code: str, *arguments: str, home: Path, offline: bool = False) -> subprocess.CompletedProcess[str]:
        """Runs Python code as a client. A process of its own, because the libraries read the environment once, at import."""
        command = [sys.executable, "-c", code, *arguments]
        environment = self.environment(home, offline=offline)
        return subprocess.run(command, env=environment, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=600)


def _handler(hub: HubServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # clients keep connections open

        def do_GET(self) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            path = urlsplit(self.path).path
            if match := API.fullmatch(path):
                self._api(*match.groups())
            elif match := FILE.fullmatch(path):
                self._file(*match.groups())
            else:
                self._refuse("EntryNotFound")

        do_HEAD = do_GET

        def do_POST(self) -> None:
            self._form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
            self.do_GET()

        def _api(self, kind: str, repo_id: str, verb: str | None, revision: str | None, path: str | None) -> None:
            folder = self._folder(kind, repo_id, unquote(revision or "main"))
            if folder is None:
                return
            if verb == "paths-info":
                self._json([_entry(folder, folder / p) for p in self._form.get("paths", []) if (folder / p).exists()])
            elif verb == "tree":
                top = folder / unquote(path or "")
                if not top.is_dir():
                    return self._refuse("EntryNotFound")
                recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() in ("true", "1")
                self._json([_entry(folder, p) for p in sorted(top.rglob("*") if recursive else top.iterdir())])
            else:
                files = [{"rfilename": p.relative_to(folder).as_posix()} for p in sorted(folder.rglob("*")) if p.is_file()]
                self._json({"id": repo_id, "sha": hub.commit(kind, repo_id), "private": False, "gated": False, "tags": [], "siblings": files})

        def _file(self, kind: str | None, repo_id: str, revision: str, path: str) -> None:
            kind = "datasets" if kind else "models"
            folder = self._folder(kind, repo_id, unquote(revision))
            if folder is None:
                return
            file = folder / unquote(path)
            commit = {"X-Repo-Commit": hub.commit(kind, repo_id)}
            if not file.is_file():
                return self._refuse("EntryNotFound", headers=commit)
            data = file.read_bytes()
            headers = commit | {"ETag": f'"{_blob(data)}"', "X-Linked-Size": str(len(data)), "Accept-Ranges": "bytes"}
            if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                first, last = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
                self._answer(206, data[first : last + 1], headers | {"Content-Range": f"bytes {first}-{last}/{len(data)}"})
            else:
                self._answer(200, data, headers)

        def _folder(self, kind: str, repo_id: str, revision: str) -> Path | None:
            if repo_id in hub.moved:
                self._answer(307, b"", {"Location": self.path.replace(f"/{repo_id}", f"/{hub.moved[repo_id]}", 1)})
                return None
            folder = hub.root / kind / unquote(repo_id)
            if repo_id.count("/") > 1 or ".." in repo_id or not any(path.is_file() for path in folder.glob("*")):
                self._refuse("RepoNotFound")
                return None
            if revision not in ("main", hub.commit(kind, repo_id)):
                self._refuse("RevisionNotFound")
                return None
            return folder

        def _refuse(self, code: str, *, headers: dict[str, str] | None = None) -> None:
            self._answer(404, b"", {"X-Error-Code": code, "X-Error-Message": code} | (headers or {}))

        def _json(self, value: Any) -> None:
            self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass  # tests read `requests` instead

    return Handler


def _entry(folder: Path, path: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": _blob(name.encode()), "size": 0}
    data = path.read_bytes()
    return {"type": "file", "path": name, "oid": _blob(data), "size": len(data)}


def _blob(data: bytes) -> str:
    """Git's id of a file's content, which the hub gives as ETag."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
