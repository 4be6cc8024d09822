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

/// What is known of a volume that is to have certain files.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is here, and has them.
    Same(PathBuf),
    /// It is here, whole, and has others.
    Others(PathBuf),
    Nothing,
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

    /// What is known of a volume that is to have these files. One that has others is taken to have none from now on, until that is
    /// remembered.
    pub(crate) fn with(&self, pod_uid: &str, volume: &str, files: Option<Files>) -> Known {
        let mut known = self.known();
        let place = known
            .get_mut(pod_uid)
            .and_then(|pod| pod.get_mut(volume))
            .filter(|place| place.files.is_some());
        match place {
            Some(place) if place.files == files => Known::Same(place.path.clone()),
            Some(place) => {
                place.files = None;
                Known::Others(place.path.clone())
            }
            None => Known::Nothing,
        }
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
        let here = || PathBuf::from("/v");
        assert_eq!(places.with("u", "v", one), Known::Nothing);
        places.remember("u", "v", here(), one);
        assert_eq!(places.with("u", "v", one), Known::Same(here()));
        assert_eq!(places.with("u", "w", one), Known::Nothing);
        assert_eq!(places.with("other", "v", one), Known::Nothing);

        let other = spec("1", 0o600);
        assert_eq!(places.with("u", "v", other), Known::Others(here()));
        for files in [one, other] {
            let known = places.with("u", "v", files);
            assert_eq!(known, Known::Nothing, "it may hold half of them");
        }
        assert_eq!(places.find("u", "v"), Some(here()));
        places.remember("u", "v", here(), spec("2", 0o644));
        assert_eq!(places.with("u", "v", one), Known::Others(here()));

        places.remember("u", "disk", "/d".into(), None);
        let known = places.with("u", "disk", None);
        assert_eq!(known, Known::Nothing, "not made of files");
        places.forget("u");
        assert_eq!(places.find("u", "v"), None);
    }
}
