//! execve(2) and execveat(2): programs and scripts of the volume, and everything else with what
//! keeps us loaded.
//!
//! A program of the volume is put into a sealed memfd and executed from there; a script is executed
//! by its interpreter, which runs under us and opens the script itself. Programs of the kernel's
//! tree are the kernel's; only their environment is completed where it was cleared.
//!
//! What must stay true: a call that fails leaves nothing changed; memory that is handed to the
//! kernel lives until the call is over, also in a child that shares ours and never comes back.
//!
//! # Safety
//! Pointers handed to the kernel belong to an `Image` that outlives the call.

use super::at::{self, PathArg};
use super::image::{Executed, Image};
use super::leaving::Leaving;
use super::program::{Program, full_path};
use super::{Ctx, beyond, fd, is_missing, process as processes, user};
use crate::exec::{self, Format, Shebang};
use crate::kernel::{self, AT_FDCWD, CPath};
use crate::process::{self, ClientRef};
use crate::route::{self, Answer, Bypass, Outcome, Place, Target, asked};
use crate::{subject, vfork};
use sealfs_client::Failure;
use sealfs_protocol::Errno;

/// Scripts that interpret scripts, at most (Linux: `BINPRM`'s depth of recursion).
const NESTED_MAX: u32 = 4;
/// Most strings of one argument list or environment.
const STRINGS_MAX: usize = 1 << 20;
/// Longest of them, in bytes (`MAX_ARG_STRLEN`).
const STRING_MAX_BYTES: usize = 128 << 10;

/// What is to be executed, as far as it is known.
struct Plan {
    arguments: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
}

/// execve(path, arguments, environment)
pub fn execve(ctx: &mut Ctx<'_>) -> Answer {
    let arg = PathArg::plain(0, true);
    execute(ctx, arg, 1)
}

