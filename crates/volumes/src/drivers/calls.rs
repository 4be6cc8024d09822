//! What drivers and those who register them are asked, in protobuf (csi.proto of CSI 1.12; pluginregistration/v1/api.proto of kubelet).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::protobuf::ProtobufError;
use api::protobuf::wire::{Content, Reader, Writer};
use grpc::CallError;
use ports::drivers::{AccessMode, Driver, DriverVolume};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Longest wait for a driver (upstream's csiTimeout).
const PATIENCE: Duration = Duration::from_secs(120);
/// What servers are told of the client.
const AGENT: &str = "carob";

/// The socket of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint(pub(super) PathBuf);

/// What a plugin says of itself (`PluginInfo`).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plugin {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) endpoint: String,
    pub(super) versions: Vec<String>,
}

/// What a driver can do on a node (`NodeServiceCapability`), as far as it matters here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub(super) stages: bool,
    pub(super) tells_writers_apart: bool,
    pub(super) gives_to_group: bool,
}

type Answer<T> = Result<T, CallError>;

impl Endpoint {
    async fn ask(&self, method: &str, message: Writer) -> Answer<Vec<u8>> {
        let connection = |error: std::io::Error| {
            let why = format!("connection error: dial unix {}: {error}", self.0.display());
            CallError::Connection(why.into())
        };
        let asked = async {
            let stream = UnixStream::connect(&self.0).await.map_err(connection)?;
            let answer = grpc::call(stream, "localhost", method, AGENT, &message.0).await?;
            Ok(answer.to_vec())
        };
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
            Err(CallError::Status {
                code: "4".to_owned(),
                message: "context deadline exceeded".to_owned(),
            })
        })
    }

    /// `pluginregistration.Registration/GetInfo`
    pub(super) async fn plugin(&self) -> Answer<Plugin> {
        let method = "/pluginregistration.Registration/GetInfo";
        let answer = self.ask(method, Writer::default()).await?;
        plugin(&answer).map_err(malformed)
    }

    /// `pluginregistration.Registration/NotifyRegistrationStatus`
    pub(super) async fn registered(&self, why_not: Option<&str>) -> Answer<()> {
        let mut message = Writer::default();
        match why_not {
            None => message.number(1, 1),
            Some(why) => text(&mut message, 2, why),
        }
        let method = "/pluginregistration.Registration/NotifyRegistrationStatus";
        self.ask(method, message).await.map(drop)
    }

    /// `csi.v1.Node/NodeGetInfo`; the driver's name is what it registered by.
    pub(super) async fn node(&self, name: &str) -> Answer<Driver> {
        let method = "/csi.v1.Node/NodeGetInfo";
        let answer = self.ask(method, Writer::default()).await?;
        node(name, &answer).map_err(malformed)
    }

    /// `csi.v1.Node/NodeGetCapabilities`
    pub(super) async fn capabilities(&self) -> Answer<Capabilities> {
        let method = "/csi.v1.Node/NodeGetCapabilities";
        let answer = self.ask(method, Writer::default()).await?;
        capabilities(&answer).map_err(malformed)
    }

    /// `csi.v1.Node/NodeStageVolume`
    pub(super) async fn stage(
        &self,
        volume: &DriverVolume,
        can: Capabilities,
        place: &Path,
    ) -> Answer<()> {
        let mut message = Writer::default();
        text(&mut message, 1, &volume.handle);
        map(&mut message, 2, &volume.attachment);
        path(&mut message, 3, place);
        message.bytes(4, &capability(volume, can));
        map(&mut message, 5, &volume.stage_secrets);
        map(&mut message, 6, &volume.attributes);
        let method = "/csi.v1.Node/NodeStageVolume";
        self.ask(method, message).await.map(drop)
    }

    /// `csi.v1.Node/NodePublishVolume`
    pub(super) async fn publish(
        &self,
        volume: &DriverVolume,
        can: Capabilities,
        staged: Option<&Path>,
        target: &Path,
    ) -> Answer<()> {
        let mut message = Writer::default();
        text(&mut message, 1, &volume.handle);
        map(&mut message, 2, &volume.attachment);
        if let Some(staged) = staged {
            path(&mut message, 3, staged);
        }
        path(&mut message, 4, target);
        message.bytes(5, &capability(volume, can));
        if volume.is_read_only {
            message.number(6, 1);
        }
        map(&mut message, 7, &volume.publish_secrets);
        let mut attributes = volume.attributes.clone();
        attributes.extend(volume.of_pod.clone());
        map(&mut message, 8, &attributes);
        let method = "/csi.v1.Node/NodePublishVolume";
        self.ask(method, message).await.map(drop)
    }

    /// `csi.v1.Node/NodeUnpublishVolume`
    pub(super) async fn unpublish(&self, handle: &str, target: &Path) -> Answer<()> {
        let method = "/csi.v1.Node/NodeUnpublishVolume";
        self.ask(method, handle_at(handle, target)).await.map(drop)
    }

    /// `csi.v1.Node/NodeUnstageVolume`
    pub(super) async fn unstage(&self, handle: &str, place: &Path) -> Answer<()> {
        let method = "/csi.v1.Node/NodeUnstageVolume";
        self.ask(method, handle_at(handle, place)).await.map(drop)
    }
}

