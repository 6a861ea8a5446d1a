//! `SEALFS_TRACE` of a program that is about to be started: looked at here, where one line can be said
//! and nothing has begun, rather than by each process of the program.

use super::Fail;
use std::fs::OpenOptions;
use std::path::{Path, absolute};
use std::process::Command;

const TRACE: &str = "SEALFS_TRACE";

/// Gives `child` the file's absolute path, if one is asked for, after trying whether it can be written.
pub fn prepare(child: &mut Command, mount: &str) -> Result<(), Fail> {
    let Some(asked) = std::env::var_os(TRACE).filter(|asked| !asked.is_empty()) else {
        return Ok(());
    };
    let shown = Path::new(&asked).display();
    let path = absolute(&asked).map_err(|e| format!("{TRACE}={shown}: {e}"))?;
    if path.starts_with(mount) {
        let text = format!("{TRACE}={shown}: name a file outside of {mount}, which it is about");
        return Err(text.into());
    }
    let opened = OpenOptions::new().append(true).create(true).open(&path);
    opened.map_err(|e| {
        format!("{TRACE}={shown}: {e}: name a file in a local directory that you may write")
    })?;
    child.env(TRACE, path);
    Ok(())
}
