//! Each fault of EC2 at each call where it can happen: the bake succeeds or fails with a clear error, and
//! nothing remains; what a fault that lasts keeps it from releasing is in its journal, and `gc` releases it.

use serde_json::{Value, json};

use super::kill::with_sites;
use super::points::{self, Goes};
use super::site::{NEEDED, On, Site, Stands};
use super::table::Table;
use crate::support::host::has;

/// A fault at a call of a bake.
struct Case {
    goes: Goes,
    group: &'static str,
    fault: Value,
}

/// The calls that change something.
const EFFECTS: [&str; 8] = [
    "CreateVolume",
    "AttachVolume",
    "DetachVolume",
    "DeleteVolume",
    "CreateSnapshot",
    "RegisterImage",
    "DeregisterImage",
    "DeleteSnapshot",
];

/// Deadlines for faults that last.
const SHORT: [&str; 7] =
    ["attempt=2s", "call=5s", "volume=3s", "attachment=3s", "snapshot=3s", "image=3s", "visible=3s"];

/// Those of a bake that goes well, and those of one that replaces an image from where it does more.
fn cases() -> Vec<Case> {
    let well = points::calls(&|| Site::new(On::Ec2), Goes::Well);
    let more = points::calls(&|| Site::new(On::Ec2), Goes::Replaces);
    let mut cases = cases_of(Goes::Well, &well, &[]);
    cases.extend(cases_of(Goes::Replaces, &more, &well));
    cases
}

fn cases_of(goes: Goes, calls: &[(String, usize)], known: &[(String, usize)]) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut all = 0;
    for (action, nth) in calls {
        if known.contains(&(action.clone(), *nth)) {
            all += usize::from(!action.starts_with("IMDS"));
            continue;
        }
        let mut add = |group: &'static str, mut fault: Value| {
            fault["action"] = json!(action);
            fault["on"] = json!(nth);
            cases.push(Case { goes, group, fault });
        };
        let is_aws = !action.starts_with("IMDS");
        if is_aws {
            all += 1;
            add("throttled three times", json!({"kind": "throttle", "times": 3}));
            add("throttled for ever", json!({"kind": "throttle", "times": 0}));
            add("5xx, once", json!({"kind": "internal"}));
            add("5xx for ever", json!({"kind": "unavailable", "times": 0}));
            add("reset before it is carried out", json!({"kind": "reset"}));
            add("slow reply", json!({"kind": "slow", "seconds": 0.5, "when": "after"}));
            add("refused", json!({"kind": "denied", "times": 0}));
            cases.push(Case {
                goes,
                group: "credentials expire from this call on",
                fault: json!({"action": "*", "kind": "expired", "on": all, "times": 0}),
            });
        }
        let mut add = |group: &'static str, mut fault: Value| {
            fault["action"] = json!(action);
            fault["on"] = json!(nth);
            cases.push(Case { goes, group, fault });
        };
        if EFFECTS.contains(&action.as_str()) {
            add("lost reply", json!({"kind": "reset", "when": "after"}));
            add("5xx, but carried out", json!({"kind": "internal", "when": "after"}));
            add(
                "carried out, the reply past its deadline",
                json!({"kind": "slow", "seconds": 4, "when": "after"}),
            );
            add("every reply lost", json!({"kind": "reset", "when": "after", "times": 0}));
        }
        match action.as_str() {
            "CreateVolume" | "CreateSnapshot" | "RegisterImage" => {
                add("unknown just after creation", json!({"kind": "invisible", "seconds": 0.8}));
                add("ends in error", json!({"kind": "error-state"}));
                add("quota reached", json!({"kind": "quota", "times": 0}));
                add("never ends", json!({"kind": "stuck"}));
            }
            "AttachVolume" => {
                add("quota reached", json!({"kind": "quota", "times": 0}));
                add("stuck in attaching", json!({"kind": "stuck"}));
            }
            "DetachVolume" => add("stuck in busy", json!({"kind": "stuck", "code": "busy"})),
            _ => {}
        }
        if action == "CreateVolume" {
            add("capacity refused", json!({"kind": "capacity", "times": 0}));
        }
    }
    cases
}

#[test]
fn every_fault_at_every_call() {
    if !has(NEEDED) {
        return;
    }
    let table = Table::default();
    with_sites(&|| Site::new(On::Ec2), 6, cases(), |site, number, case| {
        let outcome = met(site, case, &format!("fault-{number}"));
        let fine = outcome.is_ok();
        let point = format!("{} {}", case.fault["action"].as_str().unwrap(), case.fault["on"]);
        table.add(case.group, &point, outcome.map(str::to_owned));
        fine
    });
    table.end("ec2, faults");
}

fn met(site: &Site, case: &Case, name: &str) -> Result<&'static str, String> {
    let fault = &case.fault;
    case.goes.prepare(site, name);
    site.ec2().fault(fault.clone());
    let lasts = fault["times"] == 0 || fault["kind"] == "stuck";
    let limits: &[&str] = if lasts { &SHORT } else { &["attempt=2s"] };
    let mut arguments = site.arguments(name);
    arguments.extend(limits.iter().flat_map(|limit| ["--deadline", limit]));
    let ended = site.start(&[], &arguments).wait();
    site.ec2().clear_faults();
    site.ec2().unstick();
    site.settle()?;
    let code = ended.status.code();
    match code {
        Some(0) => {}
        // Good, but something is left to gc: the image is told, and the failure.
        Some(14) => {}
        _ => ended.is_clear_failure()?,
    }
    if site.journals().is_empty() {
        let stands = site.stands(name).map_err(|left| format!("{left}\n{}", ended.told()))?;
        return match (code, stands) {
            (Some(0), Stands::Image) => Ok("baked"),
            (Some(1..), Stands::Nothing) => Ok("failed, nothing remains"),
            (Some(1..), Stands::Old) => Ok("failed, the old image stands"),
            _ => Err(format!("{stands:?}: {}", ended.told())),
        };
    }
    if !ended.err.contains("bakehouse gc") {
        return Err(format!("something is left, and nothing said of gc: {}", ended.told()));
    }
    let done = site.gc(&["--yes"])?;
    match site.stands(name).map_err(|left| format!("{left}\n{}\ngc: {done:#?}", ended.told()))? {
        Stands::Image => Ok("the rest left to gc: the image is complete"),
        Stands::Old => Ok("failed, the rest left to gc: the old image stands"),
        Stands::Nothing if code == Some(14) => Err(format!("a good image is gone: {}", ended.told())),
        Stands::Nothing => Ok("failed, the rest left to gc: nothing remains"),
    }
}
