//! Deadlines: how long is waited for what, before it is a failure.
//!
//! `--deadline NAME=TIME`, then `BAKEHOUSE_DEADLINE_NAME`, then `[deadlines]` of the configuration files, then
//! the defaults of the rooms that wait.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use crate::cloud::ec2;
use crate::error::{Failure, Kind};
use crate::recipe::units::parse_duration;

/// The names, and what is waited for.
const NAMES: [(&str, &str); 12] = [
    ("attempt", "one try of an API call"),
    ("call", "an API call with all its tries"),
    ("volume", "a new volume to be available"),
    ("attachment", "an attachment or a detachment"),
    ("device", "an attached volume's device node"),
    ("snapshot", "a snapshot to be complete"),
    ("image", "a registered image to be available"),
    ("copy", "a copy in another Region to be available"),
    ("visible", "what was just made to be seen by Describe calls"),
    ("lookup", "what was announced, but never confirmed, to be found"),
    ("first-look", "the first look for a volume, an attachment or an image"),
    ("first-look-snapshot", "the first look for a snapshot"),
];

/// The deadlines that somebody set, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Deadlines(BTreeMap<&'static str, Duration>);

impl TryFrom<BTreeMap<String, String>> for Deadlines {
    type Error = String;

    fn try_from(texts: BTreeMap<String, String>) -> Result<Self, String> {
        let mut set = BTreeMap::new();
        for (name, text) in texts {
            let Some((name, _)) = NAMES.iter().find(|(known, _)| *known == name) else {
                return Err(format!("there is no deadline {name:?}; {}", known()));
            };
            set.insert(*name, parse(&text).map_err(|why| format!("the deadline {name}: {why}"))?);
        }
        Ok(Self(set))
    }
}

impl Deadlines {
    /// Those of flags, `NAME=TIME` each.
    ///
    /// # Errors
    /// [`Kind::Usage`]: no such deadline, or no time.
    pub fn of_flags(flags: &[String]) -> Result<Self> {
        let mut texts = BTreeMap::new();
        for flag in flags {
            let Some((name, text)) = flag.split_once('=') else {
                return Err(wrong(format!("--deadline {flag}: it is not NAME=TIME")));
            };
            texts.insert(name.to_owned(), text.to_owned());
        }
        Self::try_from(texts).map_err(wrong)
    }

    /// Those of the environment; `lookup` is `std::env::var(..).ok()`.
    ///
    /// # Errors
    /// [`Kind::Usage`]: no time.
    pub fn of_environment(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let variable = |name: &str| format!("BAKEHOUSE_DEADLINE_{}", name.replace('-', "_").to_uppercase());
        let set = NAMES.iter().filter_map(|(name, _)| Some(((*name).to_owned(), lookup(&variable(name))?)));
        Self::try_from(set.collect::<BTreeMap<_, _>>()).map_err(wrong)
    }

    /// These; where one is left out, `other`'s.
    pub fn or(mut self, other: Self) -> Self {
        for (name, limit) in other.0 {
            self.0.entry(name).or_insert(limit);
        }
        self
    }

    /// How long an attached volume's device node is waited for.
    pub fn device(&self) -> Duration {
        self.0.get("device").copied().unwrap_or(Duration::from_secs(60))
    }

    /// The EC2 room's settings with these in place of its own.
    pub fn ec2(&self) -> ec2::Settings {
        let mut settings = ec2::Settings::default();
        for (name, limit) in &self.0 {
            let place = match *name {
                "attempt" => &mut settings.attempt,
                "call" => &mut settings.call,
                "volume" => &mut settings.volume,
                "attachment" => &mut settings.attachment,
                "snapshot" => &mut settings.snapshot,
                "image" => &mut settings.image,
                "copy" => &mut settings.copy,
                "visible" => &mut settings.visible,
                "lookup" => &mut settings.lookup,
                "first-look" => &mut settings.first,
                "first-look-snapshot" => &mut settings.first_snapshot,
                _ => continue,
            };
            *place = *limit;
        }
        settings
    }
}

/// A time as `90s`, `5m`, `1h30m`; or `250ms`.
fn parse(text: &str) -> Result<Duration, String> {
    if let Some(number) = text.strip_suffix("ms") {
        let number = number.parse::<u32>().map_err(|_| format!("{text:?} is no duration"))?;
        return Ok(Duration::from_millis(number.into()));
    }
    parse_duration(text).map(Duration::from_secs)
}

fn known() -> String {
    let names: Vec<_> = NAMES.iter().map(|(name, about)| format!("{name} ({about})")).collect();
    format!("there are {}", names.join(", "))
}

fn wrong(message: String) -> anyhow::Error {
    Failure::new(Kind::Usage, message)
        .hint("write --deadline volume=5m, or BAKEHOUSE_DEADLINE_VOLUME=5m")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_deadline_wins() {
        let flags = Deadlines::of_flags(&["volume=90s".into()]).unwrap();
        let environment = |name: &str| match name {
            "BAKEHOUSE_DEADLINE_VOLUME" => Some("1s".to_owned()),
            "BAKEHOUSE_DEADLINE_FIRST_LOOK" => Some("50ms".to_owned()),
            _ => None,
        };
        let set = flags.or(Deadlines::of_environment(environment).unwrap());
        let settings = set.ec2();
        assert_eq!(settings.volume, Duration::from_secs(90));
        assert_eq!(settings.first, Duration::from_millis(50));
        assert_eq!(settings.snapshot, ec2::Settings::default().snapshot);
        assert_eq!(set.device(), Duration::from_secs(60));
    }

    #[test]
    fn every_deadline_has_its_place() {
        for (name, _) in NAMES {
            let set = Deadlines::of_flags(&[format!("{name}=7ms")]).unwrap();
            let placed = format!("{:?}", set.ec2()).matches("7ms").count();
            assert_eq!(placed + usize::from(set.device() == Duration::from_millis(7)), 1, "{name}");
        }
    }

    #[test]
    fn what_is_no_deadline_is_refused_with_the_known_ones() {
        for (flag, word) in [("volum=1s", "attachment ("), ("volume=soon", "volume"), ("volume", "NAME=TIME")]
        {
            let error = Deadlines::of_flags(&[flag.to_owned()]).unwrap_err();
            assert_eq!(crate::error::kind_of(&error), Kind::Usage);
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
