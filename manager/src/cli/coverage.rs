//! Whether a program can be covered by a preloaded library, and whether a supervisor can make good
//! for it.

use super::{Fail, programs};
use rustix::fs::{Access, access};
use sealfs_client::reach::{self, Beyond};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SET_USER_ID: u32 = 0o4000;

/// Why the library is not loaded into a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    Beyond(Beyond),
    /// It runs with another user's rights, and is told nothing by the environment.
    GivesRights,
}

/// The file that `command` names, and what stands against it; `None` if nothing does, or it cannot
/// be told.
pub fn obstacle(command: &OsStr) -> Option<(PathBuf, Obstacle)> {
    let path = find(command)?;
    let (head, gives_rights) = look_at(&path)?;
    if let Some(interpreter) = reach::interpreter(&head) {
        let (head, _) = look_at(Path::new(OsStr::from_bytes(interpreter)))?;
        return reach::beyond(&head).map(|why| (path, Obstacle::Beyond(why)));
    }
    if gives_rights {
        return Some((path, Obstacle::GivesRights));
    }
    reach::beyond(&head).map(|why| (path, Obstacle::Beyond(why)))
}

/// A program's first bytes, and whether it gives another user's rights.
fn look_at(path: &Path) -> Option<(Vec<u8>, bool)> {
    let file = File::open(path).ok()?;
    let facts = file.metadata().ok()?;
    let mut head = Vec::new();
    file.take(reach::HEAD_BYTES as u64)
        .read_to_end(&mut head)
        .ok()?;
    let own = rustix::process::geteuid().as_raw();
    let gives_rights = facts.mode() & SET_USER_ID != 0 && facts.uid() != own;
    Some((head, gives_rights))
}

/// The file that execvp(3) would take.
fn find(command: &OsStr) -> Option<PathBuf> {
    if command.as_bytes().contains(&b'/') {
        return Some(command.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(command))
        .find(|file| access(file.as_os_str().as_bytes(), Access::EXEC_OK).is_ok())
}

/// The program that runs others under its supervision, if this machine lets it; else why not.
pub fn supervisor() -> Result<PathBuf, Fail> {
    let program = programs::beside("sealfs-supervisor")?;
    let checked = Command::new(&program).arg("--check").output();
    let checked = checked.map_err(|e| format!("{}: {e}", program.display()))?;
    if checked.status.success() {
        return Ok(program);
    }
    Err(String::from_utf8_lossy(&checked.stdout)
        .trim()
        .to_owned()
        .into())
}

/// How `command` has to be started so that it sees the mount; says so where it will not.
pub fn command(command: &OsStr) -> Result<Command, String> {
    let Some((path, obstacle)) = obstacle(command) else {
        return Ok(Command::new(command));
    };
    let shown = path.display();
    let why = match obstacle {
        Obstacle::GivesRights => {
            return Err(format!(
                "{shown}: runs with the rights of another user, and can be given no mount: start \
                 what it is to run by `sealfs run` as that user"
            ));
        }
        Obstacle::Beyond(why) => why,
    };
    let trouble = if why.can_be_supervised() {
        match supervisor() {
            Ok(program) => return Ok(supervised(&program, &path, command)),
            Err(fail) => format!(", and cannot be supervised: {}", fail.text),
        }
    } else {
        String::new()
    };
    eprintln!(
        "sealfs: {shown}: {}{trouble}: it will not see the mount",
        why.text()
    );
    Ok(Command::new(command))
}

fn supervised(supervisor: &Path, path: &Path, name: &OsStr) -> Command {
    let mut command = Command::new(supervisor);
    command.arg(path).arg(name).env("SEALFS_SUPERVISE", "1");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_of_the_system_is_within_reach() {
        assert_eq!(obstacle(OsStr::new("sh")), None);
    }
}
