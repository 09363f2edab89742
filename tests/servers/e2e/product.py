"""Runs the binary under test the way a stranger would: a plan file, keys in the environment, an empty home."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.server import Keys, Server

APPLY_SECONDS = 60.0
SUMMARY_FIELDS = {"job_id", "status", "total", "succeeded", "failed", "report"}


@dataclass(frozen=True)
class Ran:
    """One run and what it said."""

    code: int
    stdout: str
    stderr: str

    def summary(self) -> dict[str, Any]:
        """The object that `--json` prints, alone on stdout."""
        try:
            summary = json.loads(self.stdout)
        except ValueError as error:
            raise AssertionError(f"stdout is not one JSON object ({error}): {self.stdout[-300:]!r}") from error
        if not isinstance(summary, dict) or not summary.keys() >= SUMMARY_FIELDS:
            raise AssertionError(f"the JSON lacks one of {sorted(SUMMARY_FIELDS)}: {self.stdout[-300:]!r}")
        return summary

    def explain(self) -> str:
        """What to show when a case fails."""
        return f"exit code {self.code}; stderr ends: {self.stderr.strip()[-1500:]}"


@dataclass(frozen=True)
class Report:
    """The `[report]` of a plan."""

    bucket: str
    prefix: str
    format: str = "oss"
    scope: str = "all-tasks"

    def toml(self) -> str:
        """Its table."""
        return (
            f'[report]\nbucket = "{self.bucket}"\nprefix = "{self.prefix}"\n'
            f'format = "{self.format}"\nscope = "{self.scope}"'
        )


def plan(name: str, server: Server, *tables: str) -> str:
    """A whole plan."""
    store = f'[store]\nprovider = "s3"\nendpoint = "{server.endpoint}"\nregion = "{server.region}"\naddressing = "path"'
    # A server that refuses an operation for every object is to say so of every object.
    limits = "[limits]\nfailure_threshold = 1"
    return "\n\n".join([f'name = "{name}"', store, *tables, limits]) + "\n"


def apply(binary: Path, text: str, folder: Path, keys: Keys) -> Ran:
    """`batchplan apply` in a folder of its own."""
    home = folder / "home"
    home.mkdir()
    path = folder / "plan.toml"
    path.write_text(text, encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AWS_ACCESS_KEY_ID": keys.access,
        "AWS_SECRET_ACCESS_KEY": keys.secret,
    }
    command = [binary, "apply", path, "--auto-approve", "--json", "--state", folder / "state"]
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=APPLY_SECONDS,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"did not end within {APPLY_SECONDS:.0f} s: {error.stderr!r}") from error
    return Ran(done.returncode, done.stdout, done.stderr)
