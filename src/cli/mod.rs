//! One file a subcommand: flags in, result out on stdout, everything else on stderr.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use crate::error::{Failure, Kind, exit_status};
use crate::report::{Format, Reporter, Volume, failure};
use crate::stop::Stop;

pub mod aws;
pub mod bake;
mod base;
pub mod clouds;
pub mod completions;
pub mod deadlines;
pub mod doctor;
pub mod enter;
pub mod gc;
pub mod iam_policy;
pub mod images;
pub mod inputs;
pub mod local;
pub mod order;
mod pick;
pub mod prune;
pub mod publish;
pub mod settings;
pub mod shape;
mod signals;
mod sources;
pub mod validate;

use settings::{Common, Output, Settings};

/// Bakes machine images without launching a machine.
#[derive(Debug, Parser)]
#[command(name = "bakehouse", version, propagate_version = true, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit status: 0 done; 1 unexpected; 2 usage; 3 recipe; 4 this host lacks something; 5 base; 6 credentials or \
permission; 7 cloud; 8 disk; 9 a step failed; 10 a check failed; 11 close, capture or registration; 12 image \
name; 13 image good, publishing or a hook after it incomplete; 14 image good (or ended by --until), something left to `gc`; 128+n stopped by signal n.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Bake an image: `bake RECIPE.toml`, or `bake --base BASE PACKAGE...`
    Bake(Box<bake::Args>),
    /// Make true what a recipe's [publish] says of an image and is not yet: copies, shares, parameters
    Publish(publish::Args),
    /// Print the least IAM policy with which a builder bakes and publishes a recipe
    IamPolicy(iam_policy::Args),
    /// Say whether a recipe is good; nothing is asked of a cloud
    Validate(validate::Args),
    /// Show what dead bakes left behind, and with --yes release it
    Gc(gc::Args),
    /// Say what this host lacks, and the command that mends it
    Doctor(doctor::Args),
    /// List the images of the cloud in use; `images show ID` tells all of one
    Images(images::Args),
    /// Show the images that are no longer needed, and with --yes take them out of use
    Prune(prune::Args),
    /// Look inside an image: a shell or a command in its root, read-only and sandboxed; nothing stays
    Enter(enter::Args),
    /// Look after the local store: create-base, import, export, boot, remove
    Local(Box<local::Args>),
    /// Print the completions of a shell
    Completions(completions::Args),
    /// Print a page of the manual, or write them all
    Man(completions::ManArgs),
}

impl Command {
    /// How it ends at a signal.
    fn ends(&self) -> &'static str {
        match self {
            Self::Bake(_) | Self::Enter(_) | Self::Local(_) => {
                "the step ends, what was made is undone (again to leave that to gc)"
            }
            _ => "what is under way ends, nothing more is begun (again to wait for nothing)",
        }
    }
}

/// Where bakes have their mount points: a tmpfs, so that a reboot leaves nothing.
const WORK: &str = "/run/bakehouse";

/// What every subcommand is given.
#[derive(Debug)]
pub struct Context {
    /// The settings.
    pub settings: Settings,
    /// What goes to standard output.
    pub output: Output,
    /// What standard error is written as.
    pub format: Format,
    /// Tells people what is going on.
    pub reporter: Reporter,
    /// Hears signals.
    pub stop: Stop,
    /// How the command ends at a signal, in words.
    ends: &'static str,
}

/// What the command line is read by.
fn definition() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// The whole command; its exit status.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap's own exit() would end in a panic on a closed standard output.
            let told = error.print().is_ok() && !crate::sys::stdio::stdout_was_closed();
            return ExitCode::from(match error.use_stderr() {
                true => Kind::Usage as u8,
                false if told => 0,
                false => Kind::Internal as u8,
            });
        }
    };
    let output = cli.common.output;
    let settings = settings_of(&cli.common);
    let format = match &settings {
        Ok(settings) => settings.log_format,
        Err(_) => cli.common.log_format.unwrap_or_default(),
    };
    match settings.and_then(|settings| run(cli, settings)) {
        Ok(code) => code,
        Err(error) => {
            if output == Output::Json {
                drop(writeln!(std::io::stdout(), "{}", failure::document(&error)));
            }
            tell_failure(&error, format)
        }
    }
}

/// Tells a failure on standard error; its exit status.
fn tell_failure(error: &anyhow::Error, format: Format) -> ExitCode {
    let told = match format {
        Format::Text => failure::render(error),
        Format::Json => format!("{}\n", failure::line(error)),
    };
    drop(write!(std::io::stderr(), "{told}"));
    ExitCode::from(exit_status(error))
}

