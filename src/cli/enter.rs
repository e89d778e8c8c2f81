//! `bakehouse enter`: a look inside an image.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use super::order::Order;
use super::{Context, bake, block_on, clouds, private_mounts};
use crate::bake::Look;
use crate::error::{Failure, Kind};
use crate::recipe::BaseSelector;
use crate::report::harmless;
use crate::sandbox::{Outcome, Stream};

/// Which image, and what is done in it.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The image: its id or name (globs allowed: the newest), or a snapshot, as `bake --base` takes it
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// What runs in it, and its arguments [default: a shell]
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Let what runs change files: on a disk of its own, which is gone afterwards
    #[arg(long)]
    pub writable: bool,
    /// With the builder's network (without its metadata service); none otherwise
    #[arg(long)]
    pub network: bool,
    /// The root's partition number, where finding it by content is not wanted
    #[arg(long, value_name = "N")]
    pub partition: Option<u32>,
}

/// `bake`'s arguments, read as its command line is.
#[derive(Debug, Parser)]
struct AsBake {
    #[command(flatten)]
    args: bake::Args,
}

impl Args {
    /// The bake that would start from this image, but for its end.
    fn as_bake(&self) -> Result<bake::Args> {
        let base = format!("--base={}", self.image);
        let partition = self.partition.map(|number| format!("--partition={number}"));
        let words = ["enter", &base, "--name=enter-{time}"].map(str::to_owned).into_iter().chain(partition);
        let read =
            AsBake::try_parse_from(words).map_err(|error| Failure::new(Kind::Usage, error.to_string()))?;
        match read.args.base.selector(&self.image)? {
            // Bakes work on these in place.
            BaseSelector::Volume { .. } | BaseSelector::Device { .. } | BaseSelector::Scratch(_) => {
                let message = format!("{} is no image: it is a disk of your own", self.image);
                let hint = "name an image or a snapshot; a disk of your own can be mounted as it is";
                Err(Failure::new(Kind::Usage, message).hint(hint).into())
            }
            _ => Ok(read.args),
        }
    }
}

/// Passes a line on: as it is to a program, and to a terminal so that it cannot steer it.
fn pass(to: &mut (impl std::io::Write + IsTerminal), text: &str) -> std::io::Result<()> {
    match to.is_terminal() {
        true => writeln!(to, "{}", harmless(text)),
        false => writeln!(to, "{text}"),
    }
}

/// Runs it. The exit status is that of what ran inside.
///
/// # Errors
/// Those of the cloud, the disk and the sandbox.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let as_bake = args.as_bake()?;
    let order = Order::read(&as_bake, &context.settings)?;
    private_mounts("entering an image")?;
    let look = Look {
        command: args.command.clone(),
        interactive: std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
            || args.command.is_empty(),
        writable: args.writable,
        network: args.network,
    };
    block_on(context, async {
        let cloud = clouds::connect(context).await?;
        let plan = context.stop.race(order.plan(context, &as_bake, cloud.as_ref())).await?;
        super::signals::leave_when_hurried(context, Some(&plan.bake));
        let kitchen = bake::kitchen(context, &as_bake, cloud.as_ref());
        let mut is_heard = true;
        let mut line = |stream: Stream, text: &str| {
            let told = match stream {
                Stream::Out => pass(&mut std::io::stdout(), text),
                Stream::Err => pass(&mut std::io::stderr(), text),
            };
            // As a reader that goes away ends any program: once.
            if told.is_err() && std::mem::take(&mut is_heard) {
                context.stop.raise(libc::SIGPIPE);
            }
        };
        let outcome = crate::bake::enter(&kitchen, &plan, &look, &mut line).await?;
        Ok(ExitCode::from(match outcome {
            Outcome::Exited(status) => u8::try_from(status).unwrap_or(u8::MAX),
            Outcome::Signaled(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            Outcome::TimedOut => Kind::Internal as u8,
        }))
    })
}
