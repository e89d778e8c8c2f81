//! `bakehouse iam-policy`: the least policy of a builder that bakes some recipes, as JSON. Asks nothing of a cloud.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::inputs::RecipeFlags;
use super::{Context, print};
use crate::cloud::ec2::{Builders, Settings, policy};
use crate::error::{Failure, Kind};

/// For which recipes, and for whom.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The recipes: one policy for all of them
    #[arg(value_name = "RECIPE", required = true)]
    pub recipes: Vec<PathBuf>,
    /// Their variables and environment
    #[command(flatten)]
    pub flags: RecipeFlags,
    /// The account that bakes: 12 digits [default: any]
    #[arg(long, value_name = "ACCOUNT")]
    pub account: Option<String>,
    /// A builder's instance id; repeatable [default: any instance, as long as it calls for itself]
    #[arg(long = "instance", value_name = "INSTANCE")]
    pub instances: Vec<String>,
    /// The calls are made in a role that a CI job takes on by OIDC (or with keys): EC2 then knows of no instance that
    /// calls, and is not asked which it is; so too with --assume-role, or where AWS_WEB_IDENTITY_TOKEN_FILE is set
    #[arg(long)]
    pub oidc: bool,
    /// Allow what `bakehouse prune --recipe RECIPE` asks and does too
    #[arg(long)]
    pub prune: bool,
}

/// Characters that a managed policy may have, white space left out (IAM's quotas).
const LONGEST: usize = 6_144;

/// Runs it.
///
/// # Errors
/// [`Kind::Recipe`] where a recipe is not good, [`Kind::Usage`] for what is no account or instance.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let digits = |text: &str, few: fn(&char) -> bool| text.chars().all(|c| few(&c));
    if let Some(account) = &args.account
        && !(account.len() == 12 && digits(account, char::is_ascii_digit))
    {
        let failure = Failure::new(Kind::Usage, format!("--account {account}: it is no account"));
        return Err(failure.hint("give its 12 digits").into());
    }
    for instance in &args.instances {
        let good = instance
            .strip_prefix("i-")
            .is_some_and(|id| matches!(id.len(), 8 | 17) && digits(id, char::is_ascii_hexdigit));
        if !good {
            let failure = Failure::new(Kind::Usage, format!("--instance {instance}: it is no instance's id"));
            return Err(failure.hint("it is i- and 17 hexadecimal digits").into());
        }
    }
    let downloads = Path::new("/var/cache/bakehouse/downloads");
    let read = |path: &PathBuf| Ok(args.flags.read(path, downloads)?.recipe);
    let recipes = args.recipes.iter().map(read).collect::<Result<Vec<_>>>()?;
    let aws = context.settings.aws.lay_over(Settings::default());
    let environment = ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| std::env::var(name).ok());
    let builders = Builders {
        region: aws.region.or(environment.filter(|region| !region.is_empty())),
        account: args.account.clone(),
        instances: args.instances.clone(),
        prune: args.prune,
        takes_role: args.oidc || aws.role.is_some() || web_identity(),
    };
    let policy = policy(&recipes, &builders);
    let length = policy.to_string().len();
    if length > LONGEST {
        context.reporter.warn(&format!(
            "the policy has {length} characters, a managed one at most {LONGEST}: make it an inline policy of the role (10,240), or one policy for each of several recipes"
        ));
    }
    print(&serde_json::to_string_pretty(&policy).context("encoding the policy")?)?;
    Ok(ExitCode::SUCCESS)
}

/// Whether calls that are made here would be made in a role taken on with a CI job's token.
fn web_identity() -> bool {
    std::env::var_os("AWS_WEB_IDENTITY_TOKEN_FILE").is_some_and(|path| !path.is_empty())
}
