use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::recipe::{Inputs, Look, Source, render};

mod any;
mod forms;

const ALL: &str = include_str!("testdata/all/provisioner.toml");

fn write(path: &Path, content: &str, mode: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn script(path: &str, content: &str, mode: u32) -> ScriptFile {
    ScriptFile { path: path.into(), mode, content: content.as_bytes().to_vec() }
}

fn all_files() -> Vec<ScriptFile> {
    vec![script("conf/all.conf", "x", 0o644), script("run", "#!/bin/sh\n", 0o755)]
}

fn define(text: &str) -> Result<Definition, String> {
    let source = Source { name: "provisioner.toml".to_owned(), text: text.to_owned() };
    Definition::parse("all", "here", &source, all_files())
        .map_err(|complaints| render(&complaints, &source, Look::plain()))
}

/// A search path with `all`, and more that choose among others.
fn library() -> (tempfile::TempDir, Library) {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, content: &str, mode| write(&folder.path().join(name), content, mode);
    put("all/provisioner.toml", ALL, 0o644);
    put("all/run", "#!/bin/sh\n", 0o755);
    put("all/conf/all.conf", "x", 0o644);
    let packages = |format: &str| {
        format!(
            "summary = \"x\"\n[params.install]\ntype = \"packages\"\nformats = [{format:?}]\n[params.{format}-only]\n\
             type = \"bool\"\n[run]\ncommand = [\"true\"]\n[package]\nquery = [\"true\"]\n"
        )
        .replace("-only", "_only")
    };
    put("debs/provisioner.toml", &packages("deb"), 0o644);
    put("rpms/provisioner.toml", &packages("rpm"), 0o644);
    put(
        "either/provisioner.toml",
        "summary = \"x\"\n[params.install]\ntype = \"packages\"\n[params.deb_only]\ntype = \"bool\"\n\
         [[choose]]\nid_like = [\"debian\"]\nuse = \"debs\"\n[[choose]]\nid_like = [\"fedora\"]\nuse = \"rpms\"\n",
        0o644,
    );
    put(
        "program/provisioner.toml",
        "summary = \"x\"\n[params.run]\ntype = \"argv\"\nconflicts = [\"script\"]\n[params.script]\ntype = \"path\"\n\
         kind = \"file\"\n[params.args]\ntype = \"list\"\n[run]\nparameter = [\"run\", \"script\"]\narguments = \"args\"\n",
        0o644,
    );
    put("broken/provisioner.toml", "summary = 1\n", 0o644);
    let library = Library::of(vec![folder.path().to_owned()]);
    (folder, library)
}

fn facts(path: &Path) -> FileFacts {
    let Ok(below) = path.strip_prefix("/recipe") else { return FileFacts::Missing };
    match below.to_str().unwrap_or_default() {
        "" | "site" | "dist" => FileFacts::Folder,
        "site/a" | "dist/web.deb" | "dist/web.rpm" | "setup.sh" => FileFacts::File,
        "socket" => FileFacts::Other,
        _ => FileFacts::Missing,
    }
}

const HEAD: &str = "[image]\nname = \"web-{date}\"\n[base]\nimage = \"x\"\n";

fn settle(steps: &str) -> Result<Vec<StepPlan>, String> {
    let (folder, library) = library();
    let path = folder.path().display().to_string();
    settle_with(steps, &library).map_err(|complaints| complaints.replace(&path, "[folder]"))
}

fn settle_with(steps: &str, library: &Library) -> Result<Vec<StepPlan>, String> {
    let source = Source { name: "web.toml".to_owned(), text: format!("{HEAD}{steps}") };
    let builder =
        Builder { recipe_folder: Path::new("/recipe"), downloads: Path::new("/downloads"), facts: &facts };
    match check_recipe(&source, library, builder, &Inputs::default()) {
        Ok((_, settled)) => Ok(settled.steps),
        Err(wrong) => {
            let mut text = String::new();
            for complained in &wrong {
                for complaint in &complained.complaints {
                    assert!(complained.source.text.get(complaint.span.clone()).is_some(), "{complaint:?}");
                }
                text.push_str(&render(&complained.complaints, &complained.source, Look::plain()));
                text.push('\n');
            }
            Err(text)
        }
    }
}

fn one(steps: &str) -> StepPlan {
    match settle(steps) {
        Ok(mut steps) => steps.remove(0),
        Err(complaints) => panic!("{complaints}"),
    }
}

const SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn a_definition_is_read_whole() {
    let definition = define(ALL).unwrap();
    assert_eq!(definition.runs, Runs::Command(vec!["./run".to_owned(), "--all".to_owned()]));
    assert_eq!(definition.timeout, Some(600));
    assert_eq!(definition.params.len(), 13);
    assert_eq!(definition.params["items"].default, Some(Value::List(vec![Value::String("one".to_owned())])));
    assert_eq!(definition.caches[0].find, CacheFind::Digest);
    assert_eq!(definition.temporary[0].mode, 0o600);
    assert_eq!(definition.hints[0].say, "say yes");
    assert_eq!(definition.digest.len(), 64);
}

#[test]
fn the_digest_is_of_names_modes_and_contents() {
    let digest = |files| {
        let source = Source { name: "x".to_owned(), text: "summary = 'x'\nrun.builtin = 'files'".to_owned() };
        Definition::parse("x", "here", &source, files).unwrap().digest
    };
    let base = digest(all_files());
    assert_eq!(base, digest(all_files()));
    for change in 0..3 {
        let mut files = all_files();
        match change {
            0 => files[0].mode = 0o755,
            1 => files[0].content.push(b'x'),
            _ => files[0].path = "conf/other".into(),
        }
        assert_ne!(base, digest(files), "{change}");
    }
}

#[test]
fn everything_wrong_with_a_definition_is_told_at_once() {
    insta::assert_snapshot!(define(include_str!("testdata/wrong.toml")).unwrap_err());
}

#[test]
fn the_example_of_the_readme_is_a_definition() {
    let readme = include_str!("../../provisioners/README.md");
    let example = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let source = Source { name: "README.md".to_owned(), text: example.to_owned() };
    let files = vec![script("run", "", 0o755), script("gemrc", "", 0o644)];
    let definition = Definition::parse("gem", "here", &source, files).unwrap();
    assert_eq!(definition.params.keys().collect::<Vec<_>>(), ["documentation", "gemfile", "install"]);
}

#[test]
fn parameters_of_every_type_come_through() {
    let mut step = one(&format!(
        "[[step]]\nuse = 'all'\nflag = true\nnumber = 3\nword = 'tar'\nwait = '1m30s'\nmode = 'u=rwX,go=rX'\n\
         inside = '/srv/x/'\nfiles = './site/'\nfolder = '/recipe/dist'\nitems = ['a', 'b']\nmap = {{ A = 'b=c' }}\n\
         packages = ['nginx=1.*', './dist/web.deb', {{ url = 'https://h.example/p/x.deb?y', sha256 = '{SUM}' }}]\n\
         tables = [{{ from = 'site/a', to = '/a' }}, {{ from = 'https://h.example/y#sha256={SUM}', to = '/b', mode = '600' }}]\n\
         env = {{ STAGE = 'step' }}\nsuppress_sync = false\nnetwork = 'host'\nname = 'every'\n"
    ));
    step.digest = "[digest]".to_owned();
    insta::assert_snapshot!(serde_json::to_string_pretty(&step).unwrap());
    let files: Vec<_> = param_files(&step.params)
        .into_iter()
        .map(|(path, content)| format!("{}: {:?}", path.display(), String::from_utf8(content).unwrap()))
        .filter(|line| !line.starts_with("params.json"))
        .collect();
    insta::assert_snapshot!(files.join("\n"));
}

#[test]
fn everything_wrong_with_steps_is_told_at_once() {
    insta::assert_snapshot!(settle(
        "[[step]]\nuse = 'al'\n[[step]]\nuse = 'all'\n[[step]]\nuse = 'all'\nflagg = true\ntimeot = '5s'\nnumber = 11\n\
         text = 1\nword = 'zipp'\nwait = 'long'\nmode = 'u=q'\ninside = 'srv'\nfiles = '../x'\nfolder = 'setup.sh'\n\
         items = [\"a\\nb\", 1]\nmap = { '' = 'x', a = 1 }\n\
         packages = ['web.deb', './dist/web.rpm', './gone.deb', '-y', 'a b', './x', 'http://h/x.deb', 'https://h/x.deb', 7]\n\
         tables = [{ form = 'site/a', mode = '9' }, 3]\n[[step]]\nuse = 'broken'\n[[check]]\nrun = []\n"
    )
    .unwrap_err());
}

#[test]
fn steps_are_checked_though_the_rest_is_wrong() {
    let (_folder, library) = library();
    let source = Source { name: "web.toml".to_owned(), text: "[[step]]\nuse = 'all'\nflag = 1\n".to_owned() };
    let builder = Builder { recipe_folder: Path::new("/"), downloads: Path::new("/"), facts: &facts };
    let wrong = check_recipe(&source, &library, builder, &Inputs::default()).unwrap_err();
    let messages: Vec<_> = wrong[0].complaints.iter().map(|complaint| complaint.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "the recipe has no [image]",
            "the recipe has no [base]",
            "`flag` is a boolean".replace("a boolean", "an integer; it must be true or false").as_str()
        ]
    );
}

