//! What holds of single rules, whatever they are asked (§16: 4, 10, 32, 40, 41).

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::Pod;
use lifecycle::{kinds, messages, resources, restart};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::properties::config;

/// Kind of a container, and its CPU request and limit in thousandths; 0 has none.
type Wants = (Kind, i64, i64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Init,
    Sidecar,
    App,
}

fn wants() -> impl Strategy<Value = Vec<Wants>> {
    let kind = prop_oneof![Just(Kind::Init), Just(Kind::Sidecar), Just(Kind::App)];
    let amount = || prop_oneof![1 => Just(0), 3 => 1..5_000_i64];
    let wants = (kind, amount(), amount());
    // There is always an app container.
    let apps = (Just(Kind::App), amount(), amount());
    (proptest::collection::vec(wants, 0..6), apps).prop_map(|(mut all, app)| {
        all.push(app);
        all
    })
}

fn pod(wants: &[Wants], overhead: i64) -> Pod {
    let list = |amount: i64| match amount {
        0 => json!({}),
        milli => json!({"cpu": format!("{milli}m")}),
    };
    let container = |(index, (kind, request, limit)): (usize, &Wants)| {
        let mut container = json!({"name": format!("c{index}"), "resources": {"requests": list(*request), "limits": list(*limit)}});
        if *kind == Kind::Sidecar {
            container["restartPolicy"] = "Always".into();
        }
        container
    };
    let of = |is_app: bool| -> Vec<Value> {
        let all = wants.iter().enumerate();
        let all = all.filter(|(_, w)| (w.0 == Kind::App) == is_app);
        all.map(container).collect()
    };
    let mut spec = json!({"initContainers": of(false), "containers": of(true)});
    if overhead > 0 {
        spec["overhead"] = list(overhead);
    }
    // As the server says: no generated Pod asks for memory, so none is Guaranteed.
    let asks = wants.iter().any(|(_, request, limit)| request + limit > 0);
    let class = if asks { "Burstable" } else { "BestEffort" };
    let pod = json!({"metadata": {"name": "p"}, "spec": spec, "status": {"qosClass": class}});
    serde_json::from_value(pod).expect("a pod")
}

fn requested(pod: &Pod) -> i64 {
    let cpu = resources::requests(pod);
    cpu.get("cpu").map_or(0, Quantity::milli_value)
}

/// The formula of §12.2, word for word.
fn formula(wants: &[Wants], overhead: i64) -> i64 {
    let of = |kind: Kind| wants.iter().filter(move |w| w.0 == kind).map(|w| w.1);
    let steady: i64 = of(Kind::App).sum::<i64>() + of(Kind::Sidecar).sum::<i64>();
    let mut sidecars = 0;
    let mut most = steady;
    for (kind, request, _) in wants {
        match kind {
            Kind::Init => most = most.max(request + sidecars),
            Kind::Sidecar => sidecars += request,
            Kind::App => {}
        }
    }
    most + overhead
}

fn policies() -> impl Strategy<Value = (Option<&'static str>, Option<&'static str>)> {
    let policy = proptest::option::of(proptest::sample::select(&["Always", "OnFailure", "Never"]));
    (policy.clone(), policy)
}

