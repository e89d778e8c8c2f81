use super::*;
use proptest::prelude::*;

/// Recipes that are right, also the corpus that is mutated.
pub(crate) const GOOD: [&str; 4] = [
    include_str!("testdata/web.toml"),
    include_str!("testdata/least.toml"),
    include_str!("testdata/odd.toml"),
    include_str!("testdata/snapshot.toml"),
];

fn source(text: &str) -> Source {
    Source { name: "web.toml".to_owned(), text: text.to_owned() }
}

fn complaints(text: &str) -> String {
    let source = source(text);
    match parse(&source) {
        Ok(recipe) => panic!("nothing is wrong with {recipe:?}"),
        Err(complaints) => render(&complaints, &source, Look::plain()),
    }
}

#[test]
fn good_recipes_parse() {
    for text in GOOD {
        if let Err(complaints) = parse(&source(text)) {
            panic!("{}", render(&complaints, &source(text), Look::plain()));
        }
    }
}

#[test]
fn a_recipe_is_read_whole() {
    let recipe = parse(&source(GOOD[0])).unwrap();
    assert_eq!(recipe.image.name.value, "web-{version}-{arch}-{time}");
    assert_eq!(recipe.image.tags["team"].value, "web");
    assert_eq!(
        recipe.base.value,
        BaseSelector::Query(ImageQuery {
            owners: vec!["136693071363".to_owned()],
            arch: Some("x86_64".to_owned()),
            ..ImageQuery::named("debian-12-amd64-*")
        })
    );
    assert_eq!(recipe.disk.size, Some(8 << 30));
    assert_eq!(recipe.disk.iops, Some(4000));
    let uses: Vec<_> = recipe.steps.iter().map(|step| step.provisioner.value.as_str()).collect();
    assert_eq!(uses, ["apt", "files", "script"]);
    assert_eq!(recipe.steps[2].env["STAGE"], "bake");
    assert_eq!(recipe.steps[2].timeout, Some(300));
    assert_eq!(recipe.checks[0].provisioner.value, "script");
    assert!(recipe.checks[0].params.contains_key("run"));
}

#[test]
fn everything_wrong_is_told_at_once() {
    insta::assert_snapshot!(complaints(include_str!("testdata/wrong.toml")));
}

#[test]
fn syntax_errors_are_told_together_with_what_stands_before_them() {
    insta::assert_snapshot!(complaints(
        "[image]\nnmae = \"x\"\n\n[base]\nami = ami-1\nname = 'y\n\n[disk]\nsiez = 1\n"
    ));
}

#[test]
fn an_empty_recipe_says_what_is_needed() {
    insta::assert_snapshot!(complaints(""));
}

#[test]
fn one_table_where_several_may_be() {
    insta::assert_snapshot!(complaints(
        "step = 1\n[image]\nname = \"web\"\n[base]\nimage = \"x\"\n[check]\nrun = [\"true\"]\n"
    ));
}

#[test]
fn places_are_right_behind_characters_of_many_bytes_and_in_long_strings() {
    let text =
        "[image]\nname = '''\nwéb {versoin}'''\ndescription = \"\\u00e9 {nope}\"\n[base]\nimage = \"x\"\n";
    let complaints = parse(&source(text)).unwrap_err();
    let told: Vec<_> = complaints.iter().map(|complaint| &text[complaint.span.clone()]).collect();
    assert_eq!(told, ["é", "{versoin}", "\"\\u00e9 {nope}\""]);
}

