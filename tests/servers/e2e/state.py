"""What an object is like, as boto3 sees it: the only witness the judge listens to."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import ClientError

ARCHIVE_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
READERS = 4

#: What servers answer to a question about an object that they hide. An answer to HEAD has no code but its status.
HIDDEN = frozenset({"InvalidObjectState", "NoSuchKey", "404"})

Grants = frozenset[tuple[str, str]]
PRIVATE: Grants = frozenset({("owner", "FULL_CONTROL")})
PUBLIC_READ: Grants = PRIVATE | {("AllUsers", "READ")}
PUBLIC_READ_WRITE: Grants = PUBLIC_READ | {("AllUsers", "WRITE")}


@dataclass(frozen=True, order=True)
class ObjectId:
    """One version of one object. In a bucket that never had versions the version is `null`, as the server lists it."""

    key: str
    version: str = "null"

    def __str__(self) -> str:
        shown = self.key if len(self.key) <= 40 else f"{self.key[:20]}…({len(self.key)})"
        return repr(shown) if self.version == "null" else f"{shown!r}@{self.version[:8]}"


@dataclass(frozen=True)
class Restored:
    """A restore that was asked for: under way, or done until then."""

    until: datetime | None = None


@dataclass(frozen=True)
class State:
    """Everything that an operation could change, and what none may."""

    etag: str
    storage_class: str
    tags: tuple[tuple[str, str], ...] | None
    grants: Grants | None
    restored: Restored | None = None


@dataclass(frozen=True)
class Listed:
    """What a listing says of a version."""

    etag: str
    storage_class: str
    is_latest: bool


def listing(s3: Any, bucket: str) -> dict[ObjectId, Listed]:
    """Every version; delete markers are left out."""
    found = {}
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for item in page.get("Versions", []):
            found[ObjectId(item["Key"], item["VersionId"])] = Listed(
                item["ETag"].strip('"'), item["StorageClass"], item["IsLatest"]
            )
    return found


def read_all(s3: Any, bucket: str, ignored_prefix: str | None = None) -> dict[ObjectId, State]:
    """The state of every version in the bucket."""
    listed = {
        object_id: item
        for object_id, item in listing(s3, bucket).items()
        if not (ignored_prefix and object_id.key.startswith(ignored_prefix))
    }
    # moto refuses the version id `null` in a bucket that never had versions, though it lists it.
    has_versions = "Status" in s3.get_bucket_versioning(Bucket=bucket)
    with ThreadPoolExecutor(READERS) as pool:
        states = pool.map(lambda item: _read(s3, bucket, item[0], item[1], has_versions), listed.items())
        return dict(zip(listed, states, strict=True))


def _read(s3: Any, bucket: str, object_id: ObjectId, listed: Listed, has_versions: bool) -> State:
    by_key = {"Bucket": bucket, "Key": object_id.key}
    target = by_key | {"VersionId": object_id.version} if has_versions else by_key
    etag, restored = listed.etag, None
    # radosgw 16 lists no ETag any more once an object's tags were deleted; the object itself still has it.
    if listed.storage_class in ARCHIVE_CLASSES or not etag:
        # MiniStack shows a restore only to whoever asks without a version id.
        head = _unless_refused(s3.head_object, by_key if listed.is_latest else target) or {}
        etag = etag or head.get("ETag", "").strip('"')
        restored = parse_restore(head.get("Restore"))
    return State(etag, listed.storage_class, _tags(s3, target), _grants(s3, target), restored)


def _tags(s3: Any, target: dict[str, str]) -> tuple[tuple[str, str], ...] | None:
    answer = _unless_refused(s3.get_object_tagging, target)
    return answer and tuple(sorted((tag["Key"], tag["Value"]) for tag in answer["TagSet"]))


def _grants(s3: Any, target: dict[str, str]) -> Grants | None:
    answer = _unless_refused(s3.get_object_acl, target)
    return answer and frozenset(_grant(grant) for grant in answer["Grants"])


def _unless_refused(call: Any, target: dict[str, str]) -> Any:
    """None where the server hides an object that it lists; the judge decides whether that is in the table."""
    try:
        return call(**target)
    except ClientError as error:
        if error.response["Error"]["Code"] in HIDDEN:
            return None
        raise


def _grant(grant: dict[str, Any]) -> tuple[str, str]:
    group = grant["Grantee"].get("URI")
    return (group.rsplit("/", 1)[-1] if group else "owner", grant["Permission"])


def parse_restore(header: str | None) -> Restored | None:
    """Reads an `x-amz-restore` header."""
    if not header:
        return None
    if 'ongoing-request="true"' in header:
        return Restored()
    expiry = re.search(r'expiry-date="([^"]+)"', header)
    if not expiry:
        raise ValueError(f"not a restore header: {header!r}")
    return Restored(parsedate_to_datetime(expiry[1]).astimezone(UTC))
