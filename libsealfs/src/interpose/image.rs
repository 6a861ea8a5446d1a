//! What execve(2) is given: a program, its arguments and its environment, as the kernel wants them.
//!
//! What must stay true: memory that is handed to the kernel lives until the call is over, also in a
//! child that shares ours and never comes back.
//!
//! # Safety
//! Pointers handed to the kernel belong to an [`Image`] that outlives the call.

use crate::patch::call::Call;
use crate::vfork;

/// Strings and pointer arrays as the kernel wants them.
pub struct Image {
    path: Vec<u8>,
    _strings: Vec<Vec<u8>>,
    arguments: Vec<usize>,
    pub environment: Vec<usize>,
}

/// What is executed.
#[derive(Clone, Copy)]
pub enum Executed<'a> {
    /// A file of the kernel's tree.
    Path(&'a [u8]),
    /// What this memfd holds.
    Memory(u32),
}

/// Executes with these arguments and this environment. Comes back only with an error.
pub fn issue(what: Executed<'_>, arguments: Vec<Vec<u8>>, environment: Vec<Vec<u8>>) -> isize {
    let path = match what {
        Executed::Path(path) => path,
        Executed::Memory(_) => b"",
    };
    let image = vfork::Parked::new(Image::new(path, arguments, environment));
    let path = image.path.as_ptr() as usize;
    let lists = [
        image.arguments.as_ptr() as usize,
        image.environment.as_ptr() as usize,
    ];
    super::native(&what.call(path, lists))
}

impl Executed<'_> {
    /// The call, with the path (an empty one for a memfd) and the two lists at these addresses.
    pub fn call(self, path: usize, [arguments, environment]: [usize; 2]) -> Call {
        let (nr, args) = match self {
            Executed::Path(_) => (libc::SYS_execve, [path, arguments, environment, 0, 0, 0]),
            Executed::Memory(fd) => {
                let flags = libc::AT_EMPTY_PATH as usize;
                let args = [fd as usize, path, arguments, environment, flags, 0];
                (libc::SYS_execveat, args)
            }
        };
        Call {
            nr: nr as usize,
            args,
        }
    }
}

impl Image {
    pub fn new(path: &[u8], arguments: Vec<Vec<u8>>, environment: Vec<Vec<u8>>) -> Image {
        let mut strings = Vec::with_capacity(arguments.len() + environment.len());
        let mut list = |texts: Vec<Vec<u8>>| {
            let mut pointers = Vec::with_capacity(texts.len() + 1);
            for mut text in texts {
                text.push(0);
                pointers.push(text.as_ptr() as usize);
                strings.push(text);
            }
            pointers.push(0);
            pointers
        };
        let (arguments, environment) = (list(arguments), list(environment));
        Image {
            path: [path, b"\0"].concat(),
            _strings: strings,
            arguments,
            environment,
        }
    }
}
