//! AWS settings of our own: which profile, Region and role. All else comes by the SDK's standard chain.

use std::time::Duration;

use anyhow::{Result, bail};
use serde::Deserialize;

use crate::cloud::ec2::{self, Role};
use crate::error::{Failure, Kind};
use crate::recipe::units::parse_duration;

/// Flags that every subcommand takes.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "AWS")]
pub struct Flags {
    /// The Region [default: AWS_REGION, the profile's, the instance's]
    #[arg(long, global = true, value_name = "REGION")]
    pub region: Option<String>,
    /// The profile of ~/.aws, before the environment's credentials
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// A role to take on with the credentials that are found
    #[arg(long, global = true, value_name = "ARN", env = "BAKEHOUSE_ASSUME_ROLE", hide_env_values = true)]
    pub assume_role: Option<String>,
    /// The external id that the role asks for
    #[arg(long, global = true, value_name = "ID", env = "BAKEHOUSE_EXTERNAL_ID", hide_env_values = true)]
    pub external_id: Option<String>,
    /// A tag of the role's session; repeatable
    #[arg(long = "session-tag", global = true, value_name = "KEY=VALUE")]
    pub session_tags: Vec<String>,
}

/// `[aws]` of a configuration file: every key optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    region: Option<String>,
    profile: Option<String>,
    assume_role: Option<FileRole>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileRole {
    arn: String,
    external_id: Option<String>,
    session_name: Option<String>,
    #[serde(default)]
    session_tags: std::collections::BTreeMap<String, String>,
    duration: Option<String>,
}

impl File {
    /// These settings; where one is left out, `other`'s.
    pub fn or(self, other: Self) -> Self {
        Self {
            region: self.region.or(other.region),
            profile: self.profile.or(other.profile),
            assume_role: self.assume_role.or(other.assume_role),
        }
    }
}

/// Settled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aws {
    region: Option<String>,
    profile: Option<String>,
    role: Option<Role>,
}

impl Aws {
    /// Flags over files. `creator` names the role's session where nobody does.
    ///
    /// # Errors
    /// [`Kind::Usage`]: what is no role, tag or duration.
    pub fn settle(flags: &Flags, file: File, creator: &str) -> Result<Self> {
        let profile = flags.profile.clone().or(file.profile);
        let region = flags.region.clone().or(file.region);
        let mut tags = Vec::new();
        for tag in &flags.session_tags {
            let Some((key, value)) = tag.split_once('=').filter(|(key, _)| !key.is_empty()) else {
                bail!(wrong(format!("--session-tag {tag} has no KEY="), "write --session-tag KEY=VALUE"));
            };
            tags.push((key.to_owned(), value.to_owned()));
        }
        let role = match (&flags.assume_role, file.assume_role) {
            (Some(arn), _) => Some(Role {
                arn: arn.clone(),
                external_id: flags.external_id.clone(),
                ..role_of(creator, tags)
            }),
            (None, Some(role)) => {
                let duration = role.duration.as_deref().map(session_length).transpose()?;
                let mut all: Vec<_> = role.session_tags.into_iter().collect();
                all.retain(|(key, _)| tags.iter().all(|(other, _)| other != key));
                all.extend(tags);
                let named = role_of(role.session_name.as_deref().unwrap_or(creator), all);
                let external_id = flags.external_id.clone().or(role.external_id);
                Some(Role { arn: role.arn, external_id, duration, ..named })
            }
            (None, None) if flags.external_id.is_some() || !tags.is_empty() => {
                bail!(wrong(
                    "an external id or session tags without a role".to_owned(),
                    "give --assume-role ARN too"
                ));
            }
            (None, None) => None,
        };
        if let Some(role) = &role
            && !(role.arn.starts_with("arn:") && role.arn.contains(":role/"))
        {
            bail!(wrong(
                format!("{:?} is no role's ARN", role.arn),
                "write arn:aws:iam::123456789012:role/NAME"
            ));
        }
        Ok(Self { region, profile, role })
    }

    /// The EC2 room's settings with these in place of its own.
    pub fn lay_over(&self, settings: ec2::Settings) -> ec2::Settings {
        let Self { region, profile, role } = self.clone();
        ec2::Settings {
            region: region.or(settings.region),
            profile: profile.or(settings.profile),
            role: role.or(settings.role),
            ..settings
        }
    }
}

/// A role session's name has 2 to 64 characters of `A-Za-z0-9_+=,.@-`.
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
fn role_of(name: &str, tags: Vec<(String, String)>) -> Role {
    let good = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    let name: String =
        format!("bakehouse-{name}").chars().map(|c| if good(c) { c } else { '-' }).take(64).collect();
    Role { arn: String::new(), external_id: None, session_name: name, tags, duration: None }
}

/// 15 minutes to 12 hours: what STS takes.
fn session_length(text: &str) -> Result<Duration> {
    let seconds = parse_duration(text).map_err(|why| {
        wrong(format!("[aws.assume-role] duration {text:?}: {why}"), "write duration = \"1h\"")
    })?;
    if !(900..=12 * 3600).contains(&seconds) {
        bail!(wrong(
            format!("[aws.assume-role] duration {text:?} is not from 15m to 12h"),
            "write duration = \"1h\""
        ));
    }
    Ok(Duration::from_secs(seconds))
}

fn wrong(message: String, hint: &str) -> Failure {
    Failure::new(Kind::Usage, message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:iam::123456789012:role/baker";

    fn file(text: &str) -> File {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn flags_win_over_files() {
        let flags = Flags {
            region: Some("eu-west-1".into()),
            session_tags: vec!["team=web".into(), "stage=a=b".into()],
            ..Flags::default()
        };
        let file = file(&format!(
            "region = 'us-east-1'\nprofile = 'baker'\n[assume-role]\narn = '{ARN}'\nexternal-id = 'x'\n\
             session-tags = {{ team = 'ops', cost = '7' }}\nduration = '2h'"
        ));
        let aws = Aws::settle(&flags, file, "bob smith").unwrap();
        let settings = aws.lay_over(ec2::Settings::default());
        assert_eq!(settings.region.as_deref(), Some("eu-west-1"));
        assert_eq!(settings.profile.as_deref(), Some("baker"));
        let role = settings.role.unwrap();
        assert_eq!(role.session_name, "bakehouse-bob-smith");
        assert_eq!(role.external_id.as_deref(), Some("x"));
        assert_eq!(role.duration, Some(Duration::from_secs(7200)));
        let tags: Vec<_> = role.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(tags, ["cost=7", "team=web", "stage=a=b"]);
    }

    #[test]
    fn what_can_not_be_is_refused() {
        let with = |change: &dyn Fn(&mut Flags)| {
            let mut flags = Flags::default();
            change(&mut flags);
            Aws::settle(&flags, File::default(), "bob").unwrap_err().to_string()
        };
        assert!(with(&|flags| flags.external_id = Some("x".into())).contains("without a role"));
        assert!(with(&|flags| flags.session_tags = vec!["team".into()]).contains("--session-tag team"));
        assert!(with(&|flags| flags.assume_role = Some("baker".into())).contains("no role's ARN"));
        let text = format!("[assume-role]\narn = '{ARN}'\nduration = '1m'");
        let error = Aws::settle(&Flags::default(), file(&text), "bob").unwrap_err();
        assert!(error.to_string().contains("from 15m to 12h"), "{error}");
    }
}
