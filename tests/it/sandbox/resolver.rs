//! The builder's resolver is seen at /etc/resolv.conf, and the image's own is as it was, byte for byte.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use bakehouse::error::{Kind, kind_of};
use bakehouse::sandbox::Network;

use crate::support::roots::{Root, can_make, sh};

/// Everything below /etc and a few other folders: path, type and mode, content or target.
fn inventory(root: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let about = path.symlink_metadata().unwrap();
            let content = if about.is_symlink() {
                std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if about.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else {
                std::fs::read(&path).unwrap()
            };
            all.push((path, about.permissions().mode(), content));
        }
    }
    all.sort();
    all
}

fn check(what: &str, prepare: impl FnOnce(&Path)) {
    let root = Root::new();
    prepare(root.path());
    let before = inventory(root.path());
    let mut run = sh("cat /etc/resolv.conf");
    run.network = Network::Host;
    let seen = root.go(&run).good();
    let builders = std::fs::read_to_string("/etc/resolv.conf").unwrap();
    assert_eq!(seen.trim_end(), builders.trim_end(), "{what}");
    assert_eq!(before, inventory(root.path()), "{what}");
}

#[test]
fn every_form_is_served_and_left_as_it_was() {
    if !can_make() {
        return;
    }
    let conf = "etc/resolv.conf";
    check("missing", |_| {});
    check("a file", |root| std::fs::write(root.join(conf), "nameserver 192.0.2.1\n").unwrap());
    check("an empty file", |root| std::fs::write(root.join(conf), "").unwrap());
    check("a link into /run (systemd-resolved)", |root| {
        symlink("../run/systemd/resolve/stub-resolv.conf", root.join(conf)).unwrap();
    });
    check("an absolute link into /run (NetworkManager)", |root| {
        symlink("/run/NetworkManager/resolv.conf", root.join(conf)).unwrap();
    });
    check("a link by /var/run", |root| {
        symlink("/run", root.join("var/run")).unwrap();
        symlink("/var/run/resolvconf/resolv.conf", root.join(conf)).unwrap();
    });
    check("a link to a link into /run", |root| {
        symlink("../run/x/resolv.conf", root.join("etc/second")).unwrap();
        symlink("second", root.join(conf)).unwrap();
    });
    check("a link to a file of the image", |root| {
        std::fs::write(root.join("etc/real"), "nameserver 192.0.2.2\n").unwrap();
        symlink("real", root.join(conf)).unwrap();
    });
    check("a link that leads nowhere in the image", |root| symlink("/opt/none/x", root.join(conf)).unwrap());
    check("a link up and out", |root| symlink("../../../../../opt/none", root.join(conf)).unwrap());
    check("a link to itself", |root| symlink("resolv.conf", root.join(conf)).unwrap());
    check("a link to a file of the host", |root| {
        symlink("/root/.bashrc-of-the-host", root.join(conf)).unwrap()
    });
}

#[test]
fn a_link_into_run_can_be_replaced_by_a_package() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    symlink("../run/systemd/resolve/stub-resolv.conf", root.path().join("etc/resolv.conf")).unwrap();
    let mut run = sh("ln -sf ../run/other /etc/resolv.conf && readlink /etc/resolv.conf");
    run.network = Network::Host;
    assert_eq!(root.go(&run).good(), "../run/other\n");
    let now = std::fs::read_link(root.path().join("etc/resolv.conf")).unwrap();
    assert_eq!(now, Path::new("../run/other"), "what the package did stays");
}

#[test]
fn the_builders_own_cannot_be_written() {
    if !can_make() {
        return;
    }
    let before = std::fs::read("/etc/resolv.conf").unwrap();
    let root = Root::new();
    std::fs::write(root.path().join("etc/resolv.conf"), "own\n").unwrap();
    let mut run = sh("echo x > /etc/resolv.conf");
    run.network = Network::Host;
    assert!(root.go(&run).err.contains("Read-only"));
    assert_eq!(std::fs::read("/etc/resolv.conf").unwrap(), before);
}

#[test]
fn without_network_the_images_own_is_seen() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    std::fs::write(root.path().join("etc/resolv.conf"), "own\n").unwrap();
    assert_eq!(root.sh("cat /etc/resolv.conf").good(), "own\n");
}

#[test]
fn a_root_without_etc_is_no_base() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    std::fs::remove_dir_all(root.path().join("etc")).unwrap();
    let mut run = sh("true");
    run.network = Network::Host;
    let error = root.go(&run).refused();
    assert_eq!(kind_of(&error), Kind::Base);
    assert!(format!("{error:#}").contains("the root has no /etc"), "{error:#}");
}
