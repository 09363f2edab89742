"""What a test needs to know of a running server."""

from __future__ import annotations

from dataclasses import dataclass, field

REGION = "us-east-1"

#: Objects whose key begins so may be read by the second user of a server that has one, and changed only by the first.
LOCKED_PREFIX = "locked/"

#: The writes that the second user is denied there.
DENIED_ACTIONS = (
    "s3:PutObjectTagging",
    "s3:DeleteObjectTagging",
    "s3:PutObjectAcl",
    "s3:RestoreObject",
)


@dataclass(frozen=True)
class Keys:
    """An access key and its secret."""

    access: str
    secret: str


@dataclass(frozen=True)
class Server:
    """A server that answers, and who may talk to it."""

    name: str
    endpoint: str
    keys: Keys
    #: A second user, for what happens when access is denied.
    other: Keys | None = None
    #: The principal to name in a bucket policy, where the second user's rights come from the bucket and not from IAM.
    other_principal: str | None = None
    #: A user of another tenant, and the tenant's name, where buckets have tenants.
    tenant: tuple[str, Keys] | None = None
    region: str = field(default=REGION)

    def environment(self) -> dict[str, str]:
        """The variables that tell a test command about this server."""
        prefix = f"BATCHPLAN_TEST_{self.name.upper()}"
        variables = {
            f"{prefix}_ENDPOINT": self.endpoint,
            f"{prefix}_ACCESS_KEY": self.keys.access,
            f"{prefix}_SECRET_KEY": self.keys.secret,
            f"{prefix}_REGION": self.region,
        }
        if self.other:
            variables[f"{prefix}_OTHER_ACCESS_KEY"] = self.other.access
            variables[f"{prefix}_OTHER_SECRET_KEY"] = self.other.secret
        if self.other_principal:
            variables[f"{prefix}_OTHER_PRINCIPAL"] = self.other_principal
        return variables
