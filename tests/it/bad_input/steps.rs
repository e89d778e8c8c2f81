//! Bases, disks, packages and checks that are wrong, on the local store.

use std::fs;
use std::path::Path;

use bakehouse::cloud::local::{NewImage, Origin, Provenance};
use bakehouse::disk::Filesystem;
use bakehouse::plan::Arch;

use crate::bake::small::{self, RECIPE};
use crate::bake::{can_bake, offline_base, web_package};
use crate::support::bakery::{Bakery, in_mounts_of_its_own, small_disk};
use crate::support::host::has;
use crate::support::images::Image;
use crate::support::packages::Deb;

const LUKS: &[u8] = b"LUKS\xba\xbe\x00\x02";

#[test]
fn packages_that_cannot_be_installed() {
    if !can_bake(&[]) {
        return;
    }
    let bakery = Bakery::new();
    let base = offline_base(&bakery.path(""));
    bakery.base("offline", &base);
    let web = web_package(&bakery.path(""));
    let content = fs::read(&web).unwrap();
    bakery.put("short.deb", &content[..content.len() / 2]);
    bakery.put("garbage.deb", "this is no package");
    bakery.put("strange.rpm", "nor this");
    let folder = bakery.path("");
    let failing = "#!/bin/sh\necho the oven is cold >&2\nexit 7\n";
    let broken = Deb { name: "broken", version: "1", scripts: &[("postinst", failing)], ..Deb::default() };
    broken.build(&folder);
    Deb { name: "lonely", version: "1", control: "Depends: no-such-thing\n", ..Deb::default() }
        .build(&folder);
    let full = "#!/bin/sh\nset -e\ncat /dev/zero > /srv/filler\n";
    Deb { name: "filler", version: "1", scripts: &[("postinst", full)], ..Deb::default() }.build(&folder);
    let cases: [(&str, u8, &[&str]); 9] = [
        ("no-such-package", 9, &["no-such-package", "sources"]),
        ("bakery-lib=9.*", 9, &["bakery-lib", "9.*"]),
        ("./strange.rpm", 9, &["rpm", "apt"]),
        ("./short.deb", 9, &["short.deb"]),
        ("./garbage.deb", 9, &["garbage.deb"]),
        ("./broken_1_all.deb", 9, &["the oven is cold", "installation script"]),
        ("./lonely_1_all.deb", 9, &["no-such-thing"]),
        ("./filler_1_all.deb", 8, &["No space left on device", "[disk] size"]),
        ("./gone.deb", 3, &["gone.deb"]),
    ];
    for (package, status, words) in cases {
        eprintln!("{package}");
        let ran = bakery.bakehouse(&["bake", "--base", "offline", package]).refused(i32::from(status), words);
        eprintln!("{:.1?}: {}", ran.took, ran.err.lines().rev().take(2).collect::<Vec<_>>().join(" / "));
        bakery.assert_nothing_left();
    }
    // apt is asked for by name: the wrong format is seen before anything is made.
    bakery
        .bake(
            "[image]\nname = \"web\"\n[base]\nimage = \"offline\"\n[[step]]\nuse = \"apt\"\ninstall = [\"./strange.rpm\"]\n",
            &[],
        )
        .refused(3, &["a .rpm package can't be installed here", "`dnf` installs it"]);
    assert_eq!(bakery.store().records().unwrap().len(), 1, "only the base is there");
}

