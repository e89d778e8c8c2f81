//! Owners by name, looked up in the image's own /etc/passwd and /etc/group by reading them. The C library is
//! not asked: its lookups would load the image's modules and read the image's configuration for them.

use anyhow::{Context as _, Result, bail};

/// Whom something belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    /// The user's number.
    pub(super) user: u32,
    /// The group's number.
    pub(super) group: u32,
}

/// Resolves a step's `owner` and `group`, each a name or a number. Without them everything is root's; an owner
/// known to the image brings its own group along.
pub(super) fn resolve(owner: Option<&str>, group: Option<&str>) -> Result<Owner> {
    let read = |path: &str| {
        std::fs::read(path)
            .map_or_else(|_| String::new(), |content| String::from_utf8_lossy(&content).into_owned())
    };
    resolve_in(&read("/etc/passwd"), &read("/etc/group"), owner, group)
}

fn resolve_in(passwd: &str, groups: &str, owner: Option<&str>, group: Option<&str>) -> Result<Owner> {
    let mut found = Owner { user: 0, group: 0 };
    if let Some(owner) = owner {
        match (entry(passwd, owner), owner.parse()) {
            (Some(fields), _) => {
                let number = |index: usize| fields.get(index).and_then(|field| field.parse().ok());
                found.user =
                    number(2).with_context(|| format!("the image's /etc/passwd is damaged at {owner:?}"))?;
                found.group = number(3).unwrap_or(0);
            }
            (None, Ok(number)) => found.user = number,
            (None, Err(_)) => bail!(
                "the image has no user {owner:?}: the step that makes it, or the package that brings it, must come before"
            ),
        }
    }
    if let Some(group) = group {
        found.group = match (entry(groups, group), group.parse()) {
            (Some(fields), _) => fields
                .get(2)
                .and_then(|field| field.parse().ok())
                .with_context(|| format!("the image's /etc/group is damaged at {group:?}"))?,
            (None, Ok(number)) => number,
            (None, Err(_)) => bail!(
                "the image has no group {group:?}: the step that makes it, or the package that brings it, must come before"
            ),
        };
    }
    Ok(found)
}

fn entry<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n1000:x:7:7::/:\nbad:x\n";
    const GROUP: &str = "root:x:0:\nwww-data:x:33:\nadm:x:4:syslog\n";

    #[test]
    fn names_numbers_and_what_is_unknown() {
        let resolve = |owner, group| resolve_in(PASSWD, GROUP, owner, group);
        assert_eq!(resolve(None, None).unwrap(), Owner { user: 0, group: 0 });
        assert_eq!(resolve(Some("www-data"), None).unwrap(), Owner { user: 33, group: 33 });
        assert_eq!(resolve(Some("www-data"), Some("adm")).unwrap(), Owner { user: 33, group: 4 });
        assert_eq!(resolve(Some("1001"), Some("50")).unwrap(), Owner { user: 1001, group: 50 });
        assert_eq!(resolve(Some("1000"), None).unwrap(), Owner { user: 7, group: 7 });
        assert!(resolve(Some("nobody-here"), None).unwrap_err().to_string().contains("no user"));
        assert!(resolve(None, Some("-1")).is_err());
        assert!(resolve(Some("bad"), None).unwrap_err().to_string().contains("damaged"));
    }
}
