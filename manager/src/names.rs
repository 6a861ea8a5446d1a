//! Rules for the names of servers and volumes.
//!
//! They appear in environment variables, URLs, file names and tables, so they hold no blank, quote,
//! slash or colon and never look like an option.

/// Longest name of a server or volume, in bytes.
pub const NAME_MAX_BYTES: usize = 64;

/// `what` ("volume", "server") goes into the message.
pub fn check_name(what: &str, name: &str) -> Result<(), String> {
    let letters = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    let head = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    if letters && head && name.len() <= NAME_MAX_BYTES {
        return Ok(());
    }
    Err(format!(
        "{what} name {name:?}: use 1 to {NAME_MAX_BYTES} letters, digits, '-', '_' or '.', the first \
         a letter or digit"
    ))
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names_that_a_shell_or_path_would_misread_are_refused() {
        for bad in [
            "",
            "a b",
            "a/b",
            "-x",
            ".hidden",
            "q'",
            "x:y",
            &"n".repeat(65),
        ] {
            assert!(check_name("volume", bad).is_err(), "{bad:?}");
        }
        for good in ["a", "main", "Scratch-2.0_x", &"n".repeat(64)] {
            assert!(check_name("volume", good).is_ok(), "{good:?}");
        }
    }
}
