//! A provisioner's definition to a value; the search path; the shipped ones embedded from `provisioners/`.
//! Pure but for reading folders. Knows nothing of how anything is run.
//!
//! The contract, for people who write provisioners, is `provisioners/README.md`.

use std::path::PathBuf;

mod around;
mod check;
mod define;
mod definition;
mod form;
mod format;
mod hook;
mod library;
mod object;
mod schema;
mod settle;
mod shipped;
mod source;
mod step;
mod value;

pub use definition::{Choice, Definition, Param, ParamType, PathKind, Runs, TemporaryFile};
pub use form::{Given, Pattern};
pub use hook::HookPlan;
pub use library::{Library, NotFound};
pub use object::Object;
pub use settle::{Settled, check_recipe};
pub use step::{Alternative, Builder, CacheFind, CacheUse, FileFacts, Hint, StagedFile, StepPlan, Work};
pub use value::{Value, param_files};

/// Where a step finds everything of its own inside: `provisioner/`, `params/`, `params.json` and `files/`.
pub const STEP_FOLDER: &str = "/run/bakehouse/step";

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

#[cfg(test)]
mod tests;
