//! How a program comes under the supervisor: `sealfs-supervisor PROGRAM ARGV0 ARGUMENTS…` in the
//! process that is to become the program.
//!
//! Three processes are made before it does. The *guard* outlives this image, so it is nobody's child
//! by then: it starts the supervisor, and tells the user if that is killed, because the kernel then
//! answers every call that asks with ENOSYS. The supervisor takes the filter's listener out of this
//! process's table. Then the program is executed, its number, parent, signals and exit its own.
//!
//! What must stay true: this process makes no call that asks between the filter and the supervisor's
//! being ready; neither guard nor supervisor keeps a descriptor of the program open.
//!
//! # Safety
//! The kernel calls get values of ours that outlive them.

use crate::environment::StartEnv;
use crate::kernel::{self, CPath};
use crate::log::{self, Level, say};
use crate::sys::{self, check};
use crate::tasks::fork;
use crate::{
    environment, exec, filter, notify, observe, path, proc, process, router, settings, subject,
};
use sealfs_protocol::Errno;
use std::ffi::c_char;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;

/// Exit code of shells for a program that cannot be run.
const CANNOT_RUN: i32 = 126;

/// A line of trouble, and the exit code that goes with it.
type Trouble = (String, i32);

/// The program's own main: without the set-up of Rust's runtime, which would change signals and
/// descriptors that the program inherits.
pub fn main() -> i32 {
    let arguments: Vec<Vec<u8>> = std::env::args_os()
        .skip(1)
        .map(OsStringExt::into_vec)
        .collect();
    let (line, code) = match arguments.as_slice() {
        [word] if word == b"--check" => return check_machine(),
        [program, list @ ..] if !list.is_empty() => launch(program, list),
        _ => (
            "started by the library and `sealfs run`: PROGRAM ARGV0 ARGUMENTS".into(),
            CANNOT_RUN,
        ),
    };
    say(Level::Error, format_args!("{line}"));
    code
}

/// Whether programs can be run under a supervisor here: says why not, in one line.
fn check_machine() -> i32 {
    match filter::available() {
        Ok(()) => 0,
        Err(why) => {
            println!("{why}");
            1
        }
    }
}

/// Becomes the program, with its argument list `list`; why it could not.
fn launch(program: &[u8], list: &[Vec<u8>]) -> Trouble {
    let shown = String::from_utf8_lossy(program).into_owned();
    let start = StartEnv { envp: environ() };
    if let Some(level) = start.get(b"SEALFS_LOG") {
        log::set_level(level);
    }
    if let Err(why) = filter::available() {
        say(
            Level::Warn,
            format_args!("{shown} will not see the mount: {why}"),
        );
        return (execute(program, list, false), CANNOT_RUN);
    }
    crate::sync::start();
    process::start(&start);
    observe::start(&start);
    close_at_exec(program);
    match supervised() {
        Ok(()) => (execute(program, list, true), CANNOT_RUN),
        Err(line) => (format!("{shown}: {line}"), CANNOT_RUN),
    }
}

/// Brings this process under a supervisor.
fn supervised() -> Result<(), String> {
    let trouble = |what: &str, errno: Errno| format!("{what}: {errno}");
    let [ours, theirs] = pair().map_err(|e| trouble("no socket", e))?;
    start_guard(ours, theirs).map_err(|e| trouble("the supervisor cannot be started", e))?;
    kernel::close(theirs);
    let supervisor = receive(ours).map_err(|e| trouble("the supervisor does not start", e))?;
    // Where only parents may look into a process (Yama), this one says who else may.
    let tracer = libc::PR_SET_PTRACER as usize;
    let _ = call(libc::SYS_prctl, [tracer, supervisor as usize, 0, 0]);
    let listener = filter::put_on()?;
    send(ours, listener as u32).map_err(|e| trouble("the supervisor is gone", e))?;
    match receive(ours) {
        Ok(READY) => Ok(()),
        Ok(_) => {
            Err("the supervisor may not look into processes (ptrace is restricted here)".into())
        }
        Err(errno) => Err(trouble("the supervisor is gone", errno)),
    }
}

