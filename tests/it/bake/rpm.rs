//! Bakes on an RPM base: packages of its repository and a local .rpm.

use std::fs;
use std::path::Path;

use super::can_bake;
use crate::support::bakery::{Bakery, changed, look_into, tree};
use crate::support::bases::{self, build_rpm, rpm_base};

/// What rpm and dnf are meant to change.
fn meant(path: &str) -> bool {
    const BELOW: &[&str] = &[
        "var/lib/rpm",
        "var/lib/dnf",
        "var/cache/dnf",
        "var/log",
        "usr/share/bakery-bread",
        "usr/share/bakery-flour",
        "usr/share/bakery-local",
        "etc/dnf",
        "var/lib/dpkg/diversions",
    ];
    BELOW.iter().any(|folder| Path::new(path).starts_with(folder))
}

#[test]
fn dnf_installs_from_the_repository_and_from_a_file() {
    if !can_bake(bases::NEEDED_FOR_RPM) {
        return;
    }
    let bakery = Bakery::new();
    let base = rpm_base();
    bakery.base("rpm", &base);
    let package = build_rpm(&bakery.path(""), "bakery-local", "2.5", "7.fc1", "Requires: bakery-flour\n");
    let recipe = r#"
[image]
name = "{package}-{version}-{release}"
[base]
image = "rpm"
[[step]]
use = "dnf"
install = ["bakery-bread=1.2.*"]
[[step]]
use = "package"
install = ["./bakery-local-2.5-7.fc1.noarch.rpm"]
[[check]]
run = ["rpm", "-q", "bakery-local", "bakery-bread", "bakery-flour"]
"#;
    let ran = bakery.bake(recipe, &["--output", "json"]);
    let told = ran.told();
    let baked = ran.json();
    assert_eq!(baked["name"], "bakery-local-2.5-7.fc1", "the last step's package is the main one: {told}");
    let added = baked["packages"]["added"].to_string();
    for package in ["bakery-bread", "bakery-flour", "bakery-local"] {
        assert!(added.contains(package), "{package}: {added}\n{told}");
    }
    assert!(package.is_file(), "the user's package stays where it is");
    let before = look_into(&base, 1, "ext4", tree);
    bakery.look(baked["image"].as_str().unwrap(), 1, "ext4", |root| {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
        assert_eq!(read("usr/share/bakery-bread/version"), "1.2.3\n");
        assert_eq!(read("usr/share/bakery-bread/configured"), "1\n");
        assert_eq!(read("usr/share/bakery-local/version"), "2.5\n");
        assert_eq!(changed(&before, &tree(root), meant), Vec::<String>::new(), "{told}");
    });
    bakery.assert_nothing_left();

    // The newest by its bare name, in one line; and a package of the other format is refused.
    let image = bakery.bakehouse(&["bake", "--base", "rpm", "bakery-bread"]).id();
    let record = bakery.store().image(&image).unwrap();
    assert!(record.name.starts_with("bakery-bread-1.3.0-"), "{}", record.name);
    assert_eq!(record.tags["appversion"], "bakery-bread-1.3.0-1");
    let deb = super::web_package(&bakery.path(""));
    let deb = deb.to_str().unwrap();
    bakery.bakehouse(&["bake", "--base", "rpm", deb]).refused(9, &[".deb", "dnf"]);
    bakery
        .bakehouse(&["bake", "--base", "rpm", "no-such-bread"])
        .refused(9, &["no-such-bread", "repositories"]);
    bakery.assert_nothing_left();
}
