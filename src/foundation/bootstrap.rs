//! The packages of a foundation: mmdebstrap fetches them and extracts what is essential, and the root's own dpkg and
//! apt install them in the sandbox, so that no package's script runs outside of it.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::fcntl::{Flock, FlockArg};

use super::release::sources_like_host;
use super::run::{Tell, in_root, on_builder, perform, shown};
use super::{Mounted, Release, folder_in};
use crate::plan::Arch;
use crate::program::{Program, find};
use crate::sandbox::Bind;
use crate::stop::Stop;

const INSTALL: &str = include_str!("install.sh");

/// Run by mmdebstrap on the builder once the essential packages and apt are extracted: notes which archives those are,
/// and fetches what else will be installed.
const FETCH: &str = r#"set -eu
printf '%s\n' $MMDEBSTRAP_ESSENTIAL > "$BAKEHOUSE_EXTRACTED"
set -f
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get --yes --download-only install \
    '?essential' apt '?and(?priority(required),?not(?essential))' $BAKEHOUSE_PACKAGES >&2"#;

/// What tells `install.sh` its work, inside.
const ORDER: &str = "/run/bakehouse/bootstrap";

/// What mmdebstrap takes from the builder, which no script of a package needs: apt's settings with a proxy's password,
/// and names.
const BUILDERS: &[&str] = &["etc/apt/apt.conf.d/99mmdebstrap", "etc/hostname", "etc/resolv.conf"];

/// Where apt in the root keeps packages.
const ARCHIVES: &str = "/var/cache/apt/archives";

/// What makes a root boot, find its network and be looked after: what Debian's own cloud images have, less cloud-init.
pub(super) const CLOUD: &[&str] = &[
    "initramfs-tools",
    "systemd-sysv",
    "libpam-systemd",
    "dbus",
    "udev",
    "systemd-resolved",
    "libnss-resolve",
    "libnss-myhostname",
    "systemd-timesyncd",
    "iproute2",
    "iputils-ping",
    "netbase",
    "kmod",
    "procps",
    "less",
    "vim-tiny",
    "zstd",
];

/// Where the packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sources {
    /// One mirror: the release alone, without updates.
    Mirror(String),
    /// Entries for apt, in the deb822 format.
    Like(String),
    /// mmdebstrap's own: the public mirrors, with updates and security updates.
    Default,
}

impl Sources {
    /// The mirror that was asked for; else, on a Debian host, where the host's own packages come from; else the
    /// public mirrors.
    pub fn choose(mirror: Option<&str>, suite: &str) -> Self {
        if let Some(mirror) = mirror {
            return Self::Mirror(mirror.to_owned());
        }
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let field = |key: &str| {
            let value = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            value.map(|value| value.trim_matches(['"', '\'']).to_owned())
        };
        let Some(host) = field("VERSION_CODENAME").filter(|_| field("ID").as_deref() == Some("debian"))
        else {
            return Self::Default;
        };
        sources_like_host(&source_files(), &host, suite).map_or(Self::Default, Self::Like)
    }
}

/// This host's apt sources: name and text.
fn source_files() -> Vec<(String, String)> {
    let mut paths = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(folder) = std::fs::read_dir("/etc/apt/sources.list.d") {
        let mut parts: Vec<_> = folder.flatten().map(|entry| entry.path()).collect();
        parts.retain(|path| path.extension().is_some_and(|end| end == "list" || end == "sources"));
        parts.sort();
        paths.extend(parts);
    }
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).ok()?;
        Some((path.to_string_lossy().into_owned(), text))
    };
    paths.into_iter().filter_map(read).collect()
}

/// A Debian root.
#[derive(Debug, Clone)]
pub struct Debian {
    /// Of which release.
    pub release: Release,
    /// Further packages.
    pub include: Vec<String>,
    /// Where the packages come from.
    pub sources: Sources,
    /// The folder of this host's caches.
    pub cache: PathBuf,
}

