"""put_object_tagging through boto3, 32 threads: what most scripts do."""

import sys
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config

address, objects = sys.argv[1], int(sys.argv[2])
client = boto3.client(
    "s3",
    endpoint_url=f"http://{address}",
    region_name="us-east-1",
    aws_access_key_id="key",
    aws_secret_access_key="secret",
    config=Config(max_pool_connections=32, retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
)
TAGS = {"TagSet": [{"Key": "Environment", "Value": "Production"}, {"Key": "Team", "Value": "DataOps"}]}


def tag(n: int) -> None:
    """Tags one object."""
    client.put_object_tagging(Bucket="bucket", Key=f"documents/2024/scan-{n:012}.pdf", Tagging=TAGS)


with ThreadPoolExecutor(32) as pool:
    for _ in pool.map(tag, range(objects)):
        pass
