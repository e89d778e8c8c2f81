//! Tells secrets by their form: private keys, and files in which programs keep passwords and tokens.

use std::path::Path;

use super::audit::Found;

/// What is said of a thing that was found.
type About = (Found, String);

/// Files that hold credentials: the end of the path, and what must be in it (one of these; nothing: anything).
const FILES: [(&str, &[&str]); 22] = [
    (".aws/credentials", &["aws_secret_access_key", "aws_session_token"]),
    (".netrc", &["password"]),
    (".docker/config.json", &["\"auth\"", "\"identitytoken\""]),
    (".config/containers/auth.json", &["\"auth\""]),
    (".git-credentials", &[]),
    (".config/git/credentials", &[]),
    (".pgpass", &[]),
    (".my.cnf", &["password"]),
    (".npmrc", &["_authToken", "_auth", "_password"]),
    (".yarnrc.yml", &["npmAuthToken", "npmAuthIdent"]),
    (".pypirc", &["password"]),
    (".gem/credentials", &[]),
    (".cargo/credentials", &["token"]),
    (".cargo/credentials.toml", &["token"]),
    (".kube/config", &["client-key-data", "token:", "password:"]),
    (".config/gcloud/application_default_credentials.json", &[]),
    (".config/gcloud/credentials.db", &[]),
    (".config/gh/hosts.yml", &["oauth_token"]),
    (".terraform.d/credentials.tfrc.json", &["token"]),
    (".vault-token", &[]),
    (".s3cfg", &["secret_key"]),
    (".rclone.conf", &["pass", "secret", "token"]),
];

/// Tokens that tell themselves: how they begin, how many letters and digits follow, and whose they are.
const TOKENS: [(&str, usize, &str); 6] = [
    ("AKIA", 16, "an AWS access key id"),
    ("ASIA", 16, "a temporary AWS access key id"),
    ("ghp_", 36, "a GitHub token"),
    ("gho_", 36, "a GitHub token"),
    ("ghs_", 36, "a GitHub token"),
    ("glpat-", 20, "a GitLab token"),
];

/// What the file `inner` with this in it holds.
pub(super) fn look(inner: &Path, content: &[u8]) -> Vec<About> {
    let mut found = Vec::new();
    let text = String::from_utf8_lossy(content);
    if is_authorized_keys(inner) {
        let keys = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).count();
        if keys > 0 {
            found.push((Found::AuthorizedKeys, count(keys, "key")));
        }
        return found;
    }
    if let Some((_, words)) = FILES.iter().find(|(end, _)| inner.ends_with(end))
        && (words.is_empty() || words.iter().any(|word| text.contains(word)))
    {
        found.push((Found::Credentials, "where a program keeps its credentials".to_owned()));
    }
    let extension = inner.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if matches!(extension.as_str(), "p12" | "pfx") {
        found.push((Found::PrivateKey, "a PKCS #12 store".to_owned()));
    }
    if inner.starts_with("etc/wireguard") && text.contains("PrivateKey") {
        found.push((Found::PrivateKey, "WireGuard".to_owned()));
    }
    if let Some(about) = private_key(&text) {
        let about = if inner.ends_with("ssl-cert-snakeoil.key") {
            "ssl-cert's, which every machine is to make itself: make-ssl-cert generate-default-snakeoil --force-overwrite"
                .to_owned()
        } else {
            about
        };
        found.push((Found::PrivateKey, about));
    }
    for (start, length, whose) in TOKENS {
        if let Some(line) = token(&text, start, length) {
            found.push((Found::Credentials, format!("{whose} in line {line}")));
        }
    }
    found
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("one {what}") } else { format!("{number} {what}s") }
}

fn is_authorized_keys(inner: &Path) -> bool {
    inner.ends_with(".ssh/authorized_keys")
        || inner.ends_with(".ssh/authorized_keys2")
        || inner.starts_with("etc/ssh/authorized_keys")
}

/// Of which kind and in which line the first private key is: a PEM or OpenSSH header that something follows, not a
/// program's word for one.
fn private_key(text: &str) -> Option<String> {
    if text.starts_with("PuTTY-User-Key-File-") {
        return Some("PuTTY's".to_owned());
    }
    for (at, _) in text.match_indices("-----BEGIN ") {
        let rest = text.get(at + "-----BEGIN ".len()..).unwrap_or_default();
        let Some((kind, after)) = rest.split_once("-----") else { continue };
        if kind.len() > 40 || !(kind.ends_with("PRIVATE KEY") || kind == "PGP PRIVATE KEY BLOCK") {
            continue;
        }
        // `\n` as two characters: in JSON, or in a shell's string.
        let body = after.trim_start().trim_start_matches("\\r").trim_start_matches("\\n").trim_start();
        let begins = body.split(|c: char| !(c.is_ascii_alphanumeric() || "+/=-:".contains(c))).next();
        if begins.unwrap_or_default().trim_start_matches('-').len() >= 8 && !body.starts_with("-----END") {
            let encrypted = kind.contains("ENCRYPTED") || body.starts_with("Proc-Type: 4,ENCRYPTED");
            let word = if encrypted { ", encrypted" } else { "" };
            return Some(format!("{kind} in line {}{word}", line_of(text, at)));
        }
    }
    None
}

