//! A name server at sockets of loopback, before an API whose objects a test sets, and upstreams that a test plays.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dns::{Config, Dns, Sockets, Upstreams};
use futures::StreamExt;
use hickory_server::proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_server::proto::rr::{DNSClass, Name, RecordType};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

type Out = UnsyncBoxBody<Bytes, Infallible>;
type Values = mpsc::UnboundedReceiver<Value>;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);
const KINDS: [&str; 3] = ["services", "endpointslices", "pods"];

/// Lists of fixed objects, each given out when a test says so, and watches that bring what a test sends; by the path's last part.
#[derive(Clone)]
struct FakeApi {
    lists: Arc<Mutex<BTreeMap<&'static str, Values>>>,
    watches: Arc<Mutex<BTreeMap<&'static str, Values>>>,
}

impl FakeApi {
    async fn serve(self, request: Request<Body>) -> Response<Out> {
        let path = request.uri().path();
        let kind = KINDS.into_iter().find(|kind| path.ends_with(kind));
        let kind = kind.expect("a kind that has names");
        if request.uri().query().unwrap_or_default().contains("watch=") {
            let events = self.watches.lock().unwrap().remove(kind);
            let frames = futures::stream::iter(events).flat_map(|mut events| {
                futures::stream::poll_fn(move |context| events.poll_recv(context))
            });
            let frames =
                frames.map(|event| Ok(hyper::body::Frame::data(testkit::line(&event).into())));
            let frames = frames.chain(futures::stream::pending());
            return Response::new(StreamBody::new(frames).boxed_unsync());
        }
        let list = self.lists.lock().unwrap().remove(kind);
        let items = list.expect("one list").recv().await.expect("a list");
        let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items});
        Response::new(Full::new(line(&list)).boxed_unsync())
    }
}

fn line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}

/// A name server, and everything around it.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    lists: BTreeMap<&'static str, mpsc::UnboundedSender<Value>>,
    watches: BTreeMap<&'static str, mpsc::UnboundedSender<Value>>,
    _guard: DropGuard,
}

impl World {
    /// A name server that has not heard anything yet.
    pub(crate) async fn start(upstreams: Upstreams) -> World {
        World::start_at(sockets().await, upstreams)
    }

    /// A name server at these sockets that has not heard anything yet.
    pub(crate) fn start_at((udp, tcp): (UdpSocket, TcpListener), upstreams: Upstreams) -> World {
        let (mut lists, mut of_lists) = (BTreeMap::new(), BTreeMap::new());
        let (mut watches, mut of_watches) = (BTreeMap::new(), BTreeMap::new());
        for kind in KINDS {
            let (send, receive) = mpsc::unbounded_channel();
            lists.insert(kind, send);
            of_lists.insert(kind, receive);
            let (send, receive) = mpsc::unbounded_channel();
            watches.insert(kind, send);
            of_watches.insert(kind, receive);
        }
        let api = FakeApi {
            lists: Arc::new(Mutex::new(of_lists)),
            watches: Arc::new(Mutex::new(of_watches)),
        };
        let service = tower::service_fn(move |request| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.serve(request).await) }
        });
        let address = udp.local_addr().expect("is bound");
        let sockets = Sockets::of(udp, tcp).expect("are bound");
        let config = Config {
            domain: "cluster.local".into(),
            own: Vec::new(),
            upstreams: Box::new(move || upstreams.clone()),
        };
        let stop = CancellationToken::new();
        let server = Dns::new(kube::Client::new(service, "default"), sockets, config);
        tokio::spawn(server.run(stop.clone()));
        World {
            address,
            lists,
            watches,
            _guard: stop.drop_guard(),
        }
    }

    /// A name server that knows all there is.
    pub(crate) async fn with(objects: [Value; 3], upstreams: Upstreams) -> World {
        let world = World::start(upstreams).await;
        world.list(objects);
        world
    }

    /// Says what there is: Services, slices, Pods.
    pub(crate) fn list(&self, objects: [Value; 3]) {
        for (kind, items) in KINDS.into_iter().zip(objects) {
            self.lists[kind].send(items).expect("is listed");
        }
    }

    pub(crate) fn tell(&self, kind: &str, what: &str, object: Value) {
        let event = json!({"type": what, "object": object});
        self.watches[kind].send(event).expect("is watched");
    }

    /// Asks by datagram.
    pub(crate) async fn ask(&self, name: &str, kind: RecordType) -> Message {
        self.send(&query(name, kind)).await
    }

    pub(crate) async fn send(&self, query: &Message) -> Message {
        let bytes = self.send_bytes(&query.to_vec().expect("is written")).await;
        Message::from_vec(&bytes).expect("a message")
    }

    pub(crate) async fn send_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a socket");
        socket.send_to(bytes, self.address).await.expect("is sent");
        let mut buffer = vec![0; 65_535];
        let length = timeout(LONG, socket.recv(&mut buffer)).await;
        buffer.truncate(length.expect("an answer in time").expect("an answer"));
        buffer
    }

    /// Asks by connection, as often as there are queries.
    pub(crate) async fn send_on_connection(&self, queries: &[Message]) -> Vec<Message> {
        let mut stream = TcpStream::connect(self.address).await.expect("connects");
        let mut answers = Vec::new();
        for query in queries {
            write(&mut stream, query).await;
            let answer = timeout(LONG, read(&mut stream)).await.expect("in time");
            answers.push(answer);
        }
        answers
    }

    /// Asks until the answer is as expected.
    pub(crate) async fn until(&self, name: &str, is_it: impl Fn(&Message) -> bool) -> Message {
        let asking = async {
            loop {
                let answer = self.ask(name, RecordType::A).await;
                if is_it(&answer) {
                    return answer;
                }
            }
        };
        timeout(LONG, asking).await.expect("it becomes so")
    }
}

