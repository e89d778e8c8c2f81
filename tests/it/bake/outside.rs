//! Secrets of a step that runs on the builder (`where = "host"`): it reads them, and so does what it runs in the
//! image; they are nowhere else, and gone with the step.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::secrets::holders;
use super::small::can_bake;
use crate::bake_ec2::Builder;
use crate::support::bakery::{Bakery, Ran, small_disk};
use crate::support::fifo::Fifo;
use crate::support::host::{run_with, seen_by};
use crate::support::standin::Options;

/// The recipe of a bake with such a step; `NAME` is the secret's name, which no other bake has.
const RECIPE: &str = r#"
[image]
name = "outside-{time}"
[base]
image = "small"
[[step]]
use = "outside"
env = { GATE = "GATES" }
secrets = { NAME = { env = "TOKEN_OF_WEB" }, "web.key" = { file = "web.key" } }
[[hook]]
at = "before-close"
script = "closing.sh"
env = { GATE = "GATES" }
"#;

const DEFINITION: &str = "summary = \"A user's own\"\nwhere = \"host\"\nnetwork = \"none\"\n[params.fail]\ntype = \"bool\"\ndefault = false\n[run]\ncommand = [\"./run\"]\n";

/// Reads them on the builder and inside, tells them in every way, and copies them to all that is its own.
const RUN: &str = r#"#!/bin/sh
set -eu
cd /run/bakehouse/secrets
IFS= read -r token < NAME || [ -n "$token" ]
{ read -r one; read -r two; } < web.key
test "${#token}" = 16 && test "${#two}" = 17
echo "outside: $token; $one"
echo "$two and $token$token" >&2
printf %s "$token" | base64
(: > NAME) 2>/dev/null && echo "CAN WRITE"
(: > more) 2>/dev/null && echo "CAN WRITE"
grep ' /run/bakehouse/secrets ' /proc/self/mounts | sed 's/^/outside mount: /'
stat -c 'outside file: %a %u %g' NAME
case "$(env)" in *"$token"* | *TOKEN_OF_WEB*) echo "IN THE ENVIRONMENT" ;; esac
inside='read -r token < /run/bakehouse/secrets/NAME || [ -n "$token" ]; echo "inside: $token"
    while read -r line; do case $line in *" /run/bakehouse/secrets "*) echo "inside mount: $line" ;; esac; done < /proc/self/mounts
    (: > /run/bakehouse/secrets/NAME) 2>/dev/null && echo "CAN WRITE"
    echo "$token" > /tmp/copy; echo "$token" > /run/copy; echo read > /srv/mark'
bakehouse-inside sh -c "$inside"
printf %s "$token" | bakehouse-inside --put /tmp/put
cp NAME "$HOME/copy"; cp NAME "$TMPDIR/copy"; cp NAME /run/bakehouse/copy
setsid sleep WORD > /dev/null 2>&1 &
echo held > "$GATE/held"
read -r answer < "$GATE/go"
test "$answer" != fail || exit 3
"#;

const CLOSING: &str = "#!/bin/sh\nset -e\ntest ! -e /run/bakehouse/secrets\necho closing > \"$GATE/held\"\nread -r answer < \"$GATE/go\"\n";

/// A bakery with such a step, and the gates at which it waits.
struct Outside {
    bakery: Bakery,
    gates: tempfile::TempDir,
    held: Fifo,
    go: Fifo,
    name: String,
    token: String,
    /// What nobody may find: the values, line by line, and base64 of one. No other test has them.
    texts: Vec<String>,
    /// The argument of the process that the step leaves behind.
    word: String,
    recipe: String,
}

/// A bake that runs. It is ended where the test ends before it does.
struct Baking(Child);

impl Baking {
    fn end(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }

    /// The command itself, which `timeout` started.
    fn command(&self) -> Pid {
        let own = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.0.id())).unwrap();
        Pid::from_raw(own.trim().parse().unwrap())
    }
}

impl Drop for Baking {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|status| status.is_none()) {
            kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM).unwrap_or_default();
            drop(self.0.wait());
        }
    }
}

impl Outside {
    fn new() -> Self {
        let mut bakery = Bakery::new();
        let disk = small_disk();
        bakery.base("small", disk.path());
        // What is of this test alone has a part of this name: letters and digits.
        let gates = tempfile::Builder::new().prefix("gates-").rand_bytes(6).tempdir().unwrap();
        let own = gates.path().to_str().unwrap().rsplit_once("gates-").unwrap().1.to_owned();
        let token = format!("tok-41e0{own}ab");
        let keys = [format!("key-one-{own}-4c"), format!("key-two-{own}-77")];
        let name = format!("token-{own}");
        let base64 = run_with("base64", &[], &token);
        let word = format!("3939.{}", own.bytes().map(u32::from).fold(0, |sum, byte| sum * 7 + byte));
        let fill = |text: &str| {
            let text = text.replace("NAME", &name).replace("WORD", &word);
            text.replace("GATES", gates.path().to_str().unwrap())
        };
        program(&bakery, "provisioners/outside/run", &fill(RUN));
        bakery.put("provisioners/outside/provisioner.toml", DEFINITION);
        program(&bakery, "closing.sh", CLOSING);
        bakery.put("web.key", format!("{}\n{}\n", keys[0], keys[1]));
        bakery.set("TOKEN_OF_WEB", Some(&token));
        let recipe = fill(RECIPE);
        bakery.put("recipe.toml", &recipe);
        let [held, go] = ["held", "go"].map(|name| Fifo::make(gates.path().join(name)));
        let mut texts = vec![token.clone(), base64[..20].to_owned()];
        texts.extend(keys);
        Self { bakery, gates, held, go, name, token, texts, word, recipe }
    }

