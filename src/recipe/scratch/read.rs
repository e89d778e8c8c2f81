//! Reading `scratch`, and what is wrong with it.

use std::ops::Range;

use super::super::reader::{Complaints, Table, did_you_mean, listed, shown, wrong_type};
use super::super::url::{CREDENTIALS_HELP, holds_credentials};
use super::super::{Complaint, DiskSpec, RawValue, Spanned};
use super::{Bootstrap, Firmware, MISFIT_HELP, RELEASES, RootFilesystem, ScratchSpec};
use crate::plan::Arch;

/// Reads the key's value: a release's name, or a table.
pub(in crate::recipe) fn scratch(
    value: &Spanned<RawValue>,
    complaints: &mut Complaints,
) -> Option<ScratchSpec> {
    if let RawValue::String(name) = &value.value {
        let name = Spanned { value: name.clone(), span: value.span.clone() };
        return release(&name, complaints).then(|| ScratchSpec::of_release(&name.value));
    }
    let RawValue::Table(_) = &value.value else {
        let wanted = "a release's name or a table";
        complaints.push(wrong_type("`scratch`", wanted, &value.value, value.span.clone()));
        return None;
    };
    let mut table = Table::of("`scratch`", value, complaints)?;
    let bootstrap = bootstrap(&mut table, complaints);
    let filesystem = word(
        &mut table,
        "filesystem",
        &[RootFilesystem::Ext4, RootFilesystem::Xfs, RootFilesystem::Btrfs],
        RootFilesystem::as_str,
        complaints,
    );
    let firmware = word(
        &mut table,
        "firmware",
        &[Firmware::Bios, Firmware::Uefi, Firmware::Both],
        Firmware::as_str,
        complaints,
    );
    let boot_loader = table.bool("boot_loader", complaints);
    table.finish(complaints);
    Some(ScratchSpec {
        bootstrap: bootstrap?,
        filesystem: filesystem.map_or(RootFilesystem::Ext4, |found| found.value),
        firmware: firmware.map(|found| found.value),
        boot_loader: boot_loader.unwrap_or(true),
        arch: None,
        root_device: None,
    })
}

/// Complains where no machine of the architecture has the firmware.
pub(in crate::recipe) fn check_arch(spec: &ScratchSpec, span: &Range<usize>, complaints: &mut Complaints) {
    let is_arm = spec.arch.as_deref().and_then(Arch::parse) == Some(Arch::Arm64);
    if is_arm && spec.firmware.is_some_and(Firmware::has_bios) {
        complaints.push(
            Complaint::new("machines of arm64 have no BIOS", span.clone()).help("say firmware = \"uefi\""),
        );
    }
}

/// Complains where the image would be registered with a boot mode in which its disk does not boot.
pub(in crate::recipe) fn check_boot_mode(
    spec: &ScratchSpec,
    span: &Range<usize>,
    mode: &str,
    complaints: &mut Complaints,
) {
    // What is not said depends on the builder: the plan knows it.
    let arch = spec.arch.as_deref().and_then(Arch::parse);
    let firmware = spec.firmware.or_else(|| arch.map(Firmware::usual));
    if let Some(misfit) = firmware.and_then(|firmware| spec.misfit(mode, firmware)) {
        complaints.push(Complaint::new(misfit, span.clone()).help(MISFIT_HELP));
    }
}

/// The least that a release's packages fit in, in bytes.
const LEAST: u64 = 1 << 30;

/// Complains unless the disk is one that can begin blank: of a size, and that enough.
pub(in crate::recipe) fn check_disk(
    spec: &ScratchSpec,
    span: &Range<usize>,
    disk: &DiskSpec,
    complaints: &mut Complaints,
) {
    if disk.bake.initialization_rate.is_some() {
        complaints.push(
            Complaint::new("a blank volume has nothing that `initialization_rate` could load", span.clone())
                .help("leave it out of [disk.bake]"),
        );
    }
    match disk.size {
        None => complaints.missing(
            Complaint::new("how large the blank disk is to be is not said", span.clone())
                .help("add [disk] with size = \"4GiB\", for one"),
        ),
        Some(size) if size < LEAST && spec.release().is_some() => complaints.push(
            Complaint::new("a disk for a release has at least 1GiB", span.clone()).help("raise [disk] size"),
        ),
        Some(_) => {}
    }
}

