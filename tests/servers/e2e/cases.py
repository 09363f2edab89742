"""The matrix itself: every operation with every manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import deviations, judge
from .context import Context
from .expect import expected
from .manifests import MANIFESTS, Manifest
from .operations import OPERATIONS, Operation
from .seed import Seeded

Check = Callable[[Context], list[str]]


@dataclass(frozen=True)
class NamedCase:
    """A case by name; running it gives what is wrong."""

    name: str
    check: Check


def matrix() -> Iterator[NamedCase]:
    """Every operation x every manifest."""
    for operation in OPERATIONS:
        for manifest in MANIFESTS:
            yield NamedCase(f"{operation.name}/{manifest.name}", _cell(operation, manifest))


def storage_class(operations: tuple[Operation, ...]) -> str:
    """The class of the objects that the operations are tried on."""
    return "GLACIER" if any(operation.needs_archive for operation in operations) else "STANDARD"


def seed(context: Context, bucket: str, operations: tuple[Operation, ...], manifest: Manifest) -> Seeded:
    """A bucket that fits the manifest and the operations."""
    if manifest.versioned:
        return context.seeder.versioned(bucket, manifest.prefix, storage_class(operations), manifest.every_version)
    return context.seeder.plain(bucket, manifest.prefix, storage_class(operations))


def run_cell(
    context: Context, name: str, operations: tuple[Operation, ...], manifest: Manifest, form: str = "oss"
) -> list[str]:
    """Seeds, runs and judges one plan whose every object should succeed, but for the table of deviations."""
    case = context.case(name)
    seeded = seed(context, case.slug, operations, manifest)
    report = case.report(form)
    ran = case.apply(manifest.make(seeded, case.place()), operations, report)
    outcomes = deviations.outcomes(context.server.name, operations, manifest.versioned, manifest.every_version)
    wanted = expected(seeded, operations, manifest.versioned, outcomes)
    found = judge.problems(judge.Run(context.s3, seeded, ran, report, several=len(operations) > 1), wanted)
    return [*found, ran.explain()] if found else []


def _cell(operation: Operation, manifest: Manifest) -> Check:
    return lambda context: run_cell(context, f"{operation.name}/{manifest.name}", (operation,), manifest)
