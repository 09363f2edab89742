"""What a run must lead to: the state of every object, the rows of the report and the exit code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from .operations import Operation
from .seed import Seeded
from .state import ARCHIVE_CLASSES, ObjectId, State

DONE = 0
OBJECTS_FAILED = 3
JOB_FAILED = 4
PAUSED = 5
REFUSED = 6


@dataclass(frozen=True)
class Failure:
    """What a failed row says. None is anything for the code, and no answer for the status."""

    status: int | None
    code: str | None


MISSING = Failure(404, "NoSuchKey")


@dataclass
class Expected:
    """The verdict's other half."""

    states: dict[ObjectId, State]
    #: By key and version column: None for success.
    rows: dict[tuple[str, str], Failure | None] = field(default_factory=dict)
    #: Whether the job ends at the check of the server, with no object changed but the first one's tags, ACL or restore.
    untrusted: bool = False

    def exit_code(self) -> int:
        """0, or 3 as soon as one object failed; 6 where the server is not trusted."""
        if self.untrusted:
            return REFUSED
        return OBJECTS_FAILED if any(self.rows.values()) else DONE

    def failed(self) -> int:
        """How many."""
        return sum(1 for failure in self.rows.values() if failure)


@dataclass(frozen=True)
class Refused:
    """A deviation: the server refuses the operation for every object."""

    failure: Failure


@dataclass(frozen=True)
class HitsCurrent:
    """A deviation: the server takes the version id and then works on the current version.

    A key whose current version is a delete marker is missing to it, and a key named twice is worked on twice: `again`
    is what the second time gives, where it is not success.
    """

    again: Failure | None = None


@dataclass(frozen=True)
class HidesArchived:
    """A deviation: tags and ACL of an archived object cannot be read until it is restored."""


@dataclass(frozen=True)
class LosesDeleted:
    """A deviation: versions below a delete marker are listed, but every other request says that the key is missing."""


@dataclass(frozen=True)
class Untrusted:
    """A deviation that the check of the server finds: the job pauses after its first write, or before it."""


Outcome = Refused | HitsCurrent | HidesArchived | LosesDeleted | Untrusted


def expected(
    seeded: Seeded,
    operations: Sequence[Operation],
    with_version: bool,
    outcomes: Iterable[Outcome] = (),
    failures: dict[ObjectId, Failure] | None = None,
) -> Expected:
    """What the operations make of the seeded objects on a server that deviates so.

    Objects in `failures` stay as they are; they need not exist.
    """
    outcomes = list(outcomes)
    failures = dict(failures or {})
    refused = next((o.failure for o in outcomes if isinstance(o, Refused)), None)
    hits_current = next((o for o in outcomes if isinstance(o, HitsCurrent)), None)
    result = Expected(dict(seeded.objects), untrusted=any(isinstance(o, Untrusted) for o in outcomes))
    done: set[ObjectId] = set()
    lost = seeded.deleted.keys() if any(isinstance(o, LosesDeleted) for o in outcomes) else set()
    # A listing gives the newest version of a key first; no other manifest here names a key twice.
    for target in sorted(seeded.targets, key=lambda t: seeded.current.get(t.key) != t):
        failure = failures.get(target) or (MISSING if target.key in lost else refused)
        changed = target
        if hits_current and not failure:
            current = seeded.current.get(target.key)
            if current is None:
                failure = MISSING
            else:
                changed = current
                failure = hits_current.again if current in done else None
        if not failure:
            state = result.states[changed]
            for operation in operations:
                state = operation.apply(state)
            result.states[changed] = state
            done.add(changed)
        result.rows[target.key, target.version if with_version else ""] = failure
    hides_archived = any(isinstance(o, HidesArchived) for o in outcomes)
    for object_id, state in result.states.items():
        is_archived = state.storage_class in ARCHIVE_CLASSES and state.restored is None
        if object_id.key in lost or (hides_archived and is_archived):
            result.states[object_id] = replace(state, tags=None, grants=None)
    return result
