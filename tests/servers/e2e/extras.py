"""What the matrix does not cover: failures, refusals, combinations, and the other forms of manifest and report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

from botocore.exceptions import ClientError

from launch.check import client
from launch.server import DENIED_ACTIONS, LOCKED_PREFIX, Keys

from . import deviations, judge
from .cases import NamedCase, run_cell, storage_class
from .context import Context
from .expect import JOB_FAILED, MISSING, PAUSED, Expected, Failure, HidesArchived, Untrusted, expected
from .manifests import (
    PREFIX,
    Manifest,
    Place,
    csv_in_bucket,
    csv_on_disk,
    csv_rows,
    inventory,
    prefix,
    upload_inventory,
)
from .operations import (
    MORE_TAGS,
    NEW_TAGS,
    OPERATIONS,
    Operation,
    add_tagging,
    delete_named_tags,
    put_acl,
    put_tagging,
    restore,
)
from .product import Report
from .seed import Seeded
from .state import ObjectId, listing

BY_PREFIX = Manifest("prefix", prefix("current"), prefix=PREFIX)
BY_CSV = Manifest("csv", csv_in_bucket(False))
BY_LOCAL_CSV = Manifest("csv-local", csv_on_disk(False))
BY_CSV_VERSIONS = Manifest("csv-versions", csv_in_bucket(True), versioned=True)
BY_INVENTORY = Manifest("inventory-aws", inventory("aws", False))

DENIED = Failure(403, "AccessDenied")


def extras(server: str, has_other: bool, has_tenant: bool) -> Iterator[NamedCase]:
    """All of them that the server has a part in."""
    yield NamedCase("keys that the server refuses", refused_keys)
    yield from combinations()
    yield from other_forms()
    for operation in OPERATIONS:
        yield NamedCase(f"one in ten missing/{operation.name}", partial(one_missing, operation=operation))
    yield NamedCase("one in ten missing/aws report", lambda c: one_missing(c, put_acl("public-read"), form="aws"))
    yield NamedCase(
        "one in ten missing/failed tasks only",
        lambda c: one_missing(c, put_tagging(NEW_TAGS), scope="failed-tasks-only"),
    )
    yield NamedCase("an eleventh tag", eleventh_tag)
    yield NamedCase("nothing is archived", nothing_archived)
    yield NamedCase("stale etag/csv", lambda c: stale_etag(c, BY_CSV))
    yield NamedCase("stale etag/inventory", lambda c: stale_etag(c, BY_INVENTORY))
    yield NamedCase("wrong secret", wrong_secret)
    if has_tenant:
        yield NamedCase("the bucket of a tenant", bucket_of_tenant)
    if has_other:
        for operation in OPERATIONS:
            yield NamedCase(f"access denied/{operation.name}", partial(access_denied, operation=operation))


def combinations() -> Iterator[NamedCase]:
    """Several operations in one plan."""
    two = (put_tagging(NEW_TAGS), put_acl("public-read"))
    three = (add_tagging(MORE_TAGS), delete_named_tags("Keep"), put_acl("public-read"))
    four = (*three, restore("Bulk"))
    yield NamedCase("combined/tags and acl", lambda c: run_cell(c, "combined tags acl", two, BY_PREFIX))
    yield NamedCase("combined/add, delete, acl", lambda c: run_cell(c, "combined add delete acl", three, BY_INVENTORY))
    yield NamedCase("combined/with restore", lambda c: combined_with_restore(c, four))


def other_forms() -> Iterator[NamedCase]:
    """Manifests and reports beyond the matrix."""
    whole = Manifest("whole bucket", whole_bucket)
    latest = Manifest("latest inventory", latest_inventory)
    ignored = Manifest("ignored column", csv_with_ignored_column)
    tags = (put_tagging(NEW_TAGS),)
    yield NamedCase("whole bucket", lambda c: run_whole_bucket(c, whole))
    yield NamedCase("latest inventory", lambda c: run_cell(c, "latest inventory", tags, latest))
    yield NamedCase("csv with an ignored column", lambda c: run_cell(c, "ignored column", tags, ignored))
    yield NamedCase("aws report/put_object_tagging", lambda c: run_cell(c, "aws report", tags, BY_CSV_VERSIONS, "aws"))
    yield NamedCase("restore_object/Bulk", lambda c: run_cell(c, "bulk", (restore("Bulk"),), BY_CSV))
    yield NamedCase("put_object_acl/public-read-write", public_read_write)


def refused_keys(context: Context) -> list[str]:
    """The table says which odd keys a server cannot hold; everything else is seeded, so the rest is proven there."""
    case = context.case("refused keys")
    context.seeder.bucket(case.slug)
    found = []
    for key, (status, reason) in deviations.REFUSED_KEYS.get(context.server.name, {}).items():
        try:
            context.s3.put_object(Bucket=case.slug, Key=key, Body=b"")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != status:
                found.append(f"{key!r}: {error}, not {status} ({reason})")
        else:
            is_listed = any(held.key == key for held in listing(context.s3, case.slug))
            if is_listed or status != deviations.RENAMED:
                found.append(f"{key!r} is no longer refused: take it out of the table")
    return found


def whole_bucket(seeded: Seeded, _place: Place) -> str:
    """No prefix at all."""
    return f'[manifest.prefix]\nbucket = "{seeded.bucket}"'


def run_whole_bucket(context: Context, manifest: Manifest) -> list[str]:
    """Odd keys at the root of the bucket, where a leading slash or dots are most likely to be cleaned away."""
    case = context.case(manifest.name)
    operations = (put_tagging(NEW_TAGS),)
    seeded = context.seeder.plain(case.slug, "", "STANDARD")
    seeded.targets = list(seeded.objects)
    ran = case.apply(manifest.make(seeded, case.place()), operations, report := case.report())
    return judge.problems(judge.Run(context.s3, seeded, ran, report), expected(seeded, operations, False))


def latest_inventory(seeded: Seeded, place: Place) -> str:
    """Three inventories: an older one, the newest complete one, and a newer one that is still being written."""
    folder, key, _ = upload_inventory(seeded, place, "oss", False)
    older = json.dumps({"files": [], "fileSchema": "Bucket, Key"}).encode()
    inside = folder.removeprefix(place.prefix)
    place.put(f"{inside}2025-10-28T12-49Z/manifest.json", older)
    place.put(f"{inside}2025-10-30T12-49Z/manifest.checksum", b"not yet")
    assert "2025-10-29" in key
    return f'[manifest.inventory]\nbucket = "{place.bucket}"\nlatest = "{folder}"'


def csv_with_ignored_column(seeded: Seeded, place: Place) -> str:
    """The columns in another order, with one that means nothing."""
    lines = csv_rows(seeded.bucket, seeded.targets, with_version=False).decode().splitlines()
    swapped = "".join(f'"x, y",{key},{bucket}\n' for bucket, key in (line.split(",") for line in lines))
    key, etag = place.put("manifest.csv", swapped.encode())
    place_of_file = f'bucket = "{place.bucket}"\nobject = "{key}"\netag = "{etag}"'
    return f'[manifest.csv]\n{place_of_file}\nfields = ["Ignore", "Key", "Bucket"]'


def public_read_write(context: Context) -> list[str]:
    """The one ACL with two grants to a group."""
    case = context.case("public-read-write")
    operations = (put_acl("public-read-write"),)
    seeded = context.seeder.plain(case.slug, "", "STANDARD")
    ran = case.apply(BY_LOCAL_CSV.make(seeded, case.place()), operations, report := case.report())
    lost = deviations.LOST_GRANTS.get(context.server.name, {}).get("public-read-write")
    wanted = expected(seeded, operations, False, [Untrusted()] if lost else [])
    return judge.problems(judge.Run(context.s3, seeded, ran, report), wanted)


def combined_with_restore(context: Context, operations: tuple[Operation, ...]) -> list[str]:
    """All four kinds at once on archived objects.

    Where the restore is refused, tags and ACL are set all the same or not at all, as the order of the requests has it;
    the object has failed either way. So there only the report is judged.
    """
    case = context.case("combined with restore")
    seeded = context.seeder.plain(case.slug, "", "GLACIER")
    ran = case.apply(BY_CSV.make(seeded, case.place()), operations, report := case.report())
    outcomes = deviations.outcomes(context.server.name, operations, False)
    failures = {}
    if any(isinstance(outcome, HidesArchived) for outcome in outcomes):
        # Tags are read before some are added, so there the object has failed before the restore.
        failures = {target: Failure(403, "InvalidObjectState") for target in seeded.targets}
    wanted = expected(seeded, operations, False, outcomes, failures)
    run = judge.Run(context.s3, seeded, ran, report, several=True)
    return judge.problems(run, wanted, look_at_objects=not wanted.failed())


def one_missing(context: Context, operation: Operation, form: str = "oss", scope: str = "all-tasks") -> list[str]:
    """Ten objects of which one does not exist: nine are done, one is a row, and the exit code says so."""
    if (context.server.name, operation.name) in deviations.FAULTS_ON_MISSING:
        return fault_on_missing(context)
    case = context.case(f"one missing {operation.name}")
    operations = (operation,)
    seeded = context.seeder.bucket(case.slug)
    seeded.targets = [
        context.seeder.put(seeded, f"object {number}", number, storage_class(operations)) for number in range(9)
    ]
    missing = ObjectId("was+never here")
    seeded.targets.insert(4, missing)
    ran = case.apply(BY_CSV.make(seeded, case.place()), operations, report := case.report(form, scope))
    outcomes = deviations.outcomes(context.server.name, operations, False)
    failure = deviations.missing(context.server.name, operation.name) or MISSING
    wanted = expected(seeded, operations, False, outcomes, {missing: failure})
    return judge.problems(judge.Run(context.s3, seeded, ran, report), wanted)


def fault_on_missing(context: Context) -> list[str]:
    """The server still answers 500 when the tags of a missing key are deleted."""
    try:
        context.s3.delete_object_tagging(Bucket=Context.SIDE_BUCKET, Key="never here")
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return [] if status == 500 else [f"{error}: no longer a 500, so take it out of the table"]
    return ["deleting the tags of a missing key succeeds: take it out of the table"]


def eleventh_tag(context: Context) -> list[str]:
    """Adding two tags to nine is refused before it is sent; to eight it is the most that there may be."""
    case = context.case("eleventh tag")
    operations = (add_tagging(MORE_TAGS),)
    seeded = context.seeder.bucket(case.slug)
    put = context.seeder.put
    nine = put(seeded, "nine", 0, tags={f"tag {number}": "" for number in range(9)})
    eight = put(seeded, "eight", 0, tags={f"tag {number}": "" for number in range(8)})
    seeded.targets = [nine, eight]
    ran = case.apply(BY_LOCAL_CSV.make(seeded, case.place()), operations, report := case.report())
    wanted = expected(seeded, operations, False, failures={nine: Failure(None, None)})
    return judge.problems(judge.Run(context.s3, seeded, ran, report), wanted)


def nothing_archived(context: Context) -> list[str]:
    """Restoring what is not archived: the server's refusal, object by object."""
    case = context.case("nothing archived")
    operations = (restore("Standard"),)
    seeded = context.seeder.plain(case.slug, PREFIX, "STANDARD")
    ran = case.apply(BY_PREFIX.make(seeded, case.place()), operations, report := case.report())
    refusal = deviations.restore_of_standard(context.server.name)
    outcomes = deviations.outcomes(context.server.name, operations, False)
    wanted = expected(seeded, operations, False, outcomes, {target: refusal for target in seeded.targets})
    return judge.problems(judge.Run(context.s3, seeded, ran, report), wanted)


