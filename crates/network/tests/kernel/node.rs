//! A node that is a network namespace, and Pods that are others.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use network::{Config, Network};
use ports::network::PodNetwork;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// Runs `test` on a thread whose network namespace stands for the node's.
pub(crate) fn on_a_node(test: impl FnOnce(&Config) + Send + 'static) {
    on_a_node_with(None, test);
}

/// The same on a node of IPv4 and on one of IPv6.
pub(crate) fn on_nodes(test: impl FnOnce(&Config) + Send + Clone + 'static) {
    for ranges in [None, Some("fd00:10:244::/64")] {
        on_a_node_with(ranges, test.clone());
    }
}

/// Which of these is meant for the addresses that Pods have.
pub(crate) fn by_family<T>(config: &Config, v4: T, v6: T) -> T {
    let is_v6 = config
        .pod_ranges
        .is_some_and(|ranges| ranges.primary().base().is_ipv6());
    if is_v6 { v6 } else { v4 }
}

/// The same for Pods with addresses of these ranges.
pub(crate) fn on_a_node_with(ranges: Option<&str>, test: impl FnOnce(&Config) + Send + 'static) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config {
        state_dir: dir.path().join("network"),
        bridge: None,
        is_taken: |_| false,
        node_ip: None,
        pod_ranges: ranges.map(|ranges| ranges.parse().expect("ranges")),
    };
    let ended = std::thread::spawn(move || {
        unshare();
        set_loopback_up();
        test(&config);
    });
    ended.join().expect("the test passes");
}

pub(crate) fn unshare() {
    // SAFETY: only the network namespace of this thread changes; no descriptor table is unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
        .expect("a network namespace (needs root)");
}

/// What a node sends to itself goes by `lo`, which is down in a new namespace.
fn set_loopback_up() {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request outlives the call, which reads name and flags of it.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

pub(crate) fn own_netns() -> OwnedFd {
    File::open("/proc/thread-self/ns/net")
        .expect("a namespace")
        .into()
}

pub(crate) fn new_netns() -> OwnedFd {
    std::thread::spawn(|| {
        unshare();
        own_netns()
    })
    .join()
    .expect("a namespace")
}

/// Runs `work` inside a namespace, on a thread that ends there.
pub(crate) fn inside<T: Send + 'static>(
    netns: &OwnedFd,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    let netns = netns.try_clone().expect("a descriptor");
    std::thread::spawn(move || {
        rustix::thread::move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("enters");
        work()
    })
}

/// Wiring happens on blocking threads, so they must be in the node's namespace as well.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let node = own_netns();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .on_thread_start(move || {
            rustix::thread::move_into_link_name_space(
                node.as_fd(),
                Some(LinkNameSpaceType::Network),
            )
            .expect("enters");
        })
        .build()
        .expect("a runtime");
    runtime.block_on(future)
}

pub(crate) fn attach(network: &Network, id: &str, netns: &OwnedFd) -> IpAddr {
    block_on(network.attach(id, None, netns.as_fd()))
        .expect("attaches")
        .ips[0]
}

pub(crate) fn echo_once(
    netns: &OwnedFd,
    listen: SocketAddr,
) -> std::thread::JoinHandle<SocketAddr> {
    let (ready, listening) = std::sync::mpsc::channel();
    let served = inside(netns, move || {
        let listener = TcpListener::bind(listen).expect("listens");
        ready.send(()).expect("tells");
        let (mut stream, peer) = listener.accept().expect("accepts");
        stream.write_all(b"hello").expect("writes");
        peer
    });
    listening.recv().expect("listens");
    served
}

pub(crate) fn read_from(address: SocketAddr) -> String {
    let mut text = String::new();
    TcpStream::connect(address)
        .expect("connects")
        .read_to_string(&mut text)
        .expect("reads");
    text
}
