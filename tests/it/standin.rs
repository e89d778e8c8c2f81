//! The stand-in for EC2 is honest: boto3's own client and waiters, and errors that EC2 gives.

use std::process::{Command, Stdio};

use crate::support::standin::{Options, Standin, python};
use crate::support::{not_root, skipped};

/// Runs `tests/standin/test_honesty.py`, which starts stand-ins of its own.
#[test]
fn boto3_finds_it_honest() {
    if skipped(not_root()) {
        return;
    }
    let output = Command::new(python())
        .args(["-m", "unittest", "-v", "standin.test_honesty"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The helper itself: starts, tells its state, and is gone with everything when stopped.
#[test]
fn starts_and_stops() {
    if skipped(not_root()) {
        return;
    }
    let standin = Standin::start(&Options::default());
    assert_eq!(standin.state()["images"], serde_json::json!([]));
    assert!(standin.requests().is_empty());
    standin.stop();
}
