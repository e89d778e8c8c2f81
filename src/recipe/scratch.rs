//! `[base] scratch`: a disk that begins blank, and what fills it.

use std::ops::Range;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::plan::Arch;

mod read;

pub(super) use read::{check_arch, check_boot_mode, check_disk, scratch};

/// The releases that Bakehouse bootstraps itself: the name, and the suite of its archive.
pub const RELEASES: [(&str, &str); 2] = [("debian-12", "bookworm"), ("debian-13", "trixie")];

/// What to do about [`ScratchSpec::misfit`].
pub const MISFIT_HELP: &str = "leave boot_mode out, or say a `firmware` in `scratch` that goes with it";

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

    /// Whether a disk for it boots wherever an image of a `BootMode` may be started: one that prefers UEFI is given a
    /// BIOS by instance types that have no UEFI.
    fn allows(self, mode: &str) -> bool {
        match mode {
            "legacy-bios" => self.has_bios(),
            "uefi" => self.has_uefi(),
            _ => self == Self::Both,
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

    /// Why an image of this `BootMode` would not boot, where its boot loader is for other firmware.
    pub fn misfit(&self, mode: &str, firmware: Firmware) -> Option<String> {
        let boots_by = match firmware {
            Firmware::Bios => "a BIOS alone",
            Firmware::Uefi => "UEFI alone",
            Firmware::Both => "a BIOS and by UEFI",
        };
        let fits = !self.boot_loader || firmware.allows(mode);
        (!fits).then(|| format!("the boot mode is {mode}, and the disk boots by {boots_by}"))
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
