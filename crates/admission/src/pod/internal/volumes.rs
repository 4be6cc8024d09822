//! Volume sources as upstream holds them in memory, in the order of its fields.

use super::Layout;
use super::Shape::{Bool, Int, Map, Pointer, Quantity, Raw, Slice, Struct, Text};

pub(super) const HOST_PATH_VOLUME_SOURCE: Layout =
    &[("Path", "path", Text), ("Type", "type", Pointer(&Text))];

const EMPTY_DIR_VOLUME_SOURCE: Layout = &[
    ("Medium", "medium", Text),
    ("SizeLimit", "sizeLimit", Pointer(&Quantity)),
];

pub(super) const GCE_PERSISTENT_DISK_VOLUME_SOURCE: Layout = &[
    ("PDName", "pdName", Text),
    ("FSType", "fsType", Text),
    ("Partition", "partition", Int),
    ("ReadOnly", "readOnly", Bool),
];

pub(super) const AWS_ELASTIC_BLOCK_STORE_VOLUME_SOURCE: Layout = &[
    ("VolumeID", "volumeID", Text),
    ("FSType", "fsType", Text),
    ("Partition", "partition", Int),
    ("ReadOnly", "readOnly", Bool),
];

const GIT_REPO_VOLUME_SOURCE: Layout = &[
    ("Repository", "repository", Text),
    ("Revision", "revision", Text),
    ("Directory", "directory", Text),
];

const KEY_TO_PATH: Layout = &[
    ("Key", "key", Text),
    ("Path", "path", Text),
    ("Mode", "mode", Pointer(&Int)),
];

const SECRET_VOLUME_SOURCE: Layout = &[
    ("SecretName", "secretName", Text),
    ("Items", "items", Slice(&Struct(KEY_TO_PATH))),
    ("DefaultMode", "defaultMode", Pointer(&Int)),
    ("Optional", "optional", Pointer(&Bool)),
];

pub(super) const NFS_VOLUME_SOURCE: Layout = &[
    ("Server", "server", Text),
    ("Path", "path", Text),
    ("ReadOnly", "readOnly", Bool),
];

pub(super) const LOCAL_OBJECT_REFERENCE: Layout = &[("Name", "name", Text)];

const ISCSI_VOLUME_SOURCE: Layout = &[
    ("TargetPortal", "targetPortal", Text),
    ("IQN", "iqn", Text),
    ("Lun", "lun", Int),
    ("ISCSIInterface", "iscsiInterface", Text),
    ("FSType", "fsType", Text),
    ("ReadOnly", "readOnly", Bool),
    ("Portals", "portals", Slice(&Text)),
    ("DiscoveryCHAPAuth", "chapAuthDiscovery", Bool),
    ("SessionCHAPAuth", "chapAuthSession", Bool),
    (
        "SecretRef",
        "secretRef",
        Pointer(&Struct(LOCAL_OBJECT_REFERENCE)),
    ),
    ("InitiatorName", "initiatorName", Pointer(&Text)),
];

const GLUSTERFS_VOLUME_SOURCE: Layout = &[
    ("EndpointsName", "endpoints", Text),
    ("Path", "path", Text),
    ("ReadOnly", "readOnly", Bool),
];

const PERSISTENT_VOLUME_CLAIM_VOLUME_SOURCE: Layout = &[
    ("ClaimName", "claimName", Text),
    ("ReadOnly", "readOnly", Bool),
];

const RBD_VOLUME_SOURCE: Layout = &[
    ("CephMonitors", "monitors", Slice(&Text)),
    ("RBDImage", "image", Text),
    ("FSType", "fsType", Text),
    ("RBDPool", "pool", Text),
    ("RadosUser", "user", Text),
    ("Keyring", "keyring", Text),
    (
        "SecretRef",
        "secretRef",
        Pointer(&Struct(LOCAL_OBJECT_REFERENCE)),
    ),
    ("ReadOnly", "readOnly", Bool),
];

pub(super) const QUOBYTE_VOLUME_SOURCE: Layout = &[
    ("Registry", "registry", Text),
    ("Volume", "volume", Text),
    ("ReadOnly", "readOnly", Bool),
    ("User", "user", Text),
    ("Group", "group", Text),
    ("Tenant", "tenant", Text),
];

