//! Who a container runs as: names looked up in the root's own `/etc/passwd` and `/etc/group`.
//!
//! Rules: spec `§11.1`. A uid without entry has group 0 and no further memberships; a group without entry must be a number.

use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::Path;

use ports::runtime::UserStatus;
use rustix::fs::OFlags;

use super::error::LaunchError;
use super::inroot;
use super::spec::UserRequest;

/// Larger files are cut: an image must not fill pause's memory.
const MAX_FILE: u64 = 4 << 20;

/// A user as resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) status: UserStatus,
    /// Home directory, `/` without an entry.
    pub(super) home: String,
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Resolves a request in the root `root`.
pub(super) fn resolve(root: BorrowedFd<'_>, request: &UserRequest) -> Result<User, LaunchError> {
    resolve_in(&read(root, "etc/passwd"), &read(root, "etc/group"), request)
}

fn read(root: BorrowedFd<'_>, path: &str) -> String {
    let mut bytes = Vec::new();
    // NONBLOCK: a fifo in the image's place must not stop pause. What cannot be read counts as empty.
    if let Ok(fd) = inroot::open(
        root,
        Path::new(path),
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
    ) {
        let file = std::fs::File::from(fd);
        if file.metadata().is_ok_and(|m| m.is_file()) {
            let _ = file.take(MAX_FILE).read_to_end(&mut bytes);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Resolves a request against the text of both files.
fn resolve_in(passwd: &str, group: &str, request: &UserRequest) -> Result<User, LaunchError> {
    let (user, image_group) = match request.image_user.split_once(':') {
        _ if request.uid.is_some() => (request.uid.unwrap_or_default().to_string(), None),
        Some((user, group)) => (user.to_owned(), Some(group).filter(|g| !g.is_empty())),
        None => (request.image_user.clone(), None),
    };
    let user = if user.is_empty() {
        "0".to_owned()
    } else {
        user
    };
    let entry = find_user(passwd, &user);
    let uid = match (&entry, user.parse::<u32>()) {
        (Some(entry), _) => entry.uid,
        (None, Ok(uid)) => uid,
        (None, Err(_)) => return Err(LaunchError::UnknownUser(user)),
    };
    if request.non_root && uid == 0 {
        return Err(LaunchError::Root);
    }
    let gid = match (request.gid, image_group) {
        (Some(gid), _) => gid,
        (None, Some(name)) => find_group(group, name)?,
        (None, None) => entry.as_ref().map_or(0, |e| e.gid),
    };
    let mut groups = vec![gid];
    if let (false, Some(entry)) = (request.strict_groups, &entry) {
        groups.extend(memberships(group, entry.name));
    }
    groups.extend(&request.supplemental_groups);
    groups.sort_unstable();
    groups.dedup();
    let home = entry.map_or("/", |e| e.home);
    let home = if home.is_empty() { "/" } else { home }.to_owned();
    Ok(User {
        status: UserStatus {
            uid,
            gid,
            supplemental_groups: groups,
        },
        home,
    })
}

fn passwd_lines(passwd: &str) -> impl Iterator<Item = Passwd<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|n| !n.is_empty())?;
        let (_, uid, gid) = (fields.next()?, fields.next()?, fields.next()?);
        let home = fields.nth(1).unwrap_or_default();
        Some(Passwd {
            name,
            uid: uid.trim().parse().ok()?,
            gid: gid.trim().parse().ok()?,
            home,
        })
    })
}

fn find_user<'a>(passwd: &'a str, user: &str) -> Option<Passwd<'a>> {
    let number = user.parse::<u32>().ok();
    passwd_lines(passwd).find(|p| p.name == user || number == Some(p.uid))
}

fn group_lines(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|n| !n.is_empty())?;
        let gid = fields.nth(1)?.trim().parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

fn find_group(group: &str, wanted: &str) -> Result<u32, LaunchError> {
    let number = wanted.parse::<u32>().ok();
    let found = group_lines(group).find(|(name, gid, _)| *name == wanted || number == Some(*gid));
    found
        .map(|(_, gid, _)| gid)
        .or(number)
        .ok_or_else(|| LaunchError::UnknownGroup(wanted.to_owned()))
}

fn memberships<'a>(group: &'a str, user: &'a str) -> impl Iterator<Item = u32> + 'a {
    group_lines(group)
        .filter(move |(_, _, members)| members.split(',').any(|m| m.trim() == user))
        .map(|(_, gid, _)| gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnot a line\nweb:x:33:34:Web:/var/www:/bin/sh\nnohome:x:40:40::\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root\nweb:x:34:\nlog:x:50:web,root\n1234:x:77:\n";

    fn check(change: impl Fn(&mut UserRequest), expected: &str) {
        let mut request = UserRequest::default();
        change(&mut request);
        let got = match resolve_in(PASSWD, GROUP, &request) {
            Ok(u) => format!(
                "{}:{} {:?} {}",
                u.status.uid, u.status.gid, u.status.supplemental_groups, u.home
            ),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, expected, "{request:?}");
    }

    #[test]
    fn image_users() {
        check(|_| {}, "0:0 [0, 10, 50] /root");
        check(|r| r.image_user = "web".into(), "33:34 [34, 50] /var/www");
        check(|r| r.image_user = "33".into(), "33:34 [34, 50] /var/www");
        check(|r| r.image_user = "web:log".into(), "33:50 [50] /var/www");
        check(|r| r.image_user = "web:".into(), "33:34 [34, 50] /var/www");
        check(|r| r.image_user = "1000:1000".into(), "1000:1000 [1000] /");
        check(|r| r.image_user = "1000".into(), "1000:0 [0] /");
        check(|r| r.image_user = "40".into(), "40:40 [40] /");
        check(
            |r| r.image_user = "web:1234".into(),
            "33:77 [50, 77] /var/www",
        );
    }

    #[test]
    fn the_pod_decides_over_the_image() {
        check(
            |r| (r.image_user, r.uid) = ("web:log".into(), Some(0)),
            "0:0 [0, 10, 50] /root",
        );
        check(|r| r.uid = Some(33), "33:34 [34, 50] /var/www");
        check(|r| r.gid = Some(7), "0:7 [7, 10, 50] /root");
        check(
            |r| (r.uid, r.gid, r.supplemental_groups) = (Some(5), Some(6), vec![9, 6, 8]),
            "5:6 [6, 8, 9] /",
        );
        check(
            |r| (r.uid, r.strict_groups) = (Some(33), true),
            "33:34 [34] /var/www",
        );
    }

    #[test]
    fn refusals() {
        check(
            |r| r.image_user = "x".into(),
            "unable to find user x: no matching entries in passwd file",
        );
        check(
            |r| r.image_user = "web:x".into(),
            "unable to find group x: no matching entries in group file",
        );
        check(
            |r| r.non_root = true,
            "container has runAsNonRoot and image will run as root",
        );
        check(
            |r| (r.image_user, r.non_root) = ("web".into(), true),
            "33:34 [34, 50] /var/www",
        );
    }
}
