//! The engine against stores that behave, and against stores that do not.

mod asked_before;
mod captures;
mod checkpoints;
mod endings;
#[path = "../support/faulty.rs"]
mod faulty;
mod kills;
mod limits;
#[path = "../support/memory.rs"]
mod memory;
mod objects;
mod resume;
mod run;
mod scripted;
mod workers;
