//! `bakehouse local remove`: an image and its disk go.

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::Context;

/// Which.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The images, by name or id
    #[arg(required = true)]
    pub images: Vec<String>,
}

/// Runs it.
///
/// # Errors
/// [`crate::error::Kind::Base`] when there is no such image; those before it are gone by then.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let store = super::store(context)?;
    for image in &args.images {
        let record = store.remove(image)?;
        context.reporter.note(&format!("{} is gone", record.name));
        super::print_image(context.output, &record)?;
    }
    Ok(ExitCode::SUCCESS)
}
