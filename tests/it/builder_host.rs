//! What is shipped for a dedicated builder: installation, the maintenance window, the SSM document, CI examples.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::bakery::{Bakery, Ran, small_disk};
use crate::support::host::{has, run};
use crate::support::standin::python;

mod setup;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A YAML file, as JSON.
fn yaml(name: &str) -> Value {
    let load = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let output = Command::new(python()).args(["-c", load]).arg(shipped(name)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A builder with a base and a recipe; `web.toml` has steps that bring nothing.
fn builder() -> Bakery {
    let bakery = Bakery::new();
    let disk = small_disk();
    bakery.base("foundation", disk.path());
    bakery.put("page.html", "hello\n");
    for (name, base, image) in [("10-base", "foundation", "base-{time}"), ("20-web", "base-*", "web-{time}")]
    {
        bakery.put(
            &format!("recipes/{name}.toml"),
            format!(
                "[image]\nname = \"{image}\"\non_collision = \"suffix\"\n[base]\nname = \"{base}\"\n[[step]]\nuse = \"files\"\n\
                 copy = [{{ from = \"page.html\", to = \"/srv/{name}\" }}]\n"
            ),
        );
        bakery.put("recipes/page.html", "hello\n");
    }
    bakery
}

/// Runs a script with the command installed, in a mount namespace where /etc and /usr/local are the test's own, and
/// the programs of `fakes` write down how they were called.
fn on_own_host(bakery: &Bakery, script: &str, fakes: &[&str]) -> Ran {
    for name in fakes {
        let fake = bakery.put(
            &format!("fakes/{name}"),
            format!("#!/bin/sh\necho {name} \"$@\" >> \"{}\"\n", bakery.path("calls").display()),
        );
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let layer = bakery.path("layer");
    fs::create_dir_all(&layer).unwrap();
    let around = format!(
        "set -eu\nmount -t tmpfs tmpfs {layer}\nfor of in etc usr/local; do\n\
         mkdir -p {layer}/$of/up {layer}/$of/work\n\
         mount -t overlay overlay -o lowerdir=/$of,upperdir={layer}/$of/up,workdir={layer}/$of/work /$of\ndone\n\
         PATH={fakes}:$PATH\ncd {folder}\n{script}\n",
        layer = layer.display(),
        fakes = bakery.path("fakes").display(),
        folder = bakery.path("").display(),
    );
    Ran::of(&mut bakery.program(&["unshare", "--mount", "--propagation", "private", "sh", "-c", &around]))
}

/// The search path that sudo sets where it sets one, and before it the programs that stand in for others.
const SECURE_PATH: &str = "PATH=$PWD/fakes:/usr/sbin:/usr/bin:/sbin:/bin";

const INSTALL: &str = "install -m 0755 \"$PROGRAM\" /usr/local/bin/bakehouse\n";

fn can() -> bool {
    has(&["unshare", "mount", "bash", "sfdisk", "mkfs.ext4", "timeout", "flock"])
}

#[test]
fn the_scripts_are_well_formed() {
    if !has(&["bash"]) {
        return;
    }
    for name in ["install", "bake-window", "user-data", "setup-host", "test", "quickstart"] {
        let script = shipped("scripts").join(name);
        run("bash", &["-n", script.to_str().unwrap()]);
        assert_ne!(fs::metadata(&script).unwrap().permissions().mode() & 0o111, 0, "{name}");
    }
}

#[test]
fn installing_makes_a_builder_of_each_distribution() {
    if !can() {
        return;
    }
    let tools = ["apt-get", "dnf", "systemctl"];
    // Without its keys and gpg no Debian is made on Ubuntu; without the others the default firmware is not.
    let deb = ["debian-archive-keyring", "gpg", "mmdebstrap", "dosfstools", "mtools", "lvm2"];
    let rpm = ["dosfstools", "mtools", "lvm2"];
    for (release, manager, packages) in [
        ("ID=debian\n", "apt-get -q install -y --no-install-recommends e2fsprogs", &deb[..]),
        ("ID=ubuntu\nID_LIKE=debian\n", "apt-get -q install -y --no-install-recommends e2fsprogs", &deb[..]),
        (
            "ID=\"amzn\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"2023\"\n",
            "dnf -q install -y e2fsprogs xfsprogs",
            &rpm[..],
        ),
    ] {
        let mut bakery = Bakery::new();
        bakery.put("os-release", release);
        bakery.set("PROGRAM", Some(env!("CARGO_BIN_EXE_bakehouse")));
        let install = shipped("scripts/install");
        // As sudo of the RHEL family has it, which does not look into /usr/local/bin.
        let script = format!(
            "mount --bind os-release \"$(readlink -f /etc/os-release)\"\n{SECURE_PATH}\n\
             {install} --program \"$PROGRAM\" --window\n{install} --program \"$PROGRAM\" --window\n\
             /usr/local/bin/bakehouse --version\nls /etc/systemd/system /etc/bakehouse",
            install = install.display()
        );
        let ran = on_own_host(&bakery, &script, &tools).good();
        for word in
            ["bakehouse-gc.timer", "bakehouse-window.service", "window.conf", "recipes", "bakehouse 0"]
        {
            assert!(ran.out.contains(word), "{word}: {}", ran.told());
        }
        let calls = fs::read_to_string(bakery.path("calls")).unwrap();
        assert!(calls.contains(manager), "{calls}");
        let installed: Vec<_> =
            calls.lines().filter(|line| line.contains(" install ")).flat_map(str::split_whitespace).collect();
        for package in packages {
            assert!(installed.contains(package), "{package}: {calls}");
        }
        assert!(ran.err.contains("hardware virtualization"), "doctor ran: {}", ran.told());
        assert!(
            calls.contains("systemctl enable --now bakehouse-gc.timer bakehouse-window.timer"),
            "{calls}"
        );
    }
    let mut bakery = Bakery::new();
    bakery.put("os-release", "ID=plan9\n");
    bakery.set("PROGRAM", Some(env!("CARGO_BIN_EXE_bakehouse")));
    let script = format!(
        "mount --bind os-release \"$(readlink -f /etc/os-release)\"\n{} --program \"$PROGRAM\"",
        shipped("scripts/install").display()
    );
    let ran = on_own_host(&bakery, &script, &tools);
    assert_eq!(ran.status, Some(4), "{}", ran.told());
    assert!(ran.err.contains("plan9") && ran.err.contains("bakehouse doctor"), "{}", ran.told());
}

#[test]
fn the_windows_unit_is_well_formed() {
    if !has(&["systemd-analyze", "unshare", "mount"]) {
        return;
    }
    let mut bakery = Bakery::new();
    bakery.set("PROGRAM", Some(env!("CARGO_BIN_EXE_bakehouse")));
    let units = "/etc/systemd/system/bakehouse-window.service /etc/systemd/system/bakehouse-window.timer";
    let script = format!(
        "{} --program \"$PROGRAM\" --window\nsystemd-analyze verify {units} 2>&1 || true\nls {units}",
        shipped("scripts/install").display()
    );
    let ran = on_own_host(&bakery, &script, &["apt-get", "dnf", "systemctl"]).good();
    let ours: Vec<_> = ran.out.lines().filter(|line| line.contains("bakehouse-window")).collect();
    assert_eq!(ours, units.split(' ').collect::<Vec<_>>(), "{}", ran.told());

    // It ends by itself, and not before all that its last bake may wait for has had its time.
    let value = |file: &str, key: &str| -> u64 {
        let text = fs::read_to_string(shipped("scripts/systemd").join(file)).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
        value.trim_end_matches('h').parse().unwrap()
    };
    let hours = value("bakehouse-window.service", "TimeoutStartSec=");
    assert!(hours * 3600 > value("window.conf", "WINDOW=") + 8 * 3600, "{hours}");
}

#[test]
fn a_window_bakes_layer_upon_layer_and_tells_what_failed() {
    if !can() {
        return;
    }
    let mut bakery = builder();
    bakery.put("recipes/15-broken.toml", "[image]\nname = 3\n");
    bakery.set("BAKEHOUSE", Some(env!("CARGO_BIN_EXE_bakehouse"))).set("PRUNE", Some("no"));
    let results = bakery.path("results");
    bakery.set("RESULTS", results.to_str());
    let window = shipped("scripts/bake-window");
    let (window, recipes) = (window.to_str().unwrap(), bakery.path("recipes"));
    let ran = Ran::of(&mut bakery.program(&[window, recipes.to_str().unwrap()]));
    assert_eq!(ran.status, Some(1), "{}", ran.told());
    let told: BTreeMap<_, _> = ran.out.lines().filter_map(|line| line.split_once(": ")).collect();
    assert_eq!(told["15-broken"], "failed with exit status 3");
    let base = bakery.store().image(told["10-base"]).unwrap();
    let web = bakery.store().image(told["20-web"]).unwrap();
    assert!(base.name.starts_with("base-") && web.name.starts_with("web-"), "{}", ran.told());
    let result: Value = serde_json::from_slice(&fs::read(results.join("20-web.json")).unwrap()).unwrap();
    assert_eq!(result["base"], base.id.as_str());

    // Recipes that never came are a failure of the window's, not a window in which all went well.
    let none = bakery.path("none");
    fs::create_dir(&none).unwrap();
    let ran = Ran::of(&mut bakery.program(&[window, none.to_str().unwrap()]));
    assert_eq!(ran.status, Some(3), "{}", ran.told());
    assert!(ran.err.contains("there is no recipe in ") && ran.out.is_empty(), "{}", ran.told());

    // Outside its time nothing is begun; with an image's name taken, the next window fails and says so.
    let late = Ran::of(bakery.program(&[window, recipes.to_str().unwrap()]).env("WINDOW", "0"));
    assert_eq!(late.status, Some(1), "{}", late.told());
    assert_eq!(late.out.matches("not begun").count(), 3, "{}", late.told());
    bakery.assert_nothing_left();
}

/// systemd ends the window's script alone: the bake has to hear of it, and its undoing to be waited for.
#[test]
fn a_window_that_is_stopped_lets_its_bake_undo_what_it_made_and_begins_nothing_further() {
    use std::io::{BufRead as _, BufReader};
    if !has(&["bash", "flock"]) {
        return;
    }
    let bakery = Bakery::new();
    let calls = bakery.path("calls");
    let stand_in = bakery.put(
        "stand-in",
        "#!/bin/bash\necho \"$1 ${2##*/}\" >>\"$CALLS\"\n[ \"$1\" = bake ] || exit 0\n\
         trap 'sleep 0.3; echo undone >>\"$CALLS\"; exit 143' TERM\necho begun >&2\n\
         for _ in {1..200}; do sleep 0.1; done\n",
    );
    fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["a.toml", "b.toml"] {
        bakery.put(&format!("recipes/{name}"), "");
    }
    let mut window = std::process::Command::new(shipped("scripts/bake-window"))
        .arg(bakery.path("recipes"))
        .envs([("BAKEHOUSE", &stand_in), ("CALLS", &calls), ("RESULTS", &bakery.path("results"))])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(window.stderr.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap() == "begun"));
    let id = nix::unistd::Pid::from_raw(window.id().try_into().unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(window.wait().unwrap().code(), Some(143));
    assert_eq!(fs::read_to_string(calls).unwrap(), "bake a.toml\nundone\n");
}

/// What a signal meets of the window's script at its two most delicate moments, brought about by what bash reads first:
/// the bake has ended when the script looks whether it runs, and the bake was started and the script does not know its
/// number yet.
#[test]
fn a_window_knows_what_its_bake_came_to_whenever_it_is_stopped() {
    if !has(&["bash", "flock", "mkfifo"]) {
        return;
    }
    let ends_in_trap = "kill() {\nbuiltin kill \"$@\" || return\n\
         if [ \"$1\" = -TERM ]; then while builtin kill -0 \"$2\" 2>/dev/null; do :; done; fi\n}\n\
         { read -r _ <\"$READY\"; builtin kill -TERM $$; } &\n";
    let before_its_number = "set -T\ntrap 'if [ \"$BASH_COMMAND\" = \"child=\\$!\" ]; then \
         read -r _ <\"$READY\"; builtin kill -TERM $$; fi' DEBUG\n";
    for first in [ends_in_trap, before_its_number] {
        let bakery = Bakery::new();
        let (calls, ready) = (bakery.path("calls"), bakery.path("ready"));
        run("mkfifo", &[ready.to_str().unwrap()]);
        // With -p it does not read the same.
        let stand_in = bakery.put(
            "stand-in",
            "#!/bin/bash -p\necho \"$1 ${2##*/}\" >>\"$CALLS\"\n[ \"$1\" = bake ] || exit 0\n\
             trap 'echo \"  \\\"image\\\": \\\"ami-1\\\",\"; exit 13' TERM\necho begun >\"$READY\"\n\
             for _ in {1..200}; do sleep 0.1; done\n",
        );
        fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["a.toml", "b.toml"] {
            bakery.put(&format!("recipes/{name}"), "");
        }
        let ended = Command::new(shipped("scripts/bake-window"))
            .arg(bakery.path("recipes"))
            .envs([("BAKEHOUSE", &stand_in), ("CALLS", &calls), ("RESULTS", &bakery.path("results"))])
            .envs([("READY", &ready), ("BASH_ENV", &bakery.put("first", first))])
            .output()
            .unwrap();
        let told = format!("{first}{ended:?}");
        assert_eq!(ended.status.code(), Some(143), "{told}");
        assert_eq!(String::from_utf8_lossy(&ended.stdout), "a: ami-1 (exit status 13)\n", "{told}");
        assert_eq!(fs::read_to_string(calls).unwrap(), "bake a.toml\n", "{told}");
    }
}

#[test]
fn a_builder_can_be_installed_into_a_root_of_its_own() {
    if !has(&["bash", "install", "systemctl"]) {
        return;
    }
    let bakery = Bakery::new();
    let root = bakery.path("root");
    let install = shipped("scripts/install");
    let words = [install.to_str().unwrap(), "--program", env!("CARGO_BIN_EXE_bakehouse"), "--root"];
    Ran::of(&mut bakery.program(&[&words, [root.to_str().unwrap()].as_slice()].concat())).good();
    let mode = |name: &str| fs::metadata(root.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("usr/local/bin/bakehouse"), 0o755);
    assert_eq!(mode("etc/systemd/system/bakehouse-gc.timer"), 0o644);
    assert_eq!(mode("usr/local/share/man/man1/bakehouse-bake.1"), 0o644);
    let completions = root.join("usr/local/share/bash-completion/completions/bakehouse");
    assert!(fs::read_to_string(completions).unwrap().contains("complete -F _bakehouse"));
    assert!(!root.join("etc/systemd/system/bakehouse-window.timer").exists());
    // Whatever boots from it sweeps.
    let wanted = root.join("etc/systemd/system/timers.target.wants");
    let enabled = |unit: &str| fs::symlink_metadata(wanted.join(unit)).is_ok_and(|link| link.is_symlink());
    assert!(enabled("bakehouse-gc.timer") && !enabled("bakehouse-window.timer"));
    let window = [&words, [root.to_str().unwrap(), "--window"].as_slice()].concat();
    Ran::of(&mut bakery.program(&window)).good();
    assert!(enabled("bakehouse-gc.timer") && enabled("bakehouse-window.timer"));
    let ran = Ran::of(&mut bakery.program(&[install.to_str().unwrap(), "--nonsense"]));
    assert_eq!(ran.status, Some(2), "{}", ran.told());
    assert!(ran.err.contains("unknown argument --nonsense"), "{}", ran.told());
}

/// The commands of the document's bake step, its parameters filled in as Systems Manager fills them in.
fn commands(document: &Value, given: &[(&str, &str)]) -> String {
    let steps = document["mainSteps"].as_array().unwrap();
    let bake = steps.iter().find(|step| step["name"] == "bake").unwrap();
    assert_eq!(bake["action"], "aws:runCommand");
    let lines = bake["inputs"]["Parameters"]["commands"].as_array().unwrap();
    let text: Vec<_> = lines.iter().map(|line| line.as_str().unwrap()).collect();
    given
        .iter()
        .fold(text.join("\n"), |text, (name, value)| text.replace(&format!("{{{{ {name} }}}}"), value))
}

#[test]
fn the_ssm_document_bakes_in_one_step() {
    if !can() {
        return;
    }
    let document = yaml("scripts/ssm-automation.yaml");
    assert_eq!(document["schemaVersion"], "0.3");
    for (name, about) in document["parameters"].as_object().unwrap() {
        // What ends up in a shell's line is of letters that mean nothing to it.
        assert!(name == "AutomationAssumeRole" || about["allowedPattern"].is_string(), "{name}");
    }
    let mut bakery = builder();
    bakery.set("PROGRAM", Some(env!("CARGO_BIN_EXE_bakehouse")));
    let recipe = bakery.path("recipes/10-base.toml");
    let given =
        [("Recipe", recipe.to_str().unwrap()), ("Environment", ""), ("Keep", "1"), ("BuilderTag", "default")];
    let script = commands(&document, &given);
    assert!(!script.contains("{{"), "{script}");
    // Of two, the one that nothing was baked on goes.
    let script = format!("{INSTALL}{script}");
    let first = on_own_host(&bakery, &script, &[]).id();
    let second = on_own_host(&bakery, &script, &[]).id();
    assert!(bakery.store().image(&first).is_err(), "{first}");
    assert!(bakery.store().image(&second).is_ok(), "{second}");
}

#[test]
fn the_ci_examples_tell_the_images_id() {
    if !can() {
        return;
    }
    let mut bakery = builder();
    fs::copy(bakery.path("recipes/10-base.toml"), bakery.path("web.toml")).unwrap();
    bakery.set("PROGRAM", Some(env!("CARGO_BIN_EXE_bakehouse")));
    let sudo = "#!/bin/sh\ncase $1 in --*) shift;; esac\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nexec \"$@\"\n";
    bakery.put("fakes/sudo", sudo);
    fs::set_permissions(bakery.path("fakes/sudo"), fs::Permissions::from_mode(0o755)).unwrap();

    let github = yaml("examples/ci/github.yml");
    let steps = github["jobs"]["bake"]["steps"].as_array().unwrap();
    let script = steps.iter().find(|step| step["id"] == "bake").unwrap()["run"].as_str().unwrap();
    let output = bakery.put("output", "");
    bakery.set("GITHUB_OUTPUT", output.to_str());
    on_own_host(&bakery, &format!("{INSTALL}{script}"), &[]).good();
    let told = fs::read_to_string(&output).unwrap();
    let id = told.trim().strip_prefix("image=").unwrap();
    assert!(bakery.store().image(id).is_ok(), "{told}");
    bakery.bakehouse(&["local", "remove", id]).good();

    let gitlab = yaml("examples/ci/gitlab.yml");
    let lines = gitlab["bake"]["script"].as_array().unwrap();
    let script: Vec<_> = lines.iter().map(|line| line.as_str().unwrap()).collect();
    let token = bakery.path("token");
    bakery.set("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str()).set("OIDC_TOKEN", Some("x"));
    on_own_host(&bakery, &format!("{INSTALL}{}", script.join("\n")), &[]).good();
    let told = fs::read_to_string(bakery.path("image.env")).unwrap();
    let id = told.trim().strip_prefix("IMAGE=").unwrap();
    assert!(bakery.store().image(id).is_ok(), "{told}");
}
