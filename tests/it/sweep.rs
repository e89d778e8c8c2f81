//! What `gc` finds besides dead bakes: what somebody kept, journals that it cannot read, bakes of another cloud, and
//! what the kernel has left of them.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use bakehouse::maker::Maker;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::bake::small::{RECIPE, can_bake};
use crate::bake_ec2::Builder;
use crate::support::bakery::{Bakery, Ran, small_disk};
use crate::support::cgroups::{Cgroups, dead};
use crate::support::fifo::Fifo;
use crate::support::standin::Options;
use crate::support::{not_root, skipped};

const KEEP: [&str; 4] = ["bake", "recipe.toml", "--on-error", "keep"];

/// A builder whose bake has failed, and its disk was kept.
fn kept() -> Option<Builder> {
    let builder = Builder::start(&Options::default(), json!({}))?;
    builder.bakery.put("setup.sh", "#!/bin/sh\nexit 3\n");
    builder.bakery.bakehouse(&KEEP).refused(9, &["kept, as asked: ", "stays for 1d", "--kept-older-than 0s"]);
    assert_eq!(builder.left(), (1, 0, 0));
    Some(builder)
}

fn journal(bakery: &Bakery) -> PathBuf {
    let mut journals = fs::read_dir(bakery.path("state/bakes")).unwrap();
    let journal = journals.next().unwrap().unwrap().path();
    assert!(journals.next().is_none());
    journal
}

/// The findings of a sweep, and what it said.
fn gc(bakery: &Bakery, more: &[&str]) -> (Vec<Value>, Ran) {
    let ran = bakery.bakehouse(&[&["gc", "--output", "json"], more].concat());
    (serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}", ran.told())), ran)
}

#[test]
fn what_an_operator_kept_outlives_the_hourly_sweep_for_a_day() {
    let Some(builder) = kept() else { return };
    let Builder { standin, bakery, .. } = &builder;
    let volume = standin.state()["volumes"][0]["VolumeId"].as_str().unwrap().to_owned();
    standin.age(&volume, 7 * 3600);
    let unit = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/systemd/bakehouse-gc.service"),
    );
    let unit = unit.unwrap();
    let hourly =
        unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/bakehouse gc ")).unwrap();
    let hourly: Vec<_> = hourly.split(' ').collect();
    assert!(hourly.contains(&"--all") && hourly.contains(&"--yes"), "{hourly:?}");
    for more in [&[][..], &["--yes"], &hourly] {
        let (found, ran) = gc(bakery, more);
        assert_eq!(ran.status, Some(0), "{}", ran.told());
        let of_volume = found.iter().find(|one| one["id"] == volume.as_str()).unwrap();
        assert!(of_volume["verdict"]["kept-until"].as_str().unwrap().ends_with('Z'), "{found:#?}");
        assert!(found.iter().all(|one| one["verdict"]["kept-until"].is_string()), "{found:#?}");
        assert!(
            ran.err.contains("`bakehouse gc --kept-older-than 0s --yes` releases it now"),
            "{}",
            ran.told()
        );
        assert_eq!(builder.left(), (1, 0, 0));
    }
    let shown = bakery.bakehouse(&["gc"]).good();
    assert!(
        shown.out.lines().all(|row| row.starts_with("kept ") && row.contains(", until 2")),
        "{}",
        shown.told()
    );
    assert!(!shown.err.contains("nothing"), "{}", shown.told());

    // A day later it goes by itself.
    let (path, mut lines) = (journal(bakery), Vec::new());
    for line in fs::read_to_string(&path).unwrap().lines() {
        let mut line: Value = serde_json::from_str(line).unwrap();
        if line["key"] == "kept" {
            let since: jiff::Timestamp = line["value"].as_str().unwrap().parse().unwrap();
            let before = since.checked_sub(Duration::from_secs(24 * 3600)).unwrap();
            line["value"] = before.to_string().into();
        }
        lines.push(line.to_string() + "\n");
    }
    fs::write(path, lines.concat()).unwrap();
    let (found, ran) = gc(bakery, &["--yes", "--kept-older-than", "30h"]);
    assert!(found.iter().all(|one| one["verdict"]["kept-until"].is_string()), "{}", ran.told());
    let (found, ran) = gc(bakery, &hourly);
    assert!(!found.is_empty() && found.iter().all(|one| one["verdict"] == "released"), "{}", ran.told());
    assert_eq!(builder.left(), (0, 0, 0));
    bakery.assert_nothing_left();
}

