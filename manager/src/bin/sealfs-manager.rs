//! The daemon `sealfs-manager`: see `sealfs_manager::daemon`.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let flags = sealfs_manager::config::Flags::parse();
    sealfs_daemon::logging::start();
    match sealfs_manager::daemon::run(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("sealfs-manager: {why}");
            ExitCode::FAILURE
        }
    }
}
