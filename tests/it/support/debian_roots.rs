//! Real roots, made once by mmdebstrap and copied for each test.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

use super::host::run;

/// A Debian 12 root with apt and little else; its package lists are those of the day it was made.
pub fn debian() -> TempDir {
    copy("debian-12", &[])
}

/// The same with these packages too, under a name of its own.
pub fn debian_with(name: &str, packages: &str) -> TempDir {
    copy(&format!("debian-12-{name}"), &[&format!("--include={packages}")])
}

/// The same with rpm and dnf, and an os-release that says so: what an RPM distribution's root is to provisioners.
pub fn rpm() -> TempDir {
    let root = copy("debian-12-rpm", &["--include=rpm,dnf"]);
    std::fs::remove_file(root.path().join("etc/os-release")).unwrap();
    std::fs::write(root.path().join("etc/os-release"), "ID=rocky\nID_LIKE=\"rhel fedora\"\n").unwrap();
    root
}

/// The same with rpm and zypper.
pub fn suse() -> TempDir {
    let root = copy("debian-12-zypper", &["--include=rpm,zypper"]);
    let put = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    std::fs::remove_file(root.path().join("etc/os-release")).unwrap();
    put("etc/os-release", "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n");
    // Debian's rpm asks another database than libzypp's otherwise.
    put("etc/rpm/macros", "%_dbpath /var/lib/rpm\n");
    root
}

/// An archive of a Debian 12 root that has GRUB for a BIOS and for UEFI on x86_64, the udev that GRUB asks, and no
/// kernel: what a bootstrap script unpacks. Not to be written to.
pub fn with_grub() -> PathBuf {
    archive("debian-12-grub", &["--include=grub-pc,grub-efi-amd64-bin,udev"])
}

/// The archive of that name, made where there is none.
fn archive(name: &str, arguments: &[&str]) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = cache
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or("/root".into())).join(".cache"));
    let folder = cache.join("bakehouse/test-roots");
    std::fs::create_dir_all(&folder).unwrap();
    let archive = folder.join(format!("{name}.tar"));
    {
        // Tests run at once, in several processes too: one makes it, the others wait.
        let lock = std::fs::File::create(folder.join(format!("{name}.lock"))).unwrap();
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno).unwrap();
        if !archive.exists() {
            let new = folder.join(format!("{name}.new.tar"));
            let mut all = vec!["--quiet", "--variant=apt", "--mode=root", "--skip=cleanup/apt/lists"];
            all.extend(arguments);
            all.extend(["bookworm", new.to_str().unwrap()]);
            run("mmdebstrap", &all);
            std::fs::rename(new, &archive).unwrap();
        }
    }
    archive
}

fn copy(name: &str, arguments: &[&str]) -> TempDir {
    let archive = archive(name, arguments);
    let root = tempfile::tempdir().unwrap();
    std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (archive, root_path) = (archive.to_str().unwrap(), root.path().to_str().unwrap());
    // Device nodes are the sandbox's affair.
    run(
        "tar",
        &[
            "--extract",
            "--xattrs",
            "--xattrs-include=*",
            "--exclude=./dev/*",
            "--file",
            archive,
            "--directory",
            root_path,
        ],
    );
    root
}