fn bootstrap(table: &mut Table, complaints: &mut Complaints) -> Option<Bootstrap> {
    let own = table.string("release", complaints);
    let script = table.string("bootstrap", complaints);
    let packages = table.strings("packages", complaints);
    let mirror = table.string("mirror", complaints);
    let args = table.strings("args", complaints);
    let timeout = table.duration("timeout", complaints);
    if let Some(odd) =
        packages.iter().flatten().find(|name| name.value.is_empty() || name.value.starts_with('-'))
    {
        let message = format!("`{}` is no package's name", shown(&odd.value));
        complaints.push(Complaint::new(message, odd.span.clone()));
    }
    if let Some(mirror) = &mirror
        && !["http://", "https://", "file:/", "copy:/"].iter().any(|scheme| mirror.value.starts_with(scheme))
    {
        let help = "as in mirror = \"https://deb.debian.org/debian\"";
        complaints.push(Complaint::new("`mirror` must be a URL", mirror.span.clone()).help(help));
    }
    if let Some(mirror) = mirror.as_ref().filter(|mirror| holds_credentials(&mirror.value)) {
        let complaint = Complaint::new("the URL of `mirror` holds credentials", mirror.span.clone());
        complaints.push(complaint.help(CREDENTIALS_HELP));
    }
    for (extra, with, there) in [
        ("packages", "release", own.is_some()),
        ("mirror", "release", own.is_some()),
        ("args", "bootstrap", script.is_some()),
        ("timeout", "bootstrap", script.is_some()),
    ] {
        if let Some((key, _)) = table.entry(extra)
            && !there
            && (own.is_some() || script.is_some())
        {
            let message = format!("`{extra}` goes with `{with}` in `scratch`");
            complaints.push(Complaint::new(message, key.span.clone()));
        }
    }
    let texts = |list: Option<Vec<Spanned<String>>>| {
        list.into_iter().flatten().map(|text| text.value).collect::<Vec<_>>()
    };
    match (own, script) {
        (Some(_), Some(script)) => {
            complaints.push(
                Complaint::new("`scratch` says both `release` and `bootstrap`", script.span)
                    .label("one too many")
                    .help("leave one of them"),
            );
            None
        }
        (Some(name), None) => release(&name, complaints).then(|| Bootstrap::Release {
            name: name.value,
            packages: texts(packages),
            mirror: mirror.map(|mirror| mirror.value),
        }),
        (None, Some(script)) if script.value.trim().is_empty() => {
            complaints.push(Complaint::new("`bootstrap` must be a path", script.span));
            None
        }
        (None, Some(script)) => Some(Bootstrap::Script {
            path: script.value.into(),
            span: script.span,
            args: texts(args),
            timeout: timeout.map(|timeout| timeout.value),
        }),
        (None, None) => {
            if table.get("release").is_none() && table.get("bootstrap").is_none() {
                let help = "add release = \"debian-12\", or bootstrap = \"./bootstrap.sh\"";
                complaints.missing(
                    Complaint::new("`scratch` does not say what fills the disk", table.span.clone())
                        .help(help),
                );
            }
            None
        }
    }
}

/// Whether there is such a release; a complaint where there is none.
fn release(name: &Spanned<String>, complaints: &mut Complaints) -> bool {
    if RELEASES.iter().any(|(known, _)| *known == name.value) {
        return true;
    }
    let known = RELEASES.map(|(name, _)| name);
    let message = format!("no release `{}` can be made from scratch", shown(&name.value));
    let complaint = Complaint::new(message, name.span.clone());
    complaints.push(match did_you_mean(&name.value, &known) {
        Some(near) => complaint.help(format!("did you mean `{near}`?")),
        None => complaint.help(format!(
            "there are {}; others by a script: scratch = {{ bootstrap = \"./bootstrap.sh\" }}",
            listed(&known)
        )),
    });
    false
}

fn word<T: Copy>(
    table: &mut Table,
    key: &str,
    all: &[T],
    name: fn(T) -> &'static str,
    complaints: &mut Complaints,
) -> Option<Spanned<T>> {
    let said = table.string(key, complaints)?;
    if let Some(found) = all.iter().find(|one| name(**one) == said.value) {
        return Some(Spanned { value: *found, span: said.span });
    }
    let names: Vec<&str> = all.iter().map(|one| name(*one)).collect();
    let complaint = Complaint::new(format!("unknown {key} `{}`", shown(&said.value)), said.span);
    complaints.push(match did_you_mean(&said.value, &names) {
        Some(near) => complaint.help(format!("did you mean `{near}`?")),
        None => complaint.help(format!("known are {}", listed(&names))),
    });
    None
}

#[cfg(test)]
mod tests;
