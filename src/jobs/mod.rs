//! A job's life: created from a plan, prepared, confirmed, worked on in its turn, stopped and resumed, ended and
//! forgotten, by whichever process happens to be there.
//!
//! | file | what it does |
//! |---|---|
//! | `check` | whether the credentials may do what a plan needs, before there is a job |
//! | `desk` | finds or creates the job of a plan |
//! | `origin` | where its objects come from |
//! | `runner`, `control` | takes a job on from wherever it stands, and obeys what others ask of it meanwhile |
//! | `server_verdict` | whether its server is trusted with more |
//! | `recurring` | whether there is anything new for a plan that recurs |
//! | `queue` | works off all jobs that wait |
//! | `redo` | what is done about a record that is damaged, or cannot be proven |
//! | `ending` | finishes and publishes its report |
//! | `orders` | what others ask |
//! | `preview` | what a plan would do, before there is a job |
//! | `cost` | what is to be expected of a job, and whether it may cost that |
//! | `saved`, `pledge` | a plan that was saved, and whether its manifest is what it was |
//! | `describe`, `advice` | what there is to say of a job, and to do about its failures |
//! | `xml` | jobs as OSS Batch Operations shows them |
//! | `schedule`, `scope`, `turn`, `budget` | whose turn it is, what jobs may touch, who gets how many requests |
//! | `settings` | what whoever runs jobs decides |
//! | `error` | why something cannot be done |

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
