//! Recipe + provisioners + facts about base and host, to a [`Plan`]. Pure.
//!
//! A plan is plain data: every name, tag, digest and step is settled before the first effect. The one thing
//! that may stay open is a `{version}` or `{release}` in the image's name, which the package manager settles
//! (see [`NamePlan`]).

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::{Failure, Kind};
use crate::recipe::{Collision, DiskSpec, HygieneSpec, ScratchSpec, Variables};

mod base;
mod describe;
mod late;
mod make;
mod names;
mod publish;
mod shape;
mod shape_words;
mod stops;
mod tags;

pub use base::show_age;
pub use late::{Late, MainPackage};
pub use make::FAMILY_TAG;
pub use make::{Facts, make};
pub use names::{end_protection, judge_name, name_taken, protected, renamed, suffixed};
pub use publish::{
    PACKAGE_TAG, PublishPlan, Publishing, describe_copy, package_of_tag, package_tag, package_words,
};
pub use shape::{Ebs, Mapping, Said, Shape, gib};
pub use stops::Stops;

/// What identifies a bake: `bake-` and 17 hexadecimal digits, time first, so that ids sort by age.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct BakeId(pub String);

impl BakeId {
    /// A bake's id as somebody typed it.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let digits = text.strip_prefix("bake-").unwrap_or_default();
        if digits.len() == 17 && digits.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')) {
            return Ok(Self(text.to_owned()));
        }
        Err(Failure::new(Kind::Usage, format!("{text:?} is no bake's id"))
            .hint("it is bake- and 17 hexadecimal digits, as the bake's log and `bakehouse gc` show it"))
    }
}

impl std::fmt::Display for BakeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A processor architecture, by EC2's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Arch {
    /// AMD and Intel, 64 bits.
    #[serde(rename = "x86_64")]
    X86_64,
    /// Arm, 64 bits (aarch64).
    #[serde(rename = "arm64")]
    Arm64,
}

impl Arch {
    /// The builder's own.
    pub fn of_host() -> Option<Self> {
        Self::parse(std::env::consts::ARCH)
    }

    /// EC2's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }

    /// From EC2's, the kernel's or Debian's name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "x86_64" | "amd64" => Some(Self::X86_64),
            "arm64" | "aarch64" => Some(Self::Arm64),
            _ => None,
        }
    }
}

/// Facts about the chosen base: what the new image inherits.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BaseFacts {
    /// Image id (`ami-…`, `img-…`); none where the base is a bare snapshot.
    pub image: Option<String>,
    /// The image's name.
    pub name: Option<String>,
    /// The root's snapshot: `snap-…`, or the store's own; `scratch` where the disk begins blank; of a disk that is the
    /// user's what that is called.
    pub snapshot: String,
    /// The disk of the user's that it is, baked in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<Given>,
    /// Its size in bytes.
    pub size: u64,
    /// The architecture.
    pub arch: Arch,
    /// RFC 3339 time of its making, where known.
    pub created: Option<String>,
    /// RFC 3339 time from which on it is deprecated, where its owner said one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecated: Option<String>,
    /// `base_ami_version`: the base's `appversion` tag or its name.
    pub version: Option<String>,
    /// The base's tags.
    pub tags: BTreeMap<String, String>,
    /// The root device's name as registered, `/dev/xvda`.
    pub root_device: String,
    /// All that RegisterImage must be told again, in the cloud's own words: (field, value), shown by a dry
    /// run and handed back to the cloud room unchanged.
    pub inherited: serde_json::Value,
    /// What people should know of how it was found: what was assumed, or not asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl BaseFacts {
    /// What the base says of itself in EC2's words; nothing where its cloud has others.
    pub fn shape(&self) -> Shape {
        let mut shape: Shape = serde_json::from_value(self.inherited.clone()).unwrap_or_default();
        if shape.root_device_name.is_empty() {
            shape.root_device_name.clone_from(&self.root_device);
        }
        shape
    }
}

/// A disk of the user's that is baked in place: its content changes, it is captured, and no bake ever deletes it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Given {
    /// An EBS volume.
    Volume {
        /// `vol-…`.
        id: String,
        /// The name under which it is attached to the builder, `/dev/sdf`, where it is.
        attached: Option<String>,
    },
    /// A block device of this host.
    Device(PathBuf),
    /// The file of a raw disk.
    File(PathBuf),
}

/// A device or a raw disk's file of this host, as it was found: told by the disk room to the cloud room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFacts {
    /// The kernel's node of it, or the file without links.
    pub path: PathBuf,
    /// Whether it is a file.
    pub is_file: bool,
    /// Size in bytes.
    pub size: u64,
    /// The EBS volume that it says it is, `vol-…`.
    pub volume: Option<String>,
    /// The names under which it may have been attached, without `/dev/`.
    pub names: Vec<String>,
}

