//! Recipes and command lines that are wrong: nothing is asked of a cloud, nothing needs root.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::bakery::Bakery;

const HEAD: &str = "[image]\nname = \"web\"\n[base]\nimage = \"x\"\n";

#[test]
fn recipes_are_refused_with_the_place_of_what_is_wrong() {
    let bakery = Bakery::new();
    let step = |text: &str| format!("{HEAD}[[step]]\n{text}").into_bytes();
    let cases: [(&str, Vec<u8>, &[&str]); 12] = [
        ("not TOML", b"[image\nname = 1".to_vec(), &["recipe.toml", "[image"]),
        ("not UTF-8", b"[image]\nname = \"w\xe9b\"\n".to_vec(), &["UTF-8", "line 2"]),
        ("empty", Vec::new(), &["[image]", "[base]"]),
        (
            "unknown key",
            b"[image]\nname = \"web\"\nnmae = 1\n[base]\nimage = \"x\"\n".to_vec(),
            &["nmae", "name"],
        ),
        ("unknown table", format!("{HEAD}[[steps]]\nuse = \"apt\"\n").into_bytes(), &["steps", "step"]),
        ("unknown provisioner", step("use = \"atp\"\n"), &["atp", "apt"]),
        ("unknown parameter", step("use = \"apt\"\ninstal = [\"x\"]\n"), &["instal", "install"]),
        ("wrong type", step("use = \"apt\"\ninstall = 3\n"), &["install = 3"]),
        ("path outside", step("use = \"script\"\nscript = \"../setup.sh\"\n"), &["outside", "../setup.sh"]),
        ("missing file", step("use = \"script\"\nscript = \"setup.sh\"\n"), &["setup.sh"]),
        (
            "climbing out of the image",
            step("use = \"files\"\ncopy = [{ from = \"recipe.toml\", to = \"/srv/../../etc\" }]\n"),
            &["/srv/../../etc"],
        ),
        ("unknown word", HEAD.replace("web", "web-{versoin}").into_bytes(), &["versoin", "version"]),
    ];
    for (name, recipe, words) in cases {
        bakery.put("recipe.toml", recipe);
        for verb in ["validate", "bake"] {
            eprintln!("{name}: {verb}");
            let ran = bakery.bakehouse(&[verb, "recipe.toml"]).refused(3, words);
            assert!(ran.err.contains("recipe.toml"), "{}", ran.told());
        }
    }
    let all = "[image]\nnam = 1\n[base]\nami = \"x\"\nname = \"y\"\n[[step]]\nuse = \"atp\"\n";
    bakery.put("recipe.toml", all);
    bakery.bakehouse(&["validate", "recipe.toml"]).refused(3, &["nam", "ami", "atp"]);

    bakery.bakehouse(&["bake", "gone.toml"]).refused(3, &["gone.toml", "No such file"]);
    std::fs::create_dir(bakery.path("folder.toml")).unwrap();
    bakery.bakehouse(&["bake", "folder.toml"]).refused(3, &["folder.toml is a folder"]);
    assert!(!bakery.path("state").exists() && !bakery.path("store").exists());
}

