//! What a definition asks of texts: told with its place before a bake, and nothing that the tools take refused.

use super::*;

/// The parts of the recipe that are underlined, each with what is said of it.
fn told(steps: &str) -> Vec<(String, String)> {
    let source = Source { name: "web.toml".to_owned(), text: format!("{HEAD}{steps}") };
    let library = Library::of(Vec::new());
    let builder =
        Builder { recipe_folder: Path::new("/recipe"), downloads: Path::new("/downloads"), facts: &facts };
    match check_recipe(&source, &library, builder, &Inputs::default()) {
        Ok(_) => Vec::new(),
        Err(wrong) => {
            assert_eq!(wrong.len(), 1);
            let told = wrong[0].complaints.iter();
            told.map(|one| (source.text[one.span.clone()].to_owned(), one.message.clone())).collect()
        }
    }
}

#[track_caller]
fn refused(provisioner: &str, step: &str, place: &str, message: &str) {
    let told = told(&format!("[[step]]\nuse = \"{provisioner}\"\n{step}\n"));
    assert_eq!(told, [(place.to_owned(), message.to_owned())], "{step}");
}

#[track_caller]
fn taken(provisioner: &str, step: &str) {
    let told = told(&format!("[[step]]\nuse = \"{provisioner}\"\n{step}\n"));
    assert!(told.is_empty(), "{step}: {told:?}");
}

#[test]
fn what_apt_could_not_do_is_told_with_its_place() {
    let repository = |more: &str| {
        format!(
            "repositories = [{{ uris = [\"https://h/\"], suites = [\"./\"], signed_by = \"/k\", {more} }}]"
        )
    };
    refused("apt", &repository("name = \"a b\""), "\"a b\"", "`name` can't be `a b`");
    refused("apt", &repository("name = \"../x\""), "\"../x\"", "`name` can't be `../x`");
    for types in ["rpm", "deb deb-src", ""] {
        let more = format!("name = \"x\", types = [\"{types}\"]");
        let message = format!("an item of `types` can't be `{types}`");
        refused("apt", &repository(&more), &format!("\"{types}\""), &message);
    }
    let two = "repositories = [{ name = \"x\", uris = [\"https://h/\"], suites = [\"./\"], signed_by = \"/k\" }, { name = 'x', uris = [\"https://i/\"], suites = [\"./\"], signed_by = \"/k\" }]";
    refused("apt", two, "'x'", "two items of `repositories` have the name `x`");
    let keyless = "{ name = \"x\", uris = [\"https://h/\"], suites = [\"./\"] }";
    refused(
        "apt",
        &format!("repositories = [{keyless}]"),
        keyless,
        "an item of `repositories` needs one of `key`, `key_text` and `signed_by`",
    );
    for (uris, place) in
        [("\"deb.debian.org/debian\"", "\"deb.debian.org/debian\""), ("\"/srv/repo\"", "\"/srv/repo\"")]
    {
        let item = format!("{{ name = \"x\", uris = [{uris}], suites = [\"./\"], signed_by = \"/k\" }}");
        let message = format!("an item of `uris` can't be `{}`", place.trim_matches('"'));
        refused("apt", &format!("repositories = [{item}]"), place, &message);
    }
    let nowhere = "{ name = \"x\", uris = [], suites = [\"./\"], signed_by = \"/k\" }";
    refused("apt", &format!("repositories = [{nowhere}]"), "[]", "`uris` needs 1 item");
    let bare = "{ name = \"x\", uris = [\"https://h/\"], suites = [\"bookworm\"], signed_by = \"/k\" }";
    refused(
        "apt",
        &format!("repositories = [{bare}]"),
        bare,
        "an item of `repositories` needs one of `components` and `suites = */`",
    );
    let exact = "{ name = \"x\", uris = [\"https://h/\"], suites = [\"./\"], components = [\"main\"], signed_by = \"/k\" }";
    refused(
        "apt",
        &format!("repositories = [{exact}]"),
        "components",
        "`components` can't stand beside `suites = */`",
    );
    let not_armored =
        "{ name = \"x\", uris = [\"https://h/\"], suites = [\"./\"], key_text = \"keys/x.asc\" }";
    refused(
        "apt",
        &format!("repositories = [{not_armored}]"),
        "\"keys/x.asc\"",
        "`key_text` can't be `keys/x.asc`",
    );
    let pin = |more: &str| format!("pins = [{{ package = \"x\", {more} }}]");
    refused(
        "apt",
        &pin("pin = \"relase n=x\", priority = 9"),
        "\"relase n=x\"",
        "`pin` can't be `relase n=x`",
    );
    refused(
        "apt",
        &pin("pin = \"version 1\", priority = 32768"),
        "32768",
        "`priority` must be at most 32767",
    );
    for date in ["2026-11-01", "20261101", "20261101T000000"] {
        refused(
            "apt",
            &format!("upgrade = true\nsnapshot = \"{date}\""),
            &format!("\"{date}\""),
            &format!("`snapshot` can't be `{date}`"),
        );
    }
    let never = "upgrade = true\nrefresh = \"never\"\nsnapshot = \"20261101T000000Z\"";
    refused("apt", never, "snapshot", "`snapshot` can't stand beside `refresh = never`");
    let never = "upgrade = true\nsnapshot = \"20261101T000000Z\"\nrefresh = \"never\"";
    refused("apt", never, "refresh", "`refresh = never` can't stand beside `snapshot`");
    for answer in ["x", "web web/region strin x", "web web/region"] {
        let message = format!("an item of `debconf` can't be `{answer}`");
        refused("apt", &format!("debconf = [\"{answer}\"]"), &format!("\"{answer}\""), &message);
    }
    for list in ["remove", "purge", "hold", "unhold"] {
        refused(
            "apt",
            &format!("{list} = [\"a b\"]"),
            "\"a b\"",
            &format!("an item of `{list}` can't be `a b`"),
        );
    }
}

