//! What a plan says of its base: which, how old, and what is to be warned of.

use std::collections::BTreeMap;

use super::{Arch, BaseFacts, Given};
use crate::error::{Failure, Kind};
use crate::recipe::units::{show_duration, show_size};
use crate::recipe::{BakeSpec, BaseSelector, MISFIT_HELP, Recipe, ScratchSpec};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

impl BaseFacts {
    /// Of no base: a blank disk. `inherited` is what the cloud registers such an image with.
    pub fn scratch(spec: &ScratchSpec, arch: Arch, root_device: &str, inherited: serde_json::Value) -> Self {
        let name = spec.release().map(str::to_owned);
        Self {
            image: None,
            version: name.clone(),
            name,
            snapshot: "scratch".to_owned(),
            given: None,
            size: 0,
            arch,
            created: None,
            deprecated: None,
            tags: BTreeMap::new(),
            root_device: root_device.to_owned(),
            inherited,
            notes: Vec::new(),
        }
    }

    /// What it is known by: the image's id, or the snapshot's, or that of the disk that is the user's.
    pub fn id(&self) -> &str {
        self.image.as_deref().unwrap_or(&self.snapshot)
    }

    /// Seconds since it was made, where that is known.
    pub fn age(&self, now: jiff::Timestamp) -> Option<u64> {
        let created: jiff::Timestamp = self.created.as_deref()?.parse().ok()?;
        Some(u64::try_from(now.duration_since(created).as_secs()).unwrap_or_default())
    }

    /// `debian-12-amd64-20261101 (ami-0abc), 22 days old`.
    pub fn told(&self, now: jiff::Timestamp) -> String {
        let mut text = match &self.name {
            Some(name) => format!("{name} ({})", self.id()),
            None => self.id().to_owned(),
        };
        if let Some(age) = self.age(now) {
            text.push_str(&format!(", {} old", show_age(age)));
        }
        text
    }

    /// Since when it is deprecated, if it is by now.
    pub fn deprecated_by(&self, now: jiff::Timestamp) -> Option<&str> {
        let since = self.deprecated.as_deref()?;
        since.parse::<jiff::Timestamp>().is_ok_and(|at| at <= now).then_some(since)
    }
}

/// An age as people say it: in its largest unit, days at most.
pub fn show_age(seconds: u64) -> String {
    let (count, unit) = match seconds {
        _ if seconds >= 2 * DAY => (seconds / DAY, "day"),
        _ if seconds >= 2 * HOUR => (seconds / HOUR, "hour"),
        _ if seconds >= MINUTE => (seconds / MINUTE, "minute"),
        _ => (seconds, "second"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// A disk of the user's is taken as it is: what would need another volume is refused, or told.
pub(super) fn refuse_on_given(recipe: &Recipe, base: &BaseFacts) -> Result<(), Failure> {
    if base.given.is_none() {
        return Ok(());
    }
    let disk = &recipe.disk;
    let refuse = |message: String, hint: &str| Err(Failure::new(Kind::Recipe, message).hint(hint));
    if let Some(size) = disk.size.filter(|size| *size != base.size) {
        return refuse(
            format!(
                "[disk] size is {}, and the base is a disk of yours of {}",
                show_size(size),
                show_size(base.size)
            ),
            "a disk of yours is not resized: leave size out, or bake on a snapshot of it",
        );
    }
    if !matches!(base.given, Some(Given::Volume { .. })) {
        return Ok(());
    }
    let shape = base.shape();
    let is_encrypted = shape.root().and_then(|root| root.ebs.as_ref()?.encrypted) == Some(true);
    if disk.kms_key.is_some() || disk.encrypted.is_some_and(|wanted| wanted != is_encrypted) {
        let is = if is_encrypted { "is encrypted under its own key" } else { "is not encrypted" };
        return refuse(
            format!("[disk] asks for encryption, and the base, the disk {} of yours, {is}", base.id()),
            "a disk of yours stays as it is: leave `encrypted` and `kms_key` out, or bake on a snapshot of it",
        );
    }
    Ok(())
}

/// A disk from scratch is not registered with a boot mode that its boot loader is not for: no instance would start.
pub(super) fn refuse_unbootable(recipe: &Recipe, base: &BaseFacts) -> Result<(), Failure> {
    let (BaseSelector::Scratch(spec), Some(mode)) = (&recipe.base.value, &recipe.image.shape.boot_mode)
    else {
        return Ok(());
    };
    match spec.misfit(mode, spec.firmware(base.arch)) {
        Some(misfit) => Err(Failure::new(Kind::Recipe, misfit).hint(MISFIT_HELP)),
        None => Ok(()),
    }
}

/// What of a recipe is about a volume of the bake's, where there is none.
pub(super) fn passed_over(recipe: &Recipe, base: &BaseFacts) -> Option<String> {
    base.given.as_ref()?;
    let said = [
        ("[disk.bake]", recipe.disk.bake != BakeSpec::default()),
        ("[tags.volume]", !recipe.tags.volume.is_empty()),
    ];
    let said: Vec<_> = said.into_iter().filter(|(_, said)| *said).map(|(key, _)| key).collect();
    (!said.is_empty()).then(|| format!("of a volume of the bake's, and there is none: {}", said.join(", ")))
}

/// What is not wrong with a base, and yet not as it should be.
pub(super) fn warnings(recipe: &Recipe, base: &BaseFacts, now: jiff::Timestamp) -> Vec<String> {
    let mut warnings = Vec::new();
    let id = base.id();
    let is_meant = matches!(&recipe.base.value, BaseSelector::Query(query) if query.deprecated);
    if let Some(since) = base.deprecated_by(now).filter(|_| !is_meant) {
        warnings
            .push(format!("the base {id} is deprecated since {since}: its owner wants another to be used"));
    }
    // A blank disk, and one of the user's, are as old as what is done with them.
    let is_dated = base.given.is_none() && !matches!(recipe.base.value, BaseSelector::Scratch(_));
    if let Some(most) = recipe.base_max_age.filter(|_| is_dated) {
        let limit = show_duration(most);
        match base.age(now) {
            Some(age) if age > most => {
                warnings.push(format!("the base {id} is {} old, more than max_age, {limit}", show_age(age)));
            }
            Some(_) => {}
            None => warnings.push(format!(
                "how old the base {id} is cannot be told, so neither if it is older than {limit}"
            )),
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_their_largest_unit() {
        for (seconds, told) in [
            (0, "0 seconds"),
            (61, "1 minute"),
            (2 * HOUR - 1, "119 minutes"),
            (2 * HOUR, "2 hours"),
            (2 * DAY - 1, "47 hours"),
            (2 * DAY, "2 days"),
            (22 * DAY + HOUR, "22 days"),
            (4000 * DAY, "4000 days"),
        ] {
            assert_eq!(show_age(seconds), told);
        }
    }
}
