//! The watcher on a clock of its own: no network, no real time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use tokio::sync::watch;

use super::super::explain::{Class, Trouble};
use super::*;
use crate::error::{Kind, kind_of};

/// A clock that moves to the next sleeper's time whenever nothing else is left to do.
#[derive(Clone)]
struct FakeClock {
    now: Arc<watch::Sender<Duration>>,
    sleepers: Arc<Mutex<Vec<Duration>>>,
}

#[async_trait]
impl Clock for FakeClock {
    fn now(&self) -> Duration {
        *self.now.borrow()
    }

    async fn sleep_until(&self, at: Duration) {
        self.sleepers.lock().unwrap().push(at);
        self.now.subscribe().wait_for(|now| *now >= at).await.unwrap();
    }
}

impl FakeClock {
    fn new() -> Self {
        Self { now: Arc::new(watch::Sender::new(Duration::ZERO)), sleepers: Arc::default() }
    }

    /// Runs `work` while moving the clock.
    async fn drive<T>(&self, work: impl Future<Output = T>) -> T {
        let moving = async {
            loop {
                // Everything runs on this one thread, so enough turns let all else come to rest.
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                let mut sleepers = self.sleepers.lock().unwrap();
                let now = self.now();
                sleepers.retain(|at| *at > now);
                if let Some(next) = sleepers.iter().min() {
                    self.now.send_replace(*next);
                }
            }
        };
        tokio::select! { value = work => value, () = moving => unreachable!() }
    }
}

type Script = Box<dyn Fn(Duration, &str) -> Result<Option<Seen>, Class> + Send + Sync>;

/// Answers from a script of time and id, and writes down each call.
struct FakeLook {
    clock: FakeClock,
    script: Script,
    calls: Made,
}

#[async_trait]
impl Look for FakeLook {
    async fn look(&self, _: Sort, ids: &[String]) -> Result<BTreeMap<String, Seen>, Trouble> {
        let now = self.clock.now();
        self.calls.lock().unwrap().push((now, ids.to_vec()));
        tokio::task::yield_now().await;
        let mut all = BTreeMap::new();
        for id in ids {
            match (self.script)(now, id) {
                Ok(Some(seen)) => drop(all.insert(id.clone(), seen)),
                Ok(None) => {}
                Err(class) => return Err(trouble(class)),
            }
        }
        Ok(all)
    }
}

fn trouble(class: Class) -> Trouble {
    Trouble {
        action: "ec2:DescribeVolumes",
        region: "eu-central-1".into(),
        class,
        code: Some(
            if class == Class::Final { "UnauthorizedOperation" } else { "RequestLimitExceeded" }.into(),
        ),
        message: "no".into(),
        given_up: None,
        unsure: false,
    }
}

fn state(state: &str) -> Option<Seen> {
    Some(Seen { state: state.into(), ..Seen::default() })
}

