#!/bin/sh
# Runs DocumentDB, an implementation of MongoDB on PostgreSQL, until Ctrl-C: `sudo tests/servers/documentdb/run.sh`.
#
# For machines with Debian's debootstrap and with Go. The extension and its PostgreSQL 18 come from Debian sid, into a
# folder of their own (SYSTEM, 1.2 GB, made once); before it stands FerretDB 2, built here. Data are lost at the end.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
system=${SYSTEM:-/var/cache/sessile-documentdb}
port=${PORT:-27018}
programs=/usr/lib/postgresql/18/bin
data=/var/tmp/sessile-$port
inside() { chroot --userspec=nobody:nogroup "$system" "$@"; }

if [ ! -e "$system/ready" ]; then
    debootstrap --variant=minbase sid "$system"
    mount -t proc proc "$system/proc"
    chroot "$system" env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-install-recommends postgresql-18-documentdb
    umount "$system/proc"
    touch "$system/ready"
fi
(cd "$here" && CGO_ENABLED=0 go build -mod=readonly -o "$system/ferretdb" .)

rm -rf "${system:?}$data"
install -d -o nobody -g nogroup "$system$data" "$system$data/state"
inside $programs/initdb --username=sessile --auth=trust --encoding=UTF8 --no-locale -D "$data/data" >/dev/null
inside $programs/postgres -D "$data/data" -c "port=$((port + 1))" -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories= -c max_connections=200 -c cron.database_name=postgres -c cron.log_run=off \
    -c cron.log_statement=off -c log_min_messages=fatal \
    -c shared_preload_libraries=pg_cron,pg_documentdb_extended_rum,pg_documentdb_core,pg_documentdb \
    -c documentdb.alternate_index_handler_name=extended_rum &
database=$!
trap 'kill -INT $database; wait $database || true; rm -rf "${system:?}$data"' EXIT
trap 'exit 0' INT TERM
url=postgres://sessile@127.0.0.1:$((port + 1))/postgres
until inside $programs/psql --quiet "$url" -c "CREATE EXTENSION documentdb CASCADE; CREATE EXTENSION documentdb_extended_rum" 2>/dev/null; do
    kill -0 $database # else it has not started
    sleep 0.2
done
echo "export TEST_MONGODB_URL=mongodb://127.0.0.1:$port/sessile"
inside /ferretdb "127.0.0.1:$port" "$url" "$data/state"
