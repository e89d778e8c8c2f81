//! Programs of the image that the bake asks: they can neither hold it up nor fill the builder's memory.

use std::time::Duration;

use bakehouse::contents::{inventory, inventory_within};
use bakehouse::error::{Kind, kind_of};
use bakehouse::recipe::Part;
use bakehouse::stop::Stop;

use super::labels::{CONFIG, CONTEXTS, CONTEXTS_FILE};
use super::{bake, base, exists, mode, put, quiet, work};
use crate::support::images::copy_program;
use crate::support::roots::{Root, can_make};

/// Says more than any program has to say, and ends well.
const MUCH: &str = "line=0123456789abcdef; for n in 1 2 3 4 5 6; do line=$line$line; done
n=0; while [ $n -lt 70000 ]; do echo $line; n=$((n + 1)); done\n";
const ENDLESS: &str = "while :; do :; done\n";

/// A root in which `program` does this.
pub fn root(program: &str, script: &str) -> Root {
    let root = base();
    // What the folders that are links lead to.
    for folder in ["usr/bin", "usr/lib", "usr/lib64", "usr/sbin"] {
        std::fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    copy_program(root.path(), "/bin/sh");
    put(root.path(), program, &format!("#!/bin/sh\n{script}"));
    mode(root.path(), program, 0o755);
    root
}

#[test]
fn an_rpm_that_does_not_end_or_says_too_much_is_ended() {
    if !can_make() {
        return;
    }
    let stop = Stop::default();
    for (script, told) in [(ENDLESS, "was not done after 0.2 s"), (MUCH, "said more than 64 MiB")] {
        let root = root("usr/bin/rpm", script);
        put(root.path(), "var/lib/rpm/rpmdb.sqlite", "");
        let longest = Duration::from_millis(if script == ENDLESS { 200 } else { 600_000 });
        let error = work(inventory_within(&root.sandbox(), longest, &stop)).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Step, "{error:#}");
        let message = format!("{error:#}");
        assert!(message.contains("rpm -qa") && message.contains(told), "{message}");
    }
    let root = root("usr/bin/rpm", "printf 'bash\\tx86_64\\t5-1\\n'\n");
    put(root.path(), "var/lib/rpm/rpmdb.sqlite", "");
    assert_eq!(work(inventory(&root.sandbox(), &stop)).unwrap().0.len(), 1);
}

#[test]
fn a_setfiles_that_says_too_much_is_ended_and_the_first_boot_labels() {
    if !can_make() {
        return;
    }
    let root = root("usr/sbin/setfiles", MUCH);
    put(root.path(), "etc/selinux/config", CONFIG);
    put(root.path(), CONTEXTS_FILE, CONTEXTS);
    let report = bake(&root, &quiet(), |root| put(root, "srv/web/index.html", "x")).unwrap();
    let done = report.parts.iter().find(|done| done.part == Part::SelinuxLabels).unwrap();
    assert!(done.notes[0].contains("setfiles said more than 64 MiB"), "{done:?}");
    assert!(exists(&root, ".autorelabel"));
}
