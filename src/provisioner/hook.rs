//! A recipe's hooks, settled: where their programs are on the builder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::check::Values;
use super::definition::PathKind;
use super::{Builder, FileFacts};
use crate::recipe::reader::{Complaints, shown};
use crate::recipe::{Complaint, HookPoint, HookProgram, HookSpec};

/// Seconds that a hook may take, where it does not say.
const USUAL_TIMEOUT: u64 = 600;

/// A hook, settled.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HookPlan {
    /// When it runs.
    pub at: HookPoint,
    /// What it is called in progress and logs.
    pub name: String,
    /// What runs; the first word is looked up in the builder's PATH where it has no `/`.
    pub command: Vec<String>,
    /// Where it runs: the recipe's folder.
    pub folder: PathBuf,
    /// Seconds after which it is ended.
    pub timeout: u64,
    /// Its environment, besides the builder's own and what tells of the bake.
    pub env: BTreeMap<String, String>,
    /// A file of the builder that it runs: it counts in the recipe's digest.
    pub file: Option<PathBuf>,
}

/// Settles hooks; complains of scripts that are not there.
pub(super) fn settle(specs: &[HookSpec], builder: Builder, complaints: &mut Complaints) -> Vec<HookPlan> {
    specs.iter().filter_map(|spec| one(spec, builder, complaints)).collect()
}

fn one(spec: &HookSpec, builder: Builder, complaints: &mut Complaints) -> Option<HookPlan> {
    let values = Values { builder, staged: Vec::new() };
    let (command, file) = match &spec.program {
        HookProgram::Script(path, args) => {
            let from = values.resolve("`script`", path, complaints)?;
            values.look("`script`", path, &from, PathKind::File, complaints)?;
            let mut command = vec![from.display().to_string()];
            command.extend(args.iter().cloned());
            (command, Some(from))
        }
        HookProgram::Run(words) => {
            let mut command: Vec<String> = words.iter().map(|word| word.value.clone()).collect();
            let mut file = None;
            if let (Some(first), Some(word)) = (command.first_mut(), words.first())
                && word.value.contains('/')
            {
                let from = values.resolve("`run`", word, complaints)?;
                if (builder.facts)(&from) != FileFacts::File {
                    let message = format!("`run`: no such program: {}", shown(&word.value));
                    complaints.push(Complaint::new(message, word.span.clone()).label("not there"));
                    return None;
                }
                *first = from.display().to_string();
                file = from.starts_with(builder.recipe_folder).then_some(from);
            }
            (command, file)
        }
    };
    let short = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let name = match (&spec.name, command.split_first()) {
        (Some(name), _) => name.clone(),
        (None, Some((program, _))) => shown(&short(program)),
        (None, None) => return None,
    };
    Some(HookPlan {
        at: spec.at,
        name,
        command,
        folder: Path::to_owned(builder.recipe_folder),
        timeout: spec.timeout.unwrap_or(USUAL_TIMEOUT),
        env: spec.env.clone(),
        file,
    })
}
