//! TOML text to [`Recipe`], with the source's span for every complaint. Pure: no files, clock or network.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use crate::error::{Failure, Kind};

mod base;
pub mod complaint;
pub(crate) mod device;
pub(crate) mod disk;
pub mod family;
mod filters;
mod glob;
mod hook;
mod hygiene;
mod line;
mod publish;
pub(crate) mod reader;
mod rights;
mod scratch;
mod secret;
mod sections;
mod shape;
mod tags;
pub mod template;
mod tree;
pub mod units;
pub mod url;
pub mod vars;
pub(crate) mod volume;
mod when;
mod words;

pub use complaint::{Complained, Complaint, Look, NotGood, Source, render};
pub(crate) use device::is_device_name;
pub use device::{Device, DeviceSpec, VolumeSpec};
pub use disk::{BakeSpec, DiskSpec};
pub use glob::matches_glob;
pub use hook::{HookPoint, HookProgram, HookSpec};
pub use hygiene::{Audit, HygieneSpec, Part, path_glob};
pub use line::{OneLine, base_text, one_line};
pub(crate) use publish::allowed_in_parameter;
pub use publish::{CopySpec, Protection, PublishSpec, Share, Targets, judge_parameter};
pub use rights::Rights;
pub use scratch::{Bootstrap, Firmware, MISFIT_HELP, RELEASES, RootFilesystem, ScratchSpec};
pub use secret::SecretSource;
pub(crate) use sections::STEP_KEYS;
pub use shape::{Collision, ShapeSpec, UefiData, uefi_data};
pub use tags::{TagSpec, Tags, open_word, wrong_tag};
use template::Template;
pub use vars::{Inputs, VarValue, Variables};
pub use when::{Release, When, WhenSpec};

/// A value and where it stands in the recipe's text (bytes).
#[derive(Debug, Clone, PartialEq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its place in the source, in bytes.
    pub span: Range<usize>,
}

/// Which base the image is baked on, before the cloud was asked.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BaseSelector {
    /// An AMI by its id.
    Ami(String),
    /// The newest image that a query finds.
    Query(ImageQuery),
    /// An SSM parameter whose value is an AMI id: its name, `NAME:VERSION`, `NAME:LABEL`, or an ARN.
    Parameter(String),
    /// A snapshot, with what an image would say of it.
    Snapshot {
        /// `snap-…`.
        id: String,
        /// `x86_64` or `arm64`.
        arch: Option<String>,
        /// Root device name, `/dev/xvda` where left out.
        root_device: Option<String>,
    },
    /// An EBS volume of the user's, baked in place.
    Volume {
        /// `vol-…`.
        id: String,
        /// `x86_64` or `arm64`; the builder's where left out.
        arch: Option<String>,
        /// Root device name, `/dev/xvda` where left out.
        root_device: Option<String>,
    },
    /// A block device or a raw disk's file on this host that is the user's, baked in place.
    Device {
        /// Absolute, or relative to the recipe's folder.
        path: PathBuf,
        /// `x86_64` or `arm64`; the builder's where left out.
        arch: Option<String>,
        /// Root device name, `/dev/xvda` where left out.
        root_device: Option<String>,
    },
    /// An image of the local store by name or id.
    Image(String),
    /// A blank disk, filled here.
    Scratch(ScratchSpec),
}

/// Images, by what they say of themselves.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ImageQuery {
    /// A glob (`*` and `?`) that the name matches.
    pub name: Option<String>,
    /// Account ids and aliases (`self`, `amazon`, `aws-marketplace`); this account alone where there are none.
    pub owners: Vec<String>,
    /// `x86_64` or `arm64`.
    pub arch: Option<String>,
    /// DescribeImages' filters: name to values, one of which is met.
    pub filters: BTreeMap<String, Vec<String>>,
    /// Take the newest when several match (default); else several are an error.
    pub newest: bool,
    /// Deprecated images too.
    pub deprecated: bool,
}

impl ImageQuery {
    /// The newest of this account whose name matches a glob.
    pub fn named(glob: &str) -> Self {
        Self {
            name: Some(glob.to_owned()),
            owners: Vec::new(),
            arch: None,
            filters: BTreeMap::new(),
            newest: true,
            deprecated: false,
        }
    }
}

/// `[image]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageSpec {
    /// The name's template; it parses (see [`template::Template`]), as those below do.
    pub name: Spanned<String>,
    /// The description's template; provenance is added behind it.
    pub description: Option<Spanned<String>>,
    /// The snapshot's description's template; the image's description where left out.
    pub snapshot_description: Option<Spanned<String>>,
    /// The user's own tags of volume, snapshot and image.
    pub tags: Tags,
    /// How it boots, and what it supports.
    pub shape: ShapeSpec,
    /// What becomes of an image that has the name already, where that is said.
    pub said_collision: Option<Collision>,
}

impl ImageSpec {
    /// What becomes of an image that has the name already. Who puts `{time}` in a name means it to be the image's
    /// alone: two bakes of one second are told apart by a number.
    pub fn collision(&self) -> Collision {
        let timed = || {
            Template::parse(&self.name.value).is_ok_and(|name| name.placeholders().any(|word| word == "time"))
        };
        let by_itself = || if timed() { Collision::Suffix } else { Collision::Fail };
        self.said_collision.unwrap_or_else(by_itself)
    }
}

