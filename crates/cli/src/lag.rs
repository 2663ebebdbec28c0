//! `kavka groups lag`: prints the lag of a group, once or repeatedly.
//!
//! On a terminal, each view is drawn over the previous one. It fits the screen, and shows the partitions with the
//! largest lag. Elsewhere, views are separated by an empty line.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use console::Term;
use kavka::PartitionLag;

use crate::failure::Failure;
use crate::output::{Output, is_closed};
use crate::session::{STEP, Session};
use crate::table::{number, table};

/// The lines that are not partitions: the head, the total, the number of partitions left out, and the cursor's line.
const OTHER_LINES: usize = 4;

/// Prints the lag once, or every `interval` seconds until Ctrl-C, which is then the normal end.
pub(crate) fn run(session: &Session, group: &str, interval: Option<u64>) -> Result<(), Failure> {
    let admin = session.client.admin();
    let Some(interval) = interval.map(Duration::from_secs) else {
        return Output::print(&view(&session.wait(admin.group_lag(group))?, usize::MAX));
    };
    let mut screen = Screen::new();
    loop {
        let begun = Instant::now();
        let outcome = session.wait(admin.group_lag(group));
        if session.interrupt.signal().is_some() {
            return Ok(());
        }
        match screen.show(&outcome?) {
            Err(error) if is_closed(&error) => return Ok(()),
            shown => shown.map_err(|error| Output::failure(&error))?,
        }
        while begun.elapsed() < interval {
            if session.interrupt.signal().is_some() {
                return Ok(());
            }
            thread::sleep(STEP);
        }
    }
}

/// Where the views are drawn.
struct Screen {
    terminal: Term,
    /// The number of lines of the last view; `None` before the first.
    drawn: Option<usize>,
}

impl Screen {
    fn new() -> Self {
        Self { terminal: Term::buffered_stdout(), drawn: None }
    }

    fn show(&mut self, lag: &[PartitionLag]) -> io::Result<()> {
        let is_terminal = self.terminal.is_term();
        let room = if is_terminal { usize::from(self.terminal.size().0) } else { usize::MAX };
        let text = view(lag, room.saturating_sub(OTHER_LINES).max(1));
        match self.drawn {
            Some(lines) if is_terminal => self.terminal.clear_last_lines(lines)?,
            Some(_) => self.terminal.write_line("")?,
            None => {}
        }
        self.terminal.write_str(&text)?;
        self.drawn = Some(text.lines().count());
        self.terminal.flush()
    }
}

/// A view of at most `room` partitions, and the total of all.
fn view(lag: &[PartitionLag], room: usize) -> String {
    let mut shown: Vec<&PartitionLag> = lag.iter().collect();
    if shown.len() > room {
        shown.sort_by_key(|partition| Reverse(partition.lag()));
        shown.truncate(room);
    }
    let rows = shown.iter().map(|partition| {
        let committed = partition.committed.as_ref().map(|committed| committed.offset);
        let member = partition.member.as_ref();
        let (client, host) = member.map_or(("-", "-"), |member| (&member.client_id, &member.client_host));
        [
            partition.topic_partition.topic.to_string(),
            partition.topic_partition.partition.to_string(),
            number(committed),
            number(partition.end),
            number(partition.lag()),
            client.to_owned(),
            host.to_owned(),
        ]
    });
    let mut text = table(["topic", "partition", "committed", "end", "lag", "client", "host"], rows);
    if shown.len() < lag.len() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "and {} partitions with a smaller lag", lag.len() - shown.len());
    }
    let total: i64 = lag.iter().filter_map(PartitionLag::lag).sum();
    let _ = writeln!(text, "total lag: {total}");
    text
}

#[cfg(test)]
mod tests {
    use kavka::{CommittedOffset, TopicPartition};

    use super::*;

    #[test]
    fn a_small_screen_shows_the_partitions_that_are_furthest_behind() {
        let lag = |partition, committed: Option<i64>| PartitionLag {
            topic_partition: TopicPartition::new("t", partition),
            committed: committed.map(CommittedOffset::new),
            end: Some(10),
            member: None,
        };
        let text = view(&[lag(0, Some(10)), lag(1, Some(2)), lag(2, None)], 1);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["t", "1", "2", "10", "8", "-", "-"]);
        assert_eq!(lines[2..], ["and 2 partitions with a smaller lag", "total lag: 8"]);
    }
}
