//! A recipe's sections, from the tree of its values.

use super::base::base;
use super::device::devices;
use super::disk::disk;
use super::hook::hook;
use super::hygiene::hygiene;
use super::publish::publish;
use super::reader::{Complaints, Table, environment, inside_path, shown};
use super::rights;
use super::scratch;
use super::secret::secrets;
use super::shape::{collision, shape};
use super::tags::{separate, tags};
use super::template::{LONGEST_NAME, Part, Template, allowed_in_name, literals};
use super::when::when;
use super::{
    BaseSelector, Complaint, DiskSpec, HookSpec, HygieneSpec, ImageSpec, RawValue, Recipe, Spanned, StepSpec,
    Variables,
};

type Entries = [(Spanned<String>, Spanned<RawValue>)];

/// What could be read of a recipe.
pub(crate) struct Readable {
    /// The whole of it; none where a part that it must have is missing or unreadable (each complained of).
    pub(crate) recipe: Option<Recipe>,
    /// The steps that could be read.
    pub(crate) steps: Vec<StepSpec>,
    /// The checks that could be read.
    pub(crate) checks: Vec<StepSpec>,
    /// The hooks that could be read.
    pub(crate) hooks: Vec<HookSpec>,
}

/// Reads a recipe.
pub(super) fn recipe(entries: &Entries, complaints: &mut Complaints) -> Readable {
    let mut top = Table::new("the recipe", 0..0, entries);
    let image = match top.entry("image") {
        Some((_, value)) => {
            Table::of("[image]", value, complaints).and_then(|table| image(table, complaints))
        }
        None => {
            missing_section("image", "name = \"web-{version}-{arch}-{time}\"", complaints);
            None
        }
    };
    let base = match top.entry("base") {
        Some((_, value)) => Table::of("[base]", value, complaints).and_then(|table| base(table, complaints)),
        None => {
            missing_section("base", "ami = \"ami-…\", or name = \"debian-12-amd64-*\"", complaints);
            None
        }
    };
    let disk = match top.table("disk", complaints) {
        Some(table) => disk(table, complaints),
        None => DiskSpec::default(),
    };
    if let Some(Spanned { value: BaseSelector::Scratch(spec), span }) =
        base.as_ref().map(|base| &base.selector)
    {
        scratch::check_disk(spec, span, &disk, complaints);
        if let Some(mode) = image.as_ref().and_then(|image| image.shape.boot_mode.as_deref()) {
            scratch::check_boot_mode(spec, span, mode, complaints);
        }
    }
    let devices = devices(top.tables("device", complaints), complaints);
    let tags = top.table("tags", complaints).map(|table| separate(table, complaints)).unwrap_or_default();
    let tables = top.tables("step", complaints);
    let steps: Vec<_> = tables.into_iter().filter_map(|table| step(table, None, complaints)).collect();
    let tables = top.tables("check", complaints);
    let checks: Vec<_> =
        tables.into_iter().filter_map(|table| step(table, Some("script"), complaints)).collect();
    let tables = top.tables("hook", complaints);
    let hooks: Vec<_> = tables.into_iter().filter_map(|table| hook(table, complaints)).collect();
    let hygiene = match top.table("hygiene", complaints) {
        Some(table) => hygiene(table, complaints),
        None => HygieneSpec::default(),
    };
    let publish = top.table("publish", complaints).map(|table| publish(table, complaints));
    // They were filled in and laid over before: asked for here so that a misspelt section is told of them.
    for taken in ["vars", "env"] {
        top.entry(taken);
    }
    top.finish(complaints);
    let recipe = image.zip(base).map(|(image, base)| Recipe {
        image,
        base: base.selector,
        base_max_age: base.max_age,
        disk,
        devices,
        tags,
        steps: steps.clone(),
        checks: checks.clone(),
        hooks: hooks.clone(),
        hygiene,
        publish,
        variables: Variables::default(),
        environment: None,
    });
    Readable { recipe, steps, checks, hooks }
}

fn missing_section(name: &str, example: &str, complaints: &mut Complaints) {
    complaints.missing(
        Complaint::new(format!("the recipe has no [{name}]"), 0..0)
            .label(format!("[{name}] is missing"))
            .help(format!("add [{name}] with {example}")),
    );
}

fn image(mut table: Table, complaints: &mut Complaints) -> Option<ImageSpec> {
    let name = table.string("name", complaints);
    match &name {
        Some(name) => check_name(name, complaints),
        None if table.get("name").is_none() => complaints.missing(
            Complaint::new("[image] has no `name`", table.span.clone())
                .help("add name = \"web-{version}-{arch}-{time}\""),
        ),
        None => {}
    }
    let description = table.string("description", complaints);
    if let Some(description) = &description {
        template("the description", description, 255, complaints);
    }
    let snapshot_description = table.string("snapshot_description", complaints);
    if let Some(description) = &snapshot_description {
        template("the snapshot's description", description, 255, complaints);
    }
    let tags = tags(&mut table, "tags", complaints);
    let shape = shape(&mut table, complaints);
    let said_collision = collision(&mut table, complaints);
    table.finish(complaints);
    Some(ImageSpec { name: name?, description, snapshot_description, tags, shape, said_collision })
}

