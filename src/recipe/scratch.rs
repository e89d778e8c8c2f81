//! `[base] scratch`: a disk that begins blank, and what fills it.

use std::ops::Range;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::reader::{Complaints, Table, did_you_mean, listed, shown, wrong_type};
use super::{Complaint, DiskSpec, RawValue, Spanned};
use crate::plan::Arch;

/// The releases that Bakehouse bootstraps itself: the name, and the suite of its archive.
pub const RELEASES: [(&str, &str); 2] = [("debian-12", "bookworm"), ("debian-13", "trixie")];

/// A disk that begins blank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScratchSpec {
    /// What fills it.
    pub bootstrap: Bootstrap,
    /// The root's filesystem.
    pub filesystem: RootFilesystem,
    /// How it boots; see [`ScratchSpec::firmware`].
    pub firmware: Option<Firmware>,
    /// Whether a boot loader is installed (and, with a release, a kernel).
    pub boot_loader: bool,
    /// `x86_64` or `arm64`; the builder's where left out.
    pub arch: Option<String>,
    /// The root device's name, `/dev/xvda` where left out.
    pub root_device: Option<String>,
}

/// What fills a blank root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bootstrap {
    /// Bakehouse's own, of a release.
    Release {
        /// Its name among [`RELEASES`].
        name: String,
        /// Further packages.
        packages: Vec<String>,
        /// The packages' mirror; the builder's own where left out.
        mirror: Option<String>,
    },
    /// A program of the builder.
    Script {
        /// As the recipe says it; absolute once the recipe was checked.
        path: PathBuf,
        /// Where the recipe says it.
        #[serde(skip)]
        span: Range<usize>,
        /// Its arguments.
        args: Vec<String>,
        /// At most so many seconds.
        timeout: Option<u64>,
    },
}

/// The filesystems that a root from scratch may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum RootFilesystem {
    /// The usual one
    Ext4,
    /// XFS
    Xfs,
    /// Btrfs
    Btrfs,
}

/// Which firmware can boot a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// A BIOS: GRUB in a BIOS boot partition
    Bios,
    /// UEFI: GRUB in an EFI system partition, at the removable path
    Uefi,
    /// Either
    Both,
}

impl RootFilesystem {
    /// As the recipe, mkfs and mount name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

impl Firmware {
    /// What an architecture's machines have: both on x86_64, UEFI alone on arm64.
    pub fn usual(arch: Arch) -> Self {
        match arch {
            Arch::X86_64 => Self::Both,
            Arch::Arm64 => Self::Uefi,
        }
    }

    /// As the recipe says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
            Self::Both => "both",
        }
    }

    /// Whether a BIOS boots it.
    pub fn has_bios(self) -> bool {
        self != Self::Uefi
    }

    /// Whether UEFI boots it.
    pub fn has_uefi(self) -> bool {
        self != Self::Bios
    }

    /// RegisterImage's `BootMode`.
    pub fn boot_mode(self) -> &'static str {
        match self {
            Self::Bios => "legacy-bios",
            Self::Uefi => "uefi",
            Self::Both => "uefi-preferred",
        }
    }
}

impl ScratchSpec {
    /// Of a release, all else as usual.
    pub fn of_release(name: &str) -> Self {
        Self {
            bootstrap: Bootstrap::Release { name: name.to_owned(), packages: Vec::new(), mirror: None },
            filesystem: RootFilesystem::Ext4,
            firmware: None,
            boot_loader: true,
            arch: None,
            root_device: None,
        }
    }

    /// How it boots on this architecture.
    pub fn firmware(&self, arch: Arch) -> Firmware {
        self.firmware.unwrap_or_else(|| Firmware::usual(arch))
    }

    /// The release's name, where it is one.
    pub fn release(&self) -> Option<&str> {
        match &self.bootstrap {
            Bootstrap::Release { name, .. } => Some(name),
            Bootstrap::Script { .. } => None,
        }
    }