/// The line of the first token that begins so, with so many letters and digits behind it; documentation's own
/// examples are passed over.
fn token(text: &str, start: &str, length: usize) -> Option<usize> {
    let found = text.match_indices(start).find(|(at, _)| {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let before = text.get(..*at).unwrap_or_default().chars().next_back();
        let after = text.get(at + start.len()..).unwrap_or_default();
        let body: &str = after.split(|c: char| !word(c)).next().unwrap_or_default();
        let upper =
            !start.starts_with('A') || body.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        before.is_none_or(|c| !word(c)) && body.len() == length && upper && !body.ends_with("EXAMPLE")
    });
    found.map(|(at, _)| line_of(text, at))
}

fn line_of(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or_default().matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        look(Path::new(path), text.as_bytes()).into_iter().map(|(_, about)| about).collect()
    }

    /// Put together here, so that no scanner takes this file for a leak.
    fn pem(kind: &str) -> String {
        format!("-----{} {kind}-----\nMIIEpAIBAAKCAQEA7\n-----END {kind}-----\n", "BEGIN")
    }

    #[test]
    fn private_keys_are_told_by_their_form() {
        for kind in [
            "PRIVATE KEY",
            "RSA PRIVATE KEY",
            "EC PRIVATE KEY",
            "OPENSSH PRIVATE KEY",
            "PGP PRIVATE KEY BLOCK",
        ] {
            assert_eq!(found("srv/key", &format!("x\n{}", pem(kind))), [format!("{kind} in line 2")]);
        }
        let encrypted = pem("ENCRYPTED PRIVATE KEY");
        assert_eq!(found("srv/key", &encrypted), ["ENCRYPTED PRIVATE KEY in line 1, encrypted"]);
        let json = format!("{{\"private_key\": \"{}\"}}", pem("PRIVATE KEY").replace('\n', "\\n"));
        assert_eq!(found("srv/account.json", &json), ["PRIVATE KEY in line 1"]);
        assert!(
            found("etc/ssl/private/ssl-cert-snakeoil.key", &pem("PRIVATE KEY"))[0].contains("make-ssl-cert")
        );
    }

    #[test]
    fn what_only_speaks_of_keys_is_none() {
        for kind in ["CERTIFICATE", "PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE REQUEST"] {
            assert!(found("srv/key", &pem(kind)).is_empty(), "{kind}");
        }
        let begin = "BEGIN";
        assert!(
            found("srv/x.sh", &format!("grep -q '-----{begin} RSA PRIVATE KEY-----' \"$1\"\n")).is_empty()
        );
        assert!(
            found("srv/x.sh", &format!("-----{begin} RSA PRIVATE KEY-----\n-----END RSA PRIVATE KEY-----\n"))
                .is_empty()
        );
        assert!(found("root/.netrc", "machine x\n").is_empty());
        assert!(found("root/.npmrc", "registry=https://x\n").is_empty());
    }

    #[test]
    fn credentials_and_tokens_are_told_without_being_shown() {
        let id = format!("AKIA{}", "ABCDEFGHIJKLMN23");
        let texts = [
            found("home/ada/.aws/credentials", "[default]\naws_secret_access_key = x\n"),
            found("root/.git-credentials", "https://x:y@z\n"),
            found("srv/app/.npmrc", "//registry/:_authToken=x\n"),
            found("srv/app/.env", &format!("A=1\nKEY={id}\n")),
            found("srv/app/.env", &format!("T=ghp_{}\n", "a1".repeat(18))),
            found("root/.ssh/authorized_keys", "# mine\nssh-ed25519 AAAA ada\n"),
        ];
        for text in &texts {
            assert_eq!(text.len(), 1, "{texts:?}");
            assert!(!text[0].contains("ABCDEFG"), "{text:?}");
        }
        assert_eq!(texts[3], ["an AWS access key id in line 2"]);
        assert!(found("srv/doc", "AKIAIOSFODNN7EXAMPLE").is_empty());
        assert!(found("srv/doc", &format!("x{id}")).is_empty());
        assert!(found("srv/doc", &format!("{id}9")).is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            look(Path::new("srv/x"), &bytes);
        }

        #[test]
        fn any_mix_of_words_is_looked_at(text in "(-----BEGIN |-----|PRIVATE KEY|\\\\n|\n|AKIA|ghp_|é|[A-Z]{16}){0,30}") {
            look(Path::new("srv/x"), text.as_bytes());
        }
    }
}