#[test]
fn what_apt_takes_is_not_refused() {
    for step in [
        "install = [\"nginx\", \"nginx=1.22.*\", \"nginx/bookworm\", \"nginx:arm64=1\", \"vim-\", \"g++\", \"^lib.*dev$\", \"?name(nginx)\", \"task^\"]",
        "remove = [\"lib*\", \"?and(?installed, ?name(x))\", \"~nfoo\", \"python3.11\", \"x:amd64\"]",
        "debconf = [\"a a/b string\", \"a a/b  password   two words\", \"# of what follows\", \"\", \"a a/b seen false\"]",
        "pins = [{ package = \"*\", pin = \"Release n=x\", priority = -1 }, { package = \"src:a /b/\", pin = \"origin \\\"\\\"\", priority = 1001 }]",
        "upgrade = true\nsnapshot = \"20261101T000000Z\"\nrefresh = \"always\"\nsnapshot_url = \"file:/srv/{archive}\"",
        "upgrade = true\nrefresh = \"never\"",
        "repositories = [{ name = \"a.b_c-d\", types = [\"deb\", \"deb-src\"], uris = [\"ftp://h/x\", \"mirror+file:/etc/m\", \"ar+https://h\", \"copy:/srv\"], suites = [\"x\", \"y\"], components = [\"main\"], signed_by = \"/k\" }]",
        "repositories = [{ name = \"x\", uris = [\"https://h/\"], suites = [\"./\"], key_text = \"\"\"\n-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nx\n-----END PGP PUBLIC KEY BLOCK-----\n\"\"\" }]",
    ] {
        taken("apt", step);
    }
}

