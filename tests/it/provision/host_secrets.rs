//! Secrets of `ansible`, which runs on the builder: its lookups, its modules in the image, its Vault.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bakehouse::provision::Vault;
use bakehouse::recipe::SecretSource;

use super::{Kitchen, hint_of, picture, runs_here};
use crate::support::debian_roots::debian_with;
use crate::support::host::{has, in_own_mounts, run};

/// With all that JSON, shells and Python write otherwise.
const TOKEN: &str = "tok7c1eb09d-\"5\\a'\u{e9}4f";
/// What it begins with, which nothing writes otherwise.
const SECRET: &str = "tok7c1eb09d";
const VAULT: &str = "vault-pass-28ad61";

const STEP: &str = "[[step]]\nuse = \"ansible\"\nfolder = \"project\"\nnetwork = \"none\"\n\
                    secrets = { TOKEN = { env = \"TOKEN\" }, vault-password = { file = \"vault.txt\" } }\n";

const SITE: &str = r#"
- hosts: all
  gather_facts: false
  vars_files: [sealed.yml]
  vars:
    token: "{{ lookup('ansible.builtin.file', '/run/bakehouse/secrets/TOKEN') }}"
  tasks:
    - name: on the builder and in the image it is the same
      ansible.builtin.slurp: {src: /run/bakehouse/secrets/TOKEN}
      register: inside
    - ansible.builtin.assert:
        that: [(inside.content | b64decode) == token, sealed == "unsealed"]
        quiet: true
    - name: told in every way
      ansible.builtin.debug: {msg: "it is {{ token }}, {{ token | b64encode }}"}
    - ansible.builtin.command: {argv: [echo, "{{ token }}"]}
    - ansible.builtin.command: {argv: [echo, "{{ token }}"]}
      delegate_to: localhost
    - name: only its digest stays
      ansible.builtin.copy: {content: "{{ token | hash('sha256') }}\n", dest: /srv/digest}
    - name: nobody else may read it, and nobody may change it
      ansible.builtin.stat: {path: /run/bakehouse/secrets/TOKEN}
      register: about
    - ansible.builtin.assert:
        that: [about.stat.mode == "0400", about.stat.uid == 0]
        quiet: true
"#;

/// A kitchen with a project in it, and the secrets of [`STEP`].
fn kitchen() -> Option<Kitchen> {
    if !runs_here() || !has(&["ansible-playbook", "ansible-vault"]) {
        return None;
    }
    let mut kitchen = Kitchen::new(debian_with("ansible", "python3,python3-apt,systemd,systemd-sysv"));
    let put = |name: &str, text: &str| -> PathBuf {
        let path = kitchen.recipe().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    };
    put("project/site.yml", SITE);
    let password = put("vault.txt", &format!("{VAULT}\n"));
    let [plain, sealed] =
        ["plain.yml", "project/sealed.yml"].map(|name| put(name, "sealed: unsealed\n").display().to_string());
    let password_file = password.display().to_string();
    run("ansible-vault", &["encrypt", "--vault-password-file", &password_file, "--output", &sealed, &plain]);
    let mut vault = Vault::default();
    vault.put(SecretSource::Env("TOKEN".into()), TOKEN.into());
    vault.put(SecretSource::File(password), format!("{VAULT}\n").into());
    kitchen.secrets = vault;
    Some(kitchen)
}

/// The files below a folder that hold a secret, as it is or as JSON has it.
fn holders(folder: &Path) -> Vec<PathBuf> {
    let json = serde_json::to_string(TOKEN).unwrap();
    let texts = [TOKEN.as_bytes(), json.trim_matches('"').as_bytes(), SECRET.as_bytes(), VAULT.as_bytes()];
    let holds =
        |content: &[u8]| texts.iter().any(|text| content.windows(text.len()).any(|part| part == *text));
    let all = picture(folder).into_iter().filter(|(_, (.., content))| holds(content));
    all.map(|(path, _)| path).filter(|path| !path.ends_with("vault.txt")).collect()
}