#[test]
fn paths_stay_below_the_recipe_or_are_absolute() {
    let told = |path: &str| match settle(&format!("[[step]]\nuse = 'all'\nfiles = {path:?}\n")) {
        Ok(steps) => steps[0].staged[0].from.display().to_string(),
        Err(complaints) => complaints.lines().next().unwrap_or_default().trim().to_owned(),
    };
    assert_eq!(told("site/../dist/./web.deb"), "/recipe/dist/web.deb");
    assert_eq!(told("."), "/recipe");
    assert_eq!(told("/recipe/site"), "/recipe/site");
    assert_eq!(told("../recipe/site"), "x `files`: path outside the recipe's folder");
    assert_eq!(told("site/../../x"), "x `files`: path outside the recipe's folder");
    assert_eq!(told("/etc/gone"), "x `files`: no such file: /etc/gone");
    assert_eq!(told("setup.sh/"), "x `files`: setup.sh/ is a file, not a folder");
    assert_eq!(told("socket"), "x `files`: socket is neither a file nor a folder");
    assert_eq!(told(""), "x `files` is empty or holds a line break; it must be a path");
}

#[test]
fn a_choice_carries_each_candidate_or_why_it_is_out() {
    let step = one("[[step]]\nuse = 'either'\ninstall = ['nginx', './dist/web.deb']\n");
    assert_eq!(step.work, Work::Choose);
    let [debs, rpms] = step.alternatives.as_slice() else { panic!("{:?}", step.alternatives) };
    assert_eq!(debs.id_like, ["debian"]);
    let debs = debs.step.as_ref().unwrap();
    assert_eq!(debs.staged, step.staged);
    assert_eq!(debs.params, step.params);
    assert!(step.may_tell_package());
    assert!(rpms.step.is_none());
    assert_eq!(rpms.refused.as_deref(), Some("a .deb package can't be installed here"));

    let step = one("[[step]]\nuse = 'either'\ninstall = ['nginx']\ndeb_only = true\n");
    assert_eq!(step.alternatives[1].refused.as_deref(), Some("unknown key `deb_only` in a step of `rpms`"));

    let complaints = settle("[[step]]\nuse = 'either'\ninstall = ['./dist/web.deb', './dist/web.rpm']\n");
    assert!(complaints.unwrap_err().contains("none of the provisioners to choose from takes this step"));
}

