//! Checked parameters, and the files by which they reach a script.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// A checked value of a parameter. As JSON it is the plain value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `bool`.
    Bool(bool),
    /// `integer`; `duration` in seconds.
    Integer(i64),
    /// `string`, `enum`, `mode`, `inside`; `path` as the absolute path inside where it is staged.
    String(String),
    /// `list`, `argv` and `packages` (strings), `tables` (maps).
    List(Vec<Value>),
    /// `map`, and an entry of `tables`.
    Map(BTreeMap<String, Value>),
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::String(value) => serializer.serialize_str(value),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(entries) => serializer.collect_map(entries),
        }
    }
}

impl Value {
    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(value) => Some(value),
            _ => None,
        }
    }

    /// A scalar as a script reads it; none for lists and maps.
    fn scalar(&self) -> Option<String> {
        match self {
            Self::Bool(value) => Some(value.to_string()),
            Self::Integer(value) => Some(value.to_string()),
            Self::String(value) => Some(value.clone()),
            Self::List(_) | Self::Map(_) => None,
        }
    }
}

/// The files by which a step's parameters reach its program, relative to [`super::STEP_FOLDER`]: `params/NAME`
/// for each, and `params.json` with all of them.
pub fn param_files(params: &BTreeMap<String, Value>) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for (name, value) in params {
        write(&Path::new("params").join(name), value, &mut files);
    }
    let json = serde_json::to_vec_pretty(params).unwrap_or_default();
    files.push((PathBuf::from("params.json"), json));
    files
}

fn write(path: &Path, value: &Value, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    let mut text = String::new();
    match value {
        Value::Bool(_) | Value::Integer(_) | Value::String(_) => {
            text.extend(value.scalar());
            text.push('\n');
        }
        Value::List(items) if items.iter().any(|item| matches!(item, Value::Map(_))) => {
            for (index, item) in items.iter().enumerate() {
                if let Value::Map(entries) = item {
                    for (key, value) in entries {
                        write(&path.join(index.to_string()).join(key), value, files);
                    }
                }
            }
            return;
        }
        // Only an argument vector may hold a line break; it is read from params.json, or not at all.
        Value::List(items) if items.iter().filter_map(Value::as_str).any(|item| item.contains('\n')) => {
            return;
        }
        Value::List(items) => {
            for item in items.iter().filter_map(Value::scalar) {
                text.push_str(&item);
                text.push('\n');
            }
        }
        Value::Map(entries) => {
            for (key, value) in entries {
                if let Some(value) = value.scalar() {
                    text.push_str(&format!("{key}={value}\n"));
                }
            }
        }
    }
    files.push((path.to_owned(), text.into_bytes()));
}
