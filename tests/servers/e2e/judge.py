"""Compares what a run left behind with what it had to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from . import report as published
from .expect import Expected
from .operations import RESTORE_DAYS
from .product import Ran, Report
from .seed import Seeded
from .state import ObjectId, Restored, State, read_all

CLOCK_SLACK = timedelta(minutes=5)
# S3 rounds the end of a restored copy up to the next midnight.
ROUNDING = timedelta(days=1)


@dataclass(frozen=True)
class Run:
    """One run on one seeded bucket."""

    s3: Any
    seeded: Seeded
    ran: Ran
    report: Report
    several: bool = False
    #: Below what the report is, where it is in the seeded bucket itself.
    ignored_prefix: str | None = None


def problems(run: Run, expected: Expected, look_at_objects: bool = True) -> list[str]:
    """Everything that is not as it had to be."""
    if expected.untrusted:
        return untrusted(run, expected)
    found = states(run, expected.states) if look_at_objects else []
    if run.ran.code != expected.exit_code():
        found.append(f"exit code {run.ran.code} instead of {expected.exit_code()}")
    try:
        summary = run.ran.summary()
    except AssertionError as error:
        return [*found, str(error)]
    counts = {
        "status": "Complete",
        "total": len(expected.rows),
        "succeeded": len(expected.rows) - expected.failed(),
        "failed": expected.failed(),
    }
    for name, count in counts.items():
        if summary[name] != count:
            found.append(f"--json: {name} is {summary[name]!r} instead of {count!r}")
    job = str(summary["job_id"])
    if job not in str(summary["report"]):
        found.append(f"--json: the report's place, {summary['report']!r}, does not name job {job}")
    found += published.problems(run.s3, run.report, job, run.seeded.bucket, expected, run.several)
    return found


def untrusted(run: Run, expected: Expected) -> list[str]:
    """What is wrong with a job that had to end at the check of its server: every content is what it was."""
    actual = read_all(run.s3, run.seeded.bucket, run.ignored_prefix)
    wanted = run.seeded.objects
    found = [f"gone: {object_id}" for object_id in sorted(wanted.keys() - actual.keys())]
    found += [f"new in the bucket: {object_id}" for object_id in sorted(actual.keys() - wanted.keys())]
    for object_id in sorted(wanted.keys() & actual.keys()):
        if actual[object_id].etag != wanted[object_id].etag:
            found.append(f"{object_id}: its content has changed")
    if run.ran.code != expected.exit_code():
        found.append(f"exit code {run.ran.code} instead of {expected.exit_code()}")
    summary = run.ran.summary()
    if (summary["status"], summary["succeeded"]) != ("Paused", 0):
        found.append(f"--json: {summary['status']}, {summary['succeeded']} succeeded")
    return found


def states(run: Run, wanted: dict[ObjectId, State]) -> list[str]:
    """How the bucket differs from what is wanted, down to the objects that nobody named."""
    actual = read_all(run.s3, run.seeded.bucket, run.ignored_prefix)
    found = [f"gone: {object_id}" for object_id in sorted(wanted.keys() - actual.keys())]
    found += [f"new in the bucket: {object_id}" for object_id in sorted(actual.keys() - wanted.keys())]
    for object_id in sorted(wanted.keys() & actual.keys()):
        found += [f"{object_id}: {difference}" for difference in _differences(actual[object_id], wanted[object_id])]
    return found


def _differences(actual: State, wanted: State) -> list[str]:
    found = []
    for name in ("etag", "storage_class", "tags", "grants"):
        if getattr(actual, name) != getattr(wanted, name):
            found.append(f"{name} {_shown(getattr(actual, name))} instead of {_shown(getattr(wanted, name))}")
    if not _restored_so(actual.restored, wanted.restored):
        found.append(f"{actual.restored} instead of {wanted.restored}")
    return found


def _shown(value: Any) -> str:
    return str(sorted(value)) if isinstance(value, frozenset) else repr(value)


def _restored_so(actual: Restored | None, wanted: Restored | None) -> bool:
    """Under way, or done for the days that the plan asks for."""
    if actual is None or wanted is None:
        return actual is wanted
    if actual.until is None:
        return True
    left = actual.until - datetime.now(UTC)
    days = timedelta(days=RESTORE_DAYS)
    return days - CLOCK_SLACK <= left <= days + ROUNDING + CLOCK_SLACK
