//! Where the other programs of sealfs are: beside this one.

use super::Fail;
use std::path::PathBuf;

/// The daemon `name` beside this executable.
pub fn beside(name: &str) -> Result<PathBuf, Fail> {
    let own = std::env::current_exe().map_err(|e| format!("/proc/self/exe: {e}"))?;
    let path = own.with_file_name(name);
    if !path.is_file() {
        let text = format!(
            "{}: missing beside this command: run `make build`",
            path.display()
        );
        return Err(text.into());
    }
    let is_plain = |c: char| !c.is_whitespace() && !matches!(c, '\'' | '"' | ':' | '$' | '\\');
    match path.to_str() {
        Some(text) if text.chars().all(is_plain) => Ok(path),
        _ => Err(format!(
            "{}: LD_PRELOAD cannot name a path with blanks, quotes or colons: install sealfs elsewhere",
            path.display()
        )
        .into()),
    }
}

/// The library that programs are given.
pub fn library() -> Result<PathBuf, Fail> {
    beside("libsealfs.so")
}
