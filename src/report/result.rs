//! What a bake made, as its one line or its one JSON document on standard output.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Phase;
use crate::cloud::publish::Published;
use crate::contents::Difference;
use crate::contents::hygiene::Report;

/// How long a step or a check took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepTime {
    /// Its number among the recipe's steps or checks, from 1.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// Seconds, milliseconds kept: its program and what is done around it, every time that it ran. What an operator
    /// thought about meanwhile does not count.
    pub seconds: f64,
}

/// How long steps and checks took, in their order. Those that were left out are not among them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepTimes {
    /// The steps.
    pub steps: Vec<StepTime>,
    /// The checks.
    pub checks: Vec<StepTime>,
}

impl StepTimes {
    /// In one line: `1 package 11.06, 2 files 0.18, check 1 nginx 0.14`.
    pub fn summary(&self) -> String {
        let steps =
            self.steps.iter().map(|step| format!("{} {} {:.2}", step.number, step.name, step.seconds));
        let checks = self
            .checks
            .iter()
            .map(|check| format!("check {} {} {:.2}", check.number, check.name, check.seconds));
        steps.chain(checks).collect::<Vec<_>>().join(", ")
    }
}

/// A finished bake.
#[derive(Debug, Clone, Serialize)]
pub struct Baked {
    /// The image's id.
    pub image: String,
    /// Its snapshot's id.
    pub snapshot: String,
    /// Its name.
    pub name: String,
    /// The image that had the name, and is gone.
    pub replaced: Option<String>,
    /// `ec2` or `local`.
    pub cloud: String,
    /// The Region.
    pub region: String,
    /// The base's image id, or its snapshot's.
    pub base: String,
    /// The base's name, where it has one.
    pub base_name: Option<String>,
    /// How old the base is, in whole days, where known.
    pub base_age_days: Option<u64>,
    /// The bake's id.
    pub bake: String,
    /// The manifest's file on this host: every package of the image, and what differs from the base.
    pub manifest: Option<String>,
    /// What the packages are, against the base.
    pub packages: Difference,
    /// Seconds per phase, and `total`.
    pub seconds: BTreeMap<String, f64>,
    /// Seconds within the steps' own programs.
    pub provisioning_seconds: f64,
    /// Seconds per step and check, as `steps` and `checks`.
    #[serde(flatten)]
    pub took: StepTimes,
    /// What was taken out of the root before it was closed, and what the audit found.
    pub hygiene: Report,
    /// What became of publishing it, by Region; none where nothing was asked for, or the cloud publishes nothing.
    pub published: Option<Published>,
    /// API calls by name; empty where there is no API.
    pub api_calls: BTreeMap<String, u32>,
    /// The whole log on this host.
    pub log: Option<String>,
}

/// The phases' times as the document gives them (seconds, milliseconds kept), with their `total`.
pub fn seconds(phases: &[Phase], total: Duration) -> BTreeMap<String, f64> {
    let named = phases.iter().map(|phase| (phase.name.clone(), rounded(phase.took)));
    named.chain([("total".to_owned(), rounded(total))]).collect()
}

/// Seconds with their milliseconds.
pub fn rounded(took: Duration) -> f64 {
    (took.as_secs_f64() * 1000.0).round() / 1000.0
}
