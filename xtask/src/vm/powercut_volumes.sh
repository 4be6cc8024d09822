# An engine whose machine loses its power. See powercut_volumes.rs.

known() { sed 's/.*known=\([0-9,]*\).*/\1/' /proc/cmdline | cut -d, -f"$1"; }
config=$(known 1) secret=$(known 2) made=$(known 3) marked=$(known 4) going=$(known 5) gone=$(known 6)

# A Pod with volumes of every kind, and its claim.
pod() {
    cat <<Y
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: c-$1}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: p-$1}
spec:
  terminationGracePeriodSeconds: 0
  securityContext: {fsGroup: 77}
  containers:
  - name: c
    image: box:1
    command: [sleep, "1000000"]
    volumeMounts:
    - {name: config, mountPath: /config}
    - {name: config, mountPath: /one, subPath: a}
    - {name: secret, mountPath: /secret}
    - {name: all, mountPath: /all}
    - {name: about, mountPath: /about}
    - {name: disk, mountPath: /disk}
    - {name: memory, mountPath: /memory}
    - {name: host, mountPath: /host}
    - {name: claim, mountPath: /claim}
    - {name: claim, mountPath: /deep, subPath: deep/er}
    - {name: image, mountPath: /image}
  volumes:
  - {name: config, configMap: {name: config}}
  - {name: secret, secret: {secretName: secret}}
  - {name: all, projected: {sources: [{configMap: {name: config}}, {serviceAccountToken: {path: token}}]}}
  - {name: about, downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}
  - {name: disk, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory}}
  - {name: host, hostPath: {path: /data/host, type: DirectoryOrCreate}}
  - {name: claim, persistentVolumeClaim: {claimName: c-$1}}
  - {name: image, image: {reference: "box:1"}}
Y
}

# Whether a Pod runs, and has in its volumes what it is to have: `has POD CONFIG SECRET`.
has() {
    carob exec "p-$1" -- sh -ec "
        for file in config/a all/a; do test \$(cat /\$file) = $2; done
        test \$(cat /one) -le $2
        test \$(cat /secret/a) = $3
        test \$(cat /about/name) = p-$1
        test -s /all/token
        test -x /image/usr/bin/busybox
        test \$(stat -c %a:%g /disk) = 2777:77
        test \$(stat -c %a:%g /memory) = 2777:77
        touch /memory/file /host/p-$1"
}

# What was written to a Pod's volumes and synced before that was acknowledged.
has_marks() {
    carob exec "p-$1" -- sh -ec "for mark in disk claim deep host/$1; do test \$(cat /\$mark/mark) = $1; done"
}

mark() {
    carob exec "p-$1" -- sh -ec "
        mkdir -p /host/$1
        for mark in disk claim deep host/$1; do echo $1 | dd of=/\$mark/mark conv=fsync 2>/dev/null; done"
}

# Gives the ConfigMap or the Secret another value.
edit() {
    case $1 in
    config) carob patch configmap config --type merge -p "{\"data\":{\"a\":\"$2\"}}" ;;
    secret) carob patch secret secret --type merge -p "{\"stringData\":{\"a\":\"$2\"}}" ;;
    esac
}

value() {
    case $1 in
    config) carob get configmap config -o 'jsonpath={.data.a}' ;;
    secret) carob get secret secret -o 'jsonpath={.data.a}' | base64 -d ;;
    esac
}

mounted_once() {
    cut -d' ' -f5 /proc/self/mountinfo | grep ^/data/root | sort | uniq -d >/tmp/twice
    ! grep . /tmp/twice
}

# No directory is left of a Pod or a volume that is not there.
only_known_directories() {
    carob get pods -A -o 'jsonpath={range .items[*]}{.metadata.uid}{"\n"}{end}' | sort >/tmp/uids
    ls /data/root/state/kubelet/pods | sort >/tmp/directories
    diff /tmp/uids /tmp/directories || return 1
    for files in plain secret; do
        ls /data/root/state/kubelet/files/$files | sort >/tmp/directories
        diff /tmp/uids /tmp/directories || return 1
    done
    carob get pv -o 'jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}' | sort >/tmp/volumes
    ls /data/root/state/volumes | sort >/tmp/directories
    diff /tmp/volumes /tmp/directories
}

take_away() { carob delete "pod/p-$1" "pvc/c-$1" --ignore-not-found --timeout=60s >/dev/null; }

echo "vm: starting"
check engine_starts carob up -d --listen 127.0.0.1:6443
if [ "$config" = 0 ]; then
    tar -C / -cf /data/image.tar usr/bin/busybox usr/bin/sh usr/bin/cat usr/bin/dd usr/bin/mkdir usr/bin/sleep usr/bin/stat usr/bin/test usr/bin/touch bin lib lib64 etc
    check image_is_imported carob image import /data/image.tar box:1
    rm /data/image.tar
    carob create configmap config --from-literal=a=1
    carob create secret generic secret --from-literal=a=1
    config=1 secret=1
    echo "vm: config 1"
    echo "vm: secret 1"
fi

# What was acknowledged is there; one change more may be.
for what in config secret; do
    eval "old=\$$what"
    found=$(value "$what")
    check "${what}_${found}_is_$old" sh -c "test $found -ge $old && test $found -le $((old + 1))"
    eval "$what=$found"
done
for pod in $(seq $((going + 1)) "$made"); do
    check "pod_${pod}_runs_with_its_volumes" soon 90 has "$pod" "$config" "$secret"
    [ "$pod" -gt "$marked" ] || check "pod_${pod}_lost_nothing" has_marks "$pod"
done
check pods_are_listed carob get pods -o name
cp /tmp/said /tmp/pods
for pod in $(seq 1 "$gone"); do
    check "pod_${pod}_stays_gone" sh -c "! grep -x pod/p-$pod /tmp/pods"
done
for pod in $(seq $((gone + 1)) "$going"); do
    check "pod_${pod}_goes" take_away "$pod"
    echo "vm: gone $pod"
    gone=$pod
done
for pod in $(seq $((marked + 1)) "$made"); do
    check "pod_${pod}_is_written_to" mark "$pod"
    echo "vm: marked $pod"
done
check nothing_is_mounted_twice mounted_once
check no_directory_is_left soon 60 only_known_directories

if grep -q last /proc/cmdline; then
    carob delete pods --all --timeout=60s >/dev/null
    carob delete pvc --all --timeout=60s >/dev/null
    no_volumes() { ! ls /data/root/state/volumes | grep .; }
    check volumes_go soon 30 no_volumes
    check no_pod_leaves_a_directory soon 30 only_known_directories
    check engine_ends carob down --all
    check nothing_is_left sh -c '! grep /data/root /proc/mounts && ! pidof carob'
    check no_files_are_left sh -c '! find /data/root/state/kubelet/pods /data/root/state/kubelet/files -mindepth 1 2>/dev/null | grep .'
    echo "vm: through"
    exit
fi
echo "vm: intact"

while :; do
    for what in config secret; do
        eval "$what=\$(($what + 1)) new=\$$what"
        edit "$what" "$new" >/dev/null || exit
        echo "vm: $what $new"
    done
done &
while :; do
    made=$((made + 1))
    pod "$made" | carob apply -f - >/dev/null || exit
    echo "vm: made $made"
    soon 60 mark "$made" || exit
    echo "vm: marked $made"
    if [ $((made - gone)) -gt 3 ]; then
        going=$((gone + 1))
        echo "vm: going $going"
        take_away "$going" || exit
        gone=$going
        echo "vm: gone $gone"
    fi
done
