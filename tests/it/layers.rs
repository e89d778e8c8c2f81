//! The three layers under `examples/`, baked in a row; the last one's image is booted and asked for its page.

use std::path::Path;

use bakehouse::cloud::local::Record;

use crate::support::bakery::Bakery;
use crate::support::bases::{self, debian_base};
use crate::support::host::has;
use crate::support::machine::{Machine, free_port, page};

#[test]
fn three_layers_are_baked_in_a_row_and_the_app_answers() {
    if !has(&[bases::NEEDED, &["qemu-system-x86_64", "timeout"]].concat()) {
        return;
    }
    let bakery = Bakery::new().patient("600");
    bakery.base("debian-12", &debian_base());
    let recipe = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}/{name}.toml"));
        path.to_str().unwrap().to_owned()
    };
    let bake = |name: &str, more: &[&str]| -> Record {
        let recipe = recipe(name);
        let ran = bakery.bakehouse(&[&["bake", recipe.as_str()], more].concat());
        let took = ran.took;
        let id = ran.id();
        eprintln!("{name}: {:.1} s", took.as_secs_f64());
        bakery.store().image(&id).unwrap()
    };
    let base = bake("base", &[]);
    let runtime = bake("base-app", &[]);
    let app = bake("app", &["--var", "version=1.0.1"]);
    assert!(app.name.starts_with("hello-1.0.1-x86_64-"), "{}", app.name);
    assert_eq!(app.base.as_deref(), Some(runtime.id.as_str()));
    assert_eq!(runtime.base.as_deref(), Some(base.id.as_str()));
    for (record, layer) in [(&base, "base"), (&runtime, "base-app"), (&app, "app")] {
        assert_eq!(record.tags["layer"], layer);
    }
    bakery.look(&app.id, 1, "ext4", |root| {
        let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
        assert_eq!(read("srv/app/VERSION"), "1.0.1\n");
        assert!(read("etc/ssh/sshd_config.d/50-hardening.conf").contains("PermitRootLogin no"));
        assert!(!root.join("etc/ssh/ssh_host_ed25519_key").exists(), "an instance makes its own");
        assert_eq!(read("etc/machine-id"), "");
        assert!(read("etc/sysctl.d/80-image.conf").contains("kernel.dmesg_restrict"));
        for unit in ["app", "prometheus-node-exporter"] {
            let link = format!("etc/systemd/system/multi-user.target.wants/{unit}.service");
            assert!(root.join(link).is_symlink(), "{unit} is enabled");
        }
    });

    let port = free_port();
    let forward = format!("{port}:8080");
    let command = bakery.command(
        &[],
        &["local", "boot", &app.id, "--memory", "512", "--port-forward", &forward, "--", "-monitor", "none"],
    );
    let mut machine = Machine::boot(command);
    machine.wait_for("debian login:");
    assert_eq!(page(port, "/"), "Hello from version 1.0.1.\n");
    assert_eq!(page(port, "/health"), "ok\n");
    drop(machine);
    bakery.assert_nothing_left();
}