#[test]
fn a_parameter_may_be_what_runs() {
    let step = one("[[step]]\nuse = 'program'\nrun = ['sh', '-c', \"a\\nb\"]\nargs = ['x']\n");
    assert_eq!(step.work, Work::Command(["sh", "-c", "a\nb", "x"].map(str::to_owned).to_vec()));
    assert_eq!(step.name, "program: sh -c a\\nb");
    let step = one("[[step]]\nuse = 'program'\nscript = 'setup.sh'\n");
    let path = "/run/bakehouse/step/files/script/setup.sh".to_owned();
    assert_eq!(step.work, Work::Command(vec![path]));
    assert_eq!(step.name, "program: setup.sh");
    assert!(step.staged[0].executable);
    assert_eq!(step.staged[0].to, Path::new("script/setup.sh"));
    let complaints = settle("[[step]]\nuse = 'program'\nrun = ['x']\nscript = 'setup.sh'\n").unwrap_err();
    assert!(complaints.contains("can't stand beside"), "{complaints}");
    assert!(complaints.contains("1 thing is wrong"), "{complaints}");
    let complaints = settle("[[step]]\nuse = 'program'\n").unwrap_err();
    assert!(complaints.contains("add one of `run` and `script`"), "{complaints}");
}

#[test]
fn a_version_needs_a_package() {
    let (_folder, library) = library();
    let recipe = |use_: &str| {
        let head = "[image]\nname = \"web-{version}\"\n[base]\nimage = \"x\"\n";
        let source = Source { name: "x".to_owned(), text: format!("{head}[[step]]\nuse = '{use_}'\n") };
        let builder = Builder { recipe_folder: Path::new("/"), downloads: Path::new("/"), facts: &facts };
        check_recipe(&source, &library, builder, &Inputs::default()).map(|_| ()).map_err(|wrong| {
            let complaint = &wrong[0].complaints[0];
            (complaint.message.clone(), source.text[complaint.span.clone()].to_owned())
        })
    };
    assert_eq!(recipe("debs'\ninstall = ['x']\n#"), Ok(()));
    assert_eq!(recipe("either'\ninstall = ['x']\n#"), Ok(()));
    assert_eq!(recipe("all'\npackages = ['x']\n#"), Ok(()));
    for without in ["program'\nrun = ['x']\n#", "all'\nflag = true\n#", "either'\ninstall = []\n#", "debs"] {
        let (message, place) = recipe(without).unwrap_err();
        assert_eq!(message, "{version} is the main package's, and no step installs one", "{without}");
        assert_eq!(place, "{version}");
    }
}