#[test]
fn limits_of_volumes() {
    let disk = |disk: &str| {
        let text = format!("[image]\nname = \"web\"\n[base]\nimage = \"x\"\n[disk]\n{disk}\n");
        match parse(&source(&text)) {
            Ok(_) => String::new(),
            Err(complaints) => complaints.into_iter().map(|complaint| complaint.message).collect(),
        }
    };
    for (text, told) in [
        ("iops = 8000\nthroughput = 2000", ""),
        ("throughput = 750", ""),
        ("throughput = 751", "`throughput` of gp3 is at most a quarter of `iops`: 750 of 3000"),
        ("iops = 8000\nthroughput = 2000\nsize = '16GiB'", ""),
        ("iops = 8001\nsize = '16GiB'", "gp3 has at most 500 `iops` a GiB: 8000 of this size"),
        ("[disk.bake]\niops = 8000\nthroughput = 2000\ninitialization_rate = 300", ""),
        ("[disk.bake]\ninitialization_rate = 301", "`initialization_rate` is 100 to 300"),
        ("type = 'gp2'\n[disk.bake]\niops = 4000", "gp2 takes no `iops`"),
        ("type = 'io2'\niops = 500\n[disk.bake]\ntype = 'gp3'\nthroughput = 500", ""),
        ("type = 'io2'\niops = 500\n[disk.bake]\ntype = 'io1'", "a volume of type io1 needs `iops`"),
        ("initialization_rate = 300", "`initialization_rate` is the bake's own volume's"),
        ("iops = 80000\nsize = \"64TiB\"\ntype = \"gp3\"", ""),
        ("iops = 2999", "`iops` of gp3 is 3000 to 80000"),
        ("iops = 80001", "`iops` of gp3 is 3000 to 80000"),
        ("throughput = 124", "`throughput` of gp3 is 125 to 2000"),
        ("throughput = 2001", "`throughput` of gp3 is 125 to 2000"),
        ("throughput = 2001\ntype = \"gp2\"", "gp2 takes no `throughput`"),
        ("type = \"io2\"", "a volume of type io2 needs `iops`"),
        ("type = \"gp3\"\nsize = \"65TiB\"", "the size of gp3 is 1 to 65536 GiB"),
        ("type = \"st1\"", "unknown volume type `st1`"),
        ("size = \"0B\"", "a disk of no size"),
        ("partition = 0", "`partition` is 1 to 128"),
    ] {
        assert_eq!(disk(text), told, "{text}");
    }
}

/// What is wrong with a recipe that has these lines in [image], and then these.
fn told_of(image: &str, rest: &str) -> String {
    let text = format!("[image]\nname = \"web\"\n{image}\n[base]\nimage = \"x\"\n{rest}\n");
    match parse(&source(&text)) {
        Ok(_) => String::new(),
        Err(complaints) => {
            let lines = complaints.iter().inspect(|one| assert!(text.get(one.span.clone()).is_some()));
            lines.map(|one| one.message.clone()).collect::<Vec<_>>().join("; ")
        }
    }
}

#[test]
fn a_name_of_its_own_second_takes_a_number_unless_said_otherwise() {
    for (image, collision) in [
        ("name = 'web-{date}'", Collision::Fail),
        ("name = 'web-{time}'", Collision::Suffix),
        ("name = 'web-{time}'\non_collision = 'fail'", Collision::Fail),
        ("name = 'web-{time}'\non_collision = 'replace'", Collision::Replace { delete_snapshots: false }),
    ] {
        let recipe = parse(&source(&format!("[image]\n{image}\n[base]\nimage = 'x'\n"))).unwrap();
        assert_eq!(recipe.image.collision(), collision, "{image}");
    }
}

#[test]
fn the_shape_of_an_image_is_checked() {
    for (image, told) in [
        (
            "boot_mode = 'uefi'\ntpm = 'v2.0'\nimds = 'v2.0'\nena = true\nsriov = false\nroot_device = '/dev/sda1'",
            "",
        ),
        ("boot_mode = 'efi'", "unknown boot mode `efi`"),
        ("tpm = '2.0'", "`tpm` can't be `2.0`"),
        ("imds = 2", "`imds` is an integer; it must be a string"),
        ("boot_mode = 'legacy-bios'\ntpm = 'v2.0'", "`tpm` needs UEFI, and `boot_mode` is legacy-bios"),
        ("boot_mode = 'legacy-bios'\ntpm = 'none'", ""),
        (
            "boot_mode = 'legacy-bios'\nuefi_data = 'vars.bin'",
            "`uefi_data` needs UEFI, and `boot_mode` is legacy-bios",
        ),
        ("uefi_data = 'QU1aTlVFRk$='", "`uefi_data` is no base64"),
        ("uefi_data = ''", "`uefi_data` is empty"),
        ("root_device = '/dev/sd'", "`root_device` is no block device's name"),
        ("on_collision = 'replace'\ndelete_replaced_snapshots = true", ""),
        ("on_collision = 'suffix'", ""),
        ("on_collision = 'replaced'", "unknown way `replaced`"),
        (
            "delete_replaced_snapshots = true",
            "`delete_replaced_snapshots` goes with on_collision = \"replace\"",
        ),
        ("snapshot_description = '{nope}'", "unknown placeholder `{nope}`"),
    ] {
        assert_eq!(told_of(image, ""), told, "{image}");
    }
}

