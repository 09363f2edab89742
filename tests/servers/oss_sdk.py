#!/usr/bin/env python3
"""Lets OSS's own SDK for Python, unchanged, talk to the sandbox.

    oss_sdk.py [--binary PATH]

One line for each check; the last line is `N passed, N failed`.
"""

from __future__ import annotations

import venv

venv.enter()

import argparse
import base64
import hashlib
import os
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss

from launch import running
from launch.check import client as boto3_client
from launch.process import StartError
from launch.sandbox import BINARY_VARIABLE
from launch.server import Keys, Server
from launch.signals import stop_on_signals

REGION = "cn-hangzhou"
BUCKET = "oss-sdk"
VERSIONED = "oss-sdk-versioned"
DEADLINE_SECONDS = 30.0

#: Keys that break careless clients and servers: those of tests/conformance/checks.rs.
ODD_KEYS = [
    "a+b", "a%2Fb", "a b", "a%20b", "?x#y", "//", "/lead", "../x", "./x", "a/../b", "é", "日本", "\n", "\t",
    'quote"comma,', "'", "&<>", "*!()~", ":@$=;", "trailing/", "%", "%zz", "\x7f",
]  # fmt: skip

CHECKS: list[Callable[[World], None]] = []


@dataclass(frozen=True)
class World:
    """A server, and a client that may do everything."""

    server: Server
    client: oss.Client

    def put(self, key: str, **arguments: Any) -> oss.PutObjectResult:
        """Puts an object into the bucket without versions."""
        return self.client.put_object(oss.PutObjectRequest(bucket=BUCKET, key=key, **arguments))

    def head(self, key: str) -> oss.HeadObjectResult:
        """What is known of one."""
        return self.client.head_object(oss.HeadObjectRequest(bucket=BUCKET, key=key))


def client(server: Server, keys: Keys, by_host: bool = False) -> oss.Client:
    """The SDK's client as anybody would configure it, without retries that could hide an error.

    By host it believes to talk to OSS through a proxy, which is the server: names below localhost are not known everywhere.
    """
    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider(keys.access, keys.secret)
    config.region = REGION
    config.endpoint = f"http://oss-{REGION}.aliyuncs.com" if by_host else server.endpoint
    config.proxy_host = {"http": server.endpoint} if by_host else None
    config.retry_max_attempts = 1
    return oss.Client(config)


def check(function: Callable[[World], None]) -> Callable[[World], None]:
    """Makes it one of the checks."""
    CHECKS.append(function)
    return function


def refused(code: str, status: int, call: Callable[[], object]) -> oss.exceptions.ServiceError:
    """The error that the call must end with."""
    try:
        call()
    except oss.exceptions.OperationError as error:
        fault = error.unwrap()
        assert isinstance(fault, oss.exceptions.ServiceError), repr(fault)
        assert (fault.code, fault.status_code) == (code, status), f"{fault.status_code} {fault.code}: {fault.message}"
        assert fault.ec and fault.request_id, f"{fault.ec!r} {fault.request_id!r}"
        return fault
    raise AssertionError(f"not refused with {code}")


def same(found: object, wanted: object) -> None:
    """Fails with both when they differ."""
    assert found == wanted, f"{found!r}, not {wanted!r}"


@check
def buckets(world: World) -> None:
    """Made, described, listed, and removed only when empty."""
    world.client.put_bucket(oss.PutBucketRequest(bucket="oss-sdk-other", acl="public-read"))
    info = world.client.get_bucket_info(oss.GetBucketInfoRequest(bucket="oss-sdk-other")).bucket_info
    same((info.name, info.acl, info.location), ("oss-sdk-other", "public-read", f"oss-{REGION}"))
    location = world.client.get_bucket_location(oss.GetBucketLocationRequest(bucket="oss-sdk-other"))
    same(location.location, f"oss-{REGION}")
    pages = world.client.list_buckets_paginator().iter_page(oss.ListBucketsRequest(max_keys=1, prefix="oss-sdk"))
    same([bucket.name for page in pages for bucket in page.buckets], [BUCKET, "oss-sdk-other", VERSIONED])
    world.client.put_bucket_acl(oss.PutBucketAclRequest(bucket="oss-sdk-other", acl="private"))
    same(world.client.get_bucket_acl(oss.GetBucketAclRequest(bucket="oss-sdk-other")).acl, "private")
    world.client.put_object(oss.PutObjectRequest(bucket="oss-sdk-other", key="k", body=b""))
    remove = oss.DeleteBucketRequest(bucket="oss-sdk-other")
    refused("BucketNotEmpty", 409, lambda: world.client.delete_bucket(remove))
    world.client.delete_object(oss.DeleteObjectRequest(bucket="oss-sdk-other", key="k"))
    same(world.client.delete_bucket(remove).status_code, 204)
    refused("NoSuchBucket", 404, lambda: world.client.list_objects_v2(oss.ListObjectsV2Request(bucket="oss-sdk-other")))