/// Whether nothing of it goes on at the driver's, so that it can be forgotten (upstream's isFinalError).
pub(super) fn is_final(error: &CallError) -> bool {
    // Canceled, DeadlineExceeded, ResourceExhausted, Aborted, Unavailable.
    const OPEN: [&str; 5] = ["1", "4", "8", "10", "14"];
    matches!(error, CallError::Status { code, .. } if !OPEN.contains(&code.as_str()))
}

fn malformed(_: ProtobufError) -> CallError {
    CallError::Malformed("the message cannot be read")
}

fn text(message: &mut Writer, number: u32, text: &str) {
    message.bytes(number, text.as_bytes());
}

fn path(message: &mut Writer, number: u32, path: &Path) {
    message.bytes(number, path.as_os_str().as_encoded_bytes());
}

fn map(message: &mut Writer, number: u32, map: &BTreeMap<String, String>) {
    for (key, value) in map {
        let mut entry = Writer::default();
        text(&mut entry, 1, key);
        text(&mut entry, 2, value);
        message.bytes(number, &entry.0);
    }
}

/// Both requests that take something back have the same two fields.
fn handle_at(handle: &str, place: &Path) -> Writer {
    let mut message = Writer::default();
    text(&mut message, 1, handle);
    path(&mut message, 2, place);
    message
}

/// `VolumeCapability`, of a volume that is mounted.
fn capability(volume: &DriverVolume, can: Capabilities) -> Vec<u8> {
    let mut mount = Writer::default();
    text(&mut mount, 1, &volume.fs_type);
    for option in &volume.options {
        text(&mut mount, 2, option);
    }
    if let Some(group) = volume.fs_group.filter(|_| can.gives_to_group) {
        text(&mut mount, 3, &group.gid.to_string());
    }
    let mut mode = Writer::default();
    mode.number(1, access_mode(volume.access_mode, can));
    let mut message = Writer::default();
    message.bytes(2, &mount.0);
    message.bytes(3, &mode.0);
    message.0
}

/// `VolumeCapability.AccessMode.Mode`, as upstream translates it.
fn access_mode(mode: AccessMode, can: Capabilities) -> u64 {
    match (mode, can.tells_writers_apart) {
        (AccessMode::ReadWriteOnce | AccessMode::ReadWriteOncePod, false) => 1,
        (AccessMode::ReadOnlyMany, _) => 3,
        (AccessMode::ReadWriteMany, _) => 5,
        (AccessMode::ReadWriteOncePod, true) => 6,
        (AccessMode::ReadWriteOnce, true) => 7,
    }
}

