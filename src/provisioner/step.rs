//! A step of a recipe, settled: checked against its provisioner's definition.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::recipe::{Rights, SecretSource, When};

use super::{Object, ScriptFile, TemporaryFile, Value};

/// A file or folder of the builder that a step needs inside: staged (copied or bound read-only) under the step's folder.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StagedFile {
    /// On the builder; absolute.
    pub from: PathBuf,
    /// Inside, relative to `/run/bakehouse/step/files`.
    pub to: PathBuf,
    /// Expected SHA-256 (hexadecimal), where one was given.
    pub sha256: Option<String>,
    /// The URL it is fetched from by the builder before the bake begins, where it is not a local file (then `from` is
    /// the place in the builder's download cache).
    pub url: Option<String>,
    /// The object of S3 that it is, fetched to `from` before the bake begins.
    pub object: Option<Object>,
    /// It is a template, or a folder of templates: the builder fills it in, from variables and facts.
    pub template: bool,
    /// It is run: it must be executable inside, whatever its mode on the builder.
    pub executable: bool,
}

/// A cache that bakes share.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CacheUse {
    /// Its name, a folder under the builder's cache folder.
    pub name: String,
    /// Where it is seen inside.
    pub path: PathBuf,
    /// How a step finds again what earlier bakes left in it.
    pub find: CacheFind,
}

/// How what earlier bakes left in a cache is found again. The builder keeps it under its SHA-256, read-only,
/// whatever the step called it: no step can change what another bake finds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheFind {
    /// Under the names that it was left with: for tools that verify what they find in a cache.
    #[default]
    Name,
    /// As `.shared/SHA256` alone: for tools that don't, where the script knows what it wants.
    Digest,
}

/// What a line of a failed step's output means to the operator.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Hint {
    /// Text found in a line of the output.
    pub find: String,
    /// What to do about it.
    pub say: String,
}

/// What a step runs.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// An argument vector; a first word beginning with `./` is in the provisioner's folder.
    Command(Vec<String>),
    /// Work of this binary itself, run inside the sandbox without needing any program of the image.
    Builtin(String),
    /// One of [`StepPlan::alternatives`], by the image's os-release.
    #[default]
    Choose,
}

/// A candidate for a step whose work is [`Work::Choose`].
#[derive(Debug, Clone, serde::Serialize)]
pub struct Alternative {
    /// Taken where the image's `ID`, or one of its `ID_LIKE`, is among these.
    pub id_like: Vec<String>,
    /// The provisioner.
    pub provisioner: String,
    /// The step as that provisioner does it; none where it can't.
    pub step: Option<StepPlan>,
    /// Why it can't.
    pub refused: Option<String>,
}

/// A step settled: everything that running it needs.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct StepPlan {
    /// What it is called in progress and logs.
    pub name: String,
    /// The provisioner.
    pub provisioner: String,
    /// SHA-256 of the definition and its scripts, hexadecimal.
    pub digest: String,
    /// What runs.
    pub work: Work,
    /// The candidates of [`Work::Choose`], in order; empty for other work.
    pub alternatives: Vec<Alternative>,
    /// The checked parameters, defaults filled in.
    pub params: BTreeMap<String, Value>,
    /// The environment inside, besides the sandbox's own.
    pub env: BTreeMap<String, String>,
    /// Working directory inside.
    pub cwd: Option<PathBuf>,
    /// Files of the builder needed inside.
    pub staged: Vec<StagedFile>,
    /// Files that are there during the step only; their content is in `files`.
    pub temporary: Vec<TemporaryFile>,
    /// Caches shared across bakes.
    pub caches: Vec<CacheUse>,
    /// It runs on the builder, with a way into the sandbox.
    pub host: bool,
    /// Programs that it needs on the builder, each with what to do where it is missing.
    pub programs: BTreeMap<String, String>,
    /// `host` or `none`.
    pub network: String,
    /// Suppress fsync and its kin.
    pub suppress_sync: bool,
    /// What it reads from `/run/bakehouse/secrets/NAME`: names, and where the builder has the values.
    pub secrets: BTreeMap<String, SecretSource>,
    /// The images that it is for; none: all.
    pub when: Option<When>,
    /// Why it is left out of this bake, where that is known before the root is mounted.
    pub skipped: Option<String>,
    /// What it is given beyond the sandbox's usual, and what it may use at most.
    pub rights: Rights,
    /// Seconds after which the step is ended.
    pub timeout: Option<u64>,
    /// The provisioner's own files: relative path, mode and content.
    #[serde(skip)]
    pub files: Vec<ScriptFile>,
    /// How the installed package's name, version and release are asked: an argument vector like a command's.
    pub package_query: Option<Vec<String>>,
    /// What lines of its output mean where it fails; the first that is found is told.
    pub hints: Vec<Hint>,
}

impl StepPlan {
    /// Lets fsync and its kin through, here and in every alternative.
    pub fn keep_sync(&mut self) {
        self.suppress_sync = false;
        self.alternatives.iter_mut().filter_map(|choice| choice.step.as_mut()).for_each(Self::keep_sync);
    }

    /// The same, to be settled further.
    pub fn all_staged_mut(&mut self) -> impl Iterator<Item = &mut StagedFile> {
        let others = self.alternatives.iter_mut().filter_map(|choice| choice.step.as_mut());
        self.staged.iter_mut().chain(others.flat_map(|step| &mut step.staged))
    }

    /// The builder's files that the step or any of its alternatives stages.
    pub fn all_staged(&self) -> impl Iterator<Item = &StagedFile> {
        let others = self.alternatives.iter().filter_map(|choice| choice.step.as_ref());
        self.staged.iter().chain(others.flat_map(|step| &step.staged))
    }
}

/// What the builder has at a path; asked of the caller, since this room reads nothing but provisioners' folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFacts {
    /// Nothing, or nothing that can be looked at.
    Missing,
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A device, a socket, a pipe.
    Other,
}

/// What checking a step needs to know of the builder.
#[derive(Clone, Copy)]
pub struct Builder<'a> {
    /// The recipe's folder, absolute: relative paths are below it.
    pub recipe_folder: &'a Path,
    /// The folder for downloads, absolute: a fetched file is to be at `SHA256/NAME` in it.
    pub downloads: &'a Path,
    /// What is at an absolute path.
    pub facts: &'a dyn Fn(&Path) -> FileFacts,
}
