//! Accounts: who can log in by password, and who is root.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::audit::{Finding, Found};
use super::tree;

/// Accounts by name.
pub(super) type Accounts = BTreeMap<String, Account>;

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Account {
    uid: String,
    password: Password,
}

/// What stands for its password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Password {
    /// Nothing: none is asked for.
    Empty,
    /// Nothing that a password could match.
    Locked,
    /// A hash; this is the SHA-256 of it.
    Set(String),
}

/// The accounts beneath `root`.
pub(super) fn read(root: &Path) -> Result<Accounts> {
    let text = |name: &str| tree::text(&root.join(name)).map(Option::unwrap_or_default);
    Ok(parse(&text("etc/passwd")?, &text("etc/shadow")?))
}

/// passwd(5) and shadow(5).
fn parse(passwd: &str, shadow: &str) -> Accounts {
    let hashes: BTreeMap<&str, &str> = shadow
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            Some((fields.next()?, fields.next()?))
        })
        .collect();
    let account = |line: &str| {
        let mut fields = line.split(':');
        let (name, own, uid) = (fields.next()?, fields.next()?, fields.next()?);
        let hash = if own == "x" { hashes.get(name).copied().unwrap_or("!") } else { own };
        let password = match hash {
            "" => Password::Empty,
            // `!$6$…` is a password that is locked; a hash begins with `$` or, by DES, has 13 characters.
            hash if hash.starts_with('$') || hash.starts_with('_') || hash.len() == 13 => {
                Password::Set(format!("{:x}", Sha256::digest(hash)))
            }
            _ => Password::Locked,
        };
        (!name.is_empty()).then(|| (name.to_owned(), Account { uid: uid.to_owned(), password }))
    };
    passwd.lines().filter_map(account).collect()
}

/// What is not as in the base.
pub(super) fn compare(before: &Accounts, now: &Accounts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |path: &str, about: String| {
        findings.push(Finding { found: Found::Account, path: path.to_owned(), about });
    };
    for (name, account) in now {
        let was = before.get(name);
        let name = crate::report::harmless(name);
        if account.uid == "0" && was.is_none_or(|was| was.uid != "0") {
            add("/etc/passwd", format!("{name} is root (user id 0)"));
        }
        match (&account.password, was.map(|was| &was.password)) {
            (Password::Locked, _) => {}
            (now, Some(was)) if now == was => {}
            (Password::Empty, _) => add("/etc/shadow", format!("{name} logs in without a password")),
            (Password::Set(_), None) => add("/etc/shadow", format!("{name} is new and has a password")),
            (Password::Set(_), Some(Password::Set(_))) => {
                add("/etc/shadow", format!("{name} has another password"));
            }
            (Password::Set(_), Some(_)) => add("/etc/shadow", format!("{name} has a password now")),
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_that_can_log_in_are_told_and_no_others() {
        let before = parse(
            "root:x:0:0::/root:/bin/bash\nold:x:1:1::/:/bin/sh\nguest::2:2::/:/bin/sh\n",
            "root:*:1::::::\nold:$6$a$b:1::::::\n",
        );
        let now = parse(
            "root:x:0:0::/root:/bin/bash\nold:x:1:1::/:/bin/sh\nguest::2:2::/:/bin/sh\n\
             www-data:x:33:33::/:/usr/sbin/nologin\nlocked:x:5:5::/:/bin/sh\n\
             toor:x:0:0::/root:/bin/sh\nopen:x:6:6::/:/bin/sh\ndeploy:x:7:7::/:/bin/sh\nnone:x:8:8::/:/bin/sh\n",
            "root:$y$j9T$x$y:1::::::\nold:$6$a$c:1::::::\nwww-data:*:1::::::\nlocked:!$6$a$b:1::::::\n\
             toor:!:1::::::\nopen::1::::::\ndeploy:$6$x$y:1::::::\n",
        );
        let found: Vec<_> = compare(&before, &now).into_iter().map(|finding| finding.about).collect();
        assert_eq!(
            found,
            [
                "deploy is new and has a password",
                "old has another password",
                "open logs in without a password",
                "root has a password now",
                "toor is root (user id 0)",
            ]
        );
        assert!(compare(&now, &now).is_empty());
    }
}
