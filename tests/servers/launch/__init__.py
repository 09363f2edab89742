"""Starts the S3 servers that the suite runs against, and stops exactly what it started."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from . import ministack, moto, radosgw, sandbox, seaweedfs
from .check import check_signatures
from .process import RunFolder
from .server import Server

#: Every server by name, in the order they are listed and run.
LAUNCHERS: dict[str, Callable[[RunFolder], Server]] = {
    "sandbox": sandbox.start,
    "ministack": ministack.start,
    "moto": moto.start,
    "radosgw": radosgw.start,
    "seaweedfs": seaweedfs.start,
}


@contextmanager
def running(names: list[str], root: Path) -> Iterator[list[Server]]:
    """Starts the named servers one after the other; stops them, last first, however the block ends."""
    with ExitStack() as stack:
        servers = []
        for name in names:
            folder = stack.enter_context(RunFolder.fresh(root / name))
            server = LAUNCHERS[name](folder)
            check_signatures(server)
            servers.append(server)
        yield servers
