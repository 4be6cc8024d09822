//! Over HTTPS with the kubeconfig the server writes: kube's client, exec by WebSocket, tokens, refusals.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use apiserver::ApiServer;
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, AttachParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use ports::clock::SystemClock;
use ports::node::{LogOptions, NodeError, NodeServer, Target, Usage};
use ports::streams::{ExecRequest, ExitStatus, LogStream, Reader, Session, Writer};
use serde_json::json;
use store::Store;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::support;

/// A node whose processes give back their input and end with code 3.
pub(crate) struct Cat;

#[async_trait]
impl NodeServer for Cat {
    async fn logs(&self, _: &Target, _: LogOptions) -> Result<LogStream, NodeError> {
        Ok(futures::stream::iter([Ok("one\n".into()), Ok("two\n".into())]).boxed())
    }
    async fn exec(&self, _: &Target, request: ExecRequest) -> Result<Session, NodeError> {
        let (ours, theirs) = tokio::io::duplex(64);
        let (stdout, stdin) = tokio::io::split(ours);
        let (mut read, mut write) = tokio::io::split(theirs);
        let (ended, exit) = oneshot::channel();
        tokio::spawn(async move {
            let copied = tokio::io::copy(&mut read, &mut write).await;
            drop((copied, read, write));
            let _ = ended.send(ExitStatus { code: 3 });
        });
        assert_eq!(request.command, ["cat"]);
        Ok(Session {
            stdin: Some(Box::pin(stdin)),
            stdout: Some(Box::pin(stdout)),
            stderr: None,
            resize: None,
            exit,
        })
    }
    async fn attach(&self, _: &Target, _: bool) -> Result<Session, NodeError> {
        Err(NodeError {
            code: 500,
            message: "no attach here".into(),
        })
    }
    async fn port_forward(&self, _: &Target, port: u16) -> Result<(Reader, Writer), NodeError> {
        if port != 80 {
            return Err(NodeError {
                code: 500,
                message: format!("nothing listens on {port}"),
            });
        }
        let (ours, theirs) = tokio::io::duplex(64);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(theirs);
            // The test reads what comes back.
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        let (read, write) = tokio::io::split(ours);
        Ok((Box::pin(read), Box::pin(write)))
    }
    async fn pods(&self) -> Vec<serde_json::Value> {
        Vec::new()
    }
    async fn usage(&self, _: &BTreeSet<String>) -> Result<Usage, NodeError> {
        Err(NodeError {
            code: 500,
            message: "nothing is measured here".into(),
        })
    }
}