#[test]
fn block_devices_are_checked() {
    let cases = [
        (
            "name = '/dev/sdb'\nsize = '20GiB'\ntype = 'io2'\niops = 500\ndelete_on_termination = false\nencrypted = true",
            "",
        ),
        ("name = '/dev/xvdba'\nephemeral = 'ephemeral23'", ""),
        ("name = '/dev/sdb1'\ndrop = true", ""),
        ("name = '/dev/sdb'\ntype = 'st1'\nsize = '125GiB'", ""),
        ("name = '/dev/sdb'\nsnapshot = 'snap-0abc1234def567890'", ""),
        ("name = '/dev/sdb'\nthroughput = 1000", ""),
        ("size = '1GiB'", "a device has no `name`"),
        ("name = 'sdb'\nsize = '1GiB'", "`name` is no block device's"),
        ("name = '/dev/sdb'", "a device that says nothing of itself"),
        ("name = '/dev/sdb'\nephemeral = 'ephemeral24'", "`ephemeral` names no instance store"),
        ("name = '/dev/sdb'\nephemeral = 'ephemeral0'\nsize = '1GiB'", "`ephemeral` does not go with `size`"),
        ("name = '/dev/sdb'\ndrop = true\nephemeral = 'ephemeral0'", "`drop` does not go with `ephemeral`"),
        ("name = '/dev/sdb'\nsnapshot = 'snap-1'", "`snapshot` must be snap- and 8 or 17 hexadecimal digits"),
        (
            "name = '/dev/sdb'\nsnapshot = 'snap-0abc1234def567890'\nencrypted = true",
            "`encrypted` does not go with `snapshot`",
        ),
        ("name = '/dev/sdb'\nsize = '1GiB'\nkms_key = 'alias/x'", "a further device takes no `kms_key`"),
        ("name = '/dev/sdb'\nsize = '20GiB'\ntype = 'gp4'", "unknown volume type `gp4`"),
        (
            "name = '/dev/sdb'\nsize = '1GiB'\niops = 3001",
            "gp3 has at most 500 `iops` a GiB: 500 of this size",
        ),
        (
            "name = '/dev/sdb'\nsize = '1GiB'\n[[device]]\nname = '/dev/sdb'\ndrop = true",
            "the device /dev/sdb is there twice",
        ),
        ("name = '/dev/sdb'\nsize = '1GiB'\nsnapshto = 1", "unknown key `snapshto` in [[device]]"),
    ];
    for (device, told) in cases {
        assert_eq!(told_of("", &format!("[[device]]\n{device}")), told, "{device}");
    }
}

#[test]
fn keys_of_encryption_are_checked() {
    let id = "1234abcd-12ab-34cd-56ef-1234567890ab";
    for good in [
        id.to_owned(),
        "alias/web/images_1".to_owned(),
        format!("mrk-{}", id.replace('-', "")),
        format!("arn:aws:kms:eu-central-1:123456789012:key/{id}"),
        "arn:aws-us-gov:kms:us-gov-west-1:123456789012:alias/web".to_owned(),
    ] {
        assert_eq!(told_of("", &format!("[disk]\nkms_key = '{good}'")), "", "{good}");
    }
    for wrong in ["", "alias/", "key/x", "arn:aws:s3:::bucket", "a b", "arn:aws:kms:eu-central-1:1:key/"] {
        let told = told_of("", &format!("[disk]\nkms_key = '{wrong}'"));
        assert!(told.ends_with("names no KMS key"), "{wrong}: {told}");
    }
    let told = told_of("", "[disk]\nencrypted = false\nkms_key = 'alias/x'");
    assert_eq!(told, "`kms_key` encrypts, and `encrypted` is false");
}

