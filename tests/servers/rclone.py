#!/usr/bin/env python3
"""Lets rclone's S3 server, which does not know tags, ACLs and restores, do its worst: no byte of any file may change.

    rclone.py [--binary PATH]

One line for each plan and command; the last line is `N passed, N failed`.
"""

from __future__ import annotations

import venv

venv.enter()

import argparse
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launch import rclone
from launch.process import RunFolder, StartError
from launch.sandbox import BINARY_VARIABLE, binary
from launch.server import Server
from launch.signals import stop_on_signals

BUCKET = "bkt"
REFUSED = 6
SECONDS = 120.0

OPERATIONS = {
    "put_object_tagging": 'tags = { t = "1" }',
    "add_object_tagging": 'tags = { t = "1" }',
    "delete_object_tagging": "",
    "delete_object_tagging by keys": 'keys = ["t"]',
    "put_object_acl": 'acl = "public-read"',
    "restore_object": "days = 1",
}

#: What a document of tags looks like, for objects that are just that.
TAGGING = b"<Tagging><TagSet><Tag><Key>t</Key><Value>0</Value></Tag></TagSet></Tagging>"

COMMANDS = {
    "plan": [["plan", "plan.toml"]],
    "plan --full": [["plan", "plan.toml", "--full"]],
    "check": [["check", "plan.toml"]],
    "check --write-probe": [["check", "plan.toml", "--write-probe", "folder/2.txt"]],
    "apply": [["apply", "plan.toml", "--auto-approve"]],
    "apply, resume, run, apply": [
        ["apply", "plan.toml", "--auto-approve"],
        ["resume", "JOB"],
        ["run"],
        ["apply", "plan.toml", "--auto-approve"],
    ],
    "create, confirm, run": [["create", "plan.toml"], ["confirm", "JOB"], ["run"]],
    "apply, cancel, retry": [["apply", "plan.toml", "--auto-approve"], ["cancel", "JOB"], ["retry", "JOB", "--auto-approve"]],
}

#: Commands that only read cannot see what a restore does: they say so, and are not refused.
READING = ("plan", "plan --full", "check", "check --write-probe")


@dataclass
class Bench:
    """The server, its files as they must stay, and a folder for plans."""

    server: Server
    files: Path
    work: Path
    numbers: Iterator[int]

    def seed(self) -> None:
        """The files, anew."""
        shutil.rmtree(self.files / BUCKET, ignore_errors=True)
        folder = self.files / BUCKET / "folder"
        folder.mkdir(parents=True)
        for number in range(6):
            (folder / f"{number}.txt").write_bytes(f"file {number}\n".encode() * (number + 1))
        (folder / "6-empty.txt").write_bytes(b"")
        (folder / "7-tagging.xml").write_bytes(TAGGING)
        for number in range(3):
            (self.files / BUCKET / f"{number}.xml").write_bytes(TAGGING)

    def content(self) -> dict[str, bytes]:
        """Every file by its path."""
        root = self.files
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}

    def run(self, operation: str, prefix: str, commands: list[list[str]]) -> tuple[int, str]:
        """The commands in a folder of their own; the last exit code, and all that they said."""
        folder = self.work / str(next(self.numbers))
        folder.mkdir(parents=True)
        name = operation.split()[0]
        store = f'provider = "s3"\nendpoint = "{self.server.endpoint}"\nregion = "us-east-1"\naddressing = "path"'
        plan = (
            f'name = "rclone"\n[store]\n{store}\n[manifest.prefix]\nbucket = "{BUCKET}"\nprefix = "{prefix}"\n'
            f"[operation.{name}]\n{OPERATIONS[operation]}\n"
        )
        (folder / "plan.toml").write_text(plan, encoding="utf-8")
        code, said = 0, ""
        for command in commands:
            done = self.batchplan(folder, [self.job(folder) if word == "JOB" else word for word in command])
            code, said = done.returncode, said + done.stdout + done.stderr
        return code, said

    def job(self, folder: Path) -> str:
        """The first job."""
        jobs = json.loads(self.batchplan(folder, ["list", "--json"]).stdout)["jobs"]
        return str(jobs[-1]["job_id"])

    def batchplan(self, folder: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        """One command."""
        keys = {"AWS_ACCESS_KEY_ID": self.server.keys.access, "AWS_SECRET_ACCESS_KEY": self.server.keys.secret}
        return subprocess.run(
            [str(binary()), *arguments],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder)} | keys,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            text=True,
            errors="replace",
        )


def check(bench: Bench, operation: str, prefix: str, command: str) -> list[str]:
    """What is wrong with one command of one plan."""
    bench.seed()
    before = bench.content()
    code, said = bench.run(operation, prefix, COMMANDS[command])
    after = bench.content()
    found = [f"gone: {path}" for path in before.keys() - after.keys()]
    found += [f"new: {path}" for path in after.keys() - before.keys()]
    found += [f"changed: {path}" for path in before.keys() & after.keys() if before[path] != after[path]]
    reads_only = operation == "restore_object" and command in READING
    if not reads_only and code != REFUSED:
        found.append(f"exit code {code}")
    if "next: batchplan apply" in said and not reads_only:
        found.append("it says to apply the plan")
    if "1 succeeded" in said or "8 succeeded" in said:
        found.append("it says that objects succeeded")
    return [*found, said] if found else []


def everything(bench: Bench) -> tuple[int, int]:
    """Every command of every plan, also on objects that are documents of tags."""
    passed = failed = 0
    for operation in OPERATIONS:
        for command in COMMANDS:
            for prefix in ("folder/", "") if command == "apply" else ("folder/",):
                try:
                    found = check(bench, operation, prefix, command)
                except Exception:  # A check that breaks has failed; the others still say something.
                    found = [traceback.format_exc(limit=-3)]
                print("FAILED" if found else "ok", operation, "|", command, "|", prefix or "whole bucket", flush=True)
                for problem in found:
                    print("   ", problem.replace("\n", "\n      "), flush=True)
                passed, failed = passed + (not found), failed + bool(found)
    return passed, failed


def main() -> int:
    """Parses the command line and does the work."""
    parser = argparse.ArgumentParser(description="Lets rclone's S3 server do its worst.")
    parser.add_argument("--binary", type=Path, help=f"the batchplan to test; else ${BINARY_VARIABLE}, else a build")
    arguments = parser.parse_args()
    if arguments.binary:
        os.environ[BINARY_VARIABLE] = str(arguments.binary.resolve())
    stop_on_signals()
    try:
        binary()
        with RunFolder.fresh(venv.RUNS / "rclone") as folder:
            files = folder.path / "files"
            (files / BUCKET).mkdir(parents=True)
            bench = Bench(rclone.start(folder, files), files, folder.path / "work", iter(range(10_000)))
            passed, failed = everything(bench)
    except StartError as error:
        print(f"rclone.py: {error}", file=sys.stderr)
        return 1
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main())
