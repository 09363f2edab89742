#!/usr/bin/env bash
# The real-server suite: the store battery and the end-to-end matrix on every server, a server that knows none of what a plan
# asks, OSS's SDK on the sandbox, the AWS CLI on exported requests, and a job of a million rows.
#
# usage: suite.sh [BINARY]      (default: target/release/batchplan)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
binary=${1:-target/release/batchplan}

echo "-- the store battery"
BATCHPLAN_TEST_SERVERS="MINISTACK MOTO RADOSGW SEAWEEDFS" python3 tests/servers/run.py \
    --server ministack --server moto --server radosgw --server seaweedfs -- \
    cargo test --locked --test conformance -- --nocapture

echo "-- the matrix of operations and manifests, judged by boto3"
python3 tests/servers/matrix.py --binary "$binary"

echo "-- rclone's server, which knows no tags, ACLs and restores"
python3 tests/servers/rclone.py --binary "$binary"

echo "-- OSS's own SDK on the sandbox"
python3 tests/servers/oss_sdk.py --binary "$binary"

echo "-- the AWS CLI on exported requests"
python3 tests/servers/aws_cli.py --binary "$binary"

echo "-- a million rows"
BATCHPLAN_TEST_ROWS=1000000 BATCHPLAN_TEST_BINARY="$binary" cargo test --locked --test memory -- --nocapture