@check
def signatures(world: World) -> None:
    """A wrong secret, an unknown key and a missing signature are told apart."""
    listed = oss.ListBucketsRequest()
    wrong = client(world.server, Keys(world.server.keys.access, "not-the-secret"))
    refused("SignatureDoesNotMatch", 403, lambda: wrong.list_buckets(listed))
    unknown = client(world.server, Keys("nobody", "not-the-secret"))
    refused("InvalidAccessKeyId", 403, lambda: unknown.list_buckets(listed))


@check
def presigned_urls(world: World) -> None:
    """A signature in the query opens one object, and only that one."""
    world.put("presigned a+b", body=b"content")
    url = world.client.presign(oss.GetObjectRequest(bucket=BUCKET, key="presigned a+b")).url
    with urllib.request.urlopen(url) as answer:
        same(answer.read(), b"content")
    try:
        urllib.request.urlopen(url.replace("presigned", "other"))
    except urllib.error.HTTPError as error:
        same(error.code, 403)
        return
    raise AssertionError("a signature opened another object")


@check
def virtual_hosts(world: World) -> None:
    """The bucket in the host's name, as OSS itself asks for."""
    by_host = client(world.server, world.server.keys, by_host=True)
    assert BUCKET in [bucket.name for bucket in by_host.list_buckets(oss.ListBucketsRequest()).buckets]
    world.put("by path/a+b é", body=b"1")
    get = oss.GetObjectRequest(bucket=BUCKET, key="by path/a+b é")
    same(by_host.get_object(get).body.content, b"1")
    by_host.put_object(oss.PutObjectRequest(bucket=BUCKET, key="by host//", body=b"2"))
    same(world.client.get_object(oss.GetObjectRequest(bucket=BUCKET, key="by host//")).body.content, b"2")


@check
def content(world: World) -> None:
    """Bytes, ranges, headers, metadata and conditions."""
    body = bytes(range(256)) * 1000
    put = world.put(
        "content", body=body, content_type="text/x-test", metadata={"Purpose": "a test"}, cache_control="no-cache",
        content_md5=base64.b64encode(hashlib.md5(body).digest()).decode(),
    )  # fmt: skip
    same(put.etag, f'"{hashlib.md5(body).hexdigest().upper()}"')
    assert put.hash_crc64, "no CRC-64"
    got = world.client.get_object(oss.GetObjectRequest(bucket=BUCKET, key="content"))
    same(got.body.content, body)
    same((got.content_type, got.cache_control, got.metadata["purpose"]), ("text/x-test", "no-cache", "a test"))
    get = oss.GetObjectRequest(bucket=BUCKET, key="content", range_header="bytes=10-19")
    part = world.client.get_object(get)
    same((part.body.content, part.status_code, part.content_range), (body[10:20], 206, "bytes 10-19/256000"))
    get = oss.GetObjectRequest(bucket=BUCKET, key="content", if_match='"other"')
    refused("PreconditionFailed", 412, lambda: world.client.get_object(get))
    get = oss.GetObjectRequest(bucket=BUCKET, key="content", if_match=put.etag.lower())
    same(world.client.get_object(get).status_code, 200)
    head = world.head("content")
    same((head.content_length, head.storage_class, head.object_type), (256000, "Standard", "Normal"))
    refused("InvalidDigest", 400, lambda: world.put("bad", body=b"x", content_md5="1B2M2Y8AsgTpgAmY7PhCfg=="))
    refused("FileAlreadyExists", 409, lambda: world.put("content", body=b"", forbid_overwrite=True))
    refused("NoSuchKey", 404, lambda: world.head("none"))
    delete = oss.DeleteObjectRequest(bucket=BUCKET, key="content")
    same(world.client.delete_object(delete).status_code, 204)
    get = oss.GetObjectRequest(bucket=BUCKET, key="content")
    refused("NoSuchKey", 404, lambda: world.client.get_object(get))


