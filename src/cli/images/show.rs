//! `bakehouse images show ID`: all that is known of an image.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Serialize;

use super::{age, columns, cost, size, uses};
use crate::cli::settings::Output;
use crate::cli::{Context, block_on, clouds, print, prune};
use crate::cloud::Cloud;
use crate::cloud::shelf::{Shelf, Stock, Use};
use crate::contents::Manifest;
use crate::error::{Failure, Kind};
use crate::prune::Inventory;
use crate::report::harmless;

/// Which image.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Its id or name
    pub image: String,
    /// Another Region that copies may be in; repeatable
    #[arg(long = "copies-in", value_name = "REGION")]
    pub copies_in: Vec<String>,
}

/// An image that it comes from.
#[derive(Debug, Serialize)]
struct Ancestor {
    /// `baked on`, `copied from`.
    how: &'static str,
    id: String,
    name: Option<String>,
    /// Where it stands, or stood.
    region: String,
    created: Option<String>,
    /// Whether it is still to be seen.
    visible: bool,
}

/// All that is known.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    image: Stock,
    family: String,
    cost_at_most: Option<f64>,
    /// What it comes from, nearest first.
    provenance: Vec<Ancestor>,
    /// What its bake wrote on this builder.
    manifest: Option<Manifest>,
    shares: Vec<String>,
    /// The other images of its bake: its copies, or what it is a copy of.
    copies: Vec<Stock>,
    /// What refers to it; none where that could not be asked.
    uses: Option<Vec<Use>>,
}