#[test]
fn what_dnf_could_not_do_is_told_with_its_place() {
    let at = "baseurl = [\"https://h/\"]";
    let repository = |more: &str| format!("repositories = [{{ gpgcheck = false, {more} }}]");
    refused("dnf", &repository(&format!("name = \"a b\", {at}")), "\"a b\"", "`name` can't be `a b`");
    refused(
        "dnf",
        "repositories = [{ name = \"x\", gpgcheck = false }]",
        "{ name = \"x\", gpgcheck = false }",
        "an item of `repositories` needs one of `baseurl`, `metalink` and `mirrorlist`",
    );
    for keyless in [format!("{{ name = \"x\", {at} }}"), format!("{{ name = \"x\", {at}, gpgcheck = true }}")]
    {
        let message = "an item of `repositories` needs one of `key`, `key_text` and `gpgcheck = false`";
        refused("dnf", &format!("repositories = [{keyless}]"), &keyless, message);
    }
    let two = format!(
        "repositories = [{{ name = \"x\", {at}, gpgcheck = false }}, {{ name = 'x', {at}, gpgcheck = false }}]"
    );
    refused("dnf", &two, "'x'", "two items of `repositories` have the name `x`");
    for place in ["baseurl = [\"h.example/x\"]", "metalink = \"h.example/x\"", "mirrorlist = \"h.example/x\""]
    {
        let key = place.split(' ').next().unwrap();
        let item = if key == "baseurl" { "an item of " } else { "" };
        let message = format!("{item}`{key}` can't be `h.example/x`");
        refused("dnf", &repository(&format!("name = \"x\", {place}")), "\"h.example/x\"", &message);
    }
    for (step, place, message) in [
        ("modules = [\"a b\"]", "\"a b\"", "an item of `modules` can't be `a b`"),
        ("groups = [\"-x\"]", "\"-x\"", "an item of `groups` can't be `-x`"),
        ("remove = [\"\"]", "\"\"", "an item of `remove` can't be ``"),
        ("upgrade = true\nreleasever = \"9 4\"", "\"9 4\"", "`releasever` can't be `9 4`"),
    ] {
        refused("dnf", step, place, message);
    }
}

#[test]
fn what_dnf_takes_is_not_refused() {
    for step in [
        // Of a module that has a default stream, or one alone, that one is meant.
        "modules = [\"nginx\", \"nginx:1.24\", \"nodejs:20/common\"]",
        "groups = [\"Development Tools\", \"@core\"]\nexclude = [\"kernel*\", \"a,b\"]\nremove = [\"nginx < 2\", \"@core\"]",
        "install = [\"nginx-1:1.2-3.el9.x86_64\", \"@web\", \"perl(A::B)\", \"/usr/bin/perl\", \"lib*\", \"nginx=1.*\"]",
        "repositories = [{ name = \"a:b\", baseurl = [\"$mirror/x\", \"ftp://h/\", \"file:///srv\", \"/srv\"], gpgcheck = false }]",
        "repositories = [{ name = \"x\", metalink = \"https://h/?repo=x&arch=$basearch\", key = \"setup.sh\" }]",
    ] {
        taken("dnf", step);
    }
}

