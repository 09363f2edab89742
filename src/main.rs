//! The batchplan command.

/// Each request is some dozens of small allocations, which the system's allocator makes a tenth of what it costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    batchplan::cli::main()
}
