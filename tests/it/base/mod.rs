//! Choosing a base: what the command asks EC2 for, what it takes, and what it tells of it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::bake_ec2::Builder;
use crate::support::standin::Options;

mod choice;
mod given;
mod parameter;

const STEP: &str = "[[step]]\nuse = \"script\"\nscript = \"setup.sh\"\n";

/// A recipe on a base, with the one step of [`Builder`]'s.
fn recipe(base: &str) -> String {
    format!("[image]\nname = \"small-{{time}}\"\n[base]\n{base}\n{STEP}")
}

/// A builder whose clock of EC2 takes no time.
fn builder() -> Option<Builder> {
    Builder::start(&Options::default(), json!({}))
}

/// The plan that a dry run prints.
fn plan(builder: &Builder, base: &str, more: &[&str]) -> Value {
    let ran = builder.bakery.bake(&recipe(base), &[&["--dry-run", "--output", "json"], more].concat());
    ran.json()
}

/// The last request of an action.
fn last(builder: &Builder, action: &str) -> Value {
    let all = builder.standin.requests_of(action, 1, std::time::Duration::ZERO);
    all.last().unwrap_or_else(|| panic!("no {action}"))["params"].clone()
}

/// The content of a snapshot.
fn content(builder: &Builder, snapshot: &str) -> PathBuf {
    let found = builder.standin.find("snapshots", "SnapshotId", snapshot).unwrap();
    PathBuf::from(found["File"].as_str().unwrap())
}

/// What the step wrote into a root.
fn mark(root: &Path) -> String {
    std::fs::read_to_string(root.join("srv/mark")).unwrap_or_default()
}