    fn texts(&self) -> Vec<&str> {
        self.texts.iter().map(String::as_str).collect()
    }

    /// Starts a bake whose output is in files of its own.
    fn start(&self) -> Baking {
        let mut command = self.bakery.command(&[], &["bake", "recipe.toml", "-vv", "--output", "json"]);
        let file = |name: &str| fs::File::create(self.bakery.path(name)).unwrap();
        command.stdout(file("told.out")).stderr(file("told.err"));
        Baking(command.spawn().unwrap())
    }

    fn told(&self) -> String {
        ["told.out", "told.err"].map(|name| fs::read_to_string(self.bakery.path(name)).unwrap()).concat()
    }

    /// How many processes see the secret at its place.
    fn seen_by(&self) -> usize {
        seen_by(&format!("run/bakehouse/secrets/{}", self.name))
    }

    /// Where one of the texts is, besides its source: in the bakery with all its folders (the disk too), in the
    /// bakes' own folders, in any process's arguments.
    fn found(&self) -> String {
        let logs = fs::read_dir(self.bakery.path("logs")).into_iter().flatten().flatten();
        let works = logs.map(|log| Path::new("/run/bakehouse").join(log.path().file_stem().unwrap()));
        let mut paths: Vec<PathBuf> = works.filter(|work| work.exists()).collect();
        paths.extend([self.bakery.path(""), self.gates.path().to_owned()]);
        let paths: Vec<_> = paths.iter().map(PathBuf::as_path).collect();
        let mut found = holders(&paths, &self.texts(), "web.key");
        if super::secrets::in_arguments(&self.texts()) {
            found.push_str("the arguments of a process\n");
        }
        found
    }

    /// That nothing of the secret is anywhere, and nothing of the bake.
    #[track_caller]
    fn is_gone(&self) {
        assert_eq!(self.seen_by(), 0);
        assert_eq!(self.found(), "", "{}", self.told());
        assert!(!crate::bake::hooks::runs(&self.word));
        self.bakery.assert_nothing_left();
    }
}