/// Executes the program; why that could not be.
fn execute(program: &[u8], list: &[Vec<u8>], supervised: bool) -> String {
    let mut environment: Vec<Vec<u8>> = environment::entries_of(&StartEnv { envp: environ() })
        .filter(|entry| exec::value_of(entry, exec::SUPERVISE).is_none())
        .map(<[u8]>::to_vec)
        .collect();
    if supervised {
        // musl's loader takes it for its own, and cannot load it.
        let library = settings::settings().map_or(&[][..], |s| &s.library);
        take_out(&mut environment, library);
        environment.push([exec::SUPERVISED, b"=1"].concat());
    }
    let strings = |list: &[Vec<u8>]| -> Vec<CPath> { list.iter().map(|s| CPath::new(s)).collect() };
    let pointers =
        |list: &[CPath]| -> Vec<usize> { list.iter().map(CPath::address).chain([0]).collect() };
    let (list, environment) = (strings(list), strings(&environment));
    let (path, argv, envp) = (CPath::new(program), pointers(&list), pointers(&environment));
    let lists = [argv.as_ptr() as usize, envp.as_ptr() as usize, 0];
    let [argv, envp, none] = lists;
    match call(libc::SYS_execve, [path.address(), argv, envp, none]) {
        Ok(_) => unreachable!("execve comes back with an error only"),
        Err(errno) => format!("{}: {}", String::from_utf8_lossy(program), errno.text()),
    }
}

/// Takes `library` out of `LD_PRELOAD`; others in it keep their places.
fn take_out(environment: &mut Vec<Vec<u8>>, library: &[u8]) {
    environment.retain_mut(|entry| {
        let Some(value) = exec::value_of(entry, exec::PRELOAD) else {
            return true;
        };
        let others: Vec<&[u8]> = value
            .split(|b| *b == b':' || *b == b' ')
            .filter(|path| !path.is_empty() && *path != library)
            .collect();
        let others = others.join(&b':');
        *entry = [exec::PRELOAD, b"=", &others].concat();
        !others.is_empty()
    });
}

/// A program in memory comes as a descriptor that is open over this image's own exec.
fn close_at_exec(program: &[u8]) {
    let number = program
        .strip_prefix(b"/proc/self/fd/")
        .and_then(path::number);
    if let Some(fd) = number {
        let _ = kernel::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC as usize);
    }
}

fn environ() -> *const *const c_char {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: libc's variable; nobody changes it meanwhile.
    unsafe { environ }
}

fn call(nr: i64, args: [usize; 4]) -> Result<usize, Errno> {
    let [a, b, c, d] = args;
    // SAFETY: numbers, or addresses of values that the callers keep.
    check(unsafe { sys::syscall4(nr as usize, a, b, c, d) }).map_err(Errno)
}

/// Two sockets on which numbers are sent.
fn pair() -> Result<[u32; 2], Errno> {
    let mut pair = [0u32; 2];
    let kind = (libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC) as usize;
    let at = pair.as_mut_ptr() as usize;
    call(libc::SYS_socketpair, [libc::AF_UNIX as usize, kind, 0, at])?;
    Ok(pair)
}

const READY: u32 = 1;
const NOT_READY: u32 = 0;

/// sendto(2) and recvfrom(2) without addresses ask nobody.
fn send(socket: u32, number: u32) -> Result<(), Errno> {
    let (at, flags) = ((&raw const number) as usize, libc::MSG_NOSIGNAL as usize);
    let nr = libc::SYS_sendto as usize;
    // SAFETY: four bytes.
    check(unsafe { sys::syscall6(nr, socket as usize, at, size_of::<u32>(), flags, 0, 0) })
        .map(|_| ())
        .map_err(Errno)
}

fn receive(socket: u32) -> Result<u32, Errno> {
    let mut number = 0u32;
    let at = (&raw mut number) as usize;
    let nr = libc::SYS_recvfrom as usize;
    // SAFETY: room for four bytes.
    let read = unsafe { sys::syscall6(nr, socket as usize, at, size_of::<u32>(), 0, 0, 0) };
    match check(read).map_err(Errno)? {
        0 => Err(Errno::EPIPE),
        _ => Ok(number),
    }
}

