//! The metadata service, asked by every road on which a bake runs something: by the command itself, where the
//! addresses are this host's own and answer.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bakehouse::disk::Filesystem;

use crate::support::bakery::{Bakery, shell_disk};
use crate::support::host::has;
use crate::support::images::copy_program;
use crate::support::metadata::{Place, judge, probe};
use crate::support::terminal::Terminal;

const RECIPE: &str = r#"
[image]
name = "roads"
[base]
image = "small"
[[step]]
use = "script"
run = ["/srv/probe", "step"]
[[step]]
use = "script"
devices = "disk"
run = ["/srv/probe", "disk"]
[[step]]
use = "script"
mounts = true
run = ["/srv/probe", "mounts"]
[[step]]
use = "outside"
[[check]]
run = ["/srv/probe", "check"]
[[hook]]
at = "after-mount"
script = "provisioners/outside/probe"
args = ["hook"]
"#;

const OUTSIDE: &str = r#"
summary = "Asks from the builder, and from inside"
where = "host"
network = "host"
[run]
command = ["./run"]
[package]
query = ["./query"]
"#;

/// From the builder, from what it starts in the image, and in the search for its package (whose first line is the
/// answer).
const RUN: &str = "#!/bin/sh\nset -e\n\"${0%/*}/probe\" builder\nbakehouse-inside /srv/probe inside\n";
const QUERY: &str = "#!/bin/sh\nprintf 'main\\t1\\t1\\n'\nexec /srv/probe query\n";

fn program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn on_no_road_is_the_metadata_service_reached() {
    if !has(&["sfdisk", "mkfs.ext4", "e2fsck", "ldd", "timeout", "ip", "script", "bash"]) {
        return;
    }
    Place::enter(|_place| {
        let bakery = Bakery::new();
        let disk = shell_disk(64, "label: gpt\ntype=linux\n", (1, Filesystem::Ext), |root| {
            copy_program(root, "/bin/bash");
            program(&root.join("srv/probe"), &probe());
        });
        bakery.base("small", disk.path());
        let folder = bakery.put("provisioners/outside/provisioner.toml", OUTSIDE);
        for (name, text) in [("run", RUN), ("query", QUERY), ("probe", &probe())] {
            program(&folder.with_file_name(name), text);
        }

        let baked = bakery.bake(RECIPE, &["--output", "json"]).good().json();
        let log = fs::read_to_string(baked["log"].as_str().unwrap()).unwrap();
        // Hooks are the recipe's own affair, and show that the addresses answer.
        judge(&log, "hook", true);
        for road in ["step", "disk", "mounts", "builder", "inside", "check"] {
            judge(&log, road, false);
        }
        assert!(log.contains("query asks 127.0.0.1: nothing."), "it has no network at all: {log}");
        assert!(!log.contains("query asks 169.254.169.254: credentials"), "{log}");

        let enter = |more: &[&str]| {
            bakery.bakehouse(&[&["enter", "roads"], more, &["--", "/srv/probe", "enter"]].concat()).good().out
        };
        judge(&enter(&["--network"]), "enter", false);
        judge(&enter(&["--network", "--writable"]), "enter", false);
        assert!(enter(&[]).contains("enter asks 127.0.0.1: nothing."));

        let mut terminal = Terminal::bakehouse(&bakery, "bake --base roads --name shell --shell");
        terminal
            .until("a shell in the root")
            .types("/srv/probe shell; exit")
            .until("127.0.0.1: credentials.");
        let (status, shown) = terminal.end();
        assert_eq!(status, Some(0), "{shown}");
        judge(&shown, "shell", false);
        bakery.assert_nothing_left();
    });
}
