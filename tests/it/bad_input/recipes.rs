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