fn available(seen: &Seen) -> Verdict {
    match seen.state.as_str() {
        "available" => Verdict::Done,
        "error" => Verdict::Failed(Failure::new(Kind::Cloud, "the volume is in error")),
        other => Verdict::Wait(other.to_owned()),
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const PATIENCE: Patience = Patience { first: ms(1000), limit: ms(60_000), visible: ms(20_000) };

type Made = Arc<Mutex<Vec<(Duration, Vec<String>)>>>;

fn watcher(
    script: impl Fn(Duration, &str) -> Result<Option<Seen>, Class> + Send + Sync + 'static,
) -> (Watcher, FakeClock, Made) {
    let clock = FakeClock::new();
    let calls = Made::default();
    let look = FakeLook { clock: clock.clone(), script: Box::new(script), calls: calls.clone() };
    (Watcher::new(Box::new(look), Box::new(clock.clone())), clock, calls)
}

#[tokio::test]
async fn the_first_look_waits_for_the_usual_time_then_every_tick() {
    let (watcher, clock, calls) =
        watcher(|now, _| Ok(state(if now >= ms(1600) { "available" } else { "creating" })));
    clock.drive(watcher.wait(Sort::Volume, "vol-1", PATIENCE, available)).await.unwrap();
    let times: Vec<_> = calls.lock().unwrap().iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(times, [1000, 1250, 1500, 1750]);
}

#[tokio::test]
async fn all_that_is_waited_for_shares_a_call() {
    let (watcher, clock, calls) = watcher(|now, id| {
        let ready = if id == "vol-1" { ms(1500) } else { ms(2000) };
        Ok(state(if now >= ready { "available" } else { "creating" }))
    });
    let all = async {
        let (a, b, c) = tokio::join!(
            watcher.wait(Sort::Volume, "vol-1", PATIENCE, available),
            watcher.wait(Sort::Volume, "vol-2", PATIENCE, available),
            watcher.wait(Sort::Volume, "vol-3", Patience { first: ms(1100), ..PATIENCE }, available),
        );
        a.and(b).and(c)
    };
    clock.drive(all).await.unwrap();
    let calls = calls.lock().unwrap();
    let times: Vec<_> = calls.iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(times, [1000, 1250, 1500, 1750, 2000], "one call a tick, not one a waiter");
    assert_eq!(calls[0].1, ["vol-1", "vol-2", "vol-3"]);
    assert_eq!(calls[4].1, ["vol-2", "vol-3"], "who is done is not asked for any more");
}

#[tokio::test]
async fn a_resource_just_made_may_be_unseen_for_a_while_but_not_for_ever() {
    let (watcher, clock, _) = watcher(|now, _| Ok(if now < ms(15_000) { None } else { state("available") }));
    clock.drive(watcher.wait(Sort::Volume, "vol-1", PATIENCE, available)).await.unwrap();

    let (watcher, clock, _) = self::watcher(|_, _| Ok(None));
    let error = clock.drive(watcher.wait(Sort::Volume, "vol-1", PATIENCE, available)).await.unwrap_err();
    assert!(error.to_string().contains("vol-1 is not there"), "{error}");
    assert!(clock.now() < ms(21_500), "{:?}", clock.now());
}

#[tokio::test]
async fn throttling_backs_off_and_goes_on() {
    let (watcher, clock, calls) =
        watcher(|now, _| if now < ms(9_000) { Err(Class::Throttled) } else { Ok(state("available")) });
    clock.drive(watcher.wait(Sort::Volume, "vol-1", PATIENCE, available)).await.unwrap();
    assert!(calls.lock().unwrap().len() < 30, "a call every tick would make 33");
}

#[tokio::test]
async fn throttling_past_the_deadline_is_a_failure_that_says_so() {
    let (watcher, clock, _) = watcher(|_, _| Err(Class::Throttled));
    let error = clock.drive(watcher.wait(Sort::Volume, "vol-1", PATIENCE, available)).await.unwrap_err();
    assert_eq!(kind_of(&error), Kind::Cloud);
    assert!(error.to_string().contains("RequestLimitExceeded") && error.to_string().contains("given up"));
}

#[tokio::test]
async fn a_final_state_ends_the_wait_at_once() {
    let (watcher, clock, calls) = watcher(|_, _| Ok(state("error")));
    let error = clock.drive(watcher.wait(Sort::Volume, "vol-1", PATIENCE, available)).await.unwrap_err();
    assert_eq!(error.to_string(), "the volume is in error");
    assert_eq!(calls.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_refused_call_ends_the_wait_at_once() {
    let (watcher, clock, _) = watcher(|_, _| Err(Class::Final));
    let error = clock.drive(watcher.wait(Sort::Volume, "vol-1", PATIENCE, available)).await.unwrap_err();
    assert_eq!(kind_of(&error), Kind::Access);
}

#[tokio::test]
async fn the_deadline_says_what_was_seen_last() {
    let (watcher, clock, _) = watcher(|_, _| Ok(state("attaching")));
    let error = clock.drive(watcher.wait(Sort::Volume, "vol-1", PATIENCE, available)).await.unwrap_err();
    assert_eq!(error.to_string(), "volume vol-1 is still attaching after 60 s");
}

#[tokio::test]
async fn a_wait_that_is_dropped_is_not_asked_for_any_more() {
    let (watcher, clock, calls) =
        watcher(|now, _| Ok(state(if now >= ms(2000) { "available" } else { "creating" })));
    let all = async {
        let short = async {
            tokio::select! {
                _ = watcher.wait(Sort::Volume, "vol-1", PATIENCE, available) => unreachable!(),
                () = clock.sleep_until(ms(1300)) => {}
            }
        };
        tokio::join!(short, watcher.wait(Sort::Volume, "vol-2", PATIENCE, available)).1
    };
    clock.drive(all).await.unwrap();
    let calls = calls.lock().unwrap();
    assert_eq!(calls.first().unwrap().1, ["vol-1", "vol-2"]);
    assert_eq!(calls.last().unwrap().1, ["vol-2"]);
}
