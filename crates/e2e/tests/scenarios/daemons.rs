//! DaemonSets, which have a Pod on each node, and what becomes of Pods whose set is deleted.

use anyhow::ensure;
use e2e::user::{User, Watching};
use serde_json::Value;

use crate::Scenario;
use crate::sets::{
    NEW, OLD, db, get, images, revisions, rolled_out, says, state, template, uids, until,
};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("daemons::daemons_come_and_go", daemons_come_and_go),
    ("daemons::nodes_are_chosen", nodes_are_chosen),
    (
        "daemons::what_they_have_made_goes",
        what_they_have_made_goes,
    ),
    ("daemons::orphans_are_taken_over", orphans_are_taken_over),
];

/// A DaemonSet `agent`.
fn agent(spec: &str, image: &str) -> String {
    let (head, template) = (
        "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: agent}\nspec:",
        template("agent", image),
    );
    format!("{head}\n  {spec}{template}")
}

const AGENT_DONE: &str = "daemon set \"agent\" successfully rolled out";

/// The UID of the only Pod, which runs this image.
fn only_pod(user: &User, image: &str) -> anyhow::Result<String> {
    let (uid, seen) = (uids(user)?, images(user)?);
    ensure!(seen == image, "images {seen:?} of Pods {uid:?}");
    Ok(uid)
}

fn node(user: &User) -> anyhow::Result<String> {
    get(user, "nodes", "{.items[0].metadata.name}")
}

fn daemons_come_and_go(user: &User) -> anyhow::Result<()> {
    let mut pods = user.watch("/api/v1", "pods");
    let ready = |pods: &mut Watching| {
        pods.until("ready", |pod| {
            let state = state(pod);
            let word = state.split_whitespace().nth(1);
            word.unwrap_or_default().to_owned()
        })
    };
    let made = user.apply(&agent("", OLD))?;
    ensure!(made == "daemonset.apps/agent created\n", "{made}");
    ready(&mut pods)?;
    rolled_out(user, "ds/agent", AGENT_DONE)?;
    let first = only_pod(user, OLD)?;
    let on = get(user, "pods", "{.items[*].spec.nodeName}")?;
    ensure!(on == node(user)?, "{on}");
    user.wait_event("Normal SuccessfulCreate agent: Created pod: agent-")?;
    let row = user.run(&["get", "ds", "agent", "--no-headers"])?;
    let numbers: Vec<&str> = row.split_whitespace().skip(1).take(5).collect();
    ensure!(numbers == ["1"; 5], "{row}");

    user.run(&["delete", "pods", "--all"])?;
    pods.until_gone()?;
    ready(&mut pods)?;
    let second = only_pod(user, OLD)?;
    ensure!(first != second);

    let main = format!("main={NEW}");
    let image = ["set", "image", "ds/agent", &main];
    says(user, &image, "daemonset.apps/agent image updated")?;
    rolled_out(user, "ds/agent", AGENT_DONE)?;
    let third = only_pod(user, NEW)?;
    ensure!(revisions(user, "ds/agent")? == ["1", "2"]);
    let undo = ["rollout", "undo", "ds/agent", "--to-revision=1"];
    says(user, &undo, "daemonset.apps/agent rolled back")?;
    rolled_out(user, "ds/agent", AGENT_DONE)?;
    let fourth = only_pod(user, OLD)?;
    ensure!(third != fourth && second != fourth);
    ensure!(revisions(user, "ds/agent")? == ["2", "3"]);
    let restart = ["rollout", "restart", "ds/agent"];
    says(user, &restart, "daemonset.apps/agent restarted")?;
    rolled_out(user, "ds/agent", AGENT_DONE)?;
    ensure!(only_pod(user, OLD)? != fourth);
    ensure!(revisions(user, "ds/agent")? == ["2", "3", "4"]);
    Ok(())
}

/// A label of the node that nobody else has, until it is dropped.
struct Label<'a> {
    user: &'a User,
    node: String,
    is_set: bool,
}

