use super::*;
use crate::provisioner::{Settled, StepPlan, Work};
use crate::recipe::{Recipe, Source};

fn recipe(text: &str) -> Recipe {
    crate::recipe::parse(&Source { name: "web.toml".into(), text: text.into() }).unwrap()
}

fn base() -> BaseFacts {
    BaseFacts {
        image: Some("ami-0abc".into()),
        name: Some("debian-12-amd64-20260101".into()),
        snapshot: "snap-1".into(),
        given: None,
        size: 4 << 30,
        arch: Arch::X86_64,
        created: None,
        deprecated: None,
        version: Some("debian-12".into()),
        tags: BTreeMap::new(),
        root_device: "/dev/xvda".into(),
        inherited: serde_json::json!({"ena": true}),
        notes: Vec::new(),
    }
}

fn facts(env: &dyn Fn(&str) -> Option<String>) -> Facts<'_> {
    Facts {
        bake: BakeId("bake-01234567890abcdef".into()),
        place: Place {
            cloud: "ec2".into(),
            region: "eu-central-1".into(),
            zone: Some("eu-central-1a".into()),
            builder: "i-1".into(),
            arch: Arch::X86_64,
            account: None,
            runs: vec![Arch::X86_64],
        },
        base: base(),
        now: "2026-11-23T04:05:06Z".parse().unwrap(),
        creator: "ada",
        digest: "d1".into(),
        again: "--recipe web.toml",
        env,
    }
}

fn step(query: bool) -> StepPlan {
    StepPlan {
        name: "apt".into(),
        provisioner: "apt".into(),
        work: Work::Command(vec!["./run".into()]),
        package_query: query.then(|| vec!["./query".into()]),
        ..StepPlan::default()
    }
}

fn made(text: &str, steps: Vec<StepPlan>) -> Result<Plan, Failure> {
    make(
        &recipe(text),
        Settled { steps, ..Settled::default() },
        facts(&|name| (name == "STAGE").then(|| "prod".to_owned())),
    )
}

const BASE: &str = "[base]\nami = \"ami-0abc1234def567890\"\n";

fn image(rest: &str) -> String {
    format!("[image]\n{rest}\n{BASE}")
}

