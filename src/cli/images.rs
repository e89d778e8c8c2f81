//! `bakehouse images`: the images of the cloud in use.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use super::settings::Output;
use super::{Context, block_on, clouds, print};
use crate::cloud::{Cloud, ImageSummary};
use crate::report::harmless;

/// Nothing to choose so far.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {}

/// Runs it.
///
/// # Errors
/// Those of the cloud.
pub fn run(context: &Context, _args: &Args) -> Result<ExitCode> {
    let text = block_on(context, async {
        let cloud = clouds::connect(context).await?;
        list(cloud.as_ref(), context.output, Timestamp::now()).await
    })?;
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The list, for people or as one JSON document.
///
/// # Errors
/// Those of the cloud.
pub async fn list(cloud: &dyn Cloud, output: Output, now: Timestamp) -> Result<String> {
    let images = cloud.images().await?;
    match output {
        Output::Json => serde_json::to_string_pretty(&images).context("encoding the images"),
        Output::Text => Ok(table(&images, now)),
    }
}

fn table(images: &[ImageSummary], now: Timestamp) -> String {
    let mut rows = vec![["NAME", "ID", "AGE", "ARCH", "SIZE", "BASE"].map(str::to_owned)];
    rows.extend(images.iter().map(|image| row(image, now)));
    let widths: [usize; 6] = std::array::from_fn(|column| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    });
    let lines = rows.iter().map(|row| {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn row(image: &ImageSummary, now: Timestamp) -> [String; 6] {
    let name = match image.state.as_str() {
        "available" => image.name.clone(),
        state => format!("{} ({state})", image.name),
    };
    let base = image.base.clone().unwrap_or_else(|| "-".to_owned());
    let size = image.size.map_or_else(|| "-".to_owned(), size);
    // Names and tags are other people's text, which must not speak to the terminal.
    [name, image.id.clone(), age(&image.created, now), image.arch.clone(), size, base]
        .map(|cell| harmless(&cell))
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
fn age(created: &str, now: Timestamp) -> String {
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

    fn image(name: &str, created: &str, base: Option<&str>) -> ImageSummary {
        ImageSummary {
            id: "img-0123456789abcdef0".to_owned(),
            name: name.to_owned(),
            state: "available".to_owned(),
            arch: "x86_64".to_owned(),
            created: created.to_owned(),
            size: Some(4 << 30),
            base: base.map(str::to_owned),
            tags: BTreeMap::new(),
        }
    }

    #[test]
    fn images_are_a_table() {
        let now = "2026-03-10T12:00:00Z".parse().unwrap();
        let mut pending = image("web-1.4.2", "2026-03-10T11:58:30.250Z", Some("img-00000000000000001"));
        pending.state = "pending".to_owned();
        pending.size = Some((8 << 30) + (512 << 20));
        let images =
            [pending, image("debian-12", "2026-03-01T00:00:00Z", None), image("odd\u{1b}[2J", "x", None)];
        insta::assert_snapshot!(table(&images, now), @r"
        NAME                 ID                     AGE    ARCH    SIZE     BASE
        web-1.4.2 (pending)  img-0123456789abcdef0  1 min  x86_64  8.5 GiB  img-00000000000000001
        debian-12            img-0123456789abcdef0  9 d    x86_64  4 GiB    -
        odd\u{1b}[2J         img-0123456789abcdef0  -      x86_64  4 GiB    -
        ");
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