#[test]
fn ansible_reads_its_secrets_on_the_builder_and_in_the_image_and_tells_none() {
    let Some(kitchen) = kitchen() else { return };
    let verbose = format!("{STEP}verbosity = 4\ndiff = true\n");
    kitchen.bake(&verbose).unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
    let digest = run("sh", &["-c", "printf %s \"$1\" | sha256sum", "sh", TOKEN]);
    assert_eq!(kitchen.read("srv/digest"), digest.replace("  -", ""));
    let log = kitchen.log();
    assert!(log.contains("it is ***"), "{log}");
    assert_eq!(holders(kitchen.around.path()), Vec::<PathBuf>::new(), "{log}");
    assert_eq!(holders(kitchen.root()), Vec::<PathBuf>::new());
}

#[test]
fn an_ansible_step_that_fails_tells_no_secret_either() {
    let Some(kitchen) = kitchen() else { return };
    let site = kitchen.recipe().join("project/site.yml");
    std::fs::write(
        &site,
        SITE.replace(
            "- name: told in every way",
            "- ansible.builtin.command: {argv: [\"false\", \"{{ token }}\"]}\n    - name: never",
        ),
    )
    .unwrap();
    let error = kitchen.bake(STEP).unwrap_err();
    let told = format!("{error:#}");
    assert!(told.contains("ansible-playbook ended with exit status 2") && told.contains("***"), "{told}");
    assert!(!told.contains(SECRET), "{told}");
    assert_eq!(holders(kitchen.around.path()), Vec::<PathBuf>::new(), "{}", kitchen.log());
    assert_eq!(holders(kitchen.root()), Vec::<PathBuf>::new());

    // Two passwords are one too many, and a wrong one opens nothing.
    std::fs::write(kitchen.recipe().join("other"), "other\n").unwrap();
    let error = kitchen.bake(&format!("{STEP}vault_password_file = \"other\"\n")).unwrap_err();
    assert!(format!("{error:#}").contains("`vault_password_file` and a secret vault-password"), "{error:#}");
    let without = STEP.replace(", vault-password = { file = \"vault.txt\" }", "");
    let error = kitchen.bake(&without).unwrap_err();
    assert!(hint_of(&error).contains("vault-password"), "{}", hint_of(&error));
}

/// Ansible's modules tell the system's log how they were called. In the image there is none; on the builder there is.
#[test]
fn the_builders_own_log_hears_nothing_of_a_module_that_ran_there() {
    let Some(kitchen) = kitchen() else { return };
    in_own_mounts(move || {
        // A /dev of this test's own, with a log in it.
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().to_str().unwrap();
        run("mount", &["-t", "tmpfs", "-o", "mode=0755", "none", own]);
        for name in ["null", "zero", "full", "random", "urandom", "tty", "ptmx"] {
            run("cp", &["--archive", &format!("/dev/{name}"), own]);
        }
        for name in ["pts", "shm"] {
            let place = folder.path().join(name);
            std::fs::create_dir(&place).unwrap();
            run("mount", &["--bind", &format!("/dev/{name}"), place.to_str().unwrap()]);
        }
        std::os::unix::fs::symlink("/proc/self/fd", folder.path().join("fd")).unwrap();
        let log = UnixDatagram::bind(folder.path().join("log")).unwrap();
        run("mount", &["--rbind", own, "/dev"]);
        run("logger", &["--socket-errors=on", "heard"]);
        kitchen.bake(STEP).unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
        log.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut heard = Vec::new();
        let mut message = vec![0; 64 * 1024];
        loop {
            match log.recv(&mut message) {
                Ok(length) => heard.push(String::from_utf8_lossy(&message[..length]).into_owned()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(heard[0].contains("heard"), "{heard:?}");
        assert!(!heard.iter().any(|line| line.contains(SECRET)), "{heard:?}");
        run("umount", &["--recursive", "--lazy", "/dev"]);
        run("umount", &["--recursive", "--lazy", own]);
    });
}
