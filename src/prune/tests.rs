use std::time::Duration;

use super::*;
use crate::cloud::ImageSummary;
use crate::cloud::shelf::{BAKE_TAG, FAMILY_TAG, Held};

const NOW: &str = "2026-06-30T00:00:00Z";

fn image(id: &str, bake: &str, family: &str, day: u32) -> Stock {
    let mut tags = BTreeMap::from([(FAMILY_TAG.to_owned(), family.to_owned())]);
    if !bake.is_empty() {
        tags.insert(BAKE_TAG.to_owned(), bake.to_owned());
    }
    Stock {
        image: ImageSummary {
            id: id.to_owned(),
            name: format!("{family}-{day}"),
            state: "available".to_owned(),
            arch: "x86_64".to_owned(),
            created: format!("2026-06-{day:02}T00:00:00.000Z"),
            size: Some(8 << 30),
            base: None,
            tags,
        },
        region: "eu-west-1".to_owned(),
        description: String::new(),
        snapshots: vec![Held { id: format!("snap-{id}"), size: 8 << 30, ours: true }],
        deprecated: None,
        protection: None,
        copy_of: None,
        public: false,
        last_launched: None,
    }
}

fn on(mut image: Stock, base: &str) -> Stock {
    image.image.base = Some(base.to_owned());
    image
}

fn wanted(keep: usize, days: u64, action: Action) -> Wanted<'static> {
    Wanted {
        meant: &|_| true,
        keep,
        older: Some(Duration::from_secs(days * 86_400)),
        action,
        now: NOW.parse().unwrap(),
    }
}

fn settled(stock: Vec<Stock>, uses: Vec<(String, Use)>, wanted: &Wanted<'_>) -> Vec<String> {
    let inventory = Inventory { stock, uses };
    let told = |finding: Finding| {
        let verdict = match finding.verdict {
            Verdict::Retire => "goes".to_owned(),
            Verdict::Keep => format!("kept: {}", finding.why.join("; ")),
            _ => format!("excluded: {}", finding.why.join("; ")),
        };
        format!("{} {verdict}", finding.image.image.id)
    };
    settle(&inventory, wanted).into_iter().map(told).collect()
}

#[test]
fn the_newest_of_each_family_and_architecture_and_the_young_stay() {
    let mut arm = image("arm-1", "b6", "web", 1);
    arm.image.arch = "arm64".to_owned();
    let mut failed = image("web-f", "b7", "web", 12);
    failed.image.state = "failed".to_owned();
    let stock = vec![
        image("web-4", "b4", "web", 28),
        image("web-3", "b3", "web", 27),
        image("web-2", "b2", "web", 10),
        image("web-1", "b1", "web", 2),
        image("db-1", "b5", "db", 1),
        image("foreign", "", "web", 1),
        arm,
        failed,
    ];
    assert_eq!(
        settled(stock, Vec::new(), &wanted(1, 7, Action::Deregister)),
        [
            "web-4 kept: the newest of web x86_64",
            "web-3 kept: not older than 7d",
            "db-1 kept: the newest of db x86_64",
            "arm-1 kept: the newest of web arm64",
            "web-f goes",
            "web-2 goes",
            "web-1 goes",
        ]
    );
}

#[test]
fn what_is_referred_to_stays_and_so_does_what_it_was_baked_on() {
    let mut protected = image("kept", "b9", "safe", 1);
    protected.protection = Some("enabled-with-cooldown".to_owned());
    let stock = vec![
        on(image("app", "b3", "app", 9), "mid"),
        on(image("mid", "b2", "mid", 8), "base"),
        image("base", "b1", "base", 7),
        on(image("gone-app", "b6", "app", 6), "gone-base"),
        image("gone-base", "b5", "base", 5),
        on(image("other", "", "x", 4), "parent"),
        image("parent", "b4", "parent", 3),
        protected,
    ];
    let used = Use { image: "app".into(), sort: Sort::Instance, by: "instance i-1 (running)".into() };
    assert_eq!(
        settled(stock.clone(), vec![("eu-west-1".into(), used)], &wanted(0, 1, Action::Deregister)),
        [
            "app excluded: instance i-1 (running)",
            "mid excluded: image app-9 (app) was baked on it",
            "base excluded: image mid-8 (mid) was baked on it",
            "parent excluded: image x-4 (other) was baked on it",
            "kept excluded: it is protected from being deregistered (enabled-with-cooldown): end the protection (aws ec2 \
             disable-image-deregistration-protection --image-id kept --region eu-west-1; one with a cool-down holds for a \
             day more)",
            "gone-app goes",
            "gone-base goes",
        ]
    );
    let disabled = settled(stock, Vec::new(), &wanted(0, 1, Action::Disable));
    assert!(disabled.contains(&"gone-base excluded: image app-6 (gone-app) was baked on it".to_owned()));
    assert!(disabled.contains(&"kept goes".to_owned()), "{disabled:?}");
}

