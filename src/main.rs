//! The `batchplan` command.

/// Each request makes some dozens of small allocations. With the system's allocator, they are a tenth of its cost.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    batchplan::cli::main()
}