#[test]
fn tags_of_one_thing_are_checked() {
    for (tags, told) in [
        ("[tags.volume]\na = '{base}'\n[tags.snapshot]\nb = '{version}'\n[tags.image]\nc = ''", ""),
        ("[tags.volume]\na = '{version}'", "{version} is not known when the volume is made"),
        ("[tags]\nteam = 'web'", "unknown key `team` in [tags]"),
        ("[tags.image]\n'aws:x' = 'web'", "`aws:x` can't be a tag: names that begin with aws: are AWS's own"),
        ("[tags.image]\nx = '{nope}'", "unknown placeholder `{nope}`"),
    ] {
        assert_eq!(told_of("", tags), told, "{tags}");
    }
}

#[test]
fn keys_of_any_depth_are_no_danger() {
    for text in [
        format!("{} = 1", vec!["a"; 200_000].join(".")),
        format!("[{}]", vec!["a"; 200_000].join(" . ")),
        format!("a = {{ {} = 1 }}", vec!["'a'"; 200_000].join(".")),
        format!("a = {}", "[".repeat(200_000)),
        format!("a = {}", "{a=".repeat(200_000)),
        format!("a = '''\n''' \n{} = 1", vec!["\"a\""; 200_000].join(".")),
        format!("a = \"\"\"\\\"\"\"\"\n{} = 1", vec!["a"; 200_000].join(".")),
    ] {
        let source = source(&text);
        let complaints = parse(&source).unwrap_err();
        assert!(complaints.len() < 1000, "{}", complaints.len());
    }
}

#[test]
fn bytes_that_are_no_text() {
    let error = source_from_bytes("x.toml", b"[image]\nname = \"\xff\"").unwrap_err();
    assert_eq!(error.message, "x.toml is not UTF-8: line 2, column 9");
    assert!(source_from_bytes("x.toml", &vec![b'a'; 2 << 20]).is_err());
    assert!(parse(&source_from_bytes("x.toml", "\u{feff}[image]\n".as_bytes()).unwrap()).is_err());
}

/// Parses and, when there are complaints, checks their places and renders them.
fn survives(text: &str) {
    let source = source(text);
    if let Err(complaints) = parse(&source) {
        assert!(!complaints.is_empty());
        for complaint in &complaints {
            assert!(text.get(complaint.span.clone()).is_some(), "{complaint:?}");
            assert!(!complaint.message.is_empty());
        }
        let some = complaints.get(..complaints.len().min(1)).unwrap_or_default();
        for look in [Look::plain(), Look { fancy: true, width: 20 }] {
            assert!(render(some, &source, look).contains("web.toml"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_recipe_or_complaints(text in "\\PC{0,60}") {
        survives(&text);
    }

    #[test]
    fn any_toml_like_text_is_a_recipe_or_complaints(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just("[image]\n"), Just("[base]\n"), Just("[disk]\n"), Just("[[step]]\n"), Just("[[check]]\n"),
                Just("name"), Just("ami"), Just("use"), Just("tags"), Just("size"), Just("env"), Just(" = "),
                Just("\"x\""), Just("'''"), Just("\"\"\""), Just("{"), Just("}"), Just("["), Just("]"), Just("\n"),
                Just(","), Just("."), Just("1"), Just("-"), Just("é"), Just("#"), Just("\\"), Just("true"),
                Just("\r\n"), Just("\u{feff}"), Just("\0"), Just("1979-05-27"), Just("\"8GiB\""), Just("{version}"),
            ],
            0..40,
        )
    ) {
        survives(&pieces.concat());
    }

    #[test]
    fn a_recipe_with_bytes_changed_is_a_recipe_or_complaints(
        which in 0..GOOD.len(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8, 0..30usize), 1..6),
    ) {
        let mut bytes = GOOD[which].as_bytes().to_vec();
        for (place, byte, how, length) in changes {
            let at = place.index(bytes.len().max(1)).min(bytes.len());
            let end = (at + length).min(bytes.len());
            match how {
                0 if at < bytes.len() => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.drain(at..end)),
                _ => {
                    let copy = bytes[at..end].to_vec();
                    let to = usize::from(byte) % (bytes.len() + 1);
                    bytes.splice(to..to, copy);
                }
            }
        }
        if let Ok(source) = source_from_bytes("web.toml", &bytes) {
            survives(&source.text);
        }
        survives(&String::from_utf8_lossy(&bytes));
    }
}

