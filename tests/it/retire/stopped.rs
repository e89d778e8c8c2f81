//! A signal is heard by what looks after images too: what is under way ends, nothing more is begun.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStderr, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::Shop;

/// `bakehouse` under way, one of its calls held by the stand-in.
struct Held {
    /// What ends it when it takes too long.
    keeper: Child,
    itself: Pid,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Held {
    fn at(shop: &Shop, action: &str, arguments: &[&str]) -> Self {
        shop.standin.fault(json!({"action": action, "kind": "hold", "when": "after", "on": 1}));
        let mut command = shop.bakery.command(&["sh", "-c", "echo $$ >&2; exec \"$@\"", "sh"], arguments);
        let mut keeper = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(keeper.stderr.take().unwrap()).lines();
        let itself = Pid::from_raw(lines.next().unwrap().unwrap().parse().unwrap());
        assert_eq!(shop.standin.held(Duration::from_secs(120)).len(), 1, "{action} of {arguments:?}");
        Self { keeper, itself, lines }
    }

    /// Sends a first signal and waits until it was heard.
    fn signal(&mut self, signal: Signal) {
        kill(self.itself, signal).unwrap();
        assert!(self.lines.by_ref().any(|line| line.unwrap().contains("stopping: ")));
    }

    /// Its status, and what it still said.
    fn end(mut self) -> (Option<i32>, String) {
        let said: Vec<_> = self.lines.by_ref().map_while(Result::ok).collect();
        (self.keeper.wait().unwrap().code(), said.join("\n"))
    }
}

#[test]
fn prune_takes_no_further_image_out_of_use() {
    let Some(shop) = Shop::open() else { return };
    shop.image("web-2", 20, json!({}));
    shop.image("web-1", 30, json!({}));
    let run = ["prune", "--name", "web-*", "--keep", "0", "--yes"];
    let mut held = Held::at(&shop, "DeregisterImage", &run);
    held.signal(Signal::SIGTERM);
    shop.standin.release(false);
    let (status, said) = held.end();
    assert_eq!(status, Some(143), "{said}");
    assert!(said.contains("stopped by SIGTERM"), "{said}");
    assert_eq!((shop.images(), shop.snapshots().len()), (vec!["web-1".to_owned()], 1), "{said}");
    shop.standin.clear_faults();
    shop.bakery.bakehouse(&run).good();
    assert_eq!(shop.images().len(), 0);
    shop.standin.stop();
}

#[test]
fn gc_releases_nothing_further() {
    let Some(shop) = Shop::open() else { return };
    for name in ["web-2", "web-1"] {
        let (image, _) = shop.image(name, 20, json!({}));
        shop.standin.forget_image(&image);
    }
    let run = ["gc", "--all", "--yes"];
    let mut held = Held::at(&shop, "DeleteSnapshot", &run);
    held.signal(Signal::SIGINT);
    shop.standin.release(false);
    let (status, said) = held.end();
    assert_eq!(status, Some(130), "{said}");
    assert_eq!(shop.snapshots().len(), 1, "{said}");
    shop.standin.clear_faults();
    shop.bakery.bakehouse(&run).good();
    assert_eq!(shop.snapshots().len(), 0);
    shop.standin.stop();
}

#[test]
fn what_only_asks_waits_for_no_answer() {
    let Some(shop) = Shop::open() else { return };
    let (image, _) = shop.image("web-1", 20, json!({}));
    for run in [
        &["images"][..],
        &["images", "show", &image],
        &["prune", "--name", "web-*", "--keep", "0", "--yes"],
        &["doctor"],
        &["bake", "--base", &image, "--name", "new", "--dry-run", "hello"],
    ] {
        let held = Held::at(&shop, "DescribeImages", run);
        // It may have ended before it has said that it is stopping.
        kill(held.itself, Signal::SIGTERM).unwrap();
        let (status, said) = held.end();
        assert_eq!(status, Some(143), "{run:?}: {said}");
        assert!(said.contains("stopped by SIGTERM"), "{run:?}: {said}");
        shop.standin.clear_faults();
        shop.standin.release(true);
        while !shop.standin.held(Duration::ZERO).is_empty() {
            std::thread::yield_now();
        }
    }
    assert_eq!(shop.images(), ["web-1"]);
    shop.standin.stop();
}

#[test]
fn a_second_signal_ends_it_whatever_it_waits_for() {
    let Some(shop) = Shop::open() else { return };
    shop.image("web-1", 20, json!({}));
    let mut held = Held::at(&shop, "DeregisterImage", &["prune", "--name", "web-*", "--keep", "0", "--yes"]);
    held.signal(Signal::SIGTERM);
    kill(held.itself, Signal::SIGINT).unwrap();
    let (status, said) = held.end();
    assert_eq!(status, Some(143), "{said}");
    assert!(said.contains("as a second signal asked"), "{said}");
    shop.standin.release(true);
    shop.standin.stop();
}
