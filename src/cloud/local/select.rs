//! Which image of the store a base selector means. Pure.

use crate::error::{Failure, Kind};
use crate::plan::{Arch, BaseFacts};
use crate::recipe::BaseSelector;

use super::record::Record;

/// The record that a selector means, among all records, newest first.
pub(super) fn select<'a>(records: &'a [Record], selector: &BaseSelector) -> Result<&'a Record, Failure> {
    match selector {
        BaseSelector::Image(wanted) => records
            .iter()
            .find(|record| record.id == *wanted || record.name == *wanted)
            .ok_or_else(|| missing(records, format!("the local store has no image {wanted}"))),
        BaseSelector::Name { glob, owner, arch, newest } => {
            if let Some(owner) = owner {
                tracing::debug!("the local store has no owners: {owner} is not asked for");
            }
            by_name(records, glob, arch.as_deref(), *newest)
        }
        BaseSelector::Ami(id) | BaseSelector::Parameter(id) | BaseSelector::Snapshot { id, .. } => records
            .iter()
            .find(|record| record.tags.values().any(|value| value == id) || record.name == *id)
            .ok_or_else(|| {
                missing(records, format!("{id} is on EC2, and no image of the local store stands for it"))
            }),
    }
}

fn by_name<'a>(
    records: &'a [Record],
    glob: &str,
    arch: Option<&str>,
    newest: bool,
) -> Result<&'a Record, Failure> {
    let wanted = match arch {
        Some(name) => Some(Arch::parse(name).ok_or_else(|| {
            Failure::new(Kind::Base, format!("{name} is no architecture that Bakehouse knows"))
                .hint("the architectures are x86_64 and arm64")
        })?),
        None => None,
    };
    let mut matching = records
        .iter()
        .filter(|record| matches_glob(glob, &record.name) && wanted.is_none_or(|arch| arch == record.arch));
    let Some(first) = matching.next() else {
        let of = arch.map_or(String::new(), |arch| format!(" and architecture {arch}"));
        return Err(missing(records, format!("the local store has no image with a name like {glob}{of}")));
    };
    let others: Vec<_> = matching.map(|record| record.name.as_str()).collect();
    if !newest && !others.is_empty() {
        let names = format!("{}, {}", first.name, others.join(", "));
        return Err(Failure::new(Kind::Base, format!("several images have a name like {glob}: {names}"))
            .hint("name one of them, or set newest = true"));
    }
    Ok(first)
}

/// `*` stands for any characters, `?` for one: what EC2's filters know, and nothing more.
fn matches_glob(glob: &str, name: &str) -> bool {
    let (glob, name): (Vec<char>, Vec<char>) = (glob.chars().collect(), name.chars().collect());
    let (mut at, mut in_name) = (0, 0);
    // Where to go on when what follows the last star does not match: one character further.
    let mut retry = None;
    while in_name < name.len() {
        match glob.get(at) {
            Some('*') => {
                retry = Some((at + 1, in_name));
                at += 1;
            }
            Some(c) if *c == '?' || Some(c) == name.get(in_name) => {
                at += 1;
                in_name += 1;
            }
            _ => {
                let Some((star, from)) = retry else { return false };
                retry = Some((star, from + 1));
                (at, in_name) = (star, from + 1);
            }
        }
    }
    glob.iter().skip(at).all(|c| *c == '*')
}

fn missing(records: &[Record], message: String) -> Failure {
    const SHOWN: usize = 8;
    let make = "make one with `bakehouse local create-base debian-12`, or bring one in with \
                `bakehouse local import`, and name it with `--base NAME` or `image =`";
    let hint = if records.is_empty() {
        format!("the store is empty: {make}")
    } else {
        let names: Vec<_> = records.iter().take(SHOWN).map(|record| record.name.as_str()).collect();
        let more = if records.len() > SHOWN { ", …" } else { "" };
        format!("the store has {}{more}; {make}", names.join(", "))
    };
    Failure::new(Kind::Base, message).hint(hint)
}

