//! Rules for every text file: no leftovers, no path of one machine, no dead link.

use super::{Report, Source};
use std::path::Path;

/// Words that mark unfinished work. Written in halves: this file is checked too.
const LEFTOVERS: &[&str] = &[
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("XX", "X:"),
];

/// Paths that exist on one machine only, and words about who typed what.
const FOREIGN: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/tmp/tar", "get"),
    concat!("co-authored", "-by"),
    concat!("language ", "model"),
];

pub fn check(root: &Path, source: &Source, report: &mut Report) {
    for (index, line) in source.text.lines().enumerate() {
        let lower = line.to_lowercase();
        for word in LEFTOVERS {
            if line.contains(word) {
                report.finding(source, index + 1, &format!("{word} left"));
            }
        }
        for word in FOREIGN {
            if lower.contains(word) {
                report.finding(source, index + 1, &format!("{word} has no place here"));
            }
        }
        if source.is_markdown() {
            dead_links(root, source, index + 1, line, report);
        }
    }
}

fn dead_links(root: &Path, source: &Source, number: usize, line: &str, report: &mut Report) {
    for target in link_targets(line) {
        let file = target.split('#').next().unwrap_or_default();
        if file.is_empty() || target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let folder = Path::new(&source.path).parent().unwrap_or(Path::new(""));
        if !root.join(folder).join(file).exists() {
            report.finding(source, number, &format!("dead link to {target}"));
        }
    }
}

/// What stands in the parentheses of `[text](target)`.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        let mut report = Report::default();
        let source = Source {
            path: path.into(),
            text: text.into(),
        };
        check(&crate::repository(), &source, &mut report);
        report.findings.len()
    }

    #[test]
    fn a_dead_relative_link_is_found() {
        assert_eq!(findings("docs/a.md", "see [b](no-such-file.md)"), 1);
        assert_eq!(
            findings(
                "docs/a.md",
                "see [b](../Cargo.toml) and [c](https://example.org/x)"
            ),
            0
        );
    }

    #[test]
    fn a_leftover_is_found_in_any_file() {
        assert_eq!(findings("c-tests/a.c", concat!("/* TO", "DO */")), 1);
    }
}
