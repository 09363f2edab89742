"""Runs a script again with the Python that install.sh prepared, so that any python3 may start it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
VENV = Path(os.environ.get("BATCHPLAN_SERVERS_VENV", REPOSITORY / "target" / "servers" / "venv"))

#: Where servers keep their state and logs.
RUNS = REPOSITORY / "target" / "servers"


def enter() -> None:
    """Returns inside the venv; outside of it, replaces this process by the same command inside."""
    python = VENV / "bin" / "python"
    if Path(sys.prefix).resolve() == VENV.resolve():
        return
    if not python.is_file():
        sys.exit(f"{python} does not exist: run tests/servers/install.sh")
    os.execv(python, [str(python), *sys.argv])
