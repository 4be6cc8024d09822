//! Apps that wait for their databases and use them: a Redis and a PostgreSQL behind Services.

use std::io::BufRead;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::user::User;
use serde_json::Value;

use crate::Scenario;
use crate::services::until;
use crate::sets::state;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    (
        "data_tier::a_service_of_ones_own_is_waited_for",
        a_service_of_ones_own_is_waited_for,
    ),
    (
        "data_tier::a_port_is_open_once_someone_is_ready",
        a_port_is_open_once_someone_is_ready,
    ),
    (
        "data_tier::data_outlives_the_databases_pod",
        data_outlives_the_databases_pod,
    ),
    (
        "data_tier::a_database_is_made_as_files_say",
        a_database_is_made_as_files_say,
    ),
];

/// What users are given to begin with.
const EXAMPLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../examples/app-with-databases.yaml"
);

/// Within what a Pod goes on when what it waits for is there: it looks five times a second.
const SOON: Duration = Duration::from_secs(10);

const WITHIN: &str = "--timeout=60s";

/// A Redis whose settings are in a ConfigMap, and which is ready when it is told to be.
const REDIS: &str = r#"
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {redis.conf: "maxmemory 2mb\nmaxmemory-policy allkeys-lru\n"}
---
apiVersion: v1
kind: Pod
metadata: {name: redis, labels: {app: redis}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: settings, configMap: {name: settings}}]
  containers:
  - name: redis
    image: redis:7
    command: [redis-server, /settings/redis.conf]
    ports: [{containerPort: 6379}]
    volumeMounts: [{name: settings, mountPath: /settings}]
    readinessProbe: {exec: {command: [sh, -c, "test -e /tmp/ready && redis-cli ping"]}, periodSeconds: 1, timeoutSeconds: 30}
"#;

/// A Pod that looks and asks.
const CLIENT: &str = r#"
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: client, image: "redis:7", command: [sleep, "3600"]}]
"#;

/// What a shell in a Pod says, without the last line's end.
fn shell(user: &User, namespace: &str, pod: &str, script: &str) -> anyhow::Result<String> {
    let shell = ["timeout", "20", "sh", "-c", script];
    let said = user.run(&[&["exec", "-n", namespace, pod, "--"], &shell[..]].concat())?;
    Ok(said.trim_end().to_owned())
}

/// Waits until an init container runs and says that it waits.
pub(crate) fn says_that_it_waits(user: &User, pod: &str, container: &str) -> anyhow::Result<()> {
    let objects = format!("pods?fieldSelector=metadata.name={pod}");
    user.watch("/api/v1", &objects).until("running", |pod| {
        let statuses = pod["status"]["initContainerStatuses"].as_array();
        let mut statuses = statuses.into_iter().flatten();
        let runs =
            |status: &&Value| status["name"] == container && !status["state"]["running"].is_null();
        let state = statuses.find(runs).map_or("another", |_| "running");
        state.to_owned()
    })?;
    let mut logs = user.start(&["logs", "-f", pod, "-c", container])?;
    let mut lines = logs.stdout()?.lines();
    let waits = lines.find(|line| matches!(line, Ok(line) if line.starts_with("waiting")));
    waits.with_context(|| format!("{container} does not wait"))??;
    Ok(())
}