impl Debian {
    /// Bootstraps the release into an empty root. `work` is for what is needed meanwhile.
    pub(super) fn bootstrap(
        &self,
        arch: Arch,
        packages: &[String],
        root: &Path,
        work: &Path,
        stop: &Stop,
        tell: &mut Tell<'_>,
    ) -> Result<()> {
        let sources = work.join("debian.sources");
        let apt_conf = work.join("apt.conf");
        let settings_of_host = acquire_settings(stop);
        std::fs::write(&apt_conf, format!("{settings_of_host}APT::Keep-Downloaded-Packages \"true\";\n"))
            .with_context(|| format!("writing {}", apt_conf.display()))?;

        // Packages stay on the builder for the next foundation. apt would refuse a second user of the folder.
        let (cache, _alone) = self.package_cache(stop, tell)?;
        let archives = folder_in(root, ARCHIVES)?;
        let cached = Mounted::new(&archives, Some(&cache), "bind", None)?;

        let order = work.join("bootstrap");
        std::fs::create_dir(&order).with_context(|| format!("making {}", order.display()))?;
        let mmdebstrap = find("mmdebstrap".as_ref()).context("finding mmdebstrap")?;
        let mut argv = vec![mmdebstrap.display().to_string()];
        // No script of a package runs by this variant, and so nothing needs to be mounted for one.
        argv.extend(["--mode=root", "--format=directory", "--variant=extract"].map(str::to_owned));
        argv.push(
            "--skip=check/empty,chroot/mount,chroot/policy-rc.d,chroot/start-stop-daemon,cleanup/apt"
                .to_owned(),
        );
        argv.extend([
            format!("--architectures={}", debian_name(arch)),
            "--include=?essential".to_owned(),
            "--include=apt".to_owned(),
            format!("--extract-hook={FETCH}"),
            format!("--aptopt={}", apt_conf.display()),
            self.release.suite.to_owned(),
            root.display().to_string(),
        ]);
        match &self.sources {
            // A bare address is given the keys that it is to be signed with, where this host's apt does not trust
            // them of itself (Ubuntu's does not); an entry for apt is taken as it is.
            Sources::Mirror(mirror) if mirror.contains("://") => argv.push(mirror.clone()),
            Sources::Mirror(mirror) => argv.push(format!("deb {mirror} {} main", self.release.suite)),
            Sources::Like(text) => {
                std::fs::write(&sources, text).with_context(|| format!("writing {}", sources.display()))?;
                argv.push(sources.display().to_string());
            }
            Sources::Default => {}
        }
        let line = shown(&argv);
        let mut run = on_builder(argv);
        for (name, value) in [
            ("TMPDIR", work.display().to_string()),
            ("DEBIAN_FRONTEND", "noninteractive".to_owned()),
            ("BAKEHOUSE_EXTRACTED", order.join("extracted").display().to_string()),
            ("BAKEHOUSE_PACKAGES", packages.join(" ")),
        ] {
            run.env.insert(name.to_owned(), value);
        }
        perform(root, &run, &line, stop, &mut |line| tell_progress(line, tell))
            .context("bootstrapping the root")?;
        cached.unmount()?;
        for name in BUILDERS {
            remove(&root.join(name))?;
        }
        self.install(packages, root, &order, &cache, stop, tell).context("installing the root's packages")
    }

    /// Installs what was extracted and fetched, inside.
    fn install(
        &self,
        packages: &[String],
        root: &Path,
        order: &Path,
        cache: &Path,
        stop: &Stop,
        tell: &mut Tell<'_>,
    ) -> Result<()> {
        let script = order.join("install.sh");
        std::fs::write(&script, INSTALL).with_context(|| format!("writing {}", script.display()))?;
        let mut argv = vec!["/bin/sh".to_owned(), format!("{ORDER}/install.sh")];
        argv.extend_from_slice(packages);
        let line = shown(&argv);
        let mut run = in_root(argv);
        let bind = |source: &Path, target: &str| Bind {
            source: source.to_owned(),
            target: target.into(),
            // What one root's packages do must not reach another's.
            writable: false,
        };
        run.binds = vec![bind(order, ORDER), bind(cache, ARCHIVES)];
        // The disk is worth nothing until it is whole, and synced once then.
        run.suppress_sync = true;
        // apt warns of the archives that it cannot write to.
        perform(root, &run, &line, stop, &mut |line| match line.starts_with("W: ") {
            true => tracing::debug!("apt: {line}"),
            false => tell_progress(line, tell),
        })
    }

