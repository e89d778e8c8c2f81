//! A provisioner's definition to a value; the search path; the shipped ones embedded from `provisioners/`.
//! Pure but for reading folders. Knows nothing of how anything is run.
//!
//! The contract, for people who write provisioners, is `provisioners/README.md`.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// A checked value of a parameter.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(untagged)]
#[expect(clippy::doc_markdown, reason = "plain words")]
pub enum Value {
    /// `bool`.
    Bool(bool),
    /// `integer`.
    Integer(i64),
    /// `string`, `path` (resolved against the recipe's folder), `duration` in seconds.
    String(String),
    /// `list`, `packages`, `copies`: items.
    List(Vec<Value>),
    /// `map`.
    Map(BTreeMap<String, Value>),
}

/// A file of the builder that a step needs inside: staged (copied or bound read-only) under the step's folder.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StagedFile {
    /// On the builder; absolute.
    pub from: PathBuf,
    /// Inside, below the step's folder.
    pub to: PathBuf,
    /// Expected SHA-256 (hexadecimal), where one was given.
    pub sha256: Option<String>,
    /// The URL it is fetched from by the builder, where it is not a local file (then `from` is the place in
    /// the builder's download cache).
    pub url: Option<String>,
}

/// A cache that bakes share.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CacheUse {
    /// Its name, a folder under the builder's cache folder.
    pub name: String,
    /// Where it is seen inside.
    pub path: PathBuf,
}

/// What a step runs.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// An argument vector; a first word beginning with `./` is in the provisioner's folder.
    Command(Vec<String>),
    /// Work of this binary itself, run inside the sandbox without needing any program of the image.
    Builtin(String),
}

/// A step settled: everything that running it needs.
#[derive(Debug, Clone, serde::Serialize)]
pub struct StepPlan {
    /// What it is called in progress and logs.
    pub name: String,
    /// The provisioner.
    pub provisioner: String,
    /// SHA-256 of the definition and its scripts, hexadecimal.
    pub digest: String,
    /// What runs.
    pub work: Work,
    /// The checked parameters, defaults filled in.
    pub params: BTreeMap<String, Value>,
    /// The environment inside, besides the sandbox's own.
    pub env: BTreeMap<String, String>,
    /// Working directory inside.
    pub cwd: Option<PathBuf>,
    /// Files of the builder needed inside.
    pub staged: Vec<StagedFile>,
    /// Caches shared across bakes.
    pub caches: Vec<CacheUse>,
    /// `host` or `none`.
    pub network: String,
    /// Suppress fsync and its kin.
    pub suppress_sync: bool,
    /// Seconds after which the step is ended.
    pub timeout: Option<u64>,
    /// The provisioner's own files: relative path, mode and content.
    #[serde(skip)]
    pub files: Vec<ScriptFile>,
    /// How the installed package's name, version and release are asked: an argument vector like a command's.
    pub package_query: Option<Vec<String>>,
}

/// A file of a provisioner's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptFile {
    /// Relative to the folder.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// The content.
    pub content: Vec<u8>,
}