#[test]
fn a_journal_that_cannot_be_read_is_no_success() {
    let Some(builder) = kept() else { return };
    let Builder { bakery, .. } = &builder;
    let path = journal(bakery);
    let later = "{\"line\":\"intend\",\"number\":9,\"thing\":{\"thing\":\"of-a-later-version\"}}\n";
    OpenOptions::new().append(true).open(&path).unwrap().write_all(later.as_bytes()).unwrap();
    for more in [&[][..], &["--yes"]] {
        let (found, ran) = gc(bakery, more);
        assert_eq!(ran.status, Some(14), "{}", ran.told());
        assert_eq!(found.len(), 1, "{}", ran.told());
        assert_eq!(found[0]["bake"], path.file_stem().unwrap().to_str().unwrap());
        let why = found[0]["verdict"]["failed"].as_str().unwrap();
        assert!(why.contains("of-a-later-version") && why.contains("gc --all"), "{why}");
    }
    let told = bakery.bakehouse(&["gc"]);
    assert!(!told.err.contains("nothing is left behind"), "{}", told.told());
    // What it owned is found by its tags, as that of a journal that is lost.
    let (_, ran) = gc(bakery, &["--all", "--older-than", "0s", "--yes"]);
    assert_eq!((ran.status, builder.left()), (Some(14), (0, 0, 0)), "{}", ran.told());
    fs::remove_file(path).unwrap();
    assert_eq!(gc(bakery, &[]).0, Vec::<Value>::new());
}

#[test]
fn a_live_bake_whose_journal_cannot_be_read_loses_nothing() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    let baked = builder.while_held(
        json!({"action": "CreateSnapshot", "when": "before"}),
        &["bake", "recipe.toml"],
        || {
            let later = b"{\"line\":\"intend\",\"number\":9,\"thing\":{\"thing\":\"of-a-later-version\"}}\n";
            OpenOptions::new().append(true).open(journal(bakery)).unwrap().write_all(later).unwrap();
            let volume = standin.state()["volumes"][0]["VolumeId"].as_str().unwrap().to_owned();
            standin.age(&volume, 7 * 3600);
            let (found, ran) = gc(bakery, &["--all", "--older-than", "6h", "--yes"]);
            assert_eq!((found, ran.status), (vec![], Some(0)), "{}", ran.err);
            assert_eq!(builder.left().0, 1);
        },
    );
    baked.good();
    assert_eq!(builder.left(), (0, 1, 1));
    bakery.assert_nothing_left();
}

#[test]
fn a_sweep_on_ec2_releases_what_was_baked_into_the_local_store_too() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { bakery, disk, .. } = &builder;
    bakery.base("base-1", disk.path());
    bakery.put("setup.sh", "#!/bin/sh\nexit 3\n");
    let local = "[image]\nname = \"here\"\n[base]\nimage = \"base-1\"\n[[step]]\nuse = \"script\"\nscript = \"setup.sh\"\n";
    bakery.put("recipe.toml", local);
    bakery.bakehouse(&[&KEEP[..], &["--cloud", "local"]].concat()).refused(9, &["kept, as asked: "]);
    let disks = || fs::read_dir(bakery.path("store/disks")).unwrap().count();
    assert_eq!(disks(), 2, "the base's and the kept one");
    let (found, ran) = gc(bakery, &["--yes", "--kept-older-than", "0s"]);
    assert_eq!((ran.status, found.len(), disks()), (Some(0), 1, 1), "{}", ran.told());
    assert_eq!(found[0]["verdict"], "released");

    // And by what no image's record names, where the journal is lost.
    bakery.bakehouse(&[&KEEP[..], &["--cloud", "local"]].concat()).refused(9, &["kept, as asked: "]);
    fs::remove_file(journal(bakery)).unwrap();
    // The base's is an image's, however old it is.
    for disk in fs::read_dir(bakery.path("store/disks")).unwrap() {
        let disk = OpenOptions::new().write(true).open(disk.unwrap().path()).unwrap();
        disk.set_modified(SystemTime::now() - Duration::from_secs(7 * 3600)).unwrap();
    }
    let (found, ran) = gc(bakery, &["--all", "--older-than", "6h", "--yes"]);
    assert_eq!((ran.status, found.len(), disks()), (Some(0), 1, 1), "{}", ran.told());
    bakery.assert_nothing_left();
}

