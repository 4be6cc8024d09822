use super::*;

const ID: &str = "sha256:1";

fn secret(name: &str, hash: &str) -> PullSecret {
    PullSecret {
        namespace: "n".into(),
        name: name.into(),
        uid: format!("uid of {name}"),
        hash: hash.into(),
    }
}

/// Whether a Pod with these secrets may use `reg.io/a:1`.
fn may(pulls: &mut Pulls, shown: &[PullSecret]) -> bool {
    let image = "reg.io/a:1";
    match pulls.verdict(&Verification::Pulled, image, ID) {
        Verdict::Allowed => true,
        Verdict::Holding(_) => pulls.present(image, ID, shown).is_some(),
        Verdict::Unknown => false,
    }
}

#[test]
fn what_was_pulled_with_a_secret_is_for_who_has_it() {
    let mut pulls = Pulls::default();
    assert!(may(&mut pulls, &[]), "nobody pulled it: it was put here");
    assert!(pulls.got("reg.io/a:2", ID, Some(secret("one", "x"))));
    assert!(!pulls.got("reg.io/a@sha256:2", ID, Some(secret("one", "x"))));
    let rows: [(&[PullSecret], bool); 5] = [
        (&[], false),
        (&[secret("two", "y")], false),
        (&[secret("two", "y"), secret("one", "x")], true),
        (&[secret("three", "x")], true),
        (&[secret("one", "newer")], true),
    ];
    for (shown, want) in rows {
        assert_eq!(may(&mut pulls.clone(), shown), want, "{shown:?}");
    }
    assert!(pulls.got("reg.io/a:1", ID, None), "it was public once");
    assert!(may(&mut pulls, &[]));
    assert!(!pulls.got("reg.io/a:1", ID, Some(secret("one", "x"))));
}

#[test]
fn good_credentials_are_learnt_wherever_they_are() {
    let mut pulls = Pulls::default();
    pulls.got("reg.io/a:1", ID, Some(secret("one", "x")));
    let mut present = |secret| pulls.present("reg.io/a:1", ID, &[secret]);
    assert_eq!(present(secret("two", "x")), Some(true));
    assert_eq!(present(secret("two", "x")), Some(false));
    assert_eq!(present(secret("two", "changed")), Some(true));
    assert_eq!(present(secret("four", "changed")), Some(true));
    for more in 0..MOST_NOTED {
        present(secret(&format!("more{more}"), "x"));
    }
    assert_eq!(present(secret("one too many", "x")), Some(false));
    let Verdict::Holding(known) = pulls.verdict(&Verification::Pulled, "reg.io/a:1", ID) else {
        panic!("it needs a secret");
    };
    assert_eq!(known.len(), MOST_NOTED);
}

#[test]
fn a_name_nobody_pulled_was_given_here() {
    let mut pulls = Pulls::default();
    pulls.got("docker.io/library/a:1", ID, Some(secret("one", "x")));
    let of = |image| pulls.verdict(&Verification::Pulled, image, ID);
    assert!(matches!(of("a"), Verdict::Holding(_)));
    assert_eq!(of("mine/a:1"), Verdict::Allowed);
    let of = |image| pulls.verdict(&Verification::Always, image, ID);
    assert_eq!(of("mine/a:1"), Verdict::Unknown);
}

#[test]
fn a_pull_that_was_cut_off_leaves_an_image_nobody_has_shown_credentials_for() {
    let known = |repository: &str| Record::from([(repository.to_owned(), Access::Everyone)]);
    let mut records = BTreeMap::from([("known".to_owned(), known("reg.io/b"))]);
    records.insert("damaged".to_owned(), Record::new());
    let cut_off = [("reg.io/a:1", ID), ("reg.io/b:1", "known")];
    let cut_off = cut_off.map(|(name, id)| (name.to_owned(), id.to_owned()));
    let resumed = Pulls::resumed(records, &cut_off);
    let of = |image, id| resumed.verdict(&Verification::Pulled, image, id);
    assert_eq!(of("reg.io/a:1", ID), Verdict::Unknown);
    assert_eq!(of("reg.io/b:1", "known"), Verdict::Allowed);
    assert_eq!(of("reg.io/c:1", "damaged"), Verdict::Unknown);
    assert_eq!(of("reg.io/c:1", "loaded"), Verdict::Allowed);
}

#[test]
fn pulls_under_way_are_counted() {
    let mut pulls = Pulls::default();
    assert!(pulls.begin("a:1"));
    assert!(!pulls.begin("a:1"));
    pulls.end("a:1");
    let verdict =
        |pulls: &Pulls| pulls.verdict(&Verification::Pulled, "a:1", ID) == Verdict::Allowed;
    assert!(!verdict(&pulls), "it is the agent that pulls it");
    assert_eq!(pulls.under_way(), ["a:1"]);
    pulls.end("a:1");
    pulls.end("a:1");
    assert!(verdict(&pulls));
    assert!(pulls.under_way().is_empty());
}

#[test]
fn images_that_are_gone_are_forgotten() {
    let mut pulls = Pulls::default();
    pulls.got("a:1", ID, None);
    pulls.got("b:1", "sha256:2", None);
    pulls.forget("sha256:2");
    assert_eq!(pulls.ids(), [ID]);
    assert!(pulls.record("sha256:2").is_none());
}

#[test]
fn policies_say_what_is_asked_about() {
    let mut pulls = Pulls::default();
    pulls.got("reg.io/a:1", "pulled", Some(secret("one", "x")));
    let read = |policy, list: &[&str]| {
        let list = list.iter().map(|&entry| entry.to_owned()).collect();
        Verification::read(policy, list).expect("a policy")
    };
    let listed = read(
        Some("NeverVerifyAllowlistedImages"),
        &["reg.io/b", "quay.io/c/*"],
    );
    let rows = [
        (read(None, &[]), "reg.io/a:1", "pulled", true),
        (read(None, &[]), "reg.io/a:1", "loaded", false),
        (
            read(Some("NeverVerify"), &[]),
            "reg.io/a:1",
            "pulled",
            false,
        ),
        (
            read(Some("AlwaysVerify"), &[]),
            "reg.io/a:1",
            "loaded",
            true,
        ),
        (listed.clone(), "reg.io/b:1", "loaded", false),
        (listed.clone(), "reg.io/bc:1", "loaded", true),
        (listed.clone(), "quay.io/c/d@sha256:1", "loaded", false),
        (listed, "quay.io/cd:1", "loaded", true),
    ];
    for (verification, image, id, want) in rows {
        let asks = pulls.verdict(&verification, image, id) != Verdict::Allowed;
        assert_eq!(asks, want, "{verification:?} {image} {id}");
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let rows = [
        (Some("Sometimes"), "", "\"Sometimes\" is none of"),
        (
            None,
            "reg.io/a",
            "needs imagePullCredentialsVerificationPolicy",
        ),
        (Some("NeverVerifyAllowlistedImages"), "a:1", "neither tag"),
        (Some("NeverVerifyAllowlistedImages"), "a*", "only patterns"),
        (
            Some("NeverVerifyAllowlistedImages"),
            "/*",
            "not the name of a repository",
        ),
        (
            Some("NeverVerifyAllowlistedImages"),
            " a",
            "not the name of a repository",
        ),
    ];
    for (policy, entry, want) in rows {
        let list = [entry].into_iter().filter(|entry| !entry.is_empty());
        let error = Verification::read(policy, list.map(str::to_owned).collect());
        let error = error.expect_err("refused");
        assert!(error.contains(want), "{error}");
    }
}
