//! Hooks: programs of the builder, run on it at four points of a bake.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::small::can_bake;
use crate::support::bakery::{Bakery, Ran, small_disk};

const RECIPE: &str = r#"
[image]
name = "hooked-{time}"
[base]
image = "small"
[[step]]
use = "script"
script = "setup.sh"
"#;

/// A hook at every point, each with the same script.
fn all(script: &str) -> String {
    let points = ["before-mount", "after-mount", "before-close", "after-image"];
    let hooks = points.map(|at| format!("[[hook]]\nat = \"{at}\"\nname = \"the {at}\"\nscript = \"{script}\"\nargs = [\"a b\"]\nenv = {{ OUT = \"OUTPUT\" }}\n"));
    hooks.concat()
}

fn bakery() -> Bakery {
    let bakery = Bakery::new();
    let disk = small_disk();
    bakery.base("small", disk.path());
    bakery.put("setup.sh", "#!/bin/sh\nset -e\n[ ! -e /mnt-of-hook/x ]\necho baked > /srv/mark\n");
    bakery
}

/// Puts a program there.
fn program(bakery: &Bakery, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = bakery.put(name, text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// `NAME=VALUE` lines of a file.
fn environment(path: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Whether a process was started with this word among its arguments.
pub fn runs(word: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.into_iter().any(|line| line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes()))
}

/// Waits until something is so.
pub fn until(what: &str, met: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !met() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Each is told what there is of the bake; what they start and mount goes with them; what they write into the
/// root is in the image.
const TELL: &str = r#"#!/bin/sh
set -e
env > "$OUT/$BAKEHOUSE_HOOK"
echo "says $BAKEHOUSE_HOOK $1, in $PWD"
case $BAKEHOUSE_HOOK in
    before-mount)
        [ -b "$BAKEHOUSE_DEVICE" ] && [ -z "$BAKEHOUSE_ROOT" ]
        ls "$BAKEHOUSE_DEVICE"p1 > "$OUT/partition"
        # Nothing of the disk is mounted, here or elsewhere.
        ! grep -q "^$BAKEHOUSE_DEVICE[p ]" /proc/self/mounts
        mkdir "$OUT/mnt" && mount "$BAKEHOUSE_DEVICE"p1 "$OUT/mnt"
        [ -d "$OUT/mnt/etc" ] ;;
    after-mount)
        [ ! -e "$BAKEHOUSE_ROOT/srv/mark" ]
        echo hooked > "$BAKEHOUSE_ROOT/srv/hooked"
        mkdir "$BAKEHOUSE_ROOT/mnt-of-hook"
        mount -t tmpfs none "$BAKEHOUSE_ROOT/mnt-of-hook"
        echo x > "$BAKEHOUSE_ROOT/mnt-of-hook/x"
        cd "$BAKEHOUSE_ROOT/srv"
        setsid sleep 3137.25 > /dev/null 2>&1 &
        sleep 3137.25 & ;;
    before-close)
        [ -e "$BAKEHOUSE_ROOT/srv/mark" ] && [ ! -e "$BAKEHOUSE_ROOT/mnt-of-hook/x" ]
        mount --bind /etc "$BAKEHOUSE_ROOT/srv"
        cd "$BAKEHOUSE_ROOT/srv"
        nohup sleep 3137.25 > /dev/null 2>&1 & ;;
    after-image)
        [ -n "$BAKEHOUSE_IMAGE" ] && [ -n "$BAKEHOUSE_SNAPSHOT" ] && [ -s "$BAKEHOUSE_MANIFEST" ] ;;
esac
"#;

#[test]
fn hooks_run_on_the_builder_at_their_points() {
    if !can_bake() {
        return;
    }
    let mut bakery = bakery();
    let out = tempfile::tempdir().unwrap();
    program(&bakery, "tell.sh", TELL);
    bakery.set("OF_THE_BUILDER", Some("kept"));
    let recipe = RECIPE.to_owned() + &all("tell.sh").replace("OUTPUT", out.path().to_str().unwrap());

    let described = bakery.bake(&recipe, &["--dry-run"]).good().out;
    for line in ["before-mount: the before-mount runs /", "tell.sh a b on the builder; at most 600 s"] {
        assert!(described.contains(line), "{line}: {described}");
    }
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "a dry run runs no hook");

    let ran = bakery.bake(&recipe, &[]);
    let told = ran.told();
    let image = ran.id();
    assert!(!runs("3137.25"), "what a hook starts ends with it");
    let all = ["before-mount", "after-mount", "before-close", "after-image"].map(|at| {
        assert!(
            told.contains(format!("says {at} a b, in {}", bakery.path("").display()).trim_end_matches('/')),
            "{at}: {told}"
        );
        let took = format!("hook \"the {at}\" took ");
        let said = told.split_once(&took).unwrap_or_else(|| panic!("{at}: {told}")).1;
        assert!(said.starts_with(|first: char| first.is_ascii_digit()), "{at}: {told}");
        environment(&out.path().join(at))
    });
    let record = bakery.store().image(&image).unwrap();
    for about in &all {
        assert_eq!(
            (about["OF_THE_BUILDER"].as_str(), about["BAKEHOUSE_BASE_NAME"].as_str()),
            ("kept", "small")
        );
        assert_eq!(about["BAKEHOUSE_IMAGE_NAME"], record.name);
        assert!(about["BAKEHOUSE_BAKE"].starts_with("bake-"));
    }
    let [before, mounted, closing, after] = &all;
    assert_eq!(
        (&before["BAKEHOUSE_DEVICE"], &before["BAKEHOUSE_DEVICE"]),
        (&mounted["BAKEHOUSE_DEVICE"], &closing["BAKEHOUSE_DEVICE"])
    );
    assert_eq!(mounted["BAKEHOUSE_ROOT"], closing["BAKEHOUSE_ROOT"]);
    assert_eq!(after["BAKEHOUSE_IMAGE"], image);
    assert_eq!(after["BAKEHOUSE_SNAPSHOT"], record.snapshot);
    assert!(!after.contains_key("BAKEHOUSE_ROOT"));
    bakery.look(&image, 1, "ext4", |root| {
        assert_eq!(fs::read_to_string(root.join("srv/hooked")).unwrap(), "hooked\n");
        assert_eq!(fs::read_to_string(root.join("srv/mark")).unwrap(), "baked\n");
        assert_eq!(fs::read_dir(root.join("mnt-of-hook")).unwrap().count(), 0, "a hook's mounts are its own");
    });
    bakery.assert_nothing_left();
}

