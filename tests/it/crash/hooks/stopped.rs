//! Hooks after the image of a bake that was stopped, or whose journal takes no more lines: what had not begun is kept for
//! whoever goes on with the bake, and what was done is not told as failed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{HOOK, bake_of, is_over, ran, resume, with_hooks};
use crate::crash::points::hold;
use crate::crash::site::{Ended, NEEDED, On, Running, Site, Stands};
use crate::support::host::has;

/// The Region that copies go to.
pub(super) const ELSEWHERE: &str = "us-east-1";

/// That a bake ended with a good image and hooks that had not begun, and says how to go on; its id.
#[track_caller]
pub(super) fn is_to_be_gone_on_with(site: &Site, ended: &Ended, status: i32) -> String {
    assert_eq!(ended.status.code(), Some(status), "{}", ended.told());
    let id = bake_of(site);
    for words in ["is good, but the hook \"last.sh\" after it was not run", &format!("bake --resume {id}")] {
        assert!(ended.err.contains(words), "{words}: {}", ended.told());
    }
    assert!(!ended.out.trim().is_empty() && !ended.err.contains("by hand"), "{}", ended.told());
    // The hourly sweep leaves it to whoever goes on with it.
    let swept = site.start(&[], &["gc", "--yes"]).wait();
    for words in ["is kept until 2", &format!("bake --resume {id}")] {
        assert!(swept.status.success() && swept.err.contains(words), "{words}: {}", swept.told());
    }
    assert!(swept.out.contains("the hook \"last.sh\" after it was not run, until 2"), "{}", swept.told());
    assert_eq!(site.journals().len(), 1);
    id
}

/// That what was stopped while it published was gone on with to its end: image, copy and hook are there, once each.
#[track_caller]
pub(super) fn is_finished(site: &Site, out: &Path, id: &str, ended: &Ended) {
    assert!(ended.status.success(), "{}", ended.told());
    assert_eq!(ran(out, "after-image"), 1, "{}", ended.told());
    assert_eq!(site.stands("stopped"), Ok(Stands::Image), "{}", ended.told());
    let copies = site.ec2().state_of(ELSEWHERE)["images"].clone();
    assert_eq!(copies.as_array().unwrap().len(), 1, "{copies:#}");
    is_over(site, out, id);
}

/// A bake of two Regions that is stopped before it begins the copy to the other.
pub(super) fn stopped_while_it_publishes(site: &Site, name: &str) -> Ended {
    let path = site.path("recipe.toml");
    let recipe = fs::read_to_string(&path).unwrap();
    fs::write(path, recipe + &format!("[publish]\nregions = [{ELSEWHERE:?}]\n")).unwrap();
    let ended = stopped_at(site, site.bake(&[], name), hold("CopyImage", 1, "before"));
    ended.unwrap_or_else(|ended| panic!("not reached: {}", ended.told()))
}

/// Stops what runs while a call is held; what it came to without being stopped, where it makes no such call.
pub(super) fn stopped_at(site: &Site, mut running: Running, call: serde_json::Value) -> Result<Ended, Ended> {
    let standin = site.ec2();
    standin.fault(call);
    while standin.held(Duration::from_millis(100)).is_empty() {
        if running.is_over() {
            standin.clear_faults();
            return Err(running.wait());
        }
    }
    running.signal(Signal::SIGTERM);
    running.until_said("stopping: ");
    standin.release(false);
    standin.clear_faults();
    Ok(running.wait())
}

