//! Which image of the store a base selector means. Pure.

use crate::error::{Failure, Kind};
use crate::plan::{Arch, BaseFacts};
use crate::recipe::{BaseSelector, Firmware, ImageQuery, ScratchSpec, matches_glob};

use super::record::Record;

/// The record that a selector means, among all records, newest first.
pub(super) fn select<'a>(records: &'a [Record], selector: &BaseSelector) -> Result<&'a Record, Failure> {
    match selector {
        BaseSelector::Image(wanted) => records
            .iter()
            .find(|record| record.id == *wanted || record.name == *wanted)
            .ok_or_else(|| missing(records, format!("the local store has no image {wanted}"))),
        BaseSelector::Query(query) => by_query(records, query),
        BaseSelector::Scratch(_) => Err(Failure::new(Kind::Base, "a blank disk is no image of the store")
            .hint("make one with `bakehouse local create-base`")),
        BaseSelector::Device { path, .. } => Err(Failure::new(
            Kind::Internal,
            format!("the device {} was looked for in the local store", path.display()),
        )),
        BaseSelector::Ami(id)
        | BaseSelector::Parameter(id)
        | BaseSelector::Snapshot { id, .. }
        | BaseSelector::Volume { id, .. } => records
            .iter()
            .find(|record| record.tags.values().any(|value| value == id) || record.name == *id)
            .ok_or_else(|| {
                missing(records, format!("{id} is on EC2, and no image of the local store stands for it"))
            }),
    }
}

fn by_query<'a>(records: &'a [Record], query: &ImageQuery) -> Result<&'a Record, Failure> {
    let wanted = match query.arch.as_deref() {
        Some(name) => Some(Arch::parse(name).ok_or_else(|| {
            Failure::new(Kind::Base, format!("{name} is no architecture that Bakehouse knows"))
                .hint("the architectures are x86_64 and arm64")
        })?),
        None => None,
    };
    let glob = query.name.as_deref().unwrap_or("*");
    let mut matching = records.iter().filter(|record| {
        matches_glob(glob, &record.name)
            && wanted.is_none_or(|arch| arch == record.arch)
            && query.filters.iter().all(|(name, values)| passes(record, name, values).unwrap_or(true))
    });
    let mut like = format!("a name like {glob}");
    if let Some(arch) = &query.arch {
        like.push_str(&format!(" and architecture {arch}"));
    }
    let known = query.filters.iter().filter(|(name, _)| is_known(name));
    known.for_each(|(name, values)| like.push_str(&format!(" and {name} {}", values.join(" or "))));
    let Some(first) = matching.next() else {
        return Err(missing(records, format!("the local store has no image with {like}")));
    };
    let others: Vec<_> = matching.map(|record| record.name.as_str()).collect();
    if !query.newest && !others.is_empty() {
        let names = format!("{}, {}", first.name, others.join(", "));
        return Err(Failure::new(Kind::Base, format!("several images have {like}: {names}"))
            .hint("name one of them, or set newest = true"));
    }
    Ok(first)
}

/// Whether a record passes one of DescribeImages' filters; none where the store does not know what it asks for.
fn passes(record: &Record, filter: &str, values: &[String]) -> Option<bool> {
    let any = |text: &str| values.iter().any(|value| matches_glob(value, text));
    Some(match filter {
        "name" => any(&record.name),
        "architecture" => any(record.arch.as_str()),
        "image-id" => any(&record.id),
        "description" => any(&record.description),
        "creation-date" => any(&record.created),
        "root-device-name" => any(&record.root_device),
        "tag-key" => record.tags.keys().any(|key| any(key)),
        _ => {
            let key = filter.strip_prefix("tag:")?;
            record.tags.get(key).is_some_and(|value| any(value))
        }
    })
}

fn is_known(filter: &str) -> bool {
    let known =
        ["name", "architecture", "image-id", "description", "creation-date", "root-device-name", "tag-key"];
    known.contains(&filter) || filter.starts_with("tag:")
}

