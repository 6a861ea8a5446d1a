//! `sealfs-keeper`: started by the library, not by people; see the library of this package.

use sealfs_keeper::links::Links;
use sealfs_keeper::{options::Options, run};
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    let outcome = Options::parse(std::env::args_os().skip(1))
        .and_then(|o| run::keeper(&o, |node| Arc::new(Links::new(node))));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            eprintln!("sealfs-keeper: {line}");
            log::error!("{line}");
            ExitCode::FAILURE
        }
    }
}
