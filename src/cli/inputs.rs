//! How a recipe is read: its variables and its environment. Every subcommand that takes a recipe flattens
//! [`RecipeFlags`].

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::validate::{self, Read};
use crate::error::{Failure, Kind};
use crate::recipe::{Inputs, source_from_bytes, vars};

/// Variables and the environment of a recipe.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RecipeFlags {
    /// A variable of the recipe ([vars]); repeatable
    #[arg(long = "var", value_name = "NAME=VALUE", help_heading = "Variables")]
    pub vars: Vec<String>,
    /// A TOML file of variables; repeatable, the later wins
    #[arg(long = "var-file", value_name = "FILE", help_heading = "Variables")]
    pub var_files: Vec<PathBuf>,
    /// The environment of the recipe ([env.NAME]) that is laid over the rest
    #[arg(
        long = "env",
        value_name = "NAME",
        env = "BAKEHOUSE_ENV",
        hide_env_values = true,
        help_heading = "Variables"
    )]
    pub environment: Option<String>,
}

impl RecipeFlags {
    /// What the flags, the files that they name and the builder's environment give.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a flag without `=`, [`Kind::Recipe`] for a file that can't be read.
    pub fn inputs(&self) -> Result<Inputs> {
        let mut inputs = Inputs { environment: self.environment.clone(), ..Inputs::default() };
        for flag in &self.vars {
            let (name, value) = flag.split_once('=').ok_or_else(|| {
                Failure::new(Kind::Usage, format!("--var {flag} has no =")).hint("write --var NAME=VALUE")
            })?;
            inputs.flags.push((name.to_owned(), value.to_owned()));
        }
        for path in &self.var_files {
            let name = path.display().to_string();
            let bytes = std::fs::read(path).map_err(|error| {
                Failure::new(Kind::Recipe, format!("reading the variables of {name}: {error}"))
                    .hint("--var-file takes a TOML file of NAME = VALUE lines")
            })?;
            inputs.files.push(source_from_bytes(&name, &bytes)?);
        }
        let ambient = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.to_str()?.strip_prefix(vars::PREFIX)?.to_owned();
            Some((name, value.into_string().ok()?))
        });
        inputs.ambient = ambient.collect();
        Ok(inputs)
    }

    /// Reads a recipe with them.
    ///
    /// # Errors
    /// As [`RecipeFlags::inputs`] and [`validate::read`].
    pub fn read(&self, path: &Path, downloads: &Path) -> Result<Read> {
        validate::read(path, downloads, &self.inputs()?)
    }

    /// Refuses variables and an environment where there is no recipe that could know them.
    ///
    /// # Errors
    /// [`Kind::Usage`] where any is given.
    pub fn refuse(&self) -> Result<()> {
        // One that comes from the builder's environment is meant for recipes, and none is here.
        let typed = self.environment.as_ref().filter(|_| std::env::var_os("BAKEHOUSE_ENV").is_none());
        if let Some(name) = typed {
            let failure =
                Failure::new(Kind::Usage, format!("--env {name} needs a recipe that has [env.{name}]"));
            return Err(failure.hint("write a recipe, or leave it out").into());
        }
        if self.vars.is_empty() && self.var_files.is_empty() {
            return Ok(());
        }
        let failure = Failure::new(Kind::Usage, "--var and --var-file need a recipe that declares [vars]");
        Err(failure.hint("write a recipe, or say the values where they are used").into())
    }
}
