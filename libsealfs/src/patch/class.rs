//! What the stubs know: the class of each system call number, the state of each descriptor, and a
//! few words about the process. Stubs and `entry` read these without a call; the dispatcher keeps
//! them true.
//!
//! What must stay true: a byte says *native* only while that is certain. Everything unknown goes
//! to the dispatcher.
//!
//! # Safety
//! The one cell that is not an atomic is written by the constructor, before anyone reads it.

use crate::interpose::CLASSES;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicUsize, Ordering::Relaxed};

/// Descriptors below this number have a byte of their own; numbers beyond go to the dispatcher.
pub const FD_CLASSES: usize = 65536;
/// System call numbers below this one have a class; numbers beyond are native.
pub const NUMBER_CLASSES: usize = 512;

/// What is known about a descriptor number. Values of 2 and more are the dispatcher's to define
/// (ours, internal, …): the stubs send all of them to it.
pub const FD_UNKNOWN: u8 = 0;
/// Certainly not ours: calls on it go straight to the kernel.
pub const FD_NATIVE: u8 = 1;

/// One byte per descriptor number. A number that was native may stay so over close and open, since
/// a descriptor of ours only comes into being in calls that the dispatcher sees.
pub static FD_CLASS: [AtomicU8; FD_CLASSES] = [const { AtomicU8::new(FD_UNKNOWN) }; FD_CLASSES];

/// How a call is judged before anyone is asked.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Never ours.
    Native = 0,
    /// Native when the descriptor in argument 0 is.
    Fd = 1,
    /// Always to the dispatcher.
    Always = 2,
    /// Path in argument 0. Tried in the kernel first when the path cannot name the mount.
    Path = 3,
    /// Directory descriptor in argument 0, path in argument 1; else as `Path`.
    AtPath = 4,
    /// Native when the descriptors in arguments 0 and 1 both are.
    TwoFds = 5,
    /// mmap: native when anonymous, or when the descriptor in argument 4 is native.
    Map = 6,
    /// Native until [`TOUCHED`] is raised, then as `Always`.
    WhenTouched = 7,
    /// As `Fd`; a native descriptor's byte becomes unknown before the kernel closes it.
    Close = 8,
    /// `rt_sigaction`: native but for SIGSEGV and SIGBUS, which `sigaction` answers for.
    SignalAction = 9,
    /// The end of a thread: gives its private stack back, then native.
    ThreadExit = 10,
}

/// The class of each number: the dispatcher's list, and the three that are this module's own.
/// Changed by the constructor alone, before the stubs have their copy ([`see_everything`]).
pub static NUMBER_CLASS: [AtomicU8; NUMBER_CLASSES] = {
    let mut table = [const { AtomicU8::new(Class::Native as u8) }; NUMBER_CLASSES];
    let mut index = 0;
    while index < CLASSES.len() {
        table[CLASSES[index].0 as usize] = AtomicU8::new(CLASSES[index].1 as u8);
        index += 1;
    }
    table[libc::SYS_close as usize] = AtomicU8::new(Class::Close as u8);
    table[libc::SYS_rt_sigaction as usize] = AtomicU8::new(Class::SignalAction as u8);
    table[libc::SYS_exit as usize] = AtomicU8::new(Class::ThreadExit as u8);
    #[cfg(feature = "selftest")]
    {
        table[super::selftest::NUMBER as usize] = AtomicU8::new(Class::Always as u8);
    }
    table
};

/// Sends calls on files to the dispatcher also where they are plainly the kernel's: they are counted.
pub fn see_everything() {
    let on_files = [
        Class::Fd,
        Class::TwoFds,
        Class::Close,
        Class::Map,
        Class::Path,
        Class::AtPath,
    ];
    for class in &NUMBER_CLASS {
        let now = class.load(Relaxed);
        if on_files.iter().any(|seen| *seen as u8 == now) {
            class.store(Class::Always as u8, Relaxed);
        }
    }
}

/// Raised for good when a descriptor or working directory of ours may exist in this process.
pub static TOUCHED: AtomicBool = AtomicBool::new(false);

/// True while the working directory may be ours, or may lie above the mount point: relative paths
/// then always go to the dispatcher.
pub static CWD_SPECIAL: AtomicBool = AtomicBool::new(true);

/// The mount's last component, which the entry looks for in paths. Written once, by the constructor.
pub static MOUNT_NAME: MountName = MountName(UnsafeCell::new([0; NAME_MAX + 1]));
/// Length of [`MOUNT_NAME`].
pub static MOUNT_NAME_BYTES: AtomicUsize = AtomicUsize::new(0);
const NAME_MAX: usize = 255;

/// What the entry compares sixteen bytes of a path with at a time: slashes, and the first and the
/// second byte of [`MOUNT_NAME`]. Written once, by the constructor.
pub static GLANCE: Glance = Glance(UnsafeCell::new([[b'/'; 16]; 3]));

#[repr(C, align(16))]
pub struct Glance(UnsafeCell<[[u8; 16]; 3]>);

// SAFETY: written before any call is intercepted, only read afterwards.
unsafe impl Sync for Glance {}

/// Room for one name. The entry reads it as plain bytes.
#[repr(transparent)]
pub struct MountName(UnsafeCell<[u8; NAME_MAX + 1]>);

// SAFETY: written before any call is intercepted, only read afterwards.
unsafe impl Sync for MountName {}

/// Takes the name from the mount's absolute path. False when there is none to take.
pub fn set_mount(path: &[u8]) -> bool {
    let name = path
        .rsplit(|byte| *byte == b'/')
        .find(|part| !part.is_empty());
    let Some(name) = name.filter(|name| name.len() <= NAME_MAX && path[0] == b'/') else {
        return false;
    };
    // SAFETY: the constructor is alone.
    unsafe {
        (&mut *MOUNT_NAME.0.get())[..name.len()].copy_from_slice(name);
        for (sixteen, byte) in (&mut *GLANCE.0.get())[1..].iter_mut().zip(name) {
            *sixteen = [*byte; 16];
        }
    }
    MOUNT_NAME_BYTES.store(name.len(), Relaxed);
    // A copy: programs write over their environment.
    MOUNT_PATH.store(Box::leak(Box::<[u8]>::from(path)).as_mut_ptr(), Relaxed);
    MOUNT_PATH_BYTES.store(path.len(), Relaxed);
    true
}

static MOUNT_PATH: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
static MOUNT_PATH_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The mount's absolute path, as it was given.
pub fn mount() -> &'static [u8] {
    let path = MOUNT_PATH.load(Relaxed);
    if path.is_null() {
        return &[];
    }
    // SAFETY: both words come from one slice that lives as long as the process.
    unsafe { core::slice::from_raw_parts(path, MOUNT_PATH_BYTES.load(Relaxed)) }
}

/// True once the program has put itself under seccomp: from then on no system call is issued that
/// the program did not ask for, unless the call is ours.
pub static SECCOMPED: AtomicBool = AtomicBool::new(false);
