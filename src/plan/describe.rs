//! A plan in words: what a dry run prints.

use super::{NamePlan, Plan};
use crate::provisioner::{StepPlan, Value, Work};
use crate::recipe::units::{show_duration, show_size};
use crate::recipe::{Audit, Part};

impl Plan {
    /// The whole plan for people: every name, tag and step.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let mut row = |key: &str, value: &str| text.push_str(&format!("{key:<12} {value}\n"));
        row("bake", &self.bake.0);
        let zone = self.place.zone.as_deref().unwrap_or(&self.place.region);
        let place = match self.place.cloud.as_str() {
            "local" => "the local store".to_owned(),
            cloud => format!("{cloud} {zone}"),
        };
        row("where", &format!("{place}, builder {}", self.place.builder));
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
            describe_step(&format!("step {}", number + 1), step, &mut row);
        }
        for (number, check) in self.checks.iter().enumerate() {
            describe_step(&format!("check {}", number + 1), check, &mut row);
        }
        self.describe_stops().iter().for_each(|(key, value)| row(key, value));
        for hook in self.hooks.iter().filter(|hook| self.comes_to(hook.at)) {
            let command = hook.command.join(" ");
            let about = format!(
                "{}: {} runs {command} on the builder; at most {} s",
                hook.at.word(),
                hook.name,
                hook.timeout
            );
            row("hook", &about);
        }
        if self.stops.until.is_none() {
            row("hygiene", &self.describe_hygiene());
            row("audit", &self.describe_audit());
        }
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

/// A step's rows: what it is, then a line each for its parameters, files, secrets and terms.
fn describe_step(key: &str, step: &StepPlan, row: &mut impl FnMut(&str, &str)) {
    let mut head = step.name.clone();
    if step.provisioner != step.name {
        head.push_str(&format!(" ({})", step.provisioner));
    }
    let mut argv: &[String] = &[];
    match &step.work {
        Work::Command(command) => {
            let place = if step.host { " on the builder" } else { "" };
            head.push_str(&format!(" runs {}{place}", command.join(" ")));
            argv = command;
        }
        Work::Builtin(name) => head.push_str(&format!(" (built in: {name})")),
        Work::Choose => {
            let names: Vec<_> = step.alternatives.iter().map(|choice| choice.provisioner.as_str()).collect();
            head.push_str(&format!(" (by the image: {})", names.join(" or ")));
        }
    }
    row(key, &head);
    for (name, value) in step.params.iter().filter(|(_, value)| !is_told(value, argv)) {
        row("", &format!("{name} {}", serde_json::to_string(value).unwrap_or_default()));
    }
    // Alternatives stage the same files: each is told once.
    let mut told = Vec::new();
    for staged in step.all_staged() {
        let line = match (&staged.object, &staged.url) {
            (Some(object), _) => format!("fetches {object}"),
            (None, Some(url)) => format!("brings {url}"),
            (None, None) => format!("brings {}", staged.from.display()),
        };
        if !told.contains(&line) {
            row("", &line);
            told.push(line);
        }
    }
    for (name, value) in &step.env {
        row("", &format!("env {name}={value}"));
    }
    for (name, source) in &step.secrets {
        row("", &format!("secret {name} from {source}"));
    }
    row("", &terms(step));
}

/// Whether a parameter says nothing, or nothing that the command has not said.
fn is_told(value: &Value, argv: &[String]) -> bool {
    match value {
        Value::Bool(on) => !on,
        Value::String(text) => text == "false" || argv.contains(text),
        Value::List(items) => items.iter().map(Value::as_str).eq(argv.iter().map(|word| Some(word.as_str()))),
        Value::Integer(_) | Value::Map(_) => false,
    }
}

/// How it runs, and whether it does.
fn terms(step: &StepPlan) -> String {
    let mut terms = vec![format!("network {}", step.network)];
    terms.extend(step.cwd.as_ref().map(|folder| format!("in {}", folder.display())));
    let rights = step.rights;
    for (given, what) in
        [(rights.disk, "sees the disk"), (rights.mounts, "may mount: not held by the sandbox")]
    {
        if given {
            terms.push(what.to_owned());
        }
    }
    let limits = [
        ("memory", rights.memory.map(show_size)),
        ("processes", rights.processes.map(|count| count.to_string())),
        ("cpu", rights.cpu.map(|cpu| format!("{cpu}%"))),
    ];
    for (name, most) in limits {
        if let Some(most) = most {
            terms.push(format!("at most {most} {name}"));
        }
    }
    terms.extend(step.timeout.map(|timeout| format!("at most {}", show_duration(timeout))));
    terms.extend(step.when.as_ref().map(|when| format!("when {when}")));
    terms.extend(step.skipped.as_ref().map(|why| format!("left out: {why}")));
    terms.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_the_command_says_is_not_told_again() {
        let argv = ["nginx", "-t"].map(str::to_owned);
        let list = |words: &[&str]| {
            Value::List(words.iter().map(|word| Value::String((*word).to_owned())).collect())
        };
        for (value, told) in [
            (Value::Bool(false), true),
            (Value::Bool(true), false),
            (list(&["nginx", "-t"]), true),
            (list(&["nginx"]), false),
            (Value::String("-t".to_owned()), true),
            (Value::Integer(0), false),
        ] {
            assert_eq!(is_told(&value, &argv), told, "{value:?}");
        }
    }
}