/// docs/recipe.md, the reference.
const REFERENCE: &str = include_str!("../../docs/recipe.md");

#[test]
fn every_example_of_the_reference_is_a_recipe() {
    let examples: Vec<_> =
        REFERENCE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 10);
    for example in examples {
        let mut text = example.to_owned();
        for (section, least) in [("[image]", "name = \"web-{time}\""), ("[base]", "image = \"x\"")] {
            if !text.contains(section) {
                text.push_str(&format!("\n{section}\n{least}\n"));
            }
        }
        let source = Source { name: "example".into(), text };
        let mut complaints = reader::Complaints::new(&source);
        // A variable that somebody must give is a fine example.
        let (readable, _) = read(&mut complaints, &Inputs { lenient: true, ..Inputs::default() });
        if let Err(complaints) = complaints.finish(readable.recipe) {
            panic!("{}", render(&complaints, &source, Look::plain()));
        }
    }
}

#[test]
fn the_reference_has_every_key_of_hygiene_and_of_steps() {
    let keys = Part::ALL.into_iter().map(Part::key).chain(STEP_KEYS).chain(["enabled", "audit", "accept"]);
    for key in keys {
        assert!(REFERENCE.contains(&format!("| `{key}` |")), "{key}");
    }
}

fn hygiene(text: &str) -> Result<HygieneSpec, Vec<Complaint>> {
    let text = format!("[image]\nname = \"web-{{time}}\"\n[base]\nimage = \"x\"\n{text}");
    parse(&Source { name: "web.toml".into(), text }).map(|recipe| recipe.hygiene)
}

#[test]
fn hygiene_is_whole_unless_something_else_is_said() {
    assert_eq!(hygiene("").unwrap(), HygieneSpec::default());
    assert_eq!(hygiene("[hygiene]\n").unwrap().parts, Part::ALL.into());
    let some = hygiene("[hygiene]\nlogs = false\naudit = \"deny\"\naccept = [\"/srv/**\"]\n").unwrap();
    assert!(!some.parts.contains(&Part::Logs) && some.parts.len() == Part::ALL.len() - 1);
    assert_eq!((some.audit, some.accept), (Audit::Deny, vec!["/srv/**".to_owned()]));
    let one = hygiene("[hygiene]\nenabled = false\nmachine_id = true\n").unwrap();
    assert_eq!((one.parts, one.audit), ([Part::MachineId].into(), Audit::Warn));
}

#[test]
fn what_is_wrong_with_hygiene_is_told_with_what_may_be_meant() {
    let wrong = hygiene(
        "[hygiene]\nssh-host-keys = false\nlogs = \"no\"\naudit = \"fail\"\naccept = [\"srv/x\", \"/srv/[\"]\n",
    );
    let said: Vec<_> = wrong
        .unwrap_err()
        .into_iter()
        .map(|complaint| format!("{} / {}", complaint.message, complaint.help.unwrap_or_default()))
        .collect();
    assert_eq!(said.len(), 5, "{said:#?}");
    assert!(
        said[0].contains("`ssh-host-keys`") && said[0].contains("did you mean `ssh_host_keys`"),
        "{said:#?}"
    );
    assert!(said[1].contains("`logs` is a string"), "{said:#?}");
    assert!(said[2].contains("unknown `audit` `fail`") && said[2].contains("`deny`"), "{said:#?}");
    assert!(said[3].contains("must begin with /") && said[4].contains("can't be a glob"), "{said:#?}");
}