    /// The builder's folder of packages of this release, and the right to it.
    fn package_cache(&self, stop: &Stop, tell: &mut dyn FnMut(&str)) -> Result<(PathBuf, Flock<File>)> {
        let folder = self.cache.join("foundations").join(self.release.suite);
        std::fs::create_dir_all(folder.join("partial"))
            .with_context(|| format!("making the cache {}", folder.display()))?;
        let path = self.cache.join("foundations").join(format!("{}.lock", self.release.suite));
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        let mut waits = || tell("waiting for another foundation of this release");
        let lock = stop.lock(file, FlockArg::LockExclusiveNonblock, &mut waits);
        Ok((folder, lock.with_context(|| format!("locking {}", path.display()))?))
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn debian_name(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "amd64",
        Arch::Arm64 => "arm64",
    }
}

/// How this host's apt downloads (proxies, certificates, retries): the network is the host's, so its settings
/// hold for the bootstrap too. They are not left in the image.
fn acquire_settings(stop: &Stop) -> String {
    let dumped = Program::new("apt-config").arg("dump").run(stop, &mut |_| {}).unwrap_or_else(|error| {
        tracing::debug!("reading apt's settings: {error:#}");
        String::new()
    });
    only_acquire(&dumped)
}

fn only_acquire(dump: &str) -> String {
    dump.lines().filter(|line| line.starts_with("Acquire::")).map(|line| format!("{line}\n")).collect()
}

/// mmdebstrap's own milestones are for people, a warning or an error too; the rest is for the log.
fn tell_progress(line: &str, tell: &mut dyn FnMut(&str)) {
    match line.strip_prefix("I: ") {
        Some(milestone) if milestone.starts_with("running --extract-hook") => tell("downloading the rest..."),
        Some(milestone) if !milestone.starts_with("skipping ") => tell(milestone),
        None if line.starts_with("E: ") || line.starts_with("W: ") => tell(line),
        _ => tracing::debug!("mmdebstrap: {line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_downloading_is_taken_over_and_nothing_else() {
        let dump = "APT::Architecture \"amd64\";\nAcquire::http::Proxy \"http://p:3142\";\nDir \"/\";\n\
                    Acquire::Retries \"3\";\nDPkg::Pre-Invoke:: \"rm -rf /\";\n";
        assert_eq!(only_acquire(dump), "Acquire::http::Proxy \"http://p:3142\";\nAcquire::Retries \"3\";\n");
    }

    #[test]
    fn a_cache_that_another_foundation_has_is_waited_for_until_stopping_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let debian = Debian {
            release: Release::parse("debian-12").unwrap(),
            include: Vec::new(),
            sources: Sources::Default,
            cache: folder.path().to_owned(),
        };
        let stop = Stop::default();
        let held = debian.package_cache(&stop, &mut |_| {}).unwrap();
        let error = debian.package_cache(&stop, &mut |_| stop.raise(libc::SIGTERM)).unwrap_err();
        assert_eq!(crate::error::exit_status(&error), 143);
        let mut told = 0;
        let mut held = Some(held);
        let mut tell = |_: &str| {
            told += 1;
            drop(held.take());
        };
        debian.package_cache(&Stop::default(), &mut tell).unwrap();
        assert_eq!(told, 1);
    }

    #[test]
    fn milestones_reach_people() {
        let mut told = Vec::new();
        for line in ["I: extracting archives...", "Get:1 http://x", "W: odd"] {
            tell_progress(line, &mut |text| told.push(text.to_owned()));
        }
        assert_eq!(told, ["extracting archives...", "W: odd"]);
    }
}
