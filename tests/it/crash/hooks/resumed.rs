//! A bake that was stopped when its image stood, and is gone on with: whatever comes between then, the image stays, and
//! so does its journal for as long as there is something to go on with.

use serde_json::json;

use super::stopped::{ELSEWHERE, is_finished, is_to_be_gone_on_with, stopped_at, stopped_while_it_publishes};
use super::{HOOK, bake_of, is_over, ran, resume, with_hooks};
use crate::crash::points::hold;
use crate::crash::site::{Ended, NEEDED, On, Site, Stands};
use crate::support::host::has;

/// That a bake could not be gone on with, its image stands, and it can be gone on with as before.
#[track_caller]
fn is_as_before(site: &Site, ended: &Ended, status: i32, image: &str, id: &str) {
    assert_eq!(ended.status.code(), Some(status), "{}", ended.told());
    ended.is_clear_failure().unwrap();
    assert_eq!(bake_of(site), id, "{}", ended.told());
    let found = site.ec2().find("images", "ImageId", image);
    assert!(found.is_some_and(|found| found["State"] == "available"), "{}", ended.told());
}

#[test]
fn a_bake_whose_image_stands_is_gone_on_with_whatever_kept_that_from_it_before() {
    if !has(NEEDED) {
        return;
    }
    let (site, out) = with_hooks(On::Ec2, HOOK);
    let ended = stopped_while_it_publishes(&site, "stopped");
    let (id, image) = (is_to_be_gone_on_with(&site, &ended, 143), ended.out.trim().to_owned());
    let go_on = ["bake", "--resume", &id];
    let is_told = |ended: &Ended, status| {
        is_as_before(&site, ended, status, &image, &id);
        for words in [&format!("the image {image} is good"), &format!("bake --resume {id}")] {
            assert!(ended.err.contains(words), "{words}: {}", ended.told());
        }
    };

    site.ec2().fault(json!({"action": "*", "kind": "expired", "times": 0}));
    let ended = resume(&site, &id);
    site.ec2().clear_faults();
    is_told(&ended, 6);

    let ended = site.start(&["env", "AWS_REGION=ap-south-1"], &go_on).wait();
    is_as_before(&site, &ended, 7, &image, &id);
    assert!(ended.err.contains("set AWS_REGION=eu-west-1"), "{}", ended.told());

    let call = hold("DescribeSnapshots", 1, "before");
    is_told(&stopped_at(&site, site.start(&[], &go_on), call).unwrap(), 143);

    assert_eq!(ran(&out, "after-image"), 0);
    let ended = resume(&site, &id);
    assert!(ended.status.success() && ended.out.trim() == image, "{}", ended.told());
    is_finished(&site, &out, &id, &ended);
}

#[test]
fn a_signal_wherever_a_bake_is_gone_on_with_leaves_the_image_that_stood() {
    if !has(NEEDED) {
        return;
    }
    let (site, out) = with_hooks(On::Ec2, HOOK);
    let ended = stopped_while_it_publishes(&site, "stopped");
    let (id, image) = (is_to_be_gone_on_with(&site, &ended, 143), ended.out.trim().to_owned());
    let mut stopped = 0;
    let ended = loop {
        let running = site.start(&[], &["bake", "--resume", &id]);
        match stopped_at(&site, running, hold("DescribeImages", stopped + 1, "after")) {
            Err(ended) => break ended,
            Ok(ended) => {
                assert_eq!(ended.status.code(), Some(143), "{}", ended.told());
                assert_eq!(bake_of(&site), id, "{}", ended.told());
                let found = site.ec2().find("images", "ImageId", &image);
                assert!(found.is_some_and(|found| found["State"] == "available"), "{}", ended.told());
            }
        }
        stopped += 1;
        assert!(stopped < 30, "a bake that is gone on with looks only so often");
    };
    assert!(stopped > 1 && ended.status.success(), "{stopped}: {}", ended.told());
    assert_eq!(ran(&out, "after-image"), 1, "{}", ended.told());
    assert_eq!(site.stands("stopped"), Ok(Stands::Image), "{}", ended.told());
    is_over(&site, &out, &id);
}

/// Between the two lines that say so, image and snapshot are the bake's result as well.
#[test]
fn an_image_is_good_from_the_first_line_that_says_so() {
    if !has(NEEDED) {
        return;
    }
    let (site, out) = with_hooks(On::Ec2, HOOK);
    let traced = site.path("trace");
    let through =
        ["strace", "-qq", "-y", "-s", "60", "-o", traced.to_str().unwrap(), "-e", "trace=write,fdatasync"];
    assert!(site.bake(&through, "counted").wait().status.success());
    let text = std::fs::read_to_string(&traced).unwrap();
    let of_journal = text.lines().filter(|line| line.contains(".journal>") && line.starts_with("write("));
    let kept = of_journal.zip(1..).find(|(line, _)| line.contains("kept")).unwrap().1;
    std::fs::remove_file(out.join("ran")).unwrap();
    for stopped in [false, true] {
        let name = format!("kept-{stopped}");
        let inject = format!("inject=fdatasync:signal=SIGKILL:when={kept}");
        let killed = site
            .bake(&["strace", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", &inject], &name)
            .wait();
        assert!(killed.was_killed(), "{}", killed.told());
        site.settle().unwrap();
        let id = bake_of(&site);
        if stopped {
            let running = site.start(&[], &["bake", "--resume", &id]);
            let ended = stopped_at(&site, running, hold("DescribeImages", 1, "after")).unwrap();
            assert_eq!(ended.status.code(), Some(143), "{}", ended.told());
        }
        let ended = resume(&site, &id);
        assert!(ended.status.success(), "{}", ended.told());
        assert_eq!(site.stands(&name), Ok(Stands::Image), "{}", ended.told());
    }
    assert_eq!(ran(&out, "after-image"), 2);
}

#[test]
fn a_bake_that_is_gone_on_with_publishes_nothing_where_it_is_not_to() {
    if !has(NEEDED) {
        return;
    }
    let (site, out) = with_hooks(On::Ec2, HOOK);
    let ended = stopped_while_it_publishes(&site, "stopped");
    let id = is_to_be_gone_on_with(&site, &ended, 143);
    let refused = site.start(&[], &["bake", "--resume", &id, "--var", "a=b", "--force"]).wait();
    assert_eq!(refused.status.code(), Some(2), "{}", refused.told());
    assert!(refused.err.contains("--var") && refused.err.contains("--force"), "{}", refused.told());
    assert_eq!(bake_of(&site), id);
    site.ec2().clear_requests();
    let ended = site.start(&[], &["bake", "--resume", &id, "--no-publish"]).wait();
    assert!(ended.status.success(), "{}", ended.told());
    assert_eq!(ran(&out, "after-image"), 1);
    let elsewhere = |request: &serde_json::Value| request["region"] == ELSEWHERE;
    assert!(!site.ec2().requests().iter().any(elsewhere), "{}", ended.told());
    assert_eq!(site.stands("stopped"), Ok(Stands::Image));
    is_over(&site, &out, &id);
}
