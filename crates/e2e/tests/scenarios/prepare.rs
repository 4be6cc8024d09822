//! Init containers that prepare what the app needs: a file from the network, unpacked, and a certificate.

use anyhow::ensure;
use e2e::user::User;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("prepare::downloads_and_unpacks", downloads_and_unpacks),
    ("prepare::makes_a_certificate", makes_a_certificate),
];

/// Serves an archive of a site.
const SHOP: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: shop}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: httpd
    image: busybox:1.36
    command:
    - sh
    - -c
    - |
      mkdir -p /build/site/deep /www
      echo unpacked > /build/site/index.html
      echo deeper > /build/site/deep/page.html
      chmod 750 /build/site/deep
      ln -s index.html /build/site/start.html
      tar -C /build -czf /www/site.tar.gz site
      exec httpd -f -p 8080 -h /www
"#;

fn downloads_and_unpacks(user: &User) -> anyhow::Result<()> {
    user.apply(SHOP)?;
    user.wait("shop", "Running", "1/1")?;
    let shop = user.pod_ip("shop")?;
    user.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: site}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{{name: work, emptyDir: {{}}}}, {{name: site, emptyDir: {{}}}}]
  initContainers:
  - name: download
    image: alpine:3.20
    env: [{{name: SOURCE, value: "http://{shop}:8080/site.tar.gz"}}]
    command: [sh, -c, "until wget -q -O /work/site.tar.gz $SOURCE; do sleep 0.1; done"]
    resources: {{requests: {{cpu: 10m, memory: 16Mi}}, limits: {{memory: 32Mi}}}}
    volumeMounts: [{{name: work, mountPath: /work}}]
  - name: unpack
    image: busybox:1.36
    workingDir: /site
    command: [sh, -c, "tar -xzf /work/site.tar.gz --strip-components=1 && rm /work/site.tar.gz && chown -R 101:101 ."]
    volumeMounts: [{{name: work, mountPath: /work}}, {{name: site, mountPath: /site}}]
  containers:
  - name: web
    image: nginx:1.27
    volumeMounts: [{{name: site, mountPath: /usr/share/nginx/html, readOnly: true}}, {{name: work, mountPath: /work}}]
"#
    ))?;
    user.wait("site", "Running", "1/1")?;
    let ip = user.pod_ip("site")?;
    for (path, body) in [
        ("/", "unpacked\n"),
        ("/start.html", "unpacked\n"),
        ("/deep/page.html", "deeper\n"),
    ] {
        let answer = crate::shared::http_get(&ip, 80, path)?;
        ensure!(answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
    }
    let html = "/usr/share/nginx/html";
    let inside = |command: &str| user.run(&["exec", "site", "--", "sh", "-c", command]);
    ensure!(inside(&format!("stat -c '%a %u:%g' {html}/deep; ls /work"))? == "750 101:101\n");
    let refused = user.fails(&["exec", "site", "--", "touch", &format!("{html}/x")])?;
    ensure!(
        refused.stderr.contains("Read-only file system"),
        "{refused:?}"
    );
    Ok(())
}

fn makes_a_certificate(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: tls}
data:
  default.conf: |
    server {
      listen 443 ssl;
      ssl_certificate /tls/tls.crt;
      ssl_certificate_key /tls/tls.key;
      location / { return 200 "over TLS\n"; }
    }
---
apiVersion: v1
kind: Pod
metadata: {name: secure}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: tls, emptyDir: {medium: Memory}}, {name: conf, configMap: {name: tls}}]
  initContainers:
  - name: certificate
    image: alpine/openssl
    env: [{name: NAME, value: secure.example}]
    args: [req, -x509, -newkey, "rsa:2048", -nodes, -days, "1", -subj, /CN=$(NAME), -addext, "subjectAltName=DNS:$(NAME)", -keyout, /tls/tls.key, -out, /tls/tls.crt]
    volumeMounts: [{name: tls, mountPath: /tls}]
  - name: rights
    image: busybox:1.36
    command: [sh, -c, "chmod 400 /tls/tls.key && chown 101:101 /tls/tls.key"]
    volumeMounts: [{name: tls, mountPath: /tls}]
  containers:
  - {name: web, image: nginx, volumeMounts: [{name: tls, mountPath: /tls, readOnly: true}, {name: conf, mountPath: /etc/nginx/conf.d}]}
  - {name: client, image: alpine/openssl, command: [sleep, "3600"], volumeMounts: [{name: tls, mountPath: /tls, readOnly: true}]}
"#,
    )?;
    user.wait("secure", "Running", "2/2")?;
    let inside =
        |command: &str| user.run(&["exec", "secure", "-c", "client", "--", "sh", "-c", command]);
    ensure!(inside("stat -c '%a %u:%g' /tls/tls.key")? == "400 101:101\n");
    // The client trusts the certificate from the volume and nothing else.
    let answer = inside(
        "ask() { printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -connect 127.0.0.1:443 -servername secure.example -verify_hostname secure.example -CAfile /tls/tls.crt -verify_return_error 2>/tmp/said; }; until ask; do grep -q 'Connection refused' /tmp/said || { cat /tmp/said; exit 1; }; sleep 0.1; done",
    )?;
    ensure!(answer.ends_with("\r\n\r\nover TLS\n"), "{answer}");
    Ok(())
}
