#!/usr/bin/env python3
"""Starts servers, runs a command that finds them in its environment, stops them, and ends with the command's code.

    run.py [--server NAME ...] -- COMMAND...

For each server the command finds BATCHPLAN_TEST_<NAME>_ENDPOINT, _ACCESS_KEY, _SECRET_KEY and _REGION, and where the
server has a second user that may not change objects below locked/, _OTHER_ACCESS_KEY and _OTHER_SECRET_KEY.
"""

from __future__ import annotations

import venv

venv.enter()

import argparse
import os
import subprocess
import sys
import time

from launch import LAUNCHERS, running
from launch.process import StartError
from launch.signals import ENDED_BY_SIGNAL, stop_on_signals


def main() -> int:
    """Parses the command line and does the work."""
    parser = argparse.ArgumentParser(description="Runs a command while S3 servers are up.")
    parser.add_argument("--server", action="append", choices=LAUNCHERS, help="may be repeated; all when not given")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="after --")
    arguments = parser.parse_args()
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        parser.error("no command to run")
    stop_on_signals()
    try:
        return run(arguments.server or list(LAUNCHERS), command)
    except StartError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1


def run(names: list[str], command: list[str]) -> int:
    """Runs the command with the servers up; its code, or 128 and the signal that ended it."""
    started = time.monotonic()
    with running(names, venv.RUNS) as servers:
        environment = dict(os.environ)
        for server in servers:
            environment |= server.environment()
            print(f"{server.name}: {server.endpoint}", file=sys.stderr)
        print(f"up after {time.monotonic() - started:.1f} s", file=sys.stderr)
        try:
            child = subprocess.Popen(command, env=environment)
        except OSError as error:
            print(f"run.py: {command[0]}: {error.strerror}", file=sys.stderr)
            return 127
        try:
            code = child.wait()
        except BaseException:
            child.terminate()
            child.wait()
            raise
    return code if code >= 0 else ENDED_BY_SIGNAL - code


if __name__ == "__main__":
    sys.exit(main())
