"""rclone's S3 server: it serves a folder of files, and ignores sub-resources, so that each request is about the object itself."""

from __future__ import annotations

import sys
from pathlib import Path

from .process import HOST, RunFolder, start_on_free_port
from .server import Keys, Server

KEYS = Keys("AKIDRCLONE", "rclonesecret")


def start(folder: RunFolder, files: Path) -> Server:
    """Starts it on a free loopback port; the folders in `files` are its buckets."""
    program = Path(sys.executable).with_name("rclone")
    endpoint = start_on_free_port(
        folder,
        "rclone",
        lambda port: [
            program,
            "serve",
            "s3",
            files,
            "--addr",
            f"{HOST}:{port}",
            "--auth-key",
            f"{KEYS.access},{KEYS.secret}",
            "--vfs-cache-mode",
            "off",
            "--config",
            "/dev/null",
        ],
        lambda _port: {},
        seconds=30,
    )
    return Server(name="rclone", endpoint=endpoint, keys=KEYS)
