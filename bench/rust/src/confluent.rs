//! confluent-kafka: Confluent's client for Rust, for Kafka 4.0 and newer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use confluent_kafka::common::TopicPartition;
use confluent_kafka::common::serialization::{ByteArraySerializer, BytesDeserializer};
use confluent_kafka::consumer::{Consumer, ConsumerConfig, KafkaConsumer};
use confluent_kafka::producer::{KafkaProducer, Producer, ProducerConfig, ProducerRecord};

use crate::{Answer, Job, Result, time_each};

const SILENCE: Duration = Duration::from_secs(10);

pub(crate) async fn run(job: &Job) -> Result<Answer> {
    match job.work.as_str() {
        "produce" => produce(job).await,
        "latency" => latency(job).await,
        "first" => first(job).await,
        "consume" => consume(job).await,
        other => Err(format!("confluent-kafka has no {other}").into()),
    }
}

fn settings(job: &Job) -> HashMap<String, String> {
    job.settings().chain([("bootstrap.servers".to_owned(), job.bootstrap.clone())]).collect()
}

fn open(job: &Job, linger: Option<&str>) -> Result<KafkaProducer<Vec<u8>, Vec<u8>>> {
    let mut settings = settings(job);
    settings.insert("acks".into(), job.acks());
    settings.insert("compression.type".into(), job.codec.clone());
    if let Some(linger) = linger {
        settings.insert("linger.ms".into(), linger.into());
    }
    let config = ProducerConfig::new(&settings)?;
    Ok(KafkaProducer::new(config, ByteArraySerializer::default(), ByteArraySerializer::default())?)
}

async fn produce(job: &Job) -> Result<Answer> {
    let producer = open(job, None)?;
    for topic in &job.topics {
        producer.partitions_for(topic).await?;
    }
    let (values, keys) = (job.values()?, job.keys());
    let started = Instant::now();
    for index in 0..job.count {
        let topic = job.topics[index % job.topics.len()].clone();
        let key = job.keys.then(|| keys[index % keys.len()].as_slice());
        let record = ProducerRecord::with_key(topic, key, Some(values[index % values.len()].as_slice()));
        drop(producer.send(record, None).await?);
    }
    producer.flush().await?;
    Ok(job.produced(started))
}

async fn send_one(job: &Job, producer: &KafkaProducer<Vec<u8>, Vec<u8>>, value: &[u8]) -> Result<()> {
    let record = ProducerRecord::new(job.topics[0].clone(), Some(value));
    producer.send(record, None).await?.get().await?;
    Ok(())
}

async fn latency(job: &Job) -> Result<Answer> {
    let (producer, values) = (open(job, Some("0"))?, job.values()?);
    let send = || send_one(job, &producer, &values[0]);
    send().await?;
    let started = Instant::now();
    let latencies = time_each(job.count, send).await?;
    Ok(job.timed(started, latencies))
}

async fn first(job: &Job) -> Result<Answer> {
    let started = Instant::now();
    send_one(job, &open(job, Some("0"))?, &job.values()?[0]).await?;
    Ok(job.answer(started, 1, job.size))
}

async fn consume(job: &Job) -> Result<Answer> {
    let mut settings = settings(job);
    settings.insert("group.id".into(), "bench".into());
    settings.insert("group.protocol".into(), "consumer".into());
    settings.insert("enable.auto.commit".into(), "false".into());
    let config = ConsumerConfig::new(&settings)?;
    let mut consumer: KafkaConsumer<Bytes, Bytes> =
        KafkaConsumer::new(config, BytesDeserializer::default(), BytesDeserializer::default())?;
    let mut partitions = Vec::new();
    for topic in &job.topics {
        consumer.partitions_for(topic).await?;
        partitions.extend((0..job.partitions).map(|partition| TopicPartition::new(topic.clone(), partition)));
    }
    let started = Instant::now();
    let (mut messages, mut bytes) = (0, 0);
    if job.count > 0 {
        consumer.assign(partitions.clone()).await?;
        consumer.seek_to_beginning(&partitions).await?;
    }
    while messages < job.count {
        let records = consumer.poll(SILENCE).await?;
        if records.is_empty() {
            break;
        }
        for record in (&records).into_iter().take(job.count - messages) {
            messages += 1;
            bytes += record.value().map_or(0, Bytes::len);
        }
    }
    Ok(job.answer(started, messages, bytes))
}
