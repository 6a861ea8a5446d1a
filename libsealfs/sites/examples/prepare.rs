//! Prepares the images of this machine's libc and ld.so in a directory: `prepare DIR`.

use std::{env, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let Some(dir) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: prepare DIR");
        return ExitCode::from(2);
    };
    match sealfs_sites::prepare(&sealfs_sites::system_objects(), &dir) {
        Ok(prepared) => {
            for image in prepared {
                println!("{}: {} sites", image.object.display(), image.sites_found);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