#[test]
fn a_name_without_open_words_is_settled() {
    let plan = made(&image("name = 'web-{arch}-{date}-{time}-{base}-{env:STAGE}'"), vec![]).unwrap();
    let wanted = "web-x86_64-2026-11-23-20261123T040506Z-debian-12-amd64-20260101-prod";
    assert_eq!(plan.image.name, NamePlan::Settled(wanted.into()));
    assert_eq!(plan.disk.token, "bake-01234567890abcdef");
    assert_eq!(plan.disk.size, 4 << 30);
    for (key, value) in [
        ("bakehouse:bake", "bake-01234567890abcdef"),
        ("bakehouse:base", "ami-0abc"),
        ("bakehouse:recipe", "sha256:d1"),
        ("base_ami_version", "debian-12"),
        ("creator", "ada"),
        ("creation_time", "2026-11-23T04:05:06Z"),
    ] {
        assert_eq!(plan.image.tags.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert!(plan.image.description.contains("ancestor_id=ami-0abc"), "{}", plan.image.description);
    assert!(plan.describe().contains(wanted));
}

#[test]
fn open_words_are_settled_by_the_main_package() {
    let text = image("name = '{package}-{version}-{arch}'\ntags = { v = '{version}-{release}', t = 'x' }");
    let plan = made(&text, vec![step(true)]).unwrap();
    assert_eq!(plan.image.name, NamePlan::AfterInstall("{package}-{version}-x86_64".into()));
    assert!(!plan.disk.tags.contains_key("v"), "a volume is made before the package is installed");
    assert_eq!(plan.disk.tags.get("t").map(String::as_str), Some("x"));
    let main = MainPackage { name: "nginx".into(), version: "1.22.1".into(), release: "9+deb12u1".into() };
    let late = Late::of(&plan, Some(&main)).unwrap();
    assert_eq!(late.name, "nginx-1.22.1-x86_64");
    assert_eq!(late.tags.get("v").map(String::as_str), Some("1.22.1-9+deb12u1"));
    assert_eq!(late.tags.get("appversion").map(String::as_str), Some("nginx-1.22.1-9+deb12u1"));
    assert!(late.description.starts_with("name=nginx-1.22.1-x86_64, "), "{}", late.description);
    assert_eq!(Late::of(&plan, None).unwrap_err().kind, Kind::Name);
}

#[test]
fn what_no_name_can_hold_becomes_a_dash_in_the_name_alone() {
    let plan = made(&image("name = 'web-{version}-{release}'"), vec![step(true)]).unwrap();
    let main =
        MainPackage { name: "web".into(), version: "1.0~rc1+dfsg".into(), release: "2+deb12u1".into() };
    let late = Late::of(&plan, Some(&main)).unwrap();
    assert_eq!(late.name, "web-1.0-rc1-dfsg-2-deb12u1");
    assert_eq!(late.tags.get("appversion").map(String::as_str), Some("web-1.0~rc1+dfsg-2+deb12u1"));
}

#[test]
fn a_name_too_long_once_filled_is_refused_before_the_snapshot() {
    let plan = made(&image("name = 'web-{version}'"), vec![step(true)]).unwrap();
    let main = MainPackage { name: "web".into(), version: "1".repeat(130), release: String::new() };
    assert_eq!(Late::of(&plan, Some(&main)).unwrap_err().kind, Kind::Name);
}

#[test]
fn open_words_without_a_package_step_are_refused_at_once() {
    for steps in [vec![], vec![step(false)]] {
        let failure = made(&image("name = 'web-{version}'"), steps).unwrap_err();
        assert_eq!(failure.kind, Kind::Recipe);
        assert!(failure.hint.is_some());
    }
}

#[test]
fn what_cannot_be_baked_is_refused() {
    let small = format!("{}\n[disk]\nsize = '2GiB'\n", image("name = 'web'"));
    assert_eq!(made(&small, vec![]).unwrap_err().kind, Kind::Recipe);
    let missing = made(&image("name = 'web-{env:NOWHERE}'"), vec![]).unwrap_err();
    assert!(missing.message.contains("NOWHERE"), "{missing}");
    let long = format!("name = 'web'\ntags = {{ x = '{}' }}", "{base}".repeat(20));
    assert_eq!(made(&image(&long), vec![]).unwrap_err().kind, Kind::Recipe);
    let mut other = facts(&|_| None);
    other.base.arch = Arch::Arm64;
    let failure = make(&recipe(&image("name = 'web'")), Settled::default(), other).unwrap_err();
    assert_eq!(failure.kind, Kind::Base);
    assert!(failure.message.contains("arm64"), "{failure}");
}

#[test]
fn braces_in_a_settled_text_stay() {
    let plan = made(&image("name = 'web'\ndescription = 'a {{b}}'"), vec![]).unwrap();
    assert!(Late::of(&plan, None).unwrap().description.starts_with("a {b} ("));
}

#[test]
fn braces_stay_beside_words_that_are_open() {
    let plan = made(&image("name = 'web-{version}'\ndescription = 'a {{b}}'"), vec![step(true)]).unwrap();
    let main = MainPackage { name: "web".into(), version: "1".into(), release: String::new() };
    let late = Late::of(&plan, Some(&main)).unwrap();
    assert!(late.description.starts_with("a {b} (name=web-1, "), "{}", late.description);
}

#[test]
fn a_description_is_cut_where_a_character_ends() {
    let long = "ä".repeat(200);
    let plan = made(&image(&format!("name = 'web'\ndescription = '{long}'")), vec![]).unwrap();
    assert!(plan.image.description.len() <= 255);
    assert!(plan.image.description.len() >= 254);
}

#[test]
fn a_bakes_id_is_judged_as_typed() {
    assert!(BakeId::parse("bake-01234567890abcdef").is_ok());
    for wrong in ["", "bake-", "bake-../../etc/passwd", "bake-01234567890abcdeF", "bake-01234567890abcdef0"] {
        assert_eq!(BakeId::parse(wrong).unwrap_err().kind, Kind::Usage, "{wrong}");
    }
}

#[test]
fn a_base_is_told_with_its_age_and_warned_of() {
    let plan = |max_age: &str, change: &dyn Fn(&mut BaseFacts)| {
        let mut facts = facts(&|_| None);
        facts.base.created = Some("2026-11-01T04:05:06.000Z".into());
        change(&mut facts.base);
        let text = format!("[image]\nname = 'web'\n{BASE}{max_age}");
        make(&recipe(&text), Settled::default(), facts).unwrap()
    };
    let young = plan("max_age = '22d'\n", &|_| {});
    assert_eq!((young.base_age, young.warnings.as_slice()), (Some(22 * 86_400), [].as_slice()));
    let told = young.describe();
    assert!(
        told.contains("base         debian-12-amd64-20260101 (ami-0abc), 22 days old, 4GiB, x86_64"),
        "{told}"
    );

    let old = plan("max_age = '21d'\n", &|_| {});
    assert_eq!(old.warnings, ["the base ami-0abc is 22 days old, more than max_age, 21d"]);
    assert!(old.describe().contains("warning      the base ami-0abc is 22 days old"), "{}", old.describe());
    let unknown = plan("max_age = '1d'\n", &|base| base.created = None);
    assert!(unknown.warnings[0].contains("cannot be told"), "{:?}", unknown.warnings);

    let deprecated = plan("", &|base| base.deprecated = Some("2026-11-20T00:00:00.000Z".into()));
    assert!(deprecated.warnings[0].contains("deprecated since 2026-11-20"), "{:?}", deprecated.warnings);
    let not_yet = plan("", &|base| base.deprecated = Some("2028-11-20T00:00:00.000Z".into()));
    assert!(not_yet.warnings.is_empty());
}

#[test]
fn a_disk_of_the_users_is_taken_as_it_is() {
    let plan = |more: &str| {
        let mut facts = facts(&|_| None);
        facts.base.image = None;
        facts.base.snapshot = "vol-1".into();
        facts.base.given = Some(Given::Volume { id: "vol-1".into(), attached: None });
        let text = format!("[image]\nname = 'web'\n[base]\nvolume = 'vol-0abc1234def567890'\n{more}");
        make(&recipe(&text), Settled::default(), facts)
    };
    let told = plan("max_age = '1d'\n").unwrap().describe();
    assert!(told.contains("disk         4GiB, vol-1 itself") && !told.contains("warning"), "{told}");
    for (more, why) in [
        ("[disk]\nsize = '8GiB'\n", "is not resized"),
        ("[disk]\nencrypted = true\n", "is not encrypted"),
        ("[disk]\nkms_key = 'alias/web'\nencrypted = true\n", "is not encrypted"),
    ] {
        let failure = plan(more).unwrap_err();
        assert_eq!(failure.kind, Kind::Recipe);
        let told = format!("{failure} {}", failure.hint.clone().unwrap_or_default());
        assert!(told.contains(why), "{told}");
    }
    let passed = plan("[disk.bake]\ntype = 'io2'\niops = 500\n[tags.volume]\nx = 'y'\n").unwrap();
    assert_eq!(passed.notes, ["of a volume of the bake's, and there is none: [disk.bake], [tags.volume]"]);
}
