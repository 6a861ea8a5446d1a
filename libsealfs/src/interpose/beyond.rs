//! Programs that the library is not loaded into (static, Go, musl): executed by way of
//! `sealfs-supervisor`, which answers for the mount in our place.
//!
//! What must stay true: a program that gets another user's rights by being executed is left to the
//! kernel, since under a supervisor it would not get them; so is one whose file cannot be told.

use super::image::Executed;
use crate::exec;
use crate::kernel::{self, AT_FDCWD, CPath};
use crate::path;
use crate::{process, settings, subject};
use sealfs_client::reach::{self, Beyond};
use sealfs_protocol::Errno;

const SUPERVISOR: &[u8] = b"sealfs-supervisor";

/// Whether a supervisor can make good for the library's absence.
fn needs_supervisor(head: &[u8]) -> bool {
    !subject::FOREIGN && reach::beyond(head).is_some_and(Beyond::can_be_supervised)
}

/// The supervisor's program: beside the keeper's.
fn supervisor() -> Option<Vec<u8>> {
    let keeper = settings::settings()?.keeper.as_ref()?.as_bytes();
    let (directory, _) = path::split_last(keeper)?;
    Some([directory, SUPERVISOR].concat())
}

/// Executes `program`, which a supervisor can open by that path, under one. Comes back with an
/// error, or `None` if there is no supervisor to be had.
fn under_supervisor(
    program: Vec<u8>,
    arguments: &[Vec<u8>],
    mut environment: Vec<Vec<u8>>,
) -> Option<isize> {
    let supervisor = supervisor()?;
    environment.push([exec::SUPERVISE, b"=1"].concat());
    let mut list = vec![SUPERVISOR.to_vec(), program];
    let name = arguments.first().cloned();
    list.push(name.unwrap_or_default());
    list.extend(arguments.iter().skip(1).cloned());
    let said = subject::execute(Executed::Path(&supervisor), list, environment);
    // Where it is missing, the program runs without the mount, as any that nobody covers.
    (!super::is_missing(said) && said != -(Errno::EACCES.0 as isize)).then_some(said)
}

/// A program of the kernel's tree that is beyond reach. `None`: it is not, or has to do without.
pub fn execute(
    (dir, text): (i32, &[u8]),
    arguments: &[Vec<u8>],
    environment: &[Vec<u8>],
) -> Option<isize> {
    if subject::FOREIGN || process::is_sandboxed() {
        return None;
    }
    let head = head_of(dir, text)?;
    let interpreter = match reach::interpreter(&head) {
        Some(interpreter) => Some(head_of(AT_FDCWD, interpreter)?),
        None => None,
    };
    if !needs_supervisor(interpreter.as_ref().unwrap_or(&head)) {
        return None;
    }
    let program = if dir == AT_FDCWD || text.first() == Some(&b'/') {
        text.to_vec()
    } else {
        let directory = kernel::descriptor_path(dir).ok()?;
        if text.is_empty() {
            directory
        } else {
            path::join(&directory, text)
        }
    };
    let environment = process::complete_environment(environment.to_vec(), None).entries;
    under_supervisor(program, arguments, environment)
}

/// The first bytes of a program that gives nobody rights.
fn head_of(dir: i32, text: &[u8]) -> Option<Vec<u8>> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    let stat = kernel::stat_at(dir, &CPath::new(text), libc::AT_EMPTY_PATH).ok()?;
    let gives = stat.st_mode & (libc::S_ISUID | libc::S_ISGID) != 0;
    let runs = stat.st_mode & libc::S_IFMT == libc::S_IFREG && stat.st_mode & 0o111 != 0;
    if gives || !runs {
        return None;
    }
    let file = if text.is_empty() {
        kernel::duplicate_above(dir as u32, 0).ok()?
    } else {
        kernel::open_at(dir, &CPath::new(text), flags, 0).ok()?
    };
    let mut head = vec![0u8; reach::HEAD_BYTES];
    let len = kernel::pread(file, &mut head, 0);
    kernel::close(file);
    head.truncate(len.ok()?);
    Some(head)
}

/// What a memfd holds, if that is beyond reach. `None`: it is not.
pub fn execute_memory(
    memory: u32,
    arguments: &[Vec<u8>],
    environment: &[Vec<u8>],
) -> Option<isize> {
    let mut head = vec![0u8; reach::HEAD_BYTES];
    let len = kernel::pread(memory, &mut head, 0).ok()?;
    if !needs_supervisor(&head[..len]) {
        return None;
    }
    // The supervisor closes it at exec again.
    kernel::fcntl(memory, libc::F_SETFD, 0).ok()?;
    let program = format!("/proc/self/fd/{memory}").into_bytes();
    let said = under_supervisor(program, arguments, environment.to_vec());
    let _ = kernel::fcntl(memory, libc::F_SETFD, libc::FD_CLOEXEC as usize);
    said
}
