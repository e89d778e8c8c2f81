//! `bakehouse local create-base`: a foundation image of packages alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{Context, WORK, private_mounts};
use crate::cloud::local::{NewImage, Origin, Provenance};
use crate::disk::Layout;
use crate::error::{Failure, Kind};
use crate::foundation::{Content, Debian, Foundation, Release, Sources, Variant};
use crate::plan::Arch;
use crate::recipe::units::parse_size;
use crate::recipe::url::{CREDENTIALS_HELP, holds_credentials};
use crate::recipe::{Firmware, RootFilesystem};

/// What it is made of.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// debian-12 or debian-13
    #[arg(value_name = "RELEASE")]
    pub release: String,
    /// Its name in the store [default: the release's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The disk's size; a bake can make it larger
    #[arg(long, value_name = "SIZE", default_value = "4GiB")]
    pub size: String,
    /// How much is on it
    #[arg(long, value_enum, default_value = "cloud")]
    pub variant: Variant,
    /// What boots it [default: bios, on arm64 uefi]
    #[arg(long, value_enum)]
    pub firmware: Option<Firmware>,
    /// The root's filesystem
    #[arg(long, value_enum, default_value = "ext4")]
    pub filesystem: RootFilesystem,
    /// Further packages, divided by commas; repeatable
    #[arg(long, value_name = "PACKAGE", value_delimiter = ',')]
    pub include: Vec<String>,
    /// The packages' mirror [default: the host's own where it is Debian, else the public ones]
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// x86_64 or arm64 [default: this host's]
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<String>,
}

/// Runs it.
///
/// # Errors
/// [`Kind::Host`] when this host lacks something, [`Kind::Name`] when the name is taken; what mmdebstrap said.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let (foundation, size) = foundation(context, args)?;
    private_mounts("making a foundation image")?;
    let store = super::store_to_fill(context)?;
    crate::foundation::sweep(Path::new(WORK))?;
    let image = new_image(&foundation, args)?;
    let (reporter, stop) = (context.reporter.clone(), context.stop.clone());
    let about = format!("{} in {}", foundation.name(), store.folder().display());
    reporter.phase("base", &about);
    let record = super::work(context, "the foundation", move || {
        let mut tell = |line: &str| reporter.line("create-base", line);
        let place = Path::new(WORK);
        store.add(image, |file| foundation.make(file, size, place, &stop, &mut tell))
    })?;
    let took = context.reporter.elapsed().as_secs_f64();
    context.reporter.note(&format!("{} is {}, made in {took:.1} s", record.name, record.id));
    super::print_image(context.output, &record)
}

fn foundation(context: &Context, args: &Args) -> Result<(Foundation, u64)> {
    let release = Release::parse(&args.release)?;
    let wrong_size = |why: &str| {
        Failure::new(Kind::Usage, format!("--size {}: {why}", args.size)).hint("write --size 4GiB")
    };
    let size = parse_size(&args.size).map_err(|why| wrong_size(&why))?;
    // They become part of one argument of mmdebstrap, whose patterns (`?`, `~`) may stay.
    if let Some(odd) = args.include.iter().find(|name| name.is_empty() || name.starts_with('-')) {
        return Err(Failure::new(Kind::Usage, format!("--include: {odd:?} is no package's name")).into());
    }
    if args.mirror.as_deref().is_some_and(holds_credentials) {
        let message = "--mirror: the URL holds credentials";
        return Err(Failure::new(Kind::Usage, message).hint(CREDENTIALS_HELP).into());
    }
    let debian = Debian {
        release,
        include: args.include.clone(),
        sources: Sources::choose(args.mirror.as_deref(), release.suite),
        cache: context.settings.cache.clone(),
    };
    let arch = super::arch(args.arch.as_deref())?;
    let usual = if arch == Arch::Arm64 { Firmware::Uefi } else { Firmware::Bios };
    let layout = Layout { filesystem: args.filesystem, firmware: args.firmware.unwrap_or(usual), arch };
    let foundation = Foundation { content: Content::Debian(debian), layout, variant: args.variant };
    let size = size.checked_next_multiple_of(1 << 20).ok_or_else(|| wrong_size("too large a size"))?;
    Ok((foundation, size))
}

fn new_image(foundation: &Foundation, args: &Args) -> Result<NewImage> {
    let release = Release::parse(&args.release)?;
    let boot_mode = match foundation.layout.firmware {
        Firmware::Bios => "bios",
        other => other.boot_mode(),
    };
    let default = match foundation.variant {
        Variant::Cloud => release.name.to_owned(),
        Variant::Tiny => format!("{}-tiny", release.name),
    };
    Ok(NewImage {
        name: args.name.clone().unwrap_or(default),
        arch: foundation.layout.arch,
        description: format!("{} ({}), made of packages by Bakehouse", release.name, release.suite),
        tags: BTreeMap::from([("release".to_owned(), release.name.to_owned())]),
        boot_mode: (foundation.variant == Variant::Cloud).then(|| boot_mode.to_owned()),
        provenance: Provenance::new(Origin::Foundation, args.mirror.clone()),
    })
}
