//! Events in, writes out.

use informer::{FoundService, Key, key_of};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::super::state::{Legacy, State, Work, Written};
use super::{endpoints_of, pod, service};

/// A server that writes what it is asked to, and tells of it when it is told to.
#[derive(Default)]
struct Server {
    state: State,
    revision: u64,
    names: u32,
    untold: Vec<Event<EndpointSlice>>,
    untold_endpoints: Vec<Event<Endpoints>>,
}

/// A Service as a watch of it has it.
fn found(service: &Service) -> FoundService {
    serde_json::from_value(serde_json::to_value(service).unwrap()).unwrap()
}

fn key() -> Key {
    ("ns".into(), "web".into())
}

impl Server {
    /// Watches have read what there is: nothing.
    fn new() -> Self {
        let mut server = Server::default();
        for event in [Event::Init, Event::InitDone] {
            server.state.service(event);
        }
        server.list_kept();
        server
    }

    fn list_kept(&mut self) {
        for event in [Event::Init, Event::InitDone] {
            self.state.slice(event);
        }
        for event in [Event::Init, Event::InitDone] {
            self.state.endpoints(event);
        }
    }

    fn list_pods(&mut self) {
        self.state.pod(Event::Init);
        self.state.pod(Event::InitDone);
    }

    fn stamp<K: Resource>(&mut self, object: &mut K) {
        self.revision += 1;
        object.meta_mut().resource_version = Some(self.revision.to_string());
    }

    fn service(&mut self, mut service: Service) {
        self.stamp(&mut service);
        self.state.service(Event::Apply(found(&service)));
    }

    fn pod(&mut self, changes: Value) {
        let mut pod: Pod = pod("a", "10.1.0.7", changes);
        self.stamp(&mut pod);
        self.state.pod(Event::Apply(pod));
    }

    /// The only thing to be written now.
    fn work(&mut self) -> Option<Work> {
        let mut all = self.state.take();
        assert!(all.len() <= 1, "{all:?}");
        let (of, work) = all.pop()?;
        assert_eq!(of, key());
        Some(work)
    }

    /// Carries it out; the watches tell later.
    fn write(&mut self, work: Work) {
        let mut written = Written::default();
        let delete = work.slices.delete;
        for (is_new, mut slice) in (work.slices.create.into_iter().map(|s| (true, s)))
            .chain(work.slices.change.into_iter().map(|s| (false, s)))
        {
            self.stamp(&mut slice);
            if is_new {
                self.names += 1;
                slice.metadata.name = Some(format!("web-{}", self.names));
                slice.metadata.uid = slice.metadata.name.clone();
            }
            written.slices = self.revision;
            self.untold.push(Event::Apply(slice));
        }
        for mut slice in delete {
            self.stamp(&mut slice);
            written
                .deleted
                .push((key_of(&slice), slice.metadata.uid.clone()));
            self.untold.push(Event::Delete(slice));
        }
        if let Legacy::Create(mut endpoints) | Legacy::Change(mut endpoints) = work.legacy {
            self.stamp(&mut *endpoints);
            written.legacy = self.revision;
            self.untold_endpoints.push(Event::Apply(*endpoints));
        }
        self.state.landed(key(), written);
    }

    fn tell(&mut self) {
        for event in std::mem::take(&mut self.untold) {
            self.state.slice(event);
        }
        for event in std::mem::take(&mut self.untold_endpoints) {
            self.state.endpoints(event);
        }
    }

    fn settle(&mut self) {
        while let Some(work) = self.work() {
            self.write(work);
            self.tell();
        }
    }

    /// A Service with one ready Pod, and all that has to be written.
    fn settled() -> Self {
        let mut server = Server::new();
        server.service(service(json!({})));
        server.list_pods();
        server.pod(json!({}));
        server.settle();
        server
    }
}

fn unready() -> Value {
    json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})
}

#[test]
fn nothing_is_watched_without_a_service_that_selects() {
    let mut server = Server::default();
    assert!(!server.state.wants_pods() && server.state.wants_slices());
    server = Server::new();
    assert!(server.state.take().is_empty());
    assert!(!server.state.wants_pods() && !server.state.wants_slices());
    server.state.forget_slices();
    server.service(service(json!({"selector": null})));
    assert!(!server.state.wants_pods() && !server.state.wants_slices());
    server.service(service(json!({})));
    assert!(server.state.wants_pods() && server.state.wants_slices());
    // Not before all of them have told what there is.
    assert_eq!(server.work(), None);
    server.list_kept();
    assert_eq!(server.work(), None);
    server.list_pods();
    assert!(server.work().is_some());
}

