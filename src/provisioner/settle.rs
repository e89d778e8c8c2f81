//! A recipe's steps against their provisioners' definitions: checked, defaults filled in, settled.

use std::collections::BTreeMap;
use std::path::Path;

use super::check::{Values, missing};
use super::form::Given;
use super::library::{Library, NotFound};
use super::{Alternative, Builder, Choice, Definition, HookPlan, Runs, StepPlan, Value, Work, hook};
use crate::recipe::reader::{Complaints, Table, did_you_mean, listed, shown};
use crate::recipe::template::{OPEN, Template};
use crate::recipe::{
    self, BaseSelector, Bootstrap, Complained, Complaint, Inputs, RawValue, Recipe, SecretSource, Source,
    Spanned, StepSpec,
};

/// A recipe's steps, checks and hooks, settled.
#[derive(Debug, Clone, Default)]
pub struct Settled {
    /// The steps, in order.
    pub steps: Vec<StepPlan>,
    /// The checks, in order.
    pub checks: Vec<StepPlan>,
    /// The hooks, in order.
    pub hooks: Vec<HookPlan>,
}

/// Parses a recipe, with what is given besides its text, and settles all of its steps and checks.
///
/// # Errors
/// Everything that is wrong: with the recipe, with each definition that it uses, and with what was given.
pub fn check_recipe(
    source: &Source,
    library: &Library,
    builder: Builder,
    inputs: &Inputs,
) -> Result<(Recipe, Settled), Vec<Complained>> {
    let mut settler = Settler { library, builder, known: BTreeMap::new(), wrong: Vec::new() };
    let mut complaints = Complaints::new(source);
    let (recipe, settled, outside) = settler.recipe(inputs, &mut complaints);
    if inputs.check_all {
        for name in recipe::vars::environments(source) {
            if inputs.environment.as_ref() != Some(&name) {
                let mut own = Complaints::new(source);
                settler.recipe(&Inputs::only_looking_at(&name), &mut own);
                complaints.adopt(own, &name);
            }
        }
    }
    let mut wrong = settler.wrong;
    wrong.extend(outside);
    match complaints.finish(recipe) {
        Ok(recipe) if wrong.is_empty() => Ok((recipe, settled)),
        Ok(_) => Err(wrong),
        Err(complaints) => {
            wrong.insert(0, Complained { source: source.clone(), complaints });
            Err(wrong)
        }
    }
}

/// Makes the path of a bootstrap's script absolute; complains where there is no such file.
fn bootstrap_script(recipe: &mut Recipe, builder: Builder, complaints: &mut Complaints) {
    let BaseSelector::Scratch(spec) = &mut recipe.base.value else { return };
    let Bootstrap::Script { path, span, .. } = &mut spec.bootstrap else { return };
    let named = Spanned { value: path.to_string_lossy().into_owned(), span: span.clone() };
    let values = Values { builder, staged: Vec::new() };
    if let Some(found) = values.file("`bootstrap`", &named, complaints) {
        *path = found;
    }
}

/// Complains of templates that say `{version}` and its like where no step can tell them.
fn needs_a_package(recipe: &Recipe, steps: &[StepPlan], complaints: &mut Complaints) {
    if steps.iter().any(StepPlan::may_tell_package) {
        return;
    }
    let image = &recipe.image;
    let texts = [&image.description, &image.snapshot_description].into_iter().flatten();
    let tags = [&image.tags, &recipe.tags.snapshot, &recipe.tags.image];
    let tags = tags.into_iter().flat_map(|tags| tags.values());
    for text in std::iter::once(&image.name).chain(texts).chain(tags) {
        let Ok(template) = Template::parse(&text.value) else { continue };
        if let Some(name) = template.placeholders().find(|name| OPEN.contains(name)) {
            let written = format!("{{{name}}}");
            let start = text.value.find(&written).unwrap_or_default();
            let span = complaints.within(text, start..start + written.len());
            complaints.push(
                Complaint::new(format!("{written} is the main package's, and no step installs one"), span)
                    .help("add a step such as use = \"package\", or leave it out"),
            );
        }
    }
}

impl StepPlan {
    /// Whether it may tell the name, version and release of a package that it installed.
    pub fn may_tell_package(&self) -> bool {
        self.package_query.is_some()
            || self.alternatives.iter().filter_map(|choice| choice.step.as_ref()).any(Self::may_tell_package)
    }
}

struct Settler<'a> {
    library: &'a Library,
    builder: Builder<'a>,
    /// Definitions already read; none where something is wrong with them, which is told once.
    known: BTreeMap<String, Option<Definition>>,
    wrong: Vec<Complained>,
}