fn wait(child: i32) -> Result<i32, Errno> {
    let mut status = 0i32;
    let at = (&raw mut status) as usize;
    call(libc::SYS_wait4, [child as usize, at, 0, 0]).map(|_| status)
}

/// Starts guard and supervisor; the process in between ends at once, so that the program will not
/// have a child that it does not know.
fn start_guard(ours: u32, theirs: u32) -> Result<(), Errno> {
    let program = sys::getpid() as u32;
    let between = fork()?;
    if between != 0 {
        // ECHILD where the program's parent has it ignore SIGCHLD: the kernel has waited then.
        let _ = wait(between);
        return Ok(());
    }
    kernel::close(ours);
    if let Ok(0) = fork() {
        guard(program, theirs);
    }
    std::process::exit(0)
}

/// The guard's life.
fn guard(program: u32, socket: u32) -> ! {
    let _ = call(libc::SYS_setsid, [0; 4]);
    proc::set_name(c"sealfs-guard");
    ignore_signals();
    if let Ok(supervisor) = fork() {
        if supervisor == 0 {
            let code = supervise(program, socket);
            std::process::exit(code);
        }
        close_but(&[]);
        if wait(supervisor) != Ok(0) {
            tell(program, supervisor);
        }
    }
    std::process::exit(0)
}

/// Those that a terminal or a session's end sends.
fn ignore_signals() {
    for signal in [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGPIPE,
    ] {
        // SAFETY: no handler.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Says on the program's own standard error what has happened to it.
fn tell(program: u32, supervisor: i32) {
    let path = format!("/proc/{program}/fd/2");
    if let Ok(mut file) = fs::OpenOptions::new().append(true).open(path) {
        let _ = writeln!(
            file,
            "sealfs: the supervisor (process {supervisor}) of process {program} was killed: that \
             program and those it started get \"Function not implemented\" (ENOSYS) for files from \
             now on; end them and start them again"
        );
    }
}

/// Closes every descriptor but those.
fn close_but(kept: &[u32]) {
    let mut from = 0;
    let mut sorted = kept.to_vec();
    sorted.sort_unstable();
    for fd in sorted {
        if fd > from {
            let _ = kernel::close_range(from, fd - 1, 0);
        }
        from = fd + 1;
    }
    let _ = kernel::close_range(from, u32::MAX, 0);
}

/// The supervisor's life; its exit code.
fn supervise(program: u32, socket: u32) -> i32 {
    proc::set_name(c"sealfs-supervisor");
    close_but(&[socket]);
    let taken = subject::make_room().and_then(|()| subject::own(socket));
    let Ok(socket) = taken else { return 1 };
    let ready = take_over(program, socket);
    let told = send(socket, if ready.is_ok() { READY } else { NOT_READY });
    kernel::close(socket);
    match (ready, told) {
        (Ok(()), Ok(())) if router::run().is_ok() => 0,
        _ => 1,
    }
}

/// Gets the listener out of the program's process.
fn take_over(program: u32, socket: u32) -> Result<(), Errno> {
    subject::reserve()?;
    let pidfd = call(libc::SYS_pidfd_open, [program as usize, 0, 0, 0])? as u32;
    let pidfd = subject::own(pidfd)?;
    send(socket, sys::getpid() as u32)?;
    let listener = receive(socket)? as usize;
    let got = call(libc::SYS_pidfd_getfd, [pidfd as usize, listener, 0, 0])?;
    notify::set_listener(subject::own(got as u32)? as i32);
    kernel::close(pidfd);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::take_out;

    #[test]
    fn the_library_is_taken_out_and_others_stay() {
        let mut alone = vec![b"A=1".to_vec(), b"LD_PRELOAD=/l.so".to_vec()];
        take_out(&mut alone, b"/l.so");
        assert_eq!(alone, [b"A=1".to_vec()]);
        let mut among = vec![b"LD_PRELOAD=/a.so /l.so:/b.so".to_vec()];
        take_out(&mut among, b"/l.so");
        assert_eq!(among, [b"LD_PRELOAD=/a.so:/b.so".to_vec()]);
    }
}
