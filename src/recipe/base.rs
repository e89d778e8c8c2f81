//! `[base]`: the image, snapshot, volume or device that a bake starts from.

use std::collections::BTreeMap;

use super::filters::filters;
use super::publish::is_account;
use super::reader::{Complaints, Table, did_you_mean, listed, shown};
use super::scratch::{check_arch, scratch};
use super::{BaseSelector, Complaint, ImageQuery, ScratchSpec, Spanned};

/// What [base] says.
pub(super) struct Base {
    pub(super) selector: Spanned<BaseSelector>,
    /// In seconds.
    pub(super) max_age: Option<u64>,
}

/// The keys that say which base; `filters` does where none of them is there.
pub(super) const SELECTORS: [&str; 8] =
    ["ami", "name", "parameter", "snapshot", "volume", "device", "image", "scratch"];
const QUERIES: &[&str] = &["name", "filters"];
/// Bases that say nothing of themselves.
const BARE: &[&str] = &["snapshot", "volume", "device", "scratch"];
/// The keys that go with some selectors alone.
const COMPANIONS: [(&str, &[&str]); 7] = [
    ("owner", QUERIES),
    ("owners", QUERIES),
    ("filters", QUERIES),
    ("newest", QUERIES),
    ("deprecated", QUERIES),
    ("arch", &["name", "filters", "snapshot", "volume", "device", "scratch"]),
    ("root_device", BARE),
];
/// The owners that have a name. DescribeImages, `Owners`.
const OWNERS: [&str; 4] = ["self", "amazon", "aws-marketplace", "aws-backup-vault"];

pub(super) fn base(mut table: Table, complaints: &mut Complaints) -> Option<Base> {
    let key = which(&mut table, complaints);
    let blank = table.get("scratch").map(|value| (scratch(value, complaints), value.span.clone()));
    let words = SELECTORS.iter().filter(|key| **key != "scratch");
    let said: Vec<_> = words.filter_map(|key| Some((*key, table.string(key, complaints)?))).collect();
    for (key, text) in &said {
        check_selector(key, text, complaints);
    }
    let text = said.into_iter().find(|(said, _)| Some(*said) == key).map(|(_, text)| text);
    let owners = owners(&mut table, complaints);
    let arch = table.string("arch", complaints).and_then(|arch| arch_name(&arch, complaints));
    let newest = table.bool("newest", complaints);
    let deprecated = table.bool("deprecated", complaints);
    let max_age = table.duration("max_age", complaints).map(|age| age.value);
    let root_device = table.string("root_device", complaints);
    let filters_span = table.entry("filters").map(|(key, _)| key.span.clone());
    let filters = filters(&mut table, key == Some("name"), arch.is_some(), complaints);
    if let Some(key) = key {
        companions(&mut table, key, complaints);
    }
    if let Some(device) = &root_device
        && !device.value.starts_with("/dev/")
    {
        complaints.push(Complaint::new("`root_device` must begin with /dev/", device.span.clone()));
    }
    table.finish(complaints);
    let query = |name: Option<String>, filters: BTreeMap<_, _>, arch| {
        BaseSelector::Query(ImageQuery {
            name,
            owners,
            arch,
            filters,
            newest: newest.unwrap_or(true),
            deprecated: deprecated.unwrap_or(false),
        })
    };
    let root_device = root_device.map(|device| device.value);
    let selector = match (key?, text) {
        ("scratch", _) => {
            let (spec, span) = blank?;
            let spec = ScratchSpec { arch, root_device, ..spec? };
            check_arch(&spec, &span, complaints);
            Spanned { value: BaseSelector::Scratch(spec), span }
        }
        ("filters", _) => Spanned { value: query(None, filters?, arch), span: filters_span? },
        (key, Some(Spanned { value, span })) => {
            let selector = match key {
                "ami" => BaseSelector::Ami(value),
                "name" => query(Some(value), filters.unwrap_or_default(), arch),
                "parameter" => BaseSelector::Parameter(value),
                "snapshot" => BaseSelector::Snapshot { id: value, arch, root_device },
                "volume" => BaseSelector::Volume { id: value, arch, root_device },
                "device" => BaseSelector::Device { path: value.into(), arch, root_device },
                _ => BaseSelector::Image(value),
            };
            Spanned { value: selector, span }
        }
        (_, None) => return None,
    };
    Some(Base { selector, max_age })
}

