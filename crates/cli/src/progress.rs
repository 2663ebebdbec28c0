//! A progress bar on the terminal.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

/// Work that takes less time shows no bar.
const SHOWN_AFTER: Duration = Duration::from_secs(1);

/// The shortest time between two redraws.
const REDRAWN_AFTER: Duration = Duration::from_millis(100);

/// For shorter work no rate is shown, in milliseconds.
const MEASURED_MS: u64 = 100;

/// Counts records and bytes, and shows a bar on a terminal.
pub(crate) struct Progress {
    started: Instant,
    drawn: Instant,
    is_watched: bool,
    total_bytes: Option<u64>,
    bar: Option<ProgressBar>,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

impl Progress {
    /// `is_wanted`: nothing else is printed to the terminal. `total_bytes`: the size of the input, if known.
    pub(crate) fn new(is_wanted: bool, total_bytes: Option<u64>) -> Self {
        let started = Instant::now();
        let is_watched = is_wanted && io::stderr().is_terminal();
        Self { started, drawn: started, is_watched, total_bytes, bar: None, records: 0, bytes: 0 }
    }

    /// Redraws the bar if it is time to.
    pub(crate) fn show(&mut self) {
        let now = Instant::now();
        if !self.is_watched || now - self.started < SHOWN_AFTER || now - self.drawn < REDRAWN_AFTER {
            return;
        }
        self.drawn = now;
        let elapsed = now - self.started;
        let message = summary(self.records, self.bytes, elapsed);
        if let Some(bar) = &self.bar {
            bar.set_message(message);
            bar.set_position(self.bytes);
        } else {
            // The bar appears late: count what was done before it.
            let bar = bar(self.total_bytes).with_elapsed(elapsed).with_position(self.bytes).with_message(message);
            bar.tick();
            self.bar = Some(bar);
        }
    }

    /// Removes the bar; returns the amount of work, its time and its rate.
    pub(crate) fn finish(&mut self) -> String {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.is_watched = false;
        summary(self.records, self.bytes, self.started.elapsed())
    }
}

fn bar(total_bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match total_bytes {
        Some(total) => (ProgressBar::new(total), "{wide_bar} {percent}% {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
    };
    // The templates are valid; if one were not, the default would be better than a panic.
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn summary(records: u64, bytes: u64, elapsed: Duration) -> String {
    let noun = if records == 1 { "record" } else { "records" };
    let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let rate = if milliseconds < MEASURED_MS {
        String::new()
    } else {
        format!(", {}/s", HumanCount(records.saturating_mul(1000) / milliseconds))
    };
    let (records, bytes, seconds) = (HumanCount(records), HumanBytes(bytes), elapsed.as_secs_f64());
    format!("{records} {noun}, {bytes} in {seconds:.1} s{rate}")
}
