//! Runs a program that sees the mount, and ends as it ends.

use super::Fail;
use super::coverage;
use super::environment::Environment;
use super::signals::Caught;
use super::trace;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

/// Exit codes of shells for a program that cannot be run, or found.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Runs `command` and returns its exit code, 128 + n if signal n ended it.
pub fn launch(
    command: &[OsString],
    environment: &Environment,
    mount: &str,
    caught: Caught,
) -> Result<u8, Fail> {
    let program = &command[0];
    // Only a covered process can start a program that lies in the mount.
    let mut child = if program.as_encoded_bytes().starts_with(mount.as_bytes()) {
        let mut through = Command::new("/usr/bin/env");
        through.arg("--").arg(program);
        through
    } else {
        coverage::command(program).map_err(|text| Fail {
            code: CANNOT_RUN,
            text,
        })?
    };
    child.args(&command[1..]);
    environment.apply(&mut child);
    trace::prepare(&mut child, mount)?;
    let mut child = child.spawn().map_err(|e| Fail {
        code: if e.kind() == ErrorKind::NotFound {
            NOT_FOUND
        } else {
            CANNOT_RUN
        },
        text: format!("{}: {e}", program.display()),
    })?;
    caught.forward_to(&child)?;
    let status = child
        .wait()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    let code = status.code().or_else(|| status.signal().map(|n| 128 + n));
    Ok(code.unwrap_or(1) as u8)
}
