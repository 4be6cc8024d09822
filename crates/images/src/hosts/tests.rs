use super::*;

fn show(endpoint: &Endpoint) -> String {
    let mut text = format!(
        "{}://{}{}",
        endpoint.scheme, endpoint.authority, endpoint.prefix
    );
    for (yes, word) in [
        (endpoint.pull, "pull"),
        (endpoint.resolve, "resolve"),
        (endpoint.skip_verify, "skip_verify"),
    ] {
        if yes {
            text = format!("{text} {word}");
        }
    }
    match &endpoint.namespace {
        Some(namespace) => format!("{text} ns={namespace}"),
        None => text,
    }
}

fn parsed(text: &str, domain: &str) -> Result<Vec<String>, String> {
    Ok(parse(text, Path::new("/c"), domain)?
        .iter()
        .map(show)
        .collect())
}

#[test]
fn hosts_files_read_as_in_containerd() {
    let rows = [
        (
            "",
            "docker.io",
            vec!["https://registry-1.docker.io/v2 pull resolve"],
        ),
        (
            "",
            "localhost:5000",
            vec!["http://localhost:5000/v2 pull resolve"],
        ),
        (
            "",
            "127.0.0.1:5000",
            vec!["http://127.0.0.1:5000/v2 pull resolve"],
        ),
        ("", "[::1]:5000", vec!["http://[::1]:5000/v2 pull resolve"]),
        ("", "quay.io", vec!["https://quay.io/v2 pull resolve"]),
        (
            "server = \"https://registry-1.docker.io\"",
            "docker.io",
            vec!["https://registry-1.docker.io/v2 pull resolve"],
        ),
        (
            "[host.\"http://127.0.0.1:5000\"]\ncapabilities = [\"pull\", \"resolve\"]",
            "docker.io",
            vec![
                "http://127.0.0.1:5000/v2 pull resolve ns=docker.io",
                "https://registry-1.docker.io/v2 pull resolve",
            ],
        ),
        (
            "server = \"http://127.0.0.1:5000\"\n[host.\"https://z.io\"]\ncapabilities = [\"pull\"]\n[host.\"https://a.io\"]\nskip_verify = true",
            "quay.io",
            vec![
                "https://z.io/v2 pull ns=quay.io",
                "https://a.io/v2 pull resolve skip_verify ns=quay.io",
                "http://127.0.0.1:5000/v2 pull resolve ns=quay.io",
            ],
        ),
        (
            "[host.\"https://m.io/v2/hub\"]\noverride_path = true\n[host.\"https://m.io/cache\"]\n[host.\"m.io:8443/v2/\"]",
            "docker.io",
            vec![
                "https://m.io/v2/hub pull resolve ns=docker.io",
                "https://m.io/cache/v2 pull resolve ns=docker.io",
                "https://m.io:8443/v2 pull resolve ns=docker.io",
                "https://registry-1.docker.io/v2 pull resolve",
            ],
        ),
    ];
    for (text, domain, expected) in rows {
        assert_eq!(parsed(text, domain).unwrap(), expected, "{text}");
    }
}

#[test]
fn malformed_hosts_files_say_what_is_wrong() {
    let rows = [
        (
            "[host.\"https://a.io\"]\ncapabilities = [\"fly\"]",
            "unknown capability fly",
        ),
        ("[host.\"ftp://a.io\"]", "invalid scheme in \"ftp://a.io\""),
        ("dial_timeout = \"soon\"", "invalid dial_timeout \"soon\""),
        (
            "client = 7",
            "invalid client: expected a file, files, or pairs of certificate and key",
        ),
        (
            "[header]\n\"bad name\" = \"x\"",
            "invalid header \"bad name\"",
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(parsed(text, "a.io").unwrap_err(), expected, "{text}");
    }
    assert!(parsed("server = ", "a.io").is_err());
}

#[test]
fn files_headers_and_time_outs_are_taken() {
    let text = r#"
        [host."https://a.io"]
        ca = ["one.crt", "/abs/two.crt"]
        client = [["a.cert", "a.key"], ["both.pem", ""]]
        dial_timeout = "1m1.5s"
        [host."https://a.io".header]
        x-one = "1"
        x-many = ["2", "3"]
        [host."https://b.io"]
        ca = "b.crt"
        client = "both.pem"
    "#;
    let found = parse(text, Path::new("/c"), "docker.io").unwrap();
    assert_eq!(
        found[0].ca,
        [PathBuf::from("/c/one.crt"), PathBuf::from("/abs/two.crt")]
    );
    assert_eq!(
        found[0].client,
        [
            ("/c/a.cert".into(), "/c/a.key".into()),
            ("/c/both.pem".into(), "/c/both.pem".into())
        ]
    );
    assert_eq!(found[0].dial_timeout, Duration::from_millis(61_500));
    let headers: Vec<_> = found[0]
        .headers
        .iter()
        .map(|(k, v)| format!("{k}={}", v.to_str().unwrap()))
        .collect();
    assert_eq!(headers, ["x-one=1", "x-many=2", "x-many=3"]);
    assert_eq!(
        found[1].client,
        [("/c/both.pem".into(), "/c/both.pem".into())]
    );
}

#[test]
fn the_nearest_directory_wins() {
    let root = tempfile::tempdir().unwrap();
    let config = HostsConfig {
        certs_dir: Some(root.path().to_owned()),
        ..HostsConfig::default()
    };
    let first = |domain: &str| endpoints(&config, domain).unwrap()[0].authority.clone();
    let write = |name: &str| {
        fs::create_dir(root.path().join(name)).unwrap();
        fs::write(
            root.path().join(name).join("hosts.toml"),
            format!("[host.\"http://{name}.test\"]"),
        )
        .unwrap();
    };
    assert_eq!(first("reg.io:8443"), "reg.io:8443");
    write("_default");
    assert_eq!(first("reg.io:8443"), "_default.test");
    write("reg.io_8443_");
    assert_eq!(first("reg.io:8443"), "reg.io_8443_.test");
    assert_eq!(first("docker.io"), "_default.test");
    fs::create_dir(root.path().join("old.io")).unwrap();
    for file in ["x.crt", "me.cert", "me.key"] {
        fs::write(root.path().join("old.io").join(file), "").unwrap();
    }
    let old = &endpoints(&config, "old.io").unwrap()[0];
    assert_eq!(old.ca, [root.path().join("old.io/x.crt")]);
    assert_eq!(
        old.client,
        [(
            root.path().join("old.io/me.cert"),
            root.path().join("old.io/me.key")
        )]
    );
}
