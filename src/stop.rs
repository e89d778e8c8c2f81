//! The request to stop: raised by a signal, heard by everything that waits.
//!
//! A first signal ends the current step and unwinds as a failure does. A second one stops waiting for the
//! cloud and leaves the rest to the journal.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::sync::watch;

use crate::error::Interrupted;

/// timeout(1) sends a signal to its child and then to its own group, in which the child is; sudo and a terminal may
/// both pass one on. So what comes again within this time was sent once.
const ONCE: Duration = Duration::from_millis(500);
/// How often a lock is asked for that somebody else has.
const LOOK: Duration = Duration::from_millis(50);

/// How many signals came from people, and which was the first of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    first: Option<i32>,
    count: u32,
    /// The last that counted, and when it came.
    counted: Option<(i32, Instant)>,
}

/// A handle on the request to stop. Clones share it.
#[derive(Debug, Clone)]
pub struct Stop(Arc<watch::Sender<State>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }
}

impl Stop {
    /// Raises the request; the second signal that a person sends raises [`Stop::hurried`] too. A terminal or a
    /// pipe that goes away does not: it comes along with a person's signal, or twice.
    pub fn raise(&self, signal: i32) {
        self.raise_at(signal, Instant::now());
    }

    fn raise_at(&self, signal: i32, now: Instant) {
        self.0.send_modify(|state| {
            state.first.get_or_insert(signal);
            let is_again = state
                .counted
                .is_some_and(|(last, at)| last == signal && now.saturating_duration_since(at) < ONCE);
            if !matches!(signal, libc::SIGHUP | libc::SIGPIPE) && !is_again {
                state.count += 1;
                state.counted = Some((signal, now));
            }
        });
    }

    /// The signal that asked, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.0.borrow().first
    }

    /// # Errors
    /// [`Interrupted`] when stopping was asked for.
    pub fn check(&self) -> Result<()> {
        self.signal().map_or(Ok(()), |signal| Err(Interrupted(signal).into()))
    }

    /// Locks a file once nobody else has it locked, however long that takes. Blocking. `how` is one of the ways that do
    /// not wait: it is asked for again and again, since a lock that is waited for hears no request to stop. `waits` is
    /// called once where somebody else has it.
    ///
    /// # Errors
    /// [`Interrupted`] when stopping was asked for; what keeps the file from being locked.
    pub fn lock(&self, mut file: File, how: FlockArg, waits: &mut dyn FnMut()) -> Result<Flock<File>> {
        let mut first = true;
        loop {
            file = match Flock::lock(file, how) {
                Ok(lock) => return Ok(lock),
                Err((file, Errno::EWOULDBLOCK)) => file,
                Err((_, errno)) => return Err(errno.into()),
            };
            if std::mem::take(&mut first) {
                waits();
            }
            self.check()?;
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until stopping is asked for.
    pub async fn requested(&self) -> Interrupted {
        self.wait_for(|state| state.first.is_some()).await
    }

    /// Waits until stopping is asked for a second time.
    pub async fn hurried(&self) -> Interrupted {
        self.wait_for(|state| state.count >= 2).await
    }

    async fn wait_for(&self, met: impl Fn(&State) -> bool) -> Interrupted {
        let mut receiver = self.0.subscribe();
        // Not held across an await: what waits must be free to move between threads.
        let heard = receiver.wait_for(|state| met(state)).await.map(|state| state.first);
        match heard {
            Ok(first) => Interrupted(first.unwrap_or(libc::SIGTERM)),
            // `self` holds the sender, so the channel cannot close while this waits.
            Err(_) => std::future::pending().await,
        }
    }

    /// Runs `work` until it ends or stopping is asked for, whichever is first.
    ///
    /// # Errors
    /// Those of `work`, or [`Interrupted`]. `work` is dropped then: it must be safe to drop.
    pub async fn race<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            interrupted = self.requested() => Err(interrupted.into()),
            result = work => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_signals_of_people_hurry_and_a_lost_terminal_does_not() {
        let stop = Stop::default();
        for signal in [libc::SIGPIPE, libc::SIGHUP, libc::SIGINT, libc::SIGHUP] {
            stop.raise(signal);
            assert_eq!(stop.requested().await, Interrupted(libc::SIGPIPE));
        }
        let hurried = tokio::time::timeout(Duration::from_millis(1), stop.hurried()).await;
        assert!(hurried.is_err());
        stop.raise(libc::SIGTERM);
        assert_eq!(stop.hurried().await, Interrupted(libc::SIGPIPE));
    }

    #[tokio::test]
    async fn a_signal_that_comes_again_at_once_was_sent_once() {
        let (stop, now) = (Stop::default(), Instant::now());
        stop.raise_at(libc::SIGTERM, now);
        stop.raise_at(libc::SIGTERM, now + ONCE / 2);
        let hurried = tokio::time::timeout(Duration::from_millis(1), stop.hurried()).await;
        assert!(hurried.is_err());
        stop.raise_at(libc::SIGTERM, now + ONCE);
        assert_eq!(stop.hurried().await, Interrupted(libc::SIGTERM));
    }
}
