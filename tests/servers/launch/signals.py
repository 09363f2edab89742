"""The signals that end a program."""

from __future__ import annotations

import signal
import sys
from types import FrameType

#: A shell's exit code for a program that a signal ended, less the signal's number.
ENDED_BY_SIGNAL = 128
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stop_on_signals() -> None:
    """Turns them into an exception, so that every `with` block cleans up."""

    def leave(number: int, _frame: FrameType | None) -> None:
        # Cleaning up must not be cut short by the same signal again.
        for ending in ENDING:
            signal.signal(ending, signal.SIG_IGN)
        sys.exit(ENDED_BY_SIGNAL + number)

    for number in ENDING:
        signal.signal(number, leave)