/// What a bake must know of it.
pub(super) fn facts(record: &Record) -> BaseFacts {
    BaseFacts {
        image: Some(record.id.clone()),
        name: Some(record.name.clone()),
        snapshot: record.snapshot.clone(),
        size: record.size,
        arch: record.arch,
        created: Some(record.created.clone()),
        version: Some(record.tags.get("appversion").unwrap_or(&record.name).clone()),
        tags: record.tags.clone(),
        root_device: record.root_device.clone(),
        inherited: serde_json::json!({ "boot_mode": record.boot_mode }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::local::record::tests::sample;

    fn store() -> Vec<Record> {
        let mut arm = sample("img-3", "debian-12-arm64-20260301", "2026-03-01T00:00:00Z");
        arm.arch = Arch::Arm64;
        let mut newer = sample("img-2", "debian-12-amd64-20260201", "2026-02-01T00:00:00Z");
        newer.tags.insert("source_ami".to_owned(), "ami-0abc".to_owned());
        vec![arm, newer, sample("img-1", "debian-12-amd64-20260101", "2026-01-01T00:00:00Z")]
    }

    fn name(glob: &str, arch: Option<&str>, newest: bool) -> BaseSelector {
        BaseSelector::Name {
            glob: glob.to_owned(),
            owner: Some("136693071363".to_owned()),
            arch: arch.map(str::to_owned),
            newest,
        }
    }

    fn found(selector: &BaseSelector) -> Result<String, String> {
        select(&store(), selector)
            .map(|record| record.id.clone())
            .map_err(|failure| format!("{failure} | {}", failure.hint.as_deref().unwrap_or_default()))
    }

    #[test]
    fn an_image_is_found_by_name_by_id_and_by_the_newest_of_a_glob() {
        assert_eq!(found(&BaseSelector::Image("img-1".into())).unwrap(), "img-1");
        assert_eq!(found(&BaseSelector::Image("debian-12-amd64-20260201".into())).unwrap(), "img-2");
        assert_eq!(found(&name("debian-12-*", None, true)).unwrap(), "img-3");
        assert_eq!(found(&name("debian-12-*", Some("x86_64"), true)).unwrap(), "img-2");
        assert_eq!(found(&name("debian-12-*-2026?101", None, false)).unwrap(), "img-1");
    }

    #[test]
    fn a_base_of_ec2_is_found_by_the_tag_that_carries_its_id() {
        assert_eq!(found(&BaseSelector::Ami("ami-0abc".into())).unwrap(), "img-2");
        let error = found(&BaseSelector::Ami("ami-0def".into())).unwrap_err();
        assert!(error.contains("ami-0def is on EC2") && error.contains("create-base debian-12"), "{error}");
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        let error = found(&BaseSelector::Image("nope".into())).unwrap_err();
        assert!(error.contains("no image nope") && error.contains("debian-12-arm64-20260301"), "{error}");
        let error = found(&name("debian-12-*", Some("x86_64"), false)).unwrap_err();
        assert!(error.contains("several") && error.contains("newest = true"), "{error}");
        assert!(found(&name("debian-12-*", Some("sparc"), true)).unwrap_err().contains("sparc"));
        let none = select(&[], &BaseSelector::Image("x".into())).unwrap_err();
        assert_eq!(none.kind, Kind::Base);
        assert!(none.hint.unwrap().contains("the store is empty"));
    }

    #[test]
    fn globs_know_star_and_question_mark_alone() {
        for (glob, text) in
            [("*", ""), ("a*", "a"), ("*a*b?", "xaybbz"), ("a[b]", "a[b]"), ("**", "x"), ("é?", "éà")]
        {
            assert!(matches_glob(glob, text), "{glob} {text}");
        }
        for (glob, text) in [("", "a"), ("a", ""), ("?", ""), ("a[b]", "ab"), ("*a", "ab"), ("a*b*c", "abab")]
        {
            assert!(!matches_glob(glob, text), "{glob} {text}");
        }
    }
}
