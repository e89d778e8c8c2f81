//! Settings: flags, then `BAKEHOUSE_*`, then the recipe, then `~/.config/bakehouse/config.toml`, then
//! `/etc/bakehouse/config.toml`, then defaults. AWS settings come by the SDK's own standard chain.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::aws::{self, Aws};
use super::deadlines::Deadlines;
use crate::error::{Failure, Kind};
use crate::report::Format;

/// Which cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum CloudName {
    /// EC2, from one of its instances.
    Ec2,
    /// The local store.
    Local,
}

/// What goes to standard output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// The result alone.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// Flags that every subcommand takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Settings")]
pub struct Common {
    /// The cloud in use [default: ec2 on an EC2 instance, else local]
    #[arg(long, global = true, value_enum, env = "BAKEHOUSE_CLOUD", hide_env_values = true)]
    pub cloud: Option<CloudName>,
    /// Folder of the local store [default: /var/lib/bakehouse/store]
    #[arg(long, global = true, value_name = "FOLDER", env = "BAKEHOUSE_STORE", hide_env_values = true)]
    pub store: Option<PathBuf>,
    /// Folder of the journals of bakes [default: /var/lib/bakehouse/state]
    #[arg(long, global = true, value_name = "FOLDER", env = "BAKEHOUSE_STATE", hide_env_values = true)]
    pub state: Option<PathBuf>,
    /// Folder of the caches that bakes share [default: /var/cache/bakehouse]
    #[arg(long, global = true, value_name = "FOLDER", env = "BAKEHOUSE_CACHE", hide_env_values = true)]
    pub cache: Option<PathBuf>,
    /// Folder of the bakes' logs [default: /var/log/bakehouse]
    #[arg(long, global = true, value_name = "FOLDER", env = "BAKEHOUSE_LOGS", hide_env_values = true)]
    pub logs: Option<PathBuf>,
    /// What goes to standard output
    #[arg(
        long,
        global = true,
        value_enum,
        env = "BAKEHOUSE_OUTPUT",
        default_value = "text",
        hide_env_values = true
    )]
    pub output: Output,
    /// What progress on standard error is written as: lines for people, or a JSON object a line
    /// [default: text]
    #[arg(long, global = true, value_enum, env = "BAKEHOUSE_LOG_FORMAT", hide_env_values = true)]
    pub log_format: Option<Format>,
    /// A deadline, as volume=5m; repeatable [default: those of docs/reliability.md]
    #[arg(long = "deadline", global = true, value_name = "NAME=TIME")]
    pub deadlines: Vec<String>,
    /// More on standard error (twice: the SDK's own log too)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Warnings and errors alone on standard error
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// AWS settings.
    #[command(flatten)]
    pub aws: aws::Flags,
}

/// A configuration file: every key optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ConfigFile {
    cloud: Option<CloudName>,
    store: Option<PathBuf>,
    state: Option<PathBuf>,
    cache: Option<PathBuf>,
    logs: Option<PathBuf>,
    creator: Option<String>,
    base_max_age: Option<String>,
    log_format: Option<Format>,
    #[serde(default)]
    deadlines: Deadlines,
    #[serde(default)]
    aws: aws::File,
}

impl ConfigFile {
    /// Reads a file's text.
    pub fn parse(text: &str, name: &Path) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            let hint = "keys are: cloud, store, state, cache, logs, creator, base-max-age, log-format, deadlines, aws";
            Failure::new(Kind::Recipe, format!("reading the settings of {}: {error}", name.display()))
                .hint(hint)
                .into()
        })
    }

    fn load(path: &Path) -> Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("reading the settings of {}", path.display())),
        }
    }

    /// These settings; where one is left out, `other`'s.
    fn or(self, other: Self) -> Self {
        Self {
            cloud: self.cloud.or(other.cloud),
            store: self.store.or(other.store),
            state: self.state.or(other.state),
            cache: self.cache.or(other.cache),
            logs: self.logs.or(other.logs),
            creator: self.creator.or(other.creator),
            base_max_age: self.base_max_age.or(other.base_max_age),
            log_format: self.log_format.or(other.log_format),
            deadlines: self.deadlines.or(other.deadlines),
            aws: self.aws.or(other.aws),
        }
    }
}

/// Everything settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The cloud, where somebody said it.
    pub cloud: Option<CloudName>,
    /// Folder of the local store.
    pub store: PathBuf,
    /// Folder of the journals.
    pub state: PathBuf,
    /// Folder of the caches.
    pub cache: PathBuf,
    /// Folder of the logs.
    pub logs: PathBuf,
    /// Who bakes, for the tag `creator`.
    pub creator: String,
    /// A base older than so many seconds is warned of, where neither a flag nor the recipe says otherwise.
    pub base_max_age: Option<u64>,
    /// What progress is written as.
    pub log_format: Format,
    /// The deadlines that somebody set.
    pub deadlines: Deadlines,
    /// Profile, Region and role.
    pub aws: Aws,
}

/// Where a user's settings are; a path that is not absolute is none, as the XDG base directories have it.
fn config_home(xdg: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    let of_home = || home.map(|home| PathBuf::from(home).join(".config")).filter(absolute);
    xdg.map(PathBuf::from).filter(absolute).or_else(of_home)
}