/// The first look finds no name, the second the same name whole, the third nobody behind it.
fn a_service_of_ones_own_is_waited_for(user: &User) -> anyhow::Result<()> {
    let until_it = |look: &str| format!("until {look}; do echo waiting; sleep 0.2; done");
    let whole = format!("data-tier.{}.svc.cluster.local", user.namespace());
    let (short, whole, port) = (
        until_it("nslookup data-tier"),
        until_it(&format!("nslookup {whole}")),
        until_it("nc -z data-tier 6379"),
    );
    let app = format!(
        r#"
---
apiVersion: v1
kind: Pod
metadata: {{name: app}}
spec:
  terminationGracePeriodSeconds: 0
  initContainers:
  - {{name: short, image: "busybox:1.36", command: [sh, -c, "{short}"]}}
  - {{name: whole, image: "busybox:1.36", command: [sh, -c, "{whole}"]}}
  - {{name: port, image: "busybox:1.36", command: [sh, -c, "{port}"]}}
  containers: [{{name: app, image: "redis:7", command: [sleep, "3600"]}}]
"#
    );
    user.apply(&(app + REDIS))?;
    user.wait("redis", "Running", "0/1")?;
    user.wait("app", "Init:0/3", "0/1")?;
    says_that_it_waits(user, "app", "short")?;
    user.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: data-tier}, spec: {ports: [{port: 6379}]}}",
    )?;
    let applied = Instant::now();
    user.wait("app", "Init:2/3", "0/1")?;
    ensure!(applied.elapsed() < SOON, "it took {:?}", applied.elapsed());
    says_that_it_waits(user, "app", "port")?;
    let address = user.pod_ip("redis")?;
    user.apply(&format!(
        r#"
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: data-tier-1, labels: {{kubernetes.io/service-name: data-tier}}}}
addressType: IPv4
ports: [{{port: 6379}}]
endpoints: [{{addresses: ["{address}"]}}]
"#
    ))?;
    let applied = Instant::now();
    user.wait("app", "Running", "1/1")?;
    ensure!(applied.elapsed() < SOON, "it took {:?}", applied.elapsed());
    let asks = "redis-cli -h data-tier set greeting hello && redis-cli -h data-tier get greeting";
    let said = shell(user, user.namespace(), "app", asks)?;
    ensure!(said == "OK\nhello", "{said}");
    Ok(())
}

fn a_port_is_open_once_someone_is_ready(user: &User) -> anyhow::Result<()> {
    let (here, there) = (user.namespace(), format!("{}-b", user.namespace()));
    let service = "{apiVersion: v1, kind: Service, metadata: {name: data-tier}, spec: {selector: {app: redis}, ports: [{port: 6379}]}}";
    user.apply(&(service.to_owned() + REDIS + CLIENT))?;
    user.run(&["create", "namespace", &there])?;
    user.pipe(&["apply", "-n", &there, "-f", "-"], CLIENT)?;
    user.wait("redis", "Running", "0/1")?;
    user.wait("client", "Running", "1/1")?;
    let ready = ["wait", "-n", &there, "--for=condition=Ready", "pod/client"];
    user.run(&ready)?;
    let direct = format!(
        "until nc -z {} 6379; do sleep 0.05; done",
        user.pod_ip("redis")?
    );
    shell(user, here, "client", &direct)?;
    let (qualified, whole) = (
        format!("data-tier.{here}"),
        format!("data-tier.{here}.svc.cluster.local"),
    );
    let names = [
        (here, "data-tier"),
        (here, &qualified),
        (&there, &qualified),
        (&there, &whole),
    ];
    for (namespace, name) in names {
        let looks = format!("nc -v -z {name} 6379");
        let refused = user.fails(&["exec", "-n", namespace, "client", "--", "sh", "-c", &looks])?;
        ensure!(
            refused.stderr.contains("Connection refused"),
            "nobody is ready: {}",
            refused.stderr
        );
    }
    shell(user, here, "redis", "touch /tmp/ready")?;
    user.wait("redis", "Running", "1/1")?;
    for (namespace, name) in names {
        let looks = format!("until nc -z {name} 6379; do sleep 0.05; done");
        shell(user, namespace, "client", &looks)?;
        let counts = format!("redis-cli -u redis://{name}:6379 incr visits");
        shell(user, namespace, "client", &counts)?;
    }
    let visits = "redis-cli -h $DATA_TIER_SERVICE_HOST -p $DATA_TIER_SERVICE_PORT get visits";
    ensure!(shell(user, here, "client", visits)? == "4");
    let limit = "redis-cli -h data-tier config get maxmemory";
    ensure!(shell(user, here, "client", limit)? == "maxmemory\n2097152");
    let nobody = [
        "exec",
        "-n",
        &there,
        "client",
        "--",
        "nc",
        "-z",
        "data-tier",
        "6379",
    ];
    user.fails(&nobody)?;
    user.run(&["delete", "namespace", &there])?;
    Ok(())
}

