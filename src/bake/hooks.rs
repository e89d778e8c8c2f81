//! The points of a bake at which hooks run, and what they are told there.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::{Kitchen, verbs::blocking};
use crate::disk::{Disk, MountedRoot};
use crate::error::{Failure, Kind};
use crate::plan::{NamePlan, Plan};
use crate::provision::run_hook;
use crate::provisioner::HookPlan;
use crate::recipe::HookPoint;
use crate::report::result::Baked;

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
    pub(super) async fn after_image(
        &self,
        hooks: &[HookPlan],
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
        match self.hooks(hooks, HookPoint::AfterImage, about).await {
            Ok(()) => (baked, left),
            Err(error) => {
                if let Some(left) = left {
                    self.reporter.warn(&format!("{left:#}"));
                }
                let message = format!("the image {} is good, but a hook after it failed", baked.image);
                let failure =
                    Failure::new(Kind::Publish, message).hint("mend what it says, and run the hook by hand");
                (baked, Some(error.context(failure)))
            }
        }
    }

    async fn hooks(&self, hooks: &[HookPlan], at: HookPoint, mut about: About) -> Result<()> {
        about.insert("BAKEHOUSE_HOOK".to_owned(), at.word().to_owned());
        for hook in hooks.iter().filter(|hook| hook.at == at) {
            self.reporter.phase("hook", &format!("{}: {}", at.word(), hook.name));
            run_hook(hook, &about, self.stop, self.reporter)
                .await
                .with_context(|| format!("running the hooks at {}", at.word()))?;
        }
        Ok(())
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
