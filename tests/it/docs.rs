//! What the documents say of the tests is so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// So are those that the other documents name: a test by its function's name (or a like sentence of a name), files and
/// folders by their paths.
#[test]
fn every_test_that_the_other_documents_name_is_there_too() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    read_all(&root.join("tests"), &mut sources);
    read_all(&root.join("src"), &mut sources);
    let (mut named, mut missing) = (0, Vec::new());
    for document in documents(root).iter().filter(|path| !path.ends_with("coming-from.md")) {
        let text = fs::read_to_string(document).unwrap();
        let prose = prose(&text).collect::<Vec<_>>().join("\n");
        for word in prose.split('`').skip(1).step_by(2) {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            let is_test = word.chars().all(plain) && word.matches('_').count() > 2;
            let there = match word {
                _ if is_test => sources.contains(&format!("fn {word}(")),
                _ if word.starts_with("tests/") => root.join(word).exists(),
                _ => continue,
            };
            named += 1;
            if !there {
                missing.push(format!("{}: {word}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(named > 40, "{named} are named");
}

/// The text of every source below a folder.
fn read_all(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            read_all(&entry, text);
        } else if entry.extension().is_some_and(|end| end == "rs") {
            text.push_str(&fs::read_to_string(entry).unwrap());
        }
    }
}

/// The documents for people, by their paths from the repository's root.
fn documents(root: &Path) -> Vec<PathBuf> {
    let folder = |folder: &str| {
        let entries = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|end| end == "md")).collect::<Vec<_>>()
    };
    ["", "docs", "examples", "provisioners", "tests/standin"].into_iter().flat_map(folder).collect()
}

/// A document's lines outside of its code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// The anchor that a heading has: lower case, letters, digits, `-` and `_`, with `-` for each space.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut followed, mut broken) = (0, Vec::new());
    for document in documents(root) {
        let text = fs::read_to_string(&document).unwrap();
        for part in prose(&text).flat_map(|line| line.split("](").skip(1)) {
            let link = part.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            followed += 1;
            let (path, wanted) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if path.is_empty() { document.clone() } else { document.parent().unwrap().join(path) };
            let leads = target.exists()
                && (wanted.is_empty()
                    || prose(&fs::read_to_string(&target).unwrap())
                        .filter(|line| line.starts_with('#'))
                        .any(|line| anchor(line.trim_start_matches('#').trim()) == wanted));
            if !leads {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(followed > 50, "{followed} links");
}

/// A subcommand that the README does not show is one that a newcomer does not find; nor a document.
#[test]
fn the_readme_leads_to_every_subcommand_and_document() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let help = Command::new(env!("CARGO_BIN_EXE_bakehouse")).arg("-h").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let commands: Vec<_> = commands
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() > 8, "{commands:?}");
    for command in commands {
        assert!(readme.contains(&format!("bakehouse {command}")), "{command}");
    }
    for document in documents(root).iter().filter_map(|path| path.strip_prefix(root).ok()) {
        let path = document.display().to_string();
        assert!(!path.starts_with("docs/") || readme.contains(&format!("({path})")), "{path}");
    }
}

/// The README's recipe is one.
#[test]
fn the_readmes_recipe_is_valid() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let recipes: Vec<_> = readme.split("```toml\n").skip(1).collect();
    assert!(!recipes.is_empty());
    for recipe in recipes {
        let text = recipe.split("```").next().unwrap().to_owned();
        let source = bakehouse::recipe::Source { name: "README.md".into(), text };
        let wrong = bakehouse::recipe::parse(&source).err();
        assert!(wrong.is_none(), "{wrong:#?}");
    }
}
