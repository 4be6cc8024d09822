//! What PersistentVolumes are of and how nodes reach them, as upstream holds it in memory, in the order of its fields.

use super::Layout;
use super::Shape::{Bool, Int, Map, Pointer, Raw, Slice, Struct, Text};
use super::volumes as of_pods;

pub(super) const SOURCE: Layout = &[
    (
        "GCEPersistentDisk",
        "gcePersistentDisk",
        Pointer(&Struct(of_pods::GCE_PERSISTENT_DISK_VOLUME_SOURCE)),
    ),
    (
        "AWSElasticBlockStore",
        "awsElasticBlockStore",
        Pointer(&Struct(of_pods::AWS_ELASTIC_BLOCK_STORE_VOLUME_SOURCE)),
    ),
    (
        "HostPath",
        "hostPath",
        Pointer(&Struct(of_pods::HOST_PATH_VOLUME_SOURCE)),
    ),
    ("Glusterfs", "glusterfs", Pointer(&Struct(GLUSTERFS))),
    ("NFS", "nfs", Pointer(&Struct(of_pods::NFS_VOLUME_SOURCE))),
    ("RBD", "rbd", Pointer(&Struct(RBD))),
    (
        "Quobyte",
        "quobyte",
        Pointer(&Struct(of_pods::QUOBYTE_VOLUME_SOURCE)),
    ),
    ("ISCSI", "iscsi", Pointer(&Struct(ISCSI))),
    ("FlexVolume", "flexVolume", Pointer(&Struct(FLEX))),
    ("Cinder", "cinder", Pointer(&Struct(CINDER))),
    ("CephFS", "cephfs", Pointer(&Struct(CEPH_FS))),
    ("FC", "fc", Pointer(&Struct(of_pods::FC_VOLUME_SOURCE))),
    (
        "Flocker",
        "flocker",
        Pointer(&Struct(of_pods::FLOCKER_VOLUME_SOURCE)),
    ),
    ("AzureFile", "azureFile", Pointer(&Struct(AZURE_FILE))),
    (
        "VsphereVolume",
        "vsphereVolume",
        Pointer(&Struct(of_pods::VSPHERE_VIRTUAL_DISK_VOLUME_SOURCE)),
    ),
    (
        "AzureDisk",
        "azureDisk",
        Pointer(&Struct(of_pods::AZURE_DISK_VOLUME_SOURCE)),
    ),
    (
        "PhotonPersistentDisk",
        "photonPersistentDisk",
        Pointer(&Struct(of_pods::PHOTON_PERSISTENT_DISK_VOLUME_SOURCE)),
    ),
    (
        "PortworxVolume",
        "portworxVolume",
        Pointer(&Struct(of_pods::PORTWORX_VOLUME_SOURCE)),
    ),
    ("ScaleIO", "scaleIO", Pointer(&Struct(SCALE_IO))),
    ("Local", "local", Pointer(&Struct(LOCAL))),
    ("StorageOS", "storageos", Pointer(&Struct(STORAGE_OS))),
    ("CSI", "csi", Pointer(&Struct(CSI))),
];

const SECRET_REFERENCE: Layout = &[("Name", "name", Text), ("Namespace", "namespace", Text)];

const OBJECT_REFERENCE: Layout = &[
    ("Kind", "kind", Text),
    ("Namespace", "namespace", Text),
    ("Name", "name", Text),
    ("UID", "uid", Text),
    ("APIVersion", "apiVersion", Text),
    ("ResourceVersion", "resourceVersion", Text),
    ("FieldPath", "fieldPath", Text),
];

const GLUSTERFS: Layout = &[
    ("EndpointsName", "endpoints", Text),
    ("Path", "path", Text),
    ("ReadOnly", "readOnly", Bool),
    ("EndpointsNamespace", "endpointsNamespace", Pointer(&Text)),
];

const RBD: Layout = &[
    ("CephMonitors", "monitors", Slice(&Text)),
    ("RBDImage", "image", Text),
    ("FSType", "fsType", Text),
    ("RBDPool", "pool", Text),
    ("RadosUser", "user", Text),
    ("Keyring", "keyring", Text),
    ("SecretRef", "secretRef", Pointer(&Struct(SECRET_REFERENCE))),
    ("ReadOnly", "readOnly", Bool),
];

