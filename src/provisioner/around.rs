//! What stands around a definition's command: programs of the builder, files during the step, caches, hints.

use std::collections::BTreeMap;

use super::define::{file_of, is_word, no_such_file};
use super::definition::TemporaryFile;
use super::schema::one_of;
use super::{CacheFind, CacheUse, Hint, ScriptFile};
use crate::recipe::Complaint;
use crate::recipe::reader::{Complaints, Table, inside_path, shown};

/// `[programs]`: what must be on the builder, and what to do where it is not.
pub(super) fn programs(host: bool, top: &mut Table, complaints: &mut Complaints) -> BTreeMap<String, String> {
    if !host && let Some((key, _)) = top.entry("programs") {
        complaints.push(
            Complaint::new("[programs] are the builder's, and this runs inside", key.span.clone())
                .help("it is for where = \"host\""),
        );
    }
    let mut programs = BTreeMap::new();
    for (name, hint) in top.map("programs", complaints).unwrap_or_default() {
        if name.value.is_empty() || name.value.contains(['/', '\0']) {
            let message = format!("`{}` is no program's name", shown(&name.value));
            complaints.push(Complaint::new(message, name.span));
        } else {
            programs.insert(name.value, hint.value);
        }
    }
    programs
}

/// `[[file]]`: files that are there during the step only.
pub(super) fn temporary(
    top: &mut Table,
    files: &[ScriptFile],
    complaints: &mut Complaints,
) -> Vec<TemporaryFile> {
    let mut temporary = Vec::new();
    for mut table in top.tables("file", complaints) {
        let path = table.string("path", complaints).filter(|path| inside_path("`path`", path, complaints));
        let source = table.string("source", complaints);
        let found = source.as_ref().and_then(|source| {
            let found = file_of(&source.value, files);
            if found.is_none() {
                complaints.push(no_such_file(source));
            }
            found
        });
        let mode = table.string("mode", complaints).map_or(Some(0o644), |mode| {
            let bits = u32::from_str_radix(&mode.value, 8).ok().filter(|bits| *bits <= 0o7777);
            if bits.is_none() {
                complaints.push(Complaint::new("`mode` must be octal, such as \"0644\"", mode.span.clone()));
            }
            bits
        });
        for key in ["path", "source"] {
            if table.get(key).is_none() {
                complaints.missing(Complaint::new(format!("[[file]] needs its `{key}`"), table.span.clone()));
            }
        }
        table.finish(complaints);
        if let (Some(path), Some(found), Some(mode)) = (path, found, mode) {
            temporary.push(TemporaryFile { path: path.value.into(), source: found.path.clone(), mode });
        }
    }
    temporary
}

/// `[[cache]]`.
pub(super) fn caches(top: &mut Table, complaints: &mut Complaints) -> Vec<CacheUse> {
    let mut caches = Vec::new();
    for mut table in top.tables("cache", complaints) {
        let name = table.string("name", complaints);
        if let Some(name) = &name
            && !is_word(&name.value, '-')
        {
            complaints.push(
                Complaint::new(format!("`{}` is no name of a cache", shown(&name.value)), name.span.clone())
                    .help("lower-case letters, digits and `-`, a letter first"),
            );
        }
        let path = table.string("path", complaints).filter(|path| inside_path("`path`", path, complaints));
        let find = match one_of("find", &["name", "digest"], &mut table, complaints) {
            Some(find) if find.value == "digest" => CacheFind::Digest,
            _ => CacheFind::Name,
        };
        for key in ["name", "path"] {
            if table.get(key).is_none() {
                complaints
                    .missing(Complaint::new(format!("[[cache]] needs its `{key}`"), table.span.clone()));
            }
        }
        table.finish(complaints);
        if let (Some(name), Some(path)) = (name, path) {
            caches.push(CacheUse { name: name.value, path: path.value.into(), find });
        }
    }
    caches
}

/// `[[hint]]`.
pub(super) fn hints(top: &mut Table, complaints: &mut Complaints) -> Vec<Hint> {
    let mut hints = Vec::new();
    for mut table in top.tables("hint", complaints) {
        let mut text = |key| {
            let text = table.string(key, complaints);
            match &text {
                Some(text) if text.value.is_empty() => {
                    complaints.push(Complaint::new(format!("`{key}` is empty"), text.span.clone()));
                }
                None if table.get(key).is_none() => {
                    complaints
                        .missing(Complaint::new(format!("[[hint]] needs its `{key}`"), table.span.clone()));
                }
                _ => {}
            }
            text
        };
        let (find, say) = (text("find"), text("say"));
        table.finish(complaints);
        if let (Some(find), Some(say)) = (find, say) {
            hints.push(Hint { find: find.value, say: say.value });
        }
    }
    hints
}
