//! `bakehouse validate`: is this recipe good? Nothing is asked of a cloud, and nothing needs root.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::error::{Failure, Kind};
use crate::provision::check_template;
use crate::provisioner::{Builder, FileFacts, Library, Settled, StagedFile, check_recipe};
use crate::recipe::{Complained, Inputs, Look, NotGood, Recipe, Source, render, source_from_bytes, vars};

use super::Context;
use super::inputs::RecipeFlags;
use super::settings::Output;

/// `bakehouse validate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The recipe
    pub recipe: PathBuf,
    /// Variables and the environment.
    #[command(flatten)]
    pub flags: RecipeFlags,
}

/// A recipe that is good, with what its steps came to.
#[derive(Debug)]
pub struct Read {
    /// Its text.
    pub source: Source,
    /// What it says.
    pub recipe: Recipe,
    /// Its steps and checks.
    pub settled: Settled,
}

/// Says whether a recipe is good: on stdout that it is, on stderr everything that is wrong with it.
///
/// # Errors
/// [`Kind::Recipe`] where it isn't.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let read = good(args)?;
    let (steps, checks) = (read.settled.steps.len(), read.settled.checks.len());
    super::print(&match context.output {
        Output::Text => line(&args.recipe, steps, checks),
        Output::Json => document(&args.recipe, steps, checks).to_string(),
    })
}

fn good(args: &Args) -> Result<Read> {
    // Where downloads would be is of no interest here: nothing is fetched.
    let inputs = Inputs { check_all: true, ..args.flags.inputs()? };
    read(&args.recipe, Path::new("/var/cache/bakehouse/downloads"), &inputs)
}

fn document(recipe: &Path, steps: usize, checks: usize) -> serde_json::Value {
    json!({ "recipe": recipe.display().to_string(), "good": true, "steps": steps, "checks": checks })
}

fn line(recipe: &Path, steps: usize, checks: usize) -> String {
    let count = |number: usize, word: &str| match number {
        1 => format!("1 {word}"),
        number => format!("{number} {word}s"),
    };
    let mut line = format!("{} is good: {}", recipe.display(), count(steps, "step"));
    if checks > 0 {
        line.push_str(&format!(", {}", count(checks, "check")));
    }
    line
}

/// Reads a recipe with all that it names, the provisioners beside it among them. What is wrong is shown on stderr.
///
/// # Errors
/// [`Kind::Recipe`] where the file can't be read, or anything is wrong.
pub fn read(path: &Path, downloads: &Path, inputs: &Inputs) -> Result<Read> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| {
        let folder = path.is_dir();
        let message = if folder { format!("{name} is a folder") } else { format!("{name}: {error}") };
        Failure::new(Kind::Recipe, message).hint("name the recipe's TOML file")
    })?;
    let source = source_from_bytes(&name, &bytes)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    check(source, folder, downloads, inputs)
}

/// Checks a recipe's text; relative paths in it are below `folder`.
///
/// # Errors
/// As [`read`].
pub fn check(source: Source, folder: &Path, downloads: &Path, inputs: &Inputs) -> Result<Read> {
    let folder = std::path::absolute(folder).with_context(|| format!("finding {}", folder.display()))?;
    let builder = Builder { recipe_folder: &folder, downloads, facts: &facts };
    let wrong = match check_recipe(&source, &Library::open(&folder), builder, inputs) {
        Ok((mut recipe, settled)) => match super::shape::fill_in_uefi(&mut recipe, &folder) {
            Ok(()) => {
                check_templates(&recipe, &settled)?;
                return Ok(Read { source, recipe, settled });
            }
            Err(complaint) => vec![Complained { source: source.clone(), complaints: vec![complaint] }],
        },
        Err(wrong) => wrong,
    };
    let look = look();
    let shown: Vec<String> = wrong.iter().map(|one| render(&one.complaints, &one.source, look)).collect();
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{}", shown.join("\n")).context("writing to standard error")?;
    // Where the recipe itself is good, what was typed is not.
    let typed = |name: &str| matches!(name, vars::COMMAND_LINE | vars::AMBIENT);
    let (kind, message) = match wrong.iter().all(|one| typed(&one.source.name)) {
        true => (Kind::Usage, format!("{} can't be read with what was given", source.name)),
        false => (Kind::Recipe, format!("{} is not good", source.name)),
    };
    let failure = Failure::new(kind, message).hint("mend what is underlined above; nothing was touched");
    Err(anyhow::Error::new(NotGood(wrong)).context(failure))
}

/// Looks whether the files that are templates can be filled in.
fn check_templates(recipe: &Recipe, settled: &Settled) -> Result<()> {
    for step in settled.steps.iter().chain(&settled.checks) {
        let local = |staged: &&StagedFile| staged.url.is_none() && staged.object.is_none();
        for staged in step.all_staged().filter(local).filter(|staged| staged.template) {
            check_template(&staged.from, &recipe.variables)
                .with_context(|| format!("looking at the templates of step {:?}", step.name))?;
        }
    }
    Ok(())
}

/// What is at a path on this host. Links are followed, as staging does.
fn facts(path: &Path) -> FileFacts {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => FileFacts::File,
        Ok(meta) if meta.is_dir() => FileFacts::Folder,
        Ok(_) => FileFacts::Other,
        Err(_) => FileFacts::Missing,
    }
}

/// Fancy on a terminal, plain elsewhere and where `NO_COLOR` is set.
fn look() -> Look {
    let fancy =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    if fancy { Look { fancy, width: 100 } } else { Look::plain() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind_of;

    const HEAD: &str = "[image]\nname = \"web\"\n[base]\nimage = \"x\"\n";

    #[test]
    fn a_recipe_is_checked_with_the_provisioners_and_files_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = folder.path().join("web.toml");
        let put = |path: &str, content: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        put("web.toml", &format!("{HEAD}[[step]]\nuse = \"own\"\nfile = \"there\"\n"));
        put(
            "provisioners/own/provisioner.toml",
            "summary = \"x\"\nparams.file.type = \"path\"\nrun.command = [\"true\"]\n",
        );
        let downloads = Path::new("/nowhere");
        assert_eq!(
            kind_of(&read(&recipe, downloads, &Inputs::default()).unwrap_err()),
            Kind::Recipe,
            "the file is missing"
        );
        put("there", "");
        let good = read(&recipe, downloads, &Inputs::default()).unwrap();
        assert_eq!(good.settled.steps[0].staged[0].from, folder.path().join("there"));
        super::good(&Args { recipe, flags: RecipeFlags::default() }).unwrap();
    }

    #[test]
    fn what_is_no_recipe_has_the_recipes_exit_status() {
        let folder = tempfile::tempdir().unwrap();
        let latin = folder.path().join("latin.toml");
        std::fs::write(&latin, b"[image]\nname = \"w\xe9b\"\n").unwrap();
        for path in [folder.path().to_owned(), folder.path().join("gone.toml"), latin] {
            let error = super::good(&Args { recipe: path, flags: RecipeFlags::default() }).unwrap_err();
            assert_eq!(kind_of(&error), Kind::Recipe, "{error:#}");
        }
    }

    #[test]
    fn a_recipe_whose_name_is_not_utf_8_is_told_as_any_other() {
        use std::os::unix::ffi::OsStrExt as _;
        let name = Path::new(std::ffi::OsStr::from_bytes(b"w\xe9b.toml"));
        assert_eq!(document(name, 1, 0)["recipe"], "w\u{fffd}b.toml");
    }
}
