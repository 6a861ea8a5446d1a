//! The one table: every system call that may be ours, how the ways in judge it, and who answers.
//! A call that is not here is the kernel's, whatever its arguments: it names no file, or names it by
//! descriptors that fail loudly on a placeholder (an empty directory without rights).
//!
//! What must stay true: every call of Linux that takes a path is here (`docs/posix-coverage.md` has
//! the errno of those that a volume does not support).

use super::{
    Handler, attr, control, copy, cwd, dir, exec, fd, inotify, lock, map, name, node, open,
    process, refuse, rw, socket, space, stat, write_limit, xattr,
};
use crate::patch::class::Class;

/// Numbers that the `libc` crate does not name yet (Linux 6.13 and later), as it would.
#[allow(non_upper_case_globals, reason = "as the libc crate names them")]
mod newer {
    pub const SYS_setxattrat: i64 = 463;
    pub const SYS_getxattrat: i64 = 464;
    pub const SYS_listxattrat: i64 = 465;
    pub const SYS_removexattrat: i64 = 466;
    pub const SYS_open_tree_attr: i64 = 467;
    pub const SYS_file_getattr: i64 = 468;
    pub const SYS_file_setattr: i64 = 469;
    pub const SYS_fchmodat2: i64 = 452;
    pub const SYS_cachestat: i64 = 451;
    pub const SYS_quotactl_fd: i64 = 443;
}

macro_rules! calls {
    ($($class:ident: $($number:expr => $handler:expr),+;)+) => {
        /// The class of every system call that is not native.
        pub const CLASSES: &[(i64, Class)] = &[$($(($number, Class::$class),)+)+];

        /// Who answers a call, and its class.
        pub fn find(number: usize) -> Option<(Handler, Class)> {
            static TABLE: &[(i64, Handler, Class)] =
                &[$($(($number, $handler as Handler, Class::$class),)+)+];
            TABLE.get(place(number)?).map(|(_, handler, class)| (*handler, *class))
        }

        /// The kernel's name of a call that [`find`] knows; empty for others.
        pub fn name_of(number: usize) -> &'static str {
            static NAMES: &[&str] = &[$($(stringify!($number),)+)+];
            let path = place(number).and_then(|at| NAMES.get(at));
            path.and_then(|path| path.rsplit("SYS_").next()).unwrap_or("")
        }

        /// Where a call stands in the tables above.
        fn place(number: usize) -> Option<usize> {
            static PLACES: [u8; 512] = {
                let mut places = [u8::MAX; 512];
                let mut at = 0;
                while at < CLASSES.len() {
                    places[CLASSES[at].0 as usize] = at as u8;
                    at += 1;
                }
                places
            };
            const { assert!(CLASSES.len() < u8::MAX as usize) };
            PLACES.get(number).map(|place| usize::from(*place))
        }
    };
}