const ISCSI: Layout = &[
    ("TargetPortal", "targetPortal", Text),
    ("IQN", "iqn", Text),
    ("Lun", "lun", Int),
    ("ISCSIInterface", "iscsiInterface", Text),
    ("FSType", "fsType", Text),
    ("ReadOnly", "readOnly", Bool),
    ("Portals", "portals", Slice(&Text)),
    ("DiscoveryCHAPAuth", "chapAuthDiscovery", Bool),
    ("SessionCHAPAuth", "chapAuthSession", Bool),
    ("SecretRef", "secretRef", Pointer(&Struct(SECRET_REFERENCE))),
    ("InitiatorName", "initiatorName", Pointer(&Text)),
];

const FLEX: Layout = &[
    ("Driver", "driver", Text),
    ("FSType", "fsType", Text),
    ("SecretRef", "secretRef", Pointer(&Struct(SECRET_REFERENCE))),
    ("ReadOnly", "readOnly", Bool),
    ("Options", "options", Map(&Text)),
];

const CINDER: Layout = &[
    ("VolumeID", "volumeID", Text),
    ("FSType", "fsType", Text),
    ("ReadOnly", "readOnly", Bool),
    ("SecretRef", "secretRef", Pointer(&Struct(SECRET_REFERENCE))),
];

const CEPH_FS: Layout = &[
    ("Monitors", "monitors", Slice(&Text)),
    ("Path", "path", Text),
    ("User", "user", Text),
    ("SecretFile", "secretFile", Text),
    ("SecretRef", "secretRef", Pointer(&Struct(SECRET_REFERENCE))),
    ("ReadOnly", "readOnly", Bool),
];

const AZURE_FILE: Layout = &[
    ("SecretName", "secretName", Text),
    ("ShareName", "shareName", Text),
    ("ReadOnly", "readOnly", Bool),
    ("SecretNamespace", "secretNamespace", Pointer(&Text)),
];

const SCALE_IO: Layout = &[
    ("Gateway", "gateway", Text),
    ("System", "system", Text),
    ("SecretRef", "secretRef", Pointer(&Struct(SECRET_REFERENCE))),
    ("SSLEnabled", "sslEnabled", Bool),
    ("ProtectionDomain", "protectionDomain", Text),
    ("StoragePool", "storagePool", Text),
    ("StorageMode", "storageMode", Text),
    ("VolumeName", "volumeName", Text),
    ("FSType", "fsType", Text),
    ("ReadOnly", "readOnly", Bool),
];

const LOCAL: Layout = &[("Path", "path", Text), ("FSType", "fsType", Pointer(&Text))];

const STORAGE_OS: Layout = &[
    ("VolumeName", "volumeName", Text),
    ("VolumeNamespace", "volumeNamespace", Text),
    ("FSType", "fsType", Text),
    ("ReadOnly", "readOnly", Bool),
    ("SecretRef", "secretRef", Pointer(&Struct(OBJECT_REFERENCE))),
];

const CSI: Layout = &[
    ("Driver", "driver", Text),
    ("VolumeHandle", "volumeHandle", Text),
    ("ReadOnly", "readOnly", Bool),
    ("FSType", "fsType", Text),
    ("VolumeAttributes", "volumeAttributes", Map(&Text)),
    (
        "ControllerPublishSecretRef",
        "controllerPublishSecretRef",
        Pointer(&Struct(SECRET_REFERENCE)),
    ),
    (
        "NodeStageSecretRef",
        "nodeStageSecretRef",
        Pointer(&Struct(SECRET_REFERENCE)),
    ),
    (
        "NodePublishSecretRef",
        "nodePublishSecretRef",
        Pointer(&Struct(SECRET_REFERENCE)),
    ),
    (
        "ControllerExpandSecretRef",
        "controllerExpandSecretRef",
        Pointer(&Struct(SECRET_REFERENCE)),
    ),
    (
        "NodeExpandSecretRef",
        "nodeExpandSecretRef",
        Pointer(&Struct(SECRET_REFERENCE)),
    ),
];

pub(super) const NODE_DRIVER: Layout = &[
    ("Name", "name", Text),
    ("NodeID", "nodeID", Text),
    ("TopologyKeys", "topologyKeys", Slice(&Text)),
    ("Allocatable", "allocatable", Pointer(&Raw)),
];

pub(super) const ATTACHMENT_SPEC: Layout = &[
    ("Attacher", "attacher", Text),
    ("Source", "source", Struct(ATTACHMENT_SOURCE)),
    ("NodeName", "nodeName", Text),
];

const ATTACHMENT_SOURCE: Layout = &[
    (
        "PersistentVolumeName",
        "persistentVolumeName",
        Pointer(&Text),
    ),
    // Upstream spells out all of it.
    ("InlineVolumeSpec", "inlineVolumeSpec", Pointer(&Raw)),
];
