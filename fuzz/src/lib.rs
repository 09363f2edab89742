//! The targets of `tests/fuzz`, for `cargo fuzz`.

#[path = "../../tests/support/inventory.rs"]
mod inventory;
#[path = "../../tests/fuzz/targets/mod.rs"]
mod targets;

/// Runs the target of this name on one input. Panics where the input brings about what none may.
///
/// # Panics
/// Also where there is no such target.
pub fn run(name: &str, input: &[u8]) {
    let target = targets::TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    (target.run)(input);
}
