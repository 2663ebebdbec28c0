//! kavka, with threads.

use std::time::{Duration, Instant};

use kavka::blocking::{Client, Consumer, Producer};
use kavka::{
    Acks, ClientConfig, CompressionType, ConsumerConfig, GroupConfig, GroupOptions, ProducerConfig, ProducerTopic,
    Record, Security, StartPosition, Tls,
};

use crate::{Answer, Job, Result};

const LIMIT: Duration = Duration::from_secs(60);
const SILENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(job: &Job) -> Result<Answer> {
    match job.work.as_str() {
        "produce" => produce(job),
        "latency" => latency(job),
        "first" => first(job),
        "consume" => consume(job),
        "group" => group(job),
        other => Err(format!("kavka has no {other}").into()),
    }
}

fn connect(job: &Job) -> Result<Client> {
    let mut config = ClientConfig::new(&job.bootstrap)?;
    if let Some(ca) = &job.ca {
        config = config.with_security(Security::tls(Tls::with_ca_pem(std::fs::read_to_string(ca)?)));
    }
    Ok(Client::new(config)?)
}

fn open(job: &Job, client: &Client) -> Result<(Producer, Vec<ProducerTopic>)> {
    let codec = match job.codec.as_str() {
        "gzip" => CompressionType::Gzip,
        "snappy" => CompressionType::Snappy,
        "lz4" => CompressionType::Lz4,
        "zstd" => CompressionType::Zstd,
        _ => CompressionType::None,
    };
    let acks = if job.acks == 1 { Acks::Leader } else { Acks::All };
    let producer = client.producer(ProducerConfig::default().acks(acks).compression(codec.into()))?;
    let topics = job.topics.iter().map(|topic| producer.topic(topic, true)).collect::<kavka::Result<_>>()?;
    Ok((producer, topics))
}

fn produce(job: &Job) -> Result<Answer> {
    let client = connect(job)?;
    let (producer, topics) = open(job, &client)?;
    let started = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (1..job.threads).map(|_| scope.spawn(|| produce_some(job, &producer, &topics))).collect();
        produce_some(job, &producer, &topics)?;
        threads.into_iter().try_for_each(|thread| thread.join().expect("the thread has panicked"))
    })?;
    producer.close(LIMIT)?;
    Ok(job.produced(started))
}

fn produce_some(job: &Job, producer: &Producer, topics: &[ProducerTopic]) -> Result<()> {
    let (values, keys) = (job.values()?, job.keys());
    let mut deliveries = Vec::new();
    for index in 0..job.count / job.threads {
        let key = job.keys.then(|| keys[index % keys.len()].as_slice());
        let record = Record { key, value: Some(&values[index % values.len()]), ..Record::default() };
        let delivery = producer.send(topics[index % topics.len()], &record)?;
        if job.reports {
            deliveries.push(delivery);
            if deliveries.len() == 10_000 {
                deliveries.drain(..).try_for_each(|delivery| delivery.wait().map(drop))?;
            }
        }
    }
    Ok(deliveries.into_iter().try_for_each(|delivery| delivery.wait().map(drop))?)
}

fn latency(job: &Job) -> Result<Answer> {
    let client = connect(job)?;
    let (producer, topics) = open(job, &client)?;
    let values = job.values()?;
    let send = || producer.send(topics[0], &Record { value: Some(&values[0]), ..Record::default() })?.wait();
    let run = || {
        let timed = || {
            let started = Instant::now();
            send().map(|_| started.elapsed().as_nanos() as u64)
        };
        (0..job.count / job.threads).map(|_| timed()).collect::<kavka::Result<Vec<_>>>()
    };
    send()?;
    let started = Instant::now();
    let latencies = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..job.threads).map(|_| scope.spawn(run)).collect();
        let mut latencies = run()?;
        for thread in threads {
            latencies.extend(thread.join().expect("the thread has panicked")?);
        }
        kavka::Result::Ok(latencies)
    })?;
    Ok(job.timed(started, latencies))
}

fn first(job: &Job) -> Result<Answer> {
    let started = Instant::now();
    let client = connect(job)?;
    let (producer, topics) = open(job, &client)?;
    producer.send(topics[0], &Record { value: Some(&job.values()?[0]), ..Record::default() })?.wait()?;
    Ok(job.answer(started, 1, job.size))
}

fn consume(job: &Job) -> Result<Answer> {
    let client = connect(job)?;
    let consumer = client.consumer(ConsumerConfig::default())?;
    let mut partitions = Vec::new();
    for topic in &job.topics {
        partitions.extend(client.partitions(topic)?);
    }
    let started = Instant::now();
    if job.count > 0 {
        for partition in &partitions {
            consumer.add(partition, StartPosition::Earliest)?;
        }
    }
    let (messages, bytes) = if job.how == "batch" { batches(&consumer, job)? } else { each(&consumer, job)? };
    Ok(job.answer(started, messages, bytes))
}

fn batches(consumer: &Consumer, job: &Job) -> Result<(usize, usize)> {
    let (mut messages, mut bytes) = (0, 0);
    while messages < job.count {
        let Some(mut batch) = consumer.next_batch(SILENCE)? else { break };
        while messages < job.count
            && let Some(record) = batch.next_record()
        {
            messages += 1;
            bytes += record.value.map_or(0, |value| value.range().len());
        }
    }
    Ok((messages, bytes))
}

fn each(consumer: &Consumer, job: &Job) -> Result<(usize, usize)> {
    let (mut messages, mut bytes) = (0, 0);
    for record in consumer.records(SILENCE).take(job.count) {
        messages += 1;
        bytes += record?.value.map_or(0, |value| value.len());
    }
    Ok((messages, bytes))
}

fn group(job: &Job) -> Result<Answer> {
    let client = connect(job)?;
    let started = Instant::now();
    let config = ConsumerConfig::default().group_id(Some(job.group.clone()));
    let config = config.auto_offset_reset(kavka::AutoOffsetReset::Earliest);
    let member = client.group_consumer(config, GroupConfig::default(), GroupOptions::default())?;
    member.subscribe(&job.topics)?;
    let record = member.next_record(LIMIT)?.ok_or("no message came")?;
    Ok(job.answer(started, 1, record.value.map_or(0, |value| value.len())))
}