pub(crate) struct Https {
    pub(crate) api: Arc<ApiServer>,
    pub(crate) client: Client,
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

async fn client(kubeconfig: &str) -> Client {
    let config = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

pub(crate) async fn start() -> Https {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = support::config(dir.path(), address.port());
    let store = Arc::new(Store::open(&dir.path().join("state.db")).unwrap());
    let api = Arc::new(
        ApiServer::new(config, store, Arc::new(SystemClock))
            .await
            .unwrap(),
    );
    api.set_node_server("n1", Arc::new(Cat));
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = api.clone();
    let served = tokio::spawn(async move {
        let stopped = async {
            let _ = stopped.await;
        };
        serving.serve(listener, stopped).await;
    });
    let client = client(&api.kubeconfig()).await;
    Https {
        api,
        client,
        address,
        stop,
        served,
        _dir: dir,
    }
}

pub(crate) async fn running_pod(client: &Client) -> Api<Pod> {
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
        Api::namespaced(client.clone(), "default");
    let account = serde_json::from_value(json!({"metadata":{"name":"default"}})).unwrap();
    accounts
        .create(&PostParams::default(), &account)
        .await
        .unwrap();
    bound_pod(client, "p", "n1").await
}

/// Makes a Pod that is bound to a node.
pub(crate) async fn bound_pod(client: &Client, name: &str, node: &str) -> Api<Pod> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let spec = json!({"metadata":{"name":name},"spec":{"nodeName":node,"containers":[{"name":"c","image":"busybox"}]}});
    pods.create(
        &PostParams::default(),
        &serde_json::from_value(spec).unwrap(),
    )
    .await
    .unwrap();
    pods
}

#[tokio::test]
async fn kube_client_lists_creates_and_watches() {
    let https = start().await;
    let namespaces: Api<Namespace> = Api::all(https.client.clone());
    let names: Vec<String> = namespaces
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .filter_map(|n| n.metadata.name)
        .collect();
    assert_eq!(
        names,
        ["default", "kube-node-lease", "kube-public", "kube-system"]
    );
    let version = https.client.apiserver_version().await.unwrap();
    assert_eq!(
        (
            version.major.as_str(),
            version.minor.as_str(),
            version.git_version.as_str()
        ),
        ("1", "36", "v1.36.3+carob")
    );
    let maps: Api<ConfigMap> = Api::default_namespaced(https.client.clone());
    let mut watch = Box::pin(maps.watch(&WatchParams::default(), "0").await.unwrap());
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata":{"name":"m"},"data":{"a":"b"}})).unwrap();
    let made = maps.create(&PostParams::default(), &map).await.unwrap();
    let Some(WatchEvent::Added(seen)) = watch.try_next().await.unwrap() else {
        panic!("no event")
    };
    assert_eq!(seen.metadata, made.metadata);
    https.stop.send(()).unwrap();
    while let Ok(Some(last)) = watch.try_next().await {
        assert!(matches!(last, WatchEvent::Bookmark(_)), "{last:?}");
    }
    https.served.await.unwrap();
}

#[tokio::test]
async fn exec_and_logs_go_through_the_server() {
    let https = start().await;
    let pods = running_pod(&https.client).await;
    assert_eq!(
        pods.logs("p", &Default::default()).await.unwrap(),
        "one\ntwo\n"
    );
    let params = AttachParams::default().stdin(true).stderr(false);
    let mut process = pods.exec("p", ["cat"], &params).await.unwrap();
    let mut stdin = process.stdin().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, b"hello")
        .await
        .unwrap();
    tokio::io::AsyncWriteExt::shutdown(&mut stdin)
        .await
        .unwrap();
    drop(stdin);
    let mut output = String::new();
    process
        .stdout()
        .unwrap()
        .read_to_string(&mut output)
        .await
        .unwrap();
    let status = process.take_status().unwrap().await.unwrap();
    assert_eq!(
        (output.as_str(), status.reason.as_deref()),
        ("hello", Some("NonZeroExitCode"))
    );
    assert_eq!(
        status.message.as_deref(),
        Some("command terminated with non-zero exit code: exit status 3")
    );
}

#[tokio::test]
async fn tokens_identify_and_strangers_are_refused() {
    let https = start().await;
    running_pod(&https.client).await;
    let request = http::Request::post("/api/v1/namespaces/default/serviceaccounts/default/token");
    let body =
        json!({"spec":{"expirationSeconds":3600,"boundObjectRef":{"kind":"Pod","name":"p"}}})
            .to_string();
    let issued: serde_json::Value = https
        .client
        .request(
            request
                .header("content-type", "application/json")
                .body(body.into_bytes())
                .unwrap(),
        )
        .await
        .unwrap();
    let mut config = Kubeconfig::from_yaml(&https.api.kubeconfig()).unwrap();
    let user = config.auth_infos[0].auth_info.as_mut().unwrap();
    (user.client_certificate_data, user.client_key_data) = (None, None);
    let ask = async |config: Kubeconfig| {
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
            .await
            .unwrap();
        let pods: Api<Pod> = Api::default_namespaced(Client::try_from(config).unwrap());
        match pods.list(&ListParams::default()).await {
            Err(kube::Error::Api(status)) => status.message,
            other => panic!("{other:?}"),
        }
    };
    let text = r#"pods is forbidden: User "{}" cannot list resource "pods" in API group "" in the namespace "default""#;
    assert_eq!(
        ask(config.clone()).await,
        text.replace("{}", "system:anonymous")
    );
    let with = |config: &Kubeconfig, token: String| {
        let mut config = config.clone();
        config.auth_infos[0].auth_info.as_mut().unwrap().token = Some(token.into());
        config
    };
    let token = issued["status"]["token"].as_str().unwrap();
    assert_eq!(
        ask(with(&config, token.to_owned())).await,
        text.replace("{}", "system:serviceaccount:default:default")
    );
    assert_eq!(
        ask(with(&config, format!("{token}x"))).await,
        "Unauthorized"
    );
}
