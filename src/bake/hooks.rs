//! The points of a bake at which hooks run, and what they are told there.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::{Kitchen, verbs::blocking};
use crate::disk::{Disk, MountedRoot};
use crate::error::{Failure, Kind};
use crate::journal::{Journal, Record};
use crate::plan::{NamePlan, Plan};
use crate::provision::run_hook;
use crate::provisioner::HookPlan;
use crate::recipe::HookPoint;
use crate::report::result::Baked;

/// The journal's notes of the hooks after the image: the number of the last that was begun, and of the last that was
/// done.
const BEGUN: &str = "hook-begun";
const DONE: &str = "hook-done";

/// How far a bake had come with the hooks after its image.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    begun: usize,
    done: usize,
}

impl Progress {
    /// What a journal says of it.
    pub(super) fn of(record: &Record) -> Self {
        let number = |key| record.notes.get(key).and_then(|number| number.parse().ok()).unwrap_or_default();
        let (begun, done): (usize, usize) = (number(BEGUN), number(DONE));
        // One begins when the one before it is done, also where the line that told of that found no room.
        Self { begun, done: done.max(begun.saturating_sub(1)) }
    }

    fn left(self, hooks: &[&HookPlan]) -> Option<HooksLeft> {
        let mut names = hooks.iter().skip(self.done).map(|hook| format!("{:?}", hook.name));
        let cut = (self.begun > self.done).then(|| names.next()).flatten();
        let others: Vec<_> = names.collect();
        let was_cut = cut.is_some();
        let cut =
            cut.map(|name| format!("its bake died in the hook {name} after it, which is not run again"));
        let others = match others.as_slice() {
            [] => None,
            [one] => Some(format!("the hook {one} after it was not run")),
            more => Some(format!("the hooks {} after it were not run", more.join(", "))),
        };
        let told: Vec<_> = cut.into_iter().chain(others).collect();
        (!told.is_empty()).then(|| HooksLeft { told: told.join("; "), was_cut })
    }
}

/// What is to be told of the hooks after the image of a dead bake: the one in which it died, and those that did not
/// run. Nothing where all did.
pub fn hooks_left(record: &Record) -> Option<HooksLeft> {
    let noted: Noted = serde_json::from_str(record.notes.get(super::captured::CAPTURED)?).ok()?;
    let hooks: Vec<_> = noted.hooks.iter().filter(|hook| hook.at == HookPoint::AfterImage).collect();
    Progress::of(record).left(&hooks)
}

/// Hooks after an image that did not run to their end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HooksLeft {
    /// In words, as a part of a sentence.
    pub told: String,
    /// Whether the bake died in one of them: then none is run by resuming it.
    pub was_cut: bool,
}

/// What of a noted capture tells of hooks.
#[derive(serde::Deserialize)]
struct Noted {
    #[serde(default)]
    hooks: Vec<HookPlan>,
}

/// What a bake came to once its image stands and the hooks after it are over.
pub(super) struct AfterImage {
    pub(super) baked: Baked,
    /// What of publishing or of the hooks is missing.
    pub(super) incomplete: Option<anyhow::Error>,
    /// Whether the journal is kept, for whoever goes on with the hooks that did not begin.
    pub(super) is_kept: bool,
}

/// Why not all of the hooks after an image are done.
enum Unfinished {
    /// One failed, or was stopped: how far it came nobody can tell.
    Failed(anyhow::Error),
    /// So many are done, and the next did not begin; whether the journal says the same.
    NotBegun { error: anyhow::Error, done: usize, is_noted: bool },
}

impl Unfinished {
    /// As a failure of a bake whose image is good.
    fn told(self, baked: &Baked, hooks: &[&HookPlan]) -> anyhow::Error {
        let (error, what, hint) = match self {
            Self::Failed(error) => (
                error,
                "a hook after it failed".to_owned(),
                "mend what it says, and run the hook by hand".to_owned(),
            ),
            Self::NotBegun { error, done, is_noted } => {
                let left = Progress { begun: done, done }.left(hooks);
                let hint = match is_noted {
                    true => format!("go on with it by `bakehouse bake --resume {}`", baked.bake),
                    // Its journal would have the one before as the one in which the bake died.
                    false => "run them by hand".to_owned(),
                };
                (error, left.map(|left| left.told).unwrap_or_default(), hint)
            }
        };
        let message = format!("the image {} is good, but {what}", baked.image);
        error.context(Failure::new(Kind::Publish, message).hint(hint))
    }
}

/// What a hook finds in its environment.
type About = BTreeMap<String, String>;

