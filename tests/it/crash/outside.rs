//! `kill -9` while a step runs on the builder (`where = "host"`): of the bake, of all of it at once, of each of the
//! processes that hold the step. Nothing of the step is left.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::site::{NEEDED, On, Running, Site, Stands};
use crate::bake::hooks::{runs, until};
use crate::support::fifo::Fifo;
use crate::support::host::{has, seen_by};

/// Does all that such a step can leave: processes on both sides, in sessions of their own; mounts on the builder, a
/// tmpfs with the secret in it; files of its own and in the sandbox. Then it waits.
const RUN: &str = r#"#!/bin/sh
set -eu
token=$(cat /run/bakehouse/secrets/NAME)
mkdir "$TMPDIR/own" && mount -t tmpfs none "$TMPDIR/own" && echo "$token" > "$TMPDIR/own/copy"
mount -t tmpfs none "$OUT/place" && echo "$token" > "$OUT/place/copy"
mount --bind "$OUT" /mnt
(setsid busybox sleep WORD > /dev/null 2>&1 &)
bakehouse-inside sh -c '(busybox setsid busybox sleep WORD > /dev/null 2>&1 &)
    read -r token < /run/bakehouse/secrets/NAME; echo "$token" > /tmp/copy; echo baked > /srv/marker'
bakehouse-inside busybox sleep WORD &
until bakehouse-inside sh -c 'busybox ps | busybox grep -c "[s]leep WORD" | busybox grep -qx 2'; do :; done
echo held > "$OUT/held"
read -r answer < "$OUT/go"
kill %1 2>/dev/null || true
"#;

/// A site whose bakes have such a step.
struct Outside {
    site: Site,
    out: PathBuf,
    held: Fifo,
    go: Fifo,
    /// The argument of every process that the step starts, which no other has.
    word: String,
    /// The secret's name, which no other has.
    secret: String,
}

