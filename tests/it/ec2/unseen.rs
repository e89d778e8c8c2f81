//! What was made is not known to every call yet, for longer than what was never confirmed is looked for.

use super::*;
use bakehouse::cloud::publish::How;
use bakehouse::error::{Kind, exit_status, kind_of};
use bakehouse::journal::Thing;
use bakehouse::plan::Publishing;
use bakehouse::recipe::{CopySpec, Protection, Share, Targets};

/// A new id is unknown to every call until the stand-in is told otherwise.
fn hidden(action: &str) -> Value {
    json!({"action": action, "kind": "invisible", "seconds": 3600})
}

impl Bench {
    /// A connection that waits so long for what was made to be seen, and looks once for what was only announced.
    async fn patient(&self, visible: Duration) -> Ec2 {
        let usual = settings(&self.standin, self.folder.path());
        Ec2::connect(Settings { lookup: Duration::ZERO, visible, ..usual }).await.unwrap()
    }

    /// Waits until an action was called so often.
    async fn called_times(&self, action: &str, times: usize) {
        let begun = Instant::now();
        while self.standin.requests_of(action, times, Duration::ZERO).len() < times {
            assert!(begun.elapsed() < Duration::from_secs(60), "no {action} {times}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Lets what is unknown be known once it was looked for twice more.
    async fn reveal_at_the_second(&self, look: &str) {
        let before = self.standin.requests_of(look, 0, Duration::ZERO).len();
        self.called_times(look, before + 2).await;
        self.standin.reveal();
    }

    /// A complete snapshot of a bake's, its volume gone.
    async fn snapshot(&self, bake: &str, journal: &Journal) -> String {
        let disk = self.disk(bake, journal).await.unwrap();
        let proof = closed(&disk, self.folder.path()).await;
        let begun = self.cloud.capture(&disk, proof, &snapshot_spec(bake), journal, &self.stop).await;
        let snapshot = begun.unwrap();
        self.cloud.release_disk(&disk, journal).await.unwrap();
        self.cloud.snapshot_complete(&snapshot, &self.stop, &|_: &str| {}).await.unwrap();
        snapshot
    }

    /// Undoes what a journal owns, by a connection; what was unknown is known from the second look on.
    async fn undone(&self, cloud: &Ec2, journal: &Journal, look: &str) {
        let undo = async {
            for entry in journal.owned() {
                cloud.undo(&entry.thing, entry.made.as_deref()).await.unwrap();
                journal.gone(entry.number).unwrap();
            }
        };
        tokio::join!(undo, self.reveal_at_the_second(look));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_no_call_knows_yet_is_not_left_behind() {
    let Some(bench) = Bench::start().await else { return };
    let cloud = bench.patient(Duration::from_secs(60)).await;
    bench.standin.fault(hidden("CreateVolume"));
    let (journal, base) = (bench.journal("bake-1"), bench.base().await);
    let plan = disk_plan("bake-1");
    let (made, ()) = tokio::join!(cloud.make_disk(&plan, &base, &journal, &bench.stop), async {
        bench.called("CreateVolume").await;
        bench.stop.raise(15);
    });
    assert_eq!(exit_status(&made.unwrap_err()), 143);
    bench.undone(&cloud, &journal, "DescribeVolumes").await;
    bench.standin.until("no volume", |state| state["volumes"] == json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_no_call_knows_yet_is_not_left_behind() {
    let Some(bench) = Bench::start().await else { return };
    let cloud = bench.patient(Duration::from_secs(60)).await;
    let (journal, base) = (bench.journal("bake-1"), bench.base().await);
    let snapshot = bench.snapshot("bake-1", &journal).await;
    bench.standin.fault(hidden("RegisterImage"));
    let spec = shaped(&image_spec("bake-1", "web-1"), &base);
    let (made, ()) = tokio::join!(cloud.register(&snapshot, &spec, &base, &journal, &bench.stop), async {
        bench.called("RegisterImage").await;
        bench.stop.raise(15);
    });
    assert_eq!(exit_status(&made.unwrap_err()), 143);
    bench.undone(&cloud, &journal, "DescribeImages").await;
    assert_eq!(bench.left(), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_whose_reply_was_lost_is_the_bakes_once_it_is_seen() {
    let Some(bench) = Bench::start().await else { return };
    let cloud = bench.patient(Duration::from_secs(60)).await;
    let (journal, base) = (bench.journal("bake-1"), bench.base().await);
    let snapshot = bench.snapshot("bake-1", &journal).await;
    bench.standin.fault(json!([
        hidden("RegisterImage"),
        {"action": "RegisterImage", "kind": "reset", "when": "after"},
    ]));
    let spec = shaped(&image_spec("bake-1", "web-1"), &base);
    let (made, ()) = tokio::join!(cloud.register(&snapshot, &spec, &base, &journal, &bench.stop), async {
        // The second is refused: the name is taken, by an image that nobody can see.
        bench.called_times("RegisterImage", 2).await;
        bench.reveal_at_the_second("DescribeImages").await;
    });
    let image = made.unwrap();
    assert_eq!(bench.standin.find("images", "ImageId", &image).unwrap()["Name"], "web-1");
    assert_eq!((bench.left(), journal.owned()), ((0, 1, 1), vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_seen_in_time_stays_in_the_journal() {
    let Some(bench) = Bench::start().await else { return };
    let hasty = bench.patient(Duration::ZERO).await;
    for is_resumed in [false, true] {
        let bake = format!("bake-{is_resumed}");
        let (journal, base) = (bench.journal(&bake), bench.base().await);
        let snapshot = bench.snapshot(&bake, &journal).await;
        bench.standin.fault(json!([
            hidden("RegisterImage"),
            {"action": "RegisterImage", "kind": "reset", "when": "after"},
        ]));
        let spec = shaped(&image_spec(&bake, &bake), &base);
        let error = hasty.register(&snapshot, &spec, &base, &journal, &bench.stop).await.unwrap_err();
        assert_eq!(kind_of(&error), Kind::Name, "{error:#}");
        let announced = standing(&journal, Standing::Intended)
            .iter()
            .any(|entry| matches!(entry.thing, Thing::Image { .. }));
        assert!(announced, "whether it is there nobody can tell: {:#?}", journal.entries());
        if is_resumed {
            // As by a bake that is gone on with: the name is refused at once, and the image is its own.
            let cloud = bench.patient(Duration::from_secs(60)).await;
            let again = cloud.register(&snapshot, &spec, &base, &journal, &bench.stop);
            let (made, ()) = tokio::join!(again, bench.reveal_at_the_second("DescribeImages"));
            made.unwrap();
            assert_eq!((bench.left(), journal.owned()), ((0, 1, 1), vec![]));
        } else {
            bench.standin.reveal();
            bench.unwind(&journal).await;
            assert_eq!(bench.left(), (0, 0, 0));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_another_image_has_is_told_without_a_wait() {
    let Some(bench) = Bench::start().await else { return };
    let cloud = bench.patient(Duration::from_secs(3600)).await;
    let (journal, base) = (bench.journal("bake-1"), bench.base().await);
    let snapshot = bench.snapshot("bake-1", &journal).await;
    bench.standin.seed(&bench.folder.path().join("base.raw"), json!({"name": "web-1"}));
    bench.standin.fault(json!({"action": "RegisterImage", "kind": "reset"}));
    let spec = shaped(&image_spec("bake-1", "web-1"), &base);
    let error = cloud.register(&snapshot, &spec, &base, &journal, &bench.stop).await.unwrap_err();
    assert_eq!(kind_of(&error), Kind::Name, "{error:#}");
    assert_eq!(standing(&journal, Standing::Intended), []);
    bench.unwind(&journal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_does_not_know_what_was_just_made_is_made_until_it_must() {
    let Some(bench) = Bench::start().await else { return };
    let usual = settings(&bench.standin, bench.folder.path());
    // A call whose answer is lost is not made again here.
    let cloud = Ec2::connect(Settings { tries: 1, visible: Duration::from_secs(60), ..usual }).await.unwrap();
    let unknown = [
        ("AttachVolume", "InvalidVolume.NotFound"),
        ("RegisterImage", "InvalidSnapshot.NotFound"),
        ("CopyImage", "InvalidAMIID.NotFound"),
        ("DescribeImageAttribute", "InvalidAMIID.Unavailable"),
        ("ModifyImageAttribute", "InvalidAMIID.NotFound"),
        ("DescribeSnapshotAttribute", "InvalidSnapshot.NotFound"),
        ("ModifySnapshotAttribute", "InvalidSnapshot.NotFound"),
        ("EnableImageDeprecation", "InvalidAMIID.Unavailable"),
        ("EnableImageDeregistrationProtection", "InvalidAMIID.NotFound"),
    ];
    let faults = unknown.map(|(action, code)| json!({"action": action, "kind": "error", "code": code}));
    let (journal, base) = (bench.journal("bake-1"), bench.base().await);
    bench.standin.fault(json!(faults));
    let disk = cloud.make_disk(&disk_plan("bake-1"), &base, &journal, &bench.stop).await.unwrap();
    let proof = closed(&disk, bench.folder.path()).await;
    let snapshot =
        cloud.capture(&disk, proof, &snapshot_spec("bake-1"), &journal, &bench.stop).await.unwrap();
    cloud.release_disk(&disk, &journal).await.unwrap();
    cloud.snapshot_complete(&snapshot, &bench.stop, &|_: &str| {}).await.unwrap();
    let spec = shaped(&image_spec("bake-1", "web-1"), &base);
    let image = cloud.register(&snapshot, &spec, &base, &journal, &bench.stop).await.unwrap();

    let targets = Targets {
        copies: vec![CopySpec { region: "us-east-1".into(), ..CopySpec::default() }],
        share: Share { accounts: vec!["210987654321".into()], snapshots: true, ..Share::default() },
        deprecate_after: Some(86_400),
        protection: Some(Protection::WithoutCooldown),
        collision: Collision::Fail,
    };
    let publishing = Publishing { targets, parameters: vec![], again: String::new() };
    let source = cloud.publishable(&image).await.unwrap().unwrap();
    let how = How { act: true, journal: Some(&journal), stop: &bench.stop, heard: &|_: &str| {} };
    let published = cloud.publish(&source, &publishing, &how).await;
    assert!(published.is_complete(), "{published:#?}");
    let counts = bench.standin.counts();
    for (action, _) in unknown {
        assert!(counts[action] >= 2, "{action}: {counts:?}");
    }
}
