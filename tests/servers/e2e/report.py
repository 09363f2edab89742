"""Reads a published completion report, and believes nothing in it that it can check."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from .expect import Expected, Failure
from .product import Report

MEMBERS = ["Format", "ReportCreationDate", "Results", "ReportSchema"]
ERROR_MEMBERS = ["EC", "Error Code", "Http Status Code", "Message", "Request Endpoint", "Request Id", "Timestamp"]


@dataclass(frozen=True)
class Form:
    """What differs between the two services' reports."""

    name: str
    date: str
    schema: str
    #: The manifest's key below the prefix, and the data files'.
    manifest: str
    data: str
    checksum: str
    key: str
    columns: int


FORMS = {
    "oss": Form(
        name="Report_CSV_20250901",
        date=r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
        schema="Bucket,Key,VersionId,HTTPStatus,Error",
        manifest="{job}/results/manifest.json",
        data=r"{job}/results/report-\d+\.csv",
        checksum='"{md5}"',
        key=r"(?:[A-Za-z0-9._~-]|%[0-9A-F]{2})+",
        columns=5,
    ),
    "aws": Form(
        name="Report_CSV_20180820",
        date=r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
        schema="Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage",
        manifest="job-{job}/manifest.json",
        data=r"job-{job}/results/[0-9a-f]{{40}}\.csv",
        checksum="{md5}",
        key=r"(?:[A-Za-z0-9._~/-]|%[0-9A-F]{2})+",
        columns=7,
    ),
}


def problems(s3: Any, report: Report, job: str, bucket: str, expected: Expected, several: bool) -> list[str]:
    """Everything that is wrong with the report of a job on the bucket; empty when nothing is."""
    return _Reader(s3, report, job, bucket, several).check(expected)


class _Reader:
    def __init__(self, s3: Any, report: Report, job: str, bucket: str, several: bool) -> None:
        self.s3 = s3
        self.report = report
        self.job = job
        self.bucket = bucket
        self.several = several
        self.form = FORMS[report.format]
        self.found: list[str] = []
        self.rows: dict[tuple[str, str], Failure | None] = {}

    def check(self, expected: Expected) -> list[str]:
        manifest_key = self.report.prefix + self.form.manifest.format(job=self.job)
        published = self.published()
        if manifest_key not in published:
            return [f"no report: {manifest_key!r} is not among {published}"]
        manifest = json.loads(self.read(manifest_key))
        self.same("the members of manifest.json", list(manifest), MEMBERS)
        self.same("Format", manifest["Format"], self.form.name)
        self.same("ReportSchema", manifest["ReportSchema"], self.form.schema)
        if not re.fullmatch(self.form.date, manifest["ReportCreationDate"]):
            self.found.append(f"ReportCreationDate is {manifest['ReportCreationDate']!r}")
        listed = [result["Key"] for result in manifest["Results"]]
        self.same("published files", published, sorted([manifest_key, *listed]))
        for result in manifest["Results"]:
            self.file(result)
        self.compare(expected)
        return self.found

    def published(self) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.report.bucket, Prefix=self.report.prefix)
        return sorted(item["Key"] for page in pages for item in page.get("Contents", []))

    def read(self, key: str) -> bytes:
        body: bytes = self.s3.get_object(Bucket=self.report.bucket, Key=key)["Body"].read()
        return body

    def same(self, what: str, actual: object, wanted: object) -> None:
        if actual != wanted:
            self.found.append(f"{what}: {actual!r} instead of {wanted!r}")

    def file(self, result: dict[str, str]) -> None:
        """One data file: its entry in the manifest, its checksum, its rows."""
        key, status = result["Key"], result["TaskExecutionStatus"]
        self.same(f"{key}: bucket", result["Bucket"], self.report.bucket)
        pattern = re.escape(self.report.prefix) + self.form.data.format(job=re.escape(self.job))
        if not re.fullmatch(pattern, key):
            self.found.append(f"a report file is named {key!r}")
        body = self.read(key)
        self.same(f"{key}: MD5", result["MD5Checksum"], self.form.checksum.format(md5=hashlib.md5(body).hexdigest()))
        if not body:
            self.found.append(f"{key} is empty")
        for row in csv.reader(io.StringIO(body.decode("utf-8"), newline="")):
            self.row(row, status)

    def row(self, row: list[str], status: str) -> None:
        if len(row) != self.form.columns:
            self.found.append(f"a row of {len(row)} columns: {row}")
            return
        self.same("a row's bucket", row[0], self.bucket)
        if not re.fullmatch(self.form.key, row[1]):
            self.found.append(f"a key is not URL-encoded: {row[1]!r}")
        where = (unquote_to_bytes(row[1]).decode("utf-8", "surrogateescape"), row[2])
        if where in self.rows:
            self.found.append(f"{where} is listed twice")
        failure = (self.oss_failure if self.report.format == "oss" else self.aws_failure)(row)
        self.rows[where] = failure
        self.same(f"{where}: the status of its file", status, "failed" if failure else "succeeded")

    def oss_failure(self, row: list[str]) -> Failure | None:
        status, error = row[3:]
        if not error:
            self.success(status, row)
            return None
        sentence, brace, rest = error.partition("{")
        try:
            members = json.loads(brace + rest)
        except ValueError:
            self.found.append(f"Error holds no JSON: {error!r}")
            return Failure(None, error)
        wanted = [*ERROR_MEMBERS, "Operation"] if self.several else ERROR_MEMBERS
        self.same("the members of Error", list(members), wanted)
        if status:
            self.same("the sentence before them", sentence, "Error returned by Service. ")
        self.same("Http Status Code", members.get("Http Status Code"), int(status) if status else None)
        return Failure(int(status) if status else None, members.get("Error Code"))

    def aws_failure(self, row: list[str]) -> Failure | None:
        task, status, code, message = row[3:]
        if task == "succeeded":
            self.success(status, row)
            self.same("a success's code and message", (code, message), ("", "Successful"))
            return None
        self.same("TaskStatus", task, "failed")
        return Failure(int(status) if status else None, code)

    def success(self, status: str, row: list[str]) -> None:
        if not re.fullmatch(r"2\d\d", status):
            self.found.append(f"a success with status {status!r}: {row}")

    def compare(self, expected: Expected) -> None:
        wanted = expected.rows
        if self.report.scope == "failed-tasks-only":
            wanted = {where: failure for where, failure in wanted.items() if failure}
        for where in sorted(wanted.keys() - self.rows.keys()):
            self.found.append(f"not in the report: {where}")
        for where in sorted(self.rows.keys() - wanted.keys()):
            self.found.append(f"in the report, but not in the manifest: {where}")
        for where in sorted(wanted.keys() & self.rows.keys()):
            if not _agree(self.rows[where], wanted[where]):
                self.found.append(f"{where}: the report says {self.rows[where]}, not {wanted[where]}")


def _agree(actual: Failure | None, wanted: Failure | None) -> bool:
    if actual is None or wanted is None:
        return actual is wanted
    return actual.status == wanted.status and wanted.code in (None, actual.code)