/// Everything that the recipe's own text shows, in one go, each with its line underlined.
#[test]
fn what_no_package_manager_and_no_system_could_do_is_told_at_once() {
    let bakery = Bakery::new();
    let wrong = [
        ("[[step]]\nuse = \"apt\"\nsnapshot = ", "\"2026-11-01\""),
        ("refresh = ", "\"newer\""),
        ("debconf = [", "\"x\"]"),
        ("pins = [{ package = \"x\", priority = 1, pin = ", "\"relase n=x\" }]"),
        (
            "repositories = [{ suites = [\"./\"], signed_by = \"/k\", uris = [\"https://h/\"], name = ",
            "\"a b\" }]",
        ),
        ("install = [", "\"nginx>=1\"]"),
        ("[[step]]\nuse = \"dnf\"\nreleasever = ", "\"9 4\""),
        ("repositories = [", "{ name = \"x\", gpgcheck = false }]"),
        ("install = [", "\"nginx=\"]"),
        ("[[step]]\nuse = \"system\"\nhostname = ", "\"a b\""),
        ("timezone = ", "\"../x\""),
        ("kernel_arguments = [", "\"$(reboot)\"]"),
        ("users = [{ name = ", "\"-x\" }]"),
        ("groups = [{ name = ", "\"a b\" }]"),
        ("sysctl = { ", "\"a b\" = \"1\" }"),
        ("enable = [\"x\"]\nmask = [", "\"x\"]"),
    ];
    let steps: String = wrong.iter().map(|(before, rest)| format!("{before}{rest}\n")).collect();
    let text = format!("{HEAD}{steps}");
    bakery.put("recipe.toml", &text);
    for verb in ["validate", "bake"] {
        let ran = bakery.bakehouse(&[verb, "recipe.toml"]).refused(3, &["16 things are wrong"]);
        // Where each stands is in the failure's document too.
        let ran_json = bakery.bakehouse(&[verb, "recipe.toml", "--output", "json"]);
        let document: serde_json::Value = serde_json::from_str(&ran_json.out).unwrap();
        let told = document["error"]["complaints"].as_array().unwrap_or_else(|| panic!("{document}")).clone();
        assert_eq!(told.len(), wrong.len(), "{document}");
        let mut at = HEAD.len();
        for ((before, rest), told) in wrong.iter().zip(told) {
            at += before.len();
            let line = text[..at].lines().count() as u64;
            let column = text[..at].lines().last().unwrap().chars().count() as u64 + 1;
            assert_eq!(
                (told["line"].as_u64(), told["column"].as_u64()),
                (Some(line), Some(column)),
                "{told}"
            );
            let written = text.lines().nth(line as usize - 1).unwrap();
            assert!(ran.err.contains(written), "{written}\n{}", ran.told());
            at += rest.len() + 1;
        }
    }
    assert!(!bakery.path("state").exists() && !bakery.path("store").exists());
}

#[test]
fn a_recipe_that_may_not_be_read_is_refused() {
    if crate::support::skipped(crate::support::not_root()) || !crate::support::host::has(&["setpriv"]) {
        return;
    }
    let bakery = Bakery::new();
    let recipe = bakery.put("recipe.toml", HEAD);
    std::fs::set_permissions(recipe, std::fs::Permissions::from_mode(0o600)).unwrap();
    super::hosts::as_nobody(&bakery, &["validate", "recipe.toml"])
        .refused(3, &["recipe.toml", "Permission denied"]);
}

#[test]
fn command_lines_are_refused() {
    let bakery = Bakery::new();
    bakery.put("recipe.toml", HEAD);
    let ours: [(&[&str], &[&str]); 9] = [
        (&["bake"], &["bake RECIPE.toml", "--base"]),
        (&["bake", "a.toml", "b.toml"], &["one recipe"]),
        (&["bake", "--base", "x", "recipe.toml", "nginx"], &["one recipe"]),
        (&["bake", "nginx"], &["--base"]),
        (&["bake", "recipe.toml", "--tag", "x"], &["--tag x", "KEY=VALUE"]),
        (&["bake", "recipe.toml", "--tag", "aws:x=1"], &["aws:"]),
        (&["bake", "recipe.toml", "--size", "huge"], &["--size huge"]),
        (&["bake", "--resume", "nonsense"], &["nonsense", "bake-"]),
        (
            &["local", "create-base", "debian-12", "--size", "18446744073709551615B"],
            &["18446744073709551615B", "too large"],
        ),
    ];
    for (arguments, words) in ours {
        eprintln!("{arguments:?}");
        bakery.bakehouse(arguments).refused(2, words);
    }
    let claps: [&[&str]; 5] = [
        &[],
        &["bkae"],
        &["bake", "--bsae", "x"],
        &["bake", "recipe.toml", "--cloud", "gcp"],
        &["bake", "recipe.toml", "--partition", "one"],
    ];
    for arguments in claps {
        let ran = bakery.bakehouse(arguments);
        assert_eq!(ran.status, Some(2), "{}", ran.told());
        assert!(ran.out.is_empty() && ran.err.contains("--help"), "{}", ran.told());
    }
}