def stale_etag(context: Context, manifest: Manifest) -> list[str]:
    """A manifest that changed after the plan was written: the job fails before it touches anything."""
    case = context.case(f"stale etag {manifest.name}")
    operations = (put_tagging(NEW_TAGS),)
    seeded = context.seeder.plain(case.slug, "", "STANDARD")
    toml = manifest.make(seeded, case.place())
    key = next(line.split('"')[1] for line in toml.splitlines() if line.startswith("object"))
    body = context.s3.get_object(Bucket=Context.SIDE_BUCKET, Key=key)["Body"].read()
    context.s3.put_object(Bucket=Context.SIDE_BUCKET, Key=key, Body=body + b"\n")
    ran = case.apply(toml, operations, report := case.report())
    found = judge.states(judge.Run(context.s3, seeded, ran, report), seeded.objects)
    if ran.code != JOB_FAILED:
        found.append(f"exit code {ran.code} instead of {JOB_FAILED}")
    return [*found, ran.explain()] if found else []


def wrong_secret(context: Context) -> list[str]:
    """Nobody's signature: nothing changes, and the exit code is not one of success."""
    case = context.case("wrong secret")
    operations = (put_tagging(NEW_TAGS),)
    seeded = context.seeder.plain(case.slug, "", "STANDARD")
    keys = Keys(context.server.keys.access, "not-the-secret")
    ran = case.apply(BY_LOCAL_CSV.make(seeded, case.place()), operations, report := case.report(), keys)
    found = judge.states(judge.Run(context.s3, seeded, ran, report), seeded.objects)
    if ran.code not in (1, 3, JOB_FAILED, PAUSED):
        found.append(f"exit code {ran.code}")
    return [*found, ran.explain()] if found else []


