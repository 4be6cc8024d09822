use std::process::Command;

use super::*;

/// Builds and pushes for real. Debian's root is left out: fetching it takes a minute.
#[test]
fn stand_ins_are_the_same_each_time_and_pushed_once() {
    let directory = std::env::temp_dir().join(format!("stand-ins-{}", std::process::id()));
    let (cache, again) = (directory.join("built"), directory.join("again"));
    let registry = Registry::start(&directory.join("registry")).unwrap();
    for recipe in recipes::small().unwrap() {
        let built = Built::of(&recipe, &cache).unwrap();
        assert_eq!(
            built.manifest,
            Built::of(&recipe, &again).unwrap().manifest,
            "{}",
            recipe.name
        );
        let (repository, tags) = recipe.repositories[0];
        let there = || {
            push::is_there(
                registry.address(),
                repository,
                tags[0],
                &digest(&built.manifest),
            )
            .unwrap()
        };
        assert!(!there(), "{}", recipe.name);
        built.push(registry.address(), repository, tags[0]).unwrap();
        assert!(there(), "{}", recipe.name);
        built.push(registry.address(), repository, tags[0]).unwrap();
    }
    assert!(push::manifest(registry.address(), "library/busybox", "broken", b"{}").is_err());
    fs::remove_dir_all(&directory).unwrap();
}

/// What is packed also runs, with nothing else around it.
#[test]
fn programs_find_their_libraries() {
    let directory = std::env::temp_dir().join(format!("stand-in-roots-{}", std::process::id()));
    let rows = [
        (
            "busybox",
            "id -u nobody && ls -d /tmp && nc -h 2>&1 | head -1 && wget --help 2>&1 | head -1",
            "65534\n/tmp\nOpenBSD netcat",
        ),
        (
            "alpine",
            ". /etc/os-release && echo $NAME",
            "Alpine Linux\n",
        ),
        (
            "nginx",
            "nginx -v 2>&1 && cat /usr/share/nginx/html/index.html",
            "nginx version: nginx/",
        ),
        ("pause", "sh -n /pause && echo it reads", "it reads\n"),
        ("redis", "redis-server --version", "Redis server v="),
        (
            "postgres",
            "psql --version && postgres --version",
            "psql (PostgreSQL) ",
        ),
    ];
    let cache = run::target_dir().join("images");
    let databases = databases::all(&recipes::busybox().unwrap(), &cache).unwrap();
    for recipe in recipes::small().unwrap().into_iter().chain(databases) {
        let (_, script, expected) = rows.iter().find(|(name, ..)| *name == recipe.name).unwrap();
        let root = directory.join(recipe.name);
        let (layer, _) = recipe.tree.layer().unwrap();
        tar::Archive::new(flate2::read::GzDecoder::new(layer.as_slice()))
            .unpack(&root)
            .unwrap();
        let environment = recipe.config["Env"].as_array().unwrap().iter();
        let environment = environment.filter_map(Value::as_str);
        let output = Command::new("/usr/sbin/chroot")
            .arg(&root)
            .args(["/bin/sh", "-c", script])
            .env_clear()
            .envs(environment.filter_map(|variable| variable.split_once('=')))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{}: {text} {}",
            recipe.name,
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(text.starts_with(expected), "{}: {text}", recipe.name);
    }
    fs::remove_dir_all(&directory).unwrap();
}
