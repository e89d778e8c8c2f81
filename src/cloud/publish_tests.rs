use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn share() -> Share {
    Share {
        accounts: vec!["210987654321".into()],
        organizations: vec!["arn:aws:organizations::1:organization/o-a".into()],
        snapshots: true,
        ..Share::default()
    }
}

fn wanted<'a>(share: &'a Share, parameters: &'a [String]) -> Wanted<'a> {
    Wanted {
        share,
        deprecate_at: Some(at("2026-06-01T10:20:30Z")),
        protection: Some(Protection::WithCooldown),
        parameters,
        parameter_tags: BTreeMap::from([("team".to_owned(), "web".to_owned())]),
    }
}

/// Makes a change of what is there, as EC2 would.
fn make(present: &mut Present, change: Change) {
    match change {
        Change::Deprecate(at) => present.deprecated_at = Some(at),
        Change::Protect(protection) => present.protection = Some(protection),
        Change::ShareImage(with) => present.launch.extend(with),
        Change::ShareSnapshot(snapshot, with) => {
            present.snapshots.get_mut(&snapshot).unwrap().extend(with);
        }
        Change::SetParameter { name, was } => {
            let tags = match was {
                Some(_) => present.parameters[&name].tags.clone(),
                None => BTreeMap::from([("team".to_owned(), "web".to_owned())]),
            };
            let value = present.image.clone();
            present.parameters.insert(name, Parameter { value, is_image: true, tags });
        }
        Change::TagParameter { name, tags } => {
            present.parameters.get_mut(&name).unwrap().tags.extend(tags);
        }
    }
}

#[test]
fn what_is_missing_is_changed_once_and_parameters_come_last() {
    let (share, names) = (share(), ["/new".to_owned(), "/old".to_owned()]);
    let wanted = wanted(&share, &names);
    let mut present = Present {
        image: "ami-1".into(),
        snapshots: BTreeMap::from([("snap-1".into(), BTreeSet::new())]),
        parameters: BTreeMap::from([(
            "/old".into(),
            Parameter { value: "ami-0".into(), is_image: true, tags: BTreeMap::new() },
        )]),
        ..Present::default()
    };
    let now = at("2026-05-01T00:00:00Z");
    let first = changes(&wanted, &present, now);
    let words: Vec<_> = first.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "deprecate it at 2026-06-01T10:20Z",
            "protect it from being deregistered, with a cool-down",
            "share it with 210987654321, o-a",
            "share snap-1 with 210987654321",
            "write the parameter /new",
            "write the parameter /old, which said ami-0",
            "tag the parameter /old",
        ]
    );
    let last = first.iter().position(Change::is_last).unwrap();
    assert!(first[last..].iter().all(Change::is_last));
    // Stopped after any of them, the next run makes the rest; after all, none.
    for made in 0..=first.len() {
        let mut half = present.clone();
        first[..made].iter().cloned().for_each(|change| make(&mut half, change));
        assert_eq!(changes(&wanted, &half, now), first[made..], "after {made}");
    }
    first.into_iter().for_each(|change| make(&mut present, change));
    present.launch.insert(Grantee::Everybody);
    assert_eq!(changes(&wanted, &present, now), [], "what others shared is left");
}

#[test]
fn a_deprecation_that_has_passed_is_made_soon_and_once() {
    let now = at("2026-07-01T10:00:10Z");
    let wanted = at("2026-06-01T10:20:30Z");
    let soon = deprecation(wanted, None, now).unwrap();
    assert!(soon > now && soon.as_second() - now.as_second() <= 180);
    for later in [now, at("2026-08-01T00:00:00Z")] {
        assert_eq!(deprecation(wanted, Some(soon), later), None);
    }
    assert!(deprecation(wanted, Some(at("2027-01-01T00:00:00Z")), now).is_some());
}

#[test]
fn more_protection_than_asked_for_is_left() {
    let share = Share::default();
    let mut wanted = wanted(&share, &[]);
    (wanted.deprecate_at, wanted.protection) = (None, Some(Protection::WithoutCooldown));
    let mut present = Present { protection: Some(Protection::WithCooldown), ..Present::default() };
    assert_eq!(changes(&wanted, &present, Timestamp::UNIX_EPOCH), []);
    wanted.protection = Some(Protection::WithCooldown);
    present.protection = Some(Protection::WithoutCooldown);
    assert_eq!(
        changes(&wanted, &present, Timestamp::UNIX_EPOCH),
        [Change::Protect(Protection::WithCooldown)]
    );
}

#[test]
fn a_parameter_gets_the_tags_that_it_can_have() {
    let tags = [("team", "web"), ("odd", "a(b)"), ("bakehouse:recipe", "sha256:0a"), ("empty", "")];
    let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let kept: Vec<_> = tags_for_parameters(&tags).into_keys().collect();
    assert_eq!(kept, ["bakehouse:recipe", "team"]);
}
