//! The sandbox over HTTP, as the AWS SDK sees it: every answer here is one that AWS gives.

#![expect(clippy::unwrap_used, reason = "a test that meets an unexpected error should stop there")]

mod aspects;
mod checksums;
mod conditions;
mod fixture;
mod folder;
mod forms;
mod objects;
mod oss;
mod owners;
#[cfg(unix)]
mod process;
#[path = "../support/sdk_http.rs"]
mod sdk_http;
mod uploads;
