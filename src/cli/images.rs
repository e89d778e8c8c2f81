//! `bakehouse images`: the images of the cloud in use, and all that is known of one.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Serialize;

use super::pick::Pick;
use super::settings::Output;
use super::{Context, block_on, clouds, print};
use crate::cloud::Cloud;
use crate::cloud::shelf::{Stock, Use};
use crate::prune::{Inventory, as_use};
use crate::report::harmless;

mod show;

/// A list, or one image.
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    one: Option<One>,
    #[command(flatten)]
    pick: Pick,
    /// Ask what refers to each: instances, launch templates, Auto Scaling, parameters, other images
    #[arg(long = "use")]
    uses: bool,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum One {
    /// All that is known of an image: provenance, packages, tags, shares, copies, what refers to it
    Show(show::Args),
}

/// US dollars a GiB and month of an EBS snapshot: the standard tier in us-east-1, <https://aws.amazon.com/ebs/pricing/>.
/// As a cost of an image it is an upper bound: EBS bills the blocks that a snapshot alone holds, not its volume's size.
const SNAPSHOT_RATE: f64 = 0.05;

/// The most that an image's snapshots cost, in US dollars a month, see [`SNAPSHOT_RATE`].
fn cost(image: &Stock) -> Option<f64> {
    let gib = image.bytes().div_ceil(1 << 30);
    (image.region != "local")
        .then(|| (f64::from(u32::try_from(gib).unwrap_or(u32::MAX)) * SNAPSHOT_RATE * 100.0).round() / 100.0)
}

/// One image of the list.
#[derive(Debug, Serialize)]
struct Listed {
    #[serde(flatten)]
    image: Stock,
    family: String,
    /// US dollars a month, an upper bound; none on the local store.
    cost_at_most: Option<f64>,
    /// What refers to it, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    uses: Option<Vec<Use>>,
}

/// Runs it.
///
/// # Errors
/// Those of the cloud.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    if let Some(One::Show(args)) = &args.one {
        return show::run(context, args);
    }
    let listed = block_on(context, async {
        let cloud = clouds::connect(context).await?;
        context.stop.race(list(cloud.as_ref(), args)).await
    })?;
    match context.output {
        Output::Json => print(&serde_json::to_string_pretty(&listed).context("encoding the images")?)?,
        Output::Text if listed.is_empty() => context.reporter.note("no image, or none that is meant"),
        Output::Text => print(&table(&listed, Timestamp::now()))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The list: on EC2 the images that bakes made, of the local store all.
async fn list(cloud: &dyn Cloud, args: &Args) -> Result<Vec<Listed>> {
    let shelves = vec![cloud.shelf(None).await?];
    let ours = |image: &Stock| (image.bake().is_some() || image.region == "local") && args.pick.fits(image);
    let mut inventory = Inventory::stock(&shelves).await?;
    if args.uses {
        inventory.ask(&shelves, ours).await?;
    }
    Ok(inventory
        .stock
        .iter()
        .filter(|image| ours(image))
        .map(|image| Listed {
            image: image.clone(),
            family: image.family(),
            cost_at_most: cost(image),
            uses: args.uses.then(|| uses(&inventory, image)),
        })
        .collect())
}

/// All that refers to an image, other images last.
fn uses(inventory: &Inventory, image: &Stock) -> Vec<Use> {
    let children = inventory.children_of(image).map(|child| as_use(child, image));
    inventory.uses_of(image).cloned().chain(children).collect()
}

fn table(images: &[Listed], now: Timestamp) -> String {
    let mut head = vec!["NAME", "ID", "FAMILY", "AGE", "ARCH", "SIZE", "USD/MONTH", "BASE"];
    if images.iter().any(|image| image.uses.is_some()) {
        head.push("USE");
    }
    let mut rows = vec![head.iter().map(|&name| name.to_owned()).collect()];
    rows.extend(images.iter().map(|image| row(image, now)));
    columns(&rows)
}

/// Rows with their cells below each other.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..rows.iter().map(Vec::len).max().unwrap_or_default())
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let lines = rows.iter().map(|row| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn row(listed: &Listed, now: Timestamp) -> Vec<String> {
    let image = &listed.image.image;
    let state = match image.state.as_str() {
        "available" if listed.image.deprecated.as_ref().is_some_and(|at| is_past(at, now)) => {
            Some("deprecated")
        }
        "available" => None,
        state => Some(state),
    };
    let none = || "-".to_owned();
    let mut cells = vec![
        state.map_or_else(|| image.name.clone(), |state| format!("{} ({state})", image.name)),
        image.id.clone(),
        listed.family.clone(),
        age(&image.created, now),
        image.arch.clone(),
        image.size.map_or_else(none, size),
        listed.cost_at_most.map_or_else(none, |cost| format!("≤ {cost:.2}")),
        image.base.clone().unwrap_or_else(none),
    ];
    if let Some(uses) = &listed.uses {
        let uses: Vec<_> = uses.iter().map(ToString::to_string).collect();
        cells.push(if uses.is_empty() { "nothing".to_owned() } else { uses.join("; ") });
    }
    // Names and tags are other people's text, which must not speak to the terminal.
    cells.iter().map(|cell| harmless(cell)).collect()
}

fn is_past(at: &str, now: Timestamp) -> bool {
    at.parse::<Timestamp>().is_ok_and(|at| at <= now)
}

/// Bytes in the unit that is read most easily.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, factor)| bytes >= *factor) {
        Some((unit, factor)) if bytes.is_multiple_of(*factor) => format!("{} {unit}", bytes / factor),
        Some((unit, factor)) => format!("{}.{} {unit}", bytes / factor, bytes % factor * 10 / factor),
        None => format!("{bytes} B"),
    }
}

