#!/usr/bin/env python3
"""Runs the end-to-end matrix: the real binary against real servers, judged by boto3.

    matrix.py [--server NAME ...] [--case TEXT] [--binary PATH] [--jobs N]

One line for each case; the last line is `N passed, N failed`. Each server has a process of its own, N at a time.
"""

from __future__ import annotations

import venv

venv.enter()

import argparse
import os
import shutil
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

from e2e.cases import NamedCase, matrix
from e2e.context import Context
from e2e.extras import extras
from launch import LAUNCHERS, running
from launch.process import StartError, remove_left_over
from launch.sandbox import BINARY_VARIABLE, binary
from launch.signals import stop_on_signals

WORK = venv.RUNS / "e2e"
TALLY = "tally:"


def main() -> int:
    """Parses the command line and does the work."""
    parser = argparse.ArgumentParser(description="Runs the end-to-end matrix against real servers.")
    parser.add_argument("--server", action="append", choices=LAUNCHERS, help="may be repeated; all when not given")
    parser.add_argument("--case", default="", help="only cases whose name contains this")
    parser.add_argument("--binary", type=Path, help=f"the batchplan to test; else ${BINARY_VARIABLE}, else a build")
    parser.add_argument("--jobs", type=int, default=2, help="servers at a time")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.binary:
        os.environ[BINARY_VARIABLE] = str(arguments.binary.resolve())
    names = arguments.server or list(LAUNCHERS)
    stop_on_signals()
    if arguments.worker:
        return one_server(names[0], arguments.case)
    try:
        binary()
    except StartError as error:
        print(f"matrix.py: {error}", file=sys.stderr)
        return 1
    return all_servers(names, arguments.case, arguments.jobs)


def one_server(name: str, only: str) -> int:
    """Starts one server and runs the cases on it."""
    (WORK / name).mkdir(parents=True, exist_ok=True)
    remove_left_over(WORK / name)
    folder = WORK / name / str(os.getpid())
    started = time.monotonic()
    passed = failed = 0
    try:
        with running([name], venv.RUNS) as (server,):
            context = Context(server, binary(), folder)
            for case in [*matrix(), *extras(name, server.other is not None, server.tenant is not None)]:
                if only in case.name:
                    is_good = run(case, context)
                    passed, failed = passed + is_good, failed + (not is_good)
    except StartError as error:
        print(f"FAILED {name}: did not start: {error}")
        failed += 1
    if failed:
        print(f"{name}: plans, manifests and state of each case are in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{name}: {passed} passed, {failed} failed in {time.monotonic() - started:.1f} s")
    print(TALLY, passed, failed, flush=True)
    return int(failed > 0)


def run(case: NamedCase, context: Context) -> bool:
    """Runs one case and prints its line."""
    try:
        found = case.check(context)
    except Exception as error:  # A case that breaks has failed; the others still say something.
        found = [f"{type(error).__name__}: {error}", traceback.format_exc(limit=-3)]
    print("FAILED" if found else "ok", context.server.name, case.name, flush=True)
    for problem in found:
        print("   ", problem.replace("\n", "\n      "), flush=True)
    return not found


def all_servers(names: list[str], only: str, jobs: int) -> int:
    """Runs each server's part in a process of its own, some at a time, and adds up."""
    turns = threading.Semaphore(max(jobs, 1))
    lock = threading.Lock()
    tallies: list[tuple[int, int]] = []
    workers: list[subprocess.Popen[str]] = []

    def follow(worker: subprocess.Popen[str]) -> None:
        tally = (0, 1)  # A worker that dies without a tally has failed.
        assert worker.stdout is not None
        for line in worker.stdout:
            if line.startswith(TALLY):
                _, passed, failed = line.split()
                tally = (int(passed), int(failed))
            else:
                with lock:
                    print(line, end="", flush=True)
        worker.wait()
        with lock:
            tallies.append(tally)
        turns.release()

    threads = []
    try:
        for name in names:
            turns.acquire()
            command = [sys.executable, __file__, "--worker", "--server", name, "--case", only]
            workers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            threads.append(threading.Thread(target=follow, args=[workers[-1]], daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join()
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.terminate()
                worker.wait()
    passed, failed = (sum(column) for column in zip(*tallies, strict=True))
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main())