/// The one key that says which base.
fn which(table: &mut Table, complaints: &mut Complaints) -> Option<&'static str> {
    let found: Vec<_> = SELECTORS.into_iter().filter_map(|key| Some((key, table.entry(key)?.0))).collect();
    match found.as_slice() {
        [(key, _)] => Some(key),
        [] if table.get("filters").is_some() => Some("filters"),
        [] => {
            let meant = table.all().iter().any(|(key, _)| did_you_mean(&key.value, &SELECTORS).is_some());
            if !meant {
                complaints.missing(
                    Complaint::new("[base] does not say which base", table.span.clone())
                        .help(format!("add one of {}", listed(&SELECTORS))),
                );
            }
            None
        }
        several => {
            let names: Vec<&str> = several.iter().map(|(key, _)| *key).collect();
            for (_, key) in several.iter().skip(1) {
                complaints.push(
                    Complaint::new(
                        format!("[base] says {}: one is wanted", listed(&names)),
                        key.span.clone(),
                    )
                    .label("one too many")
                    .help("leave one of them"),
                );
            }
            None
        }
    }
}

/// Complains of each key that says nothing of such a base.
fn companions(table: &mut Table, key: &str, complaints: &mut Complaints) {
    for (extra, with) in COMPANIONS {
        if let Some((name, _)) = table.entry(extra)
            && !with.contains(&key)
        {
            complaints.push(Complaint::new(
                format!("`{extra}` goes with {} in [base], not with `{key}`", listed(with)),
                name.span.clone(),
            ));
        }
    }
}

/// `owner` or `owners`.
fn owners(table: &mut Table, complaints: &mut Complaints) -> Vec<String> {
    let one = table.string("owner", complaints);
    let several = table.strings("owners", complaints);
    if let (Some(_), Some(_), Some((key, _))) = (&one, &several, table.entry("owners")) {
        complaints.push(
            Complaint::new("[base] says `owner` and `owners`: one is wanted", key.span.clone())
                .label("one too many")
                .help("write all of them in `owners`"),
        );
    }
    let given: Vec<_> = one.into_iter().chain(several.into_iter().flatten()).collect();
    for owner in &given {
        if !is_account(&owner.value) && !OWNERS.contains(&owner.value.as_str()) {
            let message = format!("`{}` is no account", shown(&owner.value));
            let near = did_you_mean(&owner.value, &OWNERS).map(|near| format!("; did you mean `{near}`?"));
            complaints.push(Complaint::new(message, owner.span.clone()).help(format!(
                "an account's 12 digits, or self, amazon or aws-marketplace{}",
                near.unwrap_or_default()
            )));
        }
    }
    given.into_iter().map(|owner| owner.value).collect()
}

/// Complains of a selector's value that can't be one.
fn check_selector(key: &str, text: &Spanned<String>, complaints: &mut Complaints) {
    let value = text.value.as_str();
    let (good, must) = match key {
        "ami" => (resource_id(value, "ami-"), "ami- and 8 or 17 hexadecimal digits"),
        "snapshot" => (resource_id(value, "snap-"), "snap- and 8 or 17 hexadecimal digits"),
        "volume" => (resource_id(value, "vol-"), "vol- and 8 or 17 hexadecimal digits"),
        "parameter" => (
            is_parameter(value),
            "the name of an SSM parameter, with :VERSION or :LABEL where one is meant, or its ARN: \
             /aws/service/debian/release/12/latest/amd64 for one",
        ),
        "device" => (
            !value.is_empty()
                && !value.contains(char::is_control)
                && !value.split('/').any(|part| part == ".."),
            "the path of a block device or of a raw disk's file, without `..`",
        ),
        _ => (!value.trim().is_empty() && !value.contains(char::is_control), "a name, not empty"),
    };
    if !good {
        complaints
            .push(Complaint::new(format!("`{key}` must be {must}"), text.span.clone()).label("can't be one"));
    }
}

