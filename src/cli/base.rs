//! A base on the command line: alone, or over a recipe's.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::settings::Settings;
use super::validate;
use crate::error::{Failure, Kind};
use crate::recipe::units::parse_duration;
use crate::recipe::{
    BaseSelector, ImageQuery, Inputs, OneLine, Recipe, ScratchSpec, is_device_name, one_line,
};

/// The flags about the base.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Base")]
pub struct BaseArgs {
    /// The base: ami-…, snap-…, vol-…, a device or raw disk (/dev/…, ./disk.raw), an SSM parameter (/… or its
    /// ARN), scratch:RELEASE (a blank disk that is filled; with --size), or an image's name, globs allowed (the newest). With a recipe it stands for the recipe's
    #[arg(long, value_name = "BASE")]
    pub base: Option<String>,
    /// Owner of a base by name: an account's number, `self`, `amazon` or `aws-marketplace`; repeatable [default: self]
    #[arg(long = "owner", value_name = "ACCOUNT")]
    pub owners: Vec<String>,
    /// A filter of DescribeImages on a base by name, as tag:team=web; repeatable, of one name any value does
    #[arg(long = "filter", value_name = "NAME=VALUE")]
    pub filters: Vec<String>,
    /// Take a deprecated base by name too
    #[arg(long)]
    pub deprecated: bool,
    /// Architecture of the base, where nothing else settles it: x86_64 or arm64
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<String>,
    /// Root device name of the image [default: the base's; on a snapshot, volume or device /dev/xvda]
    #[arg(long, value_name = "DEVICE")]
    pub root_device: Option<String>,
    /// Warn of a base older than this, as 30d
    #[arg(long = "base-max-age", value_name = "AGE", env = "BAKEHOUSE_BASE_MAX_AGE", hide_env_values = true)]
    pub max_age: Option<String>,
}

impl BaseArgs {
    /// The base of the one-line form, by the form of `--base`.
    ///
    /// # Errors
    /// [`Kind::Usage`] for flags that say nothing of such a base.
    pub fn selector(&self, base: &str) -> Result<BaseSelector> {
        let (arch, root_device) = (None, None);
        let named = |prefix: &str| base.starts_with(prefix);
        let mut selector = if named("ami-") {
            BaseSelector::Ami(base.to_owned())
        } else if named("img-") {
            BaseSelector::Image(base.to_owned())
        } else if named("snap-") {
            BaseSelector::Snapshot { id: base.to_owned(), arch, root_device }
        } else if named("vol-") {
            BaseSelector::Volume { id: base.to_owned(), arch, root_device }
        } else if let Some(release) = base.strip_prefix("scratch:") {
            BaseSelector::Scratch(ScratchSpec::of_release(release))
        } else if is_device(base) {
            let path = std::path::absolute(base).with_context(|| format!("making {base} absolute"))?;
            BaseSelector::Device { path, arch, root_device }
        } else if named("/") || named("arn:") {
            BaseSelector::Parameter(base.to_owned())
        } else {
            BaseSelector::Query(ImageQuery::named(base))
        };
        self.narrow(&mut selector)?;
        Ok(selector)
    }

    /// Lays the flags over a recipe's base. What is wrong with them is shown on stderr, as a recipe's faults are.
    ///
    /// # Errors
    /// [`Kind::Usage`] for flags that say nothing of such a base; [`Kind::Recipe`] for values that can't be.
    pub fn lay_over(&self, recipe: &mut Recipe, folder: &Path, downloads: &Path) -> Result<()> {
        let mut selector = match &self.base {
            Some(base) => self.selector(base)?,
            None => recipe.base.value.clone(),
        };
        self.narrow(&mut selector)?;
        if selector != recipe.base.value {
            let size = recipe.disk.size.map(|size| format!("{size}B"));
            let line = one_line(&OneLine { base: selector, packages: Vec::new(), size, name: None });
            recipe.base = validate::check(line, Path::new("."), downloads, &Inputs::default())?.recipe.base;
        }
        if let BaseSelector::Device { path, .. } = &mut recipe.base.value {
            let whole = folder.join(&path);
            *path = std::path::absolute(&whole)
                .with_context(|| format!("making {} absolute", whole.display()))?;
        }
        Ok(())
    }

    /// Settles what the age of the base may be: the flag's, the recipe's, or the settings'.
    ///
    /// # Errors
    /// [`Kind::Usage`] for what is no duration.
    pub fn settle_age(&self, recipe: &mut Recipe, settings: &Settings) -> Result<()> {
        let flag = self.max_age.as_deref().map(|age| {
            parse_duration(age)
                .map_err(|why| usage(format!("--base-max-age {age}: {why}"), "write --base-max-age 30d"))
        });
        recipe.base_max_age = flag.transpose()?.or(recipe.base_max_age).or(settings.base_max_age);
        Ok(())
    }

    /// Lays the root device's name over the image, whatever its base is.
    ///
    /// # Errors
    /// [`Kind::Usage`] for what is no device's name.
    pub fn name_root(&self, recipe: &mut Recipe) -> Result<()> {
        let Some(name) = &self.root_device else { return Ok(()) };
        if !is_device_name(name) {
            let message = format!("--root-device {name} is no block device's name");
            return Err(usage(message, "write --root-device /dev/xvda").into());
        }
        recipe.image.shape.root_device = Some(name.clone());
        Ok(())
    }

