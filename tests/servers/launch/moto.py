"""moto: the AWS mock of Python's boto world, as a server that authenticates every request."""

from __future__ import annotations

import sys
from pathlib import Path

from . import iam
from .process import HOST, RunFolder, start_on_free_port
from .server import Keys, Server

SERVER = Path(__file__).with_name("moto_server.py")
ANYBODY = Keys("anybody", "anything")

# moto lets this many calls pass before it authenticates: two users, three calls each. What comes after is checked.
FREE_CALLS = 6


def start(folder: RunFolder) -> Server:
    """Starts it on a free loopback port."""
    endpoint = start_on_free_port(
        folder,
        "moto",
        # -P: this folder has a moto.py of its own.
        lambda port: [sys.executable, "-P", SERVER, "-H", HOST, "-p", str(port)],
        lambda _port: {"INITIAL_NO_AUTH_ACTION_COUNT": str(FREE_CALLS)},
        seconds=30,
    )
    nobody = iam.client(endpoint, ANYBODY)
    return Server(
        name="moto",
        endpoint=endpoint,
        keys=iam.make_user(nobody, "owner", iam.ALLOW_ALL),
        other=iam.make_user(nobody, "other", iam.ALLOW_ALL, iam.DENY_LOCKED),
    )
