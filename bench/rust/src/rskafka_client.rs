//! rskafka: a client of single partitions, whose callers make the batches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use futures_util::future::try_join_all;
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::record::Record;

use crate::{Answer, Job, Result, time_each};

const BATCH: usize = 1000;

pub(crate) async fn run(job: &Job) -> Result<Answer> {
    match job.work.as_str() {
        "produce" => produce(job).await,
        "latency" => latency(job).await,
        "first" => first(job).await,
        "consume" => consume(job).await,
        other => Err(format!("rskafka has no {other}").into()),
    }
}

async fn open(job: &Job) -> Result<Vec<Arc<PartitionClient>>> {
    let client = ClientBuilder::new(vec![job.bootstrap.clone()]).build().await?;
    let mut partitions = Vec::new();
    for topic in &job.topics {
        for partition in 0..job.partitions {
            let client = client.partition_client(topic.clone(), partition, UnknownTopicHandling::Retry).await?;
            partitions.push(Arc::new(client));
        }
    }
    Ok(partitions)
}

fn codec(job: &Job) -> Compression {
    match job.codec.as_str() {
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        _ => Compression::NoCompression,
    }
}

fn record(value: &[u8]) -> Record {
    Record { key: None, value: Some(value.to_vec()), headers: BTreeMap::new(), timestamp: Utc::now() }
}

async fn produce(job: &Job) -> Result<Answer> {
    let (partitions, values) = (open(job).await?, job.values()?);
    let started = Instant::now();
    let batches = job.count / BATCH;
    let of_partition = |number: usize, client: Arc<PartitionClient>| {
        let values = &values;
        let mine = (number..batches).step_by(partitions.len());
        async move {
            for batch in mine {
                let value = |index: usize| record(&values[(batch * BATCH + index) % values.len()]);
                client.produce((0..BATCH).map(value).collect(), codec(job)).await?;
            }
            crate::Result::Ok(())
        }
    };
    try_join_all(partitions.iter().cloned().enumerate().map(|(number, client)| of_partition(number, client))).await?;
    Ok(job.produced(started))
}

async fn latency(job: &Job) -> Result<Answer> {
    let (partitions, values) = (open(job).await?, job.values()?);
    let send = || async {
        partitions[0].produce(vec![record(&values[0])], codec(job)).await?;
        Ok(())
    };
    send().await?;
    let started = Instant::now();
    let latencies = time_each(job.count, send).await?;
    Ok(job.timed(started, latencies))
}

async fn first(job: &Job) -> Result<Answer> {
    let started = Instant::now();
    open(job).await?[0].produce(vec![record(&job.values()?[0])], codec(job)).await?;
    Ok(job.answer(started, 1, job.size))
}

/// Reads the partitions at the same time, each with one request in flight, and stops when together they have enough.
async fn consume(job: &Job) -> Result<Answer> {
    let partitions = open(job).await?;
    let started = Instant::now();
    let total = std::cell::Cell::new((0, 0));
    let read = |client: Arc<PartitionClient>| {
        let total = &total;
        async move {
            let mut offset = 0;
            while total.get().0 < job.count {
                let (records, _) = client.fetch_records(offset, 1..10_000_000, 500).await?;
                let Some(last) = records.last() else { break };
                offset = last.offset + 1;
                let (mut messages, mut bytes) = total.get();
                for found in records.iter().take(job.count - messages) {
                    messages += 1;
                    bytes += found.record.value.as_ref().map_or(0, Vec::len);
                }
                total.set((messages, bytes));
            }
            crate::Result::Ok(())
        }
    };
    try_join_all(partitions.into_iter().map(read)).await?;
    let (messages, bytes) = total.get();
    Ok(job.answer(started, messages, bytes))
}
