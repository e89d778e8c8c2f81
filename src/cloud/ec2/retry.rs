//! Trying a call again: full jitter between tries, one deadline over all of them.
//!
//! The SDK's own retries are off. It cannot know that a second CreateSnapshot after a lost reply makes a second
//! snapshot; here a lost reply is looked up before the call is made again.

use std::time::Duration;

use tokio::time::Instant;

use super::explain::{Class, Trouble};
use crate::stop::Stop;

/// How many times a call is made whose reply was lost or whose endpoint does not answer.
const LOST_TRIES: u32 = 6;
/// Waits between tries are drawn evenly from 0 to BASE doubled with each try, but no more than CAP.
const BASE: Duration = Duration::from_millis(250);
const CAP: Duration = Duration::from_secs(8);

/// What a call may take, and who may end it early.
#[derive(Clone, Copy)]
pub(super) struct Effort<'a> {
    /// The deadline over all tries.
    pub limit: Duration,
    /// Heard between tries, never during one: a call in flight is waited for, so that its result is known.
    pub stop: Option<&'a Stop>,
}

/// The wait before try `n` (from 1): "full jitter".
pub(super) fn jitter(n: u32) -> Duration {
    let most = BASE.saturating_mul(2_u32.saturating_pow(n.min(16))).min(CAP);
    most.mul_f64(fastrand::f64())
}

/// Looks for something until it is found or `limit` has passed: what was just made may not be there to see yet.
pub(super) async fn search<T, F>(
    effort: Effort<'_>,
    limit: Duration,
    mut look: impl FnMut() -> F,
) -> Result<Option<T>, Trouble>
where
    F: Future<Output = Result<Option<T>, Trouble>>,
{
    let begun = Instant::now();
    let mut pause = BASE;
    loop {
        if let Some(found) = insist(effort, &mut look).await? {
            return Ok(Some(found));
        }
        if begun.elapsed() >= limit {
            return Ok(None);
        }
        tokio::time::sleep(pause.min(limit.saturating_sub(begun.elapsed()))).await;
        pause = pause.saturating_mul(2);
    }
}

/// Makes an idempotent call until it answers for good.
pub(super) async fn insist<T, F>(effort: Effort<'_>, call: impl FnMut() -> F) -> Result<T, Trouble>
where
    F: Future<Output = Result<T, Trouble>>,
{
    insist_looking(effort, call, nothing).await
}

async fn nothing<T>() -> Result<Option<T>, Trouble> {
    Ok(None)
}

/// Makes a call that must not happen twice. After a lost reply `look` searches for what the call may have made,
/// and the call is made again only when it finds nothing.
pub(super) async fn insist_looking<T, F, G>(
    effort: Effort<'_>,
    mut call: impl FnMut() -> F,
    mut look: impl FnMut() -> G,
) -> Result<T, Trouble>
where
    F: Future<Output = Result<T, Trouble>>,
    G: Future<Output = Result<Option<T>, Trouble>>,
{
    let begun = Instant::now();
    let (mut tries, mut lost, mut unsure) = (0, 0, false);
    loop {
        tries += 1;
        let mut trouble = match call().await {
            Ok(value) => return Ok(value),
            Err(trouble) => trouble,
        };
        unsure |= trouble.unsure;
        trouble.unsure = unsure;
        match trouble.class {
            Class::Throttled => {}
            Class::Lost if lost + 1 < LOST_TRIES => lost += 1,
            Class::Lost | Class::Final | Class::Stopped(_) => {
                if trouble.class == Class::Lost {
                    if let Some(found) = look().await? {
                        return Ok(found);
                    }
                    trouble.given_up = Some(begun.elapsed());
                }
                return Err(trouble);
            }
        }
        let wait = jitter(tries);
        if begun.elapsed() + wait > effort.limit {
            trouble.given_up = Some(begun.elapsed());
            return Err(trouble);
        }
        tracing::debug!(operation = trouble.operation(), code = trouble.code, ?wait, "trying again");
        match effort.stop {
            None => tokio::time::sleep(wait).await,
            Some(stop) => tokio::select! {
                biased;
                interrupted = stop.requested() => {
                    // What may have been made is found by the journal's unwinding.
                    trouble.class = Class::Stopped(interrupted.0);
                    return Err(trouble);
                }
                () = tokio::time::sleep(wait) => {}
            },
        }
        if trouble.class == Class::Lost
            && let Some(found) = look().await?
        {
            return Ok(found);
        }
    }
}
