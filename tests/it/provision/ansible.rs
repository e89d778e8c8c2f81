//! The `ansible` provisioner with the real Ansible on this host.

use std::path::Path;

use super::{Kitchen, hint_of, runs_here};
use crate::support::debian_roots::{debian, debian_with};
use crate::support::host::{has, run};
use crate::support::metadata::{Place, judge, probe};

fn ansible_runs_here() -> bool {
    runs_here() && has(&["ansible-playbook", "ansible-galaxy"])
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

const SITE: &str = r#"
- hosts: web
  become: true
  vars_files: [secret.yml]
  roles: [site]
  tasks:
    - name: facts are the image's
      ansible.builtin.assert:
        that: [ansible_facts.distribution == "Debian", ansible_connection == "bakehouse", greeting == "good day"]
    - name: a file by its content
      ansible.builtin.copy: {content: "{{ password }}\n", dest: /etc/site.secret, mode: "0600"}
    - name: a file of the project
      ansible.builtin.copy: {src: page.html, dest: /srv/page.html, owner: site, mode: "0640"}
      notify: restart
    - name: as another user
      ansible.builtin.command: id -un
      become_user: site
      become_method: su
      register: who
    - name: in the background
      ansible.builtin.shell: sleep 0.1; echo done > /srv/async
      async: 60
      poll: 1
    - name: fetched
      ansible.builtin.slurp: {src: /srv/page.html}
      register: page
    - ansible.builtin.copy: {content: "{{ who.stdout }} {{ page.content | b64decode }}", dest: /srv/result}
    - name: on the builder
      ansible.builtin.command: test -e BUILDER
      delegate_to: localhost
      become: false
    - name: in the image
      ansible.builtin.command: test ! -e BUILDER
    - name: not this one
      ansible.builtin.fail:
      tags: [never-mind]
  handlers:
    - name: restart
      ansible.builtin.systemd: {name: thing, state: restarted, enabled: true}
- hosts: localhost
  tasks:
    - ansible.builtin.fail: {msg: "limited to the image"}
"#;

const ROLE: &str = r#"
- ansible.builtin.user: {name: site, system: true, shell: /bin/sh, home: /srv}
- ansible.builtin.template: {src: site.conf.j2, dest: /etc/site.conf}
- ansible.builtin.apt: {deb: /run/bakehouse/step/files/folder/project/hello_1_all.deb}
- ansible.builtin.include_role: {name: vendored}
"#;

#[test]
fn a_project_with_its_roles_is_played_in_the_sandbox() {
    if !ansible_runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian_with("ansible", "python3,python3-apt,systemd,systemd-sysv"));
    let project = kitchen.recipe().join("project");
    let outer = kitchen.around.path().join("recipe");
    let site = SITE.replace("BUILDER", outer.to_str().unwrap());
    write(
        &project,
        &[
            ("site.yml", &site),
            ("files/page.html", "<html>\n"),
            ("roles/site/tasks/main.yml", ROLE),
            ("roles/site/templates/site.conf.j2", "greeting={{ greeting }} of {{ inventory_hostname }}\n"),
            ("group_vars/web.yml", "greeting: overridden\n"),
            ("secret.plain", "password: s3cret\n"),
        ],
    );
    let vendored = kitchen.around.path().join("vendored");
    write(
        &vendored,
        &[
            ("tasks/main.yml", "- ansible.builtin.file: {path: /srv/vendored, state: touch}\n"),
            (
                "meta/main.yml",
                "galaxy_info: {author: x, description: x, min_ansible_version: '2.9', license: x}\n",
            ),
        ],
    );
    let archive = kitchen.around.path().join("vendored.tar.gz");
    let around = kitchen.around.path().to_str().unwrap();
    run(
        "tar",
        &["--create", "--gzip", "--file", archive.to_str().unwrap(), "--directory", around, "vendored"],
    );
    let requirements = format!("roles:\n  - {{src: \"file://{}\", name: vendored}}\n", archive.display());
    write(
        &kitchen.recipe(),
        &[("requirements.yml", &requirements), ("password", "open\n"), ("vars.yml", "greeting: less\n")],
    );
    let [plain, password] = ["project/secret.plain", "password"].map(|name| kitchen.recipe().join(name));
    run(
        "ansible-vault",
        &[
            "encrypt",
            "--vault-password-file",
            password.to_str().unwrap(),
            "--output",
            project.join("secret.yml").to_str().unwrap(),
            plain.to_str().unwrap(),
        ],
    );
    crate::support::packages::Deb { name: "hello", version: "1", ..Default::default() }.build(&project);
    write(
        kitchen.root(),
        &[(
            "etc/systemd/system/thing.service",
            "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n",
        )],
    );
    kitchen
        .bake(
            "[[step]]\nuse = \"ansible\"\nfolder = \"project\"\nrequirements = \"requirements.yml\"\ngroups = [\"web\"]\nhost = \"web-1\"\n\
             vars = { greeting = \"good day\" }\nvars_file = \"vars.yml\"\nvault_password_file = \"password\"\n\
             skip_tags = [\"never-mind\"]\nsuppress_sync = true\n",
        )
        .unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
    assert_eq!(kitchen.read("etc/site.conf"), "greeting=good day of web-1\n");
    assert_eq!(kitchen.read("etc/site.secret"), "s3cret\n");
    assert_eq!(kitchen.read("srv/result"), "site <html>\n");
    assert_eq!(kitchen.read("srv/async"), "done\n");
    assert!(kitchen.exists("srv/vendored"));
    assert!(kitchen.exists("etc/systemd/system/multi-user.target.wants/thing.service"));
    assert!(kitchen.read("var/lib/dpkg/status").contains("Package: hello"));
    // Nothing of Ansible's own stays.
    for path in ["root/.ansible", "root/.ansible_async", "srv/.ansible", "tmp/.ansible"] {
        assert!(!kitchen.exists(path), "{path}");
    }
    assert!(!kitchen.log().contains("s3cret"), "{}", kitchen.log());
}

