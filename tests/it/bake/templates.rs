//! `files`: templates, folders and links, on an image that has no program for any of it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::small::can_bake;
use crate::support::bakery::{Bakery, small_disk};

const RECIPE: &str = r#"
[vars]
stage = "prod"
port = 8080
[image]
name = "filled-{var:stage}"
[base]
image = "small"
[[step]]
use = "files"
folder = [
    { path = "/srv/web/data", owner = "33", group = "4", mode = "2750" },
    { path = "/etc" , mode = "0700" },
]
copy = [
    { from = "web.conf", to = "/etc/web.conf", template = true, mode = "0640" },
    { from = "plain.conf", to = "/etc/plain.conf" },
    { from = "conf.d/", to = "/etc/web.d/", template = true },
]
link = [
    { path = "/srv/current", target = "web/data" },
    { path = "/etc/plain.d/web", target = "/etc/web.d/{var:stage}" },
]
"#;

const CONF: &str = "stage {{ stage }} {% if port > 80 %}high{% endif %}!\n{% for fact in [fact.arch, fact.distribution, fact.release, fact.base, fact.image] %}\n{{ fact }}\n{% endfor %}\n{{ fact.bake }} {{ fact.date }}\n";

fn bakery() -> Bakery {
    let bakery = Bakery::new();
    let disk = small_disk();
    bakery.base("small", disk.path());
    bakery.put("web.conf", CONF);
    bakery.put("plain.conf", "{{ as it is }}\n");
    bakery.put("conf.d/a/port", "{{ port }}");
    bakery
}

#[test]
fn templates_folders_and_links_reach_the_image() {
    if !can_bake() {
        return;
    }
    let bakery = bakery();
    let image = bakery.bake(RECIPE, &["--var", "port=81"]).id();
    let bake = bakery.store().image(&image).unwrap().tags["bakehouse:bake"].clone();
    let arch = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    };
    bakery.look(&image, 1, "ext4", |root| {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
        let about = |path: &str| {
            let meta = fs::symlink_metadata(root.join(path)).unwrap();
            (meta.mode() & 0o7777, meta.uid(), meta.gid())
        };
        let conf = read("etc/web.conf");
        let lines: Vec<_> = conf.lines().collect();
        assert_eq!(lines[..6], ["stage prod high!", arch, "debian", "12", "small", "filled-prod"]);
        assert!(lines[6].starts_with(&format!("{bake} 20")), "{conf}");
        assert_eq!(
            (read("etc/plain.conf"), read("etc/web.d/a/port")),
            ("{{ as it is }}\n".into(), "81".into())
        );
        assert_eq!(about("etc/web.conf"), (0o640, 0, 0));
        assert_eq!((about("srv/web/data"), about("srv/web")), ((0o2750, 33, 4), (0o755, 0, 0)));
        assert_eq!(about("etc").0, 0o755, "a folder that is there stays as it is");
        assert_eq!(fs::read_link(root.join("srv/current")).unwrap(), Path::new("web/data"));
        assert_eq!(fs::read_link(root.join("etc/plain.d/web")).unwrap(), Path::new("/etc/web.d/prod"));
    });
    bakery.assert_nothing_left();
}

#[test]
fn what_no_template_can_say_is_told_with_its_file_and_line() {
    if !can_bake() {
        return;
    }
    let bakery = bakery();
    for (text, words) in
        [("a\nb {{ prot }}\n", &["web.conf:2", "port, stage"][..]), ("{% if %}\n", &["web.conf:1", "Jinja"])]
    {
        bakery.put("web.conf", text);
        bakery.put("recipe.toml", RECIPE);
        bakery.bakehouse(&["validate", "recipe.toml"]).refused(3, words);
        bakery.bake(RECIPE, &[]).refused(3, words);
    }
    // A fact is known only once there is a bake.
    bakery.put("web.conf", "\n\n{{ fact.releas }}\n");
    bakery.bakehouse(&["validate", "recipe.toml"]).good();
    bakery.bake(RECIPE, &[]).refused(3, &["web.conf:3", "release", "step \"files\""]);
    let step = |keys: &str| {
        RECIPE.split("[[step]]").next().unwrap().to_owned() + "[[step]]\nuse = \"files\"\n" + keys
    };
    bakery.bake(&step(""), &[]).refused(3, &["nothing to do", "`folder`, `copy` and `link`"]);
    bakery.bake(&step("link = [{ path = \"srv\", target = \"x\" }]"), &[]).refused(3, &["absolute path"]);
    bakery
        .bake(&step("link = [{ path = \"/srv\", target = \"x\" }]"), &[])
        .refused(9, &["/srv", "is a folder"]);
    bakery.bake(&step("folder = [{ path = \"/bin/sh\" }]"), &[]).refused(9, &["is no folder"]);
    bakery.assert_nothing_left();
}
