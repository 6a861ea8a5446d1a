//! The command `sealfs`: see `sealfs_manager::cli`.

fn main() -> std::process::ExitCode {
    sealfs_manager::cli::main()
}
