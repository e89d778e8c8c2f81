//! Whatever is written in a recipe or a definition, the answer is a value or a complaint.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::super::*;
use super::{ALL, all_files, define, facts};
use crate::recipe::{RawValue, Source, Spanned};

/// Any TOML value.
fn any_raw() -> impl Strategy<Value = RawValue> {
    let leaf = prop_oneof![
        "\\PC{0,12}".prop_map(RawValue::String),
        prop_oneof![
            Just("./dist/web.deb"),
            Just("site/"),
            Just("/a/b"),
            Just("../x"),
            Just("5m"),
            Just("0644"),
            Just("u+x"),
            Just("https://h/x.deb#sha256="),
            Just("https://h/"),
            Just("nginx=1"),
            Just("a\nb"),
            Just("://"),
            Just("/"),
        ]
        .prop_map(|text| RawValue::String(text.to_owned())),
        any::<i64>().prop_map(RawValue::Integer),
        any::<bool>().prop_map(RawValue::Boolean),
        any::<f64>().prop_map(RawValue::Float),
    ];
    let spanned = |value| Spanned { value, span: 0..1 };
    leaf.prop_recursive(3, 12, 4, move |inner| {
        let key = prop_oneof![Just("from"), Just("to"), Just("url"), Just("sha256"), Just("x"), Just("")];
        let key = key.prop_map(|key| Spanned { value: key.to_owned(), span: 0..1 });
        prop_oneof![
            proptest::collection::vec(inner.clone().prop_map(spanned), 0..4).prop_map(RawValue::Array),
            proptest::collection::vec((key, inner.prop_map(spanned)), 0..4).prop_map(RawValue::Table),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_value_of_any_parameter_is_checked(raw in any_raw(), which in any::<prop::sample::Index>()) {
        let definition = define(ALL).unwrap();
        let names: Vec<&String> = definition.params.keys().collect();
        let name = *which.get(&names);
        let source = Source { name: "x".to_owned(), text: "x".to_owned() };
        let mut complaints = crate::recipe::reader::Complaints::new(&source);
        let builder =
            Builder { recipe_folder: Path::new("/recipe"), downloads: Path::new("/d"), facts: &facts };
        let mut values = check::Values { builder, staged: Vec::new() };
        let kind = &definition.params[name].kind;
        let raw = Spanned { value: raw, span: 0..1 };
        let value = values.value("`x`", kind, &raw, Path::new("x"), &mut complaints);
        for staged in &values.staged {
            prop_assert!(staged.from.is_absolute());
            prop_assert!(staged.to.starts_with("x") && staged.to.components().count() >= 2);
            prop_assert!(!staged.to.components().any(|part| part == std::path::Component::ParentDir));
        }
        match complaints.finish(value) {
            Ok(value) => {
                for (path, _) in param_files(&BTreeMap::from([("x".to_owned(), value)])) {
                    prop_assert!(path.starts_with("params") || path == Path::new("params.json"));
                }
            }
            Err(complaints) => prop_assert!(!complaints.is_empty()),
        }
    }

    #[test]
    fn a_definition_with_bytes_changed_is_a_definition_or_complaints(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<char>(), 0..20usize), 1..5),
    ) {
        let mut text: Vec<char> = ALL.chars().collect();
        for (place, character, length) in changes {
            let at = place.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, [character]);
        }
        let text: String = text.into_iter().collect();
        let source = Source { name: "x".to_owned(), text };
        if let Err(complaints) = Definition::parse("all", "here", &source, all_files()) {
            prop_assert!(!complaints.is_empty());
            for complaint in complaints {
                prop_assert!(source.text.get(complaint.span.clone()).is_some(), "{:?}", complaint);
            }
        }
    }
}
