"""MiniStack: a small AWS emulator in Python. With AUTH=true it verifies signatures and evaluates IAM policies."""

from __future__ import annotations

import sys
from pathlib import Path

from . import iam
from .process import HOST, RunFolder, start_on_free_port
from .server import Keys, Server

# The signature of the root key is never verified, so it only makes the users that the tests sign with.
ROOT = Keys("AKIAROOTROOTROOTROOT", "only-used-to-make-the-test-users")


def start(folder: RunFolder) -> Server:
    """Starts it on a free loopback port."""
    endpoint = start_on_free_port(
        folder,
        "ministack",
        lambda _port: [Path(sys.executable).parent / "ministack"],
        lambda port: {
            "BIND_HOST": HOST,  # The default is every interface.
            "GATEWAY_PORT": str(port),
            "SERVICES": "s3,iam,sts",
            # Two listeners of other services, which would open fixed ports on every interface.
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "LOG_LEVEL": "WARNING",
            "AUTH": "true",
            "AWS_ACCESS_KEY_ID": ROOT.access,
            "AWS_SECRET_ACCESS_KEY": ROOT.secret,
        },
        seconds=30,
    )
    root = iam.client(endpoint, ROOT)
    return Server(
        name="ministack",
        endpoint=endpoint,
        keys=iam.make_user(root, "owner", iam.ALLOW_ALL),
        other=iam.make_user(root, "other", iam.ALLOW_ALL, iam.DENY_LOCKED),
    )
