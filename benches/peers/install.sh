#!/usr/bin/env bash
# Makes a Python with the peers of the client bench, and prints how to give it to the bench.
#
# usage: install.sh [FOLDER]      (default: target/peers)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=${1:-target/peers}
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check -r benches/peers/requirements.txt
echo "BATCHPLAN_BENCH_PEERS=$PWD/$folder/bin/python cargo bench --bench client"
