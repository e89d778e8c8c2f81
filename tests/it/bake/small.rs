//! Bakes on a root in which little more than a shell can run: what steps leave alone.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use bakehouse::disk::Filesystem;

use crate::support::bakery::{Bakery, Ran, changed, look_into, shell_disk, small_disk, tree};
use crate::support::host::has;

pub const RECIPE: &str = r#"
[image]
name = "small-{time}"
[base]
image = "small"
[[step]]
use = "script"
script = "setup.sh"
"#;

pub fn can_bake() -> bool {
    has(&["sfdisk", "mkfs.ext4", "e2fsck", "ldd", "timeout"])
}

/// A step sees no disk but where it asks for the bake's own; what it is given is told before it is given.
#[test]
fn a_step_has_the_rights_that_it_asks_for_and_no_more() {
    if !can_bake() {
        return;
    }
    let bakery = Bakery::new();
    let disk = shell_disk(64, "label: gpt\ntype=linux\n", (1, Filesystem::Ext), |_| {});
    bakery.base("small", disk.path());
    bakery.put(
        "setup.sh",
        "#!/bin/sh\nfor node in /dev/loop*; do [ -b \"$node\" ] && echo \"sees $node\"; done\n\
         [ -b /dev/loop-control ] || [ -c /dev/loop-control ] && echo 'sees loop-control'\nexit 0\n",
    );
    let plain = bakery.bake(RECIPE, &[]).good();
    assert!(!plain.told().contains("sees "), "{}", plain.told());
    let given = bakery
        .bake(&RECIPE.replace("small-", "given-").replace("script = ", "devices = \"disk\"\nscript = "), &[])
        .good();
    let told = given.told();
    assert_eq!(
        told.matches("| sees /dev/loop").count() + told.matches("│ sees /dev/loop").count(),
        2,
        "{told}"
    );
    assert!(!told.contains("sees loop-control"), "{told}");

    let described = bakery.bake(
        &RECIPE
            .replace("small-", "described-")
            .replace("script = ", "mounts = true\nprocesses = 64\nscript = "),
        &["--dry-run"],
    );
    let told = described.good().told();
    assert!(told.contains("may mount") && told.contains("at most 64 processes"), "{told}");
    bakery.assert_nothing_left();
}

#[test]
fn the_images_own_resolv_conf_stays_as_it_is() {
    if !can_bake() {
        return;
    }
    let bakery = Bakery::new();
    bakery.put(
        "setup.sh",
        "#!/bin/sh\nset -e\nfound=\nwhile read -r word rest; do\n\
         if [ \"$word\" = nameserver ]; then found=yes; fi\ndone < /etc/resolv.conf\n\
         [ \"$found\" = yes ]\necho ok > /srv/resolved\n",
    );
    type Put = fn(&Path);
    let states: [(&str, Put); 4] = [
        ("regular", |path| fs::write(path, "# ours\nnameserver 192.0.2.1\n").unwrap()),
        ("dangling", |path| symlink("../run/systemd/resolve/stub-resolv.conf", path).unwrap()),
        ("absolute", |path| symlink("/run/resolvconf/resolv.conf", path).unwrap()),
        ("missing", |_| {}),
    ];
    for (name, put) in states {
        let disk = shell_disk(64, "label: gpt\ntype=linux\n", (1, Filesystem::Ext), |root| {
            put(&root.join("etc/resolv.conf"));
        });
        bakery.base(name, disk.path());
        let ran = bakery.bake(&RECIPE.replace("\"small", &format!("\"{name}")), &[]);
        let told = ran.told();
        let image = ran.id();
        let before = look_into(disk.path(), 1, "ext4", tree);
        bakery.look(&image, 1, "ext4", |root| {
            let only = |path: &str| path == "srv/resolved";
            assert_eq!(changed(&before, &tree(root), only), Vec::<String>::new(), "{name}: {told}");
            assert!(root.join("srv/resolved").is_file(), "{name}");
        });
    }
    bakery.assert_nothing_left();
}

#[test]
fn flags_lie_over_the_recipe() {
    if !can_bake() {
        return;
    }
    let bakery = Bakery::new();
    let disk = small_disk();
    bakery.base("small", disk.path());
    bakery.put("setup.sh", "#!/bin/sh\necho baked > /srv/mark\n");
    let flags =
        ["--name", "named by flag", "--tag", "a=b=c", "--description", "words", "--creator", "somebody"];
    let image = bakery.bake(RECIPE, &flags).id();
    let record = bakery.store().image("named by flag").unwrap();
    assert_eq!(record.id, image);
    assert_eq!((record.tags["a"].as_str(), record.tags["creator"].as_str()), ("b=c", "somebody"));
    assert!(record.description.starts_with("words (name=named by flag, "), "{}", record.description);

    // What was baked is a base itself, and says whose it is.
    let again = bakery.bakehouse(&["bake", "--base", "named by flag", "--name", "second"]).id();
    let second = bakery.store().image(&again).unwrap();
    assert_eq!(second.base.as_deref(), Some(image.as_str()));
    bakery.look(&again, 1, "ext4", |root| {
        assert_eq!(fs::read_to_string(root.join("srv/mark")).unwrap(), "baked\n");
    });
    bakery.assert_nothing_left();
}