/// Parses a template; complains of what is wrong with it, and of literal text longer than `longest` characters.
pub(super) fn template(
    what: &str,
    text: &Spanned<String>,
    longest: usize,
    complaints: &mut Complaints,
) -> Option<Template> {
    match Template::parse(&text.value) {
        Ok(template) => {
            let literal: usize = template
                .parts
                .iter()
                .map(|part| match part {
                    Part::Literal(text) => text.chars().count(),
                    Part::Placeholder(_) => 0,
                })
                .sum();
            if literal > longest {
                let message = format!(
                    "{what} has {literal} characters without its placeholders, at most {longest} fit"
                );
                complaints.push(Complaint::new(message, text.span.clone()));
            }
            Some(template)
        }
        Err(errors) => {
            for error in errors {
                let span = complaints.within(text, error.span);
                let mut complaint = Complaint::new(error.message, span);
                complaint.help = error.help;
                complaints.push(complaint);
            }
            None
        }
    }
}

fn check_name(name: &Spanned<String>, complaints: &mut Complaints) {
    let template = template("the image's name", name, LONGEST_NAME, complaints);
    if let Some((place, character)) =
        literals(&name.value).find(|(_, character)| !allowed_in_name(*character))
    {
        let span = complaints.within(name, place..place + character.len_utf8());
        complaints.push(
            Complaint::new(format!("{character:?} can't be in an image's name"), span)
                .help("letters, digits and ( ) [ ] space . / - ' @ _ can"),
        );
    }
    if let Some([] | [Part::Literal(_)]) = template.as_ref().map(|template| template.parts.as_slice())
        && name.value.chars().count() < 3
    {
        let message = "an image's name has at least 3 characters";
        complaints.push(Complaint::new(message, name.span.clone()));
    }
}

fn step(mut table: Table, default: Option<&str>, complaints: &mut Complaints) -> Option<StepSpec> {
    let provisioner = match table.entry("use") {
        Some(_) => table.string("use", complaints),
        None => match default {
            Some(name) => Some(Spanned { value: name.to_owned(), span: table.span.clone() }),
            None => {
                complaints.missing(
                    Complaint::new("a step has no `use`", table.span.clone())
                        .help("say which provisioner does it: use = \"package\", \"files\", \"script\", …"),
                );
                None
            }
        },
    };
    let name = table.string("name", complaints);
    if let Some(complaint) = name.as_ref().and_then(|name| wrong_name("step", name)) {
        complaints.push(complaint);
    }
    let timeout = table.duration("timeout", complaints);
    let network = table.string("network", complaints);
    if let Some(network) = &network
        && !["host", "none"].contains(&network.value.as_str())
    {
        complaints.push(
            Complaint::new(format!("unknown network `{}`", shown(&network.value)), network.span.clone())
                .help("`host` (the builder's, without the metadata service) or `none`"),
        );
    }
    let env = environment(&mut table, complaints);
    let cwd = table.string("cwd", complaints).filter(|cwd| inside_path("`cwd`", cwd, complaints));
    let suppress_sync = table.bool("suppress_sync", complaints);
    let when = when(&mut table, complaints);
    let secrets = secrets(&mut table, complaints);
    let rights = rights::rights(&mut table, complaints);
    let params = table.rest().map(|(key, value)| (key.value.clone(), value.clone())).collect();
    let keys = table.rest().map(|(key, _)| (key.value.clone(), key.span.clone())).collect();
    Some(StepSpec {
        provisioner: provisioner?,
        name: name.map(|name| name.value),
        timeout: timeout.map(|timeout| timeout.value),
        network: network.map(|network| network.value),
        env,
        cwd: cwd.map(|cwd| cwd.value.into()),
        suppress_sync,
        secrets,
        when,
        rights,
        params,
        keys,
        span: table.span.clone(),
    })
}

/// A complaint about a name that people can't read in one line.
pub(super) fn wrong_name(what: &str, name: &Spanned<String>) -> Option<Complaint> {
    let length = name.value.chars().count();
    let wrong = name.value.trim().is_empty() || name.value.contains(char::is_control) || length > 80;
    let message = || format!("a {what}'s `name` is one line of 1 to 80 characters");
    wrong.then(|| Complaint::new(message(), name.span.clone()))
}

/// The keys that every step has; no provisioner's parameter can have these names.
pub(crate) const STEP_KEYS: [&str; 14] = {
    let [devices, mounts, memory, processes, cpu] = rights::KEYS;
    let own = ["use", "name", "timeout", "network", "env", "cwd", "suppress_sync", "when", "secrets"];
    let [a, b, c, d, e, f, g, h, i] = own;
    [a, b, c, d, e, f, g, h, i, devices, mounts, memory, processes, cpu]
};