/// Runs a bake under strace, with what it does to one call of the kernel's.
fn bake_with(site: &Site, call: &str, inject: &str, name: &str) -> Ended {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{inject}"));
    site.bake(&["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject], name).wait()
}

#[test]
fn a_stop_while_it_publishes_keeps_the_hooks_after_the_image_for_whoever_goes_on_with_it() {
    if !has(NEEDED) {
        return;
    }
    let (site, out) = with_hooks(On::Ec2, HOOK);
    let ended = stopped_while_it_publishes(&site, "stopped");
    let id = is_to_be_gone_on_with(&site, &ended, 143);
    assert_eq!(ran(&out, "after-image"), 0);

    let ended = resume(&site, &id);
    is_finished(&site, &out, &id, &ended);
}

/// Wherever a bake is stopped: its hook ran where its image came to stand, or the bake is gone on with, or it was in it.
#[test]
fn hooks_after_the_image_are_not_lost_wherever_a_bake_is_stopped() {
    if !has(NEEDED) {
        return;
    }
    let (site, out) = with_hooks(On::Local, HOOK);
    let (mut undone, mut kept, mut cut) = (0, 0, 0);
    for call in ["fdatasync", "unlink"] {
        for nth in 1.. {
            fs::remove_file(out.join("ran")).unwrap_or_default();
            let name = format!("{call}-{nth}");
            let ended = bake_with(&site, call, &format!("signal=SIGTERM:when={nth}"), &name);
            site.settle().unwrap();
            let told = ended.told();
            let runs = ran(&out, "after-image");
            if ended.status.success() {
                assert_eq!((runs, site.stands(&name)), (1, Ok(Stands::Image)), "{told}");
                // Behind its last line as well, there is nothing more to be stopped at.
                if !ended.err.contains("stopping: ") {
                    break;
                }
            } else if ended.out.is_empty() {
                assert_eq!((runs, site.stands(&name)), (0, Ok(Stands::Nothing)), "{told}");
                undone += 1;
            } else if site.journals().is_empty() {
                // It had begun: how far it came nobody can tell.
                assert!(ended.err.contains("a hook after it failed"), "{told}");
                assert_eq!(site.stands(&name), Ok(Stands::Image), "{told}");
                cut += 1;
            } else {
                assert_eq!(runs, 0, "{told}");
                let id = is_to_be_gone_on_with(&site, &ended, 143);
                let ended = resume(&site, &id);
                assert!(ended.status.success(), "{}", ended.told());
                assert_eq!(ran(&out, "after-image"), 1, "{}", ended.told());
                assert_eq!(site.stands(&name), Ok(Stands::Image), "{}", ended.told());
                is_over(&site, &out, &id);
                kept += 1;
            }
        }
    }
    println!("undone {undone}, hooks kept {kept}, stopped in the hook {cut}");
    assert!(undone >= 5 && kept >= 1, "{undone} {kept} {cut}");
}

/// The journal's last lines find no room: that the hook begins, without which it does not, and that it is done.
#[test]
fn a_hook_that_is_done_is_not_told_as_failed_where_its_journal_takes_no_line() {
    if !has(NEEDED) {
        return;
    }
    let (site, out) = with_hooks(On::Local, HOOK);
    let trace = site.path("trace");
    let through = ["strace", "-qq", "-o", trace.to_str().unwrap(), "-e", "trace=fdatasync"];
    let ended = site.bake(&through, "counted").wait();
    assert!(ended.status.success(), "{}", ended.told());
    let lines =
        fs::read_to_string(&trace).unwrap().lines().filter(|line| line.contains("fdatasync(")).count();

    fs::remove_file(out.join("ran")).unwrap();
    let ended = bake_with(&site, "fdatasync", &format!("error=ENOSPC:when={lines}"), "done");
    assert_eq!(ended.status.code(), Some(0), "{}", ended.told());
    assert!(ended.err.contains("warning: the hook \"last.sh\" after the image is done"), "{}", ended.told());
    assert_eq!(ran(&out, "after-image"), 1);
    assert_eq!((site.journals(), site.stands("done")), (vec![], Ok(Stands::Image)));

    fs::remove_file(out.join("ran")).unwrap();
    let ended = bake_with(&site, "fdatasync", &format!("error=ENOSPC:when={}", lines - 1), "begun");
    let id = is_to_be_gone_on_with(&site, &ended, 13);
    assert_eq!(ran(&out, "after-image"), 0);
    let ended = resume(&site, &id);
    assert!(ended.status.success(), "{}", ended.told());
    assert_eq!((ran(&out, "after-image"), site.stands("begun")), (1, Ok(Stands::Image)));
    is_over(&site, &out, &id);
}
