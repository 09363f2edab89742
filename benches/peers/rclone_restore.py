"""rclone backend restore on a prefix; the server lists as many keys below `N/` as N says."""

import os
import sys

address, objects = sys.argv[1], int(sys.argv[2])
remote = (
    f":s3,provider=Other,endpoint='http://{address}',access_key_id=key,secret_access_key=secret,"
    f"force_path_style=true,region=us-east-1:bucket/{objects}"
)
rclone = os.path.join(os.path.dirname(sys.executable), "rclone")
os.environ["GOMAXPROCS"] = "1"
os.execv(rclone, [rclone, "--config", "", "backend", "restore", remote, "-o", "priority=Bulk", "-o", "lifetime=7"])