/// What of a selector the store has nothing to set against.
pub(super) fn notes(selector: &BaseSelector) -> Vec<String> {
    let BaseSelector::Query(query) = selector else { return Vec::new() };
    let mut notes = Vec::new();
    if !query.owners.is_empty() {
        notes.push(format!("the local store has no owners: {} is not asked for", query.owners.join(", ")));
    }
    let unknown: Vec<_> = query.filters.keys().filter(|name| !is_known(name)).map(String::as_str).collect();
    if !unknown.is_empty() {
        notes.push(format!("the local store does not filter by {}", unknown.join(", ")));
    }
    notes
}

fn missing(records: &[Record], message: String) -> Failure {
    const SHOWN: usize = 8;
    let make = "make one with `bakehouse local create-base debian-12`, or bring one in with \
                `bakehouse local import`";
    let hint = if records.is_empty() {
        format!("the store is empty: {make}")
    } else {
        let names: Vec<_> = records.iter().take(SHOWN).map(|record| record.name.as_str()).collect();
        let more = if records.len() > SHOWN { ", …" } else { "" };
        format!("the store has {}{more}; {make}", names.join(", "))
    };
    Failure::new(Kind::Base, message).hint(hint)
}

/// What a bake must know of a disk that begins blank.
pub(super) fn blank(spec: &ScratchSpec) -> Result<BaseFacts, Failure> {
    let arch = spec.arch.as_deref().map_or_else(Arch::of_host, Arch::parse);
    let arch = arch.ok_or_else(|| {
        Failure::new(Kind::Base, "this builder's architecture is not known to Bakehouse")
            .hint("say [base] arch = \"x86_64\" or \"arm64\"")
    })?;
    // The store says `bios` where EC2 says `legacy-bios`.
    let boot_mode = match spec.firmware(arch) {
        Firmware::Bios => "bios",
        other => other.boot_mode(),
    };
    let boot_mode = spec.boot_loader.then_some(boot_mode);
    let root_device = spec.root_device.as_deref().unwrap_or("/dev/vda");
    Ok(BaseFacts::scratch(spec, arch, root_device, serde_json::json!({ "boot_mode": boot_mode })))
}

/// What a bake must know of it.
pub(super) fn facts(record: &Record) -> BaseFacts {
    BaseFacts {
        image: Some(record.id.clone()),
        name: Some(record.name.clone()),
        snapshot: record.snapshot.clone(),
        given: None,
        size: record.size,
        arch: record.arch,
        created: Some(record.created.clone()),
        deprecated: None,
        version: Some(record.tags.get("appversion").unwrap_or(&record.name).clone()),
        tags: record.tags.clone(),
        root_device: record.root_device.clone(),
        inherited: serde_json::json!({ "boot_mode": record.boot_mode }),
        notes: Vec::new(),
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
        BaseSelector::Query(ImageQuery {
            owners: vec!["136693071363".to_owned()],
            arch: arch.map(str::to_owned),
            newest,
            ..ImageQuery::named(glob)
        })
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
    fn filters_that_the_store_knows_are_met_and_the_others_told() {
        let query = |filters: &[(&str, &[&str])]| {
            let filters = filters.iter().map(|(name, values)| {
                ((*name).to_owned(), values.iter().map(|value| (*value).to_owned()).collect())
            });
            BaseSelector::Query(ImageQuery { filters: filters.collect(), ..ImageQuery::named("*") })
        };
        assert_eq!(found(&query(&[("tag:source_ami", &["ami-9", "ami-0a*"])])).unwrap(), "img-2");
        assert_eq!(
            found(&query(&[("architecture", &["x86_64"]), ("tag-key", &["source_*"])])).unwrap(),
            "img-2"
        );
        assert_eq!(found(&query(&[("image-id", &["img-1"]), ("is-public", &["true"])])).unwrap(), "img-1");
        let error = found(&query(&[("tag:team", &["web"])])).unwrap_err();
        assert!(error.contains("and tag:team web"), "{error}");
        let told = notes(&query(&[("is-public", &["true"]), ("tag:team", &["web"])]));
        assert_eq!(told, ["the local store does not filter by is-public"]);
        assert!(notes(&name("x", None, true))[0].contains("136693071363 is not asked for"));
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