fn plugin(message: &[u8]) -> Result<Plugin, ProtobufError> {
    let (mut plugin, mut reader) = (Plugin::default(), Reader(message));
    while let Some((number, content)) = reader.field()? {
        match number {
            1 => plugin.kind = content.text("type")?.to_owned(),
            2 => plugin.name = content.text("name")?.to_owned(),
            3 => plugin.endpoint = content.text("endpoint")?.to_owned(),
            4 => {
                let version = content.text("supported_versions")?;
                plugin.versions.push(version.to_owned());
            }
            _ => {}
        }
    }
    Ok(plugin)
}

fn node(name: &str, message: &[u8]) -> Result<Driver, ProtobufError> {
    let mut driver = Driver {
        name: name.to_owned(),
        node_id: String::new(),
        max_volumes: None,
        topology: BTreeMap::new(),
    };
    let mut reader = Reader(message);
    while let Some((number, content)) = reader.field()? {
        match number {
            1 => driver.node_id = content.text("node_id")?.to_owned(),
            2 => driver.max_volumes = most(content.varint("max_volumes_per_node")?),
            3 => driver.topology = segments(content)?,
            _ => {}
        }
    }
    Ok(driver)
}

/// A signed number, of which only what is positive says something.
fn most(number: u64) -> Option<i32> {
    let number = number.cast_signed();
    (number > 0).then(|| i32::try_from(number).unwrap_or(i32::MAX))
}

fn segments(topology: Content<'_>) -> Result<BTreeMap<String, String>, ProtobufError> {
    let (mut segments, mut reader) = (BTreeMap::new(), Reader(topology.bytes("topology")?));
    while let Some((1, entry)) = reader.field()? {
        let (mut key, mut value) = ("", "");
        let mut entry = Reader(entry.bytes("segments")?);
        while let Some((number, content)) = entry.field()? {
            match number {
                1 => key = content.text("key")?,
                2 => value = content.text("value")?,
                _ => {}
            }
        }
        segments.insert(key.to_owned(), value.to_owned());
    }
    Ok(segments)
}

fn capabilities(message: &[u8]) -> Result<Capabilities, ProtobufError> {
    let (mut can, mut reader) = (Capabilities::default(), Reader(message));
    while let Some((1, capability)) = reader.field()? {
        let mut capability = Reader(capability.bytes("capabilities")?);
        while let Some((1, rpc)) = capability.field()? {
            let mut rpc = Reader(rpc.bytes("rpc")?);
            while let Some((1, kind)) = rpc.field()? {
                match kind.varint("type")? {
                    1 => can.stages = true,
                    5 => can.tells_writers_apart = true,
                    6 => can.gives_to_group = true,
                    _ => {}
                }
            }
        }
    }
    Ok(can)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_modes_are_as_precise_as_the_driver() {
        use AccessMode::*;
        for (mode, plain, precise) in [
            (ReadWriteOnce, 1, 7),
            (ReadOnlyMany, 3, 3),
            (ReadWriteMany, 5, 5),
            (ReadWriteOncePod, 1, 6),
        ] {
            let can = Capabilities {
                tells_writers_apart: true,
                ..Capabilities::default()
            };
            let both = [Capabilities::default(), can].map(|can| access_mode(mode, can));
            assert_eq!(both, [plain, precise], "{mode:?}");
        }
    }

    #[test]
    fn what_may_still_go_on_is_not_final() {
        for (code, expected) in [("13", true), ("5", true), ("4", false), ("10", false)] {
            let error = CallError::Status {
                code: code.to_owned(),
                message: String::new(),
            };
            assert_eq!(is_final(&error), expected, "{code}");
        }
        assert!(!is_final(&CallError::Malformed("")));
    }

    #[test]
    fn nodes_may_say_nothing_of_how_many() {
        assert_eq!(
            [0, 7, u64::MAX, 1 << 40].map(most),
            [None, Some(7), None, Some(i32::MAX)]
        );
    }
}
