#!/usr/bin/env python3
"""Makes the checkpoints in this folder's `kept/VERSION` with the binary of that version: state folders, states in a bucket
and a saved plan, each left by a command that was stopped on its way. They are made once and never changed: the tests beside
this file resume them with today's binary.

usage: make.py BINARY FOLDER     (a debug build: only those have failpoints)
"""

import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KEYS = ("sandbox", "sandboxsecret")
OBJECTS = 60
TAGS = '[operation.put_object_tagging]\ntags = { t = "1" }\n'


class Sandbox:
    """The binary's own server, filled with these rows, on a port that may be asked for."""

    def __init__(self, binary, folder, rows, files=None, host="127.0.0.1", port=0, rate=None):
        folder.mkdir(parents=True)
        (folder / "fill.csv").write_text("bucket,key\n" + "".join(f"{row}\n" for row in rows))
        for name, content in (files or {}).items():
            place = folder / "fill.files" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        command = [binary, "sandbox", "--listen", f"{host}:{port}", "--data", folder / "data"]
        command += ["--fill", folder / "fill.csv"]
        if rate:
            command += ["--max-requests-per-second", str(rate)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.endpoint = self.process.stdout.readline().strip()
        self.port = int(self.endpoint.rsplit(":", 1)[1])
        self.data = folder / "data"

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


class Maker:
    def __init__(self, binary, out):
        self.binary, self.out = binary, out
        self.scratch = Path(tempfile.mkdtemp())
        self.servers = 0

    def serve(self, rows, **options):
        self.servers += 1
        return Sandbox(self.binary, self.scratch / f"server{self.servers}", rows, **options)

    def run(self, folder, *args, wait=True, **env):
        whole = {
            "HOME": str(self.scratch), "CI": "true", "AWS_EC2_METADATA_DISABLED": "true", "USER": "maker",
            "AWS_ACCESS_KEY_ID": KEYS[0], "AWS_SECRET_ACCESS_KEY": KEYS[1], "PATH": os.environ["PATH"], **env,
        }
        process = subprocess.Popen([self.binary, *args], cwd=folder, env=whole, stdin=subprocess.DEVNULL)
        return process.wait() if wait else process

    def folder(self, name, store, rest):
        folder = self.out / name
        folder.mkdir(parents=True)
        (folder / "plan.toml").write_text(f'name = "{name}"\n{store}{rest}')
        return folder

    def of_endpoint(self, server):
        return (
            f'[store]\nprovider = "s3"\nendpoint = "{server.endpoint}"\n'
            'region = "us-east-1"\naddressing = "path"\n'
        )


def keys(count=OBJECTS):
    return [f"bkt,k{n:04}" for n in range(count)]


PREFIX = '[manifest.prefix]\nbucket = "bkt"\n' + TAGS
LOCAL_REPORT = '[report]\nenabled = false\nscope = "all-tasks"\n'
SLOW = "[limits]\nrequests_per_second = 15\nconcurrency = 4\n"
APPLY = ("apply", "plan.toml", "--auto-approve", "--state", "state")


def in_folders(maker):
    server = maker.serve(keys() + ["reports,seed"])
    store = maker.of_endpoint(server)
    local = lambda name, rest="": maker.folder(name, store, PREFIX + LOCAL_REPORT + rest)

    folder = local("suspended")
    assert maker.run(folder, "create", "plan.toml", "--state", "state") == 0

    folder = local("ready", "[job]\nconfirmation_required = false\n")
    assert maker.run(folder, "create", "plan.toml", "--state", "state") == 0

    folder = local("paused", SLOW)
    process = maker.run(folder, *APPLY, wait=False, BATCHPLAN_CHECKPOINT_EVERY="8")
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 5

    folder = local("interrupted", "[limits]\nconcurrency = 4\n")
    env = {"BATCHPLAN_CHECKPOINT_EVERY": "8", "BATCHPLAN_FAILPOINT": "journal-after-commit:6"}
    assert maker.run(folder, *APPLY, **env) == -9

    folder = local("between-report-and-journal", "[limits]\nconcurrency = 4\n")
    env = {"BATCHPLAN_CHECKPOINT_EVERY": "8", "BATCHPLAN_FAILPOINT": "report-synced:5"}
    assert maker.run(folder, *APPLY, **env) == -9

    folder = local("report-finished")
    assert maker.run(folder, *APPLY, BATCHPLAN_FAILPOINT="report-finished:1") == -9

    # The bucket of the reports is not there yet.
    report = '[report]\nbucket = "later"\nprefix = "out/"\nscope = "all-tasks"\n'
    folder = maker.folder("report-not-published", store, PREFIX + report)
    assert maker.run(folder, *APPLY) == 1
    server.stop()


def half_listed(maker):
    rows = [f"bkt,{chr(97 + n // 1000)}/{n:05}/data.json" for n in range(12_000)]
    server = maker.serve(rows, rate=4)
    folder = maker.folder("half-listed", maker.of_endpoint(server), PREFIX + LOCAL_REPORT)
    process = maker.run(folder, *APPLY, wait=False)
    progress = lambda: list(folder.glob("state/jobs/*/manifest/progress.json")) + list(
        folder.glob("state/jobs/*/progress.json"))
    time.sleep(2.5)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 5
    assert progress(), list(folder.rglob("*"))
    server.stop()


def inventory(day, names):
    table = "".join(
        f'"bkt","{name}","1","2026-01-01T00:00:00.000Z","{hashlib.md5(f"{name}{state}".encode()).hexdigest()}"\n'
        for name, state in names
    )
    data = gzip.compress(table.encode(), mtime=0)
    files = [{"key": f"daily/data/{day}.csv.gz", "size": len(data), "MD5checksum": hashlib.md5(data).hexdigest()}]
    manifest = {
        "sourceBucket": "bkt", "destinationBucket": "arn:aws:s3:::lists", "version": "2016-11-30",
        "creationTimestamp": str((1_767_225_600 + (day - 1) * 86_400) * 1000), "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size, LastModifiedDate, ETag", "files": files,
    }
    body = json.dumps(manifest).encode()
    place = f"lists/daily/2026-01-0{day}T00-00Z"
    return {
        f"lists/daily/data/{day}.csv.gz": data,
        f"{place}/manifest.json": body,
        f"{place}/manifest.checksum": hashlib.md5(body).hexdigest().encode(),
    }


def recurring(maker):
    names = [f"k{n:04}" for n in range(OBJECTS)]
    first = inventory(1, [(name, 0) for name in names])
    # On the second day every third object is another one, and ten are new.
    second = inventory(2, [(name, int(n % 3 == 0)) for n, name in enumerate(names)]
                       + [(f"new{n}", 0) for n in range(10)])
    rows = keys() + [f"bkt,new{n}" for n in range(10)]
    server = maker.serve(rows, files=first)
    rest = ('[manifest.inventory]\nbucket = "lists"\nlatest = "daily/"\n' + TAGS + LOCAL_REPORT
            + "[recurring]\nonly_changed = true\n[limits]\nconcurrency = 4\n")
    folder = maker.folder("recurring", maker.of_endpoint(server), rest)
    assert maker.run(folder, *APPLY) == 0
    server.stop()
    both = {**first, **second}
    server = maker.serve(rows, files=both, port=server.port)
    env = {"BATCHPLAN_CHECKPOINT_EVERY": "8", "BATCHPLAN_FAILPOINT": "journal-after-commit:4"}
    assert maker.run(folder, *APPLY, **env) == -9
    server.stop()
    for name, content in both.items():
        place = folder / "fill.files" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    # After one that was complete, on another plan, nothing is left to do.
    server = maker.serve(rows, files=both)
    folder = maker.folder("recurring-complete", maker.of_endpoint(server), rest)
    assert maker.run(folder, *APPLY) == 0
    server.stop()


def saved(maker):
    store = '[store]\nprovider = "sandbox"\ndata = "data"\nfill = "fill.csv"\n'
    folder = maker.folder("saved-plan", store, PREFIX + LOCAL_REPORT)
    (folder / "fill.csv").write_text("bucket,key,last_modified\n" + "".join(f"{row},2026-01-01T00:00:00Z\n" for row in keys()))
    assert maker.run(folder, "plan", "plan.toml", "--out", "saved.bpl", "--state", "state") == 0
    shutil.rmtree(folder / "data")
    shutil.rmtree(folder / "state", ignore_errors=True)


def remote(maker):
    env = {"BATCHPLAN_CHECKPOINT_EVERY": "8", "BATCHPLAN_PUSH_MS": "200", "BATCHPLAN_LEASE_MS": "1500"}
    cases = [("remote-suspended", "", 0), ("remote-paused", SLOW, 5), ("remote-interrupted", SLOW, -9)]
    # Nothing of a state in a bucket can be changed afterwards, so that the server that is worked on keeps its address.
    for host, (name, rest, code) in enumerate(cases, start=1):
        work = maker.serve(keys(), host=f"127.83.12.{host}", port=18383)
        server = maker.serve(["states,readme"])
        url = f"s3://states/team?endpoint={server.endpoint}&region=us-east-1&addressing=path"
        folder = maker.folder(name, maker.of_endpoint(work), PREFIX + LOCAL_REPORT + rest)
        if code == 0:
            assert maker.run(folder, "create", "plan.toml", "--state", url) == code
        else:
            process = maker.run(folder, "apply", "plan.toml", "--auto-approve", "--state", url, wait=False, **env)
            time.sleep(3)
            process.send_signal(signal.SIGINT if code == 5 else signal.SIGKILL)
            assert process.wait() == code
        work.stop()
        server.stop()
        for left in folder.glob(".batchplan*"):
            shutil.rmtree(left)
        shutil.copytree(server.data, folder / "bucket")


def main():
    binary, out = str(Path(sys.argv[1]).resolve()), Path(sys.argv[2]).resolve()
    maker = Maker(binary, out)
    for make in (in_folders, half_listed, recurring, saved, remote):
        make(maker)
    # An index of the WAL, which SQLite makes anew.
    for index in out.rglob("journal.db-shm"):
        index.unlink()
    shutil.rmtree(maker.scratch)


main()