/// As the same keys of a recipe, and before a cloud is asked for anything: here there is no base to be found.
#[test]
fn flags_are_checked_as_the_keys_of_a_recipe_are() {
    let bakery = Bakery::new();
    bakery.put("recipe.toml", HEAD);
    let cases: [(&[&str], &[&str]); 11] = [
        (&["--volume-type", "gp4"], &["--volume-type gp4: unknown volume type `gp4`", "gp3"]),
        (&["--volume-type", "st1"], &["--volume-type st1", "boots from no st1"]),
        (&["--iops", "5"], &["--iops 5: `iops` of gp3 is 3000 to 80000"]),
        (
            &["--volume-type", "gp2", "--iops", "4000"],
            &["--volume-type gp2 --iops 4000: gp2 takes no `iops`"],
        ),
        (&["--throughput", "2000"], &["--throughput 2000: ", "a quarter of `iops`", "iops = 8000"]),
        (&["--volume-type", "io2"], &["--volume-type io2: a volume of type io2 needs `iops`"]),
        (&["--name", "x{versio}"], &["--name x{versio}: unknown placeholder", "did you mean {version}?"]),
        (&["--description", "{foo"], &["--description {foo: a `{` that is not closed", "{{ for a brace"]),
        (&["--tag", "a={foo"], &["--tag a={foo: a `{` that is not closed", "{{ for a brace"]),
        (&["--image-tag", "a=b}"], &["--image-tag a=b}: a `}` that closes nothing", "}} for a brace"]),
        (&["--name", "x{var:gone}"], &["--name x{var:gone}", "[vars]"]),
    ];
    for (flags, words) in cases {
        for more in [&[][..], &["--dry-run"]] {
            eprintln!("{flags:?} {more:?}");
            let ran = bakery.bakehouse(&[&["bake", "recipe.toml"], flags, more].concat()).refused(2, words);
            assert!(!ran.err.contains("resolve"), "{}", ran.told());
        }
    }
    assert!(!bakery.path("state").exists() && !bakery.path("store").exists());
}

/// What cannot be named by a flag or a key there is not told to be.
#[test]
fn an_image_that_is_not_there_is_told_with_what_to_do() {
    let bakery = Bakery::new();
    for arguments in [&["local", "boot", "gone"][..], &["local", "export", "gone", "x.raw"]] {
        let ran = bakery.bakehouse(arguments).refused(5, &["no image gone", "create-base", "local import"]);
        assert!(!ran.err.contains("--base") && !ran.err.contains("image ="), "{}", ran.told());
    }
    for (file, why) in
        [("gone.raw", "No such file"), ("folder", "it is a folder"), ("empty.raw", "it is empty")]
    {
        std::fs::create_dir_all(bakery.path("folder")).unwrap();
        bakery.put("empty.raw", "");
        let path = bakery.path(file);
        let path = path.to_str().unwrap();
        let words = [path, why, "name the file of a disk image"];
        bakery.bakehouse(&["local", "import", path, "--name", "x"]).refused(5, &words);
    }
}

#[test]
fn standard_output_that_takes_nothing_is_a_failure_and_no_panic() {
    if !crate::support::host::has(&["sh"]) {
        return;
    }
    let bakery = Bakery::new();
    bakery.put("recipe.toml", HEAD);
    let recipe = format!("{HEAD}[[step]]\nuse = \"script\"\nrun = [\"true\"]\n");
    bakery.put("recipe.toml", recipe);
    for (to, words) in [(">&-", "standard output is closed"), ("> /dev/full", "No space left on device")] {
        let through = format!("exec \"$@\" {to}");
        let cases: [&[&str]; 2] = [&["validate", "recipe.toml"], &["images", "--output", "json"]];
        for arguments in cases {
            let ran = crate::support::bakery::Ran::of(
                &mut bakery.command(&["sh", "-c", &through, "sh"], arguments),
            );
            let status = if to == ">&-" { 2 } else { 1 };
            ran.refused(status, &[words]);
        }
        for arguments in [["--help"], ["--version"]] {
            let ran = crate::support::bakery::Ran::of(
                &mut bakery.command(&["sh", "-c", &through, "sh"], &arguments),
            );
            assert!(ran.status.is_some_and(|status| status != 0), "{}", ran.told());
            assert!(!ran.err.contains("panicked"), "{}", ran.told());
        }
    }
}
