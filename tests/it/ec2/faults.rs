//! The road when calls are lost, throttled or slow to be seen, and resources end badly.

use super::*;
use bakehouse::error::{Interrupted, Kind, exit_status, kind_of};
use bakehouse::journal::Thing;

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_makes_nothing_twice() {
    let Some(bench) = Bench::start().await else { return };
    for action in
        ["CreateVolume", "AttachVolume", "CreateSnapshot", "RegisterImage", "DetachVolume", "DeleteVolume"]
    {
        bench.standin.fault(json!({"action": action, "kind": "reset", "when": "after"}));
    }
    let journal = bench.journal("bake-1");
    let disk = bench.disk("bake-1", &journal).await.unwrap();
    let proof = closed(&disk, bench.folder.path()).await;
    let snapshot = bench
        .cloud
        .capture(&disk, proof, &snapshot_spec("bake-1"), &journal, &Stop::default())
        .await
        .unwrap();
    assert_eq!(bench.left(), (1, 1, 0));
    bench.cloud.release_disk(&disk, &journal).await.unwrap();
    bench.cloud.snapshot_complete(&snapshot, &bench.stop, &|_: &str| {}).await.unwrap();
    bench.register(&snapshot, &image_spec("bake-1", "web-1"), &journal).await.unwrap();
    assert_eq!(bench.left(), (0, 1, 1));
    let counts = bench.standin.counts();
    assert_eq!(counts["CreateVolume"], 2, "the client token makes it idempotent");
    for action in ["AttachVolume", "CreateSnapshot", "RegisterImage"] {
        assert_eq!(counts[action], 1, "{action} was looked up, not made again");
    }
    assert_eq!(journal.owned(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_never_arrived_is_made_again() {
    let Some(bench) = Bench::start().await else { return };
    for action in ["CreateVolume", "AttachVolume", "CreateSnapshot"] {
        bench.standin.fault(json!({"action": action, "kind": "reset", "when": "before"}));
    }
    let journal = bench.journal("bake-1");
    let disk = bench.disk("bake-1", &journal).await.unwrap();
    let proof = closed(&disk, bench.folder.path()).await;
    bench.cloud.capture(&disk, proof, &snapshot_spec("bake-1"), &journal, &Stop::default()).await.unwrap();
    assert_eq!(bench.left(), (1, 1, 0));
    bench.unwind(&journal).await;
    assert_eq!(bench.left(), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_and_server_faults_are_outlasted() {
    let Some(bench) = Bench::start().await else { return };
    for action in
        ["DescribeImages", "CreateVolume", "DescribeVolumes", "AttachVolume", "DetachVolume", "DeleteVolume"]
    {
        bench.standin.fault(json!({"action": action, "kind": "throttle", "times": 2}));
        bench.standin.fault(json!({"action": action, "kind": "unavailable", "on": 3}));
    }
    let journal = bench.journal("bake-1");
    let disk = bench.disk("bake-1", &journal).await.unwrap();
    bench.cloud.release_disk(&disk, &journal).await.unwrap();
    assert_eq!(bench.left(), (0, 0, 0));
    assert!(bench.cloud.calls()["CreateVolume"] >= 4, "retries count too");
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_past_the_deadline_is_told() {
    let Some(bench) = Bench::start().await else { return };
    bench.standin.fault(json!({"action": "DescribeImages", "kind": "throttle", "times": 0}));
    let settings = Settings { call: Duration::from_secs(1), ..settings(&bench.standin, bench.folder.path()) };
    let cloud = Ec2::connect(settings).await.unwrap();
    let error = cloud.image_named("web").await.unwrap_err();
    assert_eq!(kind_of(&error), Kind::Cloud);
    assert!(text(&error).contains("RequestLimitExceeded"), "{error:#}");
    assert!(text(&error).contains("given up"), "{error:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_just_made_may_be_unknown_for_a_while() {
    let Some(bench) = Bench::start().await else { return };
    bench.standin.consistency(1.0);
    let journal = bench.journal("bake-1");
    let disk = bench.disk("bake-1", &journal).await.unwrap();
    let proof = closed(&disk, bench.folder.path()).await;
    let snapshot = bench
        .cloud
        .capture(&disk, proof, &snapshot_spec("bake-1"), &journal, &Stop::default())
        .await
        .unwrap();
    bench.cloud.release_disk(&disk, &journal).await.unwrap();
    bench.cloud.snapshot_complete(&snapshot, &bench.stop, &|_: &str| {}).await.unwrap();
    bench.register(&snapshot, &image_spec("bake-1", "web-1"), &journal).await.unwrap();
    assert_eq!(bench.left(), (0, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_unknown_yet_when_stopped_is_not_left_behind() {
    let Some(bench) = Bench::start().await else { return };
    bench.standin.consistency(0.7);
    let journal = bench.journal("bake-1");
    let base = bench.base().await;
    let plan = disk_plan("bake-1");
    let (made, ()) = tokio::join!(bench.cloud.make_disk(&plan, &base, &journal, &bench.stop), async {
        bench.called("CreateVolume").await;
        bench.stop.raise(15);
    });
    assert_eq!(exit_status(&made.unwrap_err()), 128 + 15);
    bench.unwind(&journal).await;
    bench.standin.until("no volume", |state| state["volumes"] == json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thing_without_an_id_is_found_by_its_token_its_tags_or_its_name() {
    let Some(bench) = Bench::start().await else { return };
    let journal = bench.journal("bake-1");
    let disk = bench.disk("bake-1", &journal).await.unwrap();
    let proof = closed(&disk, bench.folder.path()).await;
    let snapshot = bench
        .cloud
        .capture(&disk, proof, &snapshot_spec("bake-1"), &journal, &Stop::default())
        .await
        .unwrap();
    bench.cloud.snapshot_complete(&snapshot, &bench.stop, &|_: &str| {}).await.unwrap();
    bench.register(&snapshot, &image_spec("bake-1", "web-1"), &journal).await.unwrap();
    let image =
        |bake: &str| Thing::Image { region: REGION.into(), name: "web-1".into(), bake: BakeId(bake.into()) };
    bench.cloud.undo(&image("bake-2"), None).await.unwrap();
    assert_eq!(bench.left(), (1, 1, 1), "another bake's image is not this one's to undo");
    for _ in 0..2 {
        for entry in journal.entries().iter().rev() {
            bench.cloud.undo(&entry.thing, None).await.unwrap();
        }
        assert_eq!(bench.left(), (0, 0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_in_error_and_one_that_never_attaches_are_told_and_undone() {
    let Some(bench) = Bench::start().await else { return };
    let cloud = Ec2::connect(Settings {
        attachment: Duration::from_secs(1),
        ..settings(&bench.standin, bench.folder.path())
    })
    .await
    .unwrap();
    let base = bench.base().await;
    for (action, kind, says) in [
        ("CreateVolume", "error-state", "went to error"),
        ("AttachVolume", "stuck", "still attaching after "),
    ] {
        bench.standin.fault(json!({"action": action, "kind": kind}));
        let journal = bench.journal(action);
        let error = cloud.make_disk(&disk_plan(action), &base, &journal, &bench.stop).await.unwrap_err();
        assert_eq!(kind_of(&error), Kind::Cloud);
        assert!(text(&error).contains(says), "{error:#}");
        bench.unwind(&journal).await;
        assert_eq!(bench.left(), (0, 0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_or_an_image_that_fails_is_a_failed_capture() {
    let Some(bench) = Bench::start().await else { return };
    for action in ["CreateSnapshot", "RegisterImage"] {
        bench.standin.fault(json!({"action": action, "kind": "error-state"}));
        let journal = bench.journal(action);
        let disk = bench.disk(action, &journal).await.unwrap();
        let proof = closed(&disk, bench.folder.path()).await;
        let snapshot = bench
            .cloud
            .capture(&disk, proof, &snapshot_spec(action), &journal, &Stop::default())
            .await
            .unwrap();
        let complete = bench.cloud.snapshot_complete(&snapshot, &bench.stop, &|_: &str| {}).await;
        let error = match complete {
            Err(error) => error,
            Ok(()) => bench.register(&snapshot, &image_spec(action, "web-1"), &journal).await.unwrap_err(),
        };
        assert_eq!(kind_of(&error), Kind::Capture, "{error:#}");
        bench.unwind(&journal).await;
        assert_eq!(bench.left(), (0, 0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_a_wait_at_once() {
    let Some(bench) = Bench::start().await else { return };
    bench.standin.fault(json!({"action": "CreateVolume", "kind": "stuck"}));
    let journal = bench.journal("bake-1");
    let base = bench.base().await;
    let plan = disk_plan("bake-1");
    let began = Instant::now();
    let (made, ()) = tokio::join!(bench.cloud.make_disk(&plan, &base, &journal, &bench.stop), async {
        bench.called("DescribeVolumes").await;
        bench.stop.raise(2);
    });
    let error = made.unwrap_err();
    assert!(error.downcast_ref::<Interrupted>().is_some(), "{error:#}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_still_being_made_is_deleted_when_it_is() {
    let Some(bench) = Bench::start().await else { return };
    bench.standin.latencies(json!({"create-volume": 1.0}));
    let journal = bench.journal("bake-1");
    let making = bench.disk("bake-1", &journal);
    let stopping = async {
        bench.called("CreateVolume").await;
        bench.stop.raise(15);
    };
    let (made, ()) = tokio::join!(making, stopping);
    assert_eq!(exit_status(&made.unwrap_err()), 143);
    bench.unwind(&journal).await;
    assert_eq!(bench.left(), (0, 0, 0));
}
