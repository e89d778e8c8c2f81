//! What is read of `scratch`, and what is told of it.

use super::*;
use crate::recipe::{BaseSelector, Source, parse};

const HEAD: &str = "[image]\nname = \"web\"\n[disk]\nsize = \"4GiB\"\n[base]\n";

fn source(text: &str) -> Source {
    Source { name: "r.toml".into(), text: format!("{HEAD}{text}\n") }
}

fn read(text: &str) -> ScratchSpec {
    match parse(&source(text)).unwrap().base.value {
        BaseSelector::Scratch(spec) => spec,
        other => panic!("{other:?}"),
    }
}

fn wrong(text: &str) -> String {
    let source = source(text);
    let complaints = parse(&source).unwrap_err();
    let told = complaints.iter().map(|one| {
        let under = source.text.get(one.span.clone()).unwrap_or_default();
        format!("{} [{under}] {}\n", one.message, one.help.as_deref().unwrap_or_default())
    });
    told.collect()
}

#[test]
fn a_release_alone_or_all_that_can_be_said() {
    let plain = read("scratch = \"debian-12\"");
    assert_eq!(plain, ScratchSpec::of_release("debian-12"));
    assert_eq!(plain.firmware(Arch::X86_64), Firmware::Both);
    assert_eq!(plain.firmware(Arch::Arm64).boot_mode(), "uefi");
    let full = read(
        "arch = \"arm64\"\nroot_device = \"/dev/sda1\"\nscratch = { bootstrap = \"./b.sh\", args = [\"x\"], \
         timeout = \"20m\", filesystem = \"xfs\", firmware = \"uefi\", boot_loader = false }",
    );
    assert_eq!((full.arch.as_deref(), full.root_device.as_deref()), (Some("arm64"), Some("/dev/sda1")));
    assert_eq!((full.filesystem, full.firmware), (RootFilesystem::Xfs, Some(Firmware::Uefi)));
    let Bootstrap::Script { path, args, timeout, .. } = &full.bootstrap else { panic!() };
    assert_eq!((path.to_str(), args.len(), *timeout), (Some("./b.sh"), 1, Some(1200)));
    assert!(!full.boot_loader);
    assert!(full.describe(Arch::Arm64).contains("xfs root, filled by ./b.sh x on this builder, no boot"));
}

#[test]
fn what_was_read_can_be_written() {
    for text in [
        "scratch = \"debian-13\"",
        "arch = \"arm64\"\nscratch = { release = \"debian-12\", packages = [\"a\", \"b\"], mirror = \"http://m/d\" }",
        "scratch = { bootstrap = \"/b.sh\", args = [\"x y\"], timeout = \"90s\", filesystem = \"btrfs\", \
         firmware = \"bios\", boot_loader = false }",
    ] {
        let mut spec = read(text);
        let base = BaseSelector::Scratch(spec.clone());
        let text = crate::recipe::line::base_text(&base).replace("[base]\n", "");
        let mut again = read(&text);
        for spec in [&mut spec, &mut again] {
            if let Bootstrap::Script { span, .. } = &mut spec.bootstrap {
                *span = 0..0;
            }
        }
        assert_eq!(again, spec, "{text}");
    }
}

#[test]
fn what_is_wrong_is_told_at_its_place() {
    insta::assert_snapshot!(wrong("scratch = \"debian-21\""), @r#"no release `debian-21` can be made from scratch ["debian-21"] did you mean `debian-12`?"#);
    let all = wrong(
        "owner = \"self\"\nscratch = { release = \"debian-12\", bootstrap = \"x\", filesystem = \"ext5\", firmware = 1, sice = 2 }",
    );
    for part in [
        "`owner` goes with `name` and `filters` in [base], not with `scratch` [owner]",
        "says both `release` and `bootstrap` [\"x\"]",
        "unknown filesystem `ext5` [\"ext5\"] did you mean `ext4`?",
        "`firmware` is an integer",
        "`sice`",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    assert!(wrong("scratch = {}").contains("does not say what fills the disk"));
    assert!(wrong("scratch = 3").contains("must be a release's name or a table"));
    assert!(
        wrong("scratch = { release = \"debian-12\", timeout = \"5m\" }").contains("goes with `bootstrap`")
    );
    assert!(
        wrong("arch = \"arm64\"\nscratch = { release = \"debian-12\", firmware = \"both\" }")
            .contains("no BIOS")
    );
}

#[test]
fn a_blank_disk_needs_a_size() {
    let text = "[image]\nname = \"web\"\n[base]\nscratch = \"debian-12\"\n";
    let complaints = parse(&Source { name: "r".into(), text: text.into() }).unwrap_err();
    assert!(complaints[0].message.contains("how large"), "{complaints:?}");
    let small = text.replace("[base]", "[disk]\nsize = \"512MiB\"\n[base]");
    let complaints = parse(&Source { name: "r".into(), text: small }).unwrap_err();
    assert!(complaints[0].message.contains("at least 1GiB"), "{complaints:?}");
    let loaded = format!("{text}[disk]\nsize = \"4GiB\"\n[disk.bake]\ninitialization_rate = 200\n");
    let complaints = parse(&Source { name: "r".into(), text: loaded }).unwrap_err();
    assert!(complaints[0].message.contains("could load"), "{complaints:?}");
}

#[test]
fn a_boot_mode_is_one_that_the_boot_loader_is_for() {
    let with = |mode: &str, scratch: &str| {
        let text = format!(
            "[image]\nname = \"web\"\nboot_mode = \"{mode}\"\n[disk]\nsize = \"4GiB\"\n[base]\nscratch = {scratch}\n"
        );
        parse(&Source { name: "r".into(), text }).map(drop).map_err(|told| told[0].message.clone())
    };
    for (mode, firmware, fits) in [
        ("legacy-bios", "bios", true),
        ("legacy-bios", "uefi", false),
        ("legacy-bios", "both", true),
        ("uefi", "bios", false),
        ("uefi", "uefi", true),
        ("uefi", "both", true),
        ("uefi-preferred", "bios", false),
        ("uefi-preferred", "uefi", false),
        ("uefi-preferred", "both", true),
    ] {
        let release = format!("{{ release = \"debian-12\", firmware = \"{firmware}\" }}");
        assert_eq!(with(mode, &release).is_ok(), fits, "{mode} on {firmware}");
        let own = format!("{{ bootstrap = \"b.sh\", boot_loader = false, firmware = \"{firmware}\" }}");
        assert_eq!(with(mode, &own), Ok(()), "whose boot loader is the script's affair");
    }
    let wrong = with("uefi", "{ release = \"debian-12\", firmware = \"bios\" }").unwrap_err();
    assert_eq!(wrong, "the boot mode is uefi, and the disk boots by a BIOS alone");
    // Which firmware is usual depends on the builder here: the plan judges it.
    assert_eq!(with("uefi-preferred", "\"debian-12\""), Ok(()));
}
