//! krafka.

use std::time::{Duration, Instant};

use bytes::Bytes;
use krafka::producer::{Acks, Producer};
use krafka::{Kafka, Record};

use crate::{Answer, Job, Result, time_each};

const SILENCE: Duration = Duration::from_secs(10);

pub(crate) async fn run(job: &Job) -> Result<Answer> {
    match job.work.as_str() {
        "produce" => produce(job).await,
        "latency" => latency(job).await,
        "first" => first(job).await,
        "consume" => consume(job).await,
        other => Err(format!("krafka has no {other}").into()),
    }
}

async fn connect(job: &Job) -> Result<Kafka> {
    Ok(Kafka::builder(job.bootstrap.clone()).connect().await?)
}

async fn open(job: &Job, linger_ms: u64) -> Result<Producer> {
    let codec = match job.codec.as_str() {
        "gzip" => krafka::prelude::Compression::Gzip,
        "snappy" => krafka::prelude::Compression::Snappy,
        "lz4" => krafka::prelude::Compression::Lz4,
        "zstd" => krafka::prelude::Compression::Zstd,
        _ => krafka::prelude::Compression::None,
    };
    let acks = if job.acks == 1 { Acks::Leader } else { Acks::All };
    let builder = connect(job).await?.producer().acks(acks).idempotent(job.acks == -1).compression(codec);
    let size = job.settings.get("batch.size").and_then(serde_json::Value::as_u64).unwrap_or(16_384);
    Ok(builder.linger(Duration::from_millis(linger_ms)).batch_size(size as usize).build().await?)
}

async fn produce(job: &Job) -> Result<Answer> {
    let producer = open(job, 5).await?;
    for topic in &job.topics {
        producer.partitions_for(topic).await?;
    }
    let values: Vec<Bytes> = job.values()?.into_iter().map(Bytes::from).collect();
    let keys: Vec<Bytes> = job.keys().into_iter().map(Bytes::from).collect();
    let started = Instant::now();
    for index in 0..job.count {
        let topic = job.topics[index % job.topics.len()].as_str();
        let mut record = Record::new(topic, values[index % values.len()].clone());
        if job.keys {
            record = record.key(keys[index % keys.len()].clone());
        }
        drop(producer.enqueue(record).await?);
    }
    producer.flush().await?;
    Ok(job.produced(started))
}

async fn latency(job: &Job) -> Result<Answer> {
    let producer = open(job, 0).await?;
    let value = Bytes::from(job.values()?.swap_remove(0));
    let send = || async {
        producer.send(Record::new(job.topics[0].as_str(), value.clone())).await?;
        Ok(())
    };
    send().await?;
    let started = Instant::now();
    let latencies = time_each(job.count, send).await?;
    Ok(job.timed(started, latencies))
}

async fn first(job: &Job) -> Result<Answer> {
    let started = Instant::now();
    let value = Bytes::from(job.values()?.swap_remove(0));
    open(job, 0).await?.send(Record::new(job.topics[0].as_str(), value)).await?;
    Ok(job.answer(started, 1, job.size))
}

async fn consume(job: &Job) -> Result<Answer> {
    let consumer = connect(job).await?.consumer_without_group().max_poll_records(10_000).build().await?;
    let partitions: Vec<_> = (0..job.partitions).collect();
    let started = Instant::now();
    let (mut messages, mut bytes) = (0, 0);
    if job.count > 0 {
        for topic in &job.topics {
            consumer.assign(topic, partitions.clone()).await?;
            for &partition in &partitions {
                consumer.seek_to_beginning(topic, partition).await?;
            }
        }
    }
    while messages < job.count {
        let records = consumer.poll(SILENCE).await?;
        if records.is_empty() {
            break;
        }
        for record in records.iter().take(job.count - messages) {
            messages += 1;
            bytes += record.value.as_ref().map_or(0, Bytes::len);
        }
    }
    Ok(job.answer(started, messages, bytes))
}
