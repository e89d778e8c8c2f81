//! A complaint about a text: what is wrong, where, and what to do. Rendered with the line underlined.

use std::ops::Range;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource};

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

/// Complaints about one text.
#[derive(Debug, Clone)]
pub struct Complained {
    /// The text.
    pub source: Source,
    /// What is wrong with it.
    pub complaints: Vec<Complaint>,
}

/// What made a failure of complaints, for whoever reads the failure's document. People were shown them already,
/// each with its line: as a cause it says nothing more.
#[derive(Debug, thiserror::Error)]
#[error("")]
pub struct NotGood(
    /// What is wrong, by text.
    pub Vec<Complained>,
);

impl NotGood {
    /// Each with its file, line and column, which count from 1.
    pub fn documents(&self) -> Vec<serde_json::Value> {
        let of_one = |one: &Complained| {
            one.complaints.iter().map(|complaint| complaint.document(&one.source)).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of_one).collect()
    }
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

    fn document(&self, source: &Source) -> serde_json::Value {
        let before = source.text.get(..self.span.start).unwrap_or(&source.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        serde_json::json!({
            "file": source.name,
            "line": before.matches('\n').count() + 1,
            "column": line.chars().count() + 1,
            "message": self.message,
            "label": self.label,
            "help": self.help,
        })
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

/// How complaints are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// With colours and box-drawing characters; else plain ASCII.
    pub fancy: bool,
    /// Columns.
    pub width: usize,
}

impl Look {
    /// For logs, pipes and tests: plain, 80 columns.
    pub fn plain() -> Self {
        Self { fancy: false, width: 80 }
    }
}

/// All complaints about one text, each with its line underlined, and at the end how many they are.
pub fn render(complaints: &[Complaint], source: &Source, look: Look) -> String {
    let theme = if look.fancy { GraphicalTheme::unicode() } else { GraphicalTheme::none() };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(look.width.max(40))
        .with_links(false)
        .with_context_lines(1);
    let mut text = String::new();
    for complaint in complaints {
        let report = complaint.with_source(source);
        let mut one = String::new();
        if handler.render_report(&mut one, report.as_ref()).is_err() {
            one = format!("{}: {}\n", source.name, complaint.message);
        }
        text.push_str(one.trim_start_matches('\n').trim_end());
        text.push_str("\n\n");
    }
    let count = match complaints.len() {
        1 => "1 thing is wrong".to_owned(),
        many => format!("{many} things are wrong"),
    };
    text.push_str(&format!("{}: {count}\n", source.name));
    text
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