#[test]
fn a_bake_on_ec2_is_not_forgotten_by_a_sweep_of_the_local_store_alone() {
    let Some(builder) = kept() else { return };
    let Builder { bakery, .. } = &builder;
    for more in [&[][..], &["--yes"]] {
        let (found, ran) = gc(bakery, &[&["--cloud", "local", "--kept-older-than", "0s"], more].concat());
        assert_eq!((ran.status, found.len()), (Some(14), 1), "{}", ran.told());
        let why = found[0]["verdict"]["failed"].as_str().unwrap();
        assert!(why.contains("run gc with --cloud ec2"), "{why}");
        assert!(!ran.err.contains("nothing is left behind"), "{}", ran.told());
        assert_eq!(builder.left(), (1, 0, 0));
    }
    bakery.bakehouse(&["gc", "--yes", "--kept-older-than", "0s"]).good();
    assert_eq!(builder.left(), (0, 0, 0));
    bakery.assert_nothing_left();
}

/// A bake's cgroups are where it ran, which is not where `gc` runs.
#[test]
fn cgroups_of_dead_runs_are_found_wherever_their_bakes_ran() {
    if skipped(not_root()) {
        return;
    }
    let Some(mut cgroups) = Cgroups::make() else { return };
    let (session, service) =
        ("user.slice/user-0.slice/session-1.scope", "system.slice/bakehouse-window.service");
    let gone = [cgroups.run(session, &dead()), cgroups.run(service, &dead())];
    // A run of a container may have a number that is nobody's here; in the other is what a live one has made.
    let occupied = cgroups.run(service, &dead());
    cgroups.fill(&occupied);
    let live = cgroups.run(session, &Maker::own().to_string());
    let made =
        cgroups.run(&format!("{session}/{}/inside", live.file_name().unwrap().to_str().unwrap()), &dead());
    let bakery = Bakery::new();
    bakery.bakehouse(&["gc"]).good();
    assert!(gone.iter().all(|path| path.exists()), "shown only");
    let ran = bakery.bakehouse(&["gc", "--yes"]).good();
    assert!(gone.iter().all(|path| !path.exists()), "{}", ran.told());
    assert!(occupied.exists() && live.exists() && made.exists(), "{}", ran.told());
    assert!(!ran.err.contains(&cgroups.name()), "{}", ran.told());
}

/// A filesystem check that outlives its bake would hold the volume that is to be detached.
#[test]
fn a_program_that_works_on_the_disk_ends_with_a_bake_that_is_killed() {
    if skipped(not_root()) || !can_bake() {
        return;
    }
    let (mut bakery, disk) = (Bakery::new(), small_disk());
    bakery.base("small", disk.path());
    let mark = Fifo::make(bakery.path("mark"));
    let fake = format!("#!/bin/sh\necho $$ > {}\nexec sleep 1000\n", bakery.path("mark").display());
    let fake = bakery.put("bin/e2fsck", fake);
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", fake.parent().unwrap().display(), std::env::var("PATH").unwrap());
    bakery.set("PATH", Some(&path));
    bakery.put("recipe.toml", RECIPE);
    bakery.put("setup.sh", "#!/bin/sh\n");
    let mut bake = bakery.command(&[], &["bake", "recipe.toml"]);
    let mut bake = bake.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let check = Pid::from_raw(mark.read().trim().parse().unwrap());
    // The command itself, not the program that limits its time.
    let own = fs::read_to_string(format!("/proc/{0}/task/{0}/children", bake.id())).unwrap();
    kill(Pid::from_raw(own.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    bake.wait().unwrap();
    let lives = || {
        let stat = fs::read_to_string(format!("/proc/{check}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    let until = Instant::now() + Duration::from_secs(30);
    while lives() {
        if Instant::now() > until {
            kill(check, Signal::SIGKILL).unwrap();
            panic!("the check outlives its bake");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bakery.until_nothing_is_held();
    bakery.bakehouse(&["gc", "--yes"]).good();
    bakery.assert_nothing_left();
}
