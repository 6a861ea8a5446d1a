//! Rules for Rust files: length, header, leftovers, sleeps in tests, where `unsafe` stands and why.

use super::lex::{code_only, is_word};
use super::{Report, Source};

const FILE_LINES_WANTED: usize = 400;
const FILE_LINES_LIMIT: usize = 600;
const FUNCTION_LINES_WANTED: usize = 70;
const FUNCTION_LINES_LIMIT: usize = 100;
/// A `SAFETY` comment stands within this many lines above its block.
const SAFETY_DISTANCE_LINES: usize = 8;

/// Where unsafe code may stand (design page 1 and style.md): the border to C, shared memory and devices.
const UNSAFE_ALLOWED: &[&str] = &[
    "libsealfs/src/",
    "libsealfs/client/src/node/",
    "libsealfs/client/tests/",
    "libsealfs/keeper/src/",
    "libsealfs/sites/src/cache.rs",
    "libsealfs/supervisor/src/",
    "libsealfs/tests/",
    "common/transport/src/",
    "common/transport/tests/",
    "server/src/store/",
    "server/src/meta/",
    "server/src/signals.rs",
    "manager/src/",
    "bench/",
];

pub fn check(source: &Source, report: &mut Report) {
    let code = code_only(&source.text);
    header(source, report);
    leftovers(source, &code, report);
    unsafe_code(source, &code, report);
    sleeps_in_tests(source, &code, report);
    if !source.is_generated() {
        file_length(source, report);
        function_length(source, &code, report);
    }
}

fn header(source: &Source, report: &mut Report) {
    if !source
        .text
        .lines()
        .take(3)
        .any(|line| line.starts_with("//!"))
    {
        report.finding(source, 1, "no //! header that says what the file is");
    }
}

fn file_length(source: &Source, report: &mut Report) {
    let lines = source.text.lines().count();
    let what = format!("{lines} lines (wanted ≤ {FILE_LINES_WANTED}, limit {FILE_LINES_LIMIT})");
    if lines > FILE_LINES_LIMIT {
        report.finding(source, lines, &what);
    } else if lines > FILE_LINES_WANTED {
        report.warning(source, lines, &what);
    }
}

fn function_length(source: &Source, code: &str, report: &mut Report) {
    for function in functions(code) {
        let what = format!(
            "function {} has {} lines (wanted ≤ {FUNCTION_LINES_WANTED}, limit {FUNCTION_LINES_LIMIT})",
            function.name, function.lines
        );
        if function.lines > FUNCTION_LINES_LIMIT {
            report.finding(source, function.line, &what);
        } else if function.lines > FUNCTION_LINES_WANTED {
            report.warning(source, function.line, &what);
        }
    }
}

fn leftovers(source: &Source, code: &str, report: &mut Report) {
    for (number, line) in numbered(code) {
        for stub in ["todo!", "unimplemented!", "dbg!"] {
            if line.contains(stub) {
                report.finding(source, number, &format!("{stub} left"));
            }
        }
        if line.contains("#[ignore") {
            report.finding(source, number, "an ignored test");
        }
    }
}

fn sleeps_in_tests(source: &Source, code: &str, report: &mut Report) {
    let mut in_tests = source.is_test();
    for (number, line) in numbered(code) {
        in_tests |= line.contains("#[cfg(test)]");
        if in_tests && line.contains("thread::sleep") {
            report.finding(source, number, "a test sleeps; wait for the fact instead");
        }
    }
}

fn unsafe_code(source: &Source, code: &str, report: &mut Report) {
    let original: Vec<&str> = source.text.lines().collect();
    let mut any = false;
    for (number, line) in numbered(code) {
        if !has_word(line, "unsafe") {
            continue;
        }
        any = true;
        let opens_block = line
            .split("unsafe")
            .skip(1)
            .any(|rest| rest.trim_start().starts_with('{'));
        let from = number.saturating_sub(SAFETY_DISTANCE_LINES + 1);
        let near = &original[from..number.min(original.len())];
        if opens_block && !source.is_test() && !near.iter().any(|l| l.contains("SAFETY")) {
            report.finding(source, number, "unsafe block without a SAFETY line");
        }
    }
    if !any {
        return;
    }
    if !UNSAFE_ALLOWED
        .iter()
        .any(|allowed| source.path.starts_with(allowed))
    {
        report.finding(
            source,
            1,
            "unsafe code outside the places where the design allows it",
        );
    }
    let whole_file = code.contains("#![allow(");
    if whole_file && !source.is_test() && !source.text.contains("# Safety") {
        report.finding(
            source,
            1,
            "unsafe code without a `# Safety` section in the header",
        );
    }
}

fn numbered(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| is_whole_word(line.as_bytes(), at, word.len()))
}

fn is_whole_word(bytes: &[u8], at: usize, length: usize) -> bool {
    (at == 0 || !is_word(bytes[at - 1])) && bytes.get(at + length).is_none_or(|b| !is_word(*b))
}

struct Function<'a> {
    name: &'a str,
    line: usize,
    lines: usize,
}

/// Every function with a body, by counting braces in text without comments and literals.
fn functions(code: &str) -> Vec<Function<'_>> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn") {
        if !is_whole_word(bytes, at, 2) {
            continue;
        }
        let rest = code[at + 2..].trim_start();
        let name_length = rest.bytes().take_while(|b| is_word(*b)).count();
        let Some(end) = body_end(bytes, at).filter(|_| name_length > 0) else {
            continue;
        };
        let line = 1 + code[..at].matches('\n').count();
        let lines = 1 + code[at..end].matches('\n').count();
        found.push(Function {
            name: &rest[..name_length],
            line,
            lines,
        });
    }
    found
}

/// Where the body of the function at `at` ends; `None` for a declaration without one.
fn body_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut nesting = 0_usize;
    let mut braces = 0_usize;
    for (offset, byte) in bytes[at..].iter().enumerate() {
        match byte {
            b'(' | b'[' => nesting += 1,
            b')' | b']' => nesting = nesting.checked_sub(1)?,
            b';' if nesting == 0 && braces == 0 => return None,
            b'{' => braces += 1,
            b'}' => {
                braces = braces.checked_sub(1)?;
                if braces == 0 {
                    return Some(at + offset);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let mut report = Report::default();
        check(
            &Source {
                path: path.into(),
                text: text.into(),
            },
            &mut report,
        );
        report.findings
    }

    #[test]
    fn a_long_function_is_found_by_name() {
        let text = format!("//! x\nfn long() {{\n{}}}\n", "    work();\n".repeat(101));
        assert!(findings("a/src/b.rs", &text)[0].contains("function long has 103 lines"));
    }

    #[test]
    fn a_file_without_header_is_found() {
        assert_eq!(findings("a/src/b.rs", "fn f() {}\n").len(), 1);
    }

    #[test]
    fn unsafe_needs_a_place_a_header_and_a_reason() {
        let text = "//! x\n#![allow(unsafe_code)]\nfn f() { unsafe { g() } }\n";
        assert_eq!(findings("server/src/ops/open.rs", text).len(), 3);
        let text = "//! x\n//! # Safety\n//! y\n// SAFETY: z\nfn f() { unsafe { g() } }\n";
        assert_eq!(findings("libsealfs/src/interpose/open.rs", text), [""; 0]);
    }

    #[test]
    fn a_sleep_in_a_test_is_found_and_elsewhere_allowed() {
        let text = "//! x\nfn f() { std::thread::sleep(d) }\n";
        assert_eq!(findings("a/src/b.rs", text).len(), 0);
        assert_eq!(findings("a/tests/b.rs", text).len(), 1);
    }
}
