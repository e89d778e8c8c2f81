//! What baking changed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Inventory, Package};

/// A package whose version changed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// The architecture.
    pub arch: String,
    /// The version in the base.
    pub from: String,
    /// The version in the image (lower than `from` where it was downgraded).
    pub to: String,
}

/// What an image has that its base has not, and the other way round.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Difference {
    /// New packages.
    pub added: Vec<Package>,
    /// Packages of another version.
    pub upgraded: Vec<Change>,
    /// Packages that are gone.
    pub removed: Vec<Package>,
}

impl Difference {
    /// What changed from `before` to `after`. Packages that may be installed in several versions at once
    /// (kernels of RPM distributions) count as added and removed, unless one version took the place of one.
    pub fn between(before: &Inventory, after: &Inventory) -> Self {
        let mut difference = Self::default();
        let (before, after) = (versions(before), versions(after));
        let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let none = BTreeSet::new();
        for key in keys {
            let (old, new) = (before.get(key).unwrap_or(&none), after.get(key).unwrap_or(&none));
            let mut gone = old.difference(new).copied().peekable();
            let mut come = new.difference(old).copied().peekable();
            let (name, arch) = *key;
            while let (Some(from), Some(to)) = (gone.peek(), come.peek()) {
                let change =
                    Change { name: name.into(), arch: arch.into(), from: (*from).into(), to: (*to).into() };
                difference.upgraded.push(change);
                gone.next();
                come.next();
            }
            let package =
                |version: &str| Package { name: name.into(), arch: arch.into(), version: version.into() };
            difference.removed.extend(gone.map(package));
            difference.added.extend(come.map(package));
        }
        difference
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.upgraded.is_empty() && self.removed.is_empty()
    }

    /// In one line: `12 added (nginx 1.22, …), 3 upgraded, none removed`.
    pub fn summary(&self) -> String {
        let count = |number: usize| if number == 0 { "none".to_owned() } else { number.to_string() };
        let mut shown: Vec<_> = self
            .added
            .iter()
            .take(3)
            .map(|package| format!("{} {}", package.name, package.version))
            .collect();
        if self.added.len() > shown.len() {
            shown.push("…".to_owned());
        }
        let named = if shown.is_empty() { String::new() } else { format!(" ({})", shown.join(", ")) };
        let (added, upgraded, removed) = (self.added.len(), self.upgraded.len(), self.removed.len());
        format!("{} added{named}, {} upgraded, {} removed", count(added), count(upgraded), count(removed))
    }
}

fn versions(inventory: &Inventory) -> BTreeMap<(&str, &str), BTreeSet<&str>> {
    let mut versions: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for package in &inventory.0 {
        versions
            .entry((package.name.as_str(), package.arch.as_str()))
            .or_default()
            .insert(package.version.as_str());
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn inventory(packages: &[(&str, &str)]) -> Inventory {
        let package = |(name, version): &(&str, &str)| Package {
            name: (*name).into(),
            arch: "x".into(),
            version: (*version).into(),
        };
        Inventory::sorted(packages.iter().map(package).collect())
    }

    #[test]
    fn added_upgraded_and_removed() {
        let before = inventory(&[("bash", "5"), ("kernel", "1"), ("libc", "1"), ("old", "1")]);
        let after =
            inventory(&[("bash", "5"), ("kernel", "1"), ("kernel", "2"), ("libc", "2"), ("web", "1.4")]);
        let difference = Difference::between(&before, &after);
        let names = |packages: &[Package]| {
            packages.iter().map(|p| format!("{} {}", p.name, p.version)).collect::<Vec<_>>()
        };
        assert_eq!(names(&difference.added), ["kernel 2", "web 1.4"]);
        assert_eq!(names(&difference.removed), ["old 1"]);
        assert_eq!(
            difference.upgraded,
            [Change { name: "libc".into(), arch: "x".into(), from: "1".into(), to: "2".into() }]
        );
        assert!(Difference::between(&after, &after).is_empty());
    }

    proptest! {
        #[test]
        fn every_package_is_accounted_for(
            before in proptest::collection::btree_set(("[a-d]", "[1-3]"), 0..10),
            after in proptest::collection::btree_set(("[a-d]", "[1-3]"), 0..10),
        ) {
            let make = |set: &BTreeSet<(String, String)>| {
                inventory(&set.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>())
            };
            let (before, after) = (make(&before), make(&after));
            let d = Difference::between(&before, &after);
            let kept = before.0.len() - d.removed.len() - d.upgraded.len();
            prop_assert_eq!(after.0.len(), kept + d.added.len() + d.upgraded.len());
        }
    }
}