impl Label<'_> {
    fn change(&mut self, is_set: bool) -> anyhow::Result<()> {
        let sign = if is_set { "=yes" } else { "-" };
        let change = format!("{}{sign}", self.user.namespace());
        self.user.run(&["label", "node", &self.node, &change])?;
        self.is_set = is_set;
        Ok(())
    }
}

impl Drop for Label<'_> {
    fn drop(&mut self) {
        if self.is_set
            && let Err(error) = self.change(false)
        {
            eprintln!("{error:#}");
        }
    }
}

fn nodes_are_chosen(user: &User) -> anyhow::Result<()> {
    let mut pods = user.watch("/api/v1", "pods");
    let selected = agent("", OLD).replace(
        "    spec:\n",
        &format!(
            "    spec:\n      nodeSelector: {{{}: \"yes\"}}\n",
            user.namespace()
        ),
    );
    user.apply(&selected)?;
    until(user, "ds/agent", ".status.observedGeneration", "1")?;
    rolled_out(user, "ds/agent", AGENT_DONE)?;
    let wanted = "{.status.desiredNumberScheduled}";
    ensure!(get(user, "ds/agent", wanted)? == "0");
    ensure!(uids(user)?.is_empty());
    let mut label = Label {
        user,
        node: node(user)?,
        is_set: false,
    };
    label.change(true)?;
    until(user, "ds/agent", ".status.numberAvailable", "1")?;
    only_pod(user, OLD)?;
    label.change(false)?;
    pods.until_gone()?;
    until(user, "ds/agent", ".status.desiredNumberScheduled", "0")?;
    ensure!(uids(user)?.is_empty());
    Ok(())
}

/// A set of each kind; waits for their three Pods.
fn both(user: &User) -> anyhow::Result<()> {
    user.apply(&db("replicas: 2", OLD))?;
    user.apply(&agent("", OLD))?;
    until(user, "sts/db", ".status.readyReplicas", "2")?;
    until(user, "ds/agent", ".status.numberReady", "1")?;
    let kept = get(user, "controllerrevisions", "{.items[*].metadata.name}")?;
    ensure!(kept.split(' ').count() == 2, "{kept}");
    Ok(())
}

fn what_they_have_made_goes(user: &User) -> anyhow::Result<()> {
    both(user)?;
    let mut pods = user.watch("/api/v1", "pods");
    let mut kept = user.watch("/apis/apps/v1", "controllerrevisions");
    let seen = |object: &Value| object["kind"].as_str().unwrap_or_default().to_owned();
    pods.until("Pod", seen)?;
    kept.until("ControllerRevision", seen)?;
    user.run(&["delete", "sts/db", "ds/agent"])?;
    for _ in 0..3 {
        pods.until_gone()?;
    }
    for _ in 0..2 {
        kept.until_gone()?;
    }
    let left = user.run(&["get", "pods,controllerrevisions", "-o", "name"])?;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

fn orphans_are_taken_over(user: &User) -> anyhow::Result<()> {
    both(user)?;
    let all = "pods,controllerrevisions";
    let before = get(user, all, "{.items[*].metadata.uid}")?;
    user.run(&["delete", "sts/db", "ds/agent", "--cascade=orphan"])?;
    let owners = get(user, all, "{.items[*].metadata.ownerReferences[*].uid}")?;
    ensure!(owners.is_empty(), "{owners}");
    ensure!(get(user, all, "{.items[*].metadata.uid}")? == before);

    user.apply(&db("replicas: 2", OLD))?;
    user.apply(&agent("", OLD))?;
    for (set, label) in [("sts/db", "app=db"), ("ds/agent", "app=agent")] {
        let owner = get(user, set, "{.metadata.uid}")?;
        let owned = format!("--for=jsonpath={{.metadata.ownerReferences[0].uid}}={owner}");
        user.run(&["wait", &owned, all, "-l", label, "--timeout=60s"])?;
    }
    until(user, "sts/db", ".status.updatedReplicas", "2")?;
    until(user, "ds/agent", ".status.updatedNumberScheduled", "1")?;
    let after = get(user, all, "{.items[*].metadata.uid}")?;
    ensure!(after == before, "{before} became {after}");
    Ok(())
}
