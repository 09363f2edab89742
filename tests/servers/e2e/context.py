"""What every case needs: a server, the binary, and places of its own."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.check import client
from launch.server import Keys, Server

from . import product
from .deviations import depends_on_order, refused_keys
from .manifests import Place
from .operations import Operation
from .product import Ran, Report
from .seed import Seeder


@dataclass
class Context:
    """One server's part of the matrix."""

    server: Server
    binary: Path
    folder: Path
    s3: Any = field(init=False)
    seeder: Seeder = field(init=False)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    #: Holds manifests and reports, so that a case's own bucket holds nothing but its objects.
    SIDE_BUCKET = "e2e-side"

    def __post_init__(self) -> None:
        self.s3 = client(self.server)
        self.seeder = Seeder(self.s3, refused_keys(self.server.name))
        self.seeder.bucket(self.SIDE_BUCKET)

    def case(self, name: str) -> Case:
        """A new case's places."""
        slug = f"e2e-{next(self._numbers):03}-{re.sub(r'[^a-z0-9]+', '-', name.lower())}"[:60].rstrip("-")
        folder = self.folder / slug
        folder.mkdir(parents=True)
        return Case(self, slug, folder)


@dataclass(frozen=True)
class Case:
    """One case's names and places."""

    context: Context
    #: Also its bucket's name.
    slug: str
    folder: Path

    def place(self) -> Place:
        """Where its manifests go."""
        return Place(self.context.s3, Context.SIDE_BUCKET, f"manifests/{self.slug}/", self.folder)

    def report(self, form: str = "oss", scope: str = "all-tasks") -> Report:
        """Where its report goes."""
        return Report(Context.SIDE_BUCKET, f"reports/{self.slug}/", form, scope)

    def apply(self, manifest: str, operations: tuple[Operation, ...], report: Report, keys: Keys | None = None) -> Ran:
        """Writes the plan and runs it."""
        tables = [manifest, *(operation.toml for operation in operations), report.toml()]
        if depends_on_order(self.context.server.name, operations):
            tables.append("[undo]\ncapture = false")
        text = product.plan(self.slug, self.context.server, *tables)
        return product.apply(self.context.binary, text, self.folder, keys or self.context.server.keys)