@check
def tags(world: World) -> None:
    """Put with the object and afterwards, read, deleted; and what OSS refuses."""
    world.put("tags", body=b"", tagging="k1=v1&k2=v%202")
    same(read_tags(world, "tags"), {"k1": "v1", "k2": "v 2"})
    same(world.head("tags").tagging_count, 2)
    write_tags(world, "tags", {"a+b": "1 = 2:/_.-", "empty": ""})
    same(read_tags(world, "tags"), {"a+b": "1 = 2:/_.-", "empty": ""})
    same(world.client.delete_object_tagging(oss.DeleteObjectTaggingRequest(bucket=BUCKET, key="tags")).status_code, 204)
    same(read_tags(world, "tags"), {})
    refused("InvalidTag", 400, lambda: write_tags(world, "tags", {str(number): "" for number in range(11)}))
    refused("InvalidTag", 400, lambda: write_tags(world, "tags", {"a@b": ""}))
    refused("NoSuchKey", 404, lambda: write_tags(world, "none", {"a": "b"}))


def write_tags(world: World, key: str, tags: dict[str, str], bucket: str = BUCKET, version: str | None = None) -> None:
    """Replaces an object's tags."""
    tag_set = oss.TagSet(tags=[oss.Tag(key=name, value=value) for name, value in tags.items()])
    tagging = oss.Tagging(tag_set=tag_set)
    request = oss.PutObjectTaggingRequest(bucket=bucket, key=key, version_id=version, tagging=tagging)
    world.client.put_object_tagging(request)


def read_tags(world: World, key: str, bucket: str = BUCKET, version: str | None = None) -> dict[str, str]:
    """An object's tags."""
    request = oss.GetObjectTaggingRequest(bucket=bucket, key=key, version_id=version)
    found = world.client.get_object_tagging(request).tag_set.tags or []
    return {tag.key: tag.value or "" for tag in found}


@check
def acls(world: World) -> None:
    """Every ACL that OSS has, `default` first."""
    world.put("acl", body=b"")
    read = oss.GetObjectAclRequest(bucket=BUCKET, key="acl")
    same(world.client.get_object_acl(read).acl, "default")
    for acl in ["private", "public-read", "public-read-write", "default"]:
        world.client.put_object_acl(oss.PutObjectAclRequest(bucket=BUCKET, key="acl", acl=acl))
        same(world.client.get_object_acl(read).acl, acl)
    write = oss.PutObjectAclRequest(bucket=BUCKET, key="acl", acl="authenticated-read")
    refused("InvalidArgument", 400, lambda: world.client.put_object_acl(write))
    world.put("acl", body=b"", acl="public-read")
    same(world.client.get_object_acl(read).acl, "public-read")


@check
def restores(world: World) -> None:
    """Each class by its own rules, until the content can be read."""
    for name in ["Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive"]:
        world.put(name, body=b"archived", storage_class=name)
        same(world.head(name).storage_class, name)
    for name in ["Standard", "IA"]:
        refused("OperationNotSupported", 400, lambda name=name: restore(world, name, 1))
    for name in ["Archive", "ColdArchive", "DeepColdArchive"]:
        get = oss.GetObjectRequest(bucket=BUCKET, key=name)
        refused("InvalidObjectState", 403, lambda get=get: world.client.get_object(get))
    refused("InvalidArgument", 400, lambda: restore(world, "Archive", 8))
    refused("MalformedXML", 400, lambda: restore(world, "Archive", 1, "Standard"))
    refused("InvalidArgument", 400, lambda: restore(world, "ColdArchive", 366))
    refused("MalformedXML", 400, lambda: restore(world, "ColdArchive", 1, "Sofort"))
    refused("MalformedXML", 400, lambda: restore(world, "DeepColdArchive", 1, "Bulk"))
    same(restore(world, "DeepColdArchive", 1, "Standard").status_code, 202)
    same(world.head("DeepColdArchive").restore, 'ongoing-request="true"')
    refused("RestoreAlreadyInProgress", 409, lambda: restore(world, "DeepColdArchive", 1, "Standard"))
    faster = restore(world, "DeepColdArchive", 2, "Expedited")
    same((faster.status_code, faster.restore_priority), (202, "Expedited"))
    same(restore(world, "Archive", 7).status_code, 202)
    same(restore(world, "ColdArchive", 365, "Expedited").status_code, 202)
    for name, days in [("Archive", 2), ("ColdArchive", 3)]:
        wait_until_restored(world, name)
        same(world.client.get_object(oss.GetObjectRequest(bucket=BUCKET, key=name)).body.content, b"archived")
        same(restore(world, name, days).status_code, 200)


