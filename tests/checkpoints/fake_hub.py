"""A hub on this machine that answers as huggingface.co does: refs, commits, files with their headers, and refusals."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

_ERRORS = {
    "RepoNotFound": (401, "Invalid username or password."),
    "RevisionNotFound": (404, "Invalid rev id"),
    "EntryNotFound": (404, "Entry not found"),
    "GatedRepo": (403, "Access to model is restricted and you are not in the authorized list."),
}


class FakeHub:
    """Repositories as folders of revisions.

    Args:
        repositories: name -> branch or tag -> folder with the files.
        gated: names of those whose files are refused.
        broken: names of those that are answered with a server error.
    """

    def __init__(
        self, repositories: dict[str, dict[str, Path]], gated: tuple[str, ...] = (), broken: tuple[str, ...] = ()
    ) -> None:
        self.repositories = repositories
        self.gated = gated
        self.broken = broken
        self.requests: list[str] = []

    @staticmethod
    def commit(folder: Path) -> str:
        """A commit is made of what is in the folder: 40 hexadecimal digits."""
        digest = hashlib.sha1()
        for file in sorted(folder.iterdir()):
            digest.update(file.name.encode() + file.read_bytes())
        return digest.hexdigest()

    def folder(self, repository: str, revision: str) -> Path | None:
        """Of a branch, a tag or a commit."""
        revisions = self.repositories[repository]
        by_commit = {self.commit(folder): folder for folder in revisions.values()}
        return revisions.get(revision, by_commit.get(revision))

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The address, as long as the body runs."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self, with_body=True)

            def do_HEAD(self) -> None:
                hub.answer(self, with_body=False)

            def log_message(self, *_: object) -> None:
                """Nothing on the terminal."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        path = unquote(handler.path.partition("?")[0])
        self.requests.append(f"{handler.command} {path}")
        if path.startswith("/api/models/"):
            self._answer_api(handler, path.removeprefix("/api/models/"), with_body)
        elif "/resolve/" in path:
            name, _, rest = path[1:].partition("/resolve/")
            revision, _, file = rest.partition("/")
            self._answer_file(handler, name, revision, file, with_body)
        else:
            self._refuse(handler, "EntryNotFound", with_body)

    def _answer_api(self, handler: BaseHTTPRequestHandler, path: str, with_body: bool) -> None:
        name = "/".join(path.split("/")[:2])
        rest = path.removeprefix(name).strip("/")
        if name in self.broken:
            self._send(handler, 500, b'{"error": "Internal Error"}', {}, with_body)
            return
        if name not in self.repositories:
            self._refuse(handler, "RepoNotFound", with_body)
            return
        if rest == "refs":
            branches = [
                {"name": each, "ref": f"refs/heads/{each}", "targetCommit": self.commit(folder)}
                for each, folder in self.repositories[name].items()
            ]
            answer = {"branches": branches, "tags": [], "converts": []}
            self._send(handler, 200, json.dumps(answer).encode(), {}, with_body)
            return
        words = rest.split("/")
        folder = self.folder(name, words[1] if words[0] in ("revision", "tree") else "main")
        if folder is None:
            self._refuse(handler, "RevisionNotFound", with_body)
            return
        files = sorted(each.name for each in folder.iterdir())
        if words[0] == "tree":
            answer_tree = [
                {"type": "file", "oid": "0" * 40, "size": (folder / each).stat().st_size, "path": each}
                for each in files
            ]
            self._send(handler, 200, json.dumps(answer_tree).encode(), {}, with_body)
            return
        info = {
            "id": name,
            "modelId": name,
            "sha": self.commit(folder),
            "private": False,
            "gated": "manual" if name in self.gated else False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": [{"rfilename": each} for each in files],
        }
        self._send(handler, 200, json.dumps(info).encode(), {}, with_body)

    def _answer_file(
        self, handler: BaseHTTPRequestHandler, name: str, revision: str, file: str, with_body: bool
    ) -> None:
        if name not in self.repositories:
            self._refuse(handler, "RepoNotFound", with_body)
            return
        folder = self.folder(name, revision)
        if folder is None:
            self._refuse(handler, "RevisionNotFound", with_body)
            return
        if name in self.gated:
            self._refuse(handler, "GatedRepo", with_body, {"X-Repo-Commit": self.commit(folder)})
            return
        if not (folder / file).is_file():
            self._refuse(handler, "EntryNotFound", with_body, {"X-Repo-Commit": self.commit(folder)})
            return
        content = (folder / file).read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": self.commit(folder)}
        self._send(handler, 200, content, headers, with_body)

    def _refuse(
        self, handler: BaseHTTPRequestHandler, code: str, with_body: bool, headers: dict[str, str] | None = None
    ) -> None:
        status, message = _ERRORS[code]
        about = {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})}
        self._send(handler, status, json.dumps({"error": message}).encode(), about, with_body)

    @staticmethod
    def _send(
        handler: BaseHTTPRequestHandler, status: int, content: bytes, headers: dict[str, str], with_body: bool
    ) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if with_body:
            handler.wfile.write(content)