def bucket_of_tenant(context: Context) -> list[str]:
    """A bucket of another tenant, as its own user and as one of no tenant, whom a policy lets in."""
    case = context.case("bucket of a tenant")
    assert context.server.tenant
    tenant, keys = context.server.tenant
    # boto3 takes no name with a colon, so the witness is the tenant's own user, for whom the name alone will do.
    witness = client(context.server, keys)
    witness.create_bucket(Bucket=case.slug)
    principal = {"AWS": ["arn:aws:iam:::user/testing"]}
    arn = f"arn:aws:s3::{tenant}:{case.slug}"
    allow = {"Effect": "Allow", "Principal": principal, "Action": "s3:*", "Resource": [arn, f"{arn}/*"]}
    policy = {"Version": "2012-10-17", "Statement": [allow]}
    witness.put_bucket_policy(Bucket=case.slug, Policy=json.dumps(policy))
    names = ("a b", "a+b", "é")
    for name in names:
        witness.put_object(Bucket=case.slug, Key=name, Body=b"")
    found = []
    for user in (keys, context.server.keys):
        turn = context.case(f"bucket of a tenant {user.access}")
        operation = put_tagging({"by": user.access})
        manifest = f'[manifest.prefix]\nbucket = "{tenant}:{case.slug}"'
        ran = turn.apply(manifest, (operation,), Report(f"{tenant}:{case.slug}", "reports/"), user)
        for name in names:
            tags = witness.get_object_tagging(Bucket=case.slug, Key=name)["TagSet"]
            if tags != [{"Key": "by", "Value": user.access}]:
                found.append(f"{name!r}: {tags} after {user.access}; {ran.explain()}")
    return found


