//! The life cycle of a job: created from a plan, prepared, confirmed, scheduled, run, paused and resumed, finished and
//! deleted. Any process can take each of these steps.
//!
//! | file | what it does |
//! |---|---|
//! | `check` | checks whether the credentials may do what a plan needs, before there is a job |
//! | `desk` | finds or creates the job for a plan |
//! | `origin` | resolves where the job's objects come from |
//! | `runner`, `control` | run a job from its current status, and react to requests from other processes |
//! | `server_verdict` | refuses to resume a job whose server is not trusted |
//! | `recurring` | decides whether a recurring plan has new work |
//! | `queue` | runs all queued jobs |
//! | `redo` | recovers from damaged or unverified records |
//! | `ending` | finishes a job and publishes its report |
//! | `orders` | commands to a job: confirm, pause, cancel, prioritise, delete |
//! | `preview` | shows what a plan would do, before there is a job |
//! | `cost` | estimates what a job costs, and checks that against its limit |
//! | `saved`, `pledge` | saved plans, and the fingerprint that their manifest must match |
//! | `describe`, `advice` | everything known about a job, and hints about its failures |
//! | `xml` | jobs in the XML of OSS Batch Operations |
//! | `schedule`, `scope`, `turn`, `budget` | which job starts next, what jobs may change, their share of the requests |
//! | `settings` | settings that the process chooses, not the plan |
//! | `error` | errors of creating, running and controlling jobs |

mod advice;
mod budget;
mod check;
mod control;
mod cost;
mod describe;
mod desk;
mod ending;
mod error;
mod orders;
mod origin;
mod pledge;
mod preview;
mod queue;
mod recurring;
mod redo;
mod runner;
mod saved;
mod schedule;
mod scope;
mod server_verdict;
mod settings;
mod turn;
pub mod xml;

pub use advice::{advice, after_distrust, why_untrusted};
pub use budget::{Budget, Seat, Wanted};
pub use check::{Finding, Probes, Verdict, check};
pub use cost::{SAMPLE, distrusted, foresee};
pub use describe::{Description, Kept, Presence, ReportState, describe, look};
pub use desk::{Entered, Held, Submission, is_interrupted, plan_to_go_on_with, stored_plan};
pub use ending::{Concluded, Delivered, url};
pub use error::JobError;
pub use orders::{Ordered, cancel, confirm, expire_suspended, forget, keep_house, may_forget, pause, prioritise};
pub use origin::manifest;
pub use pledge::{pledge, random_key};
pub use preview::{
    Buckets, Closeness, Facts, Onlooker, Preview, PreviewError, Previewer, ServerLook, Shown, cautions,
    server_check_off,
};
pub use queue::{Floor, Queue};
pub use recurring::{
    Due, cost_of_forgetting, due, is_evidence, newest, note_interrupted, source as recurring_source, whole,
};
pub use runner::{Decided, Gone, Prepare, Runner, Watch, Worked};
pub use saved::{SavedCounts, SavedError, SavedPlan};
pub use schedule::{Candidate, Rules, Waiting, going, may_go};
pub use scope::Scope;
pub use settings::{Patience, SLOTS, Settings};
