//! Just enough of Rust's lexing to tell code from comments and literals.
//!
//! `code_only` must keep every line break, so that a position in its result names the same line as in the source.

/// The source with comments and the contents of string and character literals blanked.
pub fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at + 1),
            b'r' | b'b' | b'c' if !follows_word(bytes, at) => literal_end(bytes, at),
            b'\'' => char_end(bytes, at),
            _ => at,
        };
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(
                bytes[at..end]
                    .iter()
                    .map(|b| if *b == b'\n' { b'\n' } else { b' ' }),
            );
            at = end;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn follows_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && is_word(bytes[at - 1])
}

pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..]
        .iter()
        .position(|b| *b == b'\n')
        .map_or(bytes.len(), |n| at + n)
}

fn block_comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < bytes.len() {
        match &bytes[at..bytes.len().min(at + 2)] {
            b"/*" => {
                depth += 1;
                at += 2;
            }
            b"*/" => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

/// `at` is just behind the opening quote.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of a prefixed literal (`r"…"`, `br#"…"#`, `b'x'`, `c"…"`) that begins at `at`, or `at` if none does.
fn literal_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while at < bytes.len() && at < start + 2 && matches!(bytes[at], b'r' | b'b' | b'c') {
        at += 1;
    }
    let raw = bytes[start..at].contains(&b'r');
    let quotes = at;
    while raw && bytes.get(at) == Some(&b'#') {
        at += 1;
    }
    let hashes = at - quotes;
    match bytes.get(at) {
        Some(b'"') if raw => raw_string_end(bytes, at + 1, hashes),
        Some(b'"') => string_end(bytes, at + 1),
        Some(b'\'') if !raw && bytes[start] == b'b' => char_end(bytes, at),
        _ => start,
    }
}

fn raw_string_end(bytes: &[u8], mut at: usize, hashes: usize) -> usize {
    while at < bytes.len() {
        let tail = &bytes[at + 1..];
        if bytes[at] == b'"' && tail.len() >= hashes && tail[..hashes].iter().all(|b| *b == b'#') {
            return at + 1 + hashes;
        }
        at += 1;
    }
    bytes.len()
}

/// The end of a character literal at `at`; a lifetime is no literal and gives `at`.
fn char_end(bytes: &[u8], at: usize) -> usize {
    const LONGEST_CHAR_LITERAL: usize = 12;
    if bytes.get(at + 1) == Some(&b'\\') {
        let from = (at + 3).min(bytes.len());
        return bytes[from..]
            .iter()
            .position(|b| *b == b'\'')
            .map_or(at, |n| from + n + 1);
    }
    let window = &bytes[at + 1..bytes.len().min(at + LONGEST_CHAR_LITERAL)];
    match window.iter().position(|b| *b == b'\'') {
        Some(n) if n > 0 && (n == 1 || !window[0].is_ascii()) => at + n + 2,
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_blanked_and_lines_stay() {
        let source =
            "let a = \"{\"; // {\nlet b = '{'; /* { \n */ let c = r#\"{\"#; let d: &'a u8 = b'{';";
        let code = code_only(source);
        assert!(!code.contains('{'), "{code}");
        assert_eq!(code.lines().count(), 3);
        assert!(code.contains("&'a u8"));
    }

    #[test]
    fn an_escaped_quote_does_not_end_a_literal() {
        assert_eq!(
            code_only(r#"f("a\"{", '\'', '\\') }"#).matches('{').count(),
            0
        );
        assert!(code_only(r#"f("a\"{", '\'', '\\') }"#).ends_with('}'));
    }
}