#[test]
fn what_no_system_could_be_given_is_told_with_its_place() {
    for (step, place, message) in [
        ("hostname = \"a b\"", "\"a b\"", "`hostname` can't be `a b`"),
        ("timezone = \"../x\"", "\"../x\"", "`timezone` can't be `../x`"),
        ("timezone = \"/etc/passwd\"", "\"/etc/passwd\"", "`timezone` can't be `/etc/passwd`"),
        ("locale = \"en GB\"", "\"en GB\"", "`locale` can't be `en GB`"),
        (
            "kernel_arguments = [\"$(reboot)\"]",
            "\"$(reboot)\"",
            "an item of `kernel_arguments` can't be `$(reboot)`",
        ),
        (
            "remove_kernel_arguments = [\"a b\"]",
            "\"a b\"",
            "an item of `remove_kernel_arguments` can't be `a b`",
        ),
        ("users = [{ name = \"-x\" }]", "\"-x\"", "`name` can't be `-x`"),
        ("users = [{ name = \"x\", group = \"a b\" }]", "\"a b\"", "`group` can't be `a b`"),
        ("users = [{ name = \"x\", groups = [\"a,b\"] }]", "\"a,b\"", "an item of `groups` can't be `a,b`"),
        ("users = [{ name = \"x\", comment = \"a:b\" }]", "\"a:b\"", "`comment` can't be `a:b`"),
        ("groups = [{ name = \"a b\" }]", "\"a b\"", "`name` can't be `a b`"),
        ("remove_users = [\"a:b\"]", "\"a:b\"", "an item of `remove_users` can't be `a:b`"),
        ("sysctl = { \"a b\" = \"1\" }", "\"a b\"", "a key of `sysctl` can't be `a b`"),
        ("enable = [\"a b\"]", "\"a b\"", "an item of `enable` can't be `a b`"),
        ("default_target = \"-x\"", "\"-x\"", "`default_target` can't be `-x`"),
        ("enable = [\"x\"]\ndisable = [\"y\", 'x']", "'x'", "`x` is in both `enable` and `disable`"),
        ("mask = ['x']\nenable = [\"x\"]", "\"x\"", "`x` is in both `enable` and `mask`"),
        ("mask = ['x']\nunmask = [\"x\"]", "\"x\"", "`x` is in both `mask` and `unmask`"),
    ] {
        refused("system", step, place, message);
    }
}

#[test]
fn what_a_system_takes_is_not_refused() {
    for step in [
        "hostname = \"\"",
        "hostname = \"web.example.org\"\ntimezone = \"Etc/GMT+1\"\nlocale = \"sr_RS.UTF-8@latin\"",
        "kernel_arguments = [\"console=ttyS0,115200\", \"nvme_core.io_timeout=4294967295\", \"-\", \"!x\"]",
        "sysctl = { \"net.ipv4.conf.eth0/1.rp_filter\" = \"\", \"-net.x\" = \"a b\", \"net.*.y\" = \"1\" }",
        "users = [{ name = \"Ann.O_x-1\", group = \"web\", groups = [\"x$\"], comment = \"Ann O'X, here\" }]",
        "enable = [\"-.mount\", \"getty@tty1\", 'a\\x2db.service', \"/etc/x.service\"]\npreset = [\"*\", \"-.mount\"]",
        "disable = [\"x\"]\nmask = [\"x\"]\nunmask = [\"y\"]\nenable = [\"y\"]\npreset = [\"y\", \"x\"]",
    ] {
        taken("system", step);
    }
}

#[test]
fn a_package_is_no_comparison() {
    for provisioner in ["package", "apt", "dnf"] {
        for item in ["nginx>=1", "nginx<2", "nginx==1", "nginx=", "=1"] {
            let message = format!("`{item}` is no package's name");
            refused(provisioner, &format!("install = [\"{item}\"]"), &format!("\"{item}\""), &message);
        }
    }
}

#[test]
fn a_text_whose_variable_has_no_value_is_not_judged() {
    let steps = "[[step]]\nuse = \"apt\"\nsnapshot = \"{var:gone}\"\nremove = [\"{var:gone} x\"]\n\
        repositories = [{ name = \"{var:gone} x\", uris = [\"{var:gone}\"], suites = [\"{var:gone}\"], signed_by = \"/k\" }, \
        { name = \"{var:gone} x\", uris = [\"https://h/\"], suites = [\"{var:gone}\"], components = [\"main\"], signed_by = \"/k\" }]\n\
        [[step]]\nuse = \"dnf\"\nrepositories = [{ name = \"x\", baseurl = [\"{var:gone}\"], gpgcheck = \"{var:gone}\" }]\n\
        [[step]]\nuse = \"system\"\nhostname = \"{var:gone}!\"\nenable = [\"{var:gone}\"]\nmask = [\"{var:gone}\"]\n";
    let told = told(steps);
    assert_eq!(told.len(), 12, "{told:?}");
    for (place, message) in told {
        assert_eq!((&*place, &*message), ("{var:gone}", "there is no variable `gone`"));
    }
}

