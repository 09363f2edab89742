"""The sandbox: the object store inside the binary under test."""

from __future__ import annotations

import os
import select
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from .process import HOST, Child, RunFolder, StartError
from .server import Keys, Server

#: Names the binary; else a release build, else a debug build.
BINARY_VARIABLE = "BATCHPLAN_BIN"
REPOSITORY = Path(__file__).resolve().parents[3]
START_SECONDS = 15.0


def binary() -> Path:
    """The batchplan to test, wherever it was built."""
    named = os.environ.get(BINARY_VARIABLE)
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    candidates = [Path(named)] if named else [target / profile / "batchplan" for profile in ("release", "debug")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    wanted = ", ".join(map(str, candidates))
    raise StartError(f"no batchplan at {wanted}: build it, or set {BINARY_VARIABLE}")


def start(folder: RunFolder) -> Server:
    """Starts it on a port of its own choice, which it prints."""
    data = folder.path / "data"
    child = folder.spawn(
        "sandbox",
        [binary(), "sandbox", "--listen", f"{HOST}:0", "--data", data],
        stdout=subprocess.PIPE,
    )
    return Server(
        name="sandbox",
        endpoint=_first_line(child),
        keys=Keys("sandbox", "sandboxsecret"),
    )


def _first_line(child: Child) -> str:
    """The URL, the only thing it writes to stdout."""
    stdout = child.process.stdout
    assert stdout is not None
    # Unbuffered reads: a buffered line could be waiting where select cannot see it.
    line = b""

    def is_complete() -> bool:
        nonlocal line
        while not line.endswith(b"\n") and select.select([stdout], [], [], 0)[0]:
            byte = os.read(stdout.fileno(), 1)
            if not byte:
                return False
            line += byte
        return line.endswith(b"\n")

    child.wait_until(is_complete, "announcing its address", START_SECONDS)
    url = line.decode(errors="replace").strip()
    if urlsplit(url).scheme != "http" or urlsplit(url).hostname != HOST:
        raise child.failure(f"announced {url!r}, which is not a loopback URL")
    return url
