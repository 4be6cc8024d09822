//! Debian's cloud kernel and its modules, unpacked from their package.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::initramfs::Archive;
use crate::{run, setup};

/// Depends on the package of the newest kernel.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// An unpacked kernel.
pub(super) struct Kernel {
    /// What is booted.
    pub(super) image: PathBuf,
    /// Module files by name, with `_` for `-` as the kernel has it.
    modules: BTreeMap<String, PathBuf>,
}

/// Unpacks the kernel below `dir`, downloading it the first time.
pub(super) fn unpack(dir: &Path) -> anyhow::Result<Kernel> {
    let root = dir.join("kernel");
    if !root.exists() {
        let fresh = dir.join("kernel.new");
        let _ = std::fs::remove_dir_all(&fresh);
        std::fs::create_dir(&fresh)?;
        let package = setup::newest(META_PACKAGE)?;
        eprintln!("downloading {package}");
        run::command(Command::new("apt-get").current_dir(&fresh).args([
            "-qq",
            "-o=APT::Sandbox::User=root",
            "download",
            &package,
        ]))?;
        let deb = only_file(&fresh, "deb")?;
        run::command(Command::new("dpkg-deb").arg("-x").args([&deb, &fresh]))?;
        std::fs::remove_file(deb)?;
        std::fs::rename(&fresh, &root).context("keep the kernel")?;
    }
    let boot = root.join("boot");
    let image = std::fs::read_dir(&boot)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz"))
        });
    let mut modules = BTreeMap::new();
    find_modules(&root.join("lib/modules"), &mut modules)?;
    Ok(Kernel {
        image: image.context("the package has no kernel")?,
        modules,
    })
}

fn only_file(dir: &Path, extension: &str) -> anyhow::Result<PathBuf> {
    let mut files = std::fs::read_dir(dir)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == extension));
    files.next().context("nothing was downloaded")
}

fn find_modules(dir: &Path, found: &mut BTreeMap<String, PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir)?.flatten() {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            find_modules(&path, found)?;
        } else if let Some(name) = entry.file_name().to_string_lossy().strip_suffix(".ko") {
            found.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

impl Kernel {
    /// Adds modules and what they depend on, to be loaded by `init` in the archive's order.
    pub(super) fn add_modules(&self, archive: &mut Archive, names: &[&str]) -> anyhow::Result<()> {
        let mut added = Vec::new();
        for name in names {
            self.add_module(archive, name, &mut added)?;
        }
        Ok(())
    }

    fn add_module(
        &self,
        archive: &mut Archive,
        name: &str,
        added: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        if added.iter().any(|done| done == name) {
            return Ok(());
        }
        let Some(path) = self.modules.get(name) else {
            bail!("the kernel has no module {name}");
        };
        let content = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        for needed in dependencies(&content) {
            self.add_module(archive, &needed, added)?;
        }
        added.push(name.to_owned());
        archive.module(name, content)
    }
}

/// The modules a module needs, from the `depends` of its `.modinfo` section.
fn dependencies(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(at) = module.windows(key.len()).position(|window| window == key) else {
        return Vec::new();
    };
    let value = module[at + key.len()..].split(|byte| *byte == 0).next();
    String::from_utf8_lossy(value.unwrap_or_default())
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::dependencies;

    #[test]
    fn dependencies_are_read_from_modinfo() {
        let module = b"\x7fELF\0license=GPL\0depends=stp,nf-x\0name=bridge\0";
        assert_eq!(dependencies(module), ["stp", "nf_x"]);
        assert!(dependencies(b"\0depends=\0name=stp\0").is_empty());
        assert!(dependencies(b"").is_empty());
    }
}
