"""Files of unknown origin are opened in a child process first, under a time limit (docs/format.md, section 6)."""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worldprobe.activations import _inspection
from worldprobe.activations._files import RecordingError

TIME_LIMIT = 30.0
"""Seconds that the child may take over one file, beside those for its size."""
SLOWEST_READ = 20e6
"""Bytes per second that a disk gives at least."""


class Inspector:
    """Opens files in one child process, which is started at the first file and again whenever one has killed it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._proven: set[tuple[str, int, int, int]] = set()

    def check(self, request: Mapping[str, Any]) -> None:
        """Return if the file of `request` is known, or the child finds it to be what `request` promises.

        Raises
        ------
        RecordingError
            If it is not, or the HDF5 library crashes or hangs over it.
        """
        name = _proof(request)
        with self._lock:
            if name in self._proven:
                return
            seconds = TIME_LIMIT + Path(request["path"]).stat().st_size / SLOWEST_READ
            answer = self._ask(json.dumps(request).encode() + b"\n", seconds)
            if "refused" in answer:
                raise RecordingError(answer["refused"])
            self._proven.add(name)

    def trust(self, request: Mapping[str, Any]) -> None:
        """Take it that the file of `request` is what it promises: this process wrote it."""
        self._proven.add(_proof(request))

    def _ask(self, line: bytes, seconds: float) -> dict[str, str]:
        """Send a request to the child and wait for its answer."""
        if self._child is None or self._child.poll() is not None:
            self._child = _start()
        child, deadline, received = self._child, time.monotonic() + seconds, b""
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(line)
        child.stdin.flush()
        while not received.endswith(b"\n"):
            if not select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self.stop()
                raise RecordingError(f"the HDF5 library did not come back within {seconds:.0f} s: the file is damaged, or made to do harm")
            block = os.read(child.stdout.fileno(), 2**16)
            if not block:
                code = child.wait()
                self.stop()
                raise RecordingError(f"the HDF5 library crashed over it (exit status {code}): the file is damaged, or made to do harm")
            received += block
        answer: dict[str, str] = json.loads(received)
        return answer

    def stop(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()

    def forget_child(self) -> None:
        """Leave the child to the process that this one was forked from."""
        if self._child is not None:
            self._child.returncode = 0
        self._child, self._lock = None, threading.Lock()


def _start() -> subprocess.Popen[bytes]:
    """Start the child with this process's import path and one thread."""
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-W", "ignore", _inspection.__file__]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)


def _proof(request: Mapping[str, Any]) -> tuple[str, int, int, int]:
    """Return what a proven file is known by: the promise, and which state of which file it was about."""
    state = Path(request["path"]).stat()
    return json.dumps(request, sort_keys=True), state.st_ino, state.st_mtime_ns, state.st_size


INSPECTOR = Inspector()
"""The one of this process."""
atexit.register(INSPECTOR.stop)
os.register_at_fork(after_in_child=INSPECTOR.forget_child)
