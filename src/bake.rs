//! The pipeline: `Plan → Disk → MountedRoot → ProvisionedRoot → ClosedDisk → Snapshot → Image → Published`.
//!
//! [`forward`] is the whole road; each of its steps consumes the one before it. [`bake`] wraps it: success and
//! failure end by the same road, [`settle`], which releases in reverse order whatever the journal still owns.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;

use crate::cloud::Cloud;
use crate::error::{Failure, Kind};
use crate::journal::Journal;
use crate::plan::{BakeId, Plan};
use crate::provision::Vault;
use crate::provisioner::HookPlan;
use crate::report::{Reporter, result::Baked};
use crate::stop::Stop;

mod base;
mod captured;
mod enter;
mod hooks;
mod kept;
mod names;
mod operator;
mod publish;
mod scratch;
mod secrets;
mod seen;
mod verbs;
mod work;

pub use base::find_base;
pub use captured::finish;
pub use enter::{Look, enter};
pub use hooks::hooks_left;
use hooks::{AfterImage, Progress};
pub use kept::{KEPT_FOR, kept_until};
pub use names::settle_name;
pub use operator::Until;
pub use publish::{PUBLISH, incomplete};
pub use work::forget_work;

/// What a bake works with.
pub struct Kitchen<'a> {
    /// Where disks, snapshots and images live.
    pub cloud: &'a dyn Cloud,
    /// Hears how it goes.
    pub reporter: &'a Reporter,
    /// Says when to stop.
    pub stop: &'a Stop,
    /// Folder of the journals.
    pub state: &'a Path,
    /// Folder of the caches that bakes share.
    pub cache: &'a Path,
    /// Folder of the mount points (a tmpfs: empty folders alone, gone at a reboot).
    pub work: PathBuf,
    /// How long a device node may take to appear once its volume is attached.
    pub device_wait: Duration,
    /// What happens on failure.
    pub on_error: OnError,
    /// Whether the operator said in mid-bake that the disk is to stay.
    pub kept: AtomicBool,
}

/// What happens to what was made when a bake fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnError {
    /// Everything is undone.
    Cleanup,
    /// The disk stays as it is, for a look; `bakehouse gc --yes` releases it a day later.
    Keep,
    /// A shell in the root where a step or a check failed; then a question as with `ask`.
    Shell,
    /// A question where a step or a check failed: run it again, a shell, keep the disk, or clean up.
    Ask,
}

/// Bakes: the image, and what could not be published or released after it was registered (the image is good then).
pub async fn bake(kitchen: &Kitchen<'_>, plan: &Plan) -> Result<(Baked, Option<anyhow::Error>)> {
    let runs = plan.steps.iter().chain(&plan.checks).filter(|step| step.skipped.is_none());
    crate::provision::has_programs(runs)?;
    kitchen.can_fill(plan)?;
    let secrets = kitchen.fetch_secrets(plan).await?;
    let journal = kitchen.begin(plan)?;
    let result = forward(kitchen, plan, secrets, &journal).await;
    settle(kitchen, journal, result, &plan.hooks, Progress::default()).await
}

/// The road of a bake, start to end.
async fn forward(
    kitchen: &Kitchen<'_>,
    plan: &Plan,
    secrets: Vault,
    journal: &Journal,
) -> Result<(Baked, Option<anyhow::Error>)> {
    let volume = kitchen.make_disk(plan, journal).await?;
    let disk = kitchen.open(&volume)?;
    let disk = kitchen.fill(disk, plan)?;
    let disk = kitchen.before_mount(disk, plan).await?;
    let mounted = kitchen.mount(disk, plan)?;
    let (provisioned, contents) = kitchen.provision(mounted, plan, secrets).await?;
    let closed = kitchen.close(provisioned)?;
    let snapshot = kitchen.capture(closed, volume, plan, contents, journal).await?;
    let image = kitchen.register(snapshot, journal).await?;
    Ok(kitchen.publish(image, journal).await)
}

/// Goes on with a bake that died after its snapshot began: waits, registers, publishes where it is to, releases the rest.
pub async fn resume(
    kitchen: &Kitchen<'_>,
    id: &BakeId,
    publishes: bool,
) -> Result<(Baked, Option<anyhow::Error>)> {
    let (journal, mut begun, progress) = kitchen.take_up(id).await?;
    begun.publishing.take_if(|_| !publishes);
    let hooks = begun.hooks.clone();
    let result = match kitchen.register(begun, &journal).await {
        Ok(image) => Ok(kitchen.publish(image, &journal).await),
        Err(error) => Err(error),
    };
    settle(kitchen, journal, result, &hooks, progress).await
}

/// The end of every bake: what the journal still owns is undone, newest first; then, where there is an image, the hooks
/// after it, which the journal outlives, and where some of them did not begin the process too. So it does where a bake that
/// has its image fails all the same. The first error stays the one that is reported.
async fn settle(
    kitchen: &Kitchen<'_>,
    journal: Journal,
    result: Result<(Baked, Option<anyhow::Error>)>,
    hooks: &[HookPlan],
    progress: Progress,
) -> Result<(Baked, Option<anyhow::Error>)> {
    let is_disk_kept = wind_up(kitchen, &journal, result.is_err()).await;
    let result = match result {
        Ok(baked) => Ok(kitchen.after_image(hooks, progress, &journal, baked).await),
        Err(error) => Err(error),
    };
    let is_kept = match &result {
        Ok(after) => after.is_kept,
        Err(_) => kitchen.tell_good(&journal),
    };
    let is_kept = is_kept || is_disk_kept;
    let ended = match is_kept {
        true => {
            kept::note_kept(&journal, kitchen.reporter);
            Ok(())
        }
        false => journal.end(),
    };
    let AfterImage { baked, incomplete, .. } = match result {
        Ok(after) => after,
        Err(error) => {
            return Err(match (error.downcast_ref::<Until>(), ended) {
                // No failure by itself, but no success either.
                (Some(until), Err(left)) => not_released(left, &format!("the bake {until}")),
                _ => error,
            });
        }
    };
    let left = ended.err().map(|left| not_released(left, &format!("the image {} is good", baked.image)));
    Ok((baked, incomplete.or(left)))
}

fn not_released(left: anyhow::Error, what: &str) -> anyhow::Error {
    let failure = Failure::new(Kind::Leftover, format!("{what}, but not all was released"));
    left.context(failure.hint("run `bakehouse gc --yes`"))
}

/// Undoes what the journal still owns; where the bake has no image and its disk is to be kept, it says what there is.
/// Whether that is so.
async fn wind_up(kitchen: &Kitchen<'_>, journal: &Journal, has_no_image: bool) -> bool {
    kitchen.forget_work(journal);
    let keep = kitchen.on_error == OnError::Keep || kitchen.kept.load(Ordering::Relaxed);
    if has_no_image && keep && kitchen.stop.signal().is_none() {
        kitchen.tell_kept(journal);
        return true;
    }
    kitchen.undo_owned(journal).await;
    let left: Vec<_> = journal.owned().iter().map(|entry| entry.to_string()).collect();
    if !left.is_empty() {
        kitchen.reporter.warn(&format!(
            "still there: {}; `bakehouse gc --yes` releases what the journal {} owns",
            left.join(", "),
            journal.path().display()
        ));
    }
    false
}
