//! One Rust client doing one piece of work once, like `bench/python/program.py`:
//! `bench-clients '{"library": "kavka", "work": "produce", ...}'`.
//!
//! Each module is a client. Its functions connect and learn the metadata, then start the clock, do the work and return
//! an [`Answer`]. The program prints that as one line of JSON and waits until its standard input ends.

use std::error::Error;
use std::io::{Read, Write};
use std::time::Instant;

use serde::{Deserialize, Serialize};

mod confluent;
mod krafka_client;
mod librdkafka;
mod ours;
mod rskafka_client;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The work to do; `bench/cases.py` describes the fields.
#[derive(Deserialize)]
struct Job {
    library: String,
    work: String,
    how: String,
    bootstrap: String,
    ca: Option<String>,
    topics: Vec<String>,
    partitions: i32,
    count: usize,
    size: usize,
    acks: i16,
    codec: String,
    reports: bool,
    keys: bool,
    threads: usize,
    group: String,
    values_file: String,
    settings: serde_json::Map<String, serde_json::Value>,
}

impl Job {
    /// The different values: pieces of `size` bytes of the file.
    fn values(&self) -> Result<Vec<Vec<u8>>> {
        Ok(std::fs::read(&self.values_file)?.chunks(self.size).map(<[u8]>::to_vec).collect())
    }

    /// A thousand different keys.
    fn keys(&self) -> Vec<Vec<u8>> {
        (0..1000).map(|number| format!("{number:08}").into_bytes()).collect()
    }

    /// The settings by Kafka's names, as texts.
    fn settings(&self) -> impl Iterator<Item = (String, String)> {
        let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.settings.iter().map(move |(name, value)| (name.clone(), text(value)))
    }

    fn acks(&self) -> String {
        if self.acks == -1 { "all".into() } else { self.acks.to_string() }
    }

    /// What was done since the clock was started.
    fn answer(&self, started: Instant, messages: usize, bytes: usize) -> Answer {
        Answer { seconds: started.elapsed().as_secs_f64(), messages, bytes, latencies_ns: Vec::new() }
    }

    /// What a producer of `count` messages has done.
    fn produced(&self, started: Instant) -> Answer {
        self.answer(started, self.count, self.count * self.size)
    }

    /// What single calls have taken; one more came before the clock was started.
    fn timed(&self, started: Instant, latencies_ns: Vec<u64>) -> Answer {
        let messages = self.count + 1;
        Answer { latencies_ns, ..self.answer(started, messages, messages * self.size) }
    }
}

#[derive(Serialize)]
struct Answer {
    seconds: f64,
    messages: usize,
    bytes: usize,
    latencies_ns: Vec<u64>,
}

/// Calls `send` this often, and notes how long each call takes.
async fn time_each<F: Future<Output = Result<()>>>(count: usize, send: impl Fn() -> F) -> Result<Vec<u64>> {
    let mut latencies = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        send().await?;
        latencies.push(started.elapsed().as_nanos() as u64);
    }
    Ok(latencies)
}

/// Runs a client on a runtime of one thread: it has one processor.
fn block_on(work: impl Future<Output = Result<Answer>>) -> Result<Answer> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn run(job: &Job) -> Result<Answer> {
    if job.work == "nothing" {
        return Ok(job.answer(Instant::now(), 0, 0));
    }
    match job.library.as_str() {
        "kavka" => ours::run(job),
        "rdkafka" => librdkafka::run(job),
        "krafka" => block_on(krafka_client::run(job)),
        "rskafka" => block_on(rskafka_client::run(job)),
        "confluent" => block_on(confluent::run(job)),
        other => Err(format!("there is no client {other}").into()),
    }
}

fn main() -> Result<()> {
    let job: Job = serde_json::from_str(&std::env::args().nth(1).unwrap_or_default())?;
    let answer = run(&job)?;
    println!("{}", serde_json::to_string(&answer)?);
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    std::process::exit(0)
}