#[test]
fn every_shipped_provisioner_is_right() {
    let library = Library::of(Vec::new());
    let names = library.names();
    assert_eq!(
        names,
        ["ansible", "apt", "chef", "dnf", "files", "package", "puppet", "salt", "script", "system"]
    );
    for name in names {
        let definition = library.find(&name).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(definition.origin, "shipped");
        if let Runs::Choose(choices) = &definition.runs {
            for choice in choices {
                let chosen = library.find(&choice.provisioner).unwrap();
                for param in definition.params.keys() {
                    assert!(chosen.params.contains_key(param), "{} has no {param}", choice.provisioner);
                }
            }
        }
    }
}

#[test]
fn the_shipped_provisioners_take_a_whole_recipe() {
    let library = Library::of(Vec::new());
    let steps = settle_with(
        "[[step]]\nuse = \"package\"\ninstall = [\"nginx-light\", \"./dist/web.deb\"]\n\
         [[step]]\nuse = \"files\"\n\
         copy = [{ from = \"site/\", to = \"/srv/web/\" , owner = \"www-data\", mode = \"u=rwX,go=rX\" }]\n\
         [[step]]\nuse = \"script\"\nscript = \"setup.sh\"\nargs = [\"x\"]\nenv = { STAGE = \"bake\" }\n\
         [[step]]\nuse = \"apt\"\nupgrade = true\n\
         [[check]]\nrun = [\"nginx\", \"-t\"]\n",
        &library,
    )
    .unwrap_or_else(|complaints| panic!("{complaints}"));
    let names: Vec<_> = steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["package", "files", "script: setup.sh", "apt"]);
    assert!(steps[0].may_tell_package());
    assert!(steps[0].alternatives[0].step.is_some() && steps[0].alternatives[1].step.is_none());
    assert_eq!(steps[1].work, Work::Builtin("files".to_owned()));
    assert!(!steps[3].may_tell_package(), "an upgrade installs no main package");
}

