//! Foundation images that tests bake on, made for real and kept between runs.
//!
//! They are in `$BAKEHOUSE_TEST_CACHE`, else `~/.cache/bakehouse/test-bases`: a store of images, and the packages that
//! they were made of. A base is made again when it is old or when what makes it changed. Its file must not be
//! written to: [`store_with`] gives a test its own copy.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use bakehouse::cloud::local::{NewImage, Origin, Provenance, Store};
use bakehouse::disk::loopdev::LoopDevice;
use bakehouse::plan::Arch;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};

use super::host::{in_own_mounts, run};
use super::images::mounted;

/// A base that is older may lack what the mirror has now.
const TOO_OLD: Duration = Duration::from_secs(14 * 24 * 3600);

/// What the bases depend on besides their own arguments.
const MADE_BY: &[&str] = &[
    include_str!("../../../src/foundation/mod.rs"),
    include_str!("../../../src/foundation/bootstrap.rs"),
    include_str!("../../../src/foundation/inside.rs"),
    include_str!("../../../src/foundation/run.rs"),
    include_str!("../../../src/foundation/install.sh"),
    include_str!("../../../src/foundation/settle.sh"),
    include_str!("../../../src/foundation/boot.sh"),
    include_str!("../../../src/foundation/fstab.rs"),
    include_str!("../../../src/disk/layout.rs"),
];

/// The programs that making bases needs, for [`super::host::has`].
pub const NEEDED: &[&str] = &["mmdebstrap", "sfdisk", "mkfs.ext4"];

/// The programs that [`rpm_base`] needs besides.
pub const NEEDED_FOR_RPM: &[&str] = &["rpm", "rpmbuild", "createrepo_c"];

/// A Debian 12 that boots: 4 GiB, raw.
pub fn debian_base() -> PathBuf {
    base("debian-12", &["debian-12"])
}

/// The smallest Debian 12 with apt, without a kernel: for all that need not boot.
pub fn tiny_base() -> PathBuf {
    base("tiny", &["debian-12", "--variant", "tiny", "--size", "2GiB"])
}

/// An RPM distribution as far as package managers can tell: a Debian root with Debian's own rpm and dnf, an os-release
/// that says `fedora-like`, and a repository in `/srv/repo` with `bakery-bread` 1.2.3-4 and 1.3.0-1, which need
/// `bakery-flour`.
pub fn rpm_base() -> PathBuf {
    let arguments = ["debian-12", "--variant", "tiny", "--size", "2GiB", "--include", "rpm,dnf"];
    let root = base("debian-with-dnf", &arguments);
    cached("rpm", &[&key("debian-with-dnf", &arguments), include_str!("bases.rs")].concat(), |store, name| {
        store
            .add(new_image(name), |file| {
                copy(&root, file);
                let file = file.to_owned();
                in_own_mounts(move || {
                    let device = LoopDevice::attach(&file).unwrap();
                    let node =
                        device.partitions().unwrap().into_iter().find(|(number, _)| *number == 1).unwrap().1;
                    let folder = tempfile::tempdir().unwrap();
                    mounted(&node, "ext4", "", folder.path(), turn_into_rpm);
                    device.detach().unwrap();
                });
                Ok(())
            })
            .unwrap();
    })
}

/// A store in `folder` with a copy of a base in it.
pub fn store_with(folder: &Path, name: &str, base: &Path) -> Store {
    let store = Store::open(folder).unwrap();
    store
        .add(new_image(name), |file| {
            copy(base, file);
            Ok(())
        })
        .unwrap();
    store
}

/// Builds a package for every architecture that holds `/usr/share/NAME/version`; the .rpm in `folder`.
pub fn build_rpm(folder: &Path, name: &str, version: &str, release: &str, more: &str) -> PathBuf {
    let work = tempfile::tempdir().unwrap();
    let spec = work.path().join(format!("{name}.spec"));
    let text = format!(
        "Name: {name}\nVersion: {version}\nRelease: {release}\nSummary: A test's package\nLicense: Apache-2.0\n\
         BuildArch: noarch\n{more}\n%description\nA test's package.\n%install\n\
         mkdir -p %{{buildroot}}/usr/share/{name}\necho {version} > %{{buildroot}}/usr/share/{name}/version\n\
         %files\n/usr/share/{name}\n"
    );
    fs::write(&spec, text).unwrap();
    let top = format!("_topdir {}", work.path().display());
    let output = format!("_rpmdir {}", folder.display());
    let flat = "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm";
    run("rpmbuild", &["--quiet", "-bb", "-D", &top, "-D", &output, "-D", flat, spec.to_str().unwrap()]);
    let package = folder.join(format!("{name}-{version}-{release}.noarch.rpm"));
    assert!(package.is_file(), "rpmbuild made {}", package.display());
    package
}

