//! A complaint about a text: what is wrong, where, and what to do. Rendered with the line underlined.

use std::ops::Range;

use miette::{Diagnostic, LabeledSpan, NamedSource};

/// A text that complaints point into.
#[derive(Debug, Clone)]
pub struct Source {
    /// What it is called in messages: its path, as the user gave it.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// One thing that is wrong with a recipe or with a provisioner's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes of the source.
    pub span: Range<usize>,
    /// What stands under the underline.
    pub label: Option<String>,
    /// What to do.
    pub help: Option<String>,
}

impl Complaint {
    /// A complaint about `span`.
    pub fn new(message: impl Into<String>, span: Range<usize>) -> Self {
        Self { message: message.into(), span, label: None, help: None }
    }

    /// Adds what to do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds what stands under the underline.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// The complaint with its source, as miette renders it.
    pub fn with_source(&self, source: &Source) -> miette::Report {
        miette::Report::new(Rendered {
            message: self.message.clone(),
            help: self.help.clone(),
            label: self.label.clone().unwrap_or_else(|| "here".to_owned()),
            span: self.span.clone(),
            text: NamedSource::new(&source.name, source.text.clone()),
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Rendered {
    message: String,
    help: Option<String>,
    label: String,
    span: Range<usize>,
    text: NamedSource<String>,
}

impl Diagnostic for Rendered {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn std::fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(&self.text)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new(Some(self.label.clone()), self.span.start, self.span.len());
        Some(Box::new(std::iter::once(label)))
    }
}
