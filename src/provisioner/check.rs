//! A recipe's values against a definition's parameters.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::definition::{Param, ParamType, PathKind};
use super::source::{self, Named};
use super::{Builder, FileFacts, STEP_FOLDER, StagedFile, Value};
use crate::recipe::reader::{
    Complaints, Table, bool, did_you_mean, duration, inside_path, integer, listed, map, shown, string,
    strings, wrong_type,
};
use crate::recipe::{Complaint, RawValue, Spanned};

/// Values being checked: what they need of the builder is asked, what they stage is kept.
pub(super) struct Values<'b> {
    pub(super) builder: Builder<'b>,
    pub(super) staged: Vec<StagedFile>,
}

/// A value that needs nothing of the builder: a definition's default.
pub(super) fn plain_value(
    what: &str,
    kind: &ParamType,
    raw: &Spanned<RawValue>,
    complaints: &mut Complaints,
) -> Option<Value> {
    match kind {
        ParamType::Path { .. } | ParamType::Packages { .. } | ParamType::Tables(_) | ParamType::Argv => {
            complaints
                .push(Complaint::new(format!("a parameter of this type has no {what}"), raw.span.clone()));
            None
        }
        kind => plain(what, kind, raw, complaints),
    }
}

/// The types that need nothing of the builder; none, without a complaint, for the others.
fn plain(
    what: &str,
    kind: &ParamType,
    raw: &Spanned<RawValue>,
    complaints: &mut Complaints,
) -> Option<Value> {
    match kind {
        ParamType::Bool => bool(what, raw, complaints).map(Value::Bool),
        ParamType::Integer { min, max } => {
            let number = integer(what, raw, complaints)?;
            let limit = match (min, max) {
                (Some(min), _) if number.value < *min => format!("at least {min}"),
                (_, Some(max)) if number.value > *max => format!("at most {max}"),
                _ => return Some(Value::Integer(number.value)),
            };
            complaints.push(Complaint::new(format!("{what} must be {limit}"), number.span));
            None
        }
        ParamType::String => string(what, raw, complaints).map(|text| Value::String(text.value)),
        // `upgrade = true` where the words are `true`, `false` and more.
        ParamType::Enum(values) if matches!(raw.value, RawValue::Boolean(value) if values.contains(&value.to_string())) =>
        {
            let RawValue::Boolean(value) = raw.value else { return None };
            Some(Value::String(value.to_string()))
        }
        ParamType::Enum(values) => {
            let word = string(what, raw, complaints)?;
            if values.contains(&word.value) {
                return Some(Value::String(word.value));
            }
            let known: Vec<&str> = values.iter().map(String::as_str).collect();
            let complaint = Complaint::new(format!("{what} can't be `{}`", shown(&word.value)), word.span);
            complaints.push(match did_you_mean(&word.value, &known) {
                Some(near) => complaint.help(format!("did you mean `{near}`?")),
                None => complaint.help(format!("known are {}", listed(&known))),
            });
            None
        }
        ParamType::Duration => {
            let seconds = duration(what, raw, complaints)?;
            Some(Value::Integer(i64::try_from(seconds.value).unwrap_or(i64::MAX)))
        }
        ParamType::Mode => {
            let text = string(what, raw, complaints)?;
            if is_mode(&text.value) {
                return Some(Value::String(text.value));
            }
            complaints.push(
                Complaint::new(format!("{what} is no mode"), text.span)
                    .help("octal such as \"0644\", or as chmod takes it: \"u=rwX,go=rX\""),
            );
            None
        }
        ParamType::Inside => {
            let text = string(what, raw, complaints)?;
            inside_path(what, &text, complaints).then_some(Value::String(text.value))
        }
        ParamType::List => {
            let items = strings(what, raw, complaints)?;
            let items = items.into_iter().filter_map(|item| without_breaks(what, item, complaints));
            Some(Value::List(items.map(|item| Value::String(item.value)).collect()))
        }
        ParamType::Map => {
            let entries = map(what, raw, complaints)?;
            let mut checked = BTreeMap::new();
            for (key, value) in entries {
                if key.value.is_empty() || key.value.contains(['=', '\n', '\0']) {
                    let message = format!("a key of {what} is empty or holds `=`, a line break or NUL");
                    complaints.push(Complaint::new(message, key.span));
                } else if let Some(value) = without_breaks(what, value, complaints) {
                    checked.insert(key.value, Value::String(value.value));
                }
            }
            Some(Value::Map(checked))
        }
        ParamType::Argv => {
            let words = strings(what, raw, complaints)?;
            if words.first().is_none_or(|first| first.value.is_empty()) {
                complaints.push(
                    Complaint::new(format!("{what} names no program"), raw.span.clone())
                        .help("the program and its arguments, each a string: [\"nginx\", \"-t\"]"),
                );
                return None;
            }
            Some(Value::List(words.into_iter().map(|word| Value::String(word.value)).collect()))
        }
        ParamType::Path { .. } | ParamType::Packages { .. } | ParamType::Tables(_) => None,
    }
}