#[test]
fn what_does_not_matter_writes_nothing() {
    let mut server = Server::settled();
    server.pod(json!({"metadata": {"annotations": {"a": "b"}}, "status": {"phase": "Running"}}));
    assert_eq!(server.work(), None);
    server.service(service(json!({"sessionAffinity": "ClientIP"})));
    assert_eq!(server.work(), None);
    server.pod(unready());
    let work = server.work().unwrap();
    assert_eq!(work.slices.change.len(), 1);
    assert!(matches!(work.legacy, Legacy::Change(_)));
    // And so does a Pod that is none of its any more.
    server.write(work);
    server.tell();
    server.pod(json!({"metadata": {"labels": {"app": "other"}}}));
    let work = server.work().unwrap();
    assert!(endpoints_of(&work.slices.change[0]).is_empty());
}

#[test]
fn a_status_that_cannot_be_read_does_not_matter() {
    let mut service = serde_json::to_value(service(json!({}))).unwrap();
    service["status"] =
        json!({"conditions": [{"type": "Mine", "status": "True", "lastTransitionTime": null}]});
    assert!(serde_json::from_value::<Service>(service.clone()).is_err());
    let found: FoundService = serde_json::from_value(service).unwrap();
    let mut server = Server::new();
    server.state.service(Event::Apply(found));
    assert!(server.state.wants_pods());
}

#[test]
fn one_write_at_a_time_on_what_the_watches_have_shown() {
    let mut server = Server::settled();
    server.pod(unready());
    let first = server.work().unwrap();
    server.pod(json!({}));
    assert_eq!(server.work(), None, "one is under way");
    server.write(first);
    assert_eq!(server.work(), None, "the watches have not shown it");
    server.tell();
    let second = server.work().unwrap();
    let version = second.slices.change[0].metadata.resource_version.clone();
    assert!(version.unwrap().parse::<u64>().unwrap() > 5);
    server.write(second);
    server.tell();
    assert_eq!(server.work(), None);
}

#[test]
fn what_could_not_be_written_is_tried_again() {
    let mut server = Server::settled();
    server.pod(unready());
    let work = server.work().unwrap();
    let failed = Written {
        failed: true,
        ..Written::default()
    };
    server.state.landed(key(), failed);
    assert_eq!(server.work(), None);
    server.state.again(key());
    assert_eq!(server.work(), Some(work));
}

#[test]
fn a_slice_that_others_change_is_set_right() {
    let mut server = Server::settled();
    server.pod(unready());
    let work = server.work().unwrap();
    server.write(work);
    let Some(Event::Apply(mut slice)) = server.untold.first().cloned() else {
        panic!("nothing was written");
    };
    server.tell();
    slice.endpoints = Some(Vec::new());
    server.stamp(&mut slice);
    server.state.slice(Event::Apply(slice.clone()));
    let work = server.work().unwrap();
    assert_eq!(endpoints_of(&work.slices.change[0]).len(), 1);
    server.write(work);
    server.tell();
    server.state.slice(Event::Delete(slice));
    assert_eq!(server.work().unwrap().slices.create.len(), 1);
}

#[test]
fn all_goes_with_the_service() {
    let mut server = Server::settled();
    server
        .state
        .service(Event::Delete(found(&service(json!({})))));
    assert!(!server.state.wants_pods() && server.state.wants_slices());
    server.state.forget_pods();
    let work = server.work().unwrap();
    assert_eq!(work.slices.delete.len(), 1);
    assert_eq!(work.legacy, Legacy::Delete);
    server.write(work);
    server.tell();
    let endpoints = json!({"metadata": {"name": "web", "namespace": "ns"}});
    let endpoints: Endpoints = serde_json::from_value(endpoints).unwrap();
    server.state.endpoints(Event::Delete(endpoints));
    assert_eq!(server.work(), None);
    assert!(!server.state.wants_slices());
}

#[test]
fn what_an_earlier_controller_left_goes() {
    let mut server = Server::settled();
    server.pod(unready());
    let work = server.work().unwrap();
    let slice = work.slices.change[0].clone();
    let mut another = Server::default();
    another.state.service(Event::Init);
    another.state.service(Event::InitDone);
    another.state.slice(Event::Init);
    another.state.slice(Event::InitApply(slice.clone()));
    another.state.slice(Event::InitDone);
    another.state.endpoints(Event::Init);
    another.state.endpoints(Event::InitDone);
    let work = another.work().unwrap();
    assert_eq!(work.slices.delete[0].name_any(), slice.name_any());
    assert_eq!(work.legacy, Legacy::Nothing);
}

#[test]
fn a_list_that_is_read_anew_takes_nobody_out_meanwhile() {
    let mut server = Server::settled();
    server.state.pod(Event::Init);
    server.service(service(json!({"sessionAffinity": "ClientIP"})));
    assert_eq!(server.work(), None);
    server.state.pod(Event::InitDone);
    let work = server.work().unwrap();
    assert!(endpoints_of(&work.slices.change[0]).is_empty());
}
