//! Trying a call again: full jitter between tries, one deadline over all of them.
//!
//! The SDK's own retries are off. It cannot know that a second CreateSnapshot after a lost reply makes a second
//! snapshot; here a lost reply is looked up before the call is made again.

use std::time::Duration;

use tokio::time::Instant;

use super::decode_authorization_message::Decoder;
use super::explain::{Class, Trouble};
use crate::stop::Stop;

/// Waits between tries are drawn evenly from 0 to BASE doubled with each try, but no more than CAP.
const BASE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 250 });
const CAP: Duration = Duration::from_secs(8);

/// What a call may take, and who may end it early.
#[derive(Clone, Copy)]
pub(super) struct Effort<'a> {
    /// The deadline over all tries.
    pub limit: Duration,
    /// How many times a call is made whose reply was lost or whose endpoint does not answer.
    pub tries: u32,
    /// For how long what was just made may be unknown to the call that needs it.
    pub visible: Duration,
    /// Heard between tries, never during one: a call in flight is waited for, so that its result is known.
    pub stop: Option<&'a Stop>,
    /// Explains a refusal, once it is final.
    pub decoder: Option<&'a Decoder>,
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
    let (mut tries, mut failed, mut unsure) = (0, 0, false);
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
            Class::Unseen if begun.elapsed() < effort.visible => {}
            Class::Lost | Class::Early if failed + 1 < effort.tries => failed += 1,
            Class::Lost | Class::Early | Class::Unseen | Class::Final | Class::Stopped(_) => {
                if trouble.class == Class::Lost {
                    if let Some(found) = look().await? {
                        return Ok(found);
                    }
                    trouble.given_up = Some(begun.elapsed());
                }
                return Err(match effort.decoder {
                    Some(decoder) if trouble.refused() => decoder.explained(trouble).await,
                    _ => trouble,
                });
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

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    const EFFORT: Effort<'_> = Effort {
        limit: Duration::from_secs(60),
        tries: 6,
        visible: Duration::from_secs(60),
        stop: None,
        decoder: None,
    };

    fn trouble(class: Class) -> Trouble {
        Trouble {
            action: "ec2:CreateSnapshot",
            region: "eu-central-1".into(),
            class,
            code: None,
            message: String::new(),
            given_up: None,
            unsure: class == Class::Lost,
        }
    }

    /// Makes a call that answers what `answers` says, one after the other, then "made".
    async fn make(
        effort: Effort<'_>,
        answers: &[Class],
        found_at: Option<u32>,
    ) -> (Result<&'static str, Trouble>, u32, u32) {
        let answers = RefCell::new(answers.iter());
        let (calls, looks) = (Cell::new(0), Cell::new(0));
        let call = || {
            calls.set(calls.get() + 1);
            let answer = answers.borrow_mut().next().map_or(Ok("made"), |class| Err(trouble(*class)));
            async { answer }
        };
        let look = || {
            looks.set(looks.get() + 1);
            let found = found_at.is_some_and(|at| looks.get() >= at).then_some("found");
            async move { Ok(found) }
        };
        let result = insist_looking(effort, call, look).await;
        (result, calls.get(), looks.get())
    }

    #[tokio::test]
    async fn a_throttled_call_is_made_again_without_looking() {
        let (made, calls, looks) = make(EFFORT, &[Class::Throttled; 3], None).await;
        assert_eq!((made.unwrap(), calls, looks), ("made", 4, 0));
    }

    #[tokio::test]
    async fn what_a_lost_reply_made_is_found_before_it_is_made_again() {
        let (made, calls, looks) = make(EFFORT, &[Class::Lost], Some(1)).await;
        assert_eq!((made.unwrap(), calls, looks), ("found", 1, 1));
        let (made, calls, looks) = make(EFFORT, &[Class::Lost], None).await;
        assert_eq!((made.unwrap(), calls, looks), ("made", 2, 1));
    }

    #[tokio::test]
    async fn a_call_that_came_too_early_is_made_a_few_times_without_looking() {
        let (made, calls, looks) = make(EFFORT, &[Class::Early; 2], None).await;
        assert_eq!((made.unwrap(), calls, looks), ("made", 3, 0));
        let (made, calls, _) = make(EFFORT, &[Class::Early; 20], None).await;
        assert_eq!(calls, EFFORT.tries);
        assert!(!made.unwrap_err().unsure, "it had no effect");
    }

    #[tokio::test]
    async fn what_was_just_made_is_awaited_for_as_long_as_it_may_be_unknown() {
        let effort = Effort { limit: Duration::from_secs(3600), ..EFFORT };
        let answers = [Class::Unseen; 9];
        let (made, calls, looks) = make(effort, &answers, None).await;
        assert_eq!((made.unwrap(), calls, looks), ("made", 10, 0), "more often than a lost call is tried");
        let effort = Effort { visible: Duration::ZERO, ..effort };
        let (made, calls, _) = make(effort, &answers, None).await;
        let trouble = made.unwrap_err();
        assert_eq!((trouble.class, calls), (Class::Unseen, 1));
        assert!(!trouble.unsure, "it had no effect");
    }

    #[tokio::test]
    async fn a_call_that_is_lost_each_time_is_given_up_and_leaves_doubt() {
        let (made, calls, _) = make(EFFORT, &[Class::Lost; 20], None).await;
        let trouble = made.unwrap_err();
        assert_eq!(calls, EFFORT.tries);
        assert!(trouble.unsure && trouble.given_up.is_some());
    }

    #[tokio::test]
    async fn doubt_outlives_a_final_answer() {
        let (made, calls, _) = make(EFFORT, &[Class::Lost, Class::Final], None).await;
        assert_eq!(calls, 2);
        assert!(made.unwrap_err().unsure, "the first call may have had its effect");
        let (made, ..) = make(EFFORT, &[Class::Throttled, Class::Final], None).await;
        assert!(!made.unwrap_err().unsure);
    }

    #[tokio::test]
    async fn throttling_past_the_deadline_is_given_up() {
        let effort = Effort { limit: Duration::from_millis(20), ..EFFORT };
        let (made, ..) = make(effort, &[Class::Throttled; 1000], None).await;
        assert!(made.unwrap_err().given_up.is_some());
    }

    #[tokio::test]
    async fn a_request_to_stop_ends_the_tries_but_not_a_call() {
        let stop = Stop::default();
        stop.raise(15);
        let (made, calls, _) = make(Effort { stop: Some(&stop), ..EFFORT }, &[Class::Throttled], None).await;
        assert_eq!((made.unwrap_err().class, calls), (Class::Stopped(15), 1));
        let (made, ..) = make(Effort { stop: Some(&stop), ..EFFORT }, &[], None).await;
        assert_eq!(made.unwrap(), "made", "a call that went well is not thrown away");
    }
}
