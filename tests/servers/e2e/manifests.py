"""The manifest sources of a plan: uploads what they need, and writes their TOML."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from .seed import Seeded
from .state import ObjectId

PREFIX = "in/"
MODIFIED = "2025-10-29T12:49:00.000Z"


@dataclass(frozen=True)
class Place:
    """Where a case may leave its files: a bucket, a prefix in it, and a local folder."""

    s3: Any
    bucket: str
    prefix: str
    folder: Path

    def put(self, name: str, body: bytes) -> tuple[str, str]:
        """Uploads a file; its key and its ETag."""
        key = f"{self.prefix}{name}"
        return key, self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)["ETag"].strip('"')


@dataclass(frozen=True)
class Manifest:
    """One way to say which objects."""

    name: str
    #: Makes the manifest and returns its TOML.
    make: Callable[[Seeded, Place], str]
    #: Below what the targets are: a prefix manifest needs one to leave something out, the others name keys.
    prefix: str = ""
    versioned: bool = False
    every_version: bool = False


def prefix(versions: str) -> Callable[[Seeded, Place], str]:
    """Everything below `in/`."""
    return lambda seeded, _place: (
        f'[manifest.prefix]\nbucket = "{seeded.bucket}"\nprefix = "{PREFIX}"\nversions = "{versions}"'
    )


def csv_rows(bucket: str, targets: Iterable[ObjectId], with_version: bool) -> bytes:
    """`Bucket,Key[,VersionId]`: no header, keys encoded once."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    for target in targets:
        row = [bucket, quote(target.key, safe="")]
        writer.writerow([*row, target.version] if with_version else row)
    return out.getvalue().encode()


def _fields(with_version: bool) -> str:
    return '["Bucket", "Key", "VersionId"]' if with_version else '["Bucket", "Key"]'


def csv_in_bucket(with_version: bool) -> Callable[[Seeded, Place], str]:
    """A CSV file in a bucket, pinned by its ETag."""

    def make(seeded: Seeded, place: Place) -> str:
        key, etag = place.put("manifest.csv", csv_rows(seeded.bucket, seeded.targets, with_version))
        return (
            f'[manifest.csv]\nbucket = "{place.bucket}"\nobject = "{key}"\netag = "{etag}"\n'
            f"fields = {_fields(with_version)}"
        )

    return make


def csv_on_disk(with_version: bool) -> Callable[[Seeded, Place], str]:
    """A CSV file beside the plan."""

    def make(seeded: Seeded, place: Place) -> str:
        (place.folder / "local.csv").write_bytes(csv_rows(seeded.bucket, seeded.targets, with_version))
        return f'[manifest.csv]\npath = "local.csv"\nfields = {_fields(with_version)}'

    return make


def aws_inventory(seeded: Seeded, with_version: bool) -> tuple[str, list[list[str]]]:
    """AWS's columns: Size before the date, lower-case booleans, a space as `+`, the null version empty."""
    schema = ["Bucket", "Key", "Size", "LastModifiedDate", "ETag", "StorageClass", "IsMultipartUploaded"]
    if with_version:
        schema[2:2] = ["VersionId", "IsLatest", "IsDeleteMarker"]
    rows = []
    for target in seeded.targets:
        state = seeded.objects[target]
        row = [seeded.bucket, quote_plus(target.key, safe="/"), "9", MODIFIED, state.etag, state.storage_class, "false"]
        if with_version:
            version = "" if target.version == "null" else target.version
            row[2:2] = [version, _lower(seeded.current.get(target.key) == target), "false"]
        rows.append(row)
    if with_version:
        for key, version in seeded.deleted.items():
            marker = [seeded.bucket, quote_plus(key, safe="/"), version, "true", "true", "", MODIFIED, "", "", ""]
            rows.append(marker)
    return ", ".join(schema), rows


def oss_inventory(seeded: Seeded, with_version: bool) -> tuple[str, list[list[str]]]:
    """OSS's columns: StorageClass right after Size, capitalised booleans, everything in a key encoded."""
    schema = ["Bucket", "Key", "Size", "StorageClass", "LastModifiedDate", "ETag", "IsMultipartUploaded"]
    if with_version:
        schema[2:2] = ["VersionId", "IsLatest", "IsDeleteMarker"]
    rows = []
    for target in seeded.targets:
        state = seeded.objects[target]
        etag = state.etag.upper()
        row = [seeded.bucket, quote(target.key, safe=""), "9", state.storage_class, MODIFIED, etag, "False"]
        if with_version:
            row[2:2] = [target.version, str(seeded.current.get(target.key) == target), "False"]
        rows.append(row)
    if with_version:
        for key, version in seeded.deleted.items():
            marker = [seeded.bucket, quote(key, safe=""), version, "True", "True", "", "", MODIFIED, "", ""]
            rows.append(marker)
    return ", ".join(schema), rows


def _lower(value: bool) -> str:
    return str(value).lower()


def upload_inventory(seeded: Seeded, place: Place, service: str, with_version: bool) -> tuple[str, str, str]:
    """Uploads an inventory in two data files; its folder, its manifest's key and that one's ETag."""
    is_aws = service == "aws"
    schema, rows = (aws_inventory if is_aws else oss_inventory)(seeded, with_version)
    root = f"inventories/{seeded.bucket}/daily/"
    half = len(rows) // 2
    files = []
    for number, part in enumerate((rows[:half], rows[half:])):
        out = io.StringIO(newline="")
        csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL if is_aws else csv.QUOTE_MINIMAL).writerows(part)
        data = gzip.compress(out.getvalue().encode())
        key, _ = place.put(f"{root}data/part-{number}.csv.gz", data)
        files.append({"key": key, "size": len(data), "MD5checksum": hashlib.md5(data).hexdigest()})
    manifest = {
        "sourceBucket": seeded.bucket,
        "destinationBucket": f"arn:aws:s3:::{place.bucket}" if is_aws else place.bucket,
        "version": "2016-11-30",
        "creationTimestamp": "1761742140000" if is_aws else 1761742140,
        "fileFormat": "CSV",
        "fileSchema": schema,
        "files": files,
    }
    body = json.dumps(manifest).encode()
    place.put(f"{root}2025-10-29T12-49Z/manifest.checksum", hashlib.md5(body).hexdigest().encode())
    key, etag = place.put(f"{root}2025-10-29T12-49Z/manifest.json", body)
    return f"{place.prefix}{root}", key, etag


def inventory(service: str, with_version: bool) -> Callable[[Seeded, Place], str]:
    """An inventory in one service's style, pinned by its manifest's ETag."""

    def make(seeded: Seeded, place: Place) -> str:
        _, key, etag = upload_inventory(seeded, place, service, with_version)
        return f'[manifest.inventory]\nbucket = "{place.bucket}"\nobject = "{key}"\netag = "{etag}"'

    return make


#: The columns of the matrix.
MANIFESTS = (
    Manifest("prefix", prefix("current"), prefix=PREFIX),
    Manifest("prefix-versions", prefix("all"), prefix=PREFIX, versioned=True, every_version=True),
    Manifest("csv", csv_in_bucket(False)),
    Manifest("csv-local", csv_on_disk(False)),
    Manifest("csv-versions", csv_in_bucket(True), versioned=True),
    Manifest("csv-local-versions", csv_on_disk(True), versioned=True),
    Manifest("inventory-aws", inventory("aws", False)),
    Manifest("inventory-oss", inventory("oss", False)),
    Manifest("inventory-aws-versions", inventory("aws", True), versioned=True),
    Manifest("inventory-oss-versions", inventory("oss", True), versioned=True),
)