/// Who and where the builder is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    /// The cloud: `ec2` or `local`.
    pub cloud: String,
    /// The Region; `local` for the store.
    pub region: String,
    /// The zone (`eu-central-1a`), where there are zones.
    pub zone: Option<String>,
    /// The builder: its instance id, or its host name.
    pub builder: String,
    /// The builder's architecture.
    pub arch: Arch,
    /// The account's number, where known.
    pub account: Option<String>,
    /// Architectures that the builder can run (its own, and those that binfmt_misc serves).
    pub runs: Vec<Arch>,
}

/// The image's name: settled, or with `{version}` and `{release}` still open.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamePlan {
    /// Known before the first effect.
    Settled(String),
    /// A template in which only `{version}` and `{release}` are left: the main package's, known once it is installed.
    AfterInstall(String),
}

/// The image to be registered.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ImagePlan {
    /// The name.
    pub name: NamePlan,
    /// The description with its provenance; may hold `{version}` and `{release}` as the name may.
    pub description: String,
    /// All its tags; values may hold `{version}` and `{release}`.
    pub tags: BTreeMap<String, String>,
    /// Keys of the tags whose values hold a word that is still open.
    #[serde(skip)]
    pub open_tags: Vec<String>,
    /// Whether the description holds such a word.
    #[serde(skip)]
    pub open_description: bool,
    /// The architecture.
    pub arch: Arch,
    /// What it is registered as: the base's attributes and block devices, and the recipe's over them.
    pub shape: Shape,
    /// What becomes of an image that has the name already.
    pub collision: Collision,
    /// The name that it should have had, where a number makes it another.
    pub unnumbered: Option<String>,
    /// The image that has the name, where this one is to take its place.
    pub replaces: Option<String>,
}

/// The snapshot to be made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SnapshotPlan {
    /// Its description; the image's where the recipe says none of its own. May hold open words.
    pub description: String,
    /// All its tags; values may hold open words.
    pub tags: BTreeMap<String, String>,
    /// Keys of the tags whose values hold a word that is still open.
    #[serde(skip)]
    pub open_tags: Vec<String>,
    /// Whether the description holds such a word.
    #[serde(skip)]
    pub open_description: bool,
}

/// The disk to be made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DiskPlan {
    /// Size in bytes, at least the base's.
    pub size: u64,
    /// What the recipe says of it.
    pub spec: DiskSpec,
    /// What fills it, where it begins blank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scratch: Option<ScratchSpec>,
    /// Tags of the volume, at creation.
    pub tags: BTreeMap<String, String>,
    /// The client token of its creation: the same for every try.
    pub token: String,
}

/// Where a disk is to be found on this host, told by the cloud room to the disk room.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Locator {
    /// An attached EBS volume.
    Volume {
        /// `vol-…`.
        id: String,
        /// The name asked for at attachment, `/dev/sdf`.
        device_name: String,
    },
    /// A disk image in a file, to be attached to a loop device.
    File(PathBuf),
    /// A block device that is there.
    Device(PathBuf),
}

/// A whole bake, settled.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Plan {
    /// Its id.
    pub bake: BakeId,
    /// Where it runs.
    pub place: Place,
    /// What it starts from.
    pub base: BaseFacts,
    /// How old that is, in seconds, where known.
    pub base_age: Option<u64>,
    /// What is not wrong, and yet not as it should be.
    pub warnings: Vec<String>,
    /// The disk it makes.
    pub disk: DiskPlan,
    /// The snapshot it takes.
    pub snapshot: SnapshotPlan,
    /// The image it registers.
    pub image: ImagePlan,
    /// What the operator should know of it before it begins.
    pub notes: Vec<String>,
    /// SHA-256 of the recipe, its variables and every local file that it names, hexadecimal.
    pub recipe_digest: String,
    /// The recipe's environment (`[env.NAME]`) that was chosen.
    pub environment: Option<String>,
    /// The recipe's variables.
    pub variables: Variables,
    /// What templates of files are told of the bake, as `fact.NAME`.
    pub facts: BTreeMap<String, String>,
    /// The steps, in order.
    pub steps: Vec<crate::provisioner::StepPlan>,
    /// The checks, in order.
    pub checks: Vec<crate::provisioner::StepPlan>,
    /// Programs of the builder that run on it, in order.
    pub hooks: Vec<crate::provisioner::HookPlan>,
    /// What is taken out of the root before it is closed, and looked for in it.
    pub hygiene: HygieneSpec,
    /// What is done with the image once it is registered.
    pub publish: Option<PublishPlan>,
    /// Where it stops on its way.
    pub stops: Stops,
}

/// Proof that a disk's root was closed cleanly. Only the disk room makes one, and only at the end of a clean
/// close; capturing asks for it, so that capturing a root still mounted does not compile.
#[derive(Debug)]
#[must_use]
pub struct CleanlyClosed(());

impl CleanlyClosed {
    /// For the disk room alone.
    pub(crate) fn witnessed() -> Self {
        Self(())
    }
}

#[cfg(test)]
mod tests;
