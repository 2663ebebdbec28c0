//! rdkafka: librdkafka for Rust.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{
    BaseRecord, DeliveryResult, FutureProducer, FutureRecord, Producer, ProducerContext, ThreadedProducer,
};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::{Answer, Job, Result, block_on, time_each};

const LIMIT: Duration = Duration::from_secs(60);
const SILENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(job: &Job) -> Result<Answer> {
    match job.work.as_str() {
        "produce" => produce(job),
        "latency" => block_on(latency(job)),
        "first" => block_on(first(job)),
        "consume" => consume(job),
        "group" => group(job),
        other => Err(format!("rdkafka has no {other}").into()),
    }
}

fn config(job: &Job) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &job.bootstrap);
    config.extend(job.settings());
    config
}

fn producer_config(job: &Job) -> ClientConfig {
    let mut config = config(job);
    config.set("acks", job.acks()).set("compression.type", &job.codec);
    config.set("enable.idempotence", if job.acks == -1 { "true" } else { "false" });
    config
}

/// Counts reports; ends the program with a message that was not delivered.
#[derive(Default)]
struct Counting(AtomicUsize);

impl ClientContext for Counting {}

impl ProducerContext for Counting {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            panic!("a message was not delivered: {error}");
        }
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn produce(job: &Job) -> Result<Answer> {
    let producer: ThreadedProducer<Counting> = producer_config(job).create_with_context(Counting::default())?;
    for topic in &job.topics {
        producer.client().fetch_metadata(Some(topic), LIMIT)?;
    }
    let started = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (1..job.threads).map(|_| scope.spawn(|| produce_some(job, &producer))).collect();
        produce_some(job, &producer)?;
        threads.into_iter().try_for_each(|thread| thread.join().expect("the thread has panicked"))
    })?;
    producer.flush(LIMIT)?;
    // The polling thread of the producer gets the last reports after the flush.
    while producer.context().0.load(Ordering::Relaxed) < job.count {
        std::thread::yield_now();
    }
    Ok(job.produced(started))
}

fn produce_some(job: &Job, producer: &ThreadedProducer<Counting>) -> Result<()> {
    let (values, keys) = (job.values()?, job.keys());
    for index in 0..job.count / job.threads {
        let mut record: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(&job.topics[index % job.topics.len()]).payload(&values[index % values.len()]);
        if job.keys {
            record = record.key(&keys[index % keys.len()]);
        }
        while let Err((error, unsent)) = producer.send(record) {
            if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                return Err(error.into());
            }
            std::thread::sleep(Duration::from_millis(1));
            record = unsent;
        }
    }
    Ok(())
}

async fn latency(job: &Job) -> Result<Answer> {
    let producer: FutureProducer = producer_config(job).set("linger.ms", "0").create()?;
    let producer = Arc::new(producer);
    let value = job.values()?.swap_remove(0);
    let send = || async {
        let record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&job.topics[0]).payload(&value);
        producer.send(record, LIMIT).await.map_err(|(error, _)| error)?;
        Ok(())
    };
    send().await?;
    let started = Instant::now();
    let tasks = (0..job.threads).map(|_| time_each(job.count / job.threads, send));
    let latencies = futures_util::future::try_join_all(tasks).await?.concat();
    Ok(job.timed(started, latencies))
}

async fn first(job: &Job) -> Result<Answer> {
    let started = Instant::now();
    let producer: FutureProducer = producer_config(job).set("linger.ms", "0").create()?;
    let values = job.values()?;
    let record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&job.topics[0]).payload(&values[0]);
    producer.send(record, LIMIT).await.map_err(|(error, _)| error)?;
    Ok(job.answer(started, 1, job.size))
}

fn consume(job: &Job) -> Result<Answer> {
    let consumer: BaseConsumer = config(job).set("group.id", "bench").set("enable.auto.commit", "false").create()?;
    let mut list = TopicPartitionList::new();
    for topic in &job.topics {
        consumer.fetch_metadata(Some(topic), LIMIT)?;
        for partition in 0..job.partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
    }
    let started = Instant::now();
    let (mut messages, mut bytes) = (0, 0);
    if job.count > 0 {
        consumer.assign(&list)?;
    }
    while messages < job.count {
        let Some(message) = consumer.poll(SILENCE) else { break };
        messages += 1;
        bytes += message?.payload_len();
    }
    Ok(job.answer(started, messages, bytes))
}

fn group(job: &Job) -> Result<Answer> {
    let consumer: BaseConsumer =
        config(job).set("group.id", &job.group).set("auto.offset.reset", "earliest").create()?;
    consumer.fetch_metadata(Some(&job.topics[0]), LIMIT)?;
    let started = Instant::now();
    consumer.subscribe(&job.topics.iter().map(String::as_str).collect::<Vec<_>>())?;
    // A rebalance ends a call without a message.
    while started.elapsed() < LIMIT {
        if let Some(message) = consumer.poll(LIMIT) {
            return Ok(job.answer(started, 1, message?.payload_len()));
        }
    }
    Err("no message came".into())
}
