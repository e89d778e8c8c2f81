//! What the documents say of the tests is so.

use std::fs;
use std::path::Path;

/// Every test that docs/coming-from.md names is there, under that name.
#[test]
fn every_test_that_a_document_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/coming-from.md")).unwrap();
    let mut named = 0;
    for word in text.split('`').filter(|word| word.contains("::")) {
        let (modules, test) = word.rsplit_once("::").unwrap();
        let path = modules.replace("::", "/");
        let files = [format!("tests/it/{path}.rs"), format!("tests/it/{path}/mod.rs")];
        let source = files.iter().find_map(|file| fs::read_to_string(root.join(file)).ok());
        let source = source.unwrap_or_else(|| panic!("{word}: no file of {files:?}"));
        assert!(source.contains(&format!("fn {test}()")), "{word}: no such test");
        named += 1;
    }
    assert!(named > 80, "{named} are named");
    assert!(!text.contains("TODO"));
}
