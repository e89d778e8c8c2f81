//! What kind of failure it was: the exit status, and what the operator can do now.
//!
//! Effects return [`anyhow::Result`] with gerund contexts ("attaching volume vol-1 as /dev/sdf"). Where the
//! kind of a failure is known, a [`Failure`] is put in the chain; [`kind_of`] finds it again, however many
//! contexts were added above it.

use std::fmt;

/// The kinds of failure, each with its own exit status. The numbers are part of the command's interface and
/// never change meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Kind {
    /// Unexpected: a bug of Bakehouse or a fault that no other kind covers.
    Internal = 1,
    /// The command line is wrong (also what clap exits with).
    Usage = 2,
    /// The recipe, a provisioner's definition or a file that it names is wrong.
    Recipe = 3,
    /// This host lacks something: root, a capability, a program, room on its disk.
    Host = 4,
    /// The base cannot be found or cannot be used.
    Base = 5,
    /// Credentials are missing or an action was refused.
    Access = 6,
    /// The cloud failed: a quota, throttling past the deadline, a resource in a final error state.
    Cloud = 7,
    /// The disk cannot be used: no root found, encrypted, damaged, full.
    Disk = 8,
    /// A step failed: package not found, a script's non-zero exit, a timeout.
    Step = 9,
    /// A check of the recipe failed.
    Check = 10,
    /// The root did not close cleanly, or its capture or registration failed.
    Capture = 11,
    /// The image's name is taken or not allowed.
    Name = 12,
    /// The image is good, but publishing it is not complete.
    Publish = 13,
    /// The image is good, or the bake ended early as asked, but something that it made could not be released.
    Leftover = 14,
}

/// A failure of a known kind, with what to do about it.
#[derive(Debug)]
pub struct Failure {
    /// The kind, hence the exit status.
    pub kind: Kind,
    /// What failed and why, one sentence without a full stop at its end.
    pub message: String,
    /// What to do now.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure of `kind`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The signal that ended the command, when one did: exit status 128 + its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted(
    /// The signal's number.
    pub i32,
);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = nix::sys::signal::Signal::try_from(self.0).map_or("a signal", |signal| signal.as_str());
        write!(f, "stopped by {name}")
    }
}

impl std::error::Error for Interrupted {}

/// The outermost [`Failure`] in the chain, if there is one.
pub fn failure_of(error: &anyhow::Error) -> Option<&Failure> {
    error
        .downcast_ref::<Failure>()
        .or_else(|| error.chain().find_map(|cause| cause.downcast_ref::<Failure>()))
}

/// The kind of a failure; [`Kind::Internal`] where none was given.
pub fn kind_of(error: &anyhow::Error) -> Kind {
    failure_of(error).map_or(Kind::Internal, |failure| failure.kind)
}

/// The exit status of a failure: never 0.
pub fn exit_status(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Interrupted>() {
        Some(Interrupted(signal)) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        None => kind_of(error) as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn kind_is_found_below_any_number_of_contexts() {
        let error = Err::<(), _>(anyhow::Error::from(Failure::new(Kind::Base, "no such image").hint("look")))
            .context("finding the base")
            .context("baking")
            .unwrap_err();
        assert_eq!(kind_of(&error), Kind::Base);
        assert_eq!(failure_of(&error).unwrap().hint.as_deref(), Some("look"));
        assert_eq!(exit_status(&error), 5);
    }

    #[test]
    fn kind_is_found_as_a_context_too() {
        let error =
            Err::<(), _>(std::io::Error::other("x")).context(Failure::new(Kind::Disk, "full")).unwrap_err();
        assert_eq!(exit_status(&error.context("above")), 8);
    }

    #[test]
    fn status_is_never_zero() {
        assert_eq!(exit_status(&anyhow::anyhow!("x")), 1);
        assert_eq!(exit_status(&anyhow::Error::from(Interrupted(15)).context("waiting")), 143);
    }
}