/// Both sockets at one port of loopback.
pub(crate) async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a socket");
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("is bound")).await {
            return (udp, tcp);
        }
    }
}

pub(crate) fn query(name: &str, kind: RecordType) -> Message {
    let mut query = Message::new(4711, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    let name = Name::from_ascii(name).expect("a name");
    let mut asked = Query::query(name, kind);
    asked.set_query_class(DNSClass::IN);
    query.add_query(asked);
    query
}

pub(crate) fn edns(mut query: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    query.set_edns(edns);
    query
}

/// The records of the answer, as `TYPE DATA`, in order of the text.
pub(crate) fn shown(message: &Message) -> Vec<String> {
    let lines = message.answers.iter();
    let mut lines: Vec<String> = lines
        .map(|r| format!("{} {}", r.record_type(), r.data))
        .collect();
    lines.sort();
    lines
}

pub(crate) fn code(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

/// A name server that answers as a function says, and tells what it was asked, `udp` or `tcp` first.
pub(crate) async fn upstream(
    answer: impl Fn(&'static str, Message) -> Message + Clone + Send + 'static,
) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let (udp, tcp) = sockets().await;
    let address = udp.local_addr().expect("is bound");
    let (asked, of_asked) = mpsc::unbounded_channel();
    let play = move |how: &'static str, query: Message| {
        let question = query.queries.first().expect("a question").to_string();
        // Once the test has what it wants, nobody listens.
        let _ = asked.send(format!("{how} {question}"));
        let mut reply = answer(how, query.clone());
        reply.metadata.id = query.metadata.id;
        reply.metadata.message_type = MessageType::Response;
        reply.queries = query.queries;
        reply
    };
    let by_datagram = play.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..length]).expect("a query");
            let reply = by_datagram("udp", query).to_vec().expect("is written");
            udp.send_to(&reply, from).await.expect("is sent");
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let query = read(&mut stream).await;
            write(&mut stream, &play("tcp", query)).await;
        }
    });
    (address, of_asked)
}

async fn write(stream: &mut TcpStream, message: &Message) {
    let bytes = message.to_vec().expect("is written");
    let length = u16::try_from(bytes.len()).expect("fits");
    let bytes = [&length.to_be_bytes(), bytes.as_slice()].concat();
    stream.write_all(&bytes).await.expect("is sent");
}

async fn read(stream: &mut TcpStream) -> Message {
    let length = stream.read_u16().await.expect("a length");
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await.expect("a message");
    Message::from_vec(&bytes).expect("a message")
}

pub(crate) fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "spec": spec, "status": {},
        "metadata": {"name": name, "namespace": "n", "resourceVersion": "2"}})
}

pub(crate) fn pod(name: &str, ip: &str, phase: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": []},
        "metadata": {"name": name, "namespace": "n", "resourceVersion": "2"},
        "status": {"phase": phase, "podIP": ip, "podIPs": [{"ip": ip}]}})
}

pub(crate) fn slice(service: &str, addresses: &[String]) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|ip| json!({"addresses": [ip]}))
        .collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{service}-1"), "namespace": "n", "resourceVersion": "3",
            "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints})
}

/// The one server at this address, and these search domains.
pub(crate) fn upstreams(servers: &[SocketAddr], searches: &[&str]) -> Upstreams {
    Upstreams {
        servers: servers.to_vec(),
        searches: searches.iter().map(|&domain| domain.to_owned()).collect(),
    }
}
