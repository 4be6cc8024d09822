# What the scripts that drive an engine in a machine share. See checks.rs.

export KUBECONFIG=/data/root/kubeconfig
carob() { /usr/bin/carob --root /data/root "$@"; }

# Tells what became of a test: `check NAME COMMAND...`.
check() {
    name=$1
    shift
    if "$@" >/tmp/said 2>&1; then
        echo "vm: ok $name"
    else
        echo "vm: FAILED $name"
        sed 's/^/    /' /tmp/said
    fi
}

# Waits until a command succeeds, so many seconds at most, and tells what it said last: `soon SECONDS COMMAND...`.
soon() {
    end=$(($(date +%s) + $1))
    shift
    until "$@" >/tmp/last 2>&1; do
        if [ "$(date +%s)" -ge "$end" ]; then
            cat /tmp/last
            return 1
        fi
        sleep 0.2
    done
}