fn turn_into_rpm(root: &Path) {
    let release = root.join("etc/os-release");
    fs::remove_file(&release).unwrap();
    let text = "NAME=\"A test's RPM distribution, really Debian\"\nID=fedora-like\nID_LIKE=\"fedora\"\n\
                VERSION_ID=1\nPRETTY_NAME=\"RPM distribution of tests\"\n";
    fs::write(release, text).unwrap();
    // Debian keeps rpm's database in the user's home, for it expects nobody to have packages in it.
    fs::create_dir_all(root.join("etc/rpm")).unwrap();
    fs::write(root.join("etc/rpm/macros"), "%_dbpath /var/lib/rpm\n").unwrap();
    let repository = root.join("srv/repo");
    fs::create_dir_all(&repository).unwrap();
    build_rpm(&repository, "bakery-flour", "1.0", "1", "");
    for (version, number) in [("1.2.3", "4"), ("1.3.0", "1")] {
        let marks = "Requires: bakery-flour\n%post\necho \"$1\" > /usr/share/bakery-bread/configured\n";
        build_rpm(&repository, "bakery-bread", version, number, marks);
    }
    // What every RPM distribution has before all else; dnf takes $releasever from it.
    let folder = tempfile::tempdir().unwrap();
    let marks = "Provides: system-release = 1\nProvides: /bin/sh";
    let release = build_rpm(folder.path(), "fedora-like-release", "1", "1", marks);
    let (root_name, release) = (root.to_str().unwrap(), release.to_str().unwrap());
    run("rpm", &["--root", root_name, "--dbpath", "/var/lib/rpm", "--force-debian", "--install", release]);
    run("createrepo_c", &["--quiet", repository.to_str().unwrap()]);
    let repositories = root.join("etc/yum.repos.d");
    fs::create_dir_all(&repositories).unwrap();
    let entry = "[bakery]\nname=The test's repository\nbaseurl=file:///srv/repo\nenabled=1\ngpgcheck=0\n";
    fs::write(repositories.join("bakery.repo"), entry).unwrap();
}

/// A cache that stays, with the packages of foundations.
pub fn packages() -> PathBuf {
    cache().join("packages")
}

/// A base made by `bakehouse local create-base`.
fn base(name: &str, arguments: &[&str]) -> PathBuf {
    cached(name, &key(name, arguments), |store, image| {
        let cache = packages();
        let output = Command::new(env!("CARGO_BIN_EXE_bakehouse"))
            .args(["local", "create-base", "--name", image, "--store"])
            .arg(store.folder())
            .arg("--cache")
            .arg(cache)
            .args(arguments)
            .env_remove("BAKEHOUSE_OUTPUT")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "making {name}: {}\n{said}", output.status);
    })
}

fn key(name: &str, arguments: &[&str]) -> String {
    [&[name], arguments, MADE_BY].concat().join("\0")
}

/// The image of that name and key in the cache, made where it is not there. Of several who want it, one makes it.
fn cached(name: &str, key: &str, make: impl FnOnce(&Store, &str)) -> PathBuf {
    let digest = Sha256::digest(key.as_bytes());
    let digest: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let image = format!("{name}-{digest}");
    let folder = cache();
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join(format!("{name}.lock"))).unwrap();
    let _alone = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno).unwrap();

    let store = Store::open(&folder.join("store")).unwrap();
    if let Ok(found) = store.image(&image)
        && fresh(&store.disk_of(&found))
    {
        return store.disk_of(&found);
    }
    // Those with other keys too: they are of other versions of what makes them.
    let prefix = format!("{name}-");
    let is_old = |other: &str| other.strip_prefix(&prefix).is_some_and(|rest| rest.len() == digest.len());
    for old in store.records().unwrap().iter().filter(|record| is_old(&record.name)) {
        store.remove(&old.id).unwrap();
    }
    make(&store, &image);
    store.disk_of(&store.image(&image).unwrap())
}

fn fresh(file: &Path) -> bool {
    let made = fs::metadata(file).and_then(|metadata| metadata.modified());
    made.is_ok_and(|made| SystemTime::now().duration_since(made).is_ok_and(|age| age < TOO_OLD))
}

fn cache() -> PathBuf {
    let given = std::env::var_os("BAKEHOUSE_TEST_CACHE").map(PathBuf::from);
    let home = || {
        let caches = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let caches = caches.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        caches.expect("a home folder").join("bakehouse/test-bases")
    };
    given.unwrap_or_else(home)
}

fn new_image(name: &str) -> NewImage {
    NewImage {
        name: name.to_owned(),
        arch: Arch::X86_64,
        description: String::new(),
        tags: BTreeMap::new(),
        boot_mode: Some("bios".to_owned()),
        provenance: Provenance::new(Origin::Import, None),
    }
}

fn copy(from: &Path, to: &Path) {
    run("cp", &["--sparse=auto", "--reflink=auto", from.to_str().unwrap(), to.to_str().unwrap()]);
}
