//! Options of a mount as mount(8) and nfs(5) know them: what is decided before the kernel is asked, and what it is told. Pure.

use std::net::IpAddr;

use rustix::mount::MountAttrFlags as Attributes;

/// An option of the kernel's client: a flag, or a key and its value.
pub(super) type Parameter = (String, Option<String>);

/// Where servers of NFS 4 answer (RFC 8881, section 2.9).
pub(crate) const PORT: u16 = 2049;
/// Where it is asked which port a server of NFS 3 has (RFC 1833).
const RPCBIND_PORT: u16 = 111;
/// What is tried when nobody asks for a version, best first, as mount.nfs does.
const VERSIONS: [&str; 4] = ["4.2", "4.1", "4.0", "3"];
/// Options for programs that mount, which the kernel does not know.
const NOT_THE_KERNELS: [&str; 15] = [
    "_netdev", "async", "auto", "bg", "comment", "defaults", "fg", "group", "noauto", "nofail",
    "nouser", "owner", "retry", "user", "users",
];
/// What is no option of a new mount of a file system.
const OTHER_CALLS: [&str; 5] = ["bind", "move", "rbind", "remount", "rmove"];
/// What an address, a transport and locks are said with.
const ADDRESS: &str = "addr";
const CLIENT: &str = "clientaddr";
const LOCKS: [&str; 3] = ["lock", "nolock", "local_lock"];
const TRANSPORTS: [&str; 3] = ["proto", "udp", "rdma"];
const MOUNT_TRANSPORT: &str = "mountproto";

/// What the options of a mount come to.
#[derive(Debug)]
pub(super) struct Options {
    version: Option<String>,
    minor: Option<String>,
    /// Of the mount itself.
    pub(super) attributes: Attributes,
    parameters: Vec<Parameter>,
}

impl Options {
    /// Reads options, which may be listed one by one or with commas.
    ///
    /// # Errors
    /// The option that is none of a mount.
    pub(super) fn parse(listed: &[String], is_read_only: bool) -> Result<Options, String> {
        let mut options = Options {
            version: None,
            minor: None,
            attributes: Attributes::empty(),
            parameters: Vec::new(),
        };
        let listed = listed.iter().flat_map(|several| several.split(','));
        for option in listed.map(str::trim).filter(|option| !option.is_empty()) {
            options.take(option)?;
        }
        if is_read_only {
            options.attributes |= Attributes::MOUNT_ATTR_RDONLY;
        }
        Ok(options)
    }