    /// What the flags say besides `--base`.
    fn narrow(&self, selector: &mut BaseSelector) -> Result<()> {
        let asks = !self.owners.is_empty() || !self.filters.is_empty() || self.deprecated;
        match selector {
            BaseSelector::Query(query) => {
                if !self.owners.is_empty() {
                    query.owners.clone_from(&self.owners);
                }
                for (number, text) in self.filters.iter().enumerate() {
                    let Some((name, value)) = text.split_once('=').filter(|(name, _)| !name.is_empty())
                    else {
                        return Err(usage(
                            format!("--filter {text} has no NAME=VALUE"),
                            "write --filter tag:team=web",
                        )
                        .into());
                    };
                    let prefix = format!("{name}=");
                    let is_first = !self.filters.iter().take(number).any(|other| other.starts_with(&prefix));
                    let values = query.filters.entry(name.to_owned()).or_default();
                    if is_first {
                        values.clear();
                    }
                    values.push(value.to_owned());
                }
                query.deprecated |= self.deprecated;
                query.arch = self.arch.clone().or(query.arch.take());
            }
            _ if asks => {
                return Err(usage(
                    "--owner, --filter and --deprecated go with a base by name",
                    "leave them out, or name the base by a glob: --base 'debian-12-*'",
                )
                .into());
            }
            BaseSelector::Snapshot { arch, root_device, .. }
            | BaseSelector::Volume { arch, root_device, .. }
            | BaseSelector::Device { arch, root_device, .. }
            | BaseSelector::Scratch(ScratchSpec { arch, root_device, .. }) => {
                *arch = self.arch.clone().or(arch.take());
                *root_device = self.root_device.clone().or(root_device.take());
            }
            _ if self.arch.is_some() => {
                return Err(
                    usage("--arch says nothing of such a base: it says that itself", "leave it out").into()
                );
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether a base is a path of this host: other names that begin with a slash are SSM parameters.
fn is_device(base: &str) -> bool {
    ["/dev/", "./", "../"].iter().any(|begin| base.starts_with(begin))
        || [".raw", ".img"].iter().any(|end| base.ends_with(end))
}

fn usage(message: impl Into<String>, hint: &str) -> Failure {
    Failure::new(Kind::Usage, message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind_of;

    fn args(base: Option<&str>) -> BaseArgs {
        BaseArgs { base: base.map(str::to_owned), ..BaseArgs::default() }
    }

    fn recipe(base: &str) -> Recipe {
        let text = format!("[image]\nname = \"web\"\n[base]\n{base}\n");
        crate::recipe::parse(&crate::recipe::Source { name: "web.toml".into(), text }).unwrap()
    }

    fn laid(args: &BaseArgs, base: &str) -> Result<BaseSelector> {
        let mut recipe = recipe(base);
        args.lay_over(&mut recipe, Path::new("/recipes"), Path::new("/nowhere"))?;
        Ok(recipe.base.value)
    }

    #[test]
    fn the_form_of_a_base_says_what_it_is() {
        let of = |base: &str| match args(None).selector(base).unwrap() {
            BaseSelector::Ami(_) => "ami",
            BaseSelector::Image(_) => "image",
            BaseSelector::Snapshot { .. } => "snapshot",
            BaseSelector::Volume { .. } => "volume",
            BaseSelector::Device { .. } => "device",
            BaseSelector::Parameter(_) => "parameter",
            BaseSelector::Query(_) => "name",
            BaseSelector::Scratch(_) => "scratch",
        };
        for (base, kind) in [
            ("ami-0123abcd", "ami"),
            ("img-1", "image"),
            ("snap-0123abcd", "snapshot"),
            ("vol-0123abcd", "volume"),
            ("/dev/xvdf", "device"),
            ("./disk.raw", "device"),
            ("/srv/disk.img", "device"),
            ("/aws/service/debian/release/12/latest/amd64", "parameter"),
            ("arn:aws:ssm:eu-west-1:123456789012:parameter/web", "parameter"),
            ("scratch:debian-12", "scratch"),
            ("debian-12-*", "name"),
        ] {
            assert_eq!(of(base), kind, "{base}");
        }
    }

    #[test]
    fn flags_are_laid_over_a_recipes_base() {
        let mut over = args(None);
        over.owners = vec!["amazon".into()];
        over.filters = ["tag:team=web", "tag:team=app", "is-public=true"].map(str::to_owned).to_vec();
        over.deprecated = true;
        let base =
            "name = 'x-*'\nowner = 'self'\nfilters = { 'tag:team' = 'old', platform-details = 'Linux/UNIX' }";
        let BaseSelector::Query(query) = laid(&over, base).unwrap() else { panic!() };
        assert_eq!((query.owners.as_slice(), query.deprecated), (["amazon".to_owned()].as_slice(), true));
        assert_eq!(query.filters["tag:team"], ["web", "app"]);
        assert_eq!(query.filters["platform-details"], ["Linux/UNIX"]);

        let other = laid(&args(Some("ami-0123abcd")), base).unwrap();
        assert_eq!(other, BaseSelector::Ami("ami-0123abcd".into()));
        let BaseSelector::Device { path, .. } = laid(&args(None), "device = 'disk.raw'").unwrap() else {
            panic!()
        };
        assert_eq!(path, Path::new("/recipes/disk.raw"));
    }

    #[test]
    fn flags_that_say_nothing_of_a_base_are_refused() {
        let mut over = args(None);
        over.owners = vec!["self".into()];
        assert_eq!(kind_of(&laid(&over, "ami = 'ami-0123abcd'").unwrap_err()), Kind::Usage);
        let mut over = args(Some("x-*"));
        over.filters = vec!["nothing".into()];
        assert_eq!(kind_of(&laid(&over, "image = 'x'").unwrap_err()), Kind::Usage);
        over.filters = vec!["root-device-typ=ebs".into()];
        assert_eq!(kind_of(&laid(&over, "image = 'x'").unwrap_err()), Kind::Recipe);
        let mut over = args(None);
        over.arch = Some("arm64".into());
        assert_eq!(kind_of(&laid(&over, "image = 'x'").unwrap_err()), Kind::Usage);
    }
}
