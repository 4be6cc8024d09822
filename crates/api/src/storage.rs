//! What claims for storage, volumes and classes are marked with.

/// The finalizer that keeps a claim that is deleted for as long as Pods use it.
pub const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// The finalizer that keeps a volume that is deleted for as long as a claim has it.
pub const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";
/// The annotation where the class stood before there was a field for it.
pub const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
/// The annotations that mark the class of claims that name none, today and once.
pub const DEFAULT_MARKS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
