//! Whole bakes on a disk that boots: the real GRUB, and a step on the builder beside the mounted root.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::bakery::Bakery;
use crate::support::bases::{self, debian_base};
use crate::support::host::has;

const RECIPE: &str = r#"
[image]
name = "settled-{time}"
[base]
image = "debian-12"

[[step]]
use = "system"
kernel_arguments = ["bakery.test=1", "console=ttyS0,115200"]
remove_kernel_arguments = ["console=tty0"]
hostname = ""
disable = ["serial-getty@ttyS0.service"]

[[step]]
use = "outside"
"#;

/// What a step on the builder must not have.
const OUTSIDE: &str = r#"#!/bin/sh
set -eu
if env | grep -q '^AWS_'; then echo "has the builder's credentials"; exit 1; fi
if cut -d ' ' -f 5 /proc/self/mountinfo | grep '^/run/bakehouse/bake-'; then echo 'sees the root'; exit 1; fi
bakehouse-inside cat /etc/os-release | grep -qx ID=debian
echo told | bakehouse-inside --put /srv/told
"#;

#[test]
fn kernel_arguments_reach_grub_and_a_step_on_the_builder_sees_no_root() {
    if !has(&[bases::NEEDED, &["timeout"]].concat()) {
        return;
    }
    let base = debian_base();
    let mut bakery = Bakery::new();
    bakery.set("AWS_SECRET_ACCESS_KEY", Some("not for steps"));
    bakery.base("debian-12", &base);
    bakery.put(
        "provisioners/outside/provisioner.toml",
        "summary = \"x\"\nwhere = \"host\"\n[run]\ncommand = [\"./run\"]\n",
    );
    let program = bakery.put("provisioners/outside/run", OUTSIDE);
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let planned = bakery.bake(RECIPE, &["--dry-run"]).good().told();
    assert!(planned.contains("outside runs ./run on the builder"), "{planned}");
    let image = bakery.bake(RECIPE, &[]).good().id();
    bakery.look(&image, 1, "ext4", |root| {
        let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
        let config = read("boot/grub/grub.cfg");
        let lines: Vec<&str> = config.lines().filter(|line| line.trim().starts_with("linux")).collect();
        assert!(!lines.is_empty(), "{config}");
        for line in lines {
            assert!(line.contains(" bakery.test=1") && line.contains("root=UUID="), "{line}");
            assert_eq!(line.matches("console=ttyS0,115200").count(), 1, "{line}");
            assert!(!line.contains("console=tty0"), "the base's own is gone: {line}");
        }
        assert_eq!(read("etc/hostname"), "");
        assert_eq!(read("srv/told"), "told\n");
        assert!(!root.join("etc/systemd/system/getty.target.wants/serial-getty@ttyS0.service").exists());
    });
    bakery.assert_nothing_left();
}
