//! What is known of the volumes of running Pods.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ports::volumes::VolumeSpec;

/// Each volume by Pod UID and volume name.
#[derive(Debug, Default)]
pub(crate) struct Places {
    known: Mutex<HashMap<String, HashMap<String, Place>>>,
    hashes: RandomState,
}

#[derive(Debug)]
struct Place {
    /// Where it is: sub-paths of a host path start outside of the Pod's directory.
    path: PathBuf,
    /// What was written to it.
    files: Option<Files>,
}

/// Stands for files and their contents: two that are equal have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Files(u64);

impl Places {
    /// What stands for the files of a volume, if it is made of files.
    pub(crate) fn files(&self, spec: &VolumeSpec) -> Option<Files> {
        matches!(spec, VolumeSpec::Files { .. }).then(|| Files(self.hashes.hash_one(spec)))
    }

    pub(crate) fn remember(
        &self,
        pod_uid: &str,
        volume: &str,
        path: PathBuf,
        files: Option<Files>,
    ) {
        self.known()
            .entry(pod_uid.to_owned())
            .or_default()
            .insert(volume.to_owned(), Place { path, files });
    }

    pub(crate) fn find(&self, pod_uid: &str, volume: &str) -> Option<PathBuf> {
        let known = self.known();
        Some(known.get(pod_uid)?.get(volume)?.path.clone())
    }

    /// Where a volume is that has these files. One that has others is taken to have none from now on, until that is remembered.
    pub(crate) fn with(
        &self,
        pod_uid: &str,
        volume: &str,
        files: Option<Files>,
    ) -> Option<PathBuf> {
        let mut known = self.known();
        let place = known.get_mut(pod_uid)?.get_mut(volume)?;
        if place.files.is_some() && place.files == files {
            return Some(place.path.clone());
        }
        place.files = None;
        None
    }

    /// Forgets a Pod.
    pub(crate) fn forget(&self, pod_uid: &str) {
        self.known().remove(pod_uid);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, HashMap<String, Place>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ports::volumes::File;

    #[test]
    fn a_volume_is_left_alone_only_with_the_same_files() {
        let places = Places::default();
        let spec = |data: &str, mode| {
            let file = File {
                data: data.into(),
                mode,
                uid: None,
            };
            let spec = VolumeSpec::Files {
                files: [("k".to_owned(), file)].into(),
                is_secret: false,
                fs_group: None,
            };
            places.files(&spec)
        };
        let one = spec("1", 0o644);
        assert_eq!(places.with("u", "v", one), None);
        places.remember("u", "v", "/v".into(), one);
        assert_eq!(places.with("u", "v", one), Some("/v".into()));
        assert_eq!(places.with("u", "w", one), None);
        assert_eq!(places.with("other", "v", one), None);

        assert_eq!(places.with("u", "v", spec("1", 0o600)), None);
        assert_eq!(places.with("u", "v", one), None, "it may hold half of them");
        assert_eq!(places.find("u", "v"), Some("/v".into()));
        places.remember("u", "v", "/v".into(), spec("2", 0o644));
        assert_eq!(places.with("u", "v", one), None);

        places.remember("u", "disk", "/d".into(), None);
        assert_eq!(places.with("u", "disk", None), None, "not made of files");
        places.forget("u");
        assert_eq!(places.find("u", "v"), None);
    }
}
