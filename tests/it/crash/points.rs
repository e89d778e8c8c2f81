//! The points of a bake, from recorded runs: each journal write and other step of the kernel's, each API call.

use std::collections::BTreeMap;

use serde_json::json;

use super::site::{GOOD_STEP, On, Site};

/// Makes a site, one like the other.
pub type Make<'m> = &'m (dyn Fn() -> Site + Sync);

/// A point of a bake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Point {
    /// The baking thread enters a system call for the `nth` time (from 1).
    Kernel { call: &'static str, nth: usize, about: String, lost: Lost },
    /// An API call is held, before it is carried out or after.
    Api { action: String, nth: usize, when: &'static str },
}

/// What a power cut takes of a line of the journal that was written and not yet synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    Nothing,
    Half,
    All,
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kernel { call, nth, about, lost } => {
                write!(f, "{call} {nth} ({about})")?;
                match lost {
                    Lost::Nothing => Ok(()),
                    Lost::Half => f.write_str(", the line torn"),
                    Lost::All => f.write_str(", the line lost"),
                }
            }
            Self::Api { action, nth, when } => write!(f, "{when} {action} {nth}"),
        }
    }
}

/// The system calls of the baking thread that points are made of.
const CALLS: [&str; 7] = ["fdatasync", "fsync", "unlink", "rmdir", "mount", "umount2", "execve"];

/// What a recorded bake is to come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goes {
    Well,
    /// Its step fails, and all is undone.
    Wrong,
    /// An image of its name is there, and is replaced.
    Replaces,
}

impl Goes {
    pub fn prepare(self, site: &Site, name: &str) {
        site.write_recipe(if self == Self::Wrong { "exit 3" } else { GOOD_STEP });
        if self == Self::Replaces {
            site.add_old(name);
        }
    }

    fn record(self, site: &Site, through: &[&str]) {
        self.prepare(site, "recorded");
        let ended = site.bake(through, "recorded").wait();
        let wanted = if self == Self::Wrong { 9 } else { 0 };
        assert_eq!(ended.status.code(), Some(wanted), "{}", ended.told());
    }
}

/// The points of a bake that goes well, then those of one that goes wrong and of one that replaces an image, each
/// from where it differs.
pub fn all(make: Make<'_>, losses: bool) -> Vec<(Goes, Point)> {
    let on = make().on;
    let mut all = Vec::new();
    for points in
        [&(|goes| kernel(make, goes, losses)) as &dyn Fn(Goes) -> Vec<Point>, &|goes| api(make, goes)]
    {
        let well = points(Goes::Well);
        for goes in [Goes::Wrong, Goes::Replaces] {
            let other = points(goes);
            let alike = well.iter().zip(&other).take_while(|(well, other)| well == other).count();
            all.extend(other.into_iter().skip(alike).map(|point| (goes, point)));
        }
        all.extend(well.into_iter().map(|point| (Goes::Well, point)));
        if on == On::Local {
            break;
        }
    }
    all
}

/// The kernel's points of a bake, from a run under strace. `execve` is the first of all and left out.
fn kernel(make: Make<'_>, goes: Goes, losses: bool) -> Vec<Point> {
    let site = make();
    let trace = site.path("trace");
    let calls = format!("trace={},write", CALLS.join(","));
    goes.record(&site, &["strace", "-qq", "-y", "-s", "60", "-o", trace.to_str().unwrap(), "-e", &calls]);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut points = Vec::new();
    let mut line_of_journal = String::new();
    for line in std::fs::read_to_string(&trace).unwrap().lines() {
        let Some((call, rest)) = line.split_once('(') else { continue };
        if call == "write" && rest.contains(".journal>") {
            line_of_journal = said(rest);
        }
        let Some(call) = CALLS.iter().find(|known| **known == call && **known != "execve") else { continue };
        let nth = counts.entry(call).and_modify(|count| *count += 1).or_insert(1);
        let about = match *call {
            "fdatasync" => line_of_journal.clone(),
            _ => short(rest),
        };
        points.push(Point::Kernel { call, nth: *nth, about: about.clone(), lost: Lost::Nothing });
        if losses && *call == "fdatasync" {
            let lost = if (*nth).is_multiple_of(3) { Lost::Half } else { Lost::All };
            points.push(Point::Kernel { call, nth: *nth, about, lost });
        }
    }
    assert!(counts.contains_key("fdatasync"), "a bake's journal has lines: {counts:?}");
    points
}

/// `intend volume` of `12</x.journal>, "{\"line\":\"intend\",\"number\":0,\"thing\":{\"thing\":\"volume\"…`.
fn said(write: &str) -> String {
    let words: Vec<_> =
        write.split("\\\"").filter(|word| word.chars().all(|c| c.is_alphanumeric() || c == '-')).collect();
    let after = |key: &str| words.iter().rposition(|word| *word == key).and_then(|at| words.get(at + 1));
    let number = write.split_once("number\\\":").and_then(|(_, rest)| rest.chars().next());
    let what = [after("line"), after("thing"), after("key")]
        .into_iter()
        .flatten()
        .copied()
        .collect::<Vec<_>>()
        .join(" ");
    number.map_or(what.clone(), |number| format!("{what} {number}"))
}

/// The last part of the first path, without what differs from run to run.
fn short(rest: &str) -> String {
    let inner = rest.rsplit_once(')').map_or(rest, |(inner, _)| inner);
    let first = inner.split(", ").next().unwrap_or_default();
    let name = first.rsplit('/').next().unwrap_or_default().trim_end_matches(['>', '"']);
    let kinds = ["bake-", "disk-", "snap-", "img-", "loop"];
    let kind = kinds.iter().find(|kind| name.starts_with(**kind));
    kind.map_or(name, |kind| kind.trim_end_matches('-')).to_owned()
}

/// The API calls of a bake, from a run against the stand-in: action and which of its kind.
pub fn calls(make: Make<'_>, goes: Goes) -> Vec<(String, usize)> {
    let site = make();
    site.ec2().clear_requests();
    goes.record(&site, &[]);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut calls = Vec::new();
    for request in site.ec2().requests() {
        let action = request["action"].as_str().unwrap();
        let nth = counts.entry(action.to_owned()).and_modify(|count| *count += 1).or_insert(1);
        calls.push((action.to_owned(), *nth));
    }
    for action in ["AttachVolume", "DetachVolume"] {
        assert!(counts.contains_key(action), "{counts:?}");
    }
    calls
}

/// Both sides of every API call of a bake; of one to the metadata service, which changes nothing, the first.
fn api(make: Make<'_>, goes: Goes) -> Vec<Point> {
    let mut points = Vec::new();
    for (action, nth) in calls(make, goes) {
        let sides: &[&'static str] =
            if action.starts_with("IMDS") { &["before"] } else { &["before", "after"] };
        points.extend(sides.iter().map(|when| Point::Api { action: action.clone(), nth, when }));
    }
    points
}

/// The fault that holds a point's call.
pub fn hold(action: &str, nth: usize, when: &str) -> serde_json::Value {
    json!({"action": action, "kind": "hold", "on": nth, "when": when})
}
