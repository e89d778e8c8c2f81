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
        Self { begun: number(BEGUN), done: number(DONE) }
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
    /// with without any of them running twice: `before` is how far it had come.
    pub(super) async fn after_image(
        &self,
        hooks: &[HookPlan],
        before: Progress,
        journal: &Journal,
        (baked, left): (Baked, Option<anyhow::Error>),
    ) -> (Baked, Option<anyhow::Error>) {
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
        let error = match before.left(&hooks) {
            Some(left) if left.was_cut => {
                let message = format!("the image {image} is good, but {}", left.told);
                Some(
                    Failure::new(Kind::Publish, message)
                        .hint("see how far it came, and run it by hand")
                        .into(),
                )
            }
            _ => self.each_after_image(&hooks, before.done, journal, about).await.err().map(|error| {
                let message = format!("the image {image} is good, but a hook after it failed");
                let hint = "mend what it says, and run the hook by hand";
                error.context(Failure::new(Kind::Publish, message).hint(hint))
            }),
        };
        if let (Some(_), Some(left)) = (&error, &left) {
            self.reporter.warn(&format!("{left:#}"));
        }
        (baked, error.or(left))
    }

    async fn each_after_image(
        &self,
        hooks: &[&HookPlan],
        done: usize,
        journal: &Journal,
        mut about: About,
    ) -> Result<()> {
        about.insert("BAKEHOUSE_HOOK".to_owned(), HookPoint::AfterImage.word().to_owned());
        for (number, hook) in (1_usize..).zip(hooks).skip(done) {
            journal.note(BEGUN, &number.to_string())?;
            self.hook(hook, &about).await?;
            journal.note(DONE, &number.to_string())?;
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
