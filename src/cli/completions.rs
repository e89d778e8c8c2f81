//! `bakehouse completions` and `bakehouse man`: what a shell completes and the pages of the manual, both from the
//! definitions that read the command line.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap_complete::Shell;

use super::{definition, print};
use crate::error::{Failure, Kind};

/// For which shell.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The shell; see the manual of yours for where its completions are kept
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints the completions.
///
/// # Errors
/// That standard output could not be written.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition(), "bakehouse", &mut script);
    print(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// Which pages, and where they go.
#[derive(Debug, Clone, clap::Args)]
pub struct ManArgs {
    /// A subcommand, as `bake` or `local import` [default: bakehouse itself]
    #[arg(value_name = "SUBCOMMAND")]
    pub subcommand: Vec<String>,
    /// Write all pages into this folder, as bakehouse.1, bakehouse-bake.1, …
    #[arg(long, value_name = "FOLDER", conflicts_with = "subcommand")]
    pub out: Option<PathBuf>,
}

/// Prints a page, or writes all of them.
///
/// # Errors
/// [`Kind::Usage`] where there is no such subcommand; [`Kind::Host`] where a page could not be written.
pub fn man(args: &ManArgs) -> Result<ExitCode> {
    let mut root = definition().disable_help_subcommand(true);
    root.build();
    match &args.out {
        Some(folder) => {
            let host = |doing: &str| Failure::new(Kind::Host, format!("{doing} {}", folder.display()));
            std::fs::create_dir_all(folder).with_context(|| host("making the folder"))?;
            clap_mangen::generate_to(root, folder).with_context(|| host("writing the manual's pages to"))?;
        }
        None => {
            let mut command = &root;
            for word in &args.subcommand {
                command = command.find_subcommand(word).ok_or_else(|| {
                    let names: Vec<_> = command.get_subcommands().map(clap::Command::get_name).collect();
                    Failure::new(Kind::Usage, format!("there is no subcommand {word}"))
                        .hint(format!("there are {}", names.join(", ")))
                })?;
            }
            let mut page = Vec::new();
            clap_mangen::Man::new(command.clone()).render(&mut page).context("writing the page")?;
            page.flush().context("writing the page")?;
            print(String::from_utf8_lossy(&page).trim_end())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
