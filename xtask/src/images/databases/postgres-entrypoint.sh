#!/bin/sh
# Makes a data directory when there is none, as the variables POSTGRES_* ask for, and becomes the server. As root it makes the
# data the server's own, and goes on as postgres.
set -eu

# NAME or NAME_FILE, which is a file with the value.
setting() {
    eval "value=\${$1:-} file=\${$1_FILE:-}"
    if [ -n "$file" ]; then
        if [ -n "$value" ]; then
            echo >&2 "error: both $1 and $1_FILE are set"
            exit 1
        fi
        value=$(cat "$file")
    fi
    printf '%s' "${value:-${2:-}}"
}

query() {
    psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password --username "$user" "$@"
}

# What its users have put into a directory, in the order of the names.
run_scripts() {
    for script in /docker-entrypoint-initdb.d/*; do
        case "$script" in
        *.sh) if [ -x "$script" ]; then "$script"; else . "$script"; fi ;;
        *.sql) query --dbname "$database" -f "$script" ;;
        *.sql.gz) gunzip -c "$script" | query --dbname "$database" ;;
        esac
    done
}

make_database() {
    user=$(setting POSTGRES_USER postgres)
    database=$(setting POSTGRES_DB "$user")
    password=$(setting POSTGRES_PASSWORD)
    arguments=$(setting POSTGRES_INITDB_ARGS)
    method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    if [ -z "$password" ] && [ "$method" != trust ]; then
        echo >&2 'Error: Database is uninitialized and superuser password is not specified.'
        echo >&2 '       POSTGRES_PASSWORD gives one; POSTGRES_HOST_AUTH_METHOD=trust lets everybody in without.'
        exit 1
    fi

    if [ -n "$password" ]; then
        set -- --pwfile=/dev/stdin
    fi
    # The arguments are words.
    printf '%s\n' "$password" | eval 'initdb --username="$user" "$@" '"$arguments"
    printf '\nhost all all all %s\n' "$method" >> "$PGDATA/pg_hba.conf"

    # Nobody is let in from elsewhere before it is all there.
    pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start
    if [ "$database" != postgres ]; then
        createdb --username "$user" --maintenance-db postgres "$database"
    fi
    POSTGRES_USER=$user POSTGRES_DB=$database
    export POSTGRES_USER POSTGRES_DB
    run_scripts
    pg_ctl -D "$PGDATA" -m fast -w stop
    echo
    echo 'PostgreSQL init process complete; ready for start up.'
    echo
}

case "${1:-}" in
-*) set -- postgres "$@" ;;
esac
if [ "${1:-}" != postgres ]; then
    exec "$@"
fi
for argument; do
    case "$argument" in
    '-?' | --help | -V | --version | -C | --describe-config) exec "$@" ;;
    esac
done

mkdir -p "$PGDATA"
if [ "$(id -u)" = 0 ]; then
    chown -R postgres:postgres "$PGDATA" /run/postgresql
    exec setpriv --reuid=postgres --regid=postgres --clear-groups -- "$0" "$@"
fi
# Another's directory is as open as its owner has made it.
chmod 700 "$PGDATA" || :
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    make_database
fi
exec "$@"
