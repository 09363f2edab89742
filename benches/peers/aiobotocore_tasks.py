"""put_object_tagging through aiobotocore, 64 tasks."""

import asyncio
import sys

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

address, objects = sys.argv[1], int(sys.argv[2])
TAGS = {"TagSet": [{"Key": "Environment", "Value": "Production"}, {"Key": "Team", "Value": "DataOps"}]}


async def main() -> None:
    """Tags every object."""
    numbers = iter(range(objects))
    config = AioConfig(max_pool_connections=64, retries={"max_attempts": 1}, s3={"addressing_style": "path"})
    async with get_session().create_client(
        "s3",
        endpoint_url=f"http://{address}",
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=config,
    ) as client:

        async def work() -> None:
            for n in numbers:
                await client.put_object_tagging(Bucket="bucket", Key=f"documents/scan-{n:012}.pdf", Tagging=TAGS)

        await asyncio.gather(*(work() for _ in range(64)))


asyncio.run(main())
