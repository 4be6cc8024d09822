# An engine and a file server in one machine. See nfs.rs.

mounts() { grep -c ' nfs4\? ' /proc/mounts; }
has_mounts() { [ "$(mounts)" = "$1" ]; }
told() { carob get events -A | grep -q "$1"; }

# The server: its own network, one export, for everyone at the other end. Numbers are flags (insecure ports, no subtree check, root of
# NFS 4), and the time at which entries of caches end.
mkdir -p /data/export/team /data/root
echo from-server >/data/export/team/greeting
ip link add name uplink type veth
unshare -n sh -c 'echo $$ >/run/server; exec sleep 1000000' &
soon 10 test -s /run/server
server=$(cat /run/server)
ip link set veth0 netns "$server"
ip addr add 10.9.0.2/24 dev uplink
ip link set uplink up
ip route add default via 10.9.0.1
on_server() { nsenter -t "$server" -n sh -c "$1"; }
on_server '
    ip addr add 10.9.0.1/24 dev veth0; ip link set veth0 up; ip link set lo up
    mount -t nfsd nfsd /proc/fs/nfsd
    echo 10 >/proc/fs/nfsd/nfsv4leasetime
    echo 10 >/proc/fs/nfsd/nfsv4gracetime
    echo "-2 -3 +4 +4.1 +4.2" >/proc/fs/nfsd/versions
    echo "nfsd 10.9.0.2 2147483647 pods" >/proc/net/rpc/auth.unix.ip/channel
    printf "%s\n" "pods /data/export 2147483647 9218 65534 65534 0" >/proc/net/rpc/nfsd.export/channel
    printf "%s\n" "pods 1 \\x00000000 2147483647 /data/export" >/proc/net/rpc/nfsd.fh/channel
    echo "tcp 2049" >/proc/fs/nfsd/portlist
    echo 4 >/proc/fs/nfsd/threads
'

check engine_starts carob up -d --listen 127.0.0.1:6443
tar -C / -cf /data/image.tar usr/bin bin sbin lib lib64 etc
carob image import /data/image.tar box:1
rm /data/image.tar
cat >/data/pods.yaml <<'Y'
apiVersion: v1
kind: PersistentVolume
metadata: {name: team}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteMany]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: ""
  mountOptions: [nfsvers=4.1, "timeo=50,retrans=1"]
  nfs: {server: 10.9.0.1, path: /team}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: team}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: ""
  volumeName: team
  resources: {requests: {storage: 1Gi}}
---
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {fsGroup: 77}
  containers:
  - {name: c, image: "box:1", command: [sh, -c, "mkdir -p /v/sub; echo from-a >/v/sub/a; while :; do head -c 65536 /dev/zero; sleep 0.1; done >/v/sub/big"], volumeMounts: [{name: v, mountPath: /v}]}
  volumes: [{name: v, persistentVolumeClaim: {claimName: team}}]
---
apiVersion: v1
kind: Pod
metadata: {name: b}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: "box:1", command: [sleep, "1000000"], volumeMounts: [{name: v, mountPath: /v}, {name: v, mountPath: /s, subPath: sub/deep}]}
  volumes: [{name: v, persistentVolumeClaim: {claimName: team}}]
---
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: "box:1", command: [sleep, "1000000"], volumeMounts: [{name: v, mountPath: /v}]}
  volumes: [{name: v, nfs: {server: 10.9.0.1, path: /team, readOnly: true}}]
Y
carob apply -f /data/pods.yaml
check pods_start_with_exports carob wait --for=condition=Ready --timeout=120s pod/a pod/b pod/reader
check claims_versions_are_mounted sh -c 'grep -c "/team .*vers=4.1.*timeo=50" /proc/mounts'
check versions_are_negotiated sh -c 'grep -c "/team .*vers=4.2" /proc/mounts'
check servers_files_are_seen sh -c 'carob --root /data/root exec reader -- grep from-server /v/greeting'
check files_cross_between_pods soon 20 carob exec b -- grep from-a /v/sub/a
check files_reach_the_server grep from-a /data/export/team/sub/a
check files_are_given_to_no_group sh -c 'test "$(stat -c %g /data/export/team/greeting)" = 0'
check sub_paths_are_made carob exec b -- sh -c 'echo deep >/s/file'
check sub_paths_are_of_the_export grep deep /data/export/team/sub/deep/file
check read_only_is_refused sh -c '! /usr/bin/carob --root /data/root exec reader -- touch /v/no && ! test -e /data/export/team/no'

# A crash of the engine: what is mounted stays, once.
before=$(mounts)
engine=$(cat /data/root/run/engine.lock)
kill -9 "$engine"
check engine_was_killed soon 20 test ! -d "/proc/$engine"
check engine_starts_again carob up -d --listen 127.0.0.1:6443
check exports_outlive_the_engine soon 60 carob exec a -- sh -c 'echo more >>/v/sub/a'
check nothing_is_mounted_twice has_mounts "$before"

# Of those that share an export the last takes it away.
check pods_go_one_by_one carob delete pod reader --timeout=30s
check the_others_keep_the_export carob exec b -- grep from-a /v/sub/a

# What cannot be mounted is told of, and its Pod can go: no such path, nobody there, one who takes connections and says nothing.
on_server 'nc -ll -p 2050 -e sleep 1000000 </dev/null >/dev/null 2>&1 &'
cat >/data/bad.yaml <<'Y'
apiVersion: v1
kind: Pod
metadata: {name: missing}
spec:
  containers: [{name: c, image: "box:1", command: [sleep, "1"], volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, nfs: {server: 10.9.0.1, path: /none}}]
---
apiVersion: v1
kind: Pod
metadata: {name: nobody}
spec:
  containers: [{name: c, image: "box:1", command: [sleep, "1"], volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, nfs: {server: 10.9.0.77, path: /team}}]
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: silent}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteMany]
  mountOptions: [vers=4.2, port=2050]
  nfs: {server: 10.9.0.1, path: /team}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: silent}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: ""
  volumeName: silent
  resources: {requests: {storage: 1Gi}}
---
apiVersion: v1
kind: Pod
metadata: {name: silent}
spec:
  containers: [{name: c, image: "box:1", command: [sleep, "1"], volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, persistentVolumeClaim: {claimName: silent}}]
Y
carob apply -f /data/bad.yaml
check missing_paths_are_told_of soon 30 told '10.9.0.1:/none: reason given by server: No such file or directory'
check absent_servers_are_told_of soon 30 told 'mount failed: 10.9.0.77:/team: 10.9.0.77:2049 cannot be reached'
check the_kernel_is_asked soon 30 sh -c 'grep -l "^nfs$" /proc/[0-9]*/task/*/comm'
check pods_without_their_exports_go carob delete pod missing nobody silent --timeout=30s

# The server vanishes, with one Pod writing to it: what it waits for cannot be killed.
on_server 'ip link set veth0 down'
check someone_waits_for_the_server soon 30 sh -c 'cat /proc/[0-9]*/stack 2>/dev/null | grep folio_wait_writeback'
carob delete pod a --wait=false
check pods_wait_with_those_that_stay sh -c 'sleep 15; carob --root /data/root get pod a | grep Terminating'
check pods_go_without_the_server carob delete pod a b --timeout=120s
check nothing_stays_mounted soon 10 has_mounts 0
carob delete pvc team
check volumes_are_kept soon 10 sh -c 'carob --root /data/root get pv team | grep Released'
check engine_ends carob down --all
check nothing_is_left sh -c '! grep /data/root /proc/mounts && ! pidof carob'
echo "vm: through"
