"""The operations of a plan: their TOML, and what they make of an object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .state import PRIVATE, PUBLIC_READ, PUBLIC_READ_WRITE, Grants, Restored, State

RESTORE_DAYS = 3
NEW_TAGS = {"Environment": "Production", "Cost Center": "a+b=c/d:e@f _.-"}
MORE_TAGS = {"Environment": "Production", "Added": "now"}
CANNED: dict[str, Grants] = {"private": PRIVATE, "public-read": PUBLIC_READ, "public-read-write": PUBLIC_READ_WRITE}


@dataclass(frozen=True)
class Operation:
    """One operation as a plan declares it."""

    name: str
    #: The table's header and body.
    toml: str
    #: The state it leads to.
    apply: Callable[[State], State]
    #: Whether it is about archived objects.
    needs_archive: bool = False


def _table(tags: dict[str, str]) -> str:
    return "{ " + ", ".join(f'"{key}" = "{value}"' for key, value in tags.items()) + " }"


def _with_tags(state: State, tags: dict[str, str]) -> State:
    return replace(state, tags=tuple(sorted(tags.items())))


def put_tagging(tags: dict[str, str]) -> Operation:
    """Replace all tags."""
    return Operation(
        "put_object_tagging",
        f"[operation.put_object_tagging]\ntags = {_table(tags)}",
        lambda state: _with_tags(state, tags),
    )


def add_tagging(tags: dict[str, str]) -> Operation:
    """Add tags."""
    return Operation(
        "add_object_tagging",
        f"[operation.add_object_tagging]\ntags = {_table(tags)}",
        lambda state: _with_tags(state, dict(state.tags or ()) | tags),
    )


def delete_tagging() -> Operation:
    """Remove all tags."""
    return Operation("delete_object_tagging", "[operation.delete_object_tagging]", lambda state: _with_tags(state, {}))


def delete_named_tags(*names: str) -> Operation:
    """Remove the tags with these keys."""
    quoted = ", ".join(f'"{name}"' for name in names)
    return Operation(
        "delete_object_tagging.keys",
        f"[operation.delete_object_tagging]\nkeys = [{quoted}]",
        lambda state: _with_tags(state, {k: v for k, v in state.tags or () if k not in names}),
    )


def put_acl(acl: str) -> Operation:
    """Set a canned ACL."""
    return Operation(
        "put_object_acl",
        f'[operation.put_object_acl]\nacl = "{acl}"',
        lambda state: replace(state, grants=CANNED[acl]),
    )


def restore(tier: str) -> Operation:
    """Bring archived objects back."""
    return Operation(
        "restore_object",
        f'[operation.restore_object]\ndays = {RESTORE_DAYS}\ntier = "{tier}"',
        lambda state: replace(state, restored=Restored()),
        needs_archive=True,
    )


#: The rows of the matrix.
OPERATIONS = (
    put_tagging(NEW_TAGS),
    add_tagging(MORE_TAGS),
    delete_tagging(),
    delete_named_tags("Environment", "NobodyHasThis"),
    put_acl("public-read"),
    restore("Standard"),
)
