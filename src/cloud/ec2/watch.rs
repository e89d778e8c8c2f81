//! The watcher: all that this process waits for shares one Describe call a tick for each sort of resource.
//!
//! Waits are aligned to a common grid of ticks, so that waiters come due together: the first to come due makes
//! the call for everything that is waited for, and the others take its answer. There is no background task:
//! dropping a wait ends it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;

use super::explain::{Class, Trouble};
use super::retry::jitter;
use crate::error::{Failure, Kind};

/// The sorts of resource that are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sort {
    Volume,
    Snapshot,
    Image,
    /// An image that is copied from another Region: the wait is long.
    Copy,
}

impl Sort {
    fn name(self) -> &'static str {
        match self {
            Self::Volume => "volume",
            Self::Snapshot => "snapshot",
            Self::Image | Self::Copy => "image",
        }
    }

    /// The time between two calls: at first, how long that lasts, and afterwards (a multiple of the first).
    fn pace(self) -> (Duration, Duration, u32) {
        match self {
            Self::Volume => (Duration::from_millis(250), Duration::from_secs(15), 4),
            Self::Snapshot => (Duration::from_secs(1), Duration::from_secs(600), 5),
            Self::Image => (Duration::from_millis(500), Duration::from_secs(60), 4),
            Self::Copy => (Duration::from_secs(1), Duration::from_secs(30), 10),
        }
    }
}

/// A volume's attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attached {
    /// `i-…`.
    pub instance: String,
    /// `/dev/sdf`.
    pub device: String,
    /// `attaching`, `attached`, `detaching`, `detached`, `busy`.
    pub state: String,
}

/// A resource as a Describe call showed it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Seen {
    /// Its state as EC2 names it.
    pub state: String,
    /// Why, or how far: a snapshot's or an image's state reason.
    pub reason: Option<String>,
    /// A snapshot's progress, `45%`.
    pub progress: Option<String>,
    /// A volume's attachments.
    pub attached: Vec<Attached>,
    /// A volume's tags.
    pub tags: BTreeMap<String, String>,
    /// RFC 3339 time of a volume's making.
    pub created: String,
    /// An image's platform and usage operation, which its bill comes from.
    pub billing: (Option<String>, Option<String>),
}

/// What a waiter makes of what it saw.
pub(super) enum Verdict {
    /// Not yet; said when the deadline passes ("attaching").
    Wait(String),
    /// That is what was waited for.
    Done,
    /// It will never come.
    Failed(Failure),
}

/// How long to wait, and when to look first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// The first look: the time that the operation usually takes.
    pub first: Duration,
    /// The deadline.
    pub limit: Duration,
    /// For how long a resource may not be there to see after it was made (eventual consistency).
    pub visible: Duration,
}

/// One Describe call for many resources of a sort. A resource that cannot be seen is left out of the answer.
#[async_trait]
pub(super) trait Look: Send + Sync {
    /// Looks once, without trying again.
    async fn look(&self, sort: Sort, ids: &[String]) -> Result<BTreeMap<String, Seen>, Trouble>;
}

/// Time since some start: tokio's, or a test's.
#[async_trait]
pub(super) trait Clock: Send + Sync {
    fn now(&self) -> Duration;
    async fn sleep_until(&self, at: Duration);
}

/// The real clock.
pub(super) struct RealClock(tokio::time::Instant);

impl Default for RealClock {
    fn default() -> Self {
        Self(tokio::time::Instant::now())
    }
}

#[async_trait]
impl Clock for RealClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    async fn sleep_until(&self, at: Duration) {
        tokio::time::sleep_until(self.0 + at).await;
    }
}

/// The last call for a sort.
#[derive(Default)]
struct Round {
    /// When it began; a waiter that came due later makes a new one.
    started: Option<Duration>,
    ids: Vec<String>,
    seen: BTreeMap<String, Seen>,
    /// Calls that failed in a row, and when the next may be made.
    failures: u32,
    not_before: Duration,
    trouble: Option<Trouble>,
}

/// See the module's head.
pub(super) struct Watcher {
    look: Box<dyn Look>,
    clock: Box<dyn Clock>,
    /// What is waited for, and by how many.
    waiting: Mutex<BTreeMap<(Sort, String), u32>>,
    volumes: tokio::sync::Mutex<Round>,
    snapshots: tokio::sync::Mutex<Round>,
    images: tokio::sync::Mutex<Round>,
    copies: tokio::sync::Mutex<Round>,
}

/// A waiter's place in [`Watcher::waiting`], given up when the wait ends or is dropped.
struct Registered<'a> {
    watcher: &'a Watcher,
    key: (Sort, String),
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut waiting = self.watcher.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.key);
            }
        }
    }
}

/// A round's answer to one waiter.
enum Answer {
    Seen(Option<Seen>),
    /// The call failed for now; nobody calls again before then.
    Paused(Duration, Trouble),
}