impl Settings {
    /// Flags and environment (clap has both) over the user's file, over the host's, over the defaults.
    pub fn load(common: &Common) -> Result<Self> {
        let home = config_home(std::env::var_os("XDG_CONFIG_HOME"), std::env::var_os("HOME"));
        let user = home.map_or(Ok(ConfigFile::default()), |home| {
            ConfigFile::load(&home.join("bakehouse/config.toml"))
        })?;
        let host = ConfigFile::load(Path::new("/etc/bakehouse/config.toml"))?;
        Self::settle(common, user.or(host))
    }

    fn settle(common: &Common, file: ConfigFile) -> Result<Self> {
        let folder = |flag: &Option<PathBuf>, file: Option<PathBuf>, default: &str| {
            let chosen = flag.clone().or(file).unwrap_or_else(|| default.into());
            std::path::absolute(&chosen).with_context(|| format!("making {} absolute", chosen.display()))
        };
        let creator = std::env::var("BAKEHOUSE_CREATOR").ok().or(file.creator);
        let base_max_age = file.base_max_age.map(|age| {
            crate::recipe::units::parse_duration(&age).map_err(|why| {
                Failure::new(Kind::Recipe, format!("the setting base-max-age = {age:?}: {why}"))
                    .hint("write base-max-age = \"90d\"")
            })
        });
        let deadlines = Deadlines::of_flags(&common.deadlines)?
            .or(Deadlines::of_environment(|name| std::env::var(name).ok())?)
            .or(file.deadlines);
        let creator = creator.unwrap_or_else(login_name);
        Ok(Self {
            cloud: common.cloud.or(file.cloud),
            store: folder(&common.store, file.store, "/var/lib/bakehouse/store")?,
            state: folder(&common.state, file.state, "/var/lib/bakehouse/state")?,
            cache: folder(&common.cache, file.cache, "/var/cache/bakehouse")?,
            logs: folder(&common.logs, file.logs, "/var/log/bakehouse")?,
            aws: Aws::settle(&common.aws, file.aws, &creator)?,
            creator,
            base_max_age: base_max_age.transpose()?,
            log_format: common.log_format.or(file.log_format).unwrap_or_default(),
            deadlines,
        })
    }
}

/// Who runs this: the user behind sudo, or the user.
fn login_name() -> String {
    std::env::var("SUDO_USER")
        .ok()
        .filter(|name| !name.is_empty())
        .or_else(|| nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name))
        .unwrap_or_else(|| nix::unistd::getuid().to_string())
}

/// Which cloud is used, and why: said in the first line of the log.
pub fn choose_cloud(settings: &Settings) -> (CloudName, String) {
    if let Some(cloud) = settings.cloud {
        return (cloud, "as set".to_owned());
    }
    if crate::cloud::ec2::metadata_endpoint_set() {
        (CloudName::Ec2, "AWS_EC2_METADATA_SERVICE_ENDPOINT is set".to_owned())
    } else if crate::cloud::ec2::on_instance() {
        (CloudName::Ec2, "this machine is an EC2 instance, by its DMI vendor".to_owned())
    } else {
        (CloudName::Local, "this machine is no EC2 instance".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common() -> Common {
        Common {
            cloud: None,
            store: None,
            state: None,
            cache: None,
            logs: None,
            output: Output::Text,
            log_format: None,
            deadlines: Vec::new(),
            verbose: 0,
            quiet: false,
            aws: aws::Flags::default(),
        }
    }

    #[test]
    fn the_nearer_setting_wins() {
        let user = ConfigFile::parse("store = '/user'", Path::new("u")).unwrap();
        let text = "store = '/host'\ncache = '/hostcache'\ncloud = 'ec2'\nbase-max-age = '90d'";
        let host = ConfigFile::parse(text, Path::new("h")).unwrap();
        let flags = Common { state: Some("/flag".into()), ..common() };
        let settings = Settings::settle(&flags, user.or(host)).unwrap();
        assert_eq!(settings.store, Path::new("/user"));
        assert_eq!(settings.cache, Path::new("/hostcache"));
        assert_eq!(settings.state, Path::new("/flag"));
        assert_eq!(settings.logs, Path::new("/var/log/bakehouse"));
        assert_eq!(settings.cloud, Some(CloudName::Ec2));
        assert_eq!(settings.base_max_age, Some(90 * 86_400));
        let wrong = ConfigFile::parse("base-max-age = 'long'", Path::new("h")).unwrap();
        assert_eq!(crate::error::kind_of(&Settings::settle(&flags, wrong).unwrap_err()), Kind::Recipe);
    }

    #[test]
    fn settings_are_read_from_no_relative_folder() {
        let home = |xdg: &str, home: &str| config_home(Some(xdg.into()), Some(home.into()));
        assert_eq!(home("/x", "/h").as_deref(), Some(Path::new("/x")));
        assert_eq!(home("", "/h").as_deref(), Some(Path::new("/h/.config")));
        assert_eq!(home("x", "/h").as_deref(), Some(Path::new("/h/.config")));
        assert_eq!(home("", ""), None);
    }

    #[test]
    fn an_unknown_setting_is_refused_with_the_known_ones() {
        let error = ConfigFile::parse("stroe = '/x'", Path::new("/etc/bakehouse/config.toml")).unwrap_err();
        assert_eq!(crate::error::kind_of(&error), Kind::Recipe);
        assert!(error.to_string().contains("stroe"), "{error}");
    }
}
