//! The server's program: flags, log, then [`sealfs_server::runtime`].

use clap::Parser;
use sealfs_daemon::logging;
use sealfs_server::config::{Config, Flags};
use sealfs_server::runtime;
use std::process::ExitCode;

fn main() -> ExitCode {
    let flags = Flags::parse();
    logging::start();
    match Config::load(flags).and_then(|config| runtime::run(&config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("sealfs-server: {why}");
            ExitCode::FAILURE
        }
    }
}
