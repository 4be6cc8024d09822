//! CertificateSigningRequests: those of nodes for themselves are approved, those that were approved are signed, and those that are of no
//! use any more go (upstream's csrapproving, csrsigning and csrcleaner controllers).
//!
//! Requests are looked at when they are heard of, and when their time is over. [`rules`] decide; who signs is handed in
//! ([`Authority`]), so the key of the authority stays with whoever has it.

mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use informer::{Heard, Key, Mirror, Watch, watch_all};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt};
use ports::certificates::{Authority, Terms};
use ports::clock::Clock;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use rules::Step;

use crate::pods::is_moot;

/// What could not be done is tried again after this.
const AGAIN: Duration = Duration::from_secs(10);

/// Looks after requests until `shutdown`.
pub(crate) async fn run(
    client: Client,
    clock: Arc<dyn Clock>,
    authority: Arc<dyn Authority>,
    shutdown: CancellationToken,
) {
    let mut changes: Watch<CertificateSigningRequest> = watch_all(&client);
    let mut requests = Requests {
        client,
        clock,
        authority,
        known: Mirror::default(),
        due: BTreeMap::new(),
    };
    loop {
        let next = requests.due.values().min().copied();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            Some(event) = changes.next() => match event {
                Ok(event) => requests.hear(event),
                Err(error) => tracing::warn!(%error, "watching certificate requests"),
            },
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                requests.look().await;
            }
        }
    }
}

struct Requests {
    client: Client,
    clock: Arc<dyn Clock>,
    authority: Arc<dyn Authority>,
    known: Mirror<CertificateSigningRequest>,
    /// When to look at requests.
    due: BTreeMap<Key, Instant>,
}

impl Requests {
    fn hear(&mut self, event: Event<CertificateSigningRequest>) {
        let now = Instant::now();
        match self.known.hear(event, |request| request) {
            Heard::Nothing => {}
            Heard::One {
                key,
                is_there: true,
                ..
            } => {
                self.due.insert(key, now);
            }
            Heard::One { key, .. } => {
                self.due.remove(&key);
            }
            Heard::All { .. } => {
                let all = self.known.iter().map(|(key, _)| (key.clone(), now));
                self.due = all.collect();
            }
        }
    }

    /// Looks at the requests whose time has come.
    async fn look(&mut self) {
        let now = Instant::now();
        let over = self.due.iter().filter(|(_, due)| **due <= now);
        for key in over.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.due.remove(&key);
            let Some(request) = self.known.get(&key).cloned() else {
                continue;
            };
            let (step, wake) = rules::plan(&request, &*self.authority, self.clock.now());
            if let Some(wake) = wake {
                self.due.insert(key.clone(), now + self.until(wake));
            }
            match self.take(&request, step).await {
                Ok(()) => {}
                // It has changed or gone, and is looked at when that is heard.
                Err(error) if is_moot(&error) => {}
                Err(error) => {
                    tracing::warn!(request = key.1, %error, "looking after a certificate request");
                    self.due.insert(key, now + AGAIN);
                }
            }
        }
    }

    fn until(&self, then: Timestamp) -> Duration {
        Duration::try_from(then.duration_since(self.clock.now())).unwrap_or_default()
    }

    async fn take(
        &self,
        request: &CertificateSigningRequest,
        step: Step,
    ) -> Result<(), kube::Error> {
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let (name, params) = (request.name_any(), PostParams::default());
        let mut request = request.clone();
        match step {
            Step::Nothing => Ok(()),
            Step::Delete => {
                let preconditions = Preconditions {
                    uid: request.uid(),
                    resource_version: request.resource_version(),
                };
                let delete = DeleteParams::default().preconditions(preconditions);
                api.delete(&name, &delete).await.map(drop)
            }
            Step::Approve(permissions) => {
                for permission in permissions {
                    if self.may(&request, permission.subresource).await? {
                        let message = permission.message;
                        add(&mut request, "Approved", "AutoApproved", message);
                        let part = "approval";
                        let approved = api.replace_subresource(part, &name, &params, &request);
                        return approved.await.map(drop);
                    }
                }
                Ok(())
            }
            Step::Fail(why) => {
                add(&mut request, "Failed", "SignerValidationFailure", &why);
                api.replace_status(&name, &params, &request).await.map(drop)
            }
            Step::Sign { from, to } => {
                let usages = request.spec.usages.clone().unwrap_or_default();
                let terms = Terms {
                    usages: &usages,
                    from,
                    to,
                };
                let signed = self.authority.sign(&request.spec.request.0, terms);
                let certificate = match signed {
                    Ok(certificate) => certificate,
                    Err(error) => {
                        tracing::warn!(request = name, %error, "signing a certificate");
                        return Ok(());
                    }
                };
                let status = request.status.get_or_insert_default();
                status.certificate = Some(ByteString(certificate.into_bytes()));
                api.replace_status(&name, &params, &request).await.map(drop)
            }
        }
    }

    /// Whether whoever made the request may have it approved without being asked about.
    async fn may(
        &self,
        request: &CertificateSigningRequest,
        subresource: &str,
    ) -> Result<bool, kube::Error> {
        let spec = &request.spec;
        let attributes = ResourceAttributes {
            group: Some("certificates.k8s.io".into()),
            version: Some("*".into()),
            resource: Some("certificatesigningrequests".into()),
            subresource: Some(subresource.to_owned()),
            verb: Some("create".into()),
            ..ResourceAttributes::default()
        };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: spec.username.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone(),
                extra: spec.extra.clone(),
                resource_attributes: Some(attributes),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let review = api.create(&PostParams::default(), &review).await?;
        Ok(review.status.is_some_and(|status| status.allowed))
    }
}

/// Adds a condition that is true; the API gives it its times.
fn add(request: &mut CertificateSigningRequest, kind: &str, reason: &str, message: &str) {
    let status = request.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    conditions.push(CertificateSigningRequestCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..CertificateSigningRequestCondition::default()
    });
}
