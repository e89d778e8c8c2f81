//! The matrix: at every point of a bake, kill -9 and a sweep, or SIGTERM and none.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::points::{self, Goes, Lost, Point};
use super::site::{Ended, NEEDED, On, Running, Site, Stands};
use super::table::Table;
use crate::support::host::has;

/// Works through `work` with some sites at once; one where something went wrong is not used again.
pub fn with_sites<T: Send>(
    make: points::Make<'_>,
    at_once: usize,
    work: Vec<T>,
    each: impl Fn(&Site, usize, &T) -> bool + Sync,
) {
    let queue: Mutex<VecDeque<(usize, T)>> = Mutex::new(work.into_iter().enumerate().collect());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                let mut site = None;
                loop {
                    let next = queue.lock().unwrap().pop_front();
                    let Some((number, next)) = next else { break };
                    let used = site.take().unwrap_or_else(make);
                    if each(&used, number, &next) {
                        site = Some(used);
                    }
                }
            });
        }
    });
}

/// How a bake is ended at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Kill,
    Term,
}

#[test]
fn killed_at_every_point_and_swept_on_the_local_store() {
    matrix(On::Local, Ending::Kill, "local, kill -9 and gc");
}

#[test]
fn killed_at_every_point_and_swept_on_ec2() {
    matrix(On::Ec2, Ending::Kill, "ec2, kill -9 and gc");
}

#[test]
fn stopped_at_every_point_on_the_local_store() {
    matrix(On::Local, Ending::Term, "local, SIGTERM");
}

#[test]
fn stopped_at_every_point_on_ec2() {
    matrix(On::Ec2, Ending::Term, "ec2, SIGTERM");
}

fn matrix(on: On, ending: Ending, name: &str) {
    matrix_of(&|| Site::new(on), ending, name);
}

/// The matrix of bakes on sites that are made so.
pub fn matrix_of(make: points::Make<'_>, ending: Ending, name: &str) {
    matrix_at(make, ending, name, |_, _| true);
}

/// The same at those points alone that `wanted` says.
pub fn matrix_at(make: points::Make<'_>, ending: Ending, name: &str, wanted: impl Fn(Goes, &Point) -> bool) {
    if !has(NEEDED) {
        return;
    }
    let mut all = points::all(make, ending == Ending::Kill);
    all.retain(|(goes, point)| wanted(*goes, point));
    let table = Table::default();
    with_sites(make, 4, all, |site, number, (goes, point)| {
        let name = format!("point-{number}");
        goes.prepare(site, &name);
        let outcome = match ending {
            Ending::Kill => killed(site, point, &name),
            Ending::Term => stopped(site, *goes, point, &name),
        };
        let fine = outcome.is_ok();
        let group = match point {
            _ if *goes == Goes::Wrong => "each of these while a failed bake is undone",
            _ if *goes == Goes::Replaces => "each of these while an image is replaced",
            Point::Kernel { call: "fdatasync", lost: Lost::Nothing, .. } => {
                "each line of the journal, written"
            }
            Point::Kernel { call: "fdatasync", .. } => {
                "each line of the journal, lost or torn by a power cut"
            }
            Point::Kernel { .. } => "each sync, mount, unmount and removal",
            Point::Api { when: "before", .. } => "each API call, before it is carried out",
            Point::Api { .. } => "each API call, after it was carried out",
        };
        table.add(group, &point.to_string(), outcome.map(str::to_owned));
        fine
    });
    table.end(name);
}