impl Outside {
    fn new(on: On) -> Self {
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let word = (100_000_000 + u64::from(std::process::id()) * 100 + number).to_string();
        let secret = format!("token-{word}");
        let site = Site::new(on);
        let out = site.path("out");
        fs::create_dir_all(out.join("place")).unwrap();
        fs::write(site.path("secret"), "tok-9a0dd1f2c3\n").unwrap();
        let folder = site.path("provisioners/outside");
        fs::create_dir_all(&folder).unwrap();
        let definition = "summary = \"A test's own\"\nwhere = \"host\"\nnetwork = \"none\"\n[run]\ncommand = [\"./run\"]\n";
        fs::write(folder.join("provisioner.toml"), definition).unwrap();
        fs::write(folder.join("run"), RUN.replace("NAME", &secret).replace("WORD", &word)).unwrap();
        fs::set_permissions(folder.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        let recipe = fs::read_to_string(site.path("recipe.toml")).unwrap();
        let (head, _) = recipe.split_once("[[step]]").unwrap();
        let step = format!(
            "[[step]]\nuse = \"outside\"\nenv = {{ OUT = {:?} }}\nsecrets = {{ {secret} = {{ file = \"secret\" }} }}\n",
            out.display()
        );
        fs::write(site.path("recipe.toml"), format!("{head}{step}")).unwrap();
        let [held, go] = ["held", "go"].map(|name| Fifo::make(out.join(name)));
        Self { site, out, held, go, word, secret }
    }

    /// Starts a bake and waits until it is in the middle of its step; the cgroups of the step.
    fn held(&self, name: &str) -> (Running, BTreeSet<PathBuf>) {
        let bake = self.site.bake(&[], name);
        self.held.read();
        assert!(runs(&self.word) && self.secret_is_seen());
        let mine = |process: &PathBuf| {
            let line = fs::read(process.join("cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|argument| argument == self.word.as_bytes())
        };
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
        let groups = processes.filter(mine).filter_map(|process| cgroup_of(&process)).collect();
        (bake, groups)
    }

    fn secret_is_seen(&self) -> bool {
        seen_by(&format!("run/bakehouse/secrets/{}", self.secret)) > 0
    }

    /// The processes of Bakehouse's own: the bake, and the helpers that hold its step. Not those by which the step's
    /// program runs something in the image.
    fn helpers(&self) -> Vec<Pid> {
        let own = self.site.path("bakehouse");
        let is_helper = |process: &PathBuf| {
            fs::read_link(process.join("exe")).is_ok_and(|exe| exe == own)
                && fs::read(process.join("cmdline")).is_ok_and(|line| !line.starts_with(b"bakehouse-inside"))
        };
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
        processes.filter(is_helper).map(|process| pid_of(&process)).collect()
    }

    /// That nothing of a step is left, once the kernel is done with it.
    #[track_caller]
    fn nothing_is_left(&self, name: &str, what: &str, groups: &BTreeSet<PathBuf>) {
        until(what, || !runs(&self.word) && !self.secret_is_seen());
        self.site.settle().unwrap_or_else(|left| panic!("{what}: {left}"));
        assert_eq!(mounts_of(&self.site), Vec::<String>::new(), "{what}");
        assert_eq!(fs::read_dir(self.out.join("place")).unwrap().count(), 0, "{what}: the mount was its own");
        let groups: Vec<_> = groups.iter().filter(|group| group.exists()).collect();
        assert!(groups.is_empty(), "{what}: {groups:?}");
        assert_eq!(self.site.stands(name), Ok(Stands::Nothing), "{what}");
    }
}

/// The number of a process, by its folder in /proc.
fn pid_of(process: &Path) -> Pid {
    Pid::from_raw(process.file_name().unwrap().to_str().unwrap().parse().unwrap())
}

/// A process's cgroup of version 2, where this host has them.
fn cgroup_of(process: &Path) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let top = mounts.lines().find_map(|line| line.split_once(" cgroup2 ")?.0.split(' ').nth(1))?;
    let groups = fs::read_to_string(process.join("cgroup")).ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    assert!(own.contains("bakehouse-run-"), "{own}");
    Some(Path::new(top).join(own))
}

/// Mounts of a site's folder in any process's mount namespace.
fn mounts_of(site: &Site) -> Vec<String> {
    let own = site.path("").to_str().unwrap().trim_end_matches('/').to_owned();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let all = processes.filter_map(|process| fs::read_to_string(process.path().join("mountinfo")).ok());
    let lines: BTreeSet<String> = all
        .flat_map(|text| {
            text.lines().filter(|line| line.contains(&own)).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    lines.into_iter().collect()
}

#[test]
fn a_bake_killed_in_a_step_on_the_builder_leaves_nothing_of_it_on_the_local_store() {
    killed(On::Local);
}

#[test]
fn a_bake_killed_in_a_step_on_the_builder_leaves_nothing_of_it_on_ec2() {
    killed(On::Ec2);
}

fn killed(on: On) {
    if !has(NEEDED) {
        return;
    }
    let outside = Outside::new(on);
    // The step itself goes well where nobody ends it.
    let (bake, groups) = outside.held("well");
    outside.go.write("on\n");
    let ended = bake.wait();
    assert!(ended.status.success(), "{}", ended.told());
    assert_eq!(outside.site.stands("well"), Ok(Stands::Image));
    assert!(!runs(&outside.word) && !outside.secret_is_seen());
    assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");

    for at_once in [false, true] {
        let (name, what) = match at_once {
            false => ("killed", "the bake alone"),
            // As a service manager ends a unit, and as the kernel does for want of memory.
            true => ("killed-whole", "the bake and all its helpers"),
        };
        let (bake, groups) = outside.held(name);
        let helpers = outside.helpers();
        assert!(helpers.len() >= 5, "the bake, and two for each side of the step: {helpers:?}");
        bake.signal(Signal::SIGKILL);
        if at_once {
            for helper in &helpers {
                kill(*helper, Signal::SIGKILL).unwrap_or_default();
            }
        }
        assert!(bake.wait().was_killed());
        if at_once {
            // Only what dies by itself is waited for: the sweep does the rest.
            outside.site.settle().unwrap();
        }
        let shown = outside.site.gc(&[]).unwrap();
        let done = outside.site.gc(&["--yes"]).unwrap();
        assert!(!shown.is_empty() && shown.len() == done.len(), "{shown:?} {done:?}");
        outside.nothing_is_left(name, what, &groups);
    }
}

/// The bake lives, and what holds its step dies: that is a failed bake, which undoes all.
#[test]
fn a_helper_or_program_of_a_step_on_the_builder_that_is_killed_fails_the_bake() {
    if !has(NEEDED) {
        return;
    }
    let outside = Outside::new(On::Local);
    for nth in 0.. {
        let name = format!("helper-{nth}");
        let (bake, groups) = outside.held(&name);
        let own = i32::try_from(bake.child.id()).unwrap();
        let mut helpers: Vec<_> = outside.helpers().into_iter().filter(|pid| pid.as_raw() != own).collect();
        helpers.sort();
        let Some(helper) = helpers.get(nth) else {
            bake.signal(Signal::SIGTERM);
            let ended = bake.wait();
            assert_eq!(ended.status.code(), Some(143), "{}", ended.told());
            assert!(nth >= 5, "two for each side, and what answers inside: {helpers:?}");
            break;
        };
        kill(*helper, Signal::SIGKILL).unwrap();
        let ended = bake.wait();
        assert!(matches!(ended.status.code(), Some(4 | 9)), "{nth} of {helpers:?}: {}", ended.told());
        ended.is_clear_failure().unwrap();
        // One that was killed could not take its cgroup away.
        outside.site.gc(&["--yes"]).unwrap();
        outside.nothing_is_left(&name, &format!("helper {nth} of {helpers:?}: {}", ended.told()), &groups);
    }
    let (bake, groups) = outside.held("program");
    let mark = format!("OUT={}\0", outside.out.display());
    let is_program = |process: &PathBuf| {
        let line = fs::read_to_string(process.join("cmdline")).unwrap_or_default();
        let env = fs::read(process.join("environ")).unwrap_or_default();
        line.contains("/run/bakehouse/step/provisioner/run") && String::from_utf8_lossy(&env).contains(&mark)
    };
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
    let program = processes.filter(is_program).map(|process| pid_of(&process)).min().unwrap();
    kill(program, Signal::SIGKILL).unwrap();
    let ended = bake.wait();
    assert_eq!(ended.status.code(), Some(9), "{}", ended.told());
    assert!(ended.err.contains("signal 9 SIGKILL"), "{}", ended.told());
    outside.nothing_is_left("program", "the program", &groups);
}

/// Each call by which the baking thread prepares such a step, starts its two sides and tidies up after it.
#[test]
fn a_bake_killed_at_every_point_around_a_step_on_the_builder_leaves_nothing_of_it() {
    if !has(NEEDED) {
        return;
    }
    let outside = Outside::new(On::Local);
    let script = outside.site.path("provisioners/outside/run");
    // It need not wait: the points are the bake's own.
    let text = fs::read_to_string(&script).unwrap();
    fs::write(&script, text.replace("echo held", "exit 0\necho held")).unwrap();
    let mut points = 0;
    for call in ["bind", "symlink", "socketpair", "clone3", "rmdir"] {
        for nth in 1.. {
            let name = format!("{call}-{nth}");
            let trace = format!("trace={call}");
            let inject = format!("inject={call}:signal=SIGKILL:when={nth}");
            let died = outside
                .site
                .bake(&["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject], &name)
                .wait();
            if !died.was_killed() {
                assert!(died.status.success(), "{}", died.told());
                break;
            }
            points += 1;
            outside.site.gc(&["--yes"]).unwrap();
            let what = format!("{call} {nth}");
            until(&what, || !runs(&outside.word) && !outside.secret_is_seen());
            outside.site.settle().unwrap_or_else(|left| panic!("{what}: {left}"));
            assert_eq!(mounts_of(&outside.site), Vec::<String>::new(), "{what}");
            let stands = outside.site.stands(&name).unwrap_or_else(|left| panic!("{what}: {left}"));
            assert_ne!(stands, Stands::Old, "{what}");
        }
    }
    println!("killed at {points} points");
    assert!(points >= 10, "{points}");
}