/// The example, as it is.
fn data_outlives_the_databases_pod(user: &User) -> anyhow::Result<()> {
    let asks = |query: &str| {
        let psql = ["psql", "-At", "-c", query];
        user.run(
            &[
                &["exec", "deploy/app", "-c", "database-client", "--"],
                &psql[..],
            ]
            .concat(),
        )
    };
    let starts = |wanted: &str| {
        until(&format!("the app has started {wanted} times"), || {
            // The app is started once the databases are there, and then the next Pod of the app or the database.
            Ok(asks("select count(*) from starts").is_ok_and(|said| said.trim_end() == wanted))
        })
    };
    let has_started = || user.run(&["rollout", "status", "deploy/app", WITHIN]);
    user.run(&["apply", "-f", EXAMPLE])?;
    has_started()?;
    starts("1")?;
    let counted = ["redis-cli", "-h", "data-tier", "get", "starts"];
    let counted = [
        &["exec", "deploy/app", "-c", "cache-client", "--"],
        &counted[..],
    ]
    .concat();
    until("the app has counted its start", || {
        Ok(user.run(&counted)? == "1\n")
    })?;
    let wrong = "PGPASSWORD=wrong psql -c 'select 1'";
    let wrong = [
        "exec",
        "deploy/app",
        "-c",
        "database-client",
        "--",
        "sh",
        "-c",
        wrong,
    ];
    let refused = user.fails(&wrong)?.stderr;
    ensure!(
        refused.contains("password authentication failed for user \"app\""),
        "{refused}"
    );

    let mut database = user.watch("/api/v1", "pods?fieldSelector=metadata.name=database-0");
    user.run(&["delete", "pod", "database-0", "--wait=false"])?;
    for wanted in ["database-0 going", "database-0 new", "database-0 ready"] {
        database.until(wanted, state)?;
    }
    starts("1")?;
    let log = user.run(&["logs", "database-0"])?;
    ensure!(!log.contains("init process"), "it was all there: {log}");
    user.run(&["rollout", "restart", "deploy/app"])?;
    has_started()?;
    starts("2")
}

/// A password and queries in files, under another user than root; and nobody is let in without a password by mistake.
fn a_database_is_made_as_files_say(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: queries}
data: {first.sql: "create table shelf (thing text); insert into shelf values ('book');"}
---
apiVersion: v1
kind: Secret
metadata: {name: secret}
stringData: {password: it is one}
---
apiVersion: v1
kind: Pod
metadata: {name: database}
spec:
  securityContext: {runAsUser: 999, runAsGroup: 999, fsGroup: 999, runAsNonRoot: true}
  volumes:
  - {name: data, emptyDir: {}}
  - {name: queries, configMap: {name: queries}}
  - {name: secret, secret: {secretName: secret}}
  containers:
  - name: postgres
    image: postgres:16
    args: [-c, max_connections=7]
    env:
    - {name: POSTGRES_DB, value: shop}
    - {name: POSTGRES_PASSWORD_FILE, value: /secret/password}
    - {name: PGDATA, value: /data/here}
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: queries, mountPath: /docker-entrypoint-initdb.d}
    - {name: secret, mountPath: /secret}
    readinessProbe: {exec: {command: [pg_isready, -h, 127.0.0.1]}, periodSeconds: 1, timeoutSeconds: 30}
---
apiVersion: v1
kind: Pod
metadata: {name: open}
spec:
  restartPolicy: Never
  containers: [{name: postgres, image: "postgres:16"}]
"#,
    )?;
    user.wait("open", "Error", "0/1")?;
    let why = user.run(&["logs", "open"])?;
    ensure!(why.contains("password is not specified"), "{why}");
    user.wait("database", "Running", "1/1")?;
    // Who comes by the Pod's address has to show the password.
    let asks = "PGPASSWORD='it is one' psql -h $(hostname -i) -U postgres -At -c 'table shelf' -c 'show max_connections' shop";
    let said = shell(user, user.namespace(), "database", asks)?;
    ensure!(said == "book\n7", "{said}");
    Ok(())
}
