"""Is the server what the suite needs: does it answer its own keys, and nobody else's?"""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from .process import StartError
from .server import Keys, Server


def client(server: Server, keys: Keys | None = None) -> Any:
    """An S3 client that is not ours: boto3, path style, without retries that could hide an error."""
    keys = keys or server.keys
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=server.region,
        aws_access_key_id=keys.access,
        aws_secret_access_key=keys.secret,
        config=Config(
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            connect_timeout=5,
            read_timeout=30,
        ),
    )


def check_signatures(server: Server) -> None:
    """Fails unless a signed request is answered and one with a wrong secret is not.

    A server that takes any signature would let a broken signer pass every test.
    """
    try:
        client(server).list_buckets()
    except (BotoCoreError, ClientError) as error:
        raise StartError(f"{server.name}: listens at {server.endpoint}, but refuses its own keys: {error}") from error
    try:
        client(server, Keys(server.keys.access, "not-the-secret")).list_buckets()
    except ClientError as error:
        if error.response["Error"]["Code"] == "SignatureDoesNotMatch":
            return
        raise StartError(f"{server.name}: a wrong secret gives {error}, not SignatureDoesNotMatch") from error
    raise StartError(f"{server.name}: does not check signatures")