def restore(world: World, key: str, days: int, tier: str | None = None) -> oss.RestoreObjectResult:
    """Asks for a restore."""
    parameters = oss.JobParameters(tier=tier) if tier else None
    asked = oss.RestoreRequest(days=days, job_parameters=parameters)
    return world.client.restore_object(oss.RestoreObjectRequest(bucket=BUCKET, key=key, restore_request=asked))


def wait_until_restored(world: World, key: str) -> None:
    """Returns when the copy is there; fails when it does not come."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while "expiry-date" not in (world.head(key).restore or ""):
        assert time.monotonic() < deadline, f"{key} is not restored after {DEADLINE_SECONDS:.0f} s"
        time.sleep(0.1)


@check
def uploads_in_parts(world: World) -> None:
    """Begun, completed, given up, and completed with a part that is too small."""
    begin = oss.InitiateMultipartUploadRequest(bucket=BUCKET, key="parts", storage_class="IA", tagging="a=1")
    upload = world.client.initiate_multipart_upload(begin).upload_id

    def part(number: int, body: bytes) -> oss.UploadPart:
        request = oss.UploadPartRequest(bucket=BUCKET, key="parts", upload_id=upload, part_number=number, body=body)
        return oss.UploadPart(part_number=number, etag=world.client.upload_part(request).etag)

    def complete(parts: list[oss.UploadPart]) -> oss.CompleteMultipartUploadResult:
        whole = oss.CompleteMultipartUpload(parts=parts)
        request = oss.CompleteMultipartUploadRequest(
            bucket=BUCKET, key="parts", upload_id=upload, complete_multipart_upload=whole
        )
        return world.client.complete_multipart_upload(request)

    first, last = part(1, b"1" * (100 << 10)), part(2, b"2")
    refused("InvalidPartOrder", 400, lambda: complete([last, first]))
    small = part(3, b"3")
    refused("EntityTooSmall", 400, lambda: complete([first, last, small]))
    done = complete([first, last])
    assert done.etag.endswith('-2"'), done.etag
    head = world.head("parts")
    same((head.content_length, head.storage_class, head.object_type), ((100 << 10) + 1, "IA", "Multipart"))
    same(read_tags(world, "parts"), {"a": "1"})
    begin = oss.InitiateMultipartUploadRequest(bucket=BUCKET, key="given up")
    upload = world.client.initiate_multipart_upload(begin).upload_id
    abort = oss.AbortMultipartUploadRequest(bucket=BUCKET, key="given up", upload_id=upload)
    same(world.client.abort_multipart_upload(abort).status_code, 204)
    refused("NoSuchUpload", 404, lambda: world.client.abort_multipart_upload(abort))


def has_dot_segment(key: str) -> bool:
    """Whether the SDK cannot name it: the HTTP library below it resolves `.` and `..` after the request is signed."""
    return any(segment in (".", "..") for segment in key.split("/"))


@check
def odd_keys(world: World) -> None:
    """Put, listed by each listing, tagged and read back, byte for byte."""
    prefixed = [f"odd-{key}" for key in ODD_KEYS]
    others = boto3_client(world.server)
    for key in [*prefixed, *ODD_KEYS]:
        if has_dot_segment(key):
            others.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
        else:
            world.put(key, body=key.encode())
    for listing, request in [
        (world.client.list_objects_v2_paginator(), oss.ListObjectsV2Request(bucket=BUCKET, max_keys=3, prefix="odd-")),
        (world.client.list_objects_paginator(), oss.ListObjectsRequest(bucket=BUCKET, max_keys=3, prefix="odd-")),
    ]:
        keys = [found.key for page in listing.iter_page(request) for found in page.contents or []]
        same(keys, sorted(prefixed, key=str.encode))
    for key in ODD_KEYS:
        if has_dot_segment(key):
            continue
        same(world.client.get_object(oss.GetObjectRequest(bucket=BUCKET, key=key)).body.content, key.encode())
        write_tags(world, key, {"key": "odd"})
        same(read_tags(world, key), {"key": "odd"})
    objects = [oss.DeleteObject(key=key) for key in ODD_KEYS]
    request = oss.DeleteMultipleObjectsRequest(bucket=BUCKET, objects=objects, encoding_type="url")
    deleted = world.client.delete_multiple_objects(request).deleted_objects
    same([found.key for found in deleted], ODD_KEYS)


@check
def listings(world: World) -> None:
    """Prefixes, delimiters, and where to begin."""
    for key in ["list/a/1", "list/a/2", "list/b", "list/c/1"]:
        world.put(key, body=b"")
    request = oss.ListObjectsV2Request(bucket=BUCKET, prefix="list/", delimiter="/", max_keys=2)
    pages = list(world.client.list_objects_v2_paginator().iter_page(request))
    same([found.prefix for page in pages for found in page.common_prefixes or []], ["list/a/", "list/c/"])
    same([found.key for page in pages for found in page.contents or []], ["list/b"])
    after = oss.ListObjectsV2Request(bucket=BUCKET, prefix="list/", start_after="list/a/2")
    page = world.client.list_objects_v2(after)
    same([found.key for found in page.contents], ["list/b", "list/c/1"])
    same((page.contents[0].storage_class, page.contents[0].size), ("Standard", 0))


@check
def versions(world: World) -> None:
    """Versions and delete markers, each found by its id, and what a marker refuses."""
    on = oss.VersioningConfiguration(status="Enabled")
    request = oss.PutBucketVersioningRequest(bucket=VERSIONED, versioning_configuration=on)
    world.client.put_bucket_versioning(request)
    same(world.client.get_bucket_versioning(oss.GetBucketVersioningRequest(bucket=VERSIONED)).version_status, "Enabled")
    ids = []
    for body in [b"one", b"two"]:
        put = world.client.put_object(oss.PutObjectRequest(bucket=VERSIONED, key="k", body=body))
        ids.append(put.version_id)
    get = oss.GetObjectRequest(bucket=VERSIONED, key="k", version_id=ids[0])
    same(world.client.get_object(get).body.content, b"one")
    write_tags(world, "k", {"v": "1"}, VERSIONED, ids[0])
    same(read_tags(world, "k", VERSIONED, ids[0]), {"v": "1"})
    same(read_tags(world, "k", VERSIONED), {})
    deleted = world.client.delete_object(oss.DeleteObjectRequest(bucket=VERSIONED, key="k"))
    same(deleted.delete_marker, True)
    refused("NoSuchKey", 404, lambda: world.client.head_object(oss.HeadObjectRequest(bucket=VERSIONED, key="k")))
    refused("NoSuchKey", 404, lambda: write_tags(world, "k", {"v": "1"}, VERSIONED, deleted.version_id))
    marker = oss.GetObjectRequest(bucket=VERSIONED, key="k", version_id=deleted.version_id)
    refused("MethodNotAllowed", 405, lambda: world.client.get_object(marker))
    gone = oss.GetObjectRequest(bucket=VERSIONED, key="k", version_id="gone")
    refused("NoSuchVersion", 404, lambda: world.client.get_object(gone))
    request = oss.ListObjectVersionsRequest(bucket=VERSIONED, max_keys=1)
    pages = list(world.client.list_object_versions_paginator().iter_page(request))
    same([found.version_id for page in pages for found in page.version or []], ids[::-1])
    same([found.version_id for page in pages for found in page.delete_marker or []], [deleted.version_id])
    same([found.is_latest for page in pages for found in page.version or []], [False, False])
    remove = oss.DeleteObjectRequest(bucket=VERSIONED, key="k", version_id=deleted.version_id)
    same(world.client.delete_object(remove).delete_marker, True)
    same(world.client.get_object(oss.GetObjectRequest(bucket=VERSIONED, key="k")).body.content, b"two")


def main() -> int:
    """Parses the command line and does the work."""
    parser = argparse.ArgumentParser(description="Lets OSS's SDK for Python talk to the sandbox.")
    parser.add_argument("--binary", type=Path, help=f"the batchplan to test; else ${BINARY_VARIABLE}, else a build")
    arguments = parser.parse_args()
    if arguments.binary:
        os.environ[BINARY_VARIABLE] = str(arguments.binary.resolve())
    stop_on_signals()
    try:
        with running(["sandbox"], venv.RUNS / "oss-sdk") as (server,):
            return run(World(server, client(server, server.keys)))
    except StartError as error:
        print(f"oss_sdk.py: {error}", file=sys.stderr)
        return 1


def run(world: World) -> int:
    """Runs every check and counts."""
    failed = 0
    for bucket in [BUCKET, VERSIONED]:
        world.client.put_bucket(oss.PutBucketRequest(bucket=bucket))
    for one in CHECKS:
        name = one.__name__.replace("_", " ")
        try:
            one(world)
            print("ok", name, flush=True)
        except Exception:  # A check that breaks has failed; the others still say something.
            failed += 1
            print("FAILED", name, flush=True)
            print("    " + traceback.format_exc(limit=-4).replace("\n", "\n    "), flush=True)
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
