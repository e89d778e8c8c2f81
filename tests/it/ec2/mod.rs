//! The EC2 room against the stand-in: real SDK, real HTTP, real devices.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bakehouse::cloud::ec2::{Ec2, Settings};
use bakehouse::cloud::{Cloud, DiskHandle, ImageSpec, SnapshotSpec};
use bakehouse::disk::{Disk, MountOptions};
use bakehouse::journal::{Entry, Journal, Standing};
use bakehouse::plan::{Arch, BakeId, BaseFacts, CleanlyClosed, DiskPlan, Said, Shape};
use bakehouse::recipe::{BaseSelector, Collision, DiskSpec, ShapeSpec};
use bakehouse::stop::Stop;
use serde_json::{Value, json};

use crate::support::host::own_mounts;
use crate::support::standin::{Options, REGION, Standin};
use crate::support::{not_root, skipped};

mod chain;
mod faults;
mod refusals;
mod road;
mod unseen;

/// A stand-in with one base, and a connection to it.
struct Bench {
    standin: Standin,
    folder: tempfile::TempDir,
    cloud: Ec2,
    stop: Stop,
    ami: String,
}

/// The size of the base's disk.
const GIB: u64 = 1 << 30;

impl Bench {
    /// None where such a test cannot run.
    async fn start() -> Option<Self> {
        Self::start_with(json!({})).await
    }

    /// With a base that says more of itself.
    async fn start_with(about: Value) -> Option<Self> {
        if skipped(not_root()) {
            return None;
        }
        let standin = Standin::start(&Options::default());
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("base.raw");
        root_in(&disk, folder.path());
        let mut base = json!({"name": "base-1", "tags": {"appversion": "base-1.0"}});
        base.as_object_mut().unwrap().extend(about.as_object().unwrap().clone());
        let (ami, _) = standin.seed(&disk, base);
        let cloud = Ec2::connect(settings(&standin, folder.path())).await.unwrap();
        Some(Self { standin, folder, cloud, stop: Stop::default(), ami })
    }

    async fn base(&self) -> BaseFacts {
        self.cloud.find_base(&BaseSelector::Ami(self.ami.clone())).await.unwrap()
    }

    fn journal(&self, bake: &str) -> Journal {
        Journal::begin(self.folder.path(), &BakeId(bake.into()), "ec2", json!({})).unwrap()
    }

    async fn disk(&self, bake: &str, journal: &Journal) -> anyhow::Result<DiskHandle> {
        self.cloud.make_disk(&disk_plan(bake), &self.base().await, journal, &self.stop).await
    }

    async fn register(&self, snapshot: &str, spec: &ImageSpec, journal: &Journal) -> anyhow::Result<String> {
        let base = self.base().await;
        let spec = shaped(spec, &base);
        self.cloud.register(snapshot, &spec, &base, journal, &self.stop).await
    }

    /// Undoes what a journal still owns, newest first, as a bake's end does.
    async fn unwind(&self, journal: &Journal) {
        for entry in journal.owned() {
            self.cloud.undo(&entry.thing, entry.made.as_deref()).await.unwrap();
            journal.gone(entry.number).unwrap();
        }
    }

    /// Waits until an action was called.
    async fn called(&self, action: &str) {
        let begun = Instant::now();
        while self.standin.requests_of(action, 1, Duration::ZERO).is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(120), "no {action}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How many volumes, snapshots and images there are, the base's own left out.
    fn left(&self) -> (usize, usize, usize) {
        let state = self.standin.state();
        let count = |kind: &str| state[kind].as_array().unwrap().len();
        (count("volumes"), count("snapshots") - 1, count("images") - 1)
    }
}

/// A whole-disk filesystem that is a root, as far as finding one goes.
fn root_in(disk: &Path, folder: &Path) {
    let root = folder.join("root");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/os-release"), "ID=debian\n").unwrap();
    File::create(disk).unwrap().set_len(32 << 20).unwrap();
    let made = Command::new("mkfs.ext4").arg("-q").arg("-d").args([root.as_path(), disk]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
}

/// Settings with short waits.
fn settings(standin: &Standin, folder: &Path) -> Settings {
    Settings {
        region: Some(REGION.into()),
        endpoint: Some(standin.endpoint.clone()),
        metadata_endpoint: Some(standin.imds.clone()),
        keys: Some(("AKIASTANDIN000000001".into(), "standin-secret".into())),
        metadata: true,
        device_locks: folder.join("devices"),
        call: Duration::from_secs(20),
        tries: 3,
        attachment: Duration::from_secs(30),
        visible: Duration::from_secs(5),
        lookup: Duration::from_secs(1),
        first: Duration::from_millis(50),
        first_snapshot: Duration::from_millis(100),
        ..Settings::default()
    }
}

fn tags(bake: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("bakehouse:bake".into(), bake.into()), ("team".into(), "web".into())])
}

fn disk_plan(bake: &str) -> DiskPlan {
    DiskPlan {
        size: GIB,
        spec: DiskSpec::default(),
        scratch: None,
        tags: tags(bake),
        token: format!("{bake}-volume"),
    }
}

fn snapshot_spec(bake: &str) -> SnapshotSpec {
    SnapshotSpec { description: "of a test".into(), tags: tags(bake) }
}

fn image_spec(bake: &str, name: &str) -> ImageSpec {
    ImageSpec {
        name: name.into(),
        unnumbered: None,
        description: "of a test".into(),
        tags: tags(bake),
        arch: Arch::X86_64,
        size: GIB,
        shape: Shape::default(),
        collision: Collision::Fail,
    }
}

/// With all that the base says of itself, as a plan has it.
fn shaped(spec: &ImageSpec, base: &BaseFacts) -> ImageSpec {
    let (disk, shape) = (DiskSpec::default(), ShapeSpec::default());
    let said = Said { disk: &disk, size: spec.size, devices: &[], shape: &shape };
    ImageSpec { shape: base.shape().with(said, spec.arch).unwrap(), ..spec.clone() }
}

/// Mounts the root of an attached disk and closes it, for the proof that capturing asks for.
async fn closed(disk: &DiskHandle, folder: &Path) -> CleanlyClosed {
    let locator = disk.locator.clone();
    let target = tempfile::tempdir_in(folder).unwrap();
    // A thread of its own: what it mounts goes away with it.
    let work = std::thread::spawn(move || {
        own_mounts();
        let disk = Disk::open(&locator, Duration::from_secs(120)).unwrap();
        let options = MountOptions { partition: None, grow: false, target: target.path().into() };
        let root = disk.mount(&options).unwrap();
        root.provisioned().close().unwrap().proof().0
    });
    tokio::task::spawn_blocking(move || work.join().unwrap()).await.unwrap()
}

/// The entries of a journal that stand so.
fn standing(journal: &Journal, standing: Standing) -> Vec<Entry> {
    journal.entries().into_iter().filter(|entry| entry.standing == standing).collect()
}

/// The whole text of an error.
fn text(error: &anyhow::Error) -> String {
    format!("{error:#}")
}