impl Kitchen<'_> {
    /// The hooks before the root is mounted. On failure the disk is let go before the error goes up.
    pub(super) async fn before_mount(&self, mut disk: Disk, plan: &Plan) -> Result<Disk> {
        if !plan.hooks.iter().any(|hook| hook.at == HookPoint::BeforeMount) {
            return Ok(disk);
        }
        // The kernel is told of partitions that it does not know: the hook may want their nodes.
        let seen = blocking(|| disk.survey()).map(|_| disk.node().display().to_string());
        let ran = match seen {
            Ok(device) => {
                let about = self.about(plan, [("DEVICE", device)]);
                self.hooks(&plan.hooks, HookPoint::BeforeMount, about).await
            }
            Err(error) => Err(error),
        };
        match ran {
            Ok(()) => Ok(disk),
            Err(error) => {
                if let Err(second) = blocking(|| disk.release()) {
                    self.reporter.warn(&format!("letting go of the disk after the failure: {second:#}"));
                }
                Err(error)
            }
        }
    }

    /// The hooks of a mounted root: after mount, and before close.
    pub(super) async fn root_hooks(&self, at: HookPoint, root: &MountedRoot, plan: &Plan) -> Result<()> {
        let path = root.path().display().to_string();
        let device = root.nodes().ok().and_then(|nodes| Some(nodes.first()?.display().to_string()));
        let known = [("ROOT", path)].into_iter().chain(device.map(|device| ("DEVICE", device)));
        self.hooks(&plan.hooks, at, self.about(plan, known)).await
    }

    /// The hooks of an image that stands. One that fails leaves it as it is, and is told with a kind of its own.
    ///
    /// Each is noted in the journal before it begins and when it is done, so that a bake that dies here is gone on
    /// with without any of them running twice: `before` is how far it had come. So is one that is stopped before the
    /// last of them began.
    pub(super) async fn after_image(
        &self,
        hooks: &[HookPlan],
        before: Progress,
        journal: &Journal,
        (baked, left): (Baked, Option<anyhow::Error>),
    ) -> AfterImage {
        let told = [
            ("BAKE", Some(&baked.bake)),
            ("CLOUD", Some(&baked.cloud)),
            ("REGION", Some(&baked.region)),
            ("BASE", Some(&baked.base)),
            ("BASE_NAME", baked.base_name.as_ref()),
            ("IMAGE", Some(&baked.image)),
            ("IMAGE_NAME", Some(&baked.name)),
            ("SNAPSHOT", Some(&baked.snapshot)),
            ("MANIFEST", baked.manifest.as_ref()),
            ("LOG_FILE", baked.log.as_ref()),
        ];
        let about = variables(told.into_iter().filter_map(|(name, value)| Some((name, value?.clone()))));
        let hooks: Vec<_> = hooks.iter().filter(|hook| hook.at == HookPoint::AfterImage).collect();
        let image = &baked.image;
        let (error, is_kept) = match before.left(&hooks) {
            Some(left) if left.was_cut => {
                let message = format!("the image {image} is good, but {}", left.told);
                let failure =
                    Failure::new(Kind::Publish, message).hint("see how far it came, and run it by hand");
                (Some(failure.into()), false)
            }
            _ => match self.each_after_image(&hooks, before.done, journal, about).await {
                Ok(()) => (None, false),
                Err(unfinished) => {
                    let is_kept = matches!(unfinished, Unfinished::NotBegun { is_noted: true, .. });
                    (Some(unfinished.told(&baked, &hooks)), is_kept)
                }
            },
        };
        if let (Some(_), Some(left)) = (&error, &left) {
            self.reporter.warn(&format!("{left:#}"));
        }
        AfterImage { baked, incomplete: error.or(left), is_kept }
    }

    async fn each_after_image(
        &self,
        hooks: &[&HookPlan],
        done: usize,
        journal: &Journal,
        mut about: About,
    ) -> std::result::Result<(), Unfinished> {
        about.insert("BAKEHOUSE_HOOK".to_owned(), HookPoint::AfterImage.word().to_owned());
        let mut is_noted = true;
        for (number, hook) in (1_usize..).zip(hooks).skip(done) {
            // Once it is noted as begun nobody runs it again: a bake that is to stop does not come to that.
            let begun = self.stop.check().and_then(|()| journal.note(BEGUN, &number.to_string()));
            begun.map_err(|error| Unfinished::NotBegun { error, done: number - 1, is_noted })?;
            self.hook(hook, &about).await.map_err(Unfinished::Failed)?;
            let noted = journal.note(DONE, &number.to_string());
            is_noted = noted.is_ok();
            if let Err(error) = noted {
                let name = &hook.name;
                self.reporter.warn(&format!(
                    "the hook {name:?} after the image is done, which is not noted: {error:#}"
                ));
            }
        }
        Ok(())
    }

    async fn hooks(&self, hooks: &[HookPlan], at: HookPoint, mut about: About) -> Result<()> {
        about.insert("BAKEHOUSE_HOOK".to_owned(), at.word().to_owned());
        for hook in hooks.iter().filter(|hook| hook.at == at) {
            self.hook(hook, &about).await?;
        }
        Ok(())
    }

    async fn hook(&self, hook: &HookPlan, about: &About) -> Result<()> {
        let at = hook.at.word();
        self.reporter.phase("hook", &format!("{at}: {}", hook.name));
        run_hook(hook, about, self.stop, self.reporter)
            .await
            .with_context(|| format!("running the hooks at {at}"))
    }

    /// What is known of the bake before there is an image.
    fn about<'n>(&self, plan: &Plan, more: impl IntoIterator<Item = (&'n str, String)>) -> About {
        let base = &plan.base;
        let name = match &plan.image.name {
            NamePlan::Settled(name) => Some(name.clone()),
            NamePlan::AfterInstall(_) => None,
        };
        let told = [
            ("BAKE", Some(plan.bake.0.clone())),
            ("CLOUD", Some(plan.place.cloud.clone())),
            ("REGION", Some(plan.place.region.clone())),
            ("BASE", Some(base.image.clone().unwrap_or_else(|| base.snapshot.clone()))),
            ("BASE_NAME", base.name.clone()),
            ("ARCH", Some(base.arch.as_str().to_owned())),
            ("IMAGE_NAME", name),
            ("LOG_FILE", self.reporter.log_path().map(|path| path.display().to_string())),
        ];
        let told = told.into_iter().filter_map(|(name, value)| Some((name, value?)));
        variables(told.chain(more))
    }
}

fn variables<'n>(known: impl IntoIterator<Item = (&'n str, String)>) -> About {
    known.into_iter().map(|(name, value)| (format!("BAKEHOUSE_{name}"), value)).collect()
}