    /// The value that means it in a recipe; `quote` makes a string of TOML.
    pub(super) fn text(&self, quote: &dyn Fn(&str) -> String) -> String {
        let list = |items: &[String]| {
            format!("[{}]", items.iter().map(|item| quote(item)).collect::<Vec<_>>().join(", "))
        };
        let mut entries = Vec::new();
        let mut say = |key: &str, value: String| entries.push(format!("{key} = {value}"));
        match &self.bootstrap {
            Bootstrap::Release { name, packages, mirror } => {
                say("release", quote(name));
                if !packages.is_empty() {
                    say("packages", list(packages));
                }
                if let Some(mirror) = mirror {
                    say("mirror", quote(mirror));
                }
            }
            Bootstrap::Script { path, args, timeout, .. } => {
                say("bootstrap", quote(&path.to_string_lossy()));
                if !args.is_empty() {
                    say("args", list(args));
                }
                if let Some(timeout) = timeout {
                    say("timeout", quote(&format!("{timeout}s")));
                }
            }
        }
        say("filesystem", quote(self.filesystem.as_str()));
        if let Some(firmware) = self.firmware {
            say("firmware", quote(firmware.as_str()));
        }
        say("boot_loader", self.boot_loader.to_string());
        format!("{{ {} }}", entries.join(", "))
    }

    /// In a few words.
    pub fn describe(&self, arch: Arch) -> String {
        let what = match &self.bootstrap {
            Bootstrap::Release { name, packages, .. } if packages.is_empty() => name.clone(),
            Bootstrap::Release { name, packages, .. } => format!("{name} with {}", packages.join(", ")),
            Bootstrap::Script { path, args, .. } => {
                let words = args.iter().map(|word| format!(" {word}")).collect::<String>();
                format!("{}{words} on this builder", path.display())
            }
        };
        let boots = match (self.boot_loader, self.firmware(arch)) {
            (false, _) => "no boot loader",
            (true, Firmware::Bios) => "GRUB for BIOS",
            (true, Firmware::Uefi) => "GRUB for UEFI",
            (true, Firmware::Both) => "GRUB for BIOS and UEFI",
        };
        format!("from scratch: GPT, {} root, filled by {what}, {boots}", self.filesystem.as_str())
    }
}