const FLEX_VOLUME_SOURCE: Layout = &[
    ("Driver", "driver", Text),
    ("FSType", "fsType", Text),
    (
        "SecretRef",
        "secretRef",
        Pointer(&Struct(LOCAL_OBJECT_REFERENCE)),
    ),
    ("ReadOnly", "readOnly", Bool),
    ("Options", "options", Map(&Text)),
];

const CINDER_VOLUME_SOURCE: Layout = &[
    ("VolumeID", "volumeID", Text),
    ("FSType", "fsType", Text),
    ("ReadOnly", "readOnly", Bool),
    (
        "SecretRef",
        "secretRef",
        Pointer(&Struct(LOCAL_OBJECT_REFERENCE)),
    ),
];

const CEPH_FS_VOLUME_SOURCE: Layout = &[
    ("Monitors", "monitors", Slice(&Text)),
    ("Path", "path", Text),
    ("User", "user", Text),
    ("SecretFile", "secretFile", Text),
    (
        "SecretRef",
        "secretRef",
        Pointer(&Struct(LOCAL_OBJECT_REFERENCE)),
    ),
    ("ReadOnly", "readOnly", Bool),
];

pub(super) const FLOCKER_VOLUME_SOURCE: Layout = &[
    ("DatasetName", "datasetName", Text),
    ("DatasetUUID", "datasetUUID", Text),
];

pub(super) const OBJECT_FIELD_SELECTOR: Layout = &[
    ("APIVersion", "apiVersion", Text),
    ("FieldPath", "fieldPath", Text),
];

pub(super) const RESOURCE_FIELD_SELECTOR: Layout = &[
    ("ContainerName", "containerName", Text),
    ("Resource", "resource", Text),
    ("Divisor", "divisor", Quantity),
];

const DOWNWARD_API_VOLUME_FILE: Layout = &[
    ("Path", "path", Text),
    (
        "FieldRef",
        "fieldRef",
        Pointer(&Struct(OBJECT_FIELD_SELECTOR)),
    ),
    (
        "ResourceFieldRef",
        "resourceFieldRef",
        Pointer(&Struct(RESOURCE_FIELD_SELECTOR)),
    ),
    ("Mode", "mode", Pointer(&Int)),
];

const DOWNWARD_API_VOLUME_SOURCE: Layout = &[
    ("Items", "items", Slice(&Struct(DOWNWARD_API_VOLUME_FILE))),
    ("DefaultMode", "defaultMode", Pointer(&Int)),
];

pub(super) const FC_VOLUME_SOURCE: Layout = &[
    ("TargetWWNs", "targetWWNs", Slice(&Text)),
    ("Lun", "lun", Pointer(&Int)),
    ("FSType", "fsType", Text),
    ("ReadOnly", "readOnly", Bool),
    ("WWIDs", "wwids", Slice(&Text)),
];

const AZURE_FILE_VOLUME_SOURCE: Layout = &[
    ("SecretName", "secretName", Text),
    ("ShareName", "shareName", Text),
    ("ReadOnly", "readOnly", Bool),
];

const CONFIG_MAP_VOLUME_SOURCE: Layout = &[
    ("Name", "name", Text),
    ("Items", "items", Slice(&Struct(KEY_TO_PATH))),
    ("DefaultMode", "defaultMode", Pointer(&Int)),
    ("Optional", "optional", Pointer(&Bool)),
];

pub(super) const VSPHERE_VIRTUAL_DISK_VOLUME_SOURCE: Layout = &[
    ("VolumePath", "volumePath", Text),
    ("FSType", "fsType", Text),
    ("StoragePolicyName", "storagePolicyName", Text),
    ("StoragePolicyID", "storagePolicyID", Text),
];

pub(super) const AZURE_DISK_VOLUME_SOURCE: Layout = &[
    ("DiskName", "diskName", Text),
    ("DataDiskURI", "diskURI", Text),
    ("CachingMode", "cachingMode", Pointer(&Text)),
    ("FSType", "fsType", Pointer(&Text)),
    ("ReadOnly", "readOnly", Pointer(&Bool)),
    ("Kind", "kind", Pointer(&Text)),
];