/// A result as one JSON document; a failure that came after it stands in it, as `error`.
fn document(result: &impl serde::Serialize, failed: Option<&anyhow::Error>) -> Result<String> {
    let mut document = serde_json::to_value(result).context("encoding the result")?;
    if let (Some(fields), Some(error)) = (document.as_object_mut(), failed)
        && let Some(error) = failure::document(error).get("error")
    {
        fields.insert("error".to_owned(), error.clone());
    }
    serde_json::to_string_pretty(&document).context("encoding the result")
}

fn settings_of(common: &Common) -> Result<Settings> {
    if crate::sys::stdio::stdout_was_closed() {
        let failure = Failure::new(Kind::Usage, "standard output is closed, so the result could not be told");
        return Err(failure.hint("leave it open, or send it to a file or to /dev/null").into());
    }
    Settings::load(common)
}

fn run(cli: Cli, settings: Settings) -> Result<ExitCode> {
    let volume = match (cli.common.quiet, cli.common.verbose) {
        (true, _) => Volume::Quiet,
        (false, 0) => Volume::Normal,
        (false, _) => Volume::Verbose,
    };
    let format = settings.log_format;
    tell_log(cli.common.verbose, format);
    let context = Context {
        settings,
        output: cli.common.output,
        format,
        reporter: Reporter::new(volume),
        stop: Stop::default(),
        ends: cli.command.ends(),
    };
    context.reporter.write_as(format);
    match cli.command {
        Command::Bake(args) => bake::run(&context, &args),
        Command::Publish(args) => publish::run(&context, &args),
        Command::IamPolicy(args) => iam_policy::run(&context, &args),
        Command::Validate(args) => validate::run(&context, &args).map(|()| ExitCode::SUCCESS),
        Command::Gc(args) => gc::run(&context, &args),
        Command::Doctor(args) => doctor::run(&context, &args),
        Command::Images(args) => images::run(&context, &args),
        Command::Prune(args) => prune::run(&context, &args),
        Command::Local(args) => local::run(&context, &args),
        Command::Enter(args) => enter::run(&context, &args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => completions::man(&args),
    }
}

/// Runs a subcommand's future with the signals heard. The private mount namespace must exist by now: threads
/// begin here.
pub fn block_on<T>(context: &Context, work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the async runtime")?;
    let result = runtime.block_on(async {
        signals::listen(&context.stop, &context.reporter, context.ends)?;
        work.await
    });
    // Nothing of use is left on its threads, and a blocking read there must not hold the exit up.
    runtime.shutdown_background();
    result
}

/// The SDK's and the library's own log, on standard error: warnings, and more when asked.
fn tell_log(verbose: u8, format: Format) {
    // The verifier's refusal is the error that is told in any case.
    let level = match verbose {
        0 => "warn,aws_config=error,aws_smithy_runtime=error,rustls_platform_verifier=off",
        1 => "bakehouse=debug,warn,rustls_platform_verifier=off",
        _ => "debug,hyper=info",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("BAKEHOUSE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .without_time()
        // It would tell of a closed standard error there, and panic.
        .log_internal_errors(false);
    let ready = match format {
        Format::Text => subscriber.try_init().is_ok(),
        Format::Json => subscriber.json().try_init().is_ok(),
    };
    if !ready {
        tracing::debug!("a log is already set up");
    }
}

/// Writes a result to standard output. A reader that went away is an error of ours, not a panic.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).with_context(|| {
        Failure::new(Kind::Internal, "writing the result to standard output")
            .hint("see where standard output goes; a finished bake's image is told on standard error and in its log too")
    })
}

/// Root, in a mount namespace of its own: whatever is mounted from now on dies with this process. Call it
/// before the first thread.
pub fn private_mounts(doing: &str) -> Result<()> {
    use nix::mount::{MsFlags, mount};
    if !nix::unistd::geteuid().is_root() {
        let hint = format!("run it with sudo: {doing} mounts a disk and enters it, which only root can");
        return Err(Failure::new(Kind::Host, format!("{doing} needs root")).hint(hint).into());
    }
    let lacking = || {
        Failure::new(Kind::Host, "making a mount namespace of our own").hint(
        "this host (a container?) withholds CAP_SYS_ADMIN: run on the host itself, or in a privileged container",
    )
    };
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).with_context(lacking)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .with_context(lacking)
}
