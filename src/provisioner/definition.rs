//! What a provisioner is: its `provisioner.toml` as a value.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{CacheUse, Given, Hint, Pattern, ScriptFile, Value};

/// A provisioner.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Its folder's name.
    pub name: String,
    /// Where it was found: a folder, or `shipped`.
    pub origin: String,
    /// What it does, one line.
    pub summary: String,
    /// It runs on the builder, with a way into the sandbox.
    pub host: bool,
    /// Programs that it needs on the builder, each with what to do where it is missing.
    pub programs: BTreeMap<String, String>,
    /// `host` or `none`, where a step doesn't say.
    pub network: String,
    /// Suppress fsync and its kin, where a step doesn't say.
    pub suppress_sync: bool,
    /// Seconds, where a step doesn't say.
    pub timeout: Option<u64>,
    /// Of each group at least one parameter must be given.
    pub at_least_one: Vec<Vec<Given>>,
    /// The parameters.
    pub params: BTreeMap<String, Param>,
    /// What runs.
    pub runs: Runs,
    /// The environment inside.
    pub env: BTreeMap<String, String>,
    /// Files that are there during the step only.
    pub temporary: Vec<TemporaryFile>,
    /// Caches that bakes share.
    pub caches: Vec<CacheUse>,
    /// How the main package is asked.
    pub package_query: Option<Vec<String>>,
    /// What lines of its output mean where it fails; the first that is found is told.
    pub hints: Vec<Hint>,
    /// Every file of the folder.
    pub files: Vec<ScriptFile>,
    /// SHA-256 of all files with their paths and modes, hexadecimal.
    pub digest: String,
}

/// What a provisioner runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runs {
    /// An argument vector; a first word beginning with `./` is in the provisioner's folder.
    Command(Vec<String>),
    /// The one of these parameters that is given (an `argv`, or a `path` to a program).
    Parameter {
        /// The parameters.
        names: Vec<String>,
        /// A `list` parameter whose items are appended.
        arguments: Option<String>,
    },
    /// Work of this binary itself.
    Builtin(String),
    /// Another provisioner, by the image's os-release.
    Choose(Vec<Choice>),
}

/// An entry of `[[choose]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Matches an image whose `ID` or one of whose `ID_LIKE` is among these.
    pub id_like: Vec<String>,
    /// The provisioner.
    pub provisioner: String,
}

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// Its type.
    pub kind: ParamType,
    /// What it is for, one line.
    pub doc: Option<String>,
    /// Whether it must be given.
    pub required: bool,
    /// Its value where it isn't given.
    pub default: Option<Value>,
    /// Parameters that can't be given beside it.
    pub conflicts: Vec<Given>,
    /// Lists that can't have an item of this one too.
    pub disjoint: Vec<String>,
    /// No two tables of a list have the same value.
    pub unique: bool,
}

/// A parameter's type.
#[derive(Debug, Clone, PartialEq)]
pub enum ParamType {
    /// `bool`.
    Bool,
    /// `integer`, with its inclusive limits.
    Integer {
        /// At least.
        min: Option<i64>,
        /// At most.
        max: Option<i64>,
    },
    /// `string`.
    String {
        /// What it matches.
        pattern: Option<Pattern>,
    },
    /// `enum`: one of these.
    Enum(Vec<String>),
    /// `duration`; the value is in seconds.
    Duration,
    /// `mode`: octal, or symbolic as chmod takes it.
    Mode,
    /// `inside`: an absolute path in the image.
    Inside,
    /// `path`: a file or folder of the builder.
    Path {
        /// Which kind is taken.
        kind: PathKind,
        /// The staged copy is made executable.
        executable: bool,
    },
    /// `list` of strings.
    List {
        /// What each item matches.
        pattern: Option<Pattern>,
        /// At least so many items.
        min: Option<i64>,
    },
    /// `map` of strings.
    Map {
        /// What each key matches.
        keys: Option<Pattern>,
    },
    /// `argv`.
    Argv,
    /// `packages`, with the formats of package files that are taken, as their names end (`deb`, `apk`).
    Packages {
        /// The formats.
        formats: Vec<String>,
    },
    /// `tables`.
    Tables {
        /// Each table's keys.
        items: BTreeMap<String, Param>,
        /// Of each group at least one key must be given.
        at_least_one: Vec<Vec<Given>>,
    },
}

impl ParamType {
    /// Whether it is `packages`.
    pub fn is_packages(&self) -> bool {
        matches!(self, Self::Packages { .. })
    }
}

/// What a `path` parameter may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// Either.
    Any,
    /// A regular file.
    File,
    /// A folder.
    Folder,
}

/// A file that is there during the step only.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TemporaryFile {
    /// Absolute, in the image.
    pub path: PathBuf,
    /// A file of the provisioner's folder, relative to it.
    pub source: PathBuf,
    /// Permission bits.
    pub mode: u32,
}
