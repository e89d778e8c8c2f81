//! Hooks after the image of a bake that died: each runs once, in whichever process the bake is finished, and one that
//! was cut off is told and not run again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::json;

use super::kill::kill_at;
use super::site::{Ended, GOOD_STEP, NEEDED, On, Site, Stands};
use crate::support::fifo::Fifo;
use crate::support::host::has;

mod resumed;
mod stopped;

/// Notes that it ran, and what it was told.
const HOOK: &str =
    "#!/bin/sh\nset -e\necho \"$BAKEHOUSE_HOOK\" >> \"$OUT/ran\"\nenv > \"$OUT/$BAKEHOUSE_HOOK\"\n";

/// A site whose bakes have this hook at every point, and the folder that the hooks write to.
fn with_hooks(on: On, last: &str) -> (Site, PathBuf) {
    let site = Site::new(on);
    let out = site.path("hooks");
    fs::create_dir(&out).unwrap();
    for (name, text) in [("hook.sh", HOOK), ("last.sh", last)] {
        fs::write(site.path(name), text).unwrap();
        fs::set_permissions(site.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    site.write_recipe(GOOD_STEP);
    let mut recipe = fs::read_to_string(site.path("recipe.toml")).unwrap();
    for at in ["before-mount", "after-mount", "before-close", "after-image"] {
        let script = if at == "after-image" { "last.sh" } else { "hook.sh" };
        recipe +=
            &format!("[[hook]]\nat = {at:?}\nscript = {script:?}\nenv = {{ OUT = {:?} }}\n", out.display());
    }
    fs::write(site.path("recipe.toml"), recipe).unwrap();
    (site, out)
}

/// How often the hooks at a point ran.
fn ran(out: &Path, at: &str) -> usize {
    fs::read_to_string(out.join("ran")).unwrap_or_default().lines().filter(|line| *line == at).count()
}

/// What the last hook was told of the bake, settings of the command left out.
fn told(out: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(out.join("after-image")).unwrap();
    let all = text.lines().filter_map(|line| line.split_once('='));
    let known = [
        "HOOK",
        "BAKE",
        "CLOUD",
        "REGION",
        "BASE",
        "BASE_NAME",
        "ARCH",
        "IMAGE",
        "IMAGE_NAME",
        "SNAPSHOT",
        "MANIFEST",
        "LOG_FILE",
        "DEVICE",
        "ROOT",
    ];
    let about = all.filter_map(|(name, value)| Some((name.strip_prefix("BAKEHOUSE_")?, value)));
    about
        .filter(|(name, _)| known.contains(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The one journal's bake.
fn bake_of(site: &Site) -> String {
    let [journal] = site.journals().try_into().unwrap();
    journal.file_stem().unwrap().to_str().unwrap().to_owned()
}

fn resume(site: &Site, id: &str) -> Ended {
    site.start(&[], &["bake", "--resume", id]).wait()
}

/// That a bake is over for good: nobody goes on with it again, and no hook runs.
#[track_caller]
fn is_over(site: &Site, out: &Path, id: &str) {
    let before = ran(out, "after-image");
    let again = resume(site, id);
    assert_eq!(again.status.code(), Some(2), "{}", again.told());
    again.is_clear_failure().unwrap();
    assert_eq!(ran(out, "after-image"), before);
}

#[test]
fn hooks_after_the_image_run_once_where_a_bake_is_gone_on_with_on_ec2() {
    if !has(NEEDED) {
        return;
    }
    let (site, out) = with_hooks(On::Ec2, HOOK);
    site.ec2().latencies(json!({"snapshot": 2.0}));
    // As they are told in a bake that goes well.
    let ended = site.bake(&[], "well").wait();
    assert!(ended.status.success(), "{}", ended.told());
    let well = told(&out);
    for (number, (action, when)) in [
        ("CreateSnapshot", "after"),
        ("DetachVolume", "after"),
        ("RegisterImage", "before"),
        ("RegisterImage", "after"),
    ]
    .into_iter()
    .enumerate()
    {
        fs::remove_file(out.join("ran")).unwrap();
        let name = format!("hooked-{number}");
        kill_at(&site, action, when, &name);
        assert_eq!(ran(&out, "after-image"), 0, "{when} {action}");
        let id = bake_of(&site);
        let ended = resume(&site, &id);
        assert!(ended.status.success(), "{when} {action}: {}", ended.told());
        assert_eq!(site.stands(&name), Ok(Stands::Image), "{when} {action}: {}", ended.told());
        for at in ["before-mount", "after-mount", "before-close", "after-image"] {
            assert_eq!(ran(&out, at), 1, "{at}, {when} {action}: {}", ended.told());
        }
        let about = told(&out);
        assert_eq!(about.keys().collect::<Vec<_>>(), well.keys().collect::<Vec<_>>());
        let image = site.ec2().find("images", "ImageId", ended.out.trim()).unwrap();
        let snapshot = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"].as_str().unwrap();
        for (name, value) in [
            ("HOOK", "after-image"),
            ("BAKE", &id),
            ("IMAGE", ended.out.trim()),
            ("IMAGE_NAME", &name),
            ("SNAPSHOT", snapshot),
            ("BASE", &well["BASE"]),
            ("BASE_NAME", "tiny"),
            ("CLOUD", "ec2"),
            ("REGION", &well["REGION"]),
        ] {
            assert_eq!(about[name], value, "{name}");
        }
        assert!(!about.contains_key("ROOT") && !about.contains_key("DEVICE"), "{about:?}");
        let manifest = fs::read_to_string(&about["MANIFEST"]).unwrap();
        assert!(manifest.contains(&id), "{manifest}");
        assert!(about["LOG_FILE"].ends_with(&format!("{id}.log")) && Path::new(&about["LOG_FILE"]).is_file());
        is_over(&site, &out, &id);
    }
}

/// Wherever a bake dies: once where its image comes to stand, else never.
#[test]
fn hooks_after_the_image_run_once_or_never_wherever_a_bake_dies() {
    if !has(NEEDED) {
        return;
    }
    let (site, out) = with_hooks(On::Local, HOOK);
    let (mut finished, mut refused, mut standing) = (0, 0, 0);
    for call in ["fdatasync", "unlink", "clone3"] {
        for nth in 1.. {
            fs::remove_file(out.join("ran")).unwrap_or_default();
            let name = format!("{call}-{nth}");
            let trace = format!("trace={call}");
            let inject = format!("inject={call}:signal=SIGKILL:when={nth}");
            let through = ["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
            let died = site.bake(&through, &name).wait();
            if !died.was_killed() {
                assert!(died.status.success(), "{}", died.told());
                assert_eq!(ran(&out, "after-image"), 1, "{}", died.told());
                break;
            }
            site.settle().unwrap();
            let what = format!("{call} {nth}");
            if site.journals().is_empty() {
                // Nothing was begun yet, or all was over.
                let stands = site.stands(&name).unwrap();
                assert_eq!(ran(&out, "after-image"), usize::from(stands == Stands::Image), "{what}");
                standing += 1;
                continue;
            }
            let before = ran(&out, "after-image");
            let id = bake_of(&site);
            let ended = resume(&site, &id);
            match ended.status.code() {
                Some(0) => {
                    finished += 1;
                    assert_eq!(ran(&out, "after-image"), 1, "{what}: {}", ended.told());
                    assert_eq!(site.stands(&name), Ok(Stands::Image), "{what}: {}", ended.told());
                    is_over(&site, &out, &id);
                }
                // It may have run, or not, or in part: that is told, and it is not run again.
                Some(13) => {
                    standing += 1;
                    assert_eq!(ran(&out, "after-image"), before, "{what}: {}", ended.told());
                    assert!(ended.err.contains("\"last.sh\""), "{what}: {}", ended.told());
                    assert_eq!(site.stands(&name), Ok(Stands::Image), "{what}: {}", ended.told());
                    is_over(&site, &out, &id);
                }
                _ => {
                    refused += 1;
                    assert_eq!(ended.status.code(), Some(2), "{what}: {}", ended.told());
                    assert_eq!(ran(&out, "after-image"), 0, "{what}");
                    site.gc(&["--yes"]).unwrap();
                    assert_eq!(site.stands(&name), Ok(Stands::Nothing), "{what}");
                }
            }
        }
    }
    println!("gone on with {finished}, too early for that {refused}, over or in the hook itself {standing}");
    assert!(finished >= 5 && refused >= 5 && standing >= 1, "{finished} {refused} {standing}");
}

#[test]
fn a_hook_that_fails_when_a_bake_is_gone_on_with_leaves_the_image_and_says_so() {
    if !has(NEEDED) {
        return;
    }
    for on in [On::Ec2, On::Local] {
        let (site, out) = with_hooks(on, &format!("{HOOK}echo 'no such channel'\nexit 7\n"));
        let (id, ended) = killed_and_resumed(&site, "failing");
        assert_eq!(ended.status.code(), Some(13), "{}", ended.told());
        let image = ended.out.trim();
        assert!(!image.is_empty() && !image.contains('\n'), "{}", ended.told());
        for words in [
            &format!("the image {image} is good, but a hook after it failed"),
            "| no such channel",
            "exit status 7",
        ] {
            assert!(ended.err.contains(words), "{words}: {}", ended.told());
        }
        assert_eq!(ran(&out, "after-image"), 1);
        assert_eq!(site.stands("failing"), Ok(Stands::Image), "{}", ended.told());
        is_over(&site, &out, &id);
    }
}

/// Kills a bake at the first point from which it can be gone on with, and does so.
fn killed_and_resumed(site: &Site, name: &str) -> (String, Ended) {
    if site.on == On::Ec2 {
        kill_at(site, "RegisterImage", "before", name);
        let id = bake_of(site);
        return (id.clone(), resume(site, &id));
    }
    for nth in 1.. {
        let inject = format!("inject=fdatasync:signal=SIGKILL:when={nth}");
        let through = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", &inject];
        let died = site.bake(&through, name).wait();
        assert!(died.was_killed(), "{}", died.told());
        site.settle().unwrap();
        let id = bake_of(site);
        let ended = resume(site, &id);
        if ended.status.code() != Some(2) {
            return (id, ended);
        }
        site.gc(&["--yes"]).unwrap();
    }
    unreachable!("a bake has so many lines")
}

#[test]
fn a_bake_that_dies_in_a_hook_after_its_image_is_told_of_and_the_hook_is_not_run_again() {
    if !has(NEEDED) {
        return;
    }
    for (on, by_gc) in [(On::Local, false), (On::Local, true), (On::Ec2, false), (On::Ec2, true)] {
        let (site, out) =
            with_hooks(on, &format!("{HOOK}echo held > \"$OUT/held\"\nread -r never < \"$OUT/go\"\n"));
        let [held, _go] = ["held", "go"].map(|name| Fifo::make(out.join(name)));
        let bake = site.bake(&[], "cut");
        held.read();
        // What the bake made is released before; its journal is there for the hook's sake alone.
        bake.signal(Signal::SIGKILL);
        assert!(bake.wait().was_killed());
        site.settle().unwrap();
        let id = bake_of(&site);
        if by_gc {
            for more in [&[][..], &["--yes"]] {
                let ended = site.start(&[], &[&["gc"], more].concat()).wait();
                assert!(ended.status.success(), "{}", ended.told());
                for words in ["is good", "\"last.sh\"", "not run again"] {
                    assert!(ended.err.contains(words), "{words}: {}", ended.told());
                }
            }
        } else {
            let ended = resume(&site, &id);
            assert_eq!(ended.status.code(), Some(13), "{}", ended.told());
            assert!(!ended.out.trim().is_empty(), "{}", ended.told());
            for words in ["is good", "\"last.sh\"", "not run again"] {
                assert!(ended.err.contains(words), "{words}: {}", ended.told());
            }
        }
        assert_eq!(ran(&out, "after-image"), 1);
        assert_eq!(site.stands("cut"), Ok(Stands::Image));
        is_over(&site, &out, &id);
    }
}

/// A sweep finishes a bake whose image stands, and runs no hook: it says which have not run.
#[test]
fn gc_runs_no_hook_and_says_which_it_did_not_run() {
    if !has(NEEDED) {
        return;
    }
    let (site, out) = with_hooks(On::Ec2, HOOK);
    kill_at(&site, "RegisterImage", "after", "swept");
    let id = bake_of(&site);
    let shown = site.start(&[], &["gc"]).wait();
    for words in ["\"last.sh\" after it was not run", &format!("bake --resume {id}")] {
        assert!(shown.err.contains(words), "{words}: {}", shown.told());
    }
    let done = site.start(&[], &["gc", "--yes"]).wait();
    assert!(
        done.status.success() && done.err.contains("\"last.sh\" after it was not run"),
        "{}",
        done.told()
    );
    assert_eq!(ran(&out, "after-image"), 0);
    assert_eq!(site.stands("swept"), Ok(Stands::Image), "{}", done.told());
    is_over(&site, &out, &id);
}

/// A signal in a hook after the image: the image stands, and the hook is over.
#[test]
fn a_signal_in_a_hook_after_the_image_leaves_the_image() {
    if !has(NEEDED) {
        return;
    }
    let (site, out) =
        with_hooks(On::Local, &format!("{HOOK}echo held > \"$OUT/held\"\nread -r never < \"$OUT/go\"\n"));
    let [held, _go] = ["held", "go"].map(|name| Fifo::make(out.join(name)));
    let bake = site.bake(&[], "signalled");
    held.read();
    bake.signal(Signal::SIGTERM);
    let ended = bake.wait();
    assert_eq!(ended.status.code(), Some(143), "{}", ended.told());
    assert!(
        !ended.out.trim().is_empty() && ended.err.contains("is good, but a hook after it"),
        "{}",
        ended.told()
    );
    assert_eq!(ran(&out, "after-image"), 1);
    site.settle().unwrap();
    assert_eq!(site.stands("signalled"), Ok(Stands::Image));
}