#[test]
fn a_hook_that_fails_fails_the_bake_and_after_the_image_leaves_it() {
    if !can_bake() {
        return;
    }
    let bakery = bakery();
    program(&bakery, "fail.sh", "#!/bin/sh\necho \"not so: $BAKEHOUSE_HOOK\"\nexit 3\n");
    let hook = |at: &str, what: &str| format!("{RECIPE}[[hook]]\nat = \"{at}\"\n{what}\n");
    for at in ["before-mount", "after-mount", "before-close"] {
        let ran = bakery.bake(&hook(at, "script = \"fail.sh\""), &[]);
        ran.refused(9, &["hook \"fail.sh\"", &format!("| not so: {at}"), "exit status 3"]);
        bakery.assert_nothing_left();
    }
    // Of another name than those that are about to fail: two may be baked in one second.
    let ran = bakery.bake(&hook("after-image", "script = \"fail.sh\""), &["--name", "stands"]);
    assert_eq!(ran.status, Some(13), "{}", ran.told());
    let image = ran.out.trim_end();
    assert!(bakery.store().image(image).is_ok() && ran.err.contains("not so: after-image"), "{}", ran.told());
    assert!(
        ran.err.contains(&format!("the image {image} is good, but a hook after it failed")),
        "{}",
        ran.told()
    );

    bakery.put("plain.sh", "#!/bin/sh\n");
    bakery
        .bake(&hook("before-mount", "script = \"plain.sh\""), &[])
        .refused(9, &["not executable", "chmod +x"]);
    bakery.bake(&hook("before-mount", "run = [\"no-such-program\"]"), &[]).refused(4, &["no-such-program"]);
    bakery.bake(&hook("before-mount", "script = \"none.sh\""), &[]).refused(3, &["none.sh"]);
    bakery
        .bake(&hook("before-mout", "script = \"fail.sh\""), &[])
        .refused(3, &["did you mean `before-mount`"]);
    let late = hook("before-close", "run = [\"sleep\", \"3137.75\"]\ntimeout = \"1s\"");
    bakery.bake(&late, &[]).refused(9, &["was not done after 1 s", "sleep 3137.75"]);
    assert!(!runs("3137.75"));
    bakery.assert_nothing_left();
}

#[test]
fn a_signal_ends_a_hook_with_all_that_it_started() {
    if !can_bake() {
        return;
    }
    let bakery = bakery();
    let script = "#!/bin/sh\nsetsid sleep 3138.5 &\nsleep 3138.5 &\ncd \"$BAKEHOUSE_ROOT\" && mount -t tmpfs none srv && wait\n";
    program(&bakery, "wait.sh", script);
    for (at, signal, status) in [
        ("after-mount", Signal::SIGTERM, Some(143)),
        ("before-close", Signal::SIGINT, Some(130)),
        ("after-mount", Signal::SIGKILL, None),
    ] {
        bakery.put("recipe.toml", format!("{RECIPE}[[hook]]\nat = \"{at}\"\nscript = \"wait.sh\"\n"));
        let mut command = bakery.command(&[], &["bake", "recipe.toml"]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let child = command.spawn().unwrap();
        until("the hook began", || runs("3138.5"));
        // The command itself, not the program that limits its time.
        let own = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
        kill(Pid::from_raw(own.trim().parse().unwrap()), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), status, "{at}: {}", String::from_utf8_lossy(&output.stderr));
        until("the hook is over", || !runs("3138.5"));
        if signal == Signal::SIGKILL {
            Ran::of(&mut bakery.command(&[], &["gc", "--yes"])).good();
            bakery.until_nothing_is_held();
        }
        bakery.assert_nothing_left();
    }
}
