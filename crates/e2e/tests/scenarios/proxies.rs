//! Network sidecars: a proxy on the way out, one on the way in, and two containers that want the same port.

use std::io::BufRead;

use anyhow::{Context, ensure};
use e2e::user::User;

use crate::Scenario;
use crate::shared::http_get;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("proxies::an_ambassador", an_ambassador),
    ("proxies::in_front_of_the_app", in_front_of_the_app),
    (
        "proxies::the_second_finds_its_port_taken",
        the_second_finds_its_port_taken,
    ),
];

fn an_ambassador(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: outside}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: web, image: "busybox:1.36", command: [sh, -c, "mkdir /www; echo from outside > /www/data; exec httpd -f -p 9090 -h /www"]}]
"#,
    )?;
    user.wait("outside", "Running", "1/1")?;
    let outside = user.pod_ip("outside")?;
    user.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: client}}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - name: ambassador
    image: nginx:1.27
    restartPolicy: Always
    env: [{{name: TARGET, value: "{outside}:9090"}}, {{name: LISTEN, value: "127.0.0.1:6000"}}]
    command: [sh, -c, "echo \"server {{ listen $LISTEN; location / {{ proxy_pass http://$TARGET; }} }}\" > /etc/nginx/conf.d/default.conf; exec nginx -g 'daemon off;'"]
  containers:
  - {{name: app, image: "busybox:1.36", command: [sh, -c, "until wget -q -O - http://localhost:6000/data; do sleep 0.1; done; sleep 3600"]}}
"#
    ))?;
    user.wait("client", "Running", "2/2")?;
    let mut following = user.start(&["logs", "client", "-c", "app", "-f"])?;
    let got = following
        .stdout()?
        .lines()
        .map_while(Result::ok)
        .find(|line| !line.starts_with("wget:"));
    ensure!(got.as_deref() == Some("from outside"), "{got:?}");
    let client = user.pod_ip("client")?;
    let beyond = std::net::TcpStream::connect((client.as_str(), 6000));
    ensure!(beyond.is_err(), "the Pod's loopback is its own");
    Ok(())
}

fn in_front_of_the_app(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: front}
data:
  default.conf: |
    server {
      listen 80;
      location /secret { return 403; }
      location / { proxy_pass http://127.0.0.1:8080; proxy_set_header X-Front yes; }
    }
---
apiVersion: v1
kind: Pod
metadata: {name: fronted}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: conf, configMap: {name: front}}]
  containers:
  - {name: app, image: "busybox:1.36", command: [sh, -c, "mkdir -p /www/cgi-bin; printf '#!/bin/sh\\necho; echo \"front: $HTTP_X_FRONT\"\\n' > /www/cgi-bin/show; chmod +x /www/cgi-bin/show; exec httpd -f -p 127.0.0.1:8080 -h /www"]}
  - {name: front, image: nginx, volumeMounts: [{name: conf, mountPath: /etc/nginx/conf.d}]}
"#,
    )?;
    user.wait("fronted", "Running", "2/2")?;
    let ip = user.pod_ip("fronted")?;
    user.run(&[
        "exec",
        "fronted",
        "-c",
        "app",
        "--",
        "sh",
        "-c",
        "until nc -z 127.0.0.1 8080; do sleep 0.05; done",
    ])?;
    let answer = http_get(&ip, 80, "/cgi-bin/show")?;
    ensure!(answer.ends_with("front: yes\n"), "{answer}");
    let refused = http_get(&ip, 80, "/secret")?;
    ensure!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    ensure!(
        std::net::TcpStream::connect((ip.as_str(), 8080)).is_err(),
        "the app is reached through its front only"
    );
    Ok(())
}

fn the_second_finds_its_port_taken(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: clash}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - {name: first, image: nginx}
  - {name: second, image: nginx, command: [sh, -c, "until nc -z 127.0.0.1 80; do sleep 0.05; done; exec nginx -g 'daemon off;'"]}
"#,
    )?;
    user.wait("clash", "Error", "1/2")?;
    let said = user.run(&["logs", "clash", "-c", "second"])?;
    ensure!(
        said.contains("bind() to 0.0.0.0:80 failed (98: Address already in use)"),
        "{said}"
    );
    let pod = user.pod("clash")?;
    let code = pod["status"]["containerStatuses"][1]["state"]["terminated"]["exitCode"].as_i64();
    ensure!(code.context("the second has ended")? == 1, "{code:?}");
    let answer = http_get(&user.pod_ip("clash")?, 80, "/")?;
    ensure!(
        answer.starts_with("HTTP/1.1 200"),
        "the first serves on: {answer}"
    );
    Ok(())
}