/// `[[step]]` and `[[check]]`: which provisioner, and its parameters still unchecked (they are checked against
/// the provisioner's definition).
#[derive(Debug, Clone, PartialEq)]
pub struct StepSpec {
    /// `use`.
    pub provisioner: Spanned<String>,
    /// `name`: what the step is called in progress and logs.
    pub name: Option<String>,
    /// `timeout` in seconds.
    pub timeout: Option<u64>,
    /// `network`: `host` or `none`.
    pub network: Option<String>,
    /// `env`: variables of the step's environment.
    pub env: BTreeMap<String, String>,
    /// `cwd`: the working directory inside, absolute.
    pub cwd: Option<PathBuf>,
    /// `suppress_sync`.
    pub suppress_sync: Option<bool>,
    /// `secrets`: file names and where the values are; files as the recipe names them.
    pub secrets: BTreeMap<String, Spanned<SecretSource>>,
    /// `when`.
    pub when: Option<WhenSpec>,
    /// `devices`, `mounts`, `memory`, `processes`, `cpu`.
    pub rights: Rights,
    /// All other keys of the table.
    pub params: BTreeMap<String, Spanned<RawValue>>,
    /// Where each of those keys stands.
    pub keys: BTreeMap<String, Range<usize>>,
    /// The table's header, for complaints about what is missing.
    pub span: Range<usize>,
}

/// A TOML value with spans throughout.
#[derive(Debug, Clone, PartialEq)]
pub enum RawValue {
    /// A string.
    String(String),
    /// An integer.
    Integer(i64),
    /// A float.
    Float(f64),
    /// A boolean.
    Boolean(bool),
    /// A date or time, as written.
    Datetime(String),
    /// An array.
    Array(Vec<Spanned<RawValue>>),
    /// A table, inline or not; each key with its own span.
    Table(Vec<(Spanned<String>, Spanned<RawValue>)>),
}

impl RawValue {
    /// What messages call its type, with its article.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number with a fraction",
            Self::Boolean(_) => "a boolean",
            Self::Datetime(_) => "a date or time",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// What is to be baked.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// `[image]`.
    pub image: ImageSpec,
    /// `[base]`.
    pub base: Spanned<BaseSelector>,
    /// `[base] max_age` in seconds: a base older than that is warned of.
    pub base_max_age: Option<u64>,
    /// `[disk]`.
    pub disk: DiskSpec,
    /// `[[device]]`, in order.
    pub devices: Vec<DeviceSpec>,
    /// `[tags]`.
    pub tags: TagSpec,
    /// `[[step]]`, in order.
    pub steps: Vec<StepSpec>,
    /// `[[check]]`, in order.
    pub checks: Vec<StepSpec>,
    /// `[[hook]]`, in order.
    pub hooks: Vec<HookSpec>,
    /// `[hygiene]`.
    pub hygiene: HygieneSpec,
    /// `[publish]`.
    pub publish: Option<PublishSpec>,
    /// `[vars]`, with their values; all that says `{var:NAME}` is filled in already.
    pub variables: Variables,
    /// The environment (`[env.NAME]`) that is laid over the rest.
    pub environment: Option<String>,
}

/// A recipe larger than this (bytes) is none: somebody named another file.
const LARGEST: usize = 1 << 20;

/// The text of a recipe or definition from a file's bytes.
///
/// # Errors
/// [`Kind::Recipe`] where it isn't UTF-8, with the place of the first wrong byte, or is far too large.
pub fn source_from_bytes(name: &str, bytes: &[u8]) -> Result<Source, Failure> {
    if bytes.len() > LARGEST {
        let message = format!("{name} is no recipe: it is larger than {}", units::show_size(LARGEST as u64));
        return Err(Failure::new(Kind::Recipe, message).hint("name the recipe's TOML file"));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Source { name: name.to_owned(), text: text.to_owned() }),
        Err(error) => {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let column = String::from_utf8_lossy(before.get(start..).unwrap_or_default()).chars().count() + 1;
            let message = format!("{name} is not UTF-8: line {line}, column {column}");
            Err(Failure::new(Kind::Recipe, message).hint("save it as UTF-8 text"))
        }
    }
}

/// Parses a recipe with no other variables' values than its own.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text. With syntax errors, what stands before the
/// first of them is checked too. Steps' parameters are checked by [`crate::provisioner::check_recipe`].
pub fn parse(source: &Source) -> Result<Recipe, Vec<Complaint>> {
    let mut complaints = reader::Complaints::new(source);
    let (readable, _) = read(&mut complaints, &Inputs::default());
    complaints.finish(readable.recipe)
}

/// Reads one `[[device]]`: its keys alone, without the header.
///
/// # Errors
/// Everything that is wrong with it.
pub fn one_device(source: &Source) -> Result<DeviceSpec, Vec<Complaint>> {
    let mut complaints = reader::Complaints::new(source);
    let entries = complaints.tree();
    let table = reader::Table::new("a device", 0..0, &entries);
    let device = device::devices(vec![table], &mut complaints).pop();
    complaints.finish(device)
}

/// What can be read of a recipe, whatever is wrong with the rest of it; and what is wrong with the inputs.
pub(crate) fn read(
    complaints: &mut reader::Complaints,
    inputs: &Inputs,
) -> (sections::Readable, Vec<Complained>) {
    let entries = complaints.tree();
    let settled = vars::settle(entries, inputs, complaints);
    let mut readable = sections::recipe(&settled.entries, complaints);
    let steps = readable.steps.iter().chain(&readable.checks);
    when::check_variables(steps, &settled.declared, complaints);
    if let Some(recipe) = &mut readable.recipe {
        recipe.variables = settled.variables;
        recipe.environment = settled.environment;
    }
    (readable, settled.outside)
}

#[cfg(test)]
mod tests;