pub(super) const PHOTON_PERSISTENT_DISK_VOLUME_SOURCE: Layout =
    &[("PdID", "pdID", Text), ("FSType", "fsType", Text)];

const SECRET_PROJECTION: Layout = &[
    ("Name", "name", Text),
    ("Items", "items", Slice(&Struct(KEY_TO_PATH))),
    ("Optional", "optional", Pointer(&Bool)),
];

const DOWNWARD_API_PROJECTION: Layout =
    &[("Items", "items", Slice(&Struct(DOWNWARD_API_VOLUME_FILE)))];

const CONFIG_MAP_PROJECTION: Layout = &[
    ("Name", "name", Text),
    ("Items", "items", Slice(&Struct(KEY_TO_PATH))),
    ("Optional", "optional", Pointer(&Bool)),
];

const SERVICE_ACCOUNT_TOKEN_PROJECTION: Layout = &[
    ("Audience", "audience", Text),
    ("ExpirationSeconds", "expirationSeconds", Int),
    ("Path", "path", Text),
];

const CLUSTER_TRUST_BUNDLE_PROJECTION: Layout = &[
    ("Name", "name", Pointer(&Text)),
    ("SignerName", "signerName", Pointer(&Text)),
    ("LabelSelector", "labelSelector", Pointer(&Raw)),
    ("Optional", "optional", Pointer(&Bool)),
    ("Path", "path", Text),
];

const POD_CERTIFICATE_PROJECTION: Layout = &[
    ("SignerName", "signerName", Text),
    ("KeyType", "keyType", Text),
    (
        "MaxExpirationSeconds",
        "maxExpirationSeconds",
        Pointer(&Int),
    ),
    ("CredentialBundlePath", "credentialBundlePath", Text),
    ("KeyPath", "keyPath", Text),
    ("CertificateChainPath", "certificateChainPath", Text),
    ("UserAnnotations", "userAnnotations", Map(&Text)),
];

const VOLUME_PROJECTION: Layout = &[
    ("Secret", "secret", Pointer(&Struct(SECRET_PROJECTION))),
    (
        "DownwardAPI",
        "downwardAPI",
        Pointer(&Struct(DOWNWARD_API_PROJECTION)),
    ),
    (
        "ConfigMap",
        "configMap",
        Pointer(&Struct(CONFIG_MAP_PROJECTION)),
    ),
    (
        "ServiceAccountToken",
        "serviceAccountToken",
        Pointer(&Struct(SERVICE_ACCOUNT_TOKEN_PROJECTION)),
    ),
    (
        "ClusterTrustBundle",
        "clusterTrustBundle",
        Pointer(&Struct(CLUSTER_TRUST_BUNDLE_PROJECTION)),
    ),
    (
        "PodCertificate",
        "podCertificate",
        Pointer(&Struct(POD_CERTIFICATE_PROJECTION)),
    ),
];

const PROJECTED_VOLUME_SOURCE: Layout = &[
    ("Sources", "sources", Slice(&Struct(VOLUME_PROJECTION))),
    ("DefaultMode", "defaultMode", Pointer(&Int)),
];

pub(super) const PORTWORX_VOLUME_SOURCE: Layout = &[
    ("VolumeID", "volumeID", Text),
    ("FSType", "fsType", Text),
    ("ReadOnly", "readOnly", Bool),
];

const SCALE_IO_VOLUME_SOURCE: Layout = &[
    ("Gateway", "gateway", Text),
    ("System", "system", Text),
    (
        "SecretRef",
        "secretRef",
        Pointer(&Struct(LOCAL_OBJECT_REFERENCE)),
    ),
    ("SSLEnabled", "sslEnabled", Bool),
    ("ProtectionDomain", "protectionDomain", Text),
    ("StoragePool", "storagePool", Text),
    ("StorageMode", "storageMode", Text),
    ("VolumeName", "volumeName", Text),
    ("FSType", "fsType", Text),
    ("ReadOnly", "readOnly", Bool),
];

