//! The batchplan command.

fn main() -> std::process::ExitCode {
    batchplan::cli::main()
}
