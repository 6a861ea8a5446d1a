//! The TOML file below flags and environment.
//!
//! What must stay true: an unknown key or an unusable value is refused in one line that names the
//! file and the place.

use serde::de::DeserializeOwned;
use std::path::Path;

/// The configuration in `path`, if a path was given, else one that says nothing.
pub fn read_file<T: DeserializeOwned + Default>(path: Option<&Path>) -> Result<T, String> {
    let Some(path) = path else {
        return Ok(T::default());
    };
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| format!("configuration {shown}: {e}"))?;
    toml::from_str(&text).map_err(|e| {
        let at = e.span().map_or(0, |s| s.start.min(text.len()));
        let line = 1 + text[..at].matches('\n').count();
        let what = e.message().lines().next().unwrap_or("unreadable");
        format!("configuration {shown}, line {line}: {what}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize, Default, Debug)]
    #[serde(deny_unknown_fields)]
    struct File {
        name: Option<String>,
    }

    #[test]
    fn an_unknown_key_is_refused_in_one_line_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.toml");
        std::fs::write(&path, "name = \"a\"\nnaem = \"b\"\n").unwrap();
        let refused = read_file::<File>(Some(&path)).unwrap_err();
        let told = refused.contains("d.toml, line 2") && refused.contains("naem");
        assert!(told && !refused.contains('\n'), "{refused}");
    }

    #[test]
    fn no_file_says_nothing() {
        assert_eq!(read_file::<File>(None).unwrap().name, None);
    }
}
