//! `[[hook]]`: programs of the builder, run on it at certain points of a bake.

use std::collections::BTreeMap;

use super::reader::{Complaints, Table, did_you_mean, environment, listed, shown};
use super::{Complaint, Spanned};

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookPoint {
    /// The disk is there, with its partitions, and nothing of it is mounted.
    BeforeMount,
    /// The root is mounted, and no step was run.
    AfterMount,
    /// All steps and checks were run, hygiene too; the root is about to be closed.
    BeforeClose,
    /// The image is registered, and all that the bake made for it is gone.
    AfterImage,
}

impl HookPoint {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::BeforeMount, Self::AfterMount, Self::BeforeClose, Self::AfterImage];

    /// Its word in the recipe.
    pub fn word(self) -> &'static str {
        match self {
            Self::BeforeMount => "before-mount",
            Self::AfterMount => "after-mount",
            Self::BeforeClose => "before-close",
            Self::AfterImage => "after-image",
        }
    }
}

/// What a hook runs.
#[derive(Debug, Clone, PartialEq)]
pub enum HookProgram {
    /// `run`: an argument vector; its first word is looked up in PATH, or is a path.
    Run(Vec<Spanned<String>>),
    /// `script` with `args`: a file of the builder.
    Script(Spanned<String>, Vec<String>),
}

/// `[[hook]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct HookSpec {
    /// `at`.
    pub at: HookPoint,
    /// `name`: what it is called in progress and logs.
    pub name: Option<String>,
    /// What runs.
    pub program: HookProgram,
    /// `timeout` in seconds.
    pub timeout: Option<u64>,
    /// `env`.
    pub env: BTreeMap<String, String>,
}

/// Reads a `[[hook]]`.
pub(super) fn hook(mut table: Table, complaints: &mut Complaints) -> Option<HookSpec> {
    let words = HookPoint::ALL.map(HookPoint::word);
    let at = table.string("at", complaints);
    let point = match &at {
        Some(at) => {
            let point = HookPoint::ALL.into_iter().find(|point| point.word() == at.value);
            if point.is_none() {
                let message = format!("no hook runs at `{}`", shown(&at.value));
                let complaint = Complaint::new(message, at.span.clone()).label("not known");
                complaints.push(match did_you_mean(&at.value, &words) {
                    Some(near) => complaint.help(format!("did you mean `{near}`?")),
                    None => complaint.help(format!("known are {}", listed(&words))),
                });
            }
            point
        }
        None => {
            if table.get("at").is_none() {
                complaints.missing(
                    Complaint::new("a hook has no `at`", table.span.clone())
                        .help(format!("say when it runs: one of {}", listed(&words))),
                );
            }
            None
        }
    };
    let name = table.string("name", complaints);
    if let Some(name) = &name
        && let Some(complaint) = super::sections::wrong_name("hook", name)
    {
        complaints.push(complaint);
    }
    let run = table.strings("run", complaints);
    let script = table.string("script", complaints);
    let args = table.strings("args", complaints);
    if let (Some((key, _)), None) = (table.entry("args"), &script) {
        complaints.push(Complaint::new("`args` goes with `script`", key.span.clone()));
    }
    let program = match (run, script) {
        (Some(_), Some(script)) => {
            let complaint = Complaint::new("a hook has `run` or `script`, not both", script.span);
            complaints.push(complaint.help("leave one of them"));
            None
        }
        (Some(words), None) if words.first().is_none_or(|first| first.value.is_empty()) => {
            complaints.push(
                Complaint::new("`run` names no program", table.span.clone())
                    .help("the program and its arguments, each a string: [\"logger\", \"baked\"]"),
            );
            None
        }
        (Some(words), None) => Some(HookProgram::Run(words)),
        (None, Some(script)) => {
            let args = args.unwrap_or_default().into_iter().map(|word| word.value).collect();
            Some(HookProgram::Script(script, args))
        }
        (None, None) => {
            if table.get("run").is_none() && table.get("script").is_none() {
                complaints.missing(
                    Complaint::new("a hook has nothing to do", table.span.clone())
                        .help("add `run` or `script`"),
                );
            }
            None
        }
    };
    let timeout = table.duration("timeout", complaints);
    let env = environment(&mut table, complaints);
    table.finish(complaints);
    Some(HookSpec {
        at: point?,
        name: name.map(|name| name.value),
        program: program?,
        timeout: timeout.map(|timeout| timeout.value),
        env,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Source, parse};

    fn read(hook: &str) -> Result<Vec<HookSpec>, Vec<String>> {
        let text = format!("[image]\nname = 'web'\n[base]\nimage = 'x'\n{hook}\n");
        parse(&Source { name: "web.toml".into(), text }).map(|recipe| recipe.hooks).map_err(|complaints| {
            complaints
                .into_iter()
                .map(|one| format!("{} / {}", one.message, one.help.unwrap_or_default()))
                .collect()
        })
    }

    #[test]
    fn hooks_are_read_in_order() {
        let hooks = read(
            "[[hook]]\nat = 'before-mount'\nrun = ['sgdisk', '-v']\n[[hook]]\nat = 'after-image'\nname = 'tell'\n\
             script = 'tell.sh'\nargs = ['-q']\ntimeout = '2m'\nenv = { CHANNEL = 'web' }",
        )
        .unwrap();
        assert_eq!((hooks[0].at, hooks[0].timeout), (HookPoint::BeforeMount, None));
        assert!(matches!(&hooks[0].program, HookProgram::Run(words) if words.len() == 2));
        assert_eq!((hooks[1].timeout, hooks[1].env["CHANNEL"].as_str()), (Some(120), "web"));
        assert!(
            matches!(&hooks[1].program, HookProgram::Script(path, args) if path.value == "tell.sh" && args == &["-q"])
        );
    }

    #[test]
    fn what_is_wrong_with_a_hook_is_told() {
        for (hook, told) in [
            ("run = ['true']", "no `at` / say when it runs: one of `before-mount`"),
            ("at = 'before-mont'\nrun = ['true']", "did you mean `before-mount`?"),
            ("at = 'before-mount'", "nothing to do"),
            ("at = 'before-mount'\nrun = []", "names no program"),
            ("at = 'before-mount'\nrun = ['x']\nscript = 'x'", "not both"),
            ("at = 'before-mount'\nrun = ['x']\nargs = ['x']", "goes with `script`"),
            ("at = 'before-mount'\nrun = ['x']\ntimeout = 5", "must be a duration"),
            ("at = 'before-mount'\nrun = ['x']\nname = ''", "one line of 1 to 80"),
            ("at = 'before-mount'\nrn = ['x']", "did you mean `run`?"),
        ] {
            let wrong = read(&format!("[[hook]]\n{hook}")).unwrap_err();
            assert!(wrong.iter().any(|one| one.contains(told)), "{hook}: {wrong:?}");
        }
        assert!(read("[hook]\nat = 'x'").unwrap_err()[0].contains("one table"));
    }
}
