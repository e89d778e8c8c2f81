//! What sets a host up: for a first bake, for the tests, and as an instance that starts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{SECURE_PATH, builder, can, on_own_host, shipped};
use crate::support::bakery::Bakery;
use crate::support::host::run;

/// A program of the bakery's that stands in for another.
fn fake(bakery: &Bakery, name: &str, text: &str) {
    let fake = bakery.put(&format!("fakes/{name}"), text);
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Ubuntu has neither Debian's keys nor, where recommended packages are left out, gpg.
#[test]
fn the_host_is_set_up_with_all_that_makes_the_first_base() {
    if !can() {
        return;
    }
    let bakery = Bakery::new();
    let ran = on_own_host(
        &bakery,
        &format!("{SECURE_PATH}\n{}", shipped("scripts/setup-host").display()),
        &["dpkg-query", "apt-get", "cargo"],
    );
    ran.good();
    let calls = fs::read_to_string(bakery.path("calls")).unwrap();
    let install = calls.lines().find(|line| line.starts_with("apt-get -q install")).unwrap();
    for package in ["debian-archive-keyring", "gpg", "mmdebstrap", "mtools", "dosfstools"] {
        assert!(install.split(' ').any(|word| word == package), "{package}: {install}");
    }
}

/// With sudo the home is root's, where a toolchain of rustup's is not.
#[test]
fn a_user_with_sudo_runs_the_tests_with_a_toolchain_of_their_own() {
    if !can() {
        return;
    }
    let mut bakery = Bakery::new();
    let fakes = [
        ("id", "#!/bin/sh\nif [ \"$BY\" = sudo ]; then echo 0; else echo 1000; fi\n"),
        ("dpkg-query", "#!/bin/sh\nprintf installed\n"),
        ("rustc", "#!/bin/sh\n[ -d \"$HOME/.rustup\" ] && echo 'host: x86_64-unknown-linux-gnu'\n"),
        (
            "cargo",
            "#!/bin/sh\n[ -d \"$HOME/.rustup\" ] || { echo no toolchain >&2; exit 1; }\n\
             shift\nexec $CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER probe \"$@\"\n",
        ),
        (
            "sudo",
            "#!/bin/bash\nkept=()\nIFS=, read -ra names <<<\"${1#--preserve-env=}\"\nshift\n\
             for name in \"${names[@]}\"; do [ -z \"${!name+x}\" ] || kept+=(\"$name=${!name}\"); done\n\
             exec env -i HOME=/root BY=sudo \"${kept[@]}\" \"$@\"\n",
        ),
        ("probe", "#!/bin/sh\necho \"$BY $HOME $CI $RUSTUP_HOME $BAKEHOUSE_TEST_PYTHON $*\"\n"),
    ];
    for (name, text) in fakes {
        fake(&bakery, name, text);
    }
    bakery.put("home/.rustup/settings.toml", "");
    let venv = "cache/bakehouse/test-venv";
    bakery.put(
        &format!("{venv}/requirements.txt"),
        fs::read(shipped("tests/standin/requirements.txt")).unwrap(),
    );
    fs::create_dir(bakery.path(&format!("{venv}/bin"))).unwrap();
    std::os::unix::fs::symlink("/bin/true", bakery.path(&format!("{venv}/bin/python"))).unwrap();
    let (home, cache) = (bakery.path("home"), bakery.path("cache"));
    bakery.set("HOME", home.to_str()).set("XDG_CACHE_HOME", cache.to_str()).set("CI", Some("true"));
    let script = format!("{SECURE_PATH}\nunset RUSTUP_HOME\n{} --test it", shipped("scripts/test").display());
    let ran = on_own_host(&bakery, &script, &[]).good();
    let python = bakery.path(&format!("{venv}/bin/python"));
    let wanted =
        format!("sudo /root true {} {} --test it\n", home.join(".rustup").display(), python.display());
    assert_eq!(ran.out, wanted, "{}", ran.told());
}

/// Without `aws` its recipes would never come: that is told before there is half a builder.
#[test]
fn user_data_makes_a_builder_with_its_recipes_or_none_at_all() {
    if !can() {
        return;
    }
    let mut bakery = builder();
    bakery.set("PROGRAM", Some(env!("CARGO_BIN_EXE_bakehouse")));
    bakery.put("os-release", "ID=debian\n");
    let program = bakery.put("archive/bakehouse", "#!/bin/sh\nexec \"$PROGRAM\" \"$@\"\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let (archive, recipes) = (bakery.path("bakehouse.tar.gz"), bakery.path("recipes.tar.gz"));
    let (from, scripts) = (bakery.path("archive"), shipped(""));
    run(
        "tar",
        &[
            "-czf",
            archive.to_str().unwrap(),
            "-C",
            from.to_str().unwrap(),
            "bakehouse",
            "-C",
            scripts.to_str().unwrap(),
            "scripts",
        ],
    );
    run("tar", &["-czf", recipes.to_str().unwrap(), "-C", bakery.path("recipes").to_str().unwrap(), "."]);
    let sum = run("sha256sum", &[archive.to_str().unwrap()]);
    let text = fs::read_to_string(shipped("scripts/user-data")).unwrap();
    let text = text
        .replace(&"0".repeat(64), sum.split(' ').next().unwrap())
        .replace("\nRECIPES= ", "\nRECIPES=s3://bucket/recipes.tar.gz ");
    let user_data = bakery.put("user-data", text);
    // curl's file is its argument after --output, that of `aws s3 cp` its last.
    let copies = |from: &Path, pick: &str| {
        format!("#!/bin/bash\necho \"${{0##*/}} $*\" >>calls\n{pick}\ncp \"{}\" \"$to\"\n", from.display())
    };
    let curl = "while [ \"$1\" != --output ]; do shift; done; to=$2";
    fake(&bakery, "curl", &copies(&archive, curl));
    let script = format!(
        "mount --bind os-release \"$(readlink -f /etc/os-release)\"\n{SECURE_PATH}\nbash {}\n\
         ls /etc/bakehouse/recipes",
        user_data.display()
    );
    // Where this host has it, it is not found by the search path of the script's own.
    if !Path::new("/usr/bin/aws").exists() && !Path::new("/bin/aws").exists() {
        let ran = on_own_host(&bakery, &script, &["apt-get", "systemctl"]);
        assert_eq!(ran.status, Some(4), "{}", ran.told());
        assert!(ran.err.contains("has no aws") && ran.err.contains("RECIPES"), "{}", ran.told());
        assert!(!bakery.path("calls").exists(), "{}", fs::read_to_string(bakery.path("calls")).unwrap());
    }
    fake(&bakery, "aws", &copies(&recipes, "to=${!#}"));
    let ran = on_own_host(&bakery, &script, &["apt-get", "systemctl"]).good();
    assert!(ran.out.contains("10-base.toml") && ran.out.contains("20-web.toml"), "{}", ran.told());
    let calls = fs::read_to_string(bakery.path("calls")).unwrap();
    assert!(calls.contains("systemctl enable --now bakehouse-gc.timer bakehouse-window.timer"), "{calls}");
}