proptest! {
    #![proptest_config(config())]

    /// 4: in one look, app containers are started in the order of the spec, whatever their names.
    #[test]
    fn app_containers_start_in_the_order_of_the_spec(
        names in proptest::collection::btree_set("[a-z]{1,6}", 1..6),
        order in any::<u64>(),
        up in any::<u8>(),
    ) {
        let mut names: Vec<String> = names.into_iter().collect();
        let length = names.len();
        for index in 1..length {
            let with = usize::try_from(order >> (8 * index)).unwrap_or(0) % (index + 1);
            names.swap(index, with);
        }
        let builder = names.iter().fold(testkit::pod(), |pod, name| pod.app(name));
        let is_up = |index: usize| up & (1 << index) != 0;
        let mut seen = lifecycle::Observed {
            sandboxes: vec![testkit::sandbox(0, cri::SandboxState::Ready)],
            volumes: lifecycle::VolumesSeen::Ready,
            ..Default::default()
        };
        let running = names.iter().enumerate().filter(|(index, _)| is_up(*index));
        seen.containers = running.map(|(_, name)| testkit::running(name, 0, 0)).collect();
        let plan = lifecycle::plan(&builder.build(), &seen, testkit::at(1), &lifecycle::NodePolicy::default());
        let started: Vec<&str> = plan.steps.iter().filter_map(|step| match step {
            lifecycle::Step::Start(start) => Some(start.container.as_str()),
            _ => None,
        }).collect();
        let wanted = names.iter().enumerate().filter(|(index, _)| !is_up(*index));
        let wanted: Vec<&str> = wanted.map(|(_, name)| name.as_str()).collect();
        prop_assert_eq!(started, wanted);
    }

    /// 10: rules, container policy, Pod policy, exit code, and nothing else.
    #[test]
    fn a_restart_depends_on_policies_rules_and_the_code(
        (own, pods) in policies(),
        code in 0..256_i32,
        listed in proptest::collection::vec(0..256_i32, 0..4),
        is_in in any::<bool>(),
        image in "[a-z]{1,8}",
        phase in proptest::sample::select(&["Pending", "Running", "Unknown"]),
        count in 0..100_i32,
    ) {
        let mut container = json!({"name": "a", "image": "x"});
        if let Some(own) = own {
            container["restartPolicy"] = own.into();
            container["restartPolicyRules"] = json!([{"action": "Restart",
                "exitCodes": {"operator": if is_in { "In" } else { "NotIn" }, "values": listed}}]);
        }
        let plain = json!({"spec": {"restartPolicy": pods, "containers": [container]}});
        let mut other = plain.clone();
        other["spec"]["containers"][0]["image"] = image.into();
        other["metadata"] = json!({"name": "another", "generation": 7});
        other["status"] = json!({"phase": phase, "containerStatuses": [{"name": "a", "image": "x", "imageID": "x",
            "ready": true, "restartCount": count, "state": {"running": {}}}]});
        let answer = |pod: Value| {
            let pod: Pod = serde_json::from_value(pod).expect("a pod");
            let members = kinds::members(&pod);
            restart::restarts_after(&pod, &members[0], code)
        };
        let matches = own.is_some() && listed.contains(&code) == is_in;
        let by_policy = match own.or(pods) {
            Some("Never") => false,
            Some("OnFailure") => code != 0,
            _ => true,
        };
        prop_assert_eq!(answer(plain), matches || by_policy);
        prop_assert_eq!(answer(other), matches || by_policy);
    }

    /// 32: each message is at most 4096 bytes, those of a Pod 12288 together, and none is cut within a character.
    #[test]
    fn messages_share_what_there_is(
        files in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6_000), 1..8),
        is_log in any::<bool>(),
    ) {
        let mut total = 0;
        for file in &files {
            let message = if is_log {
                let mut log = b"2026-01-01T00:00:00Z stdout F ".to_vec();
                log.extend(file.iter().filter(|b| **b != b'\n'));
                log.push(b'\n');
                messages::from_log(&log)
            } else {
                messages::from_file(file)
            };
            let shown = messages::share(&message, files.len());
            prop_assert!(shown.len() <= 4_096, "{} bytes", shown.len());
            prop_assert!(message.starts_with(shown));
            total += shown.len();
        }
        prop_assert!(total <= 12_288, "{total} bytes of {} containers", files.len());
    }

    /// 40: the formula of §12.2, which is monotone, and the plain sum without regular init containers.
    #[test]
    fn a_pods_request_is_that_of_the_formula(
        wants in wants(),
        overhead in prop_oneof![Just(0), 1..500_i64],
        which in any::<prop::sample::Index>(),
        more in 1..1_000_i64,
    ) {
        let wants: Vec<Wants> = wants.into_iter().map(|(kind, request, _)| (kind, request, 0)).collect();
        let before = requested(&pod(&wants, overhead));
        prop_assert_eq!(before, formula(&wants, overhead));
        if wants.iter().all(|w| w.0 != Kind::Init) {
            let sum: i64 = wants.iter().map(|w| w.1).sum();
            prop_assert_eq!(before, sum + overhead);
        }
        let mut grown = wants.clone();
        grown[which.index(wants.len())].1 += more;
        prop_assert!(requested(&pod(&grown, overhead)) >= before);
    }

    /// 41: the whole Pod has a limit only where each of its containers has one.
    #[test]
    fn a_pods_limit_takes_everyones(wants in wants(), overhead in prop_oneof![Just(0), 1..500_i64]) {
        let quota = resources::pod(&pod(&wants, overhead)).cpu_quota_us;
        let is_limited = wants.iter().all(|w| w.2 > 0);
        prop_assert_eq!(quota.is_some(), is_limited, "{:?}", quota);
    }
}
