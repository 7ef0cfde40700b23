#!/usr/bin/env bash
# Makes sure that the PostgreSQL 15 programs are in the folder named, from Debian if need be.
set -euo pipefail
folder=${1:?usage: tools/postgres15.sh FOLDER}

if [ -x "$folder/postgres" ]; then
    exit 0
fi

fail() {
    echo "test-all needs PostgreSQL 15 in $folder: $1." >&2
    echo "Install it yourself and run: make test-all POSTGRES15=<its bin folder>" >&2
    exit 1
}

command -v apt-get >/dev/null || fail "there is no apt-get here"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "installing it takes root or sudo"
    as_root=(sudo)
fi
had_cluster=no
if [ -e /etc/postgresql/15/main ] || [ -e /var/lib/postgresql/15/main ]; then
    had_cluster=yes
fi

apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y)
"${apt[@]}" update || fail "apt-get update failed"
"${apt[@]}" install --no-install-recommends postgresql-15 || fail "apt-get has no postgresql-15 to install"
[ -x "$folder/postgres" ] || fail "postgresql-15 is installed, but not there"

# The tests start servers of their own; the empty cluster that the package has made
# and started would only hold a port. One that was there before is not ours to touch.
if [ "$had_cluster" = no ] && [ -e /etc/postgresql/15/main ]; then
    "${as_root[@]}" pg_dropcluster --stop 15 main
fi
