//! `bake --resume`: a bake that died once its snapshot had begun is gone on with.

use serde_json::json;

use super::kill::kill_at;
use super::site::{NEEDED, On, Site, Stands};
use crate::support::host::has;

#[test]
fn a_bake_that_died_after_its_snapshot_began_is_finished_on_ec2() {
    if !has(NEEDED) {
        return;
    }
    let points = [
        ("CreateSnapshot", "after"),
        ("DescribeSnapshots", "before"),
        ("DetachVolume", "after"),
        ("DeleteVolume", "after"),
        ("RegisterImage", "before"),
        ("RegisterImage", "after"),
    ];
    resumed_at(&Site::new(On::Ec2), &points);
}

#[test]
fn a_bake_on_the_users_volume_is_finished_and_the_volume_stays() {
    if !has(NEEDED) {
        return;
    }
    let points = [("CreateSnapshot", "after"), ("DetachVolume", "before"), ("RegisterImage", "after")];
    let site = Site::on_given(On::Ec2);
    resumed_at(&site, &points);
    assert!(!site.ec2().counts().contains_key("DeleteVolume"));
}

/// Kills a bake at each of these calls, and goes on with it.
fn resumed_at(site: &Site, points: &[(&str, &'static str)]) {
    // Long enough for it to be pending still when the bake is resumed.
    site.ec2().latencies(json!({"snapshot": 2.0}));
    for (number, (action, when)) in points.iter().enumerate() {
        let name = format!("resumed-{number}");
        kill_at(site, action, when, &name);
        let [journal] = site.journals().try_into().unwrap();
        let id = journal.file_stem().unwrap().to_str().unwrap().to_owned();
        let ended = site.start(&[], &["bake", "--resume", &id]).wait();
        assert!(ended.status.success(), "{when} {action}: {}", ended.told());
        assert_eq!(site.stands(&name), Ok(Stands::Image), "{when} {action}: {}", ended.told());
        let image = ended.out.trim();
        assert!(
            site.ec2().find("images", "ImageId", image).is_some_and(|found| found["Name"] == name.as_str())
        );
    }
}

#[test]
fn a_bake_that_died_at_any_line_of_its_journal_is_finished_or_refused_on_the_local_store() {
    from_line(On::Local, 1);
}

#[test]
fn a_bake_that_died_at_any_late_line_of_its_journal_is_finished_or_refused_on_ec2() {
    from_line(On::Ec2, 7);
}

fn from_line(on: On, first: usize) {
    if !has(NEEDED) {
        return;
    }
    let site = Site::new(on);
    let mut resumed = 0;
    for nth in first.. {
        let name = format!("resumed-{nth}");
        let inject = format!("inject=fdatasync:signal=SIGKILL:when={nth}");
        let through = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", &inject];
        if !site.bake(&through, &name).wait().was_killed() {
            break;
        }
        site.settle().unwrap();
        let [journal] = site.journals().try_into().unwrap();
        let id = journal.file_stem().unwrap().to_str().unwrap().to_owned();
        let ended = site.start(&[], &["bake", "--resume", &id]).wait();
        if ended.status.success() {
            resumed += 1;
            assert_eq!(site.stands(&name), Ok(Stands::Image), "{}", ended.told());
        } else {
            // Too early: nothing was changed, and gc undoes it.
            assert_eq!(ended.status.code(), Some(2), "{}", ended.told());
            ended.is_clear_failure().unwrap();
            assert_eq!(site.journals().len(), 1);
            site.gc(&["--yes"]).unwrap();
            assert_eq!(site.stands(&name), Ok(Stands::Nothing));
        }
    }
    assert!(resumed >= 4, "{resumed}");
}

#[test]
fn a_live_bake_and_one_that_is_not_known_are_not_resumed() {
    if !has(NEEDED) {
        return;
    }
    let site = Site::new(On::Ec2);
    let ended = site.start(&[], &["bake", "--resume", "bake-00000000000000000"]).wait();
    assert_eq!(ended.status.code(), Some(2), "{}", ended.told());
    ended.is_clear_failure().unwrap();
    site.ec2().fault(json!({"action": "CreateSnapshot", "kind": "hold", "when": "after"}));
    let bake = site.bake(&[], "live");
    assert_eq!(site.ec2().held(std::time::Duration::from_secs(120)).len(), 1);
    let [journal] = site.journals().try_into().unwrap();
    let id = journal.file_stem().unwrap().to_str().unwrap().to_owned();
    let ended = site.start(&[], &["bake", "--resume", &id]).wait();
    assert_eq!(ended.status.code(), Some(2), "{}", ended.told());
    assert!(ended.err.contains("still running"), "{}", ended.told());
    let log = ended.err.lines().find_map(|line| line.trim_start().strip_prefix("log: ")).unwrap();
    assert!(std::fs::read_to_string(log).unwrap().contains("still running"), "{}", ended.told());
    site.ec2().release(false);
    assert!(bake.wait().status.success());
    assert_eq!(site.stands("live"), Ok(Stands::Image));
}
