//! What came of each point, and the summary.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// The outcomes of points, by group.
#[derive(Default)]
pub struct Table {
    rows: Mutex<Vec<Row>>,
}

struct Row {
    group: String,
    point: String,
    outcome: Result<String, String>,
}

impl Table {
    pub fn add(&self, group: &str, point: &str, outcome: Result<String, String>) {
        let row = Row { group: group.to_owned(), point: point.to_owned(), outcome };
        self.rows.lock().unwrap().push(row);
    }

    /// Prints the summary, writes it and all points to `NAME.md` in the folder `BAKEHOUSE_TABLES`, and panics
    /// with what went wrong.
    #[track_caller]
    pub fn end(self, name: &str) {
        let rows = self.rows.into_inner().unwrap();
        let mut outcomes: Vec<String> = Vec::new();
        let mut groups: Vec<(String, BTreeMap<String, usize>)> = Vec::new();
        for row in &rows {
            let outcome = row.outcome.clone().unwrap_or_else(|_| "WRONG".to_owned());
            if !outcomes.contains(&outcome) {
                outcomes.push(outcome.clone());
            }
            let at = match groups.iter().position(|(group, _)| *group == row.group) {
                Some(at) => at,
                None => {
                    groups.push((row.group.clone(), BTreeMap::new()));
                    groups.len() - 1
                }
            };
            *groups[at].1.entry(outcome).or_default() += 1;
        }
        outcomes.sort();
        groups.sort();
        let mut text = format!("| {name} | points | {} |\n", outcomes.join(" | "));
        text.push_str(&format!("| --- | ---: |{}\n", " ---: |".repeat(outcomes.len())));
        for (group, counts) in &groups {
            let cells: Vec<_> = outcomes
                .iter()
                .map(|outcome| counts.get(outcome).map_or("·".to_owned(), usize::to_string))
                .collect();
            let points: usize = counts.values().sum();
            text.push_str(&format!("| {group} | {points} | {} |\n", cells.join(" | ")));
        }
        println!("\n{text}");
        if let Some(folder) = std::env::var_os("BAKEHOUSE_TABLES") {
            let folder = std::path::PathBuf::from(folder);
            std::fs::create_dir_all(&folder).unwrap();
            let mut lines: Vec<_> = rows
                .iter()
                .map(|row| {
                    let outcome = row.outcome.clone().unwrap_or_else(|why| format!("WRONG: {why}"));
                    format!("- {}: {}: {outcome}\n", row.group, row.point)
                })
                .collect();
            lines.sort();
            let file = folder.join(format!("{}.md", name.replace(' ', "-")));
            std::fs::write(file, format!("{text}\n{}", lines.concat())).unwrap();
        }
        let wrong: Vec<_> = rows
            .iter()
            .filter_map(|row| Some(format!("{}: {}: {}", row.group, row.point, row.outcome.as_ref().err()?)))
            .collect();
        assert!(wrong.is_empty(), "{} of {} points:\n{}", wrong.len(), rows.len(), wrong.join("\n\n"));
    }
}