/// Runs it.
///
/// # Errors
/// [`Kind::Base`] where there is no such image; those of the cloud.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let shown = block_on(context, async {
        let cloud = clouds::connect(context).await?;
        context.stop.race(find(context, args, cloud.as_ref())).await
    })?;
    print(&match context.output {
        Output::Json => serde_json::to_string_pretty(&shown).context("encoding the image")?,
        Output::Text => text(&shown, Timestamp::now()),
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn find(context: &Context, args: &Args, cloud: &dyn Cloud) -> Result<Shown> {
    let shelves = prune::shelves(cloud, context, &args.copies_in).await?;
    let is_it = |image: &Stock| image.image.id == args.image || image.image.name == args.image;
    let mut inventory = Inventory::stock(&shelves).await?;
    // Its own account's first: by name, and with all that its owner is told.
    let found = inventory.stock.iter().find(|image| is_it(image)).cloned();
    let own = found.is_some();
    let home = shelves.first().context("finding the images")?;
    let found = match found {
        None if args.image.starts_with("ami-") => home.image(&args.image).await?,
        found => found,
    };
    let image = found.ok_or_else(|| {
        let message = format!("no image in {} has the id or the name {:?}", home.region(), args.image);
        Failure::new(Kind::Base, message)
            .hint("see `bakehouse images`; another Region is taken with --region")
    })?;
    // What cannot be asked is left out: nothing here depends on it.
    let asked = inventory.ask(&shelves, |other| other.image.id == image.image.id).await;
    if let Err(error) = &asked {
        context.reporter.warn(&format!("what refers to it is not known: {error:#}"));
    }
    let mut shares = Vec::new();
    if own {
        match by_region(&shelves, &image.region)?.shares(&image.image.id).await {
            Ok(told) => shares = told,
            Err(error) => context.reporter.warn(&format!("with whom it is shared is not known: {error:#}")),
        }
    }
    let copies =
        inventory.stock.iter().filter(|other| other.image.id != image.image.id && same_bake(other, &image));
    Ok(Shown {
        family: image.family(),
        cost_at_most: cost(&image),
        provenance: provenance(cloud, &inventory, &image).await?,
        manifest: manifest(&context.settings.logs, &image),
        shares,
        copies: copies.cloned().collect(),
        uses: asked.is_ok().then(|| uses(&inventory, &image)),
        image,
    })
}

fn by_region<'a>(shelves: &'a [Box<dyn Shelf + 'a>], region: &str) -> Result<&'a (dyn Shelf + 'a)> {
    let shelf = shelves.iter().find(|shelf| shelf.region() == region);
    shelf.map(AsRef::as_ref).with_context(|| format!("finding the images of {region}"))
}

fn same_bake(one: &Stock, other: &Stock) -> bool {
    one.bake().is_some() && one.bake() == other.bake()
}

/// Longer chains than this are a ring of tags that somebody wrote by hand.
const LONGEST: usize = 32;

/// What an image comes from, as far as it is to be seen.
async fn provenance(cloud: &dyn Cloud, inventory: &Inventory, image: &Stock) -> Result<Vec<Ancestor>> {
    let mut chain: Vec<Ancestor> = Vec::new();
    let mut at = image.clone();
    while chain.len() < LONGEST {
        let (how, id, region) = match (&at.copy_of, &at.image.base) {
            (Some((id, region)), _) => ("copied from", id.clone(), region.clone()),
            (None, Some(base)) => ("baked on", base.clone(), at.region.clone()),
            (None, None) => break,
        };
        let known = inventory.stock.iter().find(|other| other.image.id == id && other.region == region);
        let found = match known {
            Some(known) => Some(known.clone()),
            None if id.starts_with("ami-") => cloud.shelf(Some(&region)).await?.image(&id).await?,
            None => None,
        };
        let named = || at.image.tags.get("bakehouse:base-name").cloned();
        let name = match (&found, how) {
            (Some(found), _) => Some(found.image.name.clone()),
            (None, "baked on") => named(),
            (None, _) => None,
        };
        let created = found.as_ref().map(|found| found.image.created.clone());
        chain.push(Ancestor { how, id, name, region, created, visible: found.is_some() });
        match found {
            Some(found) => at = found,
            // Of a copy whose original is gone its own tags still tell the base.
            None if how == "copied from" && at.image.base.is_some() => at.copy_of = None,
            None => break,
        }
    }
    Ok(chain)
}

/// What the bake wrote on this builder, where it was this one.
fn manifest(logs: &Path, image: &Stock) -> Option<Manifest> {
    // A tag is other people's text, and no path.
    let bake = crate::plan::BakeId::parse(image.bake()?).ok()?;
    let text = std::fs::read_to_string(logs.join(format!("{bake}.manifest.json"))).ok()?;
    serde_json::from_str(&text).ok()
}

fn text(shown: &Shown, now: Timestamp) -> String {
    let Stock { image, region, .. } = &shown.image;
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut say = |what: &str, value: String| rows.push(vec![what.to_owned(), value]);
    say("name", image.name.clone());
    say("id", format!("{} in {region}", image.id));
    say("state", image.state.clone());
    say("family", shown.family.clone());
    say("age", format!("{} ({})", age(&image.created, now), image.created));
    say("architecture", image.arch.clone());
    if !shown.image.description.is_empty() {
        say("description", shown.image.description.clone());
    }
    for snapshot in &shown.image.snapshots {
        say("snapshot", format!("{}, {}", snapshot.id, size(snapshot.size)));
    }
    if let Some(cost) = shown.cost_at_most {
        say("cost", format!("≤ {cost:.2} USD a month for its snapshots"));
    }
    for (what, value) in [
        ("deprecated", &shown.image.deprecated),
        ("protection", &shown.image.protection),
        ("last launched", &shown.image.last_launched),
    ] {
        if let Some(value) = value {
            say(what, value.clone());
        }
    }
    for ancestor in &shown.provenance {
        let name = ancestor.name.as_deref().unwrap_or("an image without a name");
        let place =
            if ancestor.region == *region { String::new() } else { format!(" in {}", ancestor.region) };
        let gone = if ancestor.visible { "" } else { ", not to be seen from here" };
        let aged = ancestor.created.as_ref().map(|created| format!(", {} old", age(created, now)));
        say(ancestor.how, format!("{name} ({}{place}{}{gone})", ancestor.id, aged.unwrap_or_default()));
    }
    if let Some(manifest) = &shown.manifest {
        say("packages", format!("{}: {}", manifest.packages.0.len(), manifest.difference.summary()));
        for package in &manifest.difference.added {
            say("", format!("+ {} {} {}", package.name, package.version, package.arch));
        }
    }
    if shown.image.public {
        say("shared with", "everybody".to_owned());
    }
    shown.shares.iter().for_each(|share| say("shared with", share.clone()));
    for copy in &shown.copies {
        say("same bake", format!("{} in {} ({})", copy.image.id, copy.region, copy.image.state));
    }
    match &shown.uses {
        Some(uses) if uses.is_empty() => say("use", "nothing that is to be seen from here".to_owned()),
        Some(uses) => uses.iter().for_each(|one| say("use", one.to_string())),
        None => {}
    }
    image.tags.iter().for_each(|(key, value)| say("tag", format!("{key} = {value}")));
    // Names and tags are other people's text, which must not speak to the terminal.
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|row| row.iter().map(|cell| harmless(cell)).collect()).collect();
    columns(&rows)
}
