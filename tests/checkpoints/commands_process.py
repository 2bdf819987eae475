"""Runs commands in this process, which has an environment of its own: where the hub is is read once, at import.

Reads a JSON list of command lines from stdin; writes a JSON list of ``[exit code, stdout, stderr]``.
"""

import json
import sys

from typer.testing import CliRunner

from spectral_reach.cli.app import app

if __name__ == "__main__":
    done = []
    for arguments in json.load(sys.stdin):
        result = CliRunner().invoke(app, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        done.append([result.exit_code, result.stdout, result.stderr])
    json.dump(done, sys.stdout)
