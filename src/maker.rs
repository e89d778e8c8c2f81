//! Which process made something of the kernel's that may outlive it, as a part of the thing's name.

use std::fs;
use std::time::Duration;

/// A process, named for good by its PID and when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maker {
    pid: u32,
    /// In ticks since boot.
    since: u64,
}

/// What userspace is told of time is counted in these, on every architecture that there are builders of (USER_HZ).
const TICKS_PER_SECOND: u64 = 100;

impl Maker {
    /// This process.
    pub fn own() -> Self {
        let pid = std::process::id();
        Self { pid, since: start_time(pid).unwrap_or(0) }
    }

    /// That which such a text begins with: `PID-START`, and more behind another dash.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '-');
        Some(Self { pid: parts.next()?.parse().ok()?, since: parts.next()?.parse().ok()? })
    }

    /// Whether it has ended. One of a container that counts its processes itself seems to have.
    pub fn is_over(&self) -> bool {
        start_time(self.pid) != Some(self.since)
    }

    /// How long ago it started; none where that cannot be told.
    pub fn age(&self) -> Option<Duration> {
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let seconds: u64 = uptime.split('.').next()?.parse().ok()?;
        Some(Duration::from_secs(seconds.checked_sub(self.since / TICKS_PER_SECOND)?))
    }
}

impl std::fmt::Display for Maker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.pid, self.since)
    }
}

/// When a process started, in ticks since boot: (proc(5), field 22).
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    start_time_in(&stat)
}

/// That of a process whose stat (proc(5)) this is; of one that is dead and was only not waited for yet, none.
fn start_time_in(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X" | "x");
    if is_dead { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maker_is_read_back_from_a_name() {
        let own = Maker::own();
        for name in [own.to_string(), format!("{own}-and-more")] {
            assert_eq!(Maker::read(&name), Some(own), "{name}");
        }
        assert!(!own.is_over() && own.age().is_some());
        assert!(Maker { since: own.since + 1, ..own }.is_over(), "another one that has the number by now");
        assert_eq!(Maker::read("1-x"), None);
        assert_eq!(Maker::read("root"), None);
    }

    #[test]
    fn a_process_has_a_start_time() {
        assert!(start_time(std::process::id()).is_some_and(|time| time > 0));
    }

    /// Whoever is to wait for a helper that was killed may be slow: its cgroup is nobody's already.
    #[test]
    fn a_process_that_is_dead_has_none_even_before_it_is_waited_for() {
        let stat =
            |state: &str| format!("7 (a ) b) {state} 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0 rest\n");
        assert_eq!(start_time_in(&stat("S")), Some(4711));
        assert_eq!(start_time_in(&stat("Z")), None);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let (pid, until) = (child.id(), std::time::Instant::now() + std::time::Duration::from_secs(20));
        while start_time(pid).is_some() {
            assert!(std::time::Instant::now() < until, "it is over and not waited for");
            std::thread::yield_now();
        }
        assert!(fs::exists(format!("/proc/{pid}")).unwrap());
        assert!(child.wait().unwrap().success());
    }
}
