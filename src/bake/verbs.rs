//! What each step of the pipeline does with the rooms' tools.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Kitchen;
use super::captured::{CAPTURED, Captured, captured};
use super::hooks::Progress;
use super::operator::{Job, Until};
use crate::cloud::{DiskHandle, ImageSpec, SnapshotSpec};
use crate::contents::{Manifest, hygiene, inventory};
use crate::disk::{ClosedDisk, Disk, MountOptions, MountedRoot, ProvisionedRoot};
use crate::error::{Failure, Kind};
use crate::journal::{Journal, Thing};
use crate::plan::{BakeId, Late, MainPackage, NamePlan, Plan, Publishing};
use crate::provision::{Provisioning, Vault};
use crate::recipe::HookPoint;
use crate::report::result::{Baked, StepTime, StepTimes, rounded};
use crate::sandbox::Sandbox;

/// What was found in the root once it was provisioned.
#[derive(Debug)]
pub struct Contents {
    manifest: Manifest,
    main: Option<MainPackage>,
    provisioning: Duration,
    took: StepTimes,
    before: Option<hygiene::Record>,
    hygiene: hygiene::Report,
}

/// An image that stands, and what is to be done with it yet.
#[derive(Debug)]
pub struct Registered {
    pub(super) baked: Baked,
    pub(super) publishing: Option<Publishing>,
}