/// How long ago, in its largest unit.
pub(super) fn age(created: &str, now: Timestamp) -> String {
    const UNITS: [(&str, i64); 4] = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
    let Ok(created) = created.parse::<Timestamp>() else { return "-".to_owned() };
    let seconds = (now.as_second() - created.as_second()).max(0);
    match UNITS.iter().find(|(_, length)| seconds >= *length) {
        Some((unit, length)) => format!("{} {unit}", seconds / length),
        None => "now".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cloud::ImageSummary;
    use crate::cloud::shelf::{Held, Sort};

    fn image(name: &str, created: &str, base: Option<&str>) -> Listed {
        let image = Stock {
            image: ImageSummary {
                id: "ami-0123456789abcdef0".to_owned(),
                name: name.to_owned(),
                state: "available".to_owned(),
                arch: "x86_64".to_owned(),
                created: created.to_owned(),
                size: Some(4 << 30),
                base: base.map(str::to_owned),
                tags: BTreeMap::new(),
            },
            region: "eu-west-1".to_owned(),
            description: String::new(),
            snapshots: vec![Held { id: "snap-1".to_owned(), size: 4 << 30, ours: true }],
            deprecated: None,
            protection: None,
            copy_of: None,
            public: false,
            last_launched: None,
        };
        Listed { family: image.family(), cost_at_most: cost(&image), image, uses: None }
    }

    #[test]
    fn images_are_a_table() {
        let now = "2026-03-10T12:00:00Z".parse().unwrap();
        let mut pending = image("web-1.4.2", "2026-03-10T11:58:30.250Z", Some("ami-00000000000000001"));
        pending.image.image.state = "pending".to_owned();
        pending.image.image.size = Some((8 << 30) + (512 << 20));
        let mut old = image("debian-12", "2026-03-01T00:00:00Z", None);
        old.image.deprecated = Some("2026-03-09T00:00:00Z".to_owned());
        let mut odd = image("odd\u{1b}[2J", "x", None);
        odd.image.region = "local".to_owned();
        odd.cost_at_most = cost(&odd.image);
        let mut images = [pending, old, odd];
        insta::assert_snapshot!(table(&images, now), @r"
        NAME                    ID                     FAMILY        AGE    ARCH    SIZE     USD/MONTH  BASE
        web-1.4.2 (pending)     ami-0123456789abcdef0  web           1 min  x86_64  8.5 GiB  ≤ 0.20     ami-00000000000000001
        debian-12 (deprecated)  ami-0123456789abcdef0  debian        9 d    x86_64  4 GiB    ≤ 0.20     -
        odd\u{1b}[2J            ami-0123456789abcdef0  odd\u{1b}[2J  -      x86_64  4 GiB    -          -
        ");
        for image in &mut images {
            image.uses = Some(Vec::new());
        }
        let by = "instance i-1 (running)".to_owned();
        images[0].uses = Some(vec![Use { image: "ami-0123456789abcdef0".into(), sort: Sort::Instance, by }]);
        let text = table(&images, now);
        assert!(text.lines().nth(1).unwrap().ends_with("instance i-1 (running)"), "{text}");
        assert!(text.lines().nth(2).unwrap().ends_with("nothing"), "{text}");
    }

    #[test]
    fn ages_and_sizes_are_short() {
        let now = "2026-03-10T12:00:00Z".parse().unwrap();
        assert_eq!(age("2026-03-10T12:00:00.500Z", now), "now");
        assert_eq!(age("2026-03-10T13:00:00Z", now), "now");
        assert_eq!(age("2026-03-10T09:30:00Z", now), "2 h");
        assert_eq!((size(100), size(1536)), ("100 B".to_owned(), "1.5 KiB".to_owned()));
    }
}