const STORAGE_OS_VOLUME_SOURCE: Layout = &[
    ("VolumeName", "volumeName", Text),
    ("VolumeNamespace", "volumeNamespace", Text),
    ("FSType", "fsType", Text),
    ("ReadOnly", "readOnly", Bool),
    (
        "SecretRef",
        "secretRef",
        Pointer(&Struct(LOCAL_OBJECT_REFERENCE)),
    ),
];

const CSI_VOLUME_SOURCE: Layout = &[
    ("Driver", "driver", Text),
    ("ReadOnly", "readOnly", Pointer(&Bool)),
    ("FSType", "fsType", Pointer(&Text)),
    ("VolumeAttributes", "volumeAttributes", Map(&Text)),
    (
        "NodePublishSecretRef",
        "nodePublishSecretRef",
        Pointer(&Struct(LOCAL_OBJECT_REFERENCE)),
    ),
];

const VOLUME_RESOURCE_REQUIREMENTS: Layout = &[
    ("Limits", "limits", Map(&Quantity)),
    ("Requests", "requests", Map(&Quantity)),
];

const TYPED_LOCAL_OBJECT_REFERENCE: Layout = &[
    ("APIGroup", "apiGroup", Pointer(&Text)),
    ("Kind", "kind", Text),
    ("Name", "name", Text),
];

const TYPED_OBJECT_REFERENCE: Layout = &[
    ("APIGroup", "apiGroup", Pointer(&Text)),
    ("Kind", "kind", Text),
    ("Name", "name", Text),
    ("Namespace", "namespace", Pointer(&Text)),
];

pub(super) const PERSISTENT_VOLUME_CLAIM_SPEC: Layout = &[
    ("AccessModes", "accessModes", Slice(&Text)),
    ("Selector", "selector", Pointer(&Raw)),
    (
        "Resources",
        "resources",
        Struct(VOLUME_RESOURCE_REQUIREMENTS),
    ),
    ("VolumeName", "volumeName", Text),
    ("StorageClassName", "storageClassName", Pointer(&Text)),
    ("VolumeMode", "volumeMode", Pointer(&Text)),
    (
        "DataSource",
        "dataSource",
        Pointer(&Struct(TYPED_LOCAL_OBJECT_REFERENCE)),
    ),
    (
        "DataSourceRef",
        "dataSourceRef",
        Pointer(&Struct(TYPED_OBJECT_REFERENCE)),
    ),
    (
        "VolumeAttributesClassName",
        "volumeAttributesClassName",
        Pointer(&Text),
    ),
];

const PERSISTENT_VOLUME_CLAIM_TEMPLATE: Layout = &[
    ("Name", "name", Text),
    ("GenerateName", "generateName", Text),
    ("Namespace", "namespace", Text),
    ("SelfLink", "selfLink", Text),
    ("UID", "uid", Text),
    ("ResourceVersion", "resourceVersion", Text),
    ("Generation", "generation", Int),
    ("CreationTimestamp", "creationTimestamp", Raw),
    ("DeletionTimestamp", "deletionTimestamp", Pointer(&Raw)),
    (
        "DeletionGracePeriodSeconds",
        "deletionGracePeriodSeconds",
        Pointer(&Int),
    ),
    ("Labels", "labels", Map(&Text)),
    ("Annotations", "annotations", Map(&Text)),
    ("OwnerReferences", "ownerReferences", Slice(&Raw)),
    ("Finalizers", "finalizers", Slice(&Text)),
    ("ManagedFields", "managedFields", Slice(&Raw)),
    ("Spec", "spec", Struct(PERSISTENT_VOLUME_CLAIM_SPEC)),
];

const EPHEMERAL_VOLUME_SOURCE: Layout = &[(
    "VolumeClaimTemplate",
    "volumeClaimTemplate",
    Pointer(&Struct(PERSISTENT_VOLUME_CLAIM_TEMPLATE)),
)];

const IMAGE_VOLUME_SOURCE: Layout = &[
    ("Reference", "reference", Text),
    ("PullPolicy", "pullPolicy", Text),
];

