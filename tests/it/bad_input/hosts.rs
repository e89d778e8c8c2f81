//! Hosts that lack something.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::bake::small::{RECIPE, can_bake};
use crate::support::bakery::{Bakery, Ran, small_disk};
use crate::support::host::has;

/// Runs the command as a user without any rights, from a copy that everybody can read.
pub fn as_nobody(bakery: &Bakery, arguments: &[&str]) -> Ran {
    let copy = bakery.path("bakehouse");
    fs::copy(env!("CARGO_BIN_EXE_bakehouse"), &copy).unwrap();
    for path in [bakery.path(""), copy.clone()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let through = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", copy.to_str().unwrap()];
    Ran::of(&mut bakery.program(&[&through, arguments].concat()))
}

#[test]
fn who_is_not_root_cannot_bake() {
    if !can_bake() || !has(&["setpriv"]) {
        return;
    }
    let bakery = Bakery::new();
    let disk = small_disk();
    bakery.base("small", disk.path());
    bakery.put("recipe.toml", RECIPE);
    bakery.put("setup.sh", "#!/bin/sh\n");
    as_nobody(&bakery, &["bake", "recipe.toml"]).refused(4, &["needs root", "sudo"]);
    // What needs no root works.
    as_nobody(&bakery, &["validate", "recipe.toml"]).good();
    let plan = as_nobody(&bakery, &["bake", "--dry-run", "recipe.toml"]).good();
    assert!(plan.out.contains("setup.sh"), "{}", plan.told());
    assert!(as_nobody(&bakery, &["images"]).good().out.contains("small"));
    bakery.assert_nothing_left();
}

#[test]
fn a_missing_tool_is_named_with_its_package() {
    if !can_bake() || !has(&["unshare", "mount"]) {
        return;
    }
    let bakery = Bakery::new();
    let disk = small_disk();
    bakery.base("small", disk.path());
    bakery.put("recipe.toml", RECIPE);
    bakery.put("setup.sh", "#!/bin/sh\n");
    for tool in ["e2fsck", "sfdisk"] {
        let path = bakehouse::program::find(tool.as_ref()).unwrap().canonicalize().unwrap();
        // Not to be executed any more, in a mount namespace of its own.
        let hide = format!("mount --bind /dev/null {} && exec \"$@\"", path.display());
        let through = ["unshare", "--mount", "sh", "-c", &hide, "sh"];
        let ran = Ran::of(&mut bakery.command(&through, &["bake", "recipe.toml"]));
        ran.refused(4, &[tool, "install"]);
        bakery.assert_nothing_left();
    }
}

#[test]
fn a_store_without_room_is_told_and_nothing_is_left_in_it() {
    if !can_bake() || !has(&["unshare", "mount"]) {
        return;
    }
    let bakery = Bakery::new();
    let disk = small_disk();
    bakery.put("recipe.toml", RECIPE);
    bakery.put("setup.sh", "#!/bin/sh\n");
    fs::copy(disk.path(), bakery.path("small.raw")).unwrap();
    // Room for the base, not for a copy of it.
    let script = "mkdir -p store && mount -t tmpfs -o size=6m none store && \
                  \"$@\" local import small.raw --name small >&2 && \"$@\" bake recipe.toml; status=$?; \
                  ls store/disks >&2; exit $status";
    let ran = Ran::of(&mut bakery.command(&["unshare", "--mount", "sh", "-c", script, "sh"], &[]));
    let told = ran.told();
    assert!(matches!(ran.status, Some(4 | 8)), "{told}");
    assert!(ran.err.contains("what to do: ") && !ran.err.contains("disk-"), "{told}");
}
