//! Addresses in recipes.

/// What to do about [`holds_credentials`].
pub const CREDENTIALS_HELP: &str = "they would stand in the image, in plans and in logs: let the builder's network, or a mirror of your own, admit it";

/// Whether a URL has a user's name, and so perhaps a password, in it (RFC 3986, 3.2.1).
pub fn holds_credentials(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else { return false };
    rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_before_the_host() {
        for url in ["https://me:token@host/debian", "http://token@host", "copy://a@b?x"] {
            assert!(holds_credentials(url), "{url}");
        }
        for url in ["https://host/a@b", "https://host?mail=a@b", "me@host", "https://host:8080/x#@"] {
            assert!(!holds_credentials(url), "{url}");
        }
    }
}