impl Settler<'_> {
    /// Reads a recipe and settles its steps; and what is wrong with what was given.
    fn recipe(
        &mut self,
        inputs: &Inputs,
        complaints: &mut Complaints,
    ) -> (Option<Recipe>, Settled, Vec<Complained>) {
        let (mut readable, outside) = recipe::read(complaints, inputs);
        if let Some(recipe) = &mut readable.recipe {
            bootstrap_script(recipe, self.builder, complaints);
        }
        let mut settle = |steps: &[StepSpec]| -> Vec<StepPlan> {
            steps.iter().filter_map(|step| self.step(step, complaints)).collect()
        };
        let (steps, checks) = (settle(&readable.steps), settle(&readable.checks));
        let hooks = hook::settle(&readable.hooks, self.builder, complaints);
        let settled = Settled { steps, checks, hooks };
        if let Some(recipe) = &readable.recipe
            && settled.steps.len() == recipe.steps.len()
        {
            needs_a_package(recipe, &settled.steps, complaints);
        }
        (readable.recipe, settled, outside)
    }

    fn step(&mut self, step: &StepSpec, complaints: &mut Complaints) -> Option<StepPlan> {
        let definition = self.definition(&step.provisioner, complaints)?;
        let before = complaints.count();
        let plan = self.with(step, &definition, complaints);
        let told = complaints.count() > before;
        let Runs::Choose(choices) = &definition.runs else { return plan };
        let mut plan = plan?;
        plan.alternatives =
            choices.iter().filter_map(|choice| self.alternative(step, choice, complaints)).collect();
        let refused: Vec<String> = plan
            .alternatives
            .iter()
            .filter_map(|choice| Some(format!("{}: {}", choice.provisioner, choice.refused.as_ref()?)))
            .collect();
        // What is wrong with the step for itself is the reason of every candidate.
        if told {
            return None;
        }
        if refused.len() == choices.len() {
            complaints.push(
                Complaint::new("none of the provisioners to choose from takes this step", step.span.clone())
                    .help(refused.join("\n")),
            );
        }
        Some(plan)
    }

    /// The definition of that name. What is wrong with it is kept.
    fn definition(&mut self, name: &Spanned<String>, complaints: &mut Complaints) -> Option<Definition> {
        if let Some(known) = self.known.get(&name.value) {
            return known.clone();
        }
        let found = match self.library.find(&name.value) {
            Ok(definition) => Some(definition),
            Err(NotFound::Wrong(complained)) => {
                self.wrong.push(complained);
                None
            }
            Err(NotFound::Unreadable(error)) => {
                complaints.push(Complaint::new(format!("{error:#}"), name.span.clone()));
                None
            }
            Err(NotFound::Unknown) => {
                let known = self.library.names();
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                let message = format!("no provisioner `{}`", shown(&name.value));
                let complaint = Complaint::new(message, name.span.clone()).label("not known");
                complaints.push(match did_you_mean(&name.value, &known) {
                    Some(near) => complaint.help(format!("did you mean `{near}`?")),
                    None => complaint.help(format!(
                        "known are {}; one of your own goes into provisioners/ beside the recipe",
                        listed(&known)
                    )),
                });
                // Each step that uses it is underlined.
                return None;
            }
        };
        self.known.insert(name.value.clone(), found.clone());
        found
    }

    fn alternative(
        &mut self,
        step: &StepSpec,
        choice: &Choice,
        complaints: &mut Complaints,
    ) -> Option<Alternative> {
        let name = Spanned { value: choice.provisioner.clone(), span: step.provisioner.span.clone() };
        let definition = self.definition(&name, complaints)?;
        let mut own = complaints.about_the_same();
        let plan = self.with(step, &definition, &mut own);
        if let Runs::Choose(_) = definition.runs {
            own.push(Complaint::new("it chooses in its turn", step.span.clone()));
        }
        let alternative = |step, refused| Alternative {
            id_like: choice.id_like.clone(),
            provisioner: choice.provisioner.clone(),
            step,
            refused,
        };
        Some(match own.finish(plan) {
            Ok(plan) => alternative(Some(plan), None),
            Err(why) => {
                let why: Vec<String> = why.into_iter().map(|complaint| complaint.message).collect();
                alternative(None, Some(why.join("; ")))
            }
        })
    }

    /// The step as this definition does it.
    fn with(
        &self,
        step: &StepSpec,
        definition: &Definition,
        complaints: &mut Complaints,
    ) -> Option<StepPlan> {
        let mut values = Values { builder: self.builder, staged: Vec::new() };
        let entries: Vec<(Spanned<String>, Spanned<RawValue>)> = step
            .params
            .iter()
            .map(|(name, raw)| {
                let span = step.keys.get(name).unwrap_or(&raw.span).clone();
                (Spanned { value: name.clone(), span }, raw.clone())
            })
            .collect();
        let mut table = Table::new(format!("a step of `{}`", definition.name), step.span.clone(), &entries);
        table.knows(&crate::recipe::STEP_KEYS);
        let mut groups = definition.at_least_one.clone();
        if let Runs::Parameter { names, .. } = &definition.runs {
            groups.push(names.iter().map(|name| Given { name: name.clone(), glob: None }).collect());
        }
        groups.dedup();
        missing(&groups, &mut table, complaints, |group| {
            let message = format!("a step of `{}` has nothing to do", definition.name);
            Complaint::new(message, step.span.clone()).help(format!("add {group}"))
        });
        let params = values.params(&definition.params, table, Path::new(""), complaints);
        let mut secrets = BTreeMap::new();
        for (name, source) in &step.secrets {
            let settled = match &source.value {
                SecretSource::File(path) => {
                    let path = Spanned { value: path.display().to_string(), span: source.span.clone() };
                    let what = format!("the secret `{name}`");
                    // Whether it is there is asked when it is read: who checks a recipe need not have it.
                    values.resolve(&what, &path, complaints).map(SecretSource::File)
                }
                other => Some(other.clone()),
            };
            secrets.extend(settled.map(|source| (name.clone(), source)));
        }
        let mut staged = values.staged;
        let (work, short) = match &definition.runs {
            Runs::Command(command) => (Work::Command(command.clone()), None),
            Runs::Builtin(name) => (Work::Builtin(name.clone()), None),
            Runs::Choose(_) => (Work::Choose, None),
            Runs::Parameter { names, arguments } => {
                let name = names.iter().find(|name| params.contains_key(*name))?;
                let mut command = words(params.get(name)?);
                let short = match command.as_slice() {
                    [path] => path.rsplit('/').next().unwrap_or_default().to_owned(),
                    words => words.join(" "),
                };
                for file in staged.iter_mut().filter(|file| file.to.starts_with(name)) {
                    file.executable = true;
                }
                let more = arguments.as_ref().and_then(|name| params.get(name));
                command.extend(more.map(words).unwrap_or_default());
                (Work::Command(command), Some(short))
            }
        };
        // A step that could install packages, and was given none, has no main package to tell.
        let mut packages = definition.params.iter().filter(|(_, param)| param.kind.is_packages()).peekable();
        // As it is written, for what is wrong with a package is told, and that none is installed would be no news.
        let none = |raw: &RawValue| matches!(raw, RawValue::Array(items) if items.is_empty());
        let given = |name| step.params.get(name).is_some_and(|raw| !none(&raw.value));
        let installs = packages.peek().is_none() || packages.any(|(name, _)| given(name));
        let mut env = definition.env.clone();
        env.extend(step.env.clone());
        let name = match (&step.name, short) {
            (Some(name), _) => name.clone(),
            (None, Some(short)) => format!("{}: {}", definition.name, shown(&short)),
            (None, None) => definition.name.clone(),
        };
        Some(StepPlan {
            name,
            provisioner: definition.name.clone(),
            digest: definition.digest.clone(),
            work,
            alternatives: Vec::new(),
            params,
            env,
            cwd: step.cwd.clone(),
            staged,
            temporary: definition.temporary.clone(),
            caches: definition.caches.clone(),
            host: definition.host,
            programs: definition.programs.clone(),
            network: step.network.clone().unwrap_or_else(|| definition.network.clone()),
            suppress_sync: step.suppress_sync.unwrap_or(definition.suppress_sync),
            secrets,
            when: step.when.as_ref().map(|spec| spec.when.clone()),
            skipped: None,
            rights: step.rights,
            timeout: step.timeout.or(definition.timeout),
            files: definition.files.clone(),
            package_query: definition.package_query.clone().filter(|_| installs),
            hints: definition.hints.clone(),
        })
    }
}

/// The strings of a value.
fn words(value: &Value) -> Vec<String> {
    match value {
        Value::String(word) => vec![word.clone()],
        Value::List(items) => items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect(),
        Value::Bool(_) | Value::Integer(_) | Value::Map(_) => Vec::new(),
    }
}
