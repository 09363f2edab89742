"""SeaweedFS: a distributed store in Go with an S3 gateway. All its parts run in one process."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .process import HOST, RunFolder, StartError, free_port, is_listening
from .server import Keys, Server

KEYS = Keys("AKIDSEAWEEDFS", "seaweedfssecret")
START_SECONDS = 60.0

#: Parts that listen; each also has a port for gRPC.
PARTS = ("master", "volume", "filer", "s3")

#: The size of a volume, which holds objects of one bucket. Each bucket takes several, and volumes of the default size,
#: 30 GB, would not all fit on a disk.
VOLUME_LIMIT_MB = 16


def start(folder: RunFolder) -> Server:
    """Starts it on free loopback ports."""
    program = Path(sys.executable).with_name("weed")
    identity = {
        "name": "owner",
        "credentials": [{"accessKey": KEYS.access, "secretKey": KEYS.secret}],
        "actions": ["Admin"],
    }
    (folder.path / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder.path / "data").mkdir()
    for attempts_left in (2, 1, 0):
        ports = {part: free_port() for part in PARTS}
        grpc_ports = {part: free_port() for part in PARTS}
        flags = [f"-{part}.port={port}" for part, port in ports.items()]
        flags += [f"-{part}.port.grpc={port}" for part, port in grpc_ports.items()]
        # Each port also has a socket, whose place no flag changes.
        folder.strays += [Path(f"/tmp/seaweedfs-{part}-{port}.sock") for part, port in ports.items()]
        folder.strays += [Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock") for part, port in grpc_ports.items()]
        server = folder.spawn(
            "weed",
            [
                program,
                "server",
                f"-dir={folder.path / 'data'}",
                f"-ip={HOST}",
                f"-ip.bind={HOST}",
                "-s3",
                f"-s3.config={folder.path / 's3.json'}",
                # Other interfaces to the same data, which would listen on fixed ports.
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                "-master.telemetry=false",
                "-volume.max=0",
                f"-master.volumeSizeLimitMB={VOLUME_LIMIT_MB}",
                *flags,
            ],
        )
        try:
            server.wait_until(lambda port=ports["s3"]: is_listening(port), "listening", START_SECONDS)
            break
        except StartError:
            # A port can be lost between choice and bind.
            if server.process.poll() is None or attempts_left == 0:
                raise
    return Server(name="seaweedfs", endpoint=f"http://{HOST}:{ports['s3']}", keys=KEYS)