fn program(bakery: &Bakery, name: &str, text: &str) {
    let path = bakery.put(name, text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_secret_reaches_a_step_on_the_builder_and_nothing_else() {
    if !can_bake() {
        return;
    }
    let outside = Outside::new();
    for more in [&["--dry-run"][..], &["--dry-run", "--output", "json"]] {
        let plan = outside.bakery.bake(&outside.recipe, more).good();
        assert!(
            outside.texts().iter().all(|text| !plan.out.contains(text) && !plan.err.contains(text)),
            "{}",
            plan.told()
        );
    }
    let mut child = outside.start();
    assert_eq!(outside.held.read(), "held\n", "{}", outside.told());
    // In mid-step: the two sides of the step see it, the builder does not.
    assert!(outside.seen_by() >= 2);
    assert!(!Path::new("/run/bakehouse/secrets").exists());
    assert_eq!(outside.found(), "", "{}", outside.told());
    outside.go.write("on\n");
    // The step is over, the root still mounted.
    assert_eq!(outside.held.read(), "closing\n", "{}", outside.told());
    assert_eq!(outside.seen_by(), 0);
    assert_eq!(outside.found(), "");
    outside.go.write("on\n");
    assert_eq!(child.end(), Some(0), "{}", outside.told());

    let told = outside.told();
    for line in [
        "outside: ***; ***",
        "*** and ******",
        "inside: ***",
        "outside file: 400 0 0",
        "outside mount: none /run/bakehouse/secrets tmpfs ro,",
        "inside mount: none /run/bakehouse/secrets tmpfs ro,",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(!told.contains("CAN WRITE") && !told.contains("IN THE ENVIRONMENT"), "{told}");
    outside.is_gone();
    // And that what looks there finds what is there.
    assert!(holders(&[&outside.bakery.path("")], &outside.texts(), "none").contains("web.key"));
}

#[test]
fn a_step_on_the_builder_that_fails_or_is_stopped_takes_its_secrets_along() {
    if !can_bake() {
        return;
    }
    let mut outside = Outside::new();
    let mut child = outside.start();
    outside.held.read();
    outside.go.write("fail\n");
    assert_eq!(child.end(), Some(9), "{}", outside.told());
    assert!(outside.told().contains("exit status 3") && outside.told().contains("| outside: ***"));
    outside.is_gone();

    for (signal, status) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let mut child = outside.start();
        outside.held.read();
        kill(child.command(), signal).unwrap();
        assert_eq!(child.end(), Some(status), "{}", outside.told());
        outside.is_gone();
    }

    let late = outside.recipe.replace("use = \"outside\"", "use = \"outside\"\ntimeout = \"3s\"");
    outside.bakery.put("recipe.toml", late);
    // Nobody opens the gate.
    let mut child = outside.start();
    assert_eq!(child.end(), Some(9), "{}", outside.told());
    assert!(outside.told().contains("was not done after 3 s"), "{}", outside.told());
    outside.is_gone();

    // Nothing is made where one is missing.
    outside.bakery.set("TOKEN_OF_WEB", None);
    let none = outside
        .bakery
        .bake(&outside.recipe, &[])
        .refused(4, &["TOKEN_OF_WEB is not set", "step \"outside\""]);
    assert!(!none.err.contains("mount "), "{}", none.err);
    let token = outside.token.clone();
    outside.bakery.set("TOKEN_OF_WEB", Some(&token));
    fs::remove_file(outside.bakery.path("web.key")).unwrap();
    outside.bakery.bake(&outside.recipe, &[]).refused(4, &["web.key", "when the bake begins"]);
    outside.is_gone();
}

#[test]
fn a_step_on_the_builder_that_is_killed_leaves_no_secret() {
    if !can_bake() {
        return;
    }
    let outside = Outside::new();
    let mut child = outside.start();
    outside.held.read();
    kill(child.command(), Signal::SIGKILL).unwrap();
    child.end();
    // At once, while the kernel still takes the bake's processes and mounts away.
    Ran::of(&mut outside.bakery.command(&[], &["gc", "--yes"])).good();
    crate::bake::hooks::until("the step is gone", || {
        outside.seen_by() == 0 && !crate::bake::hooks::runs(&outside.word)
    });
    outside.bakery.until_nothing_is_held();
    outside.is_gone();
}

const TOKEN: &str = "tok-c0ffee0d6a7f";

#[test]
fn a_parameter_reaches_a_step_on_the_builder_and_no_request() {
    let Some(mut builder) = Builder::start(&Options::default(), json!({})) else { return };
    builder.bakery.set("BAKEHOUSE_LOG", Some("trace"));
    let (bakery, standin) = (&builder.bakery, &builder.standin);
    standin.parameter_of("/web/token", json!({"value": TOKEN, "type": "SecureString"}));
    bakery.put("provisioners/outside/provisioner.toml", DEFINITION);
    program(
        bakery,
        "provisioners/outside/run",
        "#!/bin/sh\nset -eu\ntoken=$(cat /run/bakehouse/secrets/token)\ntest \"${#token}\" = 16\necho \"token $token\"\n\
         bakehouse-inside sh -c 'read -r token < /run/bakehouse/secrets/token || [ -n \"$token\" ]; echo \"inside $token\"; echo baked > /srv/mark'\n",
    );
    let recipe = crate::bake_ec2::RECIPE
        .replace("size = \"8GiB\"\n", "")
        .replace("iops = 4000\n", "")
        .replace("throughput = 200\n", "")
        .replace(
            "use = \"script\"\nscript = \"setup.sh\"",
            "use = \"outside\"\nsecrets.token = { parameter = \"/web/token\" }",
        );
    let ran = bakery.bake(&recipe, &["-vv", "--output", "json"]).good();
    let told = ran.told();
    assert!(told.contains("token ***") && told.contains("inside ***") && !told.contains(TOKEN), "{told}");
    let asked = standin.requests_of("GetParameter", 1, Duration::ZERO);
    assert_eq!(asked[0]["params"]["WithDecryption"], true, "{asked:?}");
    // The stand-in's own record of what it was asked: tags, names, descriptions.
    let all = standin.requests();
    assert!(!all.iter().any(|request| request.to_string().contains(TOKEN)), "{all:?}");
    let state = standin.state();
    let files = state["snapshots"].as_array().unwrap();
    let mut paths: Vec<_> = files.iter().map(|one| Path::new(one["File"].as_str().unwrap())).collect();
    let folder = bakery.path("");
    paths.push(&folder);
    assert_eq!(holders(&paths, &[TOKEN, "dG9rLWMwZmZlZTBkNmE3"], "none"), "");

    standin.fault(json!({"action": "GetParameter", "kind": "denied"}));
    bakery.bake(&recipe, &["--name", "denied"]).refused(6, &["/web/token", "step \"outside\""]);
    assert_eq!(standin.counts()["CreateVolume"], 1, "nothing is made where a secret is missing");
}
