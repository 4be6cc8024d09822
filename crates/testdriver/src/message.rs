//! Requests as the driver reads them, and what it says of itself.

use std::collections::BTreeMap;
use std::path::Path;

use api::protobuf::ProtobufError;
use api::protobuf::wire::{Content, Reader, Writer};

use crate::Call;

/// What can be asked of a volume.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Request {
    Stage,
    Publish,
    Unpublish,
    Unstage,
}

impl Request {
    pub(crate) fn of(path: &str) -> Option<Request> {
        match path {
            "/csi.v1.Node/NodeStageVolume" => Some(Request::Stage),
            "/csi.v1.Node/NodePublishVolume" => Some(Request::Publish),
            "/csi.v1.Node/NodeUnpublishVolume" => Some(Request::Unpublish),
            "/csi.v1.Node/NodeUnstageVolume" => Some(Request::Unstage),
            _ => None,
        }
    }
}

/// `PluginInfo`
pub(crate) fn plugin(name: &str, endpoint: &Path) -> Vec<u8> {
    let mut message = Writer::default();
    message.bytes(1, b"CSIPlugin");
    message.bytes(2, name.as_bytes());
    message.bytes(3, endpoint.as_os_str().as_encoded_bytes());
    message.bytes(4, b"1.0.0");
    message.0
}

/// `NodeGetInfoResponse`, with a topology of one key.
pub(crate) fn node(id: &str) -> Vec<u8> {
    let mut segment = Writer::default();
    segment.bytes(1, format!("topology.{id}/node").as_bytes());
    segment.bytes(2, b"here");
    let mut topology = Writer::default();
    topology.bytes(1, &segment.0);
    let mut message = Writer::default();
    message.bytes(1, id.as_bytes());
    message.number(2, 17);
    message.bytes(3, &topology.0);
    message.0
}

/// `NodeGetCapabilitiesResponse`
pub(crate) fn capabilities(kinds: &[u64]) -> Vec<u8> {
    let mut message = Writer::default();
    for kind in kinds {
        let mut rpc = Writer::default();
        rpc.number(1, *kind);
        let mut capability = Writer::default();
        capability.bytes(1, &rpc.0);
        message.bytes(1, &capability.0);
    }
    message.0
}

/// Reads a request of a volume.
pub(crate) fn call(request: Request, method: &str, message: &[u8]) -> Result<Call, ProtobufError> {
    let mut call = Call {
        method: method.to_owned(),
        ..Call::default()
    };
    let mut reader = Reader(message);
    while let Some((number, content)) = reader.field()? {
        match (request, number) {
            (_, 1) => call.volume = content.text("volume_id")?.to_owned(),
            (Request::Unpublish, 2) => call.target = content.text("target_path")?.into(),
            (Request::Unstage, 2) => call.staging = content.text("staging_target_path")?.into(),
            (_, 2) => entry(&mut call.attachment, content)?,
            (_, 3) => call.staging = content.text("staging_target_path")?.into(),
            (Request::Stage, 4) | (Request::Publish, 5) => capability(&mut call, content)?,
            (Request::Publish, 4) => call.target = content.text("target_path")?.into(),
            (Request::Publish, 6) => call.is_read_only = content.varint("readonly")? != 0,
            (Request::Stage, 5) | (Request::Publish, 7) => entry(&mut call.secrets, content)?,
            (Request::Stage, 6) | (Request::Publish, 8) => entry(&mut call.attributes, content)?,
            _ => {}
        }
    }
    Ok(call)
}

fn entry(map: &mut BTreeMap<String, String>, content: Content<'_>) -> Result<(), ProtobufError> {
    let (mut key, mut value) = ("", "");
    let mut reader = Reader(content.bytes("entry")?);
    while let Some((number, content)) = reader.field()? {
        match number {
            1 => key = content.text("key")?,
            _ => value = content.text("value")?,
        }
    }
    map.insert(key.to_owned(), value.to_owned());
    Ok(())
}

fn capability(call: &mut Call, content: Content<'_>) -> Result<(), ProtobufError> {
    let mut reader = Reader(content.bytes("volume_capability")?);
    while let Some((number, content)) = reader.field()? {
        let mut inner = Reader(content.bytes("volume_capability")?);
        while let Some((field, content)) = inner.field()? {
            match (number, field) {
                (2, 1) => call.fs_type = content.text("fs_type")?.to_owned(),
                (2, 2) => call.options.push(content.text("mount_flags")?.to_owned()),
                (3, 1) => call.access_mode = content.varint("mode")?,
                _ => {}
            }
        }
    }
    Ok(())
}