#[test]
fn copies_go_with_their_original_or_stay_with_it() {
    let copy = |id: &str, of: &str, bake: &str| {
        let mut copy = image(id, bake, "web", 6);
        copy.region = "us-east-1".to_owned();
        copy.copy_of = Some((of.to_owned(), "eu-west-1".to_owned()));
        copy
    };
    let stock = vec![
        copy("copy-2", "web-2", "b2"),
        copy("copy-1", "web-1", "b1"),
        image("web-2", "b2", "web", 5),
        image("web-1", "b1", "web", 4),
    ];
    let used = |region: &str| {
        let by = "parameter /images/web".to_owned();
        vec![(region.to_owned(), Use { image: "copy-2".into(), sort: Sort::Parameter, by })]
    };
    let wanted = wanted(0, 1, Action::Deregister);
    assert_eq!(
        settled(stock.clone(), used("us-east-1"), &wanted),
        [
            "copy-2 excluded: parameter /images/web in us-east-1",
            "web-2 excluded: parameter /images/web in us-east-1",
            "copy-1 goes",
            "web-1 goes",
        ]
    );
    assert_eq!(
        settled(stock, used("eu-west-1"), &wanted).iter().filter(|one| one.ends_with("goes")).count(),
        4
    );
}

#[test]
fn an_image_that_has_its_bakes_id_for_a_name_counts_as_none_and_stays() {
    let mut provisional = image("new", "bake-3", "web", 20);
    provisional.image.name = "bake-3".to_owned();
    let stock = vec![provisional.clone(), image("web-2", "b2", "web", 10), image("web-1", "b1", "web", 2)];
    let told = settled(stock, Vec::new(), &wanted(1, 7, Action::Deregister));
    assert_eq!(told[1..], ["web-2 kept: the newest of web x86_64", "web-1 goes"]);
    assert!(told[0].starts_with("new excluded: its bake has not given it its name yet"), "{told:?}");
    // Once the image of the name is there, that one counts.
    let stock = vec![image("web-3", "bake-3", "web", 21), provisional, image("web-2", "b2", "web", 10)];
    let told = settled(stock, Vec::new(), &wanted(1, 7, Action::Deregister));
    assert_eq!(told.last().unwrap(), "web-2 goes", "{told:?}");
}

#[test]
fn what_is_so_already_is_not_done_again() {
    let mut deprecated = image("a", "b1", "web", 1);
    deprecated.deprecated = Some("2026-06-20T00:00:00Z".to_owned());
    let mut disabled = image("b", "b2", "web", 2);
    disabled.image.state = "disabled".to_owned();
    let mut pending = image("c", "b3", "web", 3);
    pending.image.state = "pending".to_owned();
    let all = |action| {
        settled(
            vec![deprecated.clone(), disabled.clone(), pending.clone()],
            Vec::new(),
            &wanted(0, 1, action),
        )
    };
    assert_eq!(all(Action::Deregister), ["c excluded: it is still being made", "b goes", "a goes"]);
    assert_eq!(
        all(Action::Disable),
        ["c excluded: it is still being made", "b excluded: it is disabled already", "a goes"]
    );
    assert_eq!(all(Action::Deprecate).iter().filter(|one| one.ends_with("goes")).count(), 0);
}
