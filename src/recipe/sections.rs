//! A recipe's sections, from the tree of its values.

use std::collections::BTreeMap;

use super::disk::disk;
use super::hygiene::hygiene;
use super::reader::{Complaints, Table, did_you_mean, environment, inside_path, listed, shown};
use super::rights;
use super::template::{LONGEST_NAME, Part, Template, allowed_in_name, literals};
use super::{BaseSelector, Complaint, DiskSpec, HygieneSpec, ImageSpec, RawValue, Recipe, Spanned, StepSpec};

type Entries = [(Spanned<String>, Spanned<RawValue>)];

/// What could be read of a recipe.
pub(crate) struct Readable {
    /// The whole of it; none where a part that it must have is missing or unreadable (each complained of).
    pub(crate) recipe: Option<Recipe>,
    /// The steps that could be read.
    pub(crate) steps: Vec<StepSpec>,
    /// The checks that could be read.
    pub(crate) checks: Vec<StepSpec>,
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
    let tables = top.tables("step", complaints);
    let steps: Vec<_> = tables.into_iter().filter_map(|table| step(table, None, complaints)).collect();
    let tables = top.tables("check", complaints);
    let checks: Vec<_> =
        tables.into_iter().filter_map(|table| step(table, Some("script"), complaints)).collect();
    let hygiene = match top.table("hygiene", complaints) {
        Some(table) => hygiene(table, complaints),
        None => HygieneSpec::default(),
    };
    top.finish(complaints);
    let recipe = image.zip(base).map(|(image, base)| Recipe {
        image,
        base,
        disk,
        steps: steps.clone(),
        checks: checks.clone(),
        hygiene,
    });
    Readable { recipe, steps, checks }
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
    let mut tags = BTreeMap::new();
    for (key, value) in table.map("tags", complaints).unwrap_or_default() {
        if let Some(why) = wrong_tag(&key.value) {
            let message = format!("`{}` can't be a tag: {why}", shown(&key.value));
            complaints.push(Complaint::new(message, key.span.clone()));
        }
        template("the tag", &value, 256, complaints);
        tags.insert(key.value, value);
    }
    table.finish(complaints);
    Some(ImageSpec { name: name?, description, tags })
}

/// Why a tag's key is refused. EC2: at most 128 characters, none that begins with `aws:` in any case.
pub(super) fn wrong_tag(key: &str) -> Option<&'static str> {
    if key.is_empty() {
        Some("its name is empty")
    } else if key.chars().count() > 128 {
        Some("its name has more than 128 characters")
    } else if key.to_ascii_lowercase().starts_with("aws:") {
        Some("names that begin with aws: are AWS's own")
    } else if key.starts_with("bakehouse:") {
        Some("names that begin with bakehouse: are Bakehouse's own")
    } else {
        None
    }
}