pub(super) const VOLUME: Layout = &[
    ("Name", "name", Text),
    (
        "HostPath",
        "hostPath",
        Pointer(&Struct(HOST_PATH_VOLUME_SOURCE)),
    ),
    (
        "EmptyDir",
        "emptyDir",
        Pointer(&Struct(EMPTY_DIR_VOLUME_SOURCE)),
    ),
    (
        "GCEPersistentDisk",
        "gcePersistentDisk",
        Pointer(&Struct(GCE_PERSISTENT_DISK_VOLUME_SOURCE)),
    ),
    (
        "AWSElasticBlockStore",
        "awsElasticBlockStore",
        Pointer(&Struct(AWS_ELASTIC_BLOCK_STORE_VOLUME_SOURCE)),
    ),
    (
        "GitRepo",
        "gitRepo",
        Pointer(&Struct(GIT_REPO_VOLUME_SOURCE)),
    ),
    ("Secret", "secret", Pointer(&Struct(SECRET_VOLUME_SOURCE))),
    ("NFS", "nfs", Pointer(&Struct(NFS_VOLUME_SOURCE))),
    ("ISCSI", "iscsi", Pointer(&Struct(ISCSI_VOLUME_SOURCE))),
    (
        "Glusterfs",
        "glusterfs",
        Pointer(&Struct(GLUSTERFS_VOLUME_SOURCE)),
    ),
    (
        "PersistentVolumeClaim",
        "persistentVolumeClaim",
        Pointer(&Struct(PERSISTENT_VOLUME_CLAIM_VOLUME_SOURCE)),
    ),
    ("RBD", "rbd", Pointer(&Struct(RBD_VOLUME_SOURCE))),
    (
        "Quobyte",
        "quobyte",
        Pointer(&Struct(QUOBYTE_VOLUME_SOURCE)),
    ),
    (
        "FlexVolume",
        "flexVolume",
        Pointer(&Struct(FLEX_VOLUME_SOURCE)),
    ),
    ("Cinder", "cinder", Pointer(&Struct(CINDER_VOLUME_SOURCE))),
    ("CephFS", "cephfs", Pointer(&Struct(CEPH_FS_VOLUME_SOURCE))),
    (
        "Flocker",
        "flocker",
        Pointer(&Struct(FLOCKER_VOLUME_SOURCE)),
    ),
    (
        "DownwardAPI",
        "downwardAPI",
        Pointer(&Struct(DOWNWARD_API_VOLUME_SOURCE)),
    ),
    ("FC", "fc", Pointer(&Struct(FC_VOLUME_SOURCE))),
    (
        "AzureFile",
        "azureFile",
        Pointer(&Struct(AZURE_FILE_VOLUME_SOURCE)),
    ),
    (
        "ConfigMap",
        "configMap",
        Pointer(&Struct(CONFIG_MAP_VOLUME_SOURCE)),
    ),
    (
        "VsphereVolume",
        "vsphereVolume",
        Pointer(&Struct(VSPHERE_VIRTUAL_DISK_VOLUME_SOURCE)),
    ),
    (
        "AzureDisk",
        "azureDisk",
        Pointer(&Struct(AZURE_DISK_VOLUME_SOURCE)),
    ),
    (
        "PhotonPersistentDisk",
        "photonPersistentDisk",
        Pointer(&Struct(PHOTON_PERSISTENT_DISK_VOLUME_SOURCE)),
    ),
    (
        "Projected",
        "projected",
        Pointer(&Struct(PROJECTED_VOLUME_SOURCE)),
    ),
    (
        "PortworxVolume",
        "portworxVolume",
        Pointer(&Struct(PORTWORX_VOLUME_SOURCE)),
    ),
    (
        "ScaleIO",
        "scaleIO",
        Pointer(&Struct(SCALE_IO_VOLUME_SOURCE)),
    ),
    (
        "StorageOS",
        "storageos",
        Pointer(&Struct(STORAGE_OS_VOLUME_SOURCE)),
    ),
    ("CSI", "csi", Pointer(&Struct(CSI_VOLUME_SOURCE))),
    (
        "Ephemeral",
        "ephemeral",
        Pointer(&Struct(EPHEMERAL_VOLUME_SOURCE)),
    ),
    ("Image", "image", Pointer(&Struct(IMAGE_VOLUME_SOURCE))),
];
