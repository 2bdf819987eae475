"""A worker that is a copy of this process instead of a program: it has no imports to make."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO

# What a worker would import.
import sklearn.datasets  # noqa: F401
import transformers.models.llama.modeling_llama  # noqa: F401

import spectral_reach.studies.data.batches
import spectral_reach.studies.training.loop  # noqa: F401
from spectral_reach.studies import worker


class ForkedWorker:
    """As much of ``subprocess.Popen`` as an engine uses, for ``python -m spectral_reach.studies.worker`` alone."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: int,
        stdout: int,
        stderr: IO[bytes],
        bufsize: int,
        env: Mapping[str, str],
        process_group: int,
    ) -> None:
        assert command[1:] == ["-m", "spectral_reach.studies.worker"]
        assert (stdin, stdout, bufsize) == (subprocess.PIPE, subprocess.PIPE, 0)
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.setpgid(0, process_group)
            for descriptor, name in ((theirs_in, 0), (theirs_out, 1), (stderr.fileno(), 2)):
                os.dup2(descriptor, name)
            # Among them the parent's end of another worker's stdin: its end tells that one that the parent is gone.
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            os.environ.update(env)
            code = 1
            try:
                code = worker.main()
            finally:
                sys.stderr.flush()
                os._exit(code)
        os.close(theirs_in)
        os.close(theirs_out)
        self.stdin = os.fdopen(ours_in, "wb", buffering=0)
        self.stdout = os.fdopen(ours_out, "rb", buffering=0)
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, minus a signal; None while it is there."""
        if self._code is None:
            process, status = os.waitpid(self.pid, os.WNOHANG)
            if process:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """For its end."""
        begun = time.monotonic()
        while (code := self.poll()) is None:
            if timeout is not None and time.monotonic() - begun > timeout:
                raise subprocess.TimeoutExpired("worker", timeout)
            time.sleep(0.005)
        return code

    def terminate(self) -> None:
        """Ask it to stop."""
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        os.kill(self.pid, signal.SIGKILL)