#[test]
fn two_bakes_at_once_do_not_meet() {
    if !can_bake() {
        return;
    }
    let bakery = Bakery::new();
    let disk = small_disk();
    bakery.base("small", disk.path());
    bakery.put("recipe.toml", RECIPE);
    bakery.put("setup.sh", "#!/bin/sh\necho \"$WHO\" > /srv/mark\n");
    // What is named by the second at which its bake began gets a number where another has the name.
    for names in [["at-once-0", "at-once-1", "at-once-2"], ["at-{time}"; 3]] {
        let images: BTreeSet<String> = std::thread::scope(|scope| {
            let bakes: Vec<_> = names
                .iter()
                .map(|name| {
                    let bakery = &bakery;
                    scope.spawn(move || bakery.bakehouse(&["bake", "recipe.toml", "--name", name]).id())
                })
                .collect();
            bakes.into_iter().map(|bake| bake.join().unwrap()).collect()
        });
        assert_eq!(images.len(), 3);
    }
    let names: BTreeSet<_> = bakery.store().records().unwrap().into_iter().map(|image| image.name).collect();
    assert_eq!(names.len(), 7, "{names:?}");
    bakery.put("recipe.toml", RECIPE.replace("[base]", "on_collision = \"fail\"\n[base]"));
    bakery.bakehouse(&["bake", "recipe.toml", "--name", "at-once-0"]).refused(12, &["at-once-0 is taken"]);
    bakery.assert_nothing_left();
}

#[test]
fn a_store_on_xfs_shares_blocks_with_its_bases() {
    if !can_bake() || !has(&["mkfs.xfs", "unshare", "mount"]) {
        return;
    }
    let bakery = Bakery::new();
    let disk = small_disk();
    fs::copy(disk.path(), bakery.path("small.raw")).unwrap();
    bakery.put("recipe.toml", RECIPE);
    bakery.put("setup.sh", "#!/bin/sh\necho baked > /srv/mark\n");
    // The kernel would have a loop device on such a file count in blocks of 4096 bytes, and find no partition there.
    let script = "truncate -s 400M xfs.img && mkfs.xfs -q -m reflink=1 xfs.img && mkdir store && \
                  mount -o loop xfs.img store && \"$@\" local import small.raw --name small >&2 && \
                  \"$@\" bake recipe.toml && \"$@\" local export \"$(\"$@\" images --output json | \
                  sed -n 's/.*\"id\": \"\\(.*\\)\".*/\\1/p' | head -n 1)\" out.raw >&2";
    let ran = Ran::of(&mut bakery.command(&["unshare", "--mount", "sh", "-c", script, "sh"], &[]));
    assert!(ran.out.starts_with("img-"), "{}", ran.told());
    ran.good();
    look_into(&bakery.path("out.raw"), 1, "ext4", |root| {
        assert_eq!(fs::read_to_string(root.join("srv/mark")).unwrap(), "baked\n");
    });
}

#[test]
fn what_could_not_be_taken_out_of_the_root_is_told_beside_the_step_that_failed() {
    if !can_bake() || !has(&["busybox"]) {
        return;
    }
    let busybox = bakehouse::program::find("busybox".as_ref()).unwrap();
    let bakery = Bakery::new();
    let disk = shell_disk(64, "label: gpt\ntype=linux\n", (1, Filesystem::Ext), |root| {
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
    });
    bakery.base("small", disk.path());
    // In the way of the guard against services, where the image's own would have been put aside.
    bakery
        .put("setup.sh", "#!/bin/sh\n/bin/busybox mkdir /usr/sbin/policy-rc.d.bakehouse || exit 4\nexit 3\n");
    bakery
        .bake(RECIPE, &[])
        .refused(9, &["exit status 3", "warning: ", "taking the guard against services away"]);
    bakery.assert_nothing_left();
}

/// The log takes what there is room for; so does what lies beside it.
#[test]
fn a_filesystem_that_the_log_has_filled_costs_the_manifest_and_not_the_image() {
    if !can_bake() || !has(&["unshare", "mount"]) {
        return;
    }
    let (bakery, disk) = (Bakery::new(), small_disk());
    bakery.base("small", disk.path());
    bakery.put("recipe.toml", RECIPE);
    bakery.put(
        "setup.sh",
        "#!/bin/sh\nline=0123456789\nfor _ in 1 2 3 4 5; do line=$line$line; done\n\
         for _ in 1 2 3 4 5 6 7 8; do for _ in 1 2 3 4 5 6 7 8; do for _ in 1 2 3 4 5 6 7 8; do echo $line; done; done; done\n",
    );
    fs::create_dir(bakery.path("logs")).unwrap();
    let around = format!("mount -t tmpfs -o size=64k tmpfs {}\nexec \"$@\"\n", bakery.path("logs").display());
    let through = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", &around, "sh"];
    let ran = Ran::of(&mut bakery.command(&through, &["bake", "recipe.toml", "--output", "json"]));
    let told = ran.told();
    assert!(
        ran.err.contains("the image will have no manifest") && ran.err.contains("No space left"),
        "{told}"
    );
    let baked = ran.json();
    assert!(baked["manifest"].is_null(), "{told}");
    assert!(bakery.store().image(baked["image"].as_str().unwrap()).is_ok(), "{told}");
    bakery.assert_nothing_left();
}
