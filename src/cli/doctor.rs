//! `bakehouse doctor`: what this host lacks, and the command that mends it.
//!
//! [`probe`] looks and changes nothing that lasts; [`judge`] is pure; this file shows.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::settings::{CloudName, Output, choose_cloud};
use super::{Context, block_on, clouds, print};
use crate::error::{Kind, failure_of};

mod judge;
mod probe;

use judge::{Finding, Grade};

/// Nothing to choose so far.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {}

/// Runs it; status 4 when something that every bake needs is lacking.
///
/// # Errors
/// That a signal came, or the findings could not be shown: what is lacking is a finding, not an error.
pub fn run(context: &Context, _args: &Args) -> Result<ExitCode> {
    let settings = &context.settings;
    let others = [("journals", &*settings.state), ("caches", &settings.cache), ("logs", &settings.logs)];
    let mut findings = judge::judge(&probe::look(&settings.store, others));
    if choose_cloud(&context.settings).0 == CloudName::Ec2 {
        findings.push(ec2(context)?);
    }
    let lacks = findings.iter().any(|finding| finding.grade == Grade::Lacking);
    match context.output {
        Output::Json => {
            let document = serde_json::json!({ "ready": !lacks, "findings": findings });
            print(&serde_json::to_string_pretty(&document).context("encoding the findings")?)?;
        }
        Output::Text => print(&show(&findings))?,
    }
    Ok(if lacks { ExitCode::from(Kind::Host as u8) } else { ExitCode::SUCCESS })
}

/// Whether EC2 answers with this host's credentials.
fn ec2(context: &Context) -> Result<Finding> {
    let asked = block_on(context, async {
        let cloud = clouds::connect(context).await?;
        let (place, _) =
            context.stop.race(async { Ok((cloud.place().await?, cloud.images().await?)) }).await?;
        Ok(format!("{} in {}", place.builder, place.region))
    });
    let what = "EC2: instance metadata and credentials".to_owned();
    // That it was not waited for says nothing of EC2.
    context.stop.check()?;
    Ok(match asked {
        Ok(said) => Finding { what, grade: Grade::Good, said: Some(said), mend: None },
        Err(error) => Finding {
            what,
            grade: Grade::Lacking,
            said: Some(format!("{error:#}")),
            mend: failure_of(&error).and_then(|failure| failure.hint.clone()),
        },
    })
}

fn show(findings: &[Finding]) -> String {
    let mut lines = Vec::new();
    for finding in findings {
        let mark = match finding.grade {
            Grade::Good => "ok     ",
            Grade::Without => "without",
            Grade::Lacking => "LACKING",
        };
        let said = finding.said.as_ref().map_or(String::new(), |said| format!(": {said}"));
        lines.push(format!("{mark}  {}{said}", finding.what));
        if let Some(mend) = &finding.mend {
            lines.push(format!("           {mend}"));
        }
    }
    let count = |grade| findings.iter().filter(|finding| finding.grade == grade).count();
    lines.push(match (count(Grade::Lacking), count(Grade::Without)) {
        (0, 0) => "this host has all that a bake can need".to_owned(),
        (0, without) => match without {
            1 => "this host can bake; one thing that some bakes need is not there".to_owned(),
            _ => format!("this host can bake; {without} things that some bakes need are not there"),
        },
        (lacking, _) => format!("this host cannot bake: {lacking} things are lacking"),
    });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_stands_out_with_its_remedy() {
        let finding = |what: &str, grade, mend: Option<&str>| Finding {
            what: what.to_owned(),
            grade,
            said: mend.map(|_| "not found".to_owned()),
            mend: mend.map(str::to_owned),
        };
        let findings = [
            finding("root", Grade::Good, None),
            finding("xfs_growfs", Grade::Without, Some("sudo apt-get install xfsprogs")),
            finding("sfdisk", Grade::Lacking, Some("sudo apt-get install fdisk")),
        ];
        insta::assert_snapshot!(show(&findings), @r"
        ok       root
        without  xfs_growfs: not found
                   sudo apt-get install xfsprogs
        LACKING  sfdisk: not found
                   sudo apt-get install fdisk
        this host cannot bake: 1 things are lacking
        ");
    }
}