#[test]
fn a_step_on_the_builder_says_what_it_needs_there() {
    let (_folder, library) = library();
    let steps = settle_with("[[step]]\nuse = \"ansible\"\nroles = [\"web\"]\n", &library).unwrap();
    assert!(steps[0].host && steps[0].programs["ansible-playbook"].contains("ansible-core"));
    let complaints = define(
        "summary = \"x\"\nwhere = \"host\"\n[run]\nbuiltin = \"files\"\n[[cache]]\nname = \"a\"\npath = \"/a\"\n",
    )
    .unwrap_err();
    assert!(complaints.contains("a `builtin` does not run on the builder"), "{complaints}");
    assert!(complaints.contains("[[cache]] is for what runs inside"), "{complaints}");
    let complaints =
        define("summary = \"x\"\n[programs]\na = \"x\"\n[run]\ncommand = [\"true\"]\n").unwrap_err();
    assert!(complaints.contains("[programs] are the builder's"), "{complaints}");
}

#[test]
fn the_reference_has_every_parameter_of_the_tools() {
    let reference = include_str!("../../docs/recipe.md");
    for name in ["ansible", "chef", "puppet", "salt", "system"] {
        for param in Library::of(Vec::new()).find(name).unwrap().params.keys() {
            assert!(reference.contains(&format!("`{param}`")), "{name} {param}");
        }
    }
}

#[test]
fn the_first_folder_wins_and_links_are_refused() {
    let (first, _) = library();
    let (second, _) = library();
    write(&first.path().join("all/run"), "#!/bin/sh\nfirst\n", 0o700);
    write(&second.path().join("debs2/provisioner.toml"), "summary = 'x'\nrun.builtin = 'files'\n", 0o644);
    std::fs::create_dir(first.path().join("debs2")).unwrap();
    let library = Library::of(vec![first.path().to_owned(), second.path().to_owned()]);
    let all = library.find("all").unwrap();
    assert_eq!(all.origin, first.path().join("all").to_str().unwrap());
    let run = all.files.iter().find(|file| file.path == Path::new("run")).unwrap();
    assert_eq!((run.mode, run.content.as_slice()), (0o700, b"#!/bin/sh\nfirst\n".as_slice()));
    assert_eq!(library.find("debs2").unwrap().origin, second.path().join("debs2").to_str().unwrap());
    assert!(library.names().contains(&"debs2".to_owned()));
    for name in ["nothing", "../all", "", "All", "/etc"] {
        assert!(matches!(library.find(name), Err(NotFound::Unknown)), "{name}");
    }

    std::os::unix::fs::symlink("/etc/passwd", first.path().join("all/link")).unwrap();
    match library.find("all") {
        Err(NotFound::Unreadable(error)) => assert!(format!("{error:#}").contains("no links"), "{error:#}"),
        other => panic!("{other:?}"),
    }
    let complaints = settle_with("[[step]]\nuse = 'all'\nflag = true\n", &library).unwrap_err();
    assert!(complaints.contains("no links"), "{complaints}");
    assert!(matches!(library.find("broken"), Err(NotFound::Wrong(_))));
}
