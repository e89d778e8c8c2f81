//! Sweeps by tags where several builders share an account and a Region.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use super::kill::kill_at;
use super::site::{NEEDED, On, Site};
use crate::support::host::has;
use crate::support::standin::{INSTANCE, ZONE, python};

const OTHER: &str = "i-0facade0facade000";

/// A bake dies on the builder in use, and its journal with it: the ids of its volume and its snapshot.
fn dies(site: &Site, name: &str) -> BTreeSet<String> {
    let before = ids(site);
    kill_at(site, "CreateSnapshot", "after", name);
    site.settle().unwrap();
    for journal in site.journals() {
        std::fs::remove_file(journal).unwrap();
    }
    site.forget_works();
    let left: BTreeSet<_> = ids(site).difference(&before).cloned().collect();
    assert_eq!(left.len(), 2, "a volume and a snapshot: {left:?}");
    left
}

/// All volumes and snapshots.
fn ids(site: &Site) -> BTreeSet<String> {
    let state = site.ec2().state();
    let of = |kind: &str, key: &str| -> Vec<String> {
        state[kind].as_array().unwrap().iter().map(|each| each[key].as_str().unwrap().to_owned()).collect()
    };
    of("volumes", "VolumeId").into_iter().chain(of("snapshots", "SnapshotId")).collect()
}

/// A volume and a snapshot of it that somebody else made, with tags of their own; their ids.
fn strangers(site: &Site) -> BTreeSet<String> {
    let script = "import boto3, sys\n\
        ec2 = boto3.client('ec2')\n\
        def tags(kind):\n    return [{'ResourceType': kind, 'Tags': [{'Key': 'team', 'Value': 'db'}]}]\n\
        volume = ec2.create_volume(AvailabilityZone=sys.argv[1], Size=1, TagSpecifications=tags('volume'))['VolumeId']\n\
        ec2.get_waiter('volume_available').wait(VolumeIds=[volume], WaiterConfig={'Delay': 1})\n\
        snapshot = ec2.create_snapshot(VolumeId=volume, TagSpecifications=tags('snapshot'))['SnapshotId']\n\
        print(volume, snapshot)\n";
    let mut command = Command::new(python());
    command.args(["-c", script, ZONE]).envs(site.ec2().env()).env("AWS_DEFAULT_REGION", "eu-west-1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

fn found(findings: &[Value], verdict: &str) -> BTreeSet<String> {
    findings
        .iter()
        .map(|finding| {
            assert_eq!(finding["verdict"], verdict, "{finding}");
            finding["id"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn another_builders_orphans_are_swept_only_when_asked_for_and_old_enough() {
    if !has(NEEDED) {
        return;
    }
    let site = Site::new(On::Ec2);
    let ec2 = site.ec2();
    let base = ids(&site);
    let strangers = strangers(&site);
    assert_eq!(strangers.len(), 2);
    let mine = dies(&site, "mine");
    ec2.builder(OTHER);
    let theirs = dies(&site, "theirs");
    let later = dies(&site, "later");
    ec2.builder(INSTANCE);
    for id in [&mine, &theirs, &strangers].into_iter().flatten() {
        ec2.age(id, 7 * 3600);
    }

    // Nobody's resources go without a word of how old they are to be.
    let ended = site.start(&[], &["gc", "--all", "--any-builder"]).wait();
    assert_eq!(ended.status.code(), Some(2), "{}", ended.told());
    assert!(ended.err.contains("--older-than"), "{}", ended.told());

    let gc = |more: &[&str]| site.gc(&[&["--all"], more].concat()).unwrap();
    assert_eq!(found(&gc(&[]), "release"), mine);
    assert_eq!(found(&gc(&["--older-than", "8h"]), "release"), BTreeSet::new());
    let any = ["--any-builder", "--older-than", "6h"];
    let old: BTreeSet<_> = mine.union(&theirs).cloned().collect();
    assert_eq!(found(&gc(&any), "release"), old, "{later:?} is young");
    assert_eq!(found(&gc(&["--any-builder", "--older-than", "8h"]), "release"), BTreeSet::new());

    // This builder's alone first, then all that is old.
    assert_eq!(found(&gc(&["--yes"]), "released"), mine);
    assert_eq!(found(&gc(&[&any[..], &["--yes"]].concat()), "released"), theirs);
    assert_eq!(gc(&any), Vec::<Value>::new());
    let stays: BTreeSet<_> = [&base, &strangers, &later].into_iter().flatten().cloned().collect();
    assert_eq!(ids(&site), stays, "what nobody tagged, and what is young, is as it was");

    // The other builder finds its own young one.
    ec2.builder(OTHER);
    ec2.age(later.first().unwrap(), 7200);
    ec2.age(later.last().unwrap(), 7200);
    assert_eq!(found(&gc(&["--yes"]), "released"), later);
    let stays: BTreeSet<_> = base.union(&strangers).cloned().collect();
    assert_eq!(ids(&site), stays);
}
