#!/usr/bin/env python3
"""Lets the AWS CLI judge the requests that batchplan exports, without sending any.

    aws_cli.py [--binary PATH]

One line for each check; the last line is `N passed, N failed`.
"""

from __future__ import annotations

import venv

venv.enter()

import argparse
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from launch.process import StartError
from launch.sandbox import BINARY_VARIABLE, binary

ROLE = "arn:aws:iam::123456789012:role/batch/BatchRole"

MANIFESTS = {
    "prefix": '[manifest.prefix]\nbucket = "my-bucket"\nprefix = "a b/é/"\n',
    "bucket": '[manifest.prefix]\nbucket = "my-bucket"\n',
    "csv": '[manifest.csv]\nbucket = "my-bucket"\nobject = "list \\"1\\".csv"\netag = "d41d8cd9"\n'
    'fields = ["Ignore", "Bucket", "Key", "VersionId"]\n',
    "inventory": '[manifest.inventory]\nbucket = "my-bucket"\nobject = "daily/manifest.json"\netag = "d41d8cd9"\n',
}

OPERATIONS = {
    "put_object_tagging": 'tags = { Team = "DataOps", "cost centre" = "" }\n',
    "delete_object_tagging": "",
    "put_object_acl": 'acl = "public-read"\n',
    "restore_object": 'days = 7\ntier = "Bulk"\n',
}

REPORTS = {
    "published": '[report]\nbucket = "my-bucket"\nprefix = "reports"\nscope = "failed-tasks-only"\n',
    "at the root": '[report]\nbucket = "my-bucket"\n',
    "kept": "",
}

CHECKS: list[Callable[[Path], None]] = []


def check(function: Callable[[Path], None]) -> Callable[[Path], None]:
    """Makes it one of the checks."""
    CHECKS.append(function)
    return function


