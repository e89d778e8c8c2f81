//! A recipe's values against a definition's parameters.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::definition::{Param, ParamType, PathKind};
use super::source::{self, Named};
use super::{Builder, FileFacts, STEP_FOLDER, StagedFile, Value};
use crate::recipe::reader::{Complaints, Table, listed, shown, wrong_type};
use crate::recipe::url::{CREDENTIALS_HELP, holds_credentials};
use crate::recipe::{Complaint, RawValue, Spanned};

mod plain;
mod relations;

use plain::plain;
pub(super) use plain::plain_value;
pub(super) use relations::missing;

/// Values being checked: what they need of the builder is asked, what they stage is kept.
pub(super) struct Values<'b> {
    pub(super) builder: Builder<'b>,
    pub(super) staged: Vec<StagedFile>,
}

/// Whether a text of it is a URL with credentials: tables are what package managers are told of repositories.
fn has_credentials(value: &Value) -> bool {
    match value {
        Value::String(text) => holds_credentials(text),
        Value::List(items) => items.iter().any(has_credentials),
        Value::Map(fields) => fields.values().any(has_credentials),
        _ => false,
    }
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
            ParamType::Tables { items: schema, at_least_one } => {
                let RawValue::Array(items) = &raw.value else {
                    let help = "write it in brackets: [{ … }]";
                    complaints
                        .push(wrong_type(what, "a list of tables", &raw.value, raw.span.clone()).help(help));
                    return None;
                };
                let mut tables = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    let place = place.join(index.to_string());
                    let Some(mut table) = Table::of(format!("an item of {what}"), item, complaints) else {
                        continue;
                    };
                    missing(at_least_one, &mut table, complaints, |group| {
                        Complaint::new(format!("an item of {what} needs {group}"), item.span.clone())
                    });
                    let table = Value::Map(self.params(schema, table, &place, complaints));
                    if has_credentials(&table) {
                        let message = format!("a URL of {what} holds credentials");
                        complaints.push(Complaint::new(message, item.span.clone()).help(CREDENTIALS_HELP));
                    }
                    tables.push(table);
                }
                relations::repeated(what, schema, items, complaints);
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
            let Some(raw) = table.get(name) else {
                if param.required {
                    let message = format!("{} needs `{name}`", table.what);
                    let mut complaint = Complaint::new(message, table.span.clone());
                    complaint.help = param.doc.as_ref().map(|doc| format!("`{name}`: {doc}"));
                    complaints.missing(complaint);
                }
                params.extend(param.default.clone().map(|value| (name.clone(), value)));
                continue;
            };
            if let Some(value) =
                self.value(&format!("`{name}`"), &param.kind, raw, &place.join(name), complaints)
            {
                params.insert(name.clone(), value);
            }
        }
        relations::beside(schema, &mut table, complaints);
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
        let named = source::package(what, item, formats, complaints)?;
        let Some(format) = named.package_format(formats) else {
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
