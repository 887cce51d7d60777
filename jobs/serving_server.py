"""A server in a process of its own, as an operator starts it, and what it takes of the machine."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from features.errors import ConfigError

PATIENCE_S = 180.0
LOOK_EVERY_S = 0.01


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident, in MiB; of files are pages that processes share and the system can drop."""

    whole: float
    of_files: float


class ServerProcess:
    """Runs `module` until the block ends; `ready_s` is how long it took to answer `ready_path`."""

    def __init__(
        self,
        module: Sequence[str],
        port: int,
        log: Path,
        environment: Mapping[str, str],
        ready_path: str,
    ) -> None:
        self.port = port
        self.ready_s = 0.0
        self._command = [sys.executable, "-m", *module]
        self._log = log
        self._environment = {**os.environ, **environment}
        self._ready_path = ready_path
        self._process: subprocess.Popen[bytes] | None = None
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self._file = self._log.open("wb")
        started = time.perf_counter()
        self._process = subprocess.Popen(
            self._command, stdout=self._file, stderr=self._file, env=self._environment
        )
        while not self._is_ready():
            waited = time.perf_counter() - started
            if self._process.poll() is not None or waited > PATIENCE_S:
                self._stop()
                raise ConfigError(
                    f"{' '.join(self._command)} was not ready after {waited:.0f} s, it says: "
                    f"{self._log.read_text('utf-8', 'replace')[-500:]}"
                )
            time.sleep(LOOK_EVERY_S)
        self.ready_s = time.perf_counter() - started
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def memory(self) -> Memory:
        assert self._process is not None
        lines = Path(f"/proc/{self._process.pid}/status").read_text("utf-8").splitlines()
        kib = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
        whole = next(line.split()[1] for line in lines if line.startswith("VmRSS"))
        return Memory(int(whole) / 1024, (int(kib["RssFile"]) + int(kib["RssShmem"])) / 1024)

    def _is_ready(self) -> bool:
        try:
            return ask(self.port, "GET", self._ready_path)[0] < 300  # any success
        except OSError:
            return False

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_S)
        if self._file is not None:
            self._file.close()


def ask(
    port: int, method: str, path: str, body: bytes | None = None, key: str = ""
) -> tuple[int, bytes]:
    """One request on a connection of its own: status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
