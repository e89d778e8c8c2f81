//! Steps on the builder (`where = "host"`), with a way into the sandbox.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use bakehouse::error::{Kind, kind_of};

use super::{Kitchen, picture, runs_here};
use crate::support::debian_roots::debian;

/// A provisioner of the recipe's own that runs `script` on the builder.
fn on_the_builder(kitchen: &Kitchen, more: &str, script: &str) {
    let folder = kitchen.recipe().join("provisioners/outside");
    std::fs::create_dir_all(&folder).unwrap();
    let definition = format!(
        "summary = \"A user's own\"\nwhere = \"host\"\nnetwork = \"none\"\n{more}\n[params.input]\ntype = \"path\"\n[run]\ncommand = [\"./run\"]\n"
    );
    std::fs::write(folder.join("provisioner.toml"), definition).unwrap();
    std::fs::write(folder.join("run"), format!("#!/bin/sh\nset -eu\n{script}")).unwrap();
    std::fs::set_permissions(folder.join("run"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

const STEP: &str = "[[step]]\nuse = \"outside\"\n";

/// Processes of this host whose arguments have this word among them.
fn running(word: &str) -> usize {
    let named = |entry: std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())
    };
    std::fs::read_dir("/proc").unwrap().flatten().map(named).filter(|named| *named).count()
}

#[test]
fn a_step_on_the_builder_works_in_the_root_by_way_of_the_sandbox() {
    if !runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian());
    // Not below /tmp, which is the sandbox's own.
    let builders = tempfile::tempdir_in("/var/tmp").unwrap();
    let outer = builders.path().join("outer");
    std::fs::write(&outer, "the builder's\n").unwrap();
    // What a link of the image leads to is the image's, however it is called.
    symlink(&outer, kitchen.root().join("opt/link")).unwrap();
    std::fs::create_dir_all(kitchen.root().join(builders.path().strip_prefix("/").unwrap())).unwrap();
    std::fs::write(kitchen.recipe().join("input.txt"), "from the recipe\n").unwrap();
    on_the_builder(
        &kitchen,
        "[env]\nCOLOUR = \"$blue\"",
        r#"
test -e OUTER
test "$HOME" = /run/bakehouse/home && test -z "$(ls -A "$HOME")" && test "$COLOUR" = '$blue'
in="$(cat /run/bakehouse/step/params/input)"
bakehouse-inside sh -c 'test ! -e OUTER; test "$HOME" = /root; test "$COLOUR" = "\$blue"; pwd' >pwd
test "$(cat pwd)" = /
bakehouse-inside --put /opt/input <"$in"
bakehouse-inside --put /opt/link <"$in"
bakehouse-inside --fetch /etc/debian_version | grep -q .
bakehouse-inside cat "$in" | cmp - "$in"
# One sandbox for the whole step.
bakehouse-inside sh -c 'echo kept >/tmp/kept; sleep 4711 >/dev/null 2>&1 & echo $! >/tmp/pid'
bakehouse-inside sh -c 'kill -0 "$(cat /tmp/pid)"; cat /tmp/kept' | grep -qx kept
# What passes: input, output and errors as they are, exit statuses, signals.
head -c 3000000 /dev/urandom >big
bakehouse-inside sh -c 'tee /dev/fd/3 3>&1 >/dev/null' <big | cmp - big
bakehouse-inside sh -c 'head -c 10; echo oops >&2; exit 7' <big >out 2>err && exit 1 || test $? = 7
test "$(wc -c <out)" = 10 && test "$(cat err)" = oops
bakehouse-inside sh -c 'kill -9 $$' && exit 1 || test $? = 137
bakehouse-inside /no/such/program 2>err && exit 1 || test $? = 127
grep -q 'running /no/such/program in the image' err
bakehouse-inside --put /no/such/folder/file </dev/null 2>err && exit 1 || test $? = 127
bakehouse-inside --fetch /dev/null 2>err && exit 1 || grep -q 'no regular file' err
# A client that goes away takes its program along.
bakehouse-inside sleep 4712 & client=$!
until bakehouse-inside sh -c 'grep -qz 4712 /proc/[0-9]*/cmdline'; do :; done
kill -9 $client
while bakehouse-inside sh -c 'for p in /proc/[0-9]*; do tr "\0" " " <$p/cmdline | grep -qx "sleep 4712 " && exit; done; exit 1' 2>/dev/null; do :; done
# Many at once.
for n in 1 2 3 4 5 6 7 8; do bakehouse-inside sh -c "seq 20000 | sha256sum" >sum-$n & done
wait
test "$(cat sum-* | sort -u | wc -l)" = 1
# And left behind on the builder, in a session of its own.
setsid sleep 4713 >/dev/null 2>&1 &
"#
        .replace("OUTER", &outer.display().to_string())
        .as_str(),
    );
    kitchen.bake(&format!("{STEP}input = \"input.txt\"\n")).unwrap_or_else(|error| {
        panic!("{error:#}\n{}", kitchen.log());
    });
    assert_eq!(kitchen.read("opt/input"), "from the recipe\n");
    assert_eq!(std::fs::read_to_string(&outer).unwrap(), "the builder's\n");
    let beneath = kitchen.root().join(outer.strip_prefix("/").unwrap());
    assert_eq!(std::fs::read_to_string(beneath).unwrap(), "from the recipe\n");
    for number in ["4711", "4712", "4713"] {
        assert_eq!(running(number), 0, "sleep {number}");
    }
    assert!(!Path::new("/run/bakehouse/door").exists() && !Path::new("/run/bakehouse/home").exists());
}

#[test]
fn a_step_on_the_builder_ends_whole_when_it_fails_is_late_or_is_stopped() {
    if !runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian());
    let before = picture(kitchen.root());
    on_the_builder(&kitchen, "", "bakehouse-inside sh -c 'echo inside; exit 3'\n");
    let error = kitchen.bake(STEP).unwrap_err();
    assert_eq!(kind_of(&error), Kind::Step, "{error:#}");
    assert!(format!("{error:#}").contains("exit status 3") && format!("{error:#}").contains("| inside"));

    let asleep = "sleep 4721 & bakehouse-inside sleep 4722\n";
    on_the_builder(&kitchen, "timeout = \"1s\"", asleep);
    let error = kitchen.bake(STEP).unwrap_err();
    assert!(format!("{error:#}").contains("1 s"), "{error:#}");

    on_the_builder(&kitchen, "", asleep);
    let stop = kitchen.stop.clone();
    let raiser = std::thread::spawn(move || {
        let until = Instant::now() + Duration::from_secs(60);
        while running("4722") < 2 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.raise(libc::SIGTERM);
    });
    let error = kitchen.bake(STEP).unwrap_err();
    raiser.join().unwrap();
    assert!(error.downcast_ref::<bakehouse::error::Interrupted>().is_some(), "{error:#}");
    for number in ["4721", "4722"] {
        assert_eq!(running(number), 0, "sleep {number}");
    }
    assert_eq!(picture(kitchen.root()), before);
}

#[test]
fn a_program_that_the_builder_lacks_is_told_before_anything_is_made() {
    if !runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian());
    on_the_builder(&kitchen, "[programs]\nfrobnicate = \"buy one\"\nsh = \"no\"", "exit 1\n");
    let settled = kitchen.settle(STEP);
    let error = bakehouse::provision::has_programs(&settled.unwrap().steps).unwrap_err();
    assert_eq!(kind_of(&error), Kind::Host);
    assert_eq!(error.to_string(), "this builder has no frobnicate, which step \"outside\" needs");
    assert_eq!(super::hint_of(&error), "buy one");
}