impl Watcher {
    pub(super) fn new(look: Box<dyn Look>, clock: Box<dyn Clock>) -> Self {
        Self {
            look,
            clock,
            waiting: Mutex::default(),
            volumes: tokio::sync::Mutex::default(),
            snapshots: tokio::sync::Mutex::default(),
            images: tokio::sync::Mutex::default(),
            copies: tokio::sync::Mutex::default(),
        }
    }

    /// Waits until `verdict` is done with what it is shown of a resource. Safe to drop.
    ///
    /// # Errors
    /// The verdict's failure; a call's final error; that the deadline passed, with what was seen last; that the
    /// resource stayed unseen for longer than eventual consistency explains.
    pub(super) async fn wait(
        &self,
        sort: Sort,
        id: &str,
        patience: Patience,
        mut verdict: impl FnMut(&Seen) -> Verdict + Send,
    ) -> Result<Seen> {
        let _registered = self.register(sort, id);
        let (tick, swift, slow) = sort.pace();
        let begun = self.clock.now();
        let deadline = begun + patience.limit;
        let mut unseen_since = begun;
        let mut standing = "not there to see".to_owned();
        let mut due = on_grid(begun + patience.first, tick);
        loop {
            self.clock.sleep_until(due.min(deadline)).await;
            let answer = self.round(sort, id, due.min(deadline)).await.map_err(Trouble::into_error)?;
            let now = self.clock.now();
            let every = if now - begun < swift { tick } else { tick * slow };
            due = on_grid(now + Duration::from_millis(1), every);
            match answer {
                Answer::Seen(Some(seen)) => match verdict(&seen) {
                    Verdict::Done => return Ok(seen),
                    Verdict::Failed(failure) => return Err(failure.into()),
                    Verdict::Wait(what) => {
                        standing = what;
                        unseen_since = now;
                    }
                },
                Answer::Seen(None) if now - unseen_since >= patience.visible => {
                    return Err(Failure::new(
                        Kind::Cloud,
                        format!("{} {id} is not there (any more)", sort.name()),
                    )
                    .hint("somebody else may have deleted it: bake again")
                    .into());
                }
                Answer::Seen(None) => {}
                Answer::Paused(until, mut trouble) => {
                    if now >= deadline {
                        trouble.given_up = Some(now - begun);
                        return Err(trouble.into_error());
                    }
                    due = on_grid(until, tick);
                }
            }
            if now >= deadline {
                return Err(late(sort, id, &standing, now - begun).into());
            }
        }
    }

    fn register(&self, sort: Sort, id: &str) -> Registered<'_> {
        let key = (sort, id.to_owned());
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting.entry(key.clone()).or_default() += 1;
        Registered { watcher: self, key }
    }

    async fn round(&self, sort: Sort, id: &str, due: Duration) -> Result<Answer, Trouble> {
        let round = match sort {
            Sort::Volume => &self.volumes,
            Sort::Snapshot => &self.snapshots,
            Sort::Image => &self.images,
            Sort::Copy => &self.copies,
        };
        let mut round = round.lock().await;
        let now = self.clock.now();
        if let Some(trouble) = round.trouble.as_ref().filter(|_| now < round.not_before) {
            return Ok(Answer::Paused(round.not_before, trouble.clone()));
        }
        let fresh = round.started.is_some_and(|started| started >= due);
        if !fresh || !round.ids.iter().any(|known| known == id) {
            let ids = self.ids(sort);
            match self.look.look(sort, &ids).await {
                Ok(seen) => {
                    *round = Round { started: Some(now), ids, seen, ..Round::default() };
                }
                Err(trouble) if matches!(trouble.class, Class::Throttled | Class::Lost) => {
                    round.failures += 1;
                    round.not_before = self.clock.now() + sort.pace().0 + jitter(round.failures);
                    round.trouble = Some(trouble.clone());
                    return Ok(Answer::Paused(round.not_before, trouble));
                }
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(Answer::Seen(round.seen.get(id).cloned()))
    }

    fn ids(&self, sort: Sort) -> Vec<String> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.keys().filter(|(of, _)| *of == sort).map(|(_, id)| id.clone()).collect()
    }
}

fn late(sort: Sort, id: &str, standing: &str, after: Duration) -> Failure {
    let hint = match (sort, standing) {
        (Sort::Volume, "detaching" | "busy") => {
            "something on this host may still have the device open (lsblk, fuser); it can be detached by force from the console"
        }
        (Sort::Volume, "attaching") => {
            "the instance may be stuck on a device name: try again, or reboot the builder"
        }
        _ => "see the AWS Health Dashboard; try again",
    };
    Failure::new(Kind::Cloud, format!("{} {id} is still {standing} after {} s", sort.name(), after.as_secs()))
        .hint(hint)
}

/// The first tick at or after a time.
fn on_grid(at: Duration, tick: Duration) -> Duration {
    let tick = tick.as_nanos().max(1);
    let ticks = at.as_nanos().div_ceil(tick);
    Duration::from_nanos(u64::try_from(ticks * tick).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