#[test]
fn steps_and_checks_that_fail() {
    if !small::can_bake() {
        return;
    }
    let bakery = Bakery::new();
    let disk = small_disk();
    bakery.base("small", disk.path());
    let check = |text: &str| format!("{RECIPE}[[check]]\n{text}\n");
    let cases: [(&str, &str, String, i32, &[&str]); 7] = [
        ("exit status", "#!/bin/sh\necho why\nexit 3\n", RECIPE.into(), 9, &["exit status 3", "| why"]),
        ("no interpreter", "#!/no/such\n", RECIPE.into(), 9, &["setup.sh"]),
        ("signal", "#!/bin/sh\nkill -9 $$\n", RECIPE.into(), 9, &["setup.sh", "KILL"]),
        (
            "too long",
            "#!/bin/sh\nwhile :; do :; done\n",
            RECIPE.replace("script = \"setup.sh\"", "script = \"setup.sh\"\ntimeout = \"1s\""),
            9,
            &["not done after 1 s", "timeout"],
        ),
        (
            "full disk",
            "#!/bin/sh\nset -e\nline=xxxxxxxxxxxxxxxx\nfor i in 1 2 3 4 5 6 7 8 9 10 11 12; do line=$line$line; done\n\
             while :; do echo $line; done > /srv/filler\n",
            RECIPE.into(),
            8,
            &["the disk is full", "[disk] size"],
        ),
        (
            "check",
            "#!/bin/sh\n",
            check("run = [\"/bin/sh\", \"-c\", \"echo stale; exit 1\"]"),
            10,
            &["stale"],
        ),
        ("check's program", "#!/bin/sh\n", check("run = [\"/no/such\"]"), 10, &["/no/such"]),
    ];
    for (name, script, recipe, status, words) in cases {
        eprintln!("{name}");
        bakery.put("setup.sh", script);
        bakery.bake(&recipe, &[]).refused(status, words);
        bakery.assert_nothing_left();
    }

    // As JSON the failure is a document on standard output.
    bakery.put("setup.sh", "#!/bin/sh\nexit 3\n");
    let ran = bakery.bake(RECIPE, &["--output", "json"]);
    assert_eq!(ran.status, Some(9), "{}", ran.told());
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&document["error"]["kind"], &document["error"]["status"]), (&"step".into(), &9.into()));
    bakery.assert_nothing_left();
}

#[test]
fn bases_and_disks_that_cannot_be_used() {
    if !small::can_bake() || !has(&["blkid"]) {
        return;
    }
    let bakery = Bakery::new();
    bakery.put("setup.sh", "#!/bin/sh\n");
    let recipe = |base: &str| RECIPE.replace("\"small\"", &format!("\"{base}\""));
    bakery.bake(&recipe("nothing"), &[]).refused(5, &["nothing", "create-base"]);

    let disk = small_disk();
    bakery.base("small", disk.path()).base("smaller", disk.path());
    bakery.bake(&recipe("nothing"), &[]).refused(5, &["nothing", "small"]);
    let several = RECIPE.replace("image = \"small\"", "name = \"small*\"\nnewest = false");
    bakery.bake(&several, &[]).refused(5, &["smaller", "newest = true"]);
    bakery.bake(RECIPE, &["--name", "small"]).refused(12, &["small is taken"]);
    bakery.bake(RECIPE, &["--name", "a:b"]).refused(12, &["a:b"]);
    bakery.bake(RECIPE, &["--size", "1MiB"]).refused(3, &["1MiB", "64MiB"]);
    bakery.bake(RECIPE, &["--partition", "3"]).refused(8, &["no partition 3"]);
    bakery.bake(&RECIPE.replace("small-{time}", "{env:NOT_SET_AT_ALL}"), &[]).refused(3, &["NOT_SET_AT_ALL"]);
    bakery.bake(&RECIPE.replace("small-{time}", "x-{version}"), &[]).refused(3, &["main package"]);

    let other = if std::env::consts::ARCH == "x86_64" { Arch::Arm64 } else { Arch::X86_64 };
    let new = NewImage {
        name: "other".to_owned(),
        arch: other,
        description: String::new(),
        tags: Default::default(),
        boot_mode: None,
        provenance: Provenance::new(Origin::Import, None),
    };
    bakery.store().add(new, |file| Ok(fs::copy(disk.path(), file).map(drop)?)).unwrap();
    if !Path::new("/proc/sys/fs/binfmt_misc/status").exists() {
        bakery.bake(&recipe("other"), &[]).refused(5, &[other.as_str(), "binfmt"]);
    }

    let data = in_mounts_of_its_own(|| {
        let image = Image::partitioned(64, "label: gpt\ntype=linux\n");
        image.format(1, Filesystem::Ext, "data", |_| ());
        image
    });
    let luks = Image::partitioned(64, "label: gpt\ntype=linux\n");
    luks.write(1, &[(0, LUKS)]);
    let lvm = Image::partitioned(64, "label: gpt\ntype=linux\n");
    lvm.write(1, &[(512, &crate::disk::refusals::lvm_label())]);
    let empty = Image::empty(16);
    for (name, image, words) in [
        ("no root", &data, &["ext4, label data", "--partition"][..]),
        ("encrypted", &luks, &["LUKS", "encrypted"]),
        ("lvm", &lvm, &["LVM"]),
        ("empty", &empty, &["neither a partition nor a filesystem"]),
    ] {
        eprintln!("{name}");
        bakery.base(name, image.path());
        bakery.bake(&recipe(name), &[]).refused(8, words);
        bakery.assert_nothing_left();
    }
}