def access_denied(context: Context, operation: Operation) -> list[str]:
    """The second user may change some objects and not others: a row of 403 for each that it may not."""
    case = context.case(f"denied {operation.name}")
    operations = (operation,)
    other = context.server.other
    assert other is not None
    seeded = context.seeder.bucket(case.slug)
    for name in ("free a+b", f"{LOCKED_PREFIX}a+b", "free é", f"{LOCKED_PREFIX}é"):
        # All with tags: an object without any needs no write to be rid of some, and nothing would be denied.
        seeded.targets.append(context.seeder.put(seeded, name, 0, storage_class(operations)))
    _let_in(context, case.slug)
    # In the same bucket, because the second user has no rights in others.
    report = Report(case.slug, "reports/")
    ran = case.apply(BY_LOCAL_CSV.make(seeded, case.place()), operations, report, other)
    run = judge.Run(client(context.server, other), seeded, ran, report, ignored_prefix="reports/")
    return judge.problems(run, _denied(context, seeded, operations))


def _denied(context: Context, seeded: Seeded, operations: tuple[Operation, ...]) -> Expected:
    name = operations[0].name
    unguarded = name in deviations.UNGUARDED.get(context.server.name, {})
    locked = [] if unguarded else [target for target in seeded.targets if target.key.startswith(LOCKED_PREFIX)]
    outcomes = deviations.outcomes(context.server.name, operations, False)
    refused = deviations.refusal(outcomes)
    return expected(seeded, operations, False, outcomes, {target: refused or DENIED for target in locked})


def _let_in(context: Context, bucket: str) -> None:
    """Gives the second user its rights in a bucket, where they come from the bucket."""
    if not context.server.other_principal:
        return
    arn = f"arn:aws:s3:::{bucket}"
    principal = {"AWS": [context.server.other_principal]}
    allow = {"Effect": "Allow", "Principal": principal, "Action": "s3:*", "Resource": [arn, f"{arn}/*"]}
    deny = {
        "Effect": "Deny",
        "Principal": principal,
        "Action": list(DENIED_ACTIONS),
        "Resource": f"{arn}/{LOCKED_PREFIX}*",
    }
    policy = {"Version": "2012-10-17", "Statement": [allow, deny]}
    context.s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
