//! Masterless provisioners that bring their tool along: `puppet` with `install = true`, from the image's own packages;
//! `chef` with a package file.

use std::path::Path;

use bakehouse::error::{Kind, kind_of};

use super::{Kitchen, hint_of, picture, runs_here};
use crate::support::bases::build_rpm;
use crate::support::debian_roots::{debian, rpm};
use crate::support::host::{has, run};

const STEP: &str = "[[step]]\nuse = \"puppet\"\nmanifest = \"site.pp\"\ninstall = true\n";

const MANIFEST: &str = r#"
file { '/srv/applied': content => "${facts['os']['family']} ${facts['puppetversion']}\n" }
"#;

/// The paths below a root that hold one of these words in their name.
fn named(root: &Path, words: &[&str]) -> Vec<String> {
    let all = picture(root).into_keys().map(|path| path.display().to_string());
    all.filter(|path| words.iter().any(|word| path.contains(word))).collect()
}

#[test]
fn puppet_is_installed_by_its_step_where_the_image_has_none() {
    if !runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian());
    std::fs::write(kitchen.recipe().join("site.pp"), MANIFEST).unwrap();
    kitchen.bake(STEP).unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
    let applied = kitchen.read("srv/applied");
    assert!(applied.starts_with("Debian ") && applied.contains('.'), "{applied}");
    assert!(kitchen.exists("usr/bin/puppet"));
    let status = kitchen.read("var/lib/dpkg/status");
    let package = status.split("\n\n").find(|entry| entry.starts_with("Package: puppet-agent\n")).unwrap();
    assert!(package.contains("Status: install ok installed\n"), "{package}");
    // A tool of the bake: nothing asks a master for orders when an instance boots.
    assert_eq!(named(kitchen.root(), &[".wants/puppet"]), Vec::<String>::new());
    // No downloaded package stays, and no trace of a run.
    let downloaded = named(kitchen.root(), &["var/cache/apt/archives/"]);
    assert!(downloaded.iter().all(|path| !path.ends_with(".deb")), "{downloaded:?}");
    assert_eq!(named(kitchen.root(), &["var/cache/puppet/state/"]), Vec::<String>::new());
    assert!(!kitchen.exists("run/puppet"));

    // Where it is there nothing is asked for any more: without a network it goes as well.
    let before = picture(kitchen.root());
    kitchen
        .bake(&format!("{STEP}network = \"none\"\n"))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
    let after = picture(kitchen.root());
    let changed: Vec<_> = after.iter().filter(|(path, about)| before.get(*path) != Some(about)).collect();
    assert!(changed.is_empty() && before.len() == after.len(), "{changed:?}");
}

#[test]
fn a_puppet_that_cannot_be_installed_is_told_with_what_to_do() {
    if !runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian());
    std::fs::write(kitchen.recipe().join("site.pp"), MANIFEST).unwrap();
    let fails = |kitchen: &Kitchen, more: &str, message: &str, hint: &str| {
        let error = kitchen.bake(&format!("{STEP}{more}")).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Step, "{error:#}");
        assert!(format!("{error:#}").contains(message), "{message:?}: {error:#}");
        assert!(hint_of(&error).contains(hint), "{hint:?}: {} of {error:#}", hint_of(&error));
        assert!(!kitchen.exists("srv/applied"));
    };
    fails(&kitchen, "network = \"none\"\n", "puppet could not be installed", "network");
    // Sources without it.
    for list in ["etc/apt/sources.list", "etc/apt/sources.list.d"] {
        let path = kitchen.root().join(list);
        match path.is_dir() {
            true => std::fs::remove_dir_all(path).unwrap(),
            false => std::fs::remove_file(path).unwrap_or_default(),
        }
    }
    fails(&kitchen, "", "puppet could not be installed", "sources have no Puppet");
    std::fs::remove_file(kitchen.root().join("usr/bin/apt-get")).unwrap();
    fails(&kitchen, "", "neither apt-get nor dnf nor yum", "in a step before");
}