    fn take(&mut self, option: &str) -> Result<(), String> {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (option, None),
        };
        if OTHER_CALLS.contains(&key) {
            return Err(format!("mount option {key:?} is none of a volume"));
        }
        if NOT_THE_KERNELS.contains(&key) || key.starts_with("x-") || key.starts_with("X-") {
            return Ok(());
        }
        if let Some((set, attribute)) = attribute(key) {
            self.attributes.set(attribute, set);
            return Ok(());
        }
        let short = key.strip_prefix('v').filter(|rest| is_version(rest));
        match (key, value, short) {
            ("vers" | "nfsvers", Some(version), _) | (_, None, Some(version)) => {
                self.version = Some(version.to_owned());
            }
            ("minorversion", Some(minor), _) => self.minor = Some(minor.to_owned()),
            _ => self
                .parameters
                .push((key.to_owned(), value.map(str::to_owned))),
        }
        Ok(())
    }

    /// The versions to try, one after another while the server does not have them.
    pub(super) fn versions(&self) -> Vec<String> {
        let is_four = self.version.as_deref() == Some("4");
        match (&self.version, &self.minor) {
            (None, None) => VERSIONS.map(str::to_owned).into(),
            (Some(_), None) if is_four => VERSIONS[..3].iter().map(|v| (*v).to_owned()).collect(),
            (None, Some(minor)) => vec![format!("4.{minor}")],
            (Some(_), Some(minor)) if is_four => vec![format!("4.{minor}")],
            (Some(version), _) => vec![version.clone()],
        }
    }

    /// The port at which the server is to be met first; none if not by TCP.
    pub(super) fn port(&self, version: &str) -> Option<u16> {
        if self.has_any(&TRANSPORTS) && !self.says("proto", "tcp") && !self.says("proto", "tcp6") {
            return None;
        }
        let known = |key: &str| self.value(key)?.parse().ok().filter(|port| *port > 0);
        match is_stateful(version) {
            true => Some(known("port").unwrap_or(PORT)),
            false => Some(known("mountport").unwrap_or(RPCBIND_PORT)),
        }
    }

    /// What the kernel is told to mount a version from `server`, which answers `own`. Without the programs that watch servers of
    /// version 3 restart, its locks are this machine's own unless the options say otherwise.
    pub(super) fn told(
        &self,
        version: &str,
        server: IpAddr,
        own: Option<IpAddr>,
    ) -> Vec<Parameter> {
        let mut told = self.parameters.clone();
        let mut say = |key: &str, value: Option<String>| told.push((key.to_owned(), value));
        say("vers", Some(version.to_owned()));
        if !self.has_any(&[ADDRESS]) {
            say(ADDRESS, Some(server.to_string()));
        }
        if is_stateful(version) {
            if let Some(own) = own.filter(|_| !self.has_any(&[CLIENT])) {
                say(CLIENT, Some(own.to_string()));
            }
        } else {
            if !self.has_any(&LOCKS) {
                say("nolock", None);
            }
            if !self.has_any(&[MOUNT_TRANSPORT]) && !self.has_any(&TRANSPORTS) {
                say(MOUNT_TRANSPORT, Some("tcp".to_owned()));
            }
        }
        told
    }

    fn has_any(&self, keys: &[&str]) -> bool {
        self.parameters
            .iter()
            .any(|(key, _)| keys.contains(&&**key))
    }

    fn value(&self, key: &str) -> Option<&str> {
        let said = self.parameters.iter().rev();
        said.filter(|(named, _)| named == key)
            .find_map(|(_, value)| value.as_deref())
    }

    fn says(&self, key: &str, value: &str) -> bool {
        self.value(key) == Some(value)
    }
}

/// Whether the server keeps state of its clients, and answers at one port: versions from 4 on.
fn is_stateful(version: &str) -> bool {
    !matches!(version, "2" | "3")
}

fn is_version(text: &str) -> bool {
    text.starts_with(['2', '3', '4']) && text.chars().all(|c| c.is_ascii_digit() || c == '.')
}

