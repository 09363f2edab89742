//! Object by object, and plan against plan: what a job would do, worked out from what can be seen before it does it.
//!
//! Nothing here sends a request. Whoever has looked at an object has a [`Judge`] say what becomes of it; what became of many
//! is summed up in a [`Tally`], exactly or, where they are a sample, with the interval that the truth lies in.
//!
//! | file | what it does |
//! |---|---|
//! | `judge` | one object's fate |
//! | `restores` | which restores a service takes |
//! | `tally` | many objects' fates: counts, reasons, a few of each kind |
//! | `interval` | what a sample says of the whole |
//! | `shown` | an object's state in lines, before and after |
//! | `texts` | one plan file against another |

mod interval;
mod judge;
mod restores;
mod shown;
mod tally;
mod texts;

pub use interval::{Interval, Share};
pub use judge::{Fate, Judge, Prospect, Reason, Trouble};
pub use restores::Service;
pub use shown::{Line, Mark, lines};
pub use tally::{Group, Sent, Tally, busiest};
pub use texts::unified;