impl Kitchen<'_> {
    pub(super) fn begin(&self, plan: &Plan) -> Result<Journal> {
        let about = serde_json::json!({
            "image": plan.image.name, "base": plan.base.image, "region": plan.place.region, "token": plan.disk.token,
        });
        self.reporter.detail(&format!("bake {}", plan.bake));
        Journal::begin(self.state, &plan.bake, self.cloud.name(), about)
    }

    pub(super) async fn make_disk(&self, plan: &Plan, journal: &Journal) -> Result<DiskHandle> {
        let size = crate::recipe::units::show_size(plan.disk.size);
        let from = plan.base.name.as_deref().unwrap_or(plan.base.id());
        let about = match (&plan.disk.scratch, &plan.base.given) {
            (Some(_), _) => format!("{size}, blank"),
            (None, Some(_)) => format!("{from}, {size}, in place"),
            (None, None) => format!("{size} from {from}"),
        };
        self.reporter.phase("disk", &about);
        self.stop.check()?;
        self.cloud.make_disk(&plan.disk, &plan.base, journal, self.stop).await
    }

    pub(super) fn open(&self, volume: &DiskHandle) -> Result<Disk> {
        self.stop.check()?;
        blocking(|| Disk::open(&volume.locator, self.device_wait))
    }

    pub(super) fn mount(&self, disk: Disk, plan: &Plan) -> Result<MountedRoot> {
        self.reporter.phase("mount", "finding, checking and mounting the root");
        let target = self.mount_point(plan)?;
        let options = MountOptions {
            partition: plan.disk.spec.partition,
            // A base that leaves room unused does so on purpose, as long as nobody asks for more.
            grow: plan.disk.size > plan.base.size && plan.disk.scratch.is_none(),
            target,
        };
        let root = blocking(|| disk.mount(&options))?;
        for area in root.areas() {
            self.reporter.note(&area.to_string());
        }
        Ok(root)
    }

    /// Steps and checks. On failure the root is left, unclaimed, before the error goes up.
    pub(super) async fn provision(
        &self,
        root: MountedRoot,
        plan: &Plan,
        secrets: Vault,
    ) -> Result<(ProvisionedRoot, Contents)> {
        let sandbox = Sandbox::new(root.path());
        let work = self.work_folder(plan);
        let provisioning = Provisioning::new(&sandbox, self.cache, &work, self.stop, self.reporter)
            .with_disk(self.disk_for_steps(&root))
            .with_secrets(secrets)
            .with_words(&plan.variables, &plan.facts);
        let result = self.steps_and_checks(&provisioning, &root, plan).await;
        // What provisioning put in place goes before the root is closed, whichever way it ended.
        let tidied = provisioning.finish().await;
        let result = match (result, tidied) {
            (Ok(contents), Ok(())) => self.clean(&sandbox, plan, contents).await,
            (Ok(_), Err(error)) => Err(error),
            (Err(error), tidied) => {
                if let Err(second) = tidied {
                    self.reporter.warn(&format!("{second:#}"));
                }
                Err(error)
            }
        };
        let result = match result {
            Ok(contents) => {
                let ran = self.root_hooks(HookPoint::BeforeClose, &root, plan).await;
                ran.map(|()| contents)
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(contents) => Ok((root.provisioned(), contents)),
            Err(error) => {
                self.reporter.phase("undo", "closing the root");
                if let Err(second) = blocking(|| root.abandon()) {
                    self.reporter.warn(&format!("closing the root after the failure: {second:#}"));
                }
                Err(error)
            }
        }
    }

    async fn steps_and_checks(
        &self,
        provisioning: &Provisioning<'_>,
        root: &MountedRoot,
        plan: &Plan,
    ) -> Result<Contents> {
        let sandbox = provisioning.sandbox();
        let before = inventory(sandbox, self.stop).await?;
        let record = hygiene::record(sandbox, &plan.hygiene, self.stop).await?;
        self.root_hooks(HookPoint::AfterMount, root, plan).await?;
        provisioning.begin().await?;
        let (mut main, mut took) = (None, StepTimes::default());
        for (number, step) in (1..).zip(&plan.steps) {
            let title = plan.step_title(number);
            let before = provisioning.time_of_all();
            self.reporter.phase("provision", &title);
            loop {
                let done = self.attended(provisioning, Job::Step(step), &title).await?;
                // As in a step's list, the last one is what the image is for: what it needs comes before it.
                main = done.main.or(main);
                let pauses = plan.stops.pause_after.contains(&number);
                if !pauses || !self.pause(provisioning, plan, &title).await? {
                    break;
                }
            }
            took.steps.extend(step_time(number, &step.name, provisioning.time_of_all(), before));
            if plan.stops.until == Some(number) {
                if plan.stops.shell {
                    self.shell_in(provisioning, "leave it to go on").await;
                }
                self.stop.check()?;
                return Err(Until(title).into());
            }
        }
        for (number, check) in (1..).zip(&plan.checks) {
            let title = format!("check {number} of {}: {}", plan.checks.len(), check.name);
            self.reporter.phase("check", &title);
            let before = provisioning.time_of_all();
            self.attended(provisioning, Job::Check(check), &title).await?;
            took.checks.extend(step_time(number, &check.name, provisioning.time_of_all(), before));
        }
        if plan.stops.shell {
            self.shell_in(provisioning, "leave it to go on").await;
        }
        let after = inventory(sandbox, self.stop).await?;
        let manifest = Manifest::new(plan, &before, after);
        let hygiene = hygiene::Report::default();
        let provisioning = provisioning.time_inside();
        Ok(Contents { manifest, main, provisioning, took, before: record, hygiene })
    }

    /// Takes out of the root what the bake itself made and instances must not share, and audits the rest.
    async fn clean(&self, sandbox: &Sandbox, plan: &Plan, mut contents: Contents) -> Result<Contents> {
        self.reporter.phase("hygiene", "taking out what instances must not share");
        let record = contents.before.take();
        contents.hygiene = hygiene::clean(sandbox, &plan.hygiene, record, self.stop, self.reporter).await?;
        Ok(contents)
    }

    pub(super) fn close(&self, root: ProvisionedRoot) -> Result<ClosedDisk> {
        self.reporter.phase("close", "syncing and unmounting the root");
        blocking(|| root.close())
    }

    /// Starts the snapshot. All that registering needs is in the journal before, so that another process can
    /// go on from there.
    pub(super) async fn capture(
        &self,
        closed: ClosedDisk,
        volume: DiskHandle,
        plan: &Plan,
        contents: Contents,
        journal: &Journal,
    ) -> Result<Captured> {
        self.reporter.phase("capture", &format!("snapshot of {}", volume.id));
        self.stop.check()?;
        let mut late = Late::of(plan, contents.main.as_ref())?;
        if matches!(plan.image.name, NamePlan::AfterInstall(_)) {
            late = self.called_late(late, plan).await?;
        }
        let publishing = match &plan.publish {
            Some(publish) => {
                Some(self.settle_publishing(publish, contents.main.as_ref(), &late, plan).await?)
            }
            None => None,
        };
        let spec = SnapshotSpec { description: late.snapshot_description, tags: late.snapshot_tags };
        let mut captured = Captured {
            bake: plan.bake.clone(),
            snapshot: String::new(),
            volume,
            image: ImageSpec {
                name: late.name,
                unnumbered: late.unnumbered,
                description: late.description,
                tags: late.tags,
                arch: plan.image.arch,
                size: plan.disk.size,
                shape: plan.image.shape.clone(),
                collision: plan.image.collision,
            },
            base: plan.base.clone(),
            region: plan.place.region.clone(),
            manifest: self.keep(&contents.manifest),
            packages: contents.manifest.difference,
            provisioning_seconds: rounded(contents.provisioning),
            took: contents.took,
            hygiene: contents.hygiene,
            publishing,
            hooks: plan.hooks.iter().filter(|hook| hook.at == HookPoint::AfterImage).cloned().collect(),
        };
        if let Some(publishing) = &captured.publishing {
            journal.note(super::PUBLISH, &publishing.again)?;
        }
        journal
            .note(CAPTURED, &serde_json::to_string(&captured).context("encoding what registering needs")?)?;
        let (proof, held) = closed.proof();
        captured.snapshot = self.cloud.capture(&captured.volume, proof, &spec, journal, self.stop).await?;
        drop(held);
        Ok(captured)
    }

    /// Writes the manifest beside the bake's log; its path. What is baked is worth more than the word of it: where there
    /// is no room for that, as in the log, the bake goes on.
    fn keep(&self, manifest: &Manifest) -> Option<String> {
        let path = self.reporter.log_path()?.with_extension("manifest.json");
        let text = serde_json::to_string_pretty(manifest).context("encoding it");
        let written = text.and_then(|text| {
            std::fs::write(&path, text + "\n").inspect_err(|_| {
                // Half of it is none.
                if let Err(error) = std::fs::remove_file(&path) {
                    tracing::debug!("removing {}: {error}", path.display());
                }
            })?;
            Ok(())
        });
        match written {
            Ok(()) => Some(path.display().to_string()),
            Err(error) => {
                self.reporter.warn(&format!(
                    "the image will have no manifest, which `images show` tells of: writing {}: {error:#}",
                    path.display()
                ));
                None
            }
        }
    }

    /// Registers the image; meanwhile the volume goes.
    pub(super) async fn register(&self, captured: Captured, journal: &Journal) -> Result<Registered> {
        let Captured {
            bake,
            snapshot,
            volume,
            image: mut spec,
            base,
            region,
            manifest,
            packages,
            provisioning_seconds,
            took,
            hygiene,
            publishing,
            hooks: _,
        } = captured;
        let progress = |done: &str| self.reporter.note(&format!("{snapshot}: {done}"));
        // The volume goes while the snapshot is pending. Its failure is no reason to lose the image: the
        // journal still owns the volume, and the end of the bake tries again.
        let release = async {
            if let Err(error) = self.cloud.release_disk(&volume, journal).await {
                self.reporter.warn(&format!("{error:#}"));
            }
        };
        let ((), complete) =
            tokio::join!(release, self.cloud.snapshot_complete(&snapshot, self.stop, &progress));
        complete?;
        self.reporter.phase("register", &spec.name);
        self.stop.check()?;
        let image = self.register_as(&snapshot, &mut spec, &base, journal).await?;
        let replaced = super::names::replaced(journal);
        let baked = Baked {
            image,
            snapshot,
            name: spec.name,
            replaced,
            cloud: self.cloud.name().to_owned(),
            region,
            base: base.id().to_owned(),
            base_age_days: base.age(jiff::Timestamp::now()).map(|seconds| seconds / 86_400),
            base_name: base.name,
            bake: bake.0,
            manifest,
            packages,
            seconds: BTreeMap::new(),
            provisioning_seconds,
            took,
            hygiene,
            published: None,
            api_calls: BTreeMap::new(),
            log: self.reporter.log_path().map(|path| path.display().to_string()),
        };
        Ok(Registered { baked, publishing })
    }

    /// The journal of a dead bake whose snapshot had begun, and what registering needs.
    pub(super) async fn take_up(&self, id: &BakeId) -> Result<(Journal, Captured, Progress)> {
        let path = Journal::path_of(self.state, id);
        let refuse =
            |why: &str, hint: &str| Failure::new(Kind::Usage, format!("resuming {id}: {why}")).hint(hint);
        if !path.exists() {
            let hint = "it ended, or it ran on another builder; its id is in its log and in the tags of what it made";
            return Err(refuse(&format!("there is no journal {}", path.display()), hint).into());
        }
        let Some((journal, record)) = Journal::take_up(&path)? else {
            return Err(refuse("it is still running", "wait for it, or stop it first").into());
        };
        let early = || {
            refuse(
                "its snapshot had not begun",
                "release what it left with `bakehouse gc --yes`, and bake again",
            )
        };
        let captured = captured(self.cloud, &journal, &record).await?.ok_or_else(early)?;
        self.reporter.phase("resume", &format!("{id}, from its snapshot {}", captured.snapshot));
        Ok((journal, captured, Progress::of(&record)))
    }

    /// Undoes what a journal owns, newest first. While the image is on its way to the name of the one that it
    /// replaces, what it needs for that stays.
    pub(super) async fn undo_owned(&self, journal: &Journal) {
        let mut owned = journal.owned();
        if journal.is_half_replaced() {
            owned.retain(|entry| matches!(entry.thing, Thing::Volume { .. } | Thing::Attachment { .. }));
        }
        if journal.kept_image().is_some() {
            // Its snapshot is the image's, also where the line that says so is not there yet.
            owned.retain(|entry| !matches!(entry.thing, Thing::Snapshot { .. }));
        }
        if !owned.is_empty() {
            self.reporter.phase("undo", &format!("what this bake made: {}", owned.len()));
        }
        for entry in owned {
            let undo = async {
                self.cloud.undo(&entry.thing, entry.made.as_deref()).await?;
                journal.gone(entry.number)
            };
            let result = tokio::select! {
                biased;
                _ = self.stop.hurried() => break,
                result = undo => result,
            };
            match result {
                Ok(()) => self.reporter.note(&format!("gone: {entry}")),
                Err(error) => self.reporter.warn(&format!("undoing {entry}: {error:#}")),
            }
        }
    }

    pub(super) fn work_folder(&self, plan: &Plan) -> PathBuf {
        self.work.join(&plan.bake.0)
    }

    pub(super) fn mount_point(&self, plan: &Plan) -> Result<PathBuf> {
        let target = self.work_folder(plan).join("root");
        std::fs::create_dir_all(&target).with_context(|| {
            Failure::new(Kind::Host, format!("making the mount point {}", target.display()))
        })?;
        Ok(target)
    }

    pub(super) fn forget_work(&self, journal: &Journal) {
        let Some(bake) = journal.path().file_stem() else { return };
        if let Err(error) = super::forget_work(&self.work.join(bake)) {
            self.reporter.warn(&format!("{error:#}"));
        }
    }
}

/// Disk work blocks; the runtime is told, so that timers and signals go on.
pub(super) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

/// What a step took of the time of all; nothing where it was left out.
fn step_time(number: usize, name: &str, now: Duration, before: Duration) -> Option<StepTime> {
    let took = now.saturating_sub(before);
    (!took.is_zero()).then(|| StepTime { number, name: name.to_owned(), seconds: rounded(took) })
}