/// Runs a bake until it is at a point, or over.
fn reach(site: &Site, point: &Point, signal: &str, name: &str) -> (Running, bool) {
    match point {
        Point::Kernel { call, nth, .. } => {
            let trace = format!("trace={call}");
            let inject = format!("inject={call}:signal={signal}:when={nth}");
            (site.bake(&["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject], name), false)
        }
        Point::Api { action, nth, when } => {
            site.ec2().fault(points::hold(action, *nth, when));
            let mut running = site.bake(&[], name);
            loop {
                if !site.ec2().held(Duration::from_millis(100)).is_empty() {
                    return (running, true);
                }
                if running.is_over() {
                    return (running, false);
                }
            }
        }
    }
}

fn killed(site: &Site, point: &Point, name: &str) -> Result<&'static str, String> {
    let (running, held) = reach(site, point, "SIGKILL", name);
    if held {
        running.signal(Signal::SIGKILL);
    }
    let ended = running.wait();
    if let Some(standin) = &site.standin {
        standin.release(true);
        standin.clear_faults();
    }
    if !ended.was_killed() {
        return not_reached(site, point, &ended, name);
    }
    if let Point::Kernel { lost, .. } = point {
        lose(site, *lost);
    }
    site.settle()?;
    let before = site.inventory();
    let shown = site.gc(&[])?;
    let after = site.inventory();
    if before != after {
        return Err(format!("a dry run changed something: {before:#?} to {after:#?}"));
    }
    let done = site.gc(&["--yes"])?;
    if shown.len() != done.len() {
        return Err(format!("shown {shown:#?}, done {done:#?}"));
    }
    match site.stands(name).map_err(|left| format!("{left}\n{}\ngc: {done:#?}", ended.told()))? {
        Stands::Nothing => Ok("nothing remains"),
        Stands::Image => Ok("the image is complete"),
        Stands::Old => Ok("the old image stands"),
    }
}

/// Takes of the journal's last line what a power cut may take of it.
fn lose(site: &Site, lost: Lost) {
    let journals = site.journals();
    let ([journal], true) = (journals.as_slice(), lost != Lost::Nothing) else { return };
    let text = std::fs::read_to_string(journal).unwrap();
    let begin = text.trim_end().rfind('\n').map_or(0, |at| at + 1);
    let keep = if lost == Lost::Half { begin + (text.len() - begin) / 2 } else { begin };
    std::fs::OpenOptions::new().write(true).open(journal).unwrap().set_len(keep as u64).unwrap();
}

fn stopped(site: &Site, goes: Goes, point: &Point, name: &str) -> Result<&'static str, String> {
    let (mut running, held) = reach(site, point, "SIGTERM", name);
    if held {
        running.signal(Signal::SIGTERM);
        // The call in flight is waited for.
        running.until_said("stopping: ");
        site.ec2().release(false);
    }
    let ended = running.wait();
    if let Some(standin) = &site.standin {
        standin.clear_faults();
    }
    site.settle()?;
    let stands = site.stands(name).map_err(|left| format!("{left}\n{}", ended.told()))?;
    match (ended.status.code(), stands) {
        (Some(143), Stands::Nothing) => {
            ended.is_clear_failure()?;
            Ok("nothing remains")
        }
        (Some(143), Stands::Old) => {
            ended.is_clear_failure()?;
            Ok("the old image stands")
        }
        (None, Stands::Old) if ended.err.is_empty() => Ok("the old image stands"),
        // Before it listens to signals there is nothing to undo; a shell says 143 as well.
        (None, Stands::Nothing) if ended.err.is_empty() => Ok("nothing remains"),
        // The step had failed before: the first error stays the one that is reported.
        (Some(9), Stands::Nothing) if goes == Goes::Wrong => {
            ended.is_clear_failure()?;
            Ok("nothing remains")
        }
        // It came too late: the image stood.
        (Some(0), Stands::Image) => Ok("the image is complete"),
        (_, stands) => Err(format!("{stands:?}, {}", ended.told())),
    }
}

/// A poll more or less is no matter, nor that a device was flushed once more; anything else must be reached.
fn not_reached(site: &Site, point: &Point, ended: &Ended, name: &str) -> Result<&'static str, String> {
    let varies = match point {
        Point::Api { action, .. } => action.starts_with("Describe"),
        Point::Kernel { call, .. } => *call == "fsync",
    };
    if !varies || !matches!(ended.status.code(), Some(0 | 9)) {
        return Err(format!("not reached: {}", ended.told()));
    }
    match site.stands(name)? {
        Stands::Nothing if ended.status.code() == Some(9) => Ok("not needed this time"),
        Stands::Image => Ok("not needed this time"),
        Stands::Nothing | Stands::Old => Err(format!("no image: {}", ended.told())),
    }
}

/// Kills a bake at a call, which it must reach; nothing of it runs any more then.
#[track_caller]
pub fn kill_at(site: &Site, action: &str, when: &'static str, name: &str) {
    let point = Point::Api { action: action.to_owned(), nth: 1, when };
    let (running, held) = reach(site, &point, "SIGKILL", name);
    assert!(held, "{point}: {}", running.wait().told());
    running.signal(Signal::SIGKILL);
    assert!(running.wait().was_killed());
    site.ec2().release(true);
    site.ec2().clear_faults();
    site.settle().unwrap();
}
