"""Users for the servers that speak AWS's IAM."""

from __future__ import annotations

import json
from typing import Any

import boto3
from botocore.config import Config

from .server import DENIED_ACTIONS, LOCKED_PREFIX, REGION, Keys

ALLOW_ALL = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
DENY_LOCKED = {"Effect": "Deny", "Action": list(DENIED_ACTIONS), "Resource": f"arn:aws:s3:::*/{LOCKED_PREFIX}*"}


def client(endpoint: str, keys: Keys) -> Any:
    """An IAM client; without retries, because moto counts the calls it lets pass unsigned."""
    return boto3.client(
        "iam",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=keys.access,
        aws_secret_access_key=keys.secret,
        config=Config(retries={"total_max_attempts": 1}),
    )


def make_user(iam: Any, name: str, *statements: dict[str, Any]) -> Keys:
    """A user with these rights, in three calls."""
    iam.create_user(UserName=name)
    policy = {"Version": "2012-10-17", "Statement": list(statements)}
    iam.put_user_policy(UserName=name, PolicyName="s3", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return Keys(key["AccessKeyId"], key["SecretAccessKey"])
