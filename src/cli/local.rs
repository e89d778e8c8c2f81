//! `bakehouse local …`: the store of disk images on this host.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::settings::Output;
use super::{Context, print};
use crate::cloud::local::{Record, Store};
use crate::error::{Failure, Kind};
use crate::plan::Arch;
use crate::program::Program;

pub mod boot;
pub mod create_base;
pub mod export;
pub mod import;
pub mod remove;

/// What is done with the store.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Make a bootable foundation image of packages alone
    CreateBase(create_base::Args),
    /// Bring a disk image in: raw, qcow2, vmdk or what else qemu-img reads
    Import(import::Args),
    /// Write an image to a file: .raw, .qcow2 or .vmdk
    Export(export::Args),
    /// Boot an image in QEMU, its serial console on this terminal; what it changes is thrown away
    Boot(boot::Args),
    /// Remove an image and its disk
    Remove(remove::Args),
}

/// `bakehouse local`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What is done.
    #[command(subcommand)]
    pub command: Command,
}

/// Runs it.
///
/// # Errors
/// Those of the subcommand.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    match &args.command {
        Command::CreateBase(args) => create_base::run(context, args),
        Command::Import(args) => import::run(context, args),
        Command::Export(args) => export::run(context, args),
        Command::Boot(args) => boot::run(context, args),
        Command::Remove(args) => remove::run(context, args),
    }
}

/// Runs a subcommand's work, which blocks, beside the runtime: a second signal leaves it where it is.
fn work<T: Send + 'static>(
    context: &Context,
    what: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    super::block_on(context, async {
        super::signals::leave_when_hurried(context, None);
        tokio::task::spawn_blocking(work).await.with_context(|| format!("waiting for {what}"))?
    })
}

fn store(context: &Context) -> Result<Store> {
    Store::open(&context.settings.store)
}

/// The store, to put something in: what a killed run left there is removed first.
fn store_to_fill(context: &Context) -> Result<Store> {
    let store = store(context)?;
    for left in store.sweep()? {
        context.reporter.note(&format!("removed {}, which an earlier run left unfinished", left.display()));
    }
    Ok(store)
}

/// A program that ends with this command, however that ends. Who is not root has no namespace to tie it by.
fn tied(program: Program) -> Program {
    if nix::unistd::geteuid().is_root() { program.contained() } else { program }
}

/// The image's id on standard output, or its record.
fn print_image(output: Output, record: &Record) -> Result<ExitCode> {
    match output {
        Output::Text => print(&record.id)?,
        Output::Json => print(&serde_json::to_string_pretty(record).context("encoding the record")?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The architecture that was asked for, or this host's.
fn arch(asked: Option<&str>) -> Result<Arch> {
    let name = asked.unwrap_or(std::env::consts::ARCH);
    Arch::parse(name).ok_or_else(|| {
        Failure::new(Kind::Usage, format!("{name} is no architecture that images have"))
            .hint("the architectures are x86_64 and arm64")
            .into()
    })
}

/// A disk image's format by the end of its file's name, in QEMU's words.
fn format_of(path: &Path) -> Result<&'static str, Failure> {
    let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default().to_ascii_lowercase();
    match end.as_str() {
        "raw" | "img" => Ok("raw"),
        "qcow2" => Ok("qcow2"),
        "vmdk" => Ok("vmdk"),
        _ => Err(Failure::new(Kind::Usage, format!("{} has no format's name at its end", path.display()))
            .hint("name it .raw, .qcow2 or .vmdk")),
    }
}

/// A path as part of one of QEMU's options, where a comma ends a value unless it is doubled.
fn option_value(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_in_the_name() {
        let format = |name: &str| format_of(Path::new(name)).map_err(|failure| failure.to_string());
        assert_eq!(format("/a/b.RAW").unwrap(), "raw");
        assert_eq!(format("x.vmdk").unwrap(), "vmdk");
        assert!(format("x.iso").unwrap_err().contains("x.iso"));
        assert!(format("/dev/sda").is_err());
    }

    #[test]
    fn a_comma_in_a_path_does_not_end_an_option() {
        assert_eq!(option_value(Path::new("/a,b,readonly=off")), "/a,,b,,readonly=off");
    }
}
