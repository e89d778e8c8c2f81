//! A plan in words: what a dry run prints.

use super::{NamePlan, Plan};
use crate::provisioner::{StepPlan, Value, Work};
use crate::recipe::units::show_size;
use crate::recipe::{Audit, Part};

impl Plan {
    /// The whole plan for people: every name, tag and step.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let mut row = |key: &str, value: &str| text.push_str(&format!("{key:<12} {value}\n"));
        row("bake", &self.bake.0);
        let zone = self.place.zone.as_deref().unwrap_or(&self.place.region);
        row("where", &format!("{} {zone}, builder {}", self.place.cloud, self.place.builder));
        row("base", &self.describe_base());
        if let Some(created) = &self.base.created {
            let snapshot = match &self.base.given {
                None => format!(", snapshot {}", self.base.snapshot),
                Some(_) => String::new(),
            };
            row("", &format!("made {created}{snapshot}"));
        }
        for note in &self.base.notes {
            row("", note);
        }
        for warning in &self.warnings {
            row("warning", warning);
        }
        row("disk", &super::shape_words::disk(&self.disk, &self.base, self.place.cloud == "ec2"));
        match &self.image.name {
            NamePlan::Settled(name) => row("image", name),
            NamePlan::AfterInstall(name) => {
                row("image", &format!("{name} (the package manager settles the rest)"))
            }
        }
        if let Some(old) = &self.image.replaces {
            row("replaces", old);
        }
        row("description", &self.image.description);
        if self.snapshot.description != self.image.description {
            row("snapshot", &self.snapshot.description);
        }
        self.describe_tags(&mut row);
        for (key, value) in super::shape_words::rows(&self.base, &self.image.shape) {
            row(&key, &value);
        }
        row("recipe", &format!("sha256 {}", self.recipe_digest));
        if let Some(name) = &self.environment {
            row("environment", name);
        }
        for (name, variable) in &self.variables.0 {
            row("var", &format!("{name} = {} ({})", variable.value, variable.from));
        }
        for (number, step) in self.steps.iter().enumerate() {
            row(&format!("step {}", number + 1), &describe_step(step));
        }
        for (number, check) in self.checks.iter().enumerate() {
            row(&format!("check {}", number + 1), &describe_step(check));
        }
        self.describe_stops().iter().for_each(|(key, value)| row(key, value));
        for hook in &self.hooks {
            let command = hook.command.join(" ");
            let about = format!(
                "{}: {} runs {command} on the builder; at most {} s",
                hook.at.word(),
                hook.name,
                hook.timeout
            );
            row("hook", &about);
        }
        row("hygiene", &self.describe_hygiene());
        row("audit", &self.describe_audit());
        for note in &self.notes {
            row("note", note);
        }
        row(
            "then",
            match self.stops.until {
                None => "close the root, snapshot, register; everything else is released",
                Some(_) => "close the root; everything is released",
            },
        );
        if let (Some(publish), None) = (&self.publish, &self.stops.until) {
            match self.place.cloud.as_str() {
                "local" => row("publish", "left out: the local store publishes nothing"),
                _ => publish.describe(&mut row),
            }
        }
        text.trim_end().to_owned()
    }

    fn describe_base(&self) -> String {
        let base = &self.base;
        if let Some(spec) = &self.disk.scratch {
            return format!("{}, {}", spec.describe(base.arch), base.arch.as_str());
        }
        let name = base.name.as_deref().unwrap_or("(no name)");
        let age = self.base_age.map(|age| format!("{} old, ", super::show_age(age))).unwrap_or_default();
        format!("{name} ({}), {age}{}, {}", base.id(), show_size(base.size), base.arch.as_str())
    }

    /// Those of the image, then what snapshot and volume have otherwise.
    fn describe_tags(&self, row: &mut impl FnMut(&str, &str)) {
        let (image, snapshot, volume) = (&self.image.tags, &self.snapshot.tags, &self.disk.tags);
        for (key, value) in image {
            let alone = !snapshot.contains_key(key) && !volume.contains_key(key);
            row("tag", &format!("{key} = {value}{}", if alone { " (image alone)" } else { "" }));
        }
        for (thing, tags) in [("snapshot", snapshot), ("volume", volume)] {
            for (key, value) in tags.iter().filter(|(key, value)| image.get(*key) != Some(*value)) {
                row("tag", &format!("{key} = {value} ({thing} alone)"));
            }
        }
    }

    fn describe_hygiene(&self) -> String {
        let titles = |wanted: bool| {
            let parts = Part::ALL.into_iter().filter(|part| self.hygiene.parts.contains(part) == wanted);
            parts.map(Part::title).collect::<Vec<_>>().join(", ")
        };
        match (titles(true), titles(false)) {
            (on, off) if off.is_empty() => on,
            (on, off) if on.is_empty() => format!("off: {off}"),
            (on, off) => format!("{on}; off: {off}"),
        }
    }

    fn describe_audit(&self) -> String {
        let mut text = match self.hygiene.audit {
            Audit::Off => return "off".to_owned(),
            Audit::Warn => "warns of keys, credentials, accounts and rights that the base has not".to_owned(),
            Audit::Deny => "fails on keys, credentials, accounts and rights that the base has not".to_owned(),
        };
        if !self.hygiene.accept.is_empty() {
            text.push_str(&format!(", but for {}", self.hygiene.accept.join(", ")));
        }
        text
    }
}

fn describe_step(step: &StepPlan) -> String {
    let mut text = step.name.clone();
    if step.provisioner != step.name {
        text.push_str(&format!(" ({})", step.provisioner));
    }
    match &step.work {
        Work::Command(argv) => {
            let place = if step.host { " on the builder" } else { "" };
            text.push_str(&format!(" runs {}{place}", argv.join(" ")));
        }
        Work::Builtin(name) => text.push_str(&format!(" (built in: {name})")),
        Work::Choose => {
            let names: Vec<_> = step.alternatives.iter().map(|choice| choice.provisioner.as_str()).collect();
            text.push_str(&format!(" (by the image: {})", names.join(" or ")));
        }
    }
    for (name, value) in &step.params {
        if !matches!(value, Value::Bool(false)) && value.as_str() != Some("false") {
            text.push_str(&format!("; {name} {}", serde_json::to_string(value).unwrap_or_default()));
        }
    }
    for object in step.all_staged().filter_map(|staged| staged.object.as_ref()) {
        text.push_str(&format!("; fetches {object}"));
    }
    text.push_str(&format!("; network {}", step.network));
    let rights = step.rights;
    for (given, what) in
        [(rights.disk, "sees the disk"), (rights.mounts, "may mount: not held by the sandbox")]
    {
        if given {
            text.push_str(&format!("; {what}"));
        }
    }
    let limits = [
        ("memory", rights.memory.map(show_size)),
        ("processes", rights.processes.map(|count| count.to_string())),
        ("cpu", rights.cpu.map(|cpu| format!("{cpu}%"))),
    ];
    for (name, most) in limits {
        if let Some(most) = most {
            text.push_str(&format!("; at most {most} {name}"));
        }
    }
    for (name, source) in &step.secrets {
        text.push_str(&format!("; secret {name} from {source}"));
    }
    if let Some(when) = &step.when {
        text.push_str(&format!("; when {when}"));
    }
    if let Some(why) = &step.skipped {
        text.push_str(&format!("; left out: {why}"));
    }
    if let Some(timeout) = step.timeout {
        text.push_str(&format!("; at most {timeout} s"));
    }
    text
}
