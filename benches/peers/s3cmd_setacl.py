"""s3cmd setacl -r on a prefix; the server lists as many keys below `N/` as N says."""

import os
import sys

address, objects = sys.argv[1], int(sys.argv[2])
with open("s3cmd.cfg", "w", encoding="utf-8") as config:
    config.write(
        "[default]\naccess_key = key\nsecret_key = secret\nuse_https = False\nsignature_v2 = False\n"
        f"host_base = {address}\nhost_bucket = {address}\nbucket_location = us-east-1\n"
    )
s3cmd = os.path.join(os.path.dirname(sys.executable), "s3cmd")
os.execv(
    sys.executable,
    [sys.executable, s3cmd, "-c", "s3cmd.cfg", "-q", "setacl", "-r", "--acl-private", f"s3://bucket/{objects}/"],
)
