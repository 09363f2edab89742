"""Child processes that always end, free ports, and waiting with a deadline instead of sleeping."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

HOST = "127.0.0.1"
POLL_SECONDS = 0.05
STOP_SECONDS = 10.0
TAIL_LINES = 40
PR_SET_PDEATHSIG = 1

# Below the range that the kernel hands out to outgoing connections, so that none of those takes a port between its
# choice here and the server's bind.
PORTS = range(20000, 32000)


class StartError(Exception):
    """A server did not come up; the message carries the tail of its log."""


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise StartError("no free port on the loopback interface")


def _die_with_parent() -> None:
    """Runs in the child: a runner killed with SIGKILL cannot clean up, so the kernel does it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class Child:
    """One process of a server, with its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def tail(self) -> str:
        """The last lines it wrote."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError as error:
            return f"(no log: {error})"
        return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:]) or "    (empty)"

    def failure(self, what: str) -> StartError:
        """An error that says what happened and shows the log."""
        return StartError(f"{self.name}: {what}; the end of {self.log}:\n{self.tail()}")

    def check_alive(self) -> None:
        """Fails with the log's tail when it has ended."""
        code = self.process.poll()
        if code is not None:
            raise self.failure(f"ended with code {code}")

    def wait_until(self, ready: Callable[[], bool], what: str, seconds: float) -> None:
        """Polls until `ready`, as long as the process lives and the deadline has not passed."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.check_alive()
            if time.monotonic() > deadline:
                raise self.failure(f"not {what} after {seconds:.0f} s")
            time.sleep(POLL_SECONDS)
        # Whatever answered on the port must be this process and not one that took the port first.
        self.check_alive()

    def stop(self) -> None:
        """Asks it to end, and insists when it does not."""
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class RunFolder:
    """One run's own folder: state, logs, and the processes started in it."""

    path: Path
    children: list[Child] = field(default_factory=list)
    #: Files that a server makes elsewhere and leaves there.
    strays: list[Path] = field(default_factory=list)

    @classmethod
    @contextmanager
    def fresh(cls, server: Path) -> Iterator[RunFolder]:
        """An empty folder named after this process; stops everything started in it at the end.

        Logs stay for a look until a later run finds that their process is gone. Two runs at once never meet.
        """
        server.mkdir(parents=True, exist_ok=True)
        remove_left_over(server)
        path = server / str(os.getpid())
        path.mkdir()
        folder = cls(path)
        try:
            yield folder
        finally:
            folder.stop()

    def spawn(
        self,
        name: str,
        command: Sequence[str | Path],
        environment: dict[str, str] | None = None,
        stdout: int | None = None,
    ) -> Child:
        """Starts a process, in a session of its own so that a Ctrl-C reaches only the runner, which stops it."""
        log = self.path / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=self.path,
                env=self.environment(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output if stdout is None else stdout,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        child = Child(name, process, log)
        self.children.append(child)
        return child

    def environment(self, extra: dict[str, str]) -> dict[str, str]:
        """A small one, so that nobody's AWS settings reach a server, and its files stay in this folder."""
        base = {"PATH": os.environ["PATH"], "HOME": str(self.path), "TMPDIR": str(self.path), "LANG": "C.UTF-8"}
        return base | extra

    def stop(self) -> None:
        """Stops what was started here, last first, and removes what it left elsewhere."""
        while self.children:
            self.children.pop().stop()
        while self.strays:
            self.strays.pop().unlink(missing_ok=True)


def remove_left_over(folder: Path) -> None:
    """Removes the folders in it that are named after processes that are gone, or after this one."""
    for earlier in folder.iterdir():
        if earlier.name == str(os.getpid()) or not _is_running(earlier.name):
            shutil.rmtree(earlier, ignore_errors=True)


def _is_running(pid: str) -> bool:
    return pid.isdigit() and Path("/proc", pid).exists()


def start_on_free_port(
    folder: RunFolder,
    name: str,
    command: Callable[[int], Sequence[str | Path]],
    environment: Callable[[int], dict[str, str]],
    seconds: float,
) -> str:
    """Starts a server that is told its port, waits until it listens, and returns its URL.

    A port can be lost between choice and bind, so a server that ends at once gets a second and a third one.
    """
    for attempts_left in (2, 1, 0):
        port = free_port()
        child = folder.spawn(name, command(port), environment(port))
        try:
            child.wait_until(partial(is_listening, port), "listening", seconds)
            return f"http://{HOST}:{port}"
        except StartError:
            if child.process.poll() is None or attempts_left == 0:
                raise
    raise AssertionError("unreachable")


def is_listening(port: int) -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0
