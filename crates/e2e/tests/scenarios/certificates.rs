//! Certificates that the cluster signs for users.

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::user::User;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use crate::Scenario;

/// With verbs that stock kubectl alone has.
pub(crate) const KUBECTL: &[(&str, Scenario)] = &[
    (
        "certificates::signed_users_are_known",
        signed_users_are_known,
    ),
    (
        "certificates::denied_requests_stay_unsigned",
        denied_requests_stay_unsigned,
    ),
    (
        "certificates::bad_requests_are_refused",
        bad_requests_are_refused,
    ),
];

/// A request for `user` in `group`, in PEM.
fn request(key: &KeyPair, user: &str, group: &str) -> anyhow::Result<String> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, group);
    params.distinguished_name.push(DnType::CommonName, user);
    Ok(params.serialize_request(key)?.pem()?)
}

fn manifest(name: &str, request: &str, signer: &str) -> String {
    let request = STANDARD.encode(request);
    format!(
        "\
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {{name: {name}}}
spec:
  request: {request}
  signerName: {signer}
  expirationSeconds: 3600
  usages: [client auth]
"
    )
}

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

/// Requests are in no namespace, so each scenario has names of its own.
fn name_of(user: &User, name: &str) -> String {
    format!("{}-{name}", user.namespace())
}

fn signed_users_are_known(user: &User) -> anyhow::Result<()> {
    let name = name_of(user, "jane");
    let key = KeyPair::generate()?;
    user.apply(&manifest(&name, &request(&key, "jane", "team")?, CLIENT))?;
    let row = user.run(&["get", "csr", &name, "--no-headers"])?;
    let cells: Vec<&str> = row.split_whitespace().collect();
    ensure!(
        cells[2..] == [CLIENT, "kubernetes-admin", "60m", "Pending"],
        "{row}"
    );
    let said = user.run(&["certificate", "approve", &name])?;
    let expected = format!("certificatesigningrequest.certificates.k8s.io/{name} approved\n");
    ensure!(said == expected, "{said}");
    let issued = "--for=jsonpath={.status.certificate}";
    let wait = ["wait", issued, &format!("csr/{name}"), "--timeout=60s"];
    user.engine().kubectl(wait)?;
    let row = user.run(&["get", "csr", &name, "--no-headers"])?;
    ensure!(row.trim_end().ends_with("Approved,Issued"), "{row}");

    let get = ["get", "csr", &name, "-o", "jsonpath={.status.certificate}"];
    let dir = tempfile::tempdir()?;
    let path = |file: &str| dir.path().join(file).to_string_lossy().into_owned();
    let (cert, own) = (path("jane.crt"), path("jane.key"));
    std::fs::write(&cert, STANDARD.decode(user.run(&get)?)?)?;
    std::fs::write(&own, key.serialize_pem())?;
    let kubeconfig = path("kubeconfig");
    std::fs::copy(user.engine().kubeconfig(), &kubeconfig)?;
    let with = ["--kubeconfig", &kubeconfig];
    let config = |words: &[&str]| user.run(&[words, &with].concat());
    let context = config(&[
        "config",
        "view",
        "-o",
        "jsonpath={.contexts[0].context.cluster}",
    ])?;
    config(&[
        "config",
        "set-credentials",
        "jane",
        "--client-certificate",
        &cert,
        "--client-key",
        &own,
    ])?;
    config(&["config", "set", "contexts.jane.user", "jane"])?;
    config(&["config", "set", "contexts.jane.cluster", &context])?;
    let jane = ["--kubeconfig", &kubeconfig, "--context=jane"];
    let ask = ["auth", "whoami", "-o", "jsonpath={.status.userInfo}"];
    let who = user.run(&[&ask[..], &jane].concat())?;
    ensure!(
        who.contains(r#""username":"jane""#) && who.contains(r#""team""#),
        "{who}"
    );
    let refused = user.fails(&[&["get", "nodes"][..], &jane].concat())?;
    let words = r#"User "jane" cannot list resource "nodes""#;
    ensure!(refused.stderr.contains(words), "{refused:?}");
    user.run(&["delete", "csr", &name]).map(drop)
}

fn denied_requests_stay_unsigned(user: &User) -> anyhow::Result<()> {
    let name = name_of(user, "joe");
    let key = KeyPair::generate()?;
    user.apply(&manifest(&name, &request(&key, "joe", "team")?, CLIENT))?;
    user.run(&["certificate", "deny", &name])?;
    let row = user.run(&["get", "csr", &name, "--no-headers"])?;
    ensure!(row.trim_end().ends_with("Denied"), "{row}");
    let described = user.run(&["describe", "csr", &name])?;
    ensure!(
        described.contains("Common Name:  joe") || described.contains("Common Name:    joe"),
        "{described}"
    );
    let get = ["get", "csr", &name, "-o", "jsonpath={.status.certificate}"];
    let unsigned = user.run(&get)?;
    ensure!(unsigned.is_empty(), "{unsigned}");
    user.run(&["delete", "csr", &name]).map(drop)
}

fn bad_requests_are_refused(user: &User) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let name = name_of(user, "bad");
    let master = request(&key, "joe", "system:masters")?;
    let good = request(&key, "joe", "team")?;
    for (request, signer, expected) in [
        (
            &*master,
            CLIENT,
            "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
        ),
        (
            "nothing",
            CLIENT,
            "PEM block type must be CERTIFICATE REQUEST",
        ),
        (
            &*good,
            "kubernetes.io/legacy-unknown",
            "the legacy signerName is not allowed via this API version",
        ),
    ] {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("request.yaml");
        std::fs::write(&file, manifest(&name, request, signer))?;
        let path = file.to_str().context("a path")?;
        let failed = user.fails(&["create", "-f", path])?;
        ensure!(failed.stderr.contains(expected), "{signer}: {failed:?}");
    }
    Ok(())
}
