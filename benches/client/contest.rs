//! Who is measured, how often, and with how many objects.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::loops::{IN_FLIGHT, key};
use crate::process::{Took, pinned, run as measured};
use crate::server::Server;
use crate::table::{self, Figure};

/// Objects of the run that is subtracted: what starting up costs.
const FEW: u64 = 1_000;

/// Objects of those who take fifty times as long.
const SLOW: u64 = 5_000;

/// What is asked of the bench.
pub(crate) struct Settings {
    objects: u64,
    rounds: usize,
    large: u64,
    peers: Option<PathBuf>,
}

impl Settings {
    pub(crate) fn from_environment() -> Result<Self, Box<dyn Error>> {
        let number = |name: &str, other: u64| std::env::var(name).map_or(Ok(other), |value| value.parse());
        Ok(Self {
            objects: number("BATCHPLAN_BENCH_OBJECTS", 1_000_000)?,
            rounds: usize::try_from(number("BATCHPLAN_BENCH_ROUNDS", 3)?)?,
            large: number("BATCHPLAN_BENCH_LARGE", 10_000_000)?,
            peers: std::env::var_os("BATCHPLAN_BENCH_PEERS").map(PathBuf::from),
        })
    }
}

/// Makes the command that does so many objects.
type Start = dyn Fn(u64) -> Result<Command, Box<dyn Error>>;

/// A command that is measured.
struct Contestant {
    name: &'static str,
    objects: u64,
    command: Box<Start>,
}

impl Contestant {
    fn new(
        name: &'static str,
        objects: u64,
        command: impl Fn(u64) -> Result<Command, Box<dyn Error>> + 'static,
    ) -> Self {
        Self { name, objects, command: Box::new(command) }
    }

    fn measure(&self, objects: u64) -> Result<Took, Box<dyn Error>> {
        Ok(measured((self.command)(objects)?)?)
    }
}

/// Measures every contestant in turn, and prints the table.
pub(crate) fn run(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let server = Server::start()?;
    let folder = tempfile::tempdir()?;
    let mut contestants = ours(settings, &server.address, folder.path());
    if let Some(python) = &settings.peers {
        contestants.extend(peers(python, &server.address, folder.path()));
    }
    let mut figures: BTreeMap<&'static str, Vec<Figure>> = BTreeMap::new();
    for round in 1..=settings.rounds {
        for contestant in &contestants {
            let few = few(contestant.objects);
            let (start, whole) = (contestant.measure(few)?, contestant.measure(contestant.objects)?);
            let figure = Figure::new(start, whole, few, contestant.objects);
            table::progress(round, contestant.name, figure)?;
            figures.entry(contestant.name).or_default().push(figure);
        }
    }
    table::print(&contestants.iter().map(|one| one.name).collect::<Vec<_>>(), &figures)?;
    if settings.large > 0 {
        grow(settings, &server.address, folder.path())?;
    }
    Ok(())
}

/// A run is never compared with itself.
fn few(objects: u64) -> u64 {
    FEW.min(objects / 10)
}

fn ours(settings: &Settings, address: &str, folder: &Path) -> Vec<Contestant> {
    let tool = |operation: &'static str| {
        let (address, folder) = (address.to_owned(), folder.to_owned());
        move |objects| tool(&address, &folder, operation, objects)
    };
    let this = |what: &'static str| {
        let address = address.to_owned();
        move |objects: u64| -> Result<Command, Box<dyn Error>> {
            let mut command = pinned(1, std::env::current_exe()?);
            command.args([what, &address, &objects.to_string()]);
            Ok(command)
        }
    };
    vec![
        Contestant::new(table::TOOL, settings.objects, tool(PUT)),
        Contestant::new(table::BARE, settings.objects, this("bare")),
        Contestant::new(table::ADD, settings.objects / 2, tool(ADD)),
        Contestant::new(table::CAPTURE, settings.objects / 2, tool(PUT_CAPTURED)),
        Contestant::new(table::SDK, settings.objects / 5, this("sdk")),
        Contestant::new(table::RESTORE, settings.objects / 5, tool(RESTORE)),
    ]
}

const PUT: &str = "[undo]\ncapture = false\n[operation.put_object_tagging]\ntags = { Environment = \"Production\", Team = \"DataOps\" }\n";
const ADD: &str = "[undo]\ncapture = false\n[operation.add_object_tagging]\ntags = { Environment = \"Production\", Team = \"DataOps\" }\n";
/// A read and a write of each object, as with `ADD`, and a capture.
const PUT_CAPTURED: &str = "[undo]\ncapture = true\n[operation.put_object_tagging]\ntags = { Environment = \"Production\", Team = \"DataOps\" }\n";
const RESTORE: &str = "[operation.restore_object]\ndays = 7\ntier = \"Bulk\"\n";

/// The binary on a plan with so many rows, with a report.
fn tool(address: &str, folder: &Path, operation: &str, objects: u64) -> Result<Command, Box<dyn Error>> {
    let list = folder.join(format!("{objects}.csv"));
    if !list.exists() {
        let mut rows = BufWriter::new(File::create(&list)?);
        for n in 0..objects {
            writeln!(rows, "bucket,{}", key(n).replace('/', "%2F"))?;
        }
        rows.flush()?;
    }
    let plan = format!(
        "name = \"bench\"\n[store]\nprovider = \"s3\"\nskip_server_check = true\nendpoint = \"http://{address}\"\n[manifest.csv]\npath = \
         \"{objects}.csv\"\n{operation}[report]\nbucket = \"reports\"\nkeep_local = false\n[limits]\nconcurrency = \
         {IN_FLIGHT}\n"
    );
    fs::write(folder.join("plan.toml"), plan)?;
    let state = folder.join(".batchplan");
    if state.exists() {
        fs::remove_dir_all(state)?;
    }
    let mut command = pinned(1, env!("CARGO_BIN_EXE_batchplan"));
    command.args(["apply", "plan.toml", "--auto-approve"]).current_dir(folder);
    command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
    Ok(command)
}

fn peers(python: &Path, address: &str, folder: &Path) -> Vec<Contestant> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    let peer = |script: &'static str| {
        let (python, address, folder) = (python.to_owned(), address.to_owned(), folder.to_owned());
        let script = scripts.join(script);
        move |objects: u64| -> Result<Command, Box<dyn Error>> {
            let mut command = pinned(1, &python);
            command.arg(&script).arg(&address).arg(objects.to_string()).current_dir(&folder);
            Ok(command)
        }
    };
    vec![
        Contestant::new(table::BOTO3, SLOW, peer("boto3_threads.py")),
        Contestant::new(table::AIOBOTOCORE, SLOW, peer("aiobotocore_tasks.py")),
        Contestant::new(table::S3CMD, SLOW, peer("s3cmd_setacl.py")),
        Contestant::new(table::RCLONE, SLOW, peer("rclone_restore.py")),
    ]
}

/// What grows with the job: the cost of an object, and memory.
fn grow(settings: &Settings, address: &str, folder: &Path) -> Result<(), Box<dyn Error>> {
    let small = 100_000.min(settings.large / 10);
    let start = measured(tool(address, folder, PUT, FEW.min(small / 10))?)?;
    let runs = [small, settings.large];
    let mut took = Vec::new();
    for objects in runs {
        took.push(measured(tool(address, folder, PUT, objects)?)?);
    }
    table::print_growth(runs, start, FEW.min(small / 10), [took[0], took[1]])?;
    Ok(())
}