/// Puts a stand-in for Puppet where the vendor's package has it, which says that it changed something.
const STAND_IN: &str = "%post\nmkdir -p /opt/puppetlabs/bin\n\
    printf '#!/bin/sh\\necho \"$*\" >>/srv/called\\nexit 2\\n' >/opt/puppetlabs/bin/puppet\n\
    chmod 755 /opt/puppetlabs/bin/puppet";

#[test]
fn puppet_is_installed_with_dnf_where_that_is_the_images_package_manager() {
    if !runs_here() || !has(&["rpmbuild", "createrepo_c"]) {
        return;
    }
    let kitchen = Kitchen::new(rpm());
    std::fs::write(kitchen.recipe().join("site.pp"), MANIFEST).unwrap();
    let repository = kitchen.root().join("srv/repository");
    std::fs::create_dir_all(&repository).unwrap();
    let folder = kitchen.root().join("etc/yum.repos.d");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(
        folder.join("local.repo"),
        "[local]\nname=local\nbaseurl=file:///srv/repository\ngpgcheck=0\n",
    )
    .unwrap();
    let index = || run("createrepo_c", &["--quiet", repository.to_str().unwrap()]);
    index();
    // This root has Debian's apt-get too; what it says of itself counts.
    let error = kitchen.bake(STEP).unwrap_err();
    assert!(format!("{error:#}").contains("puppet could not be installed"), "{error:#}");
    assert!(hint_of(&error).contains("sources have no Puppet"), "{}", hint_of(&error));

    build_rpm(&repository, "shell", "1", "1", "Provides: /bin/sh");
    build_rpm(&repository, "puppet-agent", "8.1", "1", STAND_IN);
    index();
    kitchen.bake(STEP).unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
    assert!(kitchen.exists("opt/puppetlabs/bin/puppet"));
    let called = kitchen.read("srv/called");
    assert!(called.starts_with("apply ") && called.ends_with("/site.pp\n"), "{called}");
    assert_eq!(called.lines().count(), 1);
}

/// The same of Cinc's omnibus package.
const CINC: &str = "%post\nmkdir -p /opt/cinc/bin\n\
    printf '#!/bin/sh\\necho \"$*\" >>/srv/called\\n' >/opt/cinc/bin/cinc-solo\n\
    chmod 755 /opt/cinc/bin/cinc-solo";

#[test]
fn chef_is_installed_from_an_rpm_package_where_the_image_has_none() {
    if !runs_here() || !has(&["rpmbuild"]) {
        return;
    }
    let kitchen = Kitchen::new(rpm());
    std::fs::create_dir(kitchen.recipe().join("cookbooks")).unwrap();
    build_rpm(&kitchen.recipe(), "shell", "1", "1", "Provides: /bin/sh");
    build_rpm(&kitchen.recipe(), "cinc", "18.0.0", "1", CINC);
    let step = |packages: &str| {
        format!(
            "[[step]]\nuse = \"chef\"\ncookbooks = \"cookbooks\"\nrun_list = [\"recipe[web]\"]\nnetwork = \"none\"\n\
             package = {packages}\n"
        )
    };
    // What it needs is not there.
    let error = kitchen.bake(&step("[\"./cinc-18.0.0-1.noarch.rpm\"]")).unwrap_err();
    assert_eq!(kind_of(&error), Kind::Step, "{error:#}");
    assert!(format!("{error:#}").contains("/bin/sh is needed by cinc"), "{error:#}");
    let error = kitchen.bake(&step("[\"cinc\"]")).unwrap_err();
    assert!(format!("{error:#}").contains("cinc is no package file"), "{error:#}");
    assert!(!kitchen.exists("srv/called"));

    let both = step("[\"./shell-1-1.noarch.rpm\", \"./cinc-18.0.0-1.noarch.rpm\"]");
    kitchen.bake(&both).unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
    assert!(kitchen.read("srv/called").contains("--override-runlist recipe[web]\n"));
    // Once it is there no package is looked at.
    std::fs::write(kitchen.recipe().join("cinc-18.0.0-1.noarch.rpm"), "not a package").unwrap();
    kitchen.bake(&both).unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
    assert_eq!(kitchen.read("srv/called").lines().count(), 2);
}
