"""Buckets full of keys that break careless clients, in a state that every operation changes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from .state import PRIVATE, ObjectId, State, listing

MAX_KEY_BYTES = 1024

#: Keys that are changed by one decoding too many or too few, by path clean-up, or by CSV and XML writers.
ODD_KEYS = (
    "plain.txt",
    "a+b",
    "a%2Fb",
    "a b",
    "?x#y",
    "//",
    "../x",
    "é",
    "line\nbreak",
    'a "quoted, word"',
    "<a&'b>",
    "=1;2|3*~\\",
)

#: What the seeded tags are, by turns, so that adding and deleting meet objects with and without tags.
SEEDED_TAGS: tuple[dict[str, str], ...] = (
    {"Environment": "old", "Keep": "this"},
    {},
    {"Keep": "that"},
)


def long_key(prefix: str) -> str:
    """A key of 1024 bytes, the most that there may be, most of them in two-byte characters.

    No segment is longer than 255 bytes: some servers keep each as the name of a file.
    """
    rest = MAX_KEY_BYTES - len(prefix.encode())
    segments = ("/" + "ü" * 100) * (rest // 201)
    rest -= len(segments.encode())
    return prefix + "x" * (rest % 2) + "ü" * (rest // 2) + segments


def odd_keys(prefix: str, refused: frozenset[str]) -> list[str]:
    """A dozen odd keys below a prefix, without those that the server cannot hold."""
    return [prefix + key for key in ODD_KEYS if key not in refused] + [long_key(prefix)]


@dataclass
class Seeded:
    """A bucket and everything in it as it was put there."""

    bucket: str
    objects: dict[ObjectId, State] = field(default_factory=dict)
    #: Those that the manifest is to name, in its order.
    targets: list[ObjectId] = field(default_factory=list)
    #: The keys whose newest version is a delete marker, with the marker's version.
    deleted: dict[str, str] = field(default_factory=dict)
    #: The current version of each key that has one.
    current: dict[str, ObjectId] = field(default_factory=dict)


class Seeder:
    """Fills buckets through boto3."""

    def __init__(self, s3: Any, refused_keys: frozenset[str]) -> None:
        self.s3 = s3
        self.refused_keys = refused_keys

    def bucket(self, name: str) -> Seeded:
        """An empty bucket in which ACLs work, as in buckets from before 2023: new ones refuse them."""
        self.s3.create_bucket(Bucket=name, ObjectOwnership="ObjectWriter")
        # Where there is no such thing there is nothing to block a public ACL.
        with suppress(ClientError):
            self.s3.delete_public_access_block(Bucket=name)
        return Seeded(name)

    def plain(self, name: str, prefix: str, storage_class: str) -> Seeded:
        """A bucket without versions: the odd keys below the prefix are the targets, four others stand beside them."""
        seeded = self.bucket(name)
        for number, key in enumerate(odd_keys(prefix, self.refused_keys)):
            seeded.targets.append(self.put(seeded, key, number, storage_class))
        for number, key in enumerate(("beside/plain.txt", "beside/a+b", "beside/a b", prefix.rstrip("/") + "-not.txt")):
            self.put(seeded, key, number, storage_class)
        return self.check(seeded)

    def versioned(self, name: str, prefix: str, storage_class: str, every_version: bool) -> Seeded:
        """A bucket whose keys have two versions, one key a `null` one, and one a delete marker on top.

        Targets are every version, or of each key one by turns: the old one, then the current one.
        """
        seeded = self.bucket(name)
        null = self.put(seeded, prefix + "from before", 0, storage_class)
        self.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        keys = odd_keys(prefix, self.refused_keys)
        for number, key in enumerate(keys):
            both = [self.put(seeded, key, number + version, storage_class) for version in (0, 1)]
            seeded.targets.append(both[number % 2])
        self.put(seeded, null.key, 1, storage_class)
        seeded.targets.append(null)
        gone = self.put(seeded, prefix + "deleted.txt", 0, storage_class)
        seeded.deleted[gone.key] = self.s3.delete_object(Bucket=name, Key=gone.key)["VersionId"]
        del seeded.current[gone.key]
        seeded.targets.append(gone)
        if every_version:
            seeded.targets = list(seeded.objects)
        self.put(seeded, "beside/plain.txt", 0, storage_class)
        return self.check(seeded)

    def put(
        self, seeded: Seeded, key: str, number: int, storage_class: str = "STANDARD", tags: dict[str, str] | None = None
    ) -> ObjectId:
        """One object with a body of its own and the tags of its turn."""
        tags = SEEDED_TAGS[number % len(SEEDED_TAGS)] if tags is None else tags
        body = f"{number} {key}".encode()
        target = {"Bucket": seeded.bucket, "Key": key}
        answer = self.s3.put_object(**target, Body=body, StorageClass=storage_class)
        if tags:
            tag_set = [{"Key": name, "Value": value} for name, value in tags.items()]
            self.s3.put_object_tagging(**target, Tagging={"TagSet": tag_set})
        object_id = ObjectId(key, answer.get("VersionId", "null"))
        etag = answer["ETag"].strip('"')
        seeded.objects[object_id] = State(etag, storage_class, tuple(sorted(tags.items())), PRIVATE)
        seeded.current[key] = object_id
        return object_id

    def check(self, seeded: Seeded) -> Seeded:
        """The server must hold what was put, or every later verdict would be about something else."""
        listed = {i: (item.etag, item.storage_class) for i, item in listing(self.s3, seeded.bucket).items()}
        put = {object_id: (state.etag, state.storage_class) for object_id, state in seeded.objects.items()}
        if listed != put:
            difference = sorted(map(str, listed.items() ^ put.items()))
            raise AssertionError(f"the bucket does not hold what was put into it: {difference}")
        return seeded
