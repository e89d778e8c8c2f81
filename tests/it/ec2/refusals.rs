//! What EC2 refuses: one clear message each, with its kind, and nothing left.

use super::*;
use bakehouse::error::{Kind, failure_of, kind_of};
use bakehouse::recipe::ImageQuery;

fn hint(error: &anyhow::Error) -> &str {
    failure_of(error).and_then(|failure| failure.hint.as_deref()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_is_not_there_or_cannot_be_used_is_told() {
    let Some(bench) = Bench::start().await else { return };
    let file = bench.folder.path().join("base.raw");
    bench.standin.seed(&file, json!({"name": "base-0"}));
    let (i386, _) = bench.standin.seed(&file, json!({"name": "old", "architecture": "i386"}));
    bench.standin.parameter("/not/an/image", "hello");
    let named = |glob: &str, newest| BaseSelector::Query(ImageQuery { newest, ..ImageQuery::named(glob) });
    for (selector, says) in [
        (BaseSelector::Ami("ami-0123456789abcdef0".into()), "no such AMI in eu-west-1"),
        (BaseSelector::Ami("ami-nonsense".into()), "no such AMI in eu-west-1"),
        (BaseSelector::Ami(i386), "i386"),
        (named("nothing-*", true), "no AMI of the owner self in eu-west-1 is named \"nothing-*\""),
        (named("base-*", false), "2 AMIs match, each is named \"base-*\", and newest is false"),
        (BaseSelector::Parameter("/not/there".into()), "ParameterNotFound"),
        (BaseSelector::Parameter("/not/an/image".into()), "holds no AMI id"),
        (
            BaseSelector::Snapshot { id: "snap-0123456789abcdef0".into(), arch: None, root_device: None },
            "InvalidSnapshot.NotFound",
        ),
        (BaseSelector::Image("debian".into()), "of the local store"),
    ] {
        let error = bench.cloud.find_base(&selector).await.unwrap_err();
        assert_eq!(kind_of(&error), Kind::Base, "{selector:?}: {error:#}");
        assert!(text(&error).contains(says), "{selector:?}: {error:#}");
        assert!(!hint(&error).is_empty(), "{selector:?}: {error:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_action_is_named_and_nothing_is_left() {
    let Some(bench) = Bench::start().await else { return };
    for (fault, kind, says) in [
        ("denied", Kind::Access, "ec2:CreateVolume"),
        ("auth-failure", Kind::Access, "AWS_ACCESS_KEY_ID"),
        ("expired", Kind::Access, "renew"),
        ("quota", Kind::Cloud, "quota"),
        ("capacity", Kind::Cloud, "zone"),
    ] {
        bench.standin.fault(json!({"action": "CreateVolume", "kind": fault}));
        let journal = bench.journal(fault);
        let error = bench.disk(fault, &journal).await.unwrap_err();
        assert_eq!(kind_of(&error), kind, "{fault}: {error:#}");
        assert!(hint(&error).contains(says), "{fault}: {}", hint(&error));
        assert_eq!(journal.owned(), [], "{fault}: nothing was made, and the journal knows");
    }
    assert_eq!(bench.left(), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_attachment_leaves_a_volume_that_the_journal_knows() {
    let Some(bench) = Bench::start().await else { return };
    bench.standin.fault(json!({"action": "AttachVolume", "kind": "denied"}));
    let journal = bench.journal("bake-1");
    let error = bench.disk("bake-1", &journal).await.unwrap_err();
    assert!(hint(&error).contains("ec2:AttachVolume"), "{error:#}");
    assert_eq!(journal.owned().len(), 1);
    bench.unwind(&journal).await;
    assert_eq!(bench.left(), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_name_in_use_is_answered_by_the_next() {
    let Some(bench) = Bench::start().await else { return };
    let message = "Invalid value '/dev/sdf' for unixDevice. Attachment point /dev/sdf is already in use";
    let refusal = json!({
        "action": "AttachVolume", "kind": "error", "code": "InvalidParameterValue", "message": message,
    });
    bench.standin.fault(refusal);
    let journal = bench.journal("bake-1");
    let disk = bench.disk("bake-1", &journal).await.unwrap();
    let volume = bench.standin.find("volumes", "VolumeId", &disk.id).unwrap();
    assert_eq!(volume["Attachments"][0]["Device"], "/dev/sdg");
    assert_eq!(standing(&journal, Standing::Gone).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_or_not_allowed_is_told_and_the_others_image_stays() {
    let Some(bench) = Bench::start().await else { return };
    let journal = bench.journal("bake-1");
    let snapshot = bench.base().await.snapshot;
    for (name, says) in [("base-1", "InvalidAMIName.Duplicate"), ("a{b}", "InvalidAMIName.Malformed")] {
        let error = bench.register(&snapshot, &image_spec("bake-1", name), &journal).await.unwrap_err();
        assert_eq!(kind_of(&error), Kind::Name, "{error:#}");
        assert!(text(&error).contains(says), "{error:#}");
        assert_eq!(journal.owned(), []);
    }
    assert_eq!(bench.left(), (0, 0, 0));

    // The name was taken before a first try whose answer was lost: still not ours.
    bench.standin.fault(json!({"action": "RegisterImage", "kind": "reset"}));
    let error = bench.register(&snapshot, &image_spec("bake-1", "base-1"), &journal).await.unwrap_err();
    assert_eq!(kind_of(&error), Kind::Name, "{error:#}");
    assert_eq!(journal.owned(), []);
    assert_eq!(bench.left(), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_billed_otherwise_than_its_base_is_discarded() {
    let Some(bench) = Bench::start().await else { return };
    let journal = bench.journal("bake-1");
    let mut base = bench.base().await;
    base.inherited["PlatformDetails"] = json!("Red Hat Enterprise Linux");
    let spec = shaped(&image_spec("bake-1", "web-1"), &base);
    let error = bench.cloud.register(&base.snapshot, &spec, &base, &journal, &bench.stop).await.unwrap_err();
    assert_eq!(kind_of(&error), Kind::Capture, "{error:#}");
    assert!(text(&error).contains("Red Hat"), "{error:#}");
    assert_eq!(bench.left(), (0, 0, 0));
    assert_eq!(journal.owned(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_does_not_answer_is_told() {
    let Some(bench) = Bench::start().await else { return };
    let settings = Settings {
        endpoint: Some("http://127.0.0.1:1".into()),
        ..settings(&bench.standin, bench.folder.path())
    };
    let cloud = Ec2::connect(settings).await.unwrap();
    let error = cloud.image_named("web").await.unwrap_err();
    assert_eq!(kind_of(&error), Kind::Cloud, "{error:#}");
    assert!(hint(&error).contains("does not answer"), "{error:#}");
    assert_eq!(cloud.calls()["DescribeImages"], 3);
}