def batchplan(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The binary under test, with an empty environment."""
    command = [str(binary()), *arguments]
    return subprocess.run(command, cwd=folder, env={}, capture_output=True, text=True, encoding="utf-8", check=False)


def create_job(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The CLI's `create-job`, which can reach nobody."""
    command = [str(Path(sys.executable).parent / "aws"), "s3control", "create-job", *arguments]
    environment = {
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "PATH": os.environ["PATH"],
    }
    return subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", check=False)


def judged(request: Path) -> subprocess.CompletedProcess[str]:
    """What the CLI says of a request, without sending it."""
    return create_job("--cli-input-json", f"file://{request}", "--generate-cli-skeleton", "output")


def accepted(request: Path) -> None:
    """Fails unless the CLI takes it."""
    answer = judged(request)
    assert answer.returncode == 0, f"{request.read_text(encoding='utf-8')}\n{answer.stderr}"
    assert "JobId" in json.loads(answer.stdout), answer.stdout


def plan(folder: Path, manifest: str, operations: str, report: str = "") -> Path:
    """Writes a plan."""
    path = folder / "plan.toml"
    store = f'name = "work"\ndescription = "two\\nlines"\n[store]\nprovider = "aws"\nrole_arn = "{ROLE}"\n'
    path.write_text(f"{store}{manifest}{operations}{report}[job]\npriority = 2147483647\n", encoding="utf-8")
    return path


def export(folder: Path) -> list[Path]:
    """The requests of the plan in a folder."""
    out = folder / "requests"
    exported = batchplan(folder, "export", "plan.toml", "--format", "aws-json", "--out", str(out))
    assert exported.returncode == 0, exported.stderr
    return sorted(out.iterdir())


@check
def every_manifest_with_every_operation(folder: Path) -> None:
    """Each is one request, and the CLI takes it."""
    reports = list(REPORTS.values())
    number = 0
    for manifest in MANIFESTS.values():
        for name, values in OPERATIONS.items():
            place = folder / str(number)
            place.mkdir()
            plan(place, manifest, f"[operation.{name}]\n{values}", reports[number % len(reports)])
            (request,) = export(place)
            accepted(request)
            number += 1


@check
def several_operations(folder: Path) -> None:
    """Each is a request of its own, with a token of its own."""
    names = ["put_object_tagging", "put_object_acl", "restore_object"]
    plan(folder, MANIFESTS["prefix"], "".join(f"[operation.{name}]\n{OPERATIONS[name]}" for name in names))
    requests = export(folder)
    assert len(requests) == len(names), requests
    for request in requests:
        accepted(request)
    tokens = {json.loads(request.read_text(encoding="utf-8"))["ClientRequestToken"] for request in requests}
    assert len(tokens) == len(names), tokens


@check
def inputs_of_the_tests(folder: Path) -> None:
    """What the unit tests take for requests are some, before and after they were a plan."""
    inputs = sorted((venv.REPOSITORY / "tests" / "fixtures" / "interchange" / "aws").glob("*.json"))
    assert inputs
    for given in inputs:
        place = folder / given.stem
        place.mkdir()
        accepted(given)
        imported = batchplan(place, "import", str(given), "--name", "work", "--out", "plan.toml")
        assert imported.returncode == 0, imported.stderr
        (request,) = export(place)
        accepted(request)


@check
def spoilt_requests(folder: Path) -> None:
    """The CLI does refuse what is none: this is what makes its consent worth something."""
    plan(folder, MANIFESTS["csv"], f"[operation.restore_object]\n{OPERATIONS['restore_object']}", REPORTS["published"])
    (request,) = export(folder)
    whole = json.loads(request.read_text(encoding="utf-8"))
    for name, spoilt in spoils(whole):
        request.write_text(json.dumps(spoilt), encoding="utf-8")
        answer = judged(request)
        assert answer.returncode != 0, f"{name} was accepted"
        assert "Parameter validation failed" in answer.stderr, f"{name}: {answer.stderr}"


def spoils(whole: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The request with one thing wrong."""
    yield "no priority", {key: value for key, value in whole.items() if key != "Priority"}
    yield "a priority in quotes", {**whole, "Priority": "1"}
    yield "an unknown key", {**whole, "Colour": "red"}
    yield "a report without Enabled", {**whole, "Report": {"Format": "Report_CSV_20180820"}}
    yield "an empty token", {**whole, "ClientRequestToken": ""}


@check
def skeleton(folder: Path) -> None:
    """Every key that the CLI knows is known to `import`, if only to be refused by name."""
    drawn = create_job("--generate-cli-skeleton", "input")
    assert drawn.returncode == 0, drawn.stderr
    (folder / "skeleton.json").write_text(drawn.stdout, encoding="utf-8")
    imported = batchplan(folder, "import", "skeleton.json", "--name", "work")
    assert imported.returncode == 2, imported.stderr
    assert "unknown key" not in imported.stderr, imported.stderr
    for name in ["Tags", "LambdaInvoke", "S3PutObjectCopy"]:
        assert f"plans do not support `{name}`" in imported.stderr, imported.stderr


def main() -> int:
    """Parses the command line and does the work."""
    parser = argparse.ArgumentParser(description="Lets the AWS CLI judge exported requests.")
    parser.add_argument("--binary", type=Path, help=f"the batchplan to test; else ${BINARY_VARIABLE}, else a build")
    arguments = parser.parse_args()
    if arguments.binary:
        os.environ[BINARY_VARIABLE] = str(arguments.binary.resolve())
    try:
        binary()
    except StartError as error:
        print(f"aws_cli.py: {error}", file=sys.stderr)
        return 1
    failed = 0
    for one in CHECKS:
        name = one.__name__.replace("_", " ")
        try:
            with tempfile.TemporaryDirectory() as folder:
                one(Path(folder))
            print("ok", name, flush=True)
        except Exception:  # A check that breaks has failed; the others still say something.
            failed += 1
            print("FAILED", name, flush=True)
            print("    " + traceback.format_exc(limit=-4).replace("\n", "\n    "), flush=True)
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