/// execveat(dir, path, arguments, environment, flags)
pub fn execveat(ctx: &mut Ctx<'_>) -> Answer {
    let flags = ctx.int(4);
    if flags & !(libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let arg = PathArg::at(ctx, 1, flags & libc::AT_SYMLINK_NOFOLLOW == 0)
        .or_empty(flags & libc::AT_EMPTY_PATH != 0);
    execute(ctx, arg, 2)
}

fn execute(ctx: &mut Ctx<'_>, arg: PathArg, lists: usize) -> Answer {
    let target = at::locate(ctx, arg)?;
    let _leaving = before()?;
    let text = user::path(ctx.arg(arg.index))?;
    let arguments = strings(ctx.arg(lists))?;
    let environment = strings(ctx.arg(lists + 1))?;
    if let Target::Ours(place) = target {
        let shown = shown_path(arg, &text);
        return place_of(
            &place,
            Plan {
                arguments,
                environment,
            },
            &shown,
            0,
        );
    }
    if exec::is_dynamic_linker(&text)
        && let Some(said) = by_linker(&text, &arguments, &environment)?
    {
        return Ok(Outcome::Ours(said));
    }
    if let Some(said) = beyond::execute((arg.dir, &text), &arguments, &environment) {
        return Ok(Outcome::Ours(said));
    }
    let said = natively(ctx, lists, &environment);
    if let Some(said) = said
        && (!is_missing(said) || process::is_sandboxed())
    {
        return Ok(Outcome::Asked(Bypass::NotBelowMount, said));
    }
    let plan = Plan {
        arguments,
        environment,
    };
    if let Target::Ours(place) = route::walk(arg.dir, &text, arg.follow)? {
        return place_of(&place, plan, &text, 0);
    }
    // A script of the kernel's tree may name an interpreter in the volume.
    if let Some(script) = local_shebang(arg.dir, &text)
        && let Target::Ours(_) = route::locate(AT_FDCWD, &script.interpreter, true)?
    {
        return interpreter(script, plan, &text, 0);
    }
    asked(Bypass::NotBelowMount, said)
}

/// What others may have to know before this image is gone. What is returned is held until the kernel
/// has closed it, or execve(2) has failed. A child that shares our memory says nothing: the thread that
/// waits for it holds the same descriptors.
fn before() -> Result<Option<Leaving>, Errno> {
    if vfork::is_child() {
        return Ok(None);
    }
    processes::share_all()?;
    fd::flush_closes();
    Ok(Leaving::tell())
}

/// The path that a script is told as its name.
fn shown_path(arg: PathArg, text: &[u8]) -> Vec<u8> {
    if arg.dir == AT_FDCWD || text.first() == Some(&b'/') {
        return text.to_vec();
    }
    let mut shown = format!("/dev/fd/{}", arg.dir).into_bytes();
    if !text.is_empty() {
        shown.push(b'/');
        shown.extend_from_slice(text);
    }
    shown
}

/// A null-terminated array of strings of the program.
fn strings(pointer: usize) -> Result<Vec<Vec<u8>>, Errno> {
    let mut list = Vec::new();
    if pointer == 0 {
        return Ok(list);
    }
    loop {
        let text: usize = user::read(pointer + list.len() * size_of::<usize>())?;
        if text == 0 {
            return Ok(list);
        }
        if list.len() == STRINGS_MAX {
            return Err(Errno::E2BIG);
        }
        list.push(user::string_of_any_length(
            text,
            STRING_MAX_BYTES,
            Errno::E2BIG,
        )?);
    }
}

/// A program of the kernel's tree: the call as it is, with the environment completed. `None` where
/// the kernel cannot be asked first.
fn natively(ctx: &mut Ctx<'_>, lists: usize, environment: &[Vec<u8>]) -> Option<isize> {
    if subject::FOREIGN {
        return None;
    }
    let completed = process::complete_environment(environment.to_vec(), None);
    let saved = ctx.call.args;
    let image = completed
        .changed
        .then(|| Image::new(b"", Vec::new(), completed.entries))
        .map(vfork::Parked::new);
    if let Some(image) = &image {
        ctx.call.args[lists + 1] = image.environment.as_ptr() as usize;
    }
    let said = ctx.native();
    ctx.call.args = saved;
    Some(said)
}

/// What a place in the volume is to exec.
enum Found {
    /// A program in a memfd, and the path it is said to have.
    Program(u32, Option<Vec<u8>>),
    Script(Shebang),
    /// A symbolic link led to the kernel's tree.
    Outside(Vec<u8>),
}

/// A place in the volume. Comes back only with an error.
fn place_of(place: &Place, plan: Plan, shown: &[u8], depth: u32) -> Answer {
    // The client is let go before anything is executed: in a vfork child it is one of its own.
    match find(&process::client()?, place, true)? {
        Found::Program(memory, full) => {
            let said = run_memory(memory, plan, full.as_deref());
            kernel::close(memory);
            Ok(Outcome::Ours(said))
        }
        Found::Script(script) => interpreter(script, plan, shown, depth + 1),
        Found::Outside(local) => Ok(native_path(&local, plan)),
    }
}

/// `executed`: by execve(2) itself; otherwise the dynamic linker maps what is found.
fn find(client: &ClientRef, place: &Place, executed: bool) -> Result<Found, Errno> {
    let program = match Program::open(client, place) {
        Ok(program) => program,
        Err(Failure::Errno(errno)) => return Err(errno),
        Err(Failure::Outside(local)) => return Ok(Found::Outside(local)),
    };
    let mut head = vec![0u8; exec::HEAD_BYTES];
    let len = program.read_head(&mut head)?;
    head.truncate(len);
    match exec::format(&head) {
        Format::Elf => {
            let memory = if executed {
                program.image()?
            } else {
                program.memory()?
            };
            Ok(Found::Program(memory, full_path(client, place).ok()))
        }
        Format::Script => exec::shebang(&head)
            .map(Found::Script)
            .ok_or(Errno::ENOEXEC),
        Format::Other => Err(Errno::ENOEXEC),
    }
}

/// Runs a script by its interpreter.
fn interpreter(script: Shebang, plan: Plan, shown: &[u8], depth: u32) -> Answer {
    if depth > NESTED_MAX {
        return Err(Errno::ELOOP);
    }
    let mut arguments = vec![script.interpreter.clone()];
    arguments.extend(script.argument);
    arguments.push(shown.to_vec());
    arguments.extend(plan.arguments.into_iter().skip(1));
    let plan = Plan {
        arguments,
        environment: plan.environment,
    };
    match route::locate(AT_FDCWD, &script.interpreter, true)? {
        Target::Ours(place) => place_of(&place, plan, &script.interpreter, depth),
        Target::Theirs(_) | Target::Link(_) => Ok(native_path(&script.interpreter, plan)),
    }
}

/// A program of the kernel's tree by another path than the call named.
fn native_path(local: &[u8], plan: Plan) -> Outcome {
    if let Some(said) = beyond::execute((AT_FDCWD, local), &plan.arguments, &plan.environment) {
        return Outcome::Ours(said);
    }
    let environment = process::complete_environment(plan.environment, None).entries;
    Outcome::Ours(subject::execute(
        Executed::Path(local),
        plan.arguments,
        environment,
    ))
}

/// Executes what a memfd holds; `full` is the path it is said to have.
fn run_memory(memory: u32, plan: Plan, full: Option<&[u8]>) -> isize {
    let environment = process::complete_environment(plan.environment, full).entries;
    if let Some(said) = beyond::execute_memory(memory, &plan.arguments, &environment) {
        return said;
    }
    subject::executed_as(full);
    subject::execute(Executed::Memory(memory), plan.arguments, environment)
}

/// `ld.so PROGRAM` with a program of the volume: the linker opens it before we are there, so it
/// gets it as a descriptor, and the name apart. `None`: the program is not ours.
fn by_linker(
    linker: &[u8],
    arguments: &[Vec<u8>],
    environment: &[Vec<u8>],
) -> Result<Option<isize>, Errno> {
    let Some(at) = exec::linked_program(arguments) else {
        return Ok(None);
    };
    let Target::Ours(place) = route::locate(AT_FDCWD, &arguments[at], true)? else {
        return Ok(None);
    };
    // What cannot be had, the linker says in its own words.
    let Ok(Found::Program(memory, full)) = find(&process::client()?, &place, false) else {
        return Ok(None);
    };
    kernel::fcntl(memory, libc::F_SETFD, 0)?;
    let mut list = arguments[..at].to_vec();
    if !arguments[..at]
        .iter()
        .any(|argument| argument == b"--argv0")
    {
        list.push(b"--argv0".to_vec());
        list.push(arguments[at].clone());
    }
    let number = subject::export(memory)?;
    list.push(format!("/proc/self/fd/{number}").into_bytes());
    list.extend_from_slice(&arguments[at + 1..]);
    let environment = process::complete_environment(environment.to_vec(), full.as_deref()).entries;
    let said = subject::execute(Executed::Path(linker), list, environment);
    kernel::close(memory);
    Ok(Some(said))
}

/// The interpreter line of a script of the kernel's tree.
fn local_shebang(dir: i32, text: &[u8]) -> Option<Shebang> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let file = kernel::open_at(dir, &CPath::new(text), flags, 0).ok()?;
    let mut head = vec![0u8; exec::HEAD_BYTES];
    let len = kernel::pread(file, &mut head, 0);
    kernel::close(file);
    exec::shebang(&head[..len.ok()?])
}
