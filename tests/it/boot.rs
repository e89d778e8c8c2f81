//! Images booted in QEMU, by software alone, to a login prompt.

use std::process::Command;

use crate::support::bases::{self, debian_base, store_with};
use crate::support::host::has;
use crate::support::machine::{Machine, free_port, page};

#[test]
fn the_examples_image_boots_to_a_login_prompt_and_its_service_answers() {
    if !has(&[bases::NEEDED, &["qemu-system-x86_64"]].concat()) {
        return;
    }
    let base = debian_base();
    let folder = tempfile::tempdir().unwrap();
    let store = store_with(folder.path(), "debian-12", &base);
    let bakehouse = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bakehouse"));
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        command.env("BAKEHOUSE_CLOUD", "local").env("BAKEHOUSE_STORE", folder.path());
        for name in ["STATE", "CACHE", "LOGS"] {
            command.env(format!("BAKEHOUSE_{name}"), folder.path().join(name.to_lowercase()));
        }
        command
    };
    let baked = bakehouse().args(["bake", "examples/web/web.toml"]).output().unwrap();
    let said = String::from_utf8_lossy(&baked.stderr);
    assert!(baked.status.success(), "{said}");
    let image = String::from_utf8(baked.stdout).unwrap().trim().to_owned();
    let disk = store.disk_of(&store.image(&image).unwrap());
    let before = std::fs::metadata(&disk).unwrap().modified().unwrap();

    let port = free_port();
    let mut command = bakehouse();
    command.args(["local", "boot", &image, "--memory", "512", "--port-forward", &format!("{port}:80")]);
    command.args(["--", "-monitor", "none"]);
    let mut machine = Machine::boot(command);
    machine.wait_for("debian login:");
    assert!(
        page(port, "/").contains("This page came with the image."),
        "the page that the files step brought"
    );
    drop(machine);
    assert_eq!(std::fs::metadata(&disk).unwrap().modified().unwrap(), before, "nothing was written");
}