/// Reads the key's value: a release's name, or a table.
pub(super) fn scratch(value: &Spanned<RawValue>, complaints: &mut Complaints) -> Option<ScratchSpec> {
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
pub(super) fn check_arch(spec: &ScratchSpec, span: &Range<usize>, complaints: &mut Complaints) {
    let is_arm = spec.arch.as_deref().and_then(Arch::parse) == Some(Arch::Arm64);
    if is_arm && spec.firmware.is_some_and(Firmware::has_bios) {
        complaints.push(
            Complaint::new("machines of arm64 have no BIOS", span.clone()).help("say firmware = \"uefi\""),
        );
    }
}

/// The least that a release's packages fit in, in bytes.
const LEAST: u64 = 1 << 30;

/// Complains unless the disk is one that can begin blank: of a size, and that enough.
pub(super) fn check_disk(
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
mod tests {
    use super::super::{BaseSelector, Source, parse};
    use super::*;

    const HEAD: &str = "[image]\nname = \"web\"\n[disk]\nsize = \"4GiB\"\n[base]\n";

    fn source(text: &str) -> Source {
        Source { name: "r.toml".into(), text: format!("{HEAD}{text}\n") }
    }

    fn read(text: &str) -> ScratchSpec {
        match parse(&source(text)).unwrap().base.value {
            BaseSelector::Scratch(spec) => spec,
            other => panic!("{other:?}"),
        }
    }

    fn wrong(text: &str) -> String {
        let source = source(text);
        let complaints = parse(&source).unwrap_err();
        let told = complaints.iter().map(|one| {
            let under = source.text.get(one.span.clone()).unwrap_or_default();
            format!("{} [{under}] {}\n", one.message, one.help.as_deref().unwrap_or_default())
        });
        told.collect()
    }

    #[test]
    fn a_release_alone_or_all_that_can_be_said() {
        let plain = read("scratch = \"debian-12\"");
        assert_eq!(plain, ScratchSpec::of_release("debian-12"));
        assert_eq!(plain.firmware(Arch::X86_64), Firmware::Both);
        assert_eq!(plain.firmware(Arch::Arm64).boot_mode(), "uefi");
        let full = read(
            "arch = \"arm64\"\nroot_device = \"/dev/sda1\"\nscratch = { bootstrap = \"./b.sh\", args = [\"x\"], \
             timeout = \"20m\", filesystem = \"xfs\", firmware = \"uefi\", boot_loader = false }",
        );
        assert_eq!((full.arch.as_deref(), full.root_device.as_deref()), (Some("arm64"), Some("/dev/sda1")));
        assert_eq!((full.filesystem, full.firmware), (RootFilesystem::Xfs, Some(Firmware::Uefi)));
        let Bootstrap::Script { path, args, timeout, .. } = &full.bootstrap else { panic!() };
        assert_eq!((path.to_str(), args.len(), *timeout), (Some("./b.sh"), 1, Some(1200)));
        assert!(!full.boot_loader);
        assert!(full.describe(Arch::Arm64).contains("xfs root, filled by ./b.sh x on this builder, no boot"));
    }

    #[test]
    fn what_was_read_can_be_written() {
        for text in [
            "scratch = \"debian-13\"",
            "arch = \"arm64\"\nscratch = { release = \"debian-12\", packages = [\"a\", \"b\"], mirror = \"http://m/d\" }",
            "scratch = { bootstrap = \"/b.sh\", args = [\"x y\"], timeout = \"90s\", filesystem = \"btrfs\", \
             firmware = \"bios\", boot_loader = false }",
        ] {
            let mut spec = read(text);
            let base = BaseSelector::Scratch(spec.clone());
            let text = super::super::line::base_text(&base).replace("[base]\n", "");
            let mut again = read(&text);
            for spec in [&mut spec, &mut again] {
                if let Bootstrap::Script { span, .. } = &mut spec.bootstrap {
                    *span = 0..0;
                }
            }
            assert_eq!(again, spec, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_at_its_place() {
        insta::assert_snapshot!(wrong("scratch = \"debian-21\""), @r#"no release `debian-21` can be made from scratch ["debian-21"] did you mean `debian-12`?"#);
        let all = wrong(
            "owner = \"self\"\nscratch = { release = \"debian-12\", bootstrap = \"x\", filesystem = \"ext5\", firmware = 1, sice = 2 }",
        );
        for part in [
            "`owner` goes with `name` and `filters` in [base], not with `scratch` [owner]",
            "says both `release` and `bootstrap` [\"x\"]",
            "unknown filesystem `ext5` [\"ext5\"] did you mean `ext4`?",
            "`firmware` is an integer",
            "`sice`",
        ] {
            assert!(all.contains(part), "{part}: {all}");
        }
        assert!(wrong("scratch = {}").contains("does not say what fills the disk"));
        assert!(wrong("scratch = 3").contains("must be a release's name or a table"));
        assert!(
            wrong("scratch = { release = \"debian-12\", timeout = \"5m\" }")
                .contains("goes with `bootstrap`")
        );
        assert!(
            wrong("arch = \"arm64\"\nscratch = { release = \"debian-12\", firmware = \"both\" }")
                .contains("no BIOS")
        );
    }

    #[test]
    fn a_blank_disk_needs_a_size() {
        let text = "[image]\nname = \"web\"\n[base]\nscratch = \"debian-12\"\n";
        let complaints = parse(&Source { name: "r".into(), text: text.into() }).unwrap_err();
        assert!(complaints[0].message.contains("how large"), "{complaints:?}");
        let small = text.replace("[base]", "[disk]\nsize = \"512MiB\"\n[base]");
        let complaints = parse(&Source { name: "r".into(), text: small }).unwrap_err();
        assert!(complaints[0].message.contains("at least 1GiB"), "{complaints:?}");
        let loaded = format!("{text}[disk]\nsize = \"4GiB\"\n[disk.bake]\ninitialization_rate = 200\n");
        let complaints = parse(&Source { name: "r".into(), text: loaded }).unwrap_err();
        assert!(complaints[0].message.contains("could load"), "{complaints:?}");
    }
}
