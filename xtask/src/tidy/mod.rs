//! Taste enforced by a tool: what design and review agreed on and a machine can see.
//!
//! A finding fails the check; a warning is printed and passes. Every rule is one function in `rust` (source files) or
//! `text` (all files). A file whose first lines say `@generated` is exempt from length rules.

mod lex;
mod rust;
mod text;

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

/// Folders that hold no source of ours.
const SKIPPED_FOLDERS: &[&str] = &[".git", "target", "node_modules"];

/// Extensions of the files that are read; others (images, archives) are not text.
const TEXT_EXTENSIONS: &[&str] = &[
    "rs", "c", "h", "sh", "py", "md", "toml", "tsv", "txt", "yml", "yaml",
];

/// One file of the tree, read.
pub struct Source {
    /// Path below the top folder, with `/`.
    pub path: String,
    pub text: String,
}

impl Source {
    pub fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|e| e == "rs")
    }

    pub fn is_markdown(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|e| e == "md")
    }

    /// Whether the whole file is test code.
    pub fn is_test(&self) -> bool {
        self.path
            .split('/')
            .any(|part| matches!(part, "tests" | "benches"))
    }

    pub fn is_generated(&self) -> bool {
        self.text
            .lines()
            .take(3)
            .any(|line| line.contains("@generated"))
    }
}

/// What the rules found.
#[derive(Default)]
pub struct Report {
    pub findings: Vec<String>,
    pub warnings: Vec<String>,
}

impl Report {
    pub fn finding(&mut self, source: &Source, line: usize, what: &str) {
        self.findings
            .push(format!("{}:{line}: {what}", source.path));
    }

    pub fn warning(&mut self, source: &Source, line: usize, what: &str) {
        self.warnings
            .push(format!("{}:{line}: {what}", source.path));
    }
}

pub fn run(root: &Path) -> io::Result<bool> {
    let report = check(root)?;
    let mut out = String::new();
    for warning in &report.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    for finding in &report.findings {
        let _ = writeln!(out, "error: {finding}");
    }
    print!("{out}");
    println!(
        "tidy: {} errors, {} warnings",
        report.findings.len(),
        report.warnings.len()
    );
    Ok(report.findings.is_empty())
}

/// Applies every rule to the tree at `root`.
pub fn check(root: &Path) -> io::Result<Report> {
    let mut report = Report::default();
    for source in read_tree(root)? {
        if source.is_rust() {
            rust::check(&source, &mut report);
        }
        text::check(root, &source, &mut report);
    }
    if let Some(difference) = crate::coverage::difference(root)? {
        report.findings.push(difference);
    }
    Ok(report)
}

fn read_tree(root: &Path) -> io::Result<Vec<Source>> {
    let mut paths = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let name = entry.file_name();
            if kind.is_dir() && !SKIPPED_FOLDERS.iter().any(|skipped| name == *skipped) {
                folders.push(entry.path());
            } else if kind.is_file() && is_text(&entry.path()) {
                paths.push(entry.path());
            }
        }
    }
    paths.sort();
    Ok(paths
        .into_iter()
        .filter_map(|path| read_source(root, &path))
        .collect())
}

fn is_text(path: &Path) -> bool {
    match path.extension() {
        Some(extension) => TEXT_EXTENSIONS.iter().any(|known| extension == *known),
        None => path.file_name().is_some_and(|name| name == "Makefile"),
    }
}

/// A file that is not UTF-8, or that another process removed meanwhile, is not source.
fn read_source(root: &Path, path: &PathBuf) -> Option<Source> {
    let text = std::fs::read_to_string(path).ok()?;
    let path = path.strip_prefix(root).ok()?.to_str()?.to_owned();
    Some(Source { path, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let report = check(&crate::repository()).unwrap();
        assert!(
            report.findings.is_empty(),
            "\n{}",
            report.findings.join("\n")
        );
    }
}
