//! How a failure is told: what was being done, to what, why it failed, and what to do now.

use super::harmless;
use crate::error::failure_of;
use crate::recipe::NotGood;

/// The failure in lines for people: the outermost context first, each cause below it, the hint last.
pub fn render(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let mut last = String::new();
    for (depth, cause) in error.chain().enumerate() {
        let message = cause.to_string();
        // Libraries repeat their cause in their own message; say it once.
        if depth > 0 && (message.is_empty() || last.contains(&message)) {
            continue;
        }
        let lead = if depth == 0 { "error: " } else { "  because: " };
        // It may quote what a program said that nobody here wrote.
        let mut lines = message.lines().map(harmless);
        text.push_str(lead);
        text.push_str(&lines.next().unwrap_or_default());
        text.push('\n');
        for line in lines {
            text.push_str("    ");
            text.push_str(&line);
            text.push('\n');
        }
        last = message;
    }
    if let Some(hint) = failure_of(error).and_then(|failure| failure.hint.as_deref()) {
        text.push_str("  what to do: ");
        text.push_str(&harmless(hint));
        text.push('\n');
    }
    text
}

/// The failure as one JSON document: `{"error": {"kind", "status", "message", "causes", "hint"}}`, and of a recipe that
/// is not good its `complaints`.
pub fn document(error: &anyhow::Error) -> serde_json::Value {
    let causes: Vec<_> =
        error.chain().skip(1).map(ToString::to_string).filter(|cause| !cause.is_empty()).collect();
    let mut document = serde_json::json!({
        "kind": crate::error::kind_of(error),
        "status": crate::error::exit_status(error),
        "message": error.to_string(),
        "causes": causes,
        "hint": failure_of(error).and_then(|failure| failure.hint.clone()),
    });
    if let (Some(wrong), Some(fields)) = (error.downcast_ref::<NotGood>(), document.as_object_mut()) {
        fields.insert("complaints".to_owned(), wrong.documents().into());
    }
    serde_json::json!({ "error": document })
}

/// The failure as a line of progress: what [`document`] holds, with `kind` and `time` as every such line has them.
pub fn line(error: &anyhow::Error) -> serde_json::Value {
    let mut line = document(error);
    let text = render(error);
    if let Some(fields) = line.as_object_mut() {
        fields.insert("kind".to_owned(), "error".into());
        fields.insert("time".to_owned(), format!("{:.3}", jiff::Timestamp::now()).into());
        fields.insert("text".to_owned(), text.trim_end().into());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Failure, Kind};
    use anyhow::Context as _;

    #[test]
    fn what_a_program_said_does_not_steer_the_terminal() {
        let failure =
            Failure::new(Kind::Step, "step x failed:\nlast\u{1b}]0;title\u{7} words\r").hint("see\u{8}");
        let error = Err::<(), _>(anyhow::Error::from(failure)).context("baking \u{1b}[2Jx").unwrap_err();
        let told = render(&error);
        assert!(!told.contains(|c: char| c.is_control() && c != '\n'), "{told:?}");
        assert!(told.contains("step x failed:\n    last\\u{1b}]0;title\\u{7} words"), "{told}");
    }

    #[test]
    fn a_failure_reads_as_prose_and_ends_with_what_to_do() {
        let failure =
            Failure::new(Kind::Base, "no image matches debian-13-*").hint("look with bakehouse images");
        let error = Err::<(), _>(anyhow::Error::from(failure)).context("finding the base").unwrap_err();
        assert_eq!(
            render(&error),
            "error: finding the base\n  because: no image matches debian-13-*\n  what to do: look with bakehouse images\n"
        );
        assert_eq!(document(&error)["error"]["status"], 5);
    }
}