/// Parses a template; complains of what is wrong with it, and of literal text longer than `longest` characters.
fn template(
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

const SELECTORS: [&str; 5] = ["ami", "name", "parameter", "snapshot", "image"];

fn base(mut table: Table, complaints: &mut Complaints) -> Option<Spanned<BaseSelector>> {
    let found: Vec<_> = SELECTORS.iter().filter_map(|key| table.entry(key)).collect();
    let key = match found.as_slice() {
        [(key, _)] => key.value.as_str(),
        [] => {
            let meant = table.all().iter().any(|(key, _)| did_you_mean(&key.value, &SELECTORS).is_some());
            if !meant {
                complaints.missing(
                    Complaint::new("[base] does not say which base", table.span.clone())
                        .help(format!("add one of {}", listed(&SELECTORS))),
                );
            }
            ""
        }
        several => {
            let names: Vec<&str> = several.iter().map(|(key, _)| key.value.as_str()).collect();
            for (key, _) in several.iter().skip(1) {
                complaints.push(
                    Complaint::new(
                        format!("[base] says {}: one is wanted", listed(&names)),
                        key.span.clone(),
                    )
                    .label("one too many")
                    .help("leave one of them"),
                );
            }
            ""
        }
    };
    let said: Vec<_> =
        SELECTORS.iter().filter_map(|key| Some((*key, table.string(key, complaints)?))).collect();
    for (key, text) in &said {
        check_selector(key, text, complaints);
    }
    let text = said.into_iter().find(|(said, _)| *said == key).map(|(_, text)| text);
    let owner = table.string("owner", complaints);
    let arch = table.string("arch", complaints).and_then(|arch| arch_name(&arch, complaints));
    let newest = table.bool("newest", complaints);
    let root_device = table.string("root_device", complaints);
    if !key.is_empty() {
        for (extra, with) in [
            ("owner", &["name"][..]),
            ("newest", &["name"]),
            ("arch", &["name", "snapshot"]),
            ("root_device", &["snapshot"]),
        ] {
            if let Some((name, _)) = table.entry(extra)
                && !with.contains(&key)
            {
                complaints.push(Complaint::new(
                    format!("`{extra}` goes with {} in [base], not with `{key}`", listed(with)),
                    name.span.clone(),
                ));
            }
        }
    }
    if let Some(owner) = &owner {
        let number = owner.value.len() == 12 && owner.value.bytes().all(|byte| byte.is_ascii_digit());
        if !number && !["self", "amazon", "aws-marketplace", "aws-backup-vault"].contains(&&*owner.value) {
            complaints.push(
                Complaint::new("`owner` is no account", owner.span.clone())
                    .help("an account's 12 digits, or self, amazon or aws-marketplace"),
            );
        }
    }
    if let Some(device) = &root_device
        && !device.value.starts_with("/dev/")
    {
        complaints.push(Complaint::new("`root_device` must begin with /dev/", device.span.clone()));
    }
    table.finish(complaints);
    let text = text?;
    let Spanned { value, span } = text;
    let selector = match key {
        "ami" => BaseSelector::Ami(value),
        "name" => BaseSelector::Name {
            glob: value,
            owner: owner.map(|owner| owner.value),
            arch,
            newest: newest.unwrap_or(true),
        },
        "parameter" => BaseSelector::Parameter(value),
        "snapshot" => {
            BaseSelector::Snapshot { id: value, arch, root_device: root_device.map(|device| device.value) }
        }
        _ => BaseSelector::Image(value),
    };
    Some(Spanned { value: selector, span })
}

/// Complains of a selector's value that can't be one.
fn check_selector(key: &str, text: &Spanned<String>, complaints: &mut Complaints) {
    let value = text.value.as_str();
    let (good, must) = match key {
        "ami" => (resource_id(value, "ami-"), "ami- and 8 or 17 hexadecimal digits"),
        "snapshot" => (resource_id(value, "snap-"), "snap- and 8 or 17 hexadecimal digits"),
        "parameter" => (
            !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || "_.-/:".contains(c)),
            "the name of an SSM parameter, /aws/service/debian/release/12/latest/amd64 for one",
        ),
        _ => (!value.trim().is_empty() && !value.contains(char::is_control), "a name, not empty"),
    };
    if !good {
        complaints
            .push(Complaint::new(format!("`{key}` must be {must}"), text.span.clone()).label("can't be one"));
    }
}

fn resource_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| {
        matches!(digits.len(), 8 | 17)
            && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

fn arch_name(arch: &Spanned<String>, complaints: &mut Complaints) -> Option<String> {
    match arch.value.as_str() {
        "x86_64" | "amd64" => Some("x86_64".to_owned()),
        "arm64" | "aarch64" => Some("arm64".to_owned()),
        other => {
            complaints.push(
                Complaint::new(format!("unknown architecture `{}`", shown(other)), arch.span.clone())
                    .help("x86_64 or arm64"),
            );
            None
        }
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
    if let Some(name) = &name
        && (name.value.trim().is_empty()
            || name.value.contains(char::is_control)
            || name.value.chars().count() > 80)
    {
        complaints
            .push(Complaint::new("a step's `name` is one line of 1 to 80 characters", name.span.clone()));
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
        rights,
        params,
        keys,
        span: table.span.clone(),
    })
}

/// The keys that every step has; no provisioner's parameter can have these names.
pub(crate) const STEP_KEYS: [&str; 12] = {
    let [devices, mounts, memory, processes, cpu] = rights::KEYS;
    let own = ["use", "name", "timeout", "network", "env", "cwd", "suppress_sync"];
    let [a, b, c, d, e, f, g] = own;
    [a, b, c, d, e, f, g, devices, mounts, memory, processes, cpu]
};
