//! Matches the parts of a produce response with the batches of its request.
//!
//! The partition then decides what its part means.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::partition::BatchResponse;
use super::sender::{ProducerResponse, Sent};
use super::{Producer, ProducerEvent, TopicIndex};
use crate::cluster::{Broker, LeaderHint, Notice, Outdated};
use crate::config::Acks;
use crate::error::{Error, ErrorKind, Result, Written};
use crate::planted::{Bug, is_planted};
use crate::time::Instant;
use crate::wire::messages::ProduceResponse;
use crate::wire::messages::produce::PartitionProduceResponse;
use crate::wire::primitives::Uuid;

impl Producer {
    /// Takes the outcome of a request: a response, or an error if there is none.
    ///
    /// The error's `written()` says whether a byte of the request may have reached the broker. With `acks=0`, an empty
    /// response means that the request was written. An unknown `id` is ignored.
    pub fn handle_response(&mut self, now: Instant, id: u64, result: Result<ProducerResponse>) {
        let result = match result {
            Ok(ProducerResponse::Versions { produce }) => {
                self.handle_versions(now, id, Ok(produce));
                return self.check();
            }
            Err(error) if self.handle_versions(now, id, Err(error.clone())) => return self.check(),
            other => other,
        };
        if let Some(sent) = self.requests.remove(&id) {
            let result = result.and_then(|response| match response {
                ProducerResponse::Produce(response) => Ok(response),
                ProducerResponse::InitProducerId(_) | ProducerResponse::Versions { .. } => {
                    Err(other_request().with_written(Written::Maybe))
                }
            });
            self.handle_produced(now, &sent, result);
        } else if let Some((lane, leader)) = self.lanes.take_asking(id) {
            let result = result.and_then(|response| match response {
                ProducerResponse::InitProducerId(response) => Ok(response),
                ProducerResponse::Produce(_) | ProducerResponse::Versions { .. } => Err(other_request()),
            });
            self.handle_init_producer_id(now, lane, leader, result);
        }
        self.check();
    }

    fn handle_produced(&mut self, now: Instant, sent: &Sent, result: Result<ProduceResponse>) {
        if !self.leaders.handle_answered(sent.to) {
            self.poison("a request was answered that was not in flight");
        }
        let answers = match result {
            Ok(_) if self.config.acks == Acks::None => {
                sent.batches.iter().map(|_| BatchResponse::NotExpected).collect()
            }
            Ok(response) => self.match_answers(sent, response),
            Err(error) if error.kind() == ErrorKind::Unsupported && error.written() == Written::No => {
                self.handle_refused(sent.to.broker_id, sent.format, error.clone());
                sent.batches.iter().map(|_| BatchResponse::NotSent(error.clone())).collect()
            }
            Err(error) => {
                self.older.forget(sent.to.broker_id);
                if matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::TimedOut(_)) {
                    self.outdated.add(Outdated::InUse);
                }
                sent.batches.iter().map(|_| BatchResponse::Missing(error.clone())).collect()
            }
        };
        for (batch, answer) in sent.batches.iter().zip(answers) {
            if let BatchResponse::Partition(answer) = &answer
                && answer.error_code.refreshes_metadata()
            {
                self.outdated.add_topic(self.partitions.get(batch.partition).topic_name());
            }
            if answer.is_about_format() {
                self.handle_old_format(now, batch.partition);
            }
            if self.partitions.get_mut(batch.partition).handle_answer(batch.batch, answer, batch.rules) {
                self.retry_later(now, batch.partition);
            }
        }
        for batch in &sent.batches {
            self.advance(now, batch.partition);
        }
        // Only now: a partition is removed together with its topic.
        let topics: BTreeSet<TopicIndex> = sent.batches.iter().map(|batch| batch.topic).collect();
        for topic in topics {
            self.remove_orphan(now, topic);
        }
    }

    /// The answer to each batch of the request. A missing or repeated answer counts as no answer; one about a partition
    /// that the request does not name is ignored.
    fn match_answers(&mut self, sent: &Sent, response: ProduceResponse) -> Vec<BatchResponse> {
        let mut places = BTreeMap::new();
        let mut topic_ids = BTreeMap::new();
        for (place, batch) in sent.batches.iter().enumerate() {
            places.insert((batch.topic, batch.index), place);
            topic_ids.insert(batch.topic_id.0, batch.topic);
        }
        let mut answers: Vec<(u32, Option<PartitionProduceResponse>)> =
            sent.batches.iter().map(|_| (0, None)).collect();
        let mut hints = Vec::new();
        for topic in response.responses {
            let index = match topic.topic_id {
                Uuid::ZERO => self.lanes.get(sent.to.lane).topic(topic.name.as_str()),
                topic_id => topic_ids.get(&topic_id.0).copied(),
            };
            for partition in topic.partition_responses {
                let place = index.and_then(|index| places.get(&(index, partition.index)));
                let place = place.or(places.values().next().filter(|_| is_planted(Bug::ForeignAnswerCounts)));
                if let Some((index, (times, answer))) = index.zip(place.and_then(|place| answers.get_mut(*place))) {
                    hints.extend(self.leader_hint(index, &partition));
                    *times += 1;
                    *answer = Some(partition);
                }
            }
        }
        if !hints.is_empty() {
            let endpoints = response.node_endpoints.into_iter();
            let endpoints = endpoints.filter_map(|node| Broker::new(node.node_id, &node.host, node.port, node.rack));
            self.events.push_back(ProducerEvent::Notice(Notice::LeaderHints { hints, endpoints: endpoints.collect() }));
        }
        let answers = answers.into_iter().map(|answer| match answer {
            (1, Some(partition)) => BatchResponse::Partition(partition),
            (_, Some(partition)) if is_planted(Bug::LastAnswerCounts) => BatchResponse::Partition(partition),
            (0, None) if is_planted(Bug::NoAnswerIsSuccess) => {
                BatchResponse::Partition(PartitionProduceResponse::default())
            }
            (times, _) => {
                let what = format!("the broker answered {times} times for the partition instead of once");
                BatchResponse::Missing(Error::new(ErrorKind::Malformed, what).with_written(Written::Maybe))
            }
        });
        answers.collect()
    }

    fn leader_hint(&self, topic: TopicIndex, partition: &PartitionProduceResponse) -> Option<LeaderHint> {
        if !partition.error_code.refreshes_metadata() {
            return None;
        }
        let leader = partition.current_leader.leader_id.filter(|id| *id >= 0)?;
        let topic = Arc::clone(&self.topics.get(topic).name);
        let leader_epoch = partition.current_leader.leader_epoch;
        Some(LeaderHint { topic, partition: partition.index, leader, leader_epoch })
    }
}

fn other_request() -> Error {
    Error::new(ErrorKind::Malformed, "the response is of another type than the request")
}