#[test]
fn what_is_filled_in_is_judged_where_it_stands() {
    let steps = "[vars]\nname = \"a b\"\ngood = \"web\"\n[[step]]\nuse = \"system\"\nhostname = \"{var:name}\"\n\
                 groups = [{ name = \"{var:good}\" }]\n";
    assert_eq!(told(steps), [("\"{var:name}\"".to_owned(), "`hostname` can't be `a b`".to_owned())]);
}

#[test]
fn what_is_wrong_with_a_definitions_forms_is_told() {
    let param = |text: &str| {
        define(&format!(
            "summary = \"x\"\n[params.a]\n{text}\n[params.b]\ntype = \"list\"\n[run]\ncommand = [\"./run\"]\n"
        ))
    };
    for good in [
        "type = \"string\"\npattern = '[a-z]+'\nform = \"letters\"\ndefault = \"x\"",
        "type = \"list\"\nmin = 1\npattern = 'x|y'\ndisjoint = [\"b\"]\nconflicts = [\"b=x*\"]",
        "type = \"map\"\nkeys = '[a-z]'",
        "type = \"tables\"\nat_least_one = [[\"c\", \"d=1\"]]\nitem.c = { type = \"string\", unique = true }\nitem.d.type = \"integer\"",
    ] {
        param(good).unwrap_or_else(|told| panic!("{good}: {told}"));
    }
    for (wrong, words) in [
        ("type = \"string\"\npattern = '('", "`pattern` is no regular expression"),
        ("type = \"string\"\npattern = 'a)(b'", "`pattern` is no regular expression"),
        ("type = \"string\"\npattern = 'a|b'\ndefault = \"ab\"", "`default` can't be `ab`"),
        ("type = \"map\"\nkeys = 1", "`keys` is an integer"),
        ("type = \"string\"\nform = \"x\"", "unknown key `form`"),
        ("type = \"string\"\nunique = true", "unknown key `unique`"),
        ("type = \"string\"\ndisjoint = [\"b\"]", "unknown key `disjoint`"),
        ("type = \"list\"\ndisjoint = [\"c\"]", "there is no other parameter `c`"),
        ("type = \"list\"\nconflicts = [\"a=1\"]", "there is no other parameter `a`"),
        (
            "type = \"tables\"\nat_least_one = [[\"c=1\"]]\nitem.d.type = \"integer\"",
            "there is no other parameter `c`",
        ),
    ] {
        let told = param(wrong).expect_err(wrong);
        assert!(told.contains(words), "{wrong}: {told}");
    }
}

#[test]
fn a_missing_package_is_told_and_not_that_none_is_installed() {
    let (_folder, library) = library();
    for provisioner in ["package", "apt", "either", "debs"] {
        for item in ["\"./gone.deb\"", "\"https://h/x.deb\""] {
            let text = format!(
                "[image]\nname = \"web-{{version}}\"\n[base]\nimage = \"x\"\n[[step]]\nuse = \"{provisioner}\"\ninstall = [{item}]\n"
            );
            let source = Source { name: "x".to_owned(), text };
            let builder = Builder { recipe_folder: Path::new("/"), downloads: Path::new("/"), facts: &facts };
            let wrong = check_recipe(&source, &library, builder, &Inputs::default()).unwrap_err();
            let told: Vec<_> = wrong[0].complaints.iter().map(|one| one.message.as_str()).collect();
            let [one] = told.as_slice() else { panic!("{provisioner} {item}: {told:?}") };
            assert!(one.starts_with("`install`: "), "{provisioner} {item}: {one}");
        }
    }
}
