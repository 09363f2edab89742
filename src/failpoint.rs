//! Failpoints: named places in the code at which a test can kill the process. Release builds have none.

#[cfg(debug_assertions)]
mod armed {
    use std::process::Command;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;
    use std::time::Duration;

    struct ArmedFailpoint {
        name: String,
        remaining: AtomicU32,
    }

    static ARMED: OnceLock<ArmedFailpoint> = OnceLock::new();

    pub(super) fn arm(setting: &str) {
        if let Some((name, count)) = setting.split_once(':')
            && let Ok(count) = count.parse()
        {
            let _ = ARMED.set(ArmedFailpoint { name: name.to_owned(), remaining: AtomicU32::new(count) });
        }
    }

    pub(super) fn hit(name: &str) {
        let Some(point) = ARMED.get().filter(|point| point.name == name) else { return };
        if point.remaining.fetch_sub(1, Ordering::Relaxed) == 1 {
            // SIGKILL instead of an abort, because nothing can catch it. This thread does not continue.
            let _ = Command::new("kill").args(["-KILL", &std::process::id().to_string()]).status();
            thread::sleep(Duration::from_mins(1));
        }
    }
}

/// Arms one failpoint, given as `NAME:N`: the process is killed when the failpoint is reached for the N-th time.
/// Ignores a setting that it cannot parse.
pub fn arm(setting: &str) {
    #[cfg(debug_assertions)]
    armed::arm(setting);
    #[cfg(not(debug_assertions))]
    let _ = setting;
}

/// Kills the process if the failpoint with this name is armed and due.
#[inline]
pub fn hit(name: &str) {
    #[cfg(debug_assertions)]
    armed::hit(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}
