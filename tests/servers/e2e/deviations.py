"""Where a server does not do what S3 does: asserted, so that a server that mends its ways is noticed too."""

from __future__ import annotations

from dataclasses import dataclass

from .expect import Failure, HidesArchived, HitsCurrent, LosesDeleted, Outcome, Refused, Untrusted
from .operations import Operation


@dataclass(frozen=True)
class Deviation:
    """One row of the table: on this server, these operations have this outcome instead."""

    server: str
    operation: str
    outcome: Outcome
    reason: str
    #: Only where the manifest names versions. The operation "*" is any.
    versions_only: bool = False
    #: Only where the first object is a current version (as in a listing), or only where it is not.
    current_first: bool | None = None


TABLE = (
    Deviation(
        "radosgw",
        "restore_object",
        Untrusted(),
        "501: Ceph 16 has no RestoreObject, and reads archived objects without one",
    ),
    Deviation(
        "seaweedfs",
        "restore_object",
        Untrusted(),
        "405: it has no RestoreObject, and reads objects of archive classes without one",
    ),
    Deviation(
        "ministack",
        "restore_object",
        Untrusted(),
        "the version id of a restore is ignored, and no version shows one",
        versions_only=True,
    ),
    Deviation(
        "ministack",
        "*",
        LosesDeleted(),
        "a version id is looked up only after the key was found to have a current version",
        versions_only=True,
    ),
    Deviation(
        "moto",
        "restore_object",
        HitsCurrent(),
        "the version id of a restore is ignored; a second restore is a success that extends the first",
        versions_only=True,
        current_first=True,
    ),
    Deviation(
        "moto",
        "restore_object",
        Untrusted(),
        "the same: the version that was asked for shows no restore",
        versions_only=True,
        current_first=False,
    ),
    Deviation(
        "moto",
        "restore_object",
        HidesArchived(),
        "reading tags or ACL of an archived object is InvalidObjectState, as only reading its content is on S3",
    ),
    Deviation(
        "moto",
        "put_object_acl",
        HitsCurrent(),
        "the version id of an ACL is ignored",
        versions_only=True,
        current_first=True,
    ),
    Deviation(
        "moto",
        "put_object_acl",
        Untrusted(),
        "the same: the version that was asked for has the ACL that it had",
        versions_only=True,
        current_first=False,
    ),
)

#: The status of a PUT that succeeds, of an object that the server then lists under another key.
RENAMED = 200

#: Keys that a server cannot hold: what it answers to a PUT of them, and why.
REFUSED_KEYS: dict[str, dict[str, tuple[int, str]]] = {
    "moto": {"line\nbreak": (404, "its routes are regular expressions whose dot matches no line break")},
    "seaweedfs": {
        "//": (RENAMED, "keys are paths of files, whose empty segments are left out"),
        "../x": (400, "keys are paths of files, and none may have a segment `..`"),
        "=1;2|3*~\\": (RENAMED, "a backslash becomes a slash"),
    },
}

#: Canned ACLs that a server gives fewer grants than S3 does: they do not read back as they were sent.
LOST_GRANTS: dict[str, dict[str, tuple[tuple[str, str], str]]] = {
    "moto": {"public-read-write": (("AllUsers", "WRITE"), "canned ACLs are made of one grant for each group")},
}

#: Denied writes that a server lets pass.
UNGUARDED: dict[str, dict[str, str]] = {
    "moto": {"delete_object_tagging": "DELETE ?tagging is checked as s3:DeleteObject, which the user may do"},
}

#: Operations on a key that does not exist, where the answer is not NoSuchKey.
MISSING_KEYS: dict[tuple[str, str], tuple[Failure, str]] = {
    ("radosgw", "restore_object"): (Failure(501, "NotImplemented"), "Ceph 16 has no RestoreObject"),
    ("seaweedfs", "restore_object"): (Failure(405, "MethodNotAllowed"), "it has no RestoreObject"),
}

#: Operations whose answer for a missing key is a 500. batchplan rightly tries that again for a minute and a half before
#: it gives the object up, so the case only asserts, through boto3, that the server still answers so.
FAULTS_ON_MISSING: dict[tuple[str, str], str] = {
    ("moto", "delete_object_tagging"): "DELETE ?tagging does not look whether the key is there",
}

#: Restoring what is not archived, where the answer is not InvalidObjectState.
RESTORES_OF_STANDARD: dict[str, tuple[Failure, str]] = {
    "radosgw": (Failure(501, "NotImplemented"), "Ceph 16 has no RestoreObject"),
    "seaweedfs": (Failure(405, "MethodNotAllowed"), "it has no RestoreObject"),
    "ministack": (Failure(403, "ObjectAlreadyInActiveTierError"), "the code of another class of archive"),
}


def outcomes(
    server: str, operations: tuple[Operation, ...], with_version: bool, current_first: bool = False
) -> list[Outcome]:
    """The rows of the table that apply."""
    names = {"*", *(operation.name for operation in operations)}
    return [
        row.outcome
        for row in TABLE
        if row.server == server
        and row.operation in names
        and (with_version or not row.versions_only)
        and row.current_first in (None, current_first)
    ]


def depends_on_order(server: str, operations: tuple[Operation, ...]) -> bool:
    """Whether the outcome depends on which object is written first.

    It is the first of the manifest only if nothing is read before: captures of all objects in flight come before the first
    write.
    """
    names = {operation.name for operation in operations}
    return any(row.server == server and row.operation in names and row.current_first is not None for row in TABLE)


def refused_keys(server: str) -> frozenset[str]:
    """The odd keys that are not seeded there."""
    return frozenset(REFUSED_KEYS.get(server, {}))


def refusal(found: list[Outcome]) -> Failure | None:
    """What the server refuses everything with, if it does."""
    return next((outcome.failure for outcome in found if isinstance(outcome, Refused)), None)


def missing(server: str, operation: str) -> Failure | None:
    """The row of the table, if there is one."""
    row = MISSING_KEYS.get((server, operation))
    return row and row[0]


def restore_of_standard(server: str) -> Failure:
    """What restoring an object that is not archived gives there."""
    row = RESTORES_OF_STANDARD.get(server)
    return row[0] if row else Failure(403, "InvalidObjectState")