#[test]
fn a_playbook_alone_and_roles_alone_are_played_and_failures_are_explained() {
    if !ansible_runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian_with("ansible", "python3,python3-apt,systemd,systemd-sysv"));
    write(
        &kitchen.recipe(),
        &[
            (
                "one.yml",
                "- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.copy: {content: one, dest: /opt/one}\n",
            ),
            ("roles/two/tasks/main.yml", "- ansible.builtin.copy: {content: two, dest: /opt/two}\n"),
            ("other.yml", "- hosts: db\n  tasks:\n    - ansible.builtin.ping:\n"),
            (
                "bad.yml",
                "- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.command: /bin/false\n",
            ),
        ],
    );
    kitchen
        .bake("[[step]]\nuse = \"ansible\"\nplaybook = \"one.yml\"\nroles = [\"two\"]\nroles_folder = \"roles\"\nnetwork = \"none\"\n")
        .unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
    assert_eq!(kitchen.read("opt/one") + &kitchen.read("opt/two"), "onetwo");

    let error = kitchen.bake("[[step]]\nuse = \"ansible\"\nplaybook = \"other.yml\"\n").unwrap_err();
    assert!(format!("{error:#}").contains("no play is for this image"), "{error:#}");
    assert!(hint_of(&error).contains("`groups`"), "{}", hint_of(&error));
    let error = kitchen.bake("[[step]]\nuse = \"ansible\"\nplaybook = \"bad.yml\"\n").unwrap_err();
    assert!(format!("{error:#}").contains("ansible-playbook ended with exit status 2"), "{error:#}");
    std::fs::write(
        kitchen.recipe().join("requirements.yml"),
        "roles:\n  - {src: \"file:///nowhere/role.tar.gz\", name: nowhere}\n",
    )
    .unwrap();
    let error = kitchen
        .bake("[[step]]\nuse = \"ansible\"\nplaybook = \"one.yml\"\nrequirements = \"requirements.yml\"\n")
        .unwrap_err();
    assert!(format!("{error:#}").contains("the requirements cannot be installed"), "{error:#}");

    // An image without Python.
    let bare = Kitchen::new(debian());
    write(&bare.recipe(), &[("ping.yml", "- hosts: all\n  tasks:\n    - ansible.builtin.ping:\n")]);
    let error = bare.bake("[[step]]\nuse = \"ansible\"\nplaybook = \"ping.yml\"\n").unwrap_err();
    assert!(format!("{error:#}").contains("the image has no Python"), "{error:#}");
    assert!(hint_of(&error).contains("install python3 in a step before"), "{}", hint_of(&error));
}

/// By Ansible's three roads: a module in the image, a task on the builder, and a lookup, which is the builder's too.
#[test]
fn the_metadata_service_is_out_of_a_playbooks_reach() {
    if !ansible_runs_here() || !has(&["ip", "bash"]) {
        return;
    }
    Place::enter(|_place| {
        let kitchen = Kitchen::new(debian_with("ansible", "python3,python3-apt,systemd,systemd-sysv"));
        write(kitchen.root(), &[("opt/probe", &probe())]);
        let playbook = r#"
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.command: bash /opt/probe module
      register: module
    - ansible.builtin.command: bash PROBE task
      delegate_to: localhost
      register: task
    - ansible.builtin.copy:
        content: "{{ module.stdout }}\n{{ task.stdout }}\n{{ lookup('pipe', 'bash PROBE lookup') }}\n"
        dest: /opt/told
"#;
        let outside = kitchen.around.path().join("probe");
        std::fs::write(&outside, probe()).unwrap();
        let playbook = playbook.replace("PROBE", outside.to_str().unwrap());
        write(&kitchen.recipe(), &[("ask.yml", &playbook)]);
        kitchen
            .bake("[[step]]\nuse = \"ansible\"\nplaybook = \"ask.yml\"\n")
            .unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
        for road in ["module", "task", "lookup"] {
            judge(&kitchen.read("opt/told"), road, false);
        }
    });
}
