//! The road when all goes well.

use super::*;
use crate::support::standin::{ACCOUNT, INSTANCE, REGION, ZONE};
use bakehouse::cloud::ImageSummary;
use bakehouse::journal::Thing;
use bakehouse::plan::Locator;
use bakehouse::recipe::ImageQuery;

#[tokio::test(flavor = "multi_thread")]
async fn from_base_to_image_and_back() {
    let Some(bench) = Bench::start().await else { return };
    let cloud = &bench.cloud;
    let journal = bench.journal("bake-1");
    let disk = bench.disk("bake-1", &journal).await.unwrap();

    let volume = bench.standin.find("volumes", "VolumeId", &disk.id).unwrap();
    let device = volume["HostDevice"].as_str().unwrap();
    assert!(Path::new(device).exists(), "{device}");
    assert_eq!(volume["AvailabilityZone"], ZONE);
    assert_eq!(volume["VolumeType"], "gp3");
    let tags = volume["Tags"].to_string();
    assert!(tags.contains("bakehouse:bake") && tags.contains("bake-1-volume"), "{tags}");
    let Locator::Volume { id, device_name } = &disk.locator else { panic!("{disk:?}") };
    assert_eq!((id, device_name.as_str()), (&disk.id, "/dev/sdf"));

    bench.standin.latencies(json!({"snapshot": 0.8}));
    let proof = closed(&disk, bench.folder.path()).await;
    let snapshot =
        cloud.capture(&disk, proof, &snapshot_spec("bake-1"), &journal, &Stop::default()).await.unwrap();
    let told = std::sync::Mutex::new(Vec::new());
    let progress = |text: &str| told.lock().unwrap().push(text.to_owned());
    let (released, complete) = tokio::join!(
        cloud.release_disk(&disk, &journal),
        cloud.snapshot_complete(&snapshot, &bench.stop, &progress)
    );
    released.and(complete).unwrap();
    assert!(told.lock().unwrap().contains(&"100%".to_owned()), "{told:?}");
    assert_eq!(bench.left(), (0, 1, 0));

    let image = bench.register(&snapshot, &image_spec("bake-1", "web-1"), &journal).await.unwrap();
    assert_eq!(cloud.image_named("web-1").await.unwrap(), Some(image.clone()));
    assert_eq!(cloud.image_named("web-*").await.unwrap(), None, "a name, not a glob");
    let thing =
        |bake: &str| Thing::Image { region: REGION.into(), name: "web-1".into(), bake: BakeId(bake.into()) };
    assert_eq!(cloud.standing_image(&thing("bake-1")).await.unwrap(), Some(image.clone()));
    assert_eq!(cloud.standing_image(&thing("bake-2")).await.unwrap(), None);
    let images = cloud.images().await.unwrap();
    let [ImageSummary { id, name, state, size, .. }] = images.as_slice() else { panic!("{images:?}") };
    assert_eq!((id, name.as_str(), state.as_str(), *size), (&image, "web-1", "available", Some(GIB)));
    assert_eq!(standing(&journal, Standing::Kept).len(), 2);
    assert_eq!(journal.owned(), []);
    let orphans = cloud.orphans(true).await.unwrap();
    assert_eq!(orphans, [], "a snapshot that an image uses is none");

    let counted: BTreeMap<String, usize> =
        cloud.calls().into_iter().map(|(name, count)| (name, count as usize)).collect();
    assert_eq!(counted, bench.standin.counts(), "every call counts");

    for _ in 0..2 {
        for entry in standing(&journal, Standing::Kept).iter().rev() {
            cloud.undo(&entry.thing, entry.made.as_deref()).await.unwrap();
        }
        assert_eq!(bench.left(), (0, 0, 0));
    }
    bench.standin.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_builder_is_told_by_the_metadata_service() {
    let Some(bench) = Bench::start().await else { return };
    let place = bench.cloud.place().await.unwrap();
    assert_eq!((place.builder.as_str(), place.region.as_str()), (INSTANCE, REGION));
    assert_eq!((place.zone.as_deref(), place.account.as_deref()), (Some(ZONE), Some(ACCOUNT)));
    assert_eq!(place.runs.first(), Some(&place.arch));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_is_found_by_id_name_parameter_and_snapshot() {
    let Some(bench) = Bench::start().await else { return };
    let file = bench.folder.path().join("base.raw");
    let old = json!({"name": "base-0", "created": 1_600_000_000, "tags": {}});
    bench.standin.seed(&file, old);
    bench.standin.seed(
        &file,
        json!({"name": "base-9", "owner": "999999999999", "boot_mode": "uefi", "uefi_data": "QU1aTlVFRkk="}),
    );
    bench.standin.parameter("/base/newest", &bench.ami);
    let by_id = bench.base().await;
    assert_eq!((by_id.size, by_id.version.as_deref()), (GIB, Some("base-1.0")));
    assert_eq!(by_id.root_device, "/dev/xvda");
    let named = |owner: Option<&str>| {
        BaseSelector::Query(ImageQuery {
            owners: owner.map(str::to_owned).into_iter().collect(),
            arch: Some("x86_64".into()),
            ..ImageQuery::named("base-*")
        })
    };
    let by_name = bench.cloud.find_base(&named(None)).await.unwrap();
    assert_eq!(by_name, by_id, "the newest of this account's");
    let other = bench.cloud.find_base(&named(Some("999999999999"))).await.unwrap();
    assert_eq!(other.name.as_deref(), Some("base-9"));
    assert!(other.inherited["UefiData"].is_null(), "told to the owner alone: no reason to fail");
    let parameter = BaseSelector::Parameter("/base/newest".into());
    let by_parameter = bench.cloud.find_base(&parameter).await.unwrap();
    assert_eq!((&by_parameter.image, &by_parameter.inherited), (&by_id.image, &by_id.inherited));
    let snapshot =
        BaseSelector::Snapshot { id: by_id.snapshot.clone(), arch: Some("arm64".into()), root_device: None };
    let bare = bench.cloud.find_base(&snapshot).await.unwrap();
    assert_eq!((bare.image, bare.size, bare.arch), (None, GIB, Arch::Arm64));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_inherited() {
    let about = json!({
        "boot_mode": "uefi-preferred", "tpm_support": "v2.0", "imds_support": "v2.0", "sriov_net_support": "simple",
        "uefi_data": "QU1aTlVFRkk=", "root_device_name": "/dev/sda1", "iops": 3000, "throughput": 500,
        "delete_on_termination": false, "platform_details": "Red Hat Enterprise Linux",
        "usage_operation": "RunInstances:0010",
        "mappings": [
            {"DeviceName": "/dev/sdb", "Ebs": {"VolumeSize": 20, "VolumeType": "gp2", "Encrypted": true, "DeleteOnTermination": true}},
            {"DeviceName": "/dev/sdc", "VirtualName": "ephemeral0"},
        ],
    });
    let Some(bench) = Bench::start_with(about).await else { return };
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
    let mut spec = image_spec("bake-1", "web-1");
    spec.size = 3 * GIB / 2;
    let image = bench.register(&snapshot, &spec, &journal).await.unwrap();
    let base = bench.standin.find("images", "ImageId", &bench.ami).unwrap();
    let image = bench.standin.find("images", "ImageId", &image).unwrap();
    for field in [
        "Architecture",
        "VirtualizationType",
        "RootDeviceName",
        "EnaSupport",
        "SriovNetSupport",
        "BootMode",
        "TpmSupport",
        "ImdsSupport",
        "UefiData",
        "PlatformDetails",
        "UsageOperation",
    ] {
        assert!(!base[field].is_null(), "{field}");
        assert_eq!(image[field], base[field], "{field}");
    }
    let (old, new) = (&base["BlockDeviceMappings"], &image["BlockDeviceMappings"]);
    assert_eq!((&new[1], &new[2]), (&old[1], &old[2]));
    let mut root = old[0].clone();
    root["Ebs"]["SnapshotId"] = json!(snapshot);
    root["Ebs"]["VolumeSize"] = json!(2);
    assert_eq!(new[0], root);
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_disks_at_once_share_no_device() {
    let Some(bench) = Bench::start().await else { return };
    // Two processes' worth: each connection has locks of its own.
    let other = Ec2::connect(settings(&bench.standin, bench.folder.path())).await.unwrap();
    bench.standin.latencies(json!({"attach": 0.3, "create-volume": 0.3}));
    let base = bench.base().await;
    let journals: Vec<_> = (0..8).map(|n| bench.journal(&format!("bake-{n}"))).collect();
    let plans: Vec<_> = (0..8).map(|n| disk_plan(&format!("bake-{n}"))).collect();
    let one = |n: usize| {
        let cloud = if n.is_multiple_of(2) { &bench.cloud } else { &other };
        cloud.make_disk(&plans[n], &base, &journals[n], &bench.stop)
    };
    let disks = tokio::join!(one(0), one(1), one(2), one(3), one(4), one(5), one(6), one(7));
    let disks = <[_; 8]>::from(disks).map(Result::unwrap);
    let mut names: Vec<_> = disks
        .iter()
        .map(|disk| match &disk.locator {
            Locator::Volume { device_name, .. } => device_name.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 8, "{names:?}");
    let calls = bench.cloud.calls();
    assert!(calls["DescribeVolumes"] < 4 * 8, "waits share their calls: {calls:?}");
    for (n, disk) in disks.iter().enumerate() {
        let cloud = if n.is_multiple_of(2) { &bench.cloud } else { &other };
        cloud.release_disk(disk, &journals[n]).await.unwrap();
        assert_eq!(journals[n].owned(), []);
    }
    assert_eq!(bench.left(), (0, 0, 0));
    bench.standin.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_found_by_tag_and_undone() {
    let Some(bench) = Bench::start().await else { return };
    let journal = bench.journal("bake-1");
    let mut plan = disk_plan("bake-1");
    plan.tags.insert("bakehouse:builder".into(), INSTANCE.into());
    let base = bench.base().await;
    let disk = bench.cloud.make_disk(&plan, &base, &journal, &bench.stop).await.unwrap();
    let proof = closed(&disk, bench.folder.path()).await;
    bench.cloud.capture(&disk, proof, &snapshot_spec("bake-1"), &journal, &Stop::default()).await.unwrap();
    let here = bench.cloud.orphans(false).await.unwrap();
    assert_eq!(here.len(), 1, "the snapshot has no tag of this builder");
    assert_eq!(here[0].id, disk.id);
    let all = bench.cloud.orphans(true).await.unwrap();
    assert_eq!(all.len(), 2);
    for orphan in all {
        assert_eq!(orphan.bake, BakeId("bake-1".into()));
        bench.cloud.undo(&orphan.thing, Some(&orphan.id)).await.unwrap();
    }
    assert_eq!(bench.left(), (0, 0, 0), "the volume was detached first");
}