/// What a generic option sets or clears of the mount itself.
fn attribute(key: &str) -> Option<(bool, Attributes)> {
    Some(match key {
        "ro" => (true, Attributes::MOUNT_ATTR_RDONLY),
        "rw" => (false, Attributes::MOUNT_ATTR_RDONLY),
        "nosuid" => (true, Attributes::MOUNT_ATTR_NOSUID),
        "suid" => (false, Attributes::MOUNT_ATTR_NOSUID),
        "nodev" => (true, Attributes::MOUNT_ATTR_NODEV),
        "dev" => (false, Attributes::MOUNT_ATTR_NODEV),
        "noexec" => (true, Attributes::MOUNT_ATTR_NOEXEC),
        "exec" => (false, Attributes::MOUNT_ATTR_NOEXEC),
        "noatime" => (true, Attributes::MOUNT_ATTR_NOATIME),
        "atime" => (false, Attributes::MOUNT_ATTR_NOATIME),
        "nodiratime" => (true, Attributes::MOUNT_ATTR_NODIRATIME),
        "diratime" => (false, Attributes::MOUNT_ATTR_NODIRATIME),
        "strictatime" => (true, Attributes::MOUNT_ATTR_STRICTATIME),
        "nosymfollow" => (true, Attributes::MOUNT_ATTR_NOSYMFOLLOW),
        // The kernel's default.
        "relatime" | "norelatime" | "nostrictatime" => (true, Attributes::empty()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(listed: &str) -> Options {
        Options::parse(&[listed.to_owned()], false).unwrap()
    }

    #[test]
    fn versions_are_tried_as_asked() {
        for (listed, expected) in [
            ("", "4.2 4.1 4.0 3"),
            ("hard,vers=4", "4.2 4.1 4.0"),
            ("nfsvers=4.1", "4.1"),
            ("nfsvers=4,minorversion=1", "4.1"),
            ("minorversion=2", "4.2"),
            ("v4.0", "4.0"),
            ("v3", "3"),
            ("vers=3", "3"),
            ("vers=7", "7"),
        ] {
            assert_eq!(parsed(listed).versions().join(" "), expected, "{listed}");
        }
    }

    #[test]
    fn the_kernel_is_told_what_it_knows() {
        let server = IpAddr::from([10, 0, 0, 1]);
        let own = Some(IpAddr::from([10, 0, 0, 2]));
        for (listed, version, expected) in [
            ("", "4.2", "vers=4.2,addr=10.0.0.1,clientaddr=10.0.0.2"),
            (
                "soft,timeo=10,_netdev,bg,retry=2,x-systemd.automount,async,rw",
                "4.1",
                "soft,timeo=10,vers=4.1,addr=10.0.0.1,clientaddr=10.0.0.2",
            ),
            (
                "clientaddr=10.9.9.9",
                "4.0",
                "clientaddr=10.9.9.9,vers=4.0,addr=10.0.0.1",
            ),
            ("", "3", "vers=3,addr=10.0.0.1,nolock,mountproto=tcp"),
            ("lock,udp", "3", "lock,udp,vers=3,addr=10.0.0.1"),
            (
                "local_lock=flock",
                "3",
                "local_lock=flock,vers=3,addr=10.0.0.1,mountproto=tcp",
            ),
        ] {
            let told = parsed(listed).told(version, server, own).into_iter();
            let told: Vec<String> = told
                .map(|(key, value)| match value {
                    Some(value) => format!("{key}={value}"),
                    None => key,
                })
                .collect();
            assert_eq!(told.join(","), expected, "{listed}");
        }
    }

    #[test]
    fn servers_are_met_where_they_answer() {
        for (listed, version, expected) in [
            ("", "4.2", Some(2049)),
            ("port=20490", "4.1", Some(20490)),
            ("proto=tcp", "4.1", Some(2049)),
            ("port=20490", "3", Some(111)),
            ("port=20490,mountport=635", "3", Some(635)),
            ("mountport=0", "3", Some(111)),
            ("udp", "3", None),
            ("proto=rdma,port=20049", "4.2", None),
        ] {
            assert_eq!(parsed(listed).port(version), expected, "{listed}");
        }
    }

    #[test]
    fn generic_options_are_of_the_mount() {
        use Attributes as A;
        for (listed, is_read_only, expected) in [
            ("", false, A::empty()),
            ("", true, A::MOUNT_ATTR_RDONLY),
            ("rw", true, A::MOUNT_ATTR_RDONLY),
            ("ro,rw", false, A::empty()),
            (
                "ro,nosuid,noexec,exec,noatime,relatime",
                false,
                A::MOUNT_ATTR_RDONLY | A::MOUNT_ATTR_NOSUID | A::MOUNT_ATTR_NOATIME,
            ),
        ] {
            let options = Options::parse(&[listed.to_owned()], is_read_only).unwrap();
            assert_eq!(options.attributes, expected, "{listed}");
            assert!(options.parameters.is_empty(), "{listed}");
        }
        let refused = Options::parse(&["hard,bind".to_owned()], false).unwrap_err();
        assert_eq!(refused, "mount option \"bind\" is none of a volume");
    }
}
