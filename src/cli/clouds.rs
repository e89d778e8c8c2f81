//! The cloud in use, connected.

use anyhow::Result;

use super::Context;
use super::settings::{CloudName, choose_cloud};
use crate::cloud::Cloud;

/// Connects to the cloud in use, and says which and why.
pub async fn connect(context: &Context) -> Result<Box<dyn Cloud>> {
    let (name, why) = choose_cloud(&context.settings);
    let shown = match name {
        CloudName::Ec2 => "ec2".to_owned(),
        CloudName::Local => format!("local ({})", context.settings.store.display()),
    };
    context.reporter.phase("cloud", &format!("{shown}: {why}"));
    Ok(match name {
        CloudName::Ec2 => {
            let settings = context.settings.aws.lay_over(context.settings.deadlines.ec2());
            Box::new(context.stop.race(crate::cloud::ec2::Ec2::connect(settings)).await?)
        }
        CloudName::Local => Box::new(crate::cloud::local::Store::open(&context.settings.store)?),
    })
}