pub(super) fn resource_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| {
        matches!(digits.len(), 8 | 17)
            && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

/// `NAME`, `NAME:VERSION`, `NAME:LABEL`, or the ARN of either: what SSM's GetParameter takes.
fn is_parameter(text: &str) -> bool {
    let named = |text: &str| {
        let (name, selector) = text.split_once(':').map_or((text, "1"), |(name, selector)| (name, selector));
        let word = |text: &str, more: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        word(name, "_.-/") && word(selector, "_.-")
    };
    let Some(rest) = text.strip_prefix("arn:") else { return named(text) };
    let parts: Vec<&str> = rest.splitn(5, ':').collect();
    let [_, "ssm", region, account, resource] = parts.as_slice() else { return false };
    // The vendors' public ones are of no account.
    let account = matches!(account.len(), 0 | 12) && account.bytes().all(|byte| byte.is_ascii_digit());
    !region.is_empty() && account && resource.strip_prefix("parameter/").is_some_and(named)
}

fn arch_name(arch: &Spanned<String>, complaints: &mut Complaints) -> Option<String> {
    match arch.value.as_str() {
        "x86_64" | "amd64" => Some("x86_64".to_owned()),
        "arm64" | "aarch64" => Some("arm64".to_owned()),
        other => {
            complaints.push(
                Complaint::new(format!("unknown architecture `{}`", shown(other)), arch.span.clone())
                    .help("x86_64 or arm64"),
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Source, parse};
    use super::*;

    fn read(base: &str) -> Result<(BaseSelector, Option<u64>), String> {
        let text = format!("[image]\nname = \"web\"\n[base]\n{base}\n");
        match parse(&Source { name: "web.toml".into(), text }) {
            Ok(recipe) => Ok((recipe.base.value, recipe.base_max_age)),
            Err(wrong) => {
                let said = wrong.into_iter().map(|one| match one.help {
                    Some(help) => format!("{} ({help})", one.message),
                    None => one.message,
                });
                Err(said.collect::<Vec<_>>().join("; "))
            }
        }
    }

    fn query(base: &str) -> ImageQuery {
        match read(base).unwrap().0 {
            BaseSelector::Query(query) => query,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_query_has_owners_filters_and_age() {
        let all = query(
            "name = 'web-*'\nowners = ['self', '123456789012']\narch = 'arm64'\ndeprecated = true\nnewest = false\n\
             filters = { 'tag:team' = 'web', root-device-type = ['ebs'], is-public = false, 'block-device-mapping.volume-size' = [8, 16] }",
        );
        assert_eq!((all.name.as_deref(), all.arch.as_deref()), (Some("web-*"), Some("arm64")));
        assert_eq!(all.owners, ["self", "123456789012"]);
        assert_eq!((all.deprecated, all.newest), (true, false));
        assert_eq!(all.filters["tag:team"], ["web"]);
        assert_eq!(all.filters["is-public"], ["false"]);
        assert_eq!(all.filters["block-device-mapping.volume-size"], ["8", "16"]);
        let by_tag = query("filters = { 'tag:team' = 'web' }");
        assert_eq!((by_tag.name, by_tag.newest, by_tag.deprecated), (None, true, false));
        assert_eq!(read("image = 'x'\nmax_age = '30d'").unwrap().1, Some(30 * 86_400));
    }

    #[test]
    fn parameters_are_names_with_versions_or_labels_or_arns() {
        for good in [
            "/aws/service/debian/release/12/latest/amd64",
            "/images/web/x86_64/latest",
            "web-base",
            "/images/web:3",
            "/images/web:prod",
            "arn:aws:ssm:eu-west-1:123456789012:parameter/images/web",
            "arn:aws:ssm:eu-west-1::parameter/aws/service/debian/release/12/latest/amd64",
            "arn:aws-us-gov:ssm:us-gov-west-1:123456789012:parameter/images/web:3",
        ] {
            assert_eq!(
                read(&format!("parameter = '{good}'")).unwrap().0,
                BaseSelector::Parameter(good.into())
            );
        }
        for wrong in
            ["", "a b", "/x:", "/x:1:2", "arn:aws:s3:::bucket", "arn:aws:ssm:eu-west-1:12:parameter/x"]
        {
            assert!(read(&format!("parameter = '{wrong}'")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_disk_of_the_users_is_a_volume_or_a_device() {
        let (volume, _) = read("volume = 'vol-0abc1234def567890'\narch = 'arm64'").unwrap();
        let id = "vol-0abc1234def567890".to_owned();
        assert_eq!(volume, BaseSelector::Volume { id, arch: Some("arm64".into()), root_device: None });
        let (device, _) = read("device = '/dev/xvdf'\nroot_device = '/dev/sda1'").unwrap();
        let root_device = Some("/dev/sda1".to_owned());
        assert_eq!(device, BaseSelector::Device { path: "/dev/xvdf".into(), arch: None, root_device });
    }

    #[test]
    fn what_is_wrong_is_told_with_what_may_be_meant() {
        for (base, told) in [
            ("", "[base] does not say which base"),
            (
                "name = 'x'\nowner = 'slef'",
                "`slef` is no account (an account's 12 digits, or self, amazon or aws-marketplace; did you mean `self`?)",
            ),
            ("name = 'x'\nowner = 'self'\nowners = ['self']", "one is wanted"),
            (
                "ami = 'ami-0123abcd'\nfilters = { 'tag:x' = 'y' }",
                "`filters` goes with `name` and `filters` in [base], not with `ami`",
            ),
            (
                "ami = 'ami-0123abcd'\nvolume = 'vol-0123abcd'",
                "[base] says `ami` and `volume`: one is wanted",
            ),
            ("volume = 'vol-1'", "`volume` must be vol-"),
            ("device = '../x'", "without `..`"),
            ("name = 'x'\nmax_age = '30'", "needs a unit"),
            ("filters = { root-device-typ = 'ebs' }", "did you mean `root-device-type`?"),
            ("filters = { tag.team = 'web' }", "\"tag:team\""),
            ("filters = {}", "no filter"),
            ("filters = { 'tag:x' = [] }", "no value"),
            ("name = 'x'\nfilters = { name = 'y' }", "`name`"),
            ("name = 'x'\nfilters = { state = 'disabled' }", "available"),
        ] {
            let said = read(base).unwrap_err();
            assert!(said.contains(told), "{base}: {said}");
        }
    }
}