calls! {
    Close: libc::SYS_close => fd::close;
    Fd:
        libc::SYS_read => rw::read,
        libc::SYS_write => rw::write,
        libc::SYS_pread64 => rw::pread,
        libc::SYS_pwrite64 => rw::pwrite,
        libc::SYS_readv => rw::readv,
        libc::SYS_writev => rw::writev,
        libc::SYS_preadv => rw::preadv,
        libc::SYS_pwritev => rw::pwritev,
        libc::SYS_preadv2 => rw::preadv2,
        libc::SYS_pwritev2 => rw::pwritev2,
        libc::SYS_lseek => rw::lseek,
        libc::SYS_fstat => stat::fstat,
        libc::SYS_dup => fd::dup,
        libc::SYS_fcntl => control::fcntl,
        libc::SYS_ioctl => control::ioctl,
        libc::SYS_flock => lock::flock,
        libc::SYS_fsync => space::fsync,
        libc::SYS_fdatasync => space::fdatasync,
        libc::SYS_sync_file_range => space::sync_file_range,
        libc::SYS_syncfs => cwd::syncfs,
        libc::SYS_ftruncate => space::ftruncate,
        libc::SYS_fallocate => space::fallocate,
        libc::SYS_fadvise64 => space::fadvise,
        libc::SYS_readahead => space::readahead,
        libc::SYS_getdents => dir::getdents,
        libc::SYS_getdents64 => dir::getdents64,
        libc::SYS_fchmod => attr::fchmod,
        libc::SYS_fchown => attr::fchown,
        libc::SYS_fstatfs => space::fstatfs,
        libc::SYS_fgetxattr => xattr::fgetxattr,
        libc::SYS_fsetxattr => xattr::fsetxattr,
        libc::SYS_flistxattr => xattr::flistxattr,
        libc::SYS_fremovexattr => xattr::fremovexattr,
        newer::SYS_cachestat => refuse::descriptor,
        newer::SYS_quotactl_fd => refuse::descriptor;
    TwoFds:
        libc::SYS_dup2 => fd::dup_onto,
        libc::SYS_dup3 => fd::dup_onto,
        libc::SYS_sendfile => copy::sendfile,
        libc::SYS_tee => copy::pipes_only;
    Map: libc::SYS_mmap => map::mmap;
    Path:
        libc::SYS_open => open::open,
        libc::SYS_creat => open::creat,
        libc::SYS_stat => stat::stat,
        libc::SYS_lstat => stat::lstat,
        libc::SYS_access => stat::access,
        libc::SYS_readlink => name::readlink,
        libc::SYS_truncate => space::truncate,
        libc::SYS_mkdir => name::mkdir,
        libc::SYS_rmdir => name::rmdir,
        libc::SYS_unlink => name::unlink,
        libc::SYS_chmod => attr::chmod,
        libc::SYS_chown => attr::chown,
        libc::SYS_lchown => attr::lchown,
        libc::SYS_mknod => node::mknod,
        libc::SYS_statfs => space::statfs,
        libc::SYS_utime => attr::utime,
        libc::SYS_utimes => attr::utimes,
        libc::SYS_getxattr => xattr::getxattr,
        libc::SYS_lgetxattr => xattr::lgetxattr,
        libc::SYS_setxattr => xattr::setxattr,
        libc::SYS_lsetxattr => xattr::lsetxattr,
        libc::SYS_listxattr => xattr::listxattr,
        libc::SYS_llistxattr => xattr::llistxattr,
        libc::SYS_removexattr => xattr::removexattr,
        libc::SYS_lremovexattr => xattr::lremovexattr,
        libc::SYS_chroot => refuse::chroot,
        libc::SYS_umount2 => refuse::umount,
        libc::SYS_swapon => refuse::swap,
        libc::SYS_swapoff => refuse::swap,
        libc::SYS_acct => refuse::acct;
    AtPath:
        libc::SYS_openat => open::openat,
        libc::SYS_newfstatat => stat::newfstatat,
        libc::SYS_statx => stat::statx,
        libc::SYS_faccessat => stat::faccessat,
        libc::SYS_faccessat2 => stat::faccessat2,
        libc::SYS_readlinkat => name::readlinkat,
        libc::SYS_mkdirat => name::mkdirat,
        libc::SYS_unlinkat => name::unlinkat,
        libc::SYS_fchmodat => attr::fchmodat,
        newer::SYS_fchmodat2 => attr::fchmodat2,
        libc::SYS_fchownat => attr::fchownat,
        libc::SYS_mknodat => node::mknodat,
        libc::SYS_utimensat => attr::utimensat,
        libc::SYS_futimesat => attr::futimesat,
        libc::SYS_name_to_handle_at => refuse::name_to_handle_at,
        libc::SYS_open_tree => refuse::tree,
        newer::SYS_open_tree_attr => refuse::tree,
        libc::SYS_fspick => refuse::tree,
        libc::SYS_mount_setattr => refuse::tree,
        newer::SYS_setxattrat => refuse::newer,
        newer::SYS_getxattrat => refuse::newer,
        newer::SYS_listxattrat => refuse::newer,
        newer::SYS_removexattrat => refuse::newer,
        newer::SYS_file_getattr => refuse::newer,
        newer::SYS_file_setattr => refuse::newer;
    Always:
        libc::SYS_openat2 => open::openat2,
        libc::SYS_chdir => cwd::chdir,
        libc::SYS_fchdir => cwd::fchdir,
        libc::SYS_getcwd => cwd::getcwd,
        libc::SYS_rename => name::rename,
        libc::SYS_renameat => name::renameat,
        libc::SYS_renameat2 => name::renameat2,
        libc::SYS_link => name::link,
        libc::SYS_linkat => name::linkat,
        libc::SYS_symlink => name::symlink,
        libc::SYS_symlinkat => name::symlinkat,
        libc::SYS_splice => copy::splice,
        libc::SYS_copy_file_range => copy::copy_file_range,
        libc::SYS_close_range => fd::close_range,
        libc::SYS_execve => exec::execve,
        libc::SYS_execveat => exec::execveat,
        libc::SYS_fork => process::fork,
        libc::SYS_vfork => process::vfork,
        libc::SYS_clone => process::clone,
        libc::SYS_clone3 => process::clone3,
        libc::SYS_exit_group => process::exit_group,
        libc::SYS_umask => process::umask,
        libc::SYS_sigaltstack => process::seen,
        libc::SYS_unshare => process::apart,
        libc::SYS_setns => process::apart,
        libc::SYS_setuid => process::identity,
        libc::SYS_setgid => process::identity,
        libc::SYS_setreuid => process::identity,
        libc::SYS_setregid => process::identity,
        libc::SYS_setresuid => process::identity,
        libc::SYS_setresgid => process::identity,
        libc::SYS_setfsuid => process::identity,
        libc::SYS_setfsgid => process::identity,
        libc::SYS_setgroups => process::identity,
        libc::SYS_prctl => process::prctl,
        libc::SYS_seccomp => process::seccomp,
        libc::SYS_setrlimit => write_limit::setrlimit,
        libc::SYS_prlimit64 => write_limit::prlimit,
        libc::SYS_bind => socket::bind,
        libc::SYS_connect => socket::connect,
        libc::SYS_mount => refuse::mount,
        libc::SYS_move_mount => refuse::move_mount,
        libc::SYS_pivot_root => refuse::pivot_root,
        libc::SYS_quotactl => refuse::quotactl,
        libc::SYS_inotify_add_watch => inotify::add_watch,
        libc::SYS_fanotify_mark => refuse::fanotify_mark,
        libc::SYS_io_uring_setup => refuse::io_uring_setup;
    WhenTouched:
        libc::SYS_munmap => map::munmap,
        libc::SYS_mremap => map::mremap,
        libc::SYS_msync => map::msync,
        libc::SYS_sendto => socket::sendto,
        libc::SYS_sendmsg => socket::sendmsg,
        libc::SYS_sendmmsg => socket::sendmmsg,
        libc::SYS_sync => space::sync;
}
