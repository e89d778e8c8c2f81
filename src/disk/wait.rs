//! Waiting for what the kernel tells nobody about: short polls up to a deadline, never a fixed sleep.

use std::time::{Duration, Instant};

use anyhow::Result;

/// How long to wait for other users of a device to let go: udev's probes, a namespace being torn down.
pub(super) const SETTLE: Duration = Duration::from_secs(5);

/// How long to wait for a device that somebody has claimed when it is to be mounted. Seen to last for more than
/// five seconds on a host with many bakes at once.
pub(super) const CLAIMED: Duration = Duration::from_secs(30);

/// How long to wait for a busy mount: what holds it is in our own mount namespace, and seldom on its way out.
pub(super) const BUSY: Duration = Duration::from_secs(2);

/// Asks `look` until it has an answer or the time is over. It is asked at least once.
pub(super) fn until<T>(at_most: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(answer) = look()? {
            return Ok(Some(answer));
        }
        let left = at_most.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(25));
    }
}