/// The text, where it has no line break: parameters reach scripts a line an item.
fn without_breaks(what: &str, text: Spanned<String>, complaints: &mut Complaints) -> Option<Spanned<String>> {
    if text.value.contains('\n') {
        complaints.push(Complaint::new(format!("an item of {what} holds a line break"), text.span));
        return None;
    }
    Some(text)
}

/// Octal, or symbolic as chmod takes it.
fn is_mode(text: &str) -> bool {
    let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let clause = |clause: &str| {
        let action = clause.trim_start_matches(['u', 'g', 'o', 'a']);
        let mut actions = 0;
        let mut rest = action;
        while let Some(after) = rest.strip_prefix(['+', '-', '=']) {
            let end = after.find(['+', '-', '=']).unwrap_or(after.len());
            let (bits, next) = after.split_at(end);
            if !bits.chars().all(|bit| "rwxXst".contains(bit)) && !matches!(bits, "u" | "g" | "o") {
                return false;
            }
            actions += 1;
            rest = next;
        }
        actions > 0 && rest.is_empty()
    };
    octal || text.split(',').all(clause)
}

/// A parameter of this name, where it is true, makes templates of the files that the paths beside it name.
const TEMPLATE: &str = "template";

impl Values<'_> {
    /// The value of a parameter. `place` is where its files are staged, below the step's `files/`.
    pub(super) fn value(
        &mut self,
        what: &str,
        kind: &ParamType,
        raw: &Spanned<RawValue>,
        place: &Path,
        complaints: &mut Complaints,
    ) -> Option<Value> {
        match kind {
            ParamType::Path { kind, executable } => {
                let named = source::path(what, raw, complaints)?;
                self.stage(what, &named, *kind, *executable, place, complaints).map(Value::String)
            }
            ParamType::Packages { formats } => {
                let RawValue::Array(items) = &raw.value else {
                    complaints.push(
                        wrong_type(what, "a list of packages", &raw.value, raw.span.clone())
                            .help("write it in brackets: [\"nginx\"]"),
                    );
                    return None;
                };
                let mut packages = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    let place = place.join(index.to_string());
                    packages.extend(self.package(what, item, formats, &place, complaints));
                }
                Some(Value::List(packages))
            }
            ParamType::Tables(schema) => {
                let RawValue::Array(items) = &raw.value else {
                    let help = "write it in brackets: [{ … }]";
                    complaints
                        .push(wrong_type(what, "a list of tables", &raw.value, raw.span.clone()).help(help));
                    return None;
                };
                let mut tables = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    let place = place.join(index.to_string());
                    let Some(table) = Table::of(format!("an item of {what}"), item, complaints) else {
                        continue;
                    };
                    tables.push(Value::Map(self.params(schema, table, &place, complaints)));
                }
                Some(Value::List(tables))
            }
            kind => plain(what, kind, raw, complaints),
        }
    }

    /// All parameters of a table: unknown, missing and conflicting ones are complained of, defaults filled in.
    pub(super) fn params(
        &mut self,
        schema: &BTreeMap<String, Param>,
        mut table: Table,
        place: &Path,
        complaints: &mut Complaints,
    ) -> BTreeMap<String, Value> {
        let mut params = BTreeMap::new();
        for (name, param) in schema {
            let Some((key, raw)) = table.entry(name) else {
                if param.required {
                    let message = format!("{} needs `{name}`", table.what);
                    let mut complaint = Complaint::new(message, table.span.clone());
                    complaint.help = param.doc.as_ref().map(|doc| format!("`{name}`: {doc}"));
                    complaints.missing(complaint);
                }
                params.extend(param.default.clone().map(|value| (name.clone(), value)));
                continue;
            };
            for other in &param.conflicts {
                // Told at the one of the two that stands behind, so once, whichever of them says so.
                if let Some((first, _)) = table.entry(other) {
                    let (early, late) =
                        if first.span.start < key.span.start { (first, key) } else { (key, first) };
                    let message = format!("`{}` can't stand beside `{}`", late.value, early.value);
                    complaints.push(Complaint::new(message, late.span.clone()).help("leave one of them"));
                }
            }
            if let Some(value) =
                self.value(&format!("`{name}`"), &param.kind, raw, &place.join(name), complaints)
            {
                params.insert(name.clone(), value);
            }
        }
        table.finish(complaints);
        if params.get(TEMPLATE) == Some(&Value::Bool(true)) {
            for staged in self.staged.iter_mut().filter(|staged| staged.to.starts_with(place)) {
                staged.template = true;
            }
        }
        params
    }

    fn package(
        &mut self,
        what: &str,
        item: &Spanned<RawValue>,
        formats: &[String],
        place: &Path,
        complaints: &mut Complaints,
    ) -> Option<Value> {
        let named = source::package(what, item, complaints)?;
        let Some(format) = named.package_format() else {
            return match named {
                Named::Word(name) => Some(Value::String(name.value)),
                Named::File(_) | Named::Url { .. } | Named::Object { .. } => None,
            };
        };
        if !formats.iter().any(|taken| taken == format) {
            let taken: Vec<&str> = formats.iter().map(String::as_str).collect();
            complaints.push(
                Complaint::new(format!("a .{format} package can't be installed here"), item.span.clone())
                    .label(format!("not {}", listed(&taken)))
                    .help(if format == "rpm" { "`dnf` installs it" } else { "`apt` installs it" }),
            );
        }
        self.stage(what, &named, PathKind::File, false, place, complaints).map(Value::String)
    }

    /// Stages what was named; the absolute path inside.
    fn stage(
        &mut self,
        what: &str,
        named: &Named,
        kind: PathKind,
        executable: bool,
        place: &Path,
        complaints: &mut Complaints,
    ) -> Option<String> {
        let mut staged = match named {
            Named::Url { url, sha256, name, span } => {
                if kind == PathKind::Folder {
                    complaints
                        .push(Complaint::new(format!("{what} must be a folder, not a URL"), span.clone()));
                }
                StagedFile {
                    from: self.builder.downloads.join(sha256).join(name),
                    to: place.join(name),
                    sha256: Some(sha256.clone()),
                    url: Some(url.clone()),
                    object: None,
                    template: false,
                    executable,
                }
            }
            Named::Object { object, sha256, name, span } => {
                if kind == PathKind::Folder {
                    complaints.push(Complaint::new(
                        format!("{what} must be a folder, not an object"),
                        span.clone(),
                    ));
                }
                // Without a checksum its place is settled once its version is known.
                let place_of = sha256.as_ref().map_or_else(|| object.place(), PathBuf::from);
                StagedFile {
                    from: self.builder.downloads.join(place_of).join(name),
                    to: place.join(name),
                    sha256: sha256.clone(),
                    url: None,
                    object: Some(object.clone()),
                    template: false,
                    executable,
                }
            }
            Named::File(path) | Named::Word(path) => {
                let from = self.resolve(what, path, complaints)?;
                self.look(what, path, &from, kind, complaints)?;
                let name = from.file_name().map_or_else(|| PathBuf::from("folder"), PathBuf::from);
                StagedFile {
                    to: place.join(name),
                    from,
                    sha256: None,
                    url: None,
                    object: None,
                    template: false,
                    executable,
                }
            }
        };
        staged.to = staged.to.components().collect();
        let mut inside = format!("{STEP_FOLDER}/files/{}", staged.to.display());
        if named.ends_with_slash() {
            inside.push('/');
        }
        self.staged.push(staged);
        Some(inside)
    }

    /// A file of the builder that the recipe names: its absolute path.
    pub(super) fn file(
        &self,
        what: &str,
        path: &Spanned<String>,
        complaints: &mut Complaints,
    ) -> Option<PathBuf> {
        let from = self.resolve(what, path, complaints)?;
        self.look(what, path, &from, PathKind::File, complaints).map(|()| from)
    }

    /// The absolute path that the recipe's path means.
    pub(super) fn resolve(
        &self,
        what: &str,
        path: &Spanned<String>,
        complaints: &mut Complaints,
    ) -> Option<PathBuf> {
        if path.value.starts_with('/') {
            return Some(PathBuf::from(&path.value));
        }
        let mut below = PathBuf::new();
        for part in Path::new(&path.value).components() {
            match part {
                Component::Normal(name) => below.push(name),
                Component::ParentDir if !below.pop() => {
                    complaints.push(
                        Complaint::new(
                            format!("{what}: path outside the recipe's folder"),
                            path.span.clone(),
                        )
                        .label("climbs out")
                        .help("move the file below the recipe's folder, or name it by its absolute path"),
                    );
                    return None;
                }
                _ => {}
            }
        }
        let folder = self.builder.recipe_folder;
        Some(if below.as_os_str().is_empty() { folder.to_owned() } else { folder.join(below) })
    }

    /// Complains unless something of the wanted kind is there.
    pub(super) fn look(
        &self,
        what: &str,
        path: &Spanned<String>,
        from: &Path,
        kind: PathKind,
        complaints: &mut Complaints,
    ) -> Option<()> {
        let found = (self.builder.facts)(from);
        let shown_path = shown(&path.value);
        let complaint = match (found, kind) {
            (FileFacts::File, PathKind::Any | PathKind::File)
            | (FileFacts::Folder, PathKind::Any | PathKind::Folder)
                if found != FileFacts::File || !path.value.ends_with('/') =>
            {
                return Some(());
            }
            (FileFacts::Missing, _) => {
                let wanted = if kind == PathKind::Folder { "folder" } else { "file" };
                Complaint::new(format!("{what}: no such {wanted}: {shown_path}"), path.span.clone())
                    .label("not there")
                    .help(format!("looked for {}", shown(&from.to_string_lossy())))
            }
            (FileFacts::File, _) => {
                Complaint::new(format!("{what}: {shown_path} is a file, not a folder"), path.span.clone())
            }
            (FileFacts::Folder, _) => {
                Complaint::new(format!("{what}: {shown_path} is a folder, not a file"), path.span.clone())
            }
            (FileFacts::Other, _) => Complaint::new(
                format!("{what}: {shown_path} is neither a file nor a folder"),
                path.span.clone(),
            ),
        };
        complaints.push(complaint);
        None
    }
}
