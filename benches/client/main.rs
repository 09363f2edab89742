//! What a client costs: processor time per object for the whole tool, beside the barest loop that could do the same,
//! the AWS SDK's, and what people use today.
//!
//! `cargo bench --bench client` prints the table. Every client talks to one server that answers at once, on loopback.
//! The server has one core and the client another, where `taskset` is there; rounds are interleaved, and medians are
//! shown. Only ratios of one run mean anything.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `BATCHPLAN_BENCH_OBJECTS` | objects of the tool and the bare loop | 1,000,000 |
//! | `BATCHPLAN_BENCH_ROUNDS` | rounds | 3 |
//! | `BATCHPLAN_BENCH_LARGE` | objects of the run that shows what grows; 0 leaves it out | 10,000,000 |
//! | `BATCHPLAN_BENCH_PEERS` | a Python with boto3 and others, as `benches/peers/install.sh` makes it; without it they are left out | |

mod contest;
mod loops;
mod process;
#[path = "../../tests/support/sdk_http.rs"]
mod sdk_http;
mod server;
mod table;

use std::error::Error;

use contest::Settings;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["serve"] => Ok(server::serve()?),
        ["bare", endpoint, objects] => loops::bare(endpoint, objects.parse()?),
        ["sdk", endpoint, objects] => loops::sdk(endpoint, objects.parse()?),
        _ => contest::run(&Settings::from_environment()?),
    }
}
