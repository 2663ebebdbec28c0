//! Offsets without a consumer: the beginnings and ends of partitions, and the committed offsets of groups.
//!
//! These are plain requests, retried up to a time limit. They use a group's id without being a member of the group, as
//! simple consumers do; a coordinator refuses such commits while the group has members (brokers keep the offsets of a
//! group that never had members for `offsets.retention.minutes` after the last commit, KIP-211).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use kavka_core::cluster::{Call, CoordinatorKind, Metadata, Notice, Outdated, Target};
use kavka_core::config::IsolationLevel;
use kavka_core::consumer::{CommittedOffset, TopicPartition, commit_request, newest_version, not_committed};
use kavka_core::error::{Error, ErrorKind, Place, Result};
use kavka_core::wire::messages::list_offsets::{
    EARLIEST_TIMESTAMP, ISOLATION_SINCE, LATEST_TIMESTAMP, ListOffsetsPartition, ListOffsetsPartitionResponse,
    ListOffsetsResponse, ListOffsetsTopic,
};
use kavka_core::wire::messages::offset_fetch::{
    ALL_PARTITIONS_SINCE, FETCH_BY_ID, FETCH_ONE_GROUP, NOTHING_IS_UNKNOWN_UNTIL, OffsetFetchRequestGroup,
    OffsetFetchRequestTopic, OffsetFetchRequestTopics, OffsetFetchResponse, OffsetFetchResponsePartition,
    REQUIRE_STABLE_SINCE,
};
use kavka_core::wire::messages::{ListOffsetsRequest, OffsetFetchRequest};
use kavka_core::wire::{ApiKey, ErrorCode, Uuid};

use crate::Client;
use crate::call::{Attempt, Retry};
use crate::driver::Driver;

/// An offset that a leader returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset.
    pub offset: i64,
    /// The record's timestamp in milliseconds since 1970, if the look-up was by time (Kafka 0.10.1 and newer).
    pub timestamp_ms: Option<i64>,
    /// The leader epoch of the record (Kafka 2.1 and newer).
    pub leader_epoch: Option<i32>,
}

fn refusal(code: ErrorCode, key: &TopicPartition) -> Option<Error> {
    Error::from_code(code).map(|error| error.at_partition(&key.topic, key.partition))
}

pub(crate) fn names(keys: &[TopicPartition]) -> BTreeMap<String, Vec<i32>> {
    by_topic(keys.iter().map(|key| (key.topic.to_string(), key.partition)))
}

/// Groups entries by their topic.
pub(crate) fn by_topic<T>(entries: impl Iterator<Item = (String, T)>) -> BTreeMap<String, Vec<T>> {
    let mut topics: BTreeMap<String, Vec<T>> = BTreeMap::new();
    for (topic, entry) in entries {
        topics.entry(topic).or_default().push(entry);
    }
    topics
}

// Beginnings and ends of partitions.

impl Client {
    /// The oldest offset of each partition. `limit` covers all attempts together.
    ///
    /// # Errors
    ///
    /// That of the first partition without a result, or at the limit the last error.
    pub fn beginning_offsets(
        &self,
        keys: &[TopicPartition],
        limit: Duration,
    ) -> impl Future<Output = Result<BTreeMap<TopicPartition, i64>>> + Send + 'static + use<> {
        self.special_offsets(keys, EARLIEST_TIMESTAMP, IsolationLevel::ReadUncommitted, limit)
    }

    /// The end offset of each partition: behind the last record or, with `read_committed`, the last stable offset.
    /// `limit` covers all attempts together.
    ///
    /// # Errors
    ///
    /// That of the first partition without a result, or at the limit the last error.
    pub fn end_offsets(
        &self,
        keys: &[TopicPartition],
        isolation_level: IsolationLevel,
        limit: Duration,
    ) -> impl Future<Output = Result<BTreeMap<TopicPartition, i64>>> + Send + 'static + use<> {
        self.special_offsets(keys, LATEST_TIMESTAMP, isolation_level, limit)
    }

    fn special_offsets(
        &self,
        keys: &[TopicPartition],
        timestamp: i64,
        isolation_level: IsolationLevel,
        limit: Duration,
    ) -> impl Future<Output = Result<BTreeMap<TopicPartition, i64>>> + Send + 'static + use<> {
        let client = self.clone();
        let wanted: BTreeMap<TopicPartition, i64> = keys.iter().map(|key| (key.clone(), timestamp)).collect();
        async move {
            let found = client.list_offsets(wanted, isolation_level, limit).await?;
            Ok(found.into_iter().filter_map(|(key, found)| Some((key, found?.offset))).collect())
        }
    }

    /// For each partition the offset of the first record whose timestamp is not older than the given one, in
    /// milliseconds since 1970; `None` if there is no such record. `limit` covers all attempts together.
    ///
    /// Brokers before Kafka 0.10.1 answer with the beginning of a log segment.
    ///
    /// # Errors
    ///
    /// `Misuse` if the time is negative; otherwise that of the first partition without a result, or at the limit the
    /// last error.
    pub fn offsets_for_times(
        &self,
        times: &[(TopicPartition, i64)],
        limit: Duration,
    ) -> impl Future<Output = Result<BTreeMap<TopicPartition, Option<FoundOffset>>>> + Send + 'static + use<> {
        let client = self.clone();
        let times: BTreeMap<TopicPartition, i64> = times.iter().cloned().collect();
        async move {
            if let Some((key, _)) = times.iter().find(|(_, time)| **time < 0) {
                let error = Error::new(ErrorKind::Misuse, "the time to look up must not be before 1970");
                return Err(error.at_partition(&key.topic, key.partition));
            }
            client.list_offsets(times, IsolationLevel::ReadUncommitted, limit).await
        }
    }

    async fn list_offsets(
        &self,
        wanted: BTreeMap<TopicPartition, i64>,
        isolation_level: IsolationLevel,
        limit: Duration,
    ) -> Result<BTreeMap<TopicPartition, Option<FoundOffset>>> {
        let mut retry = Retry::new(&self.driver, limit);
        let mut in_use = Vec::new();
        for topic in wanted.keys().map(|key| Arc::clone(&key.topic)).collect::<BTreeSet<_>>() {
            retry.attempt(self.topic(&topic, false)).await?;
            in_use.push(self.driver.hold_topic(&topic));
        }
        let search = Mutex::new(Search { left: wanted, found: BTreeMap::new() });
        let attempt = |attempt: Attempt| self.list_offsets_once(&search, isolation_level, attempt.limit);
        retry.until_done(attempt, |_| self.driver.refresh_metadata()).await?;
        Ok(search.into_inner().unwrap_or_else(PoisonError::into_inner).found)
    }

    /// Asks every leader once, all at the same time.
    async fn list_offsets_once(
        &self,
        search: &Mutex<Search>,
        isolation_level: IsolationLevel,
        limit: Duration,
    ) -> Result<()> {
        let search = || search.lock().unwrap_or_else(PoisonError::into_inner);
        let mut problem = Ok(());
        let leaders = self.by_leader(&search().left, &mut problem).into_iter();
        let asked = leaders.map(|(broker_id, topics)| self.ask_leader(broker_id, topics, isolation_level, limit));
        for answer in join_all(asked).await {
            match answer {
                Ok(response) => search().take_answer(response, &mut problem),
                Err(error) => note(&mut problem, error),
            }
        }
        problem?;
        search().left.keys().next().map_or(Ok(()), |key| Err(unanswered(Some(key))))
    }

    fn by_leader(
        &self,
        left: &BTreeMap<TopicPartition, i64>,
        problem: &mut Result<()>,
    ) -> BTreeMap<i32, BTreeMap<String, Vec<ListOffsetsPartition>>> {
        let metadata = self.driver.metadata();
        let mut leaders: BTreeMap<i32, BTreeMap<String, Vec<ListOffsetsPartition>>> = BTreeMap::new();
        for (key, timestamp) in left {
            let Some((leader, leader_epoch)) = metadata.leader(&key.topic, key.partition) else {
                let count = metadata.topic(&key.topic).map_or(0, |topic| topic.partitions.len());
                let exists = usize::try_from(key.partition).is_ok_and(|index| index < count);
                let code = if exists { ErrorCode::LEADER_NOT_AVAILABLE } else { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION };
                if let Some(error) = refusal(code, key) {
                    note(problem, error);
                }
                continue;
            };
            let asked = ListOffsetsPartition {
                partition_index: key.partition,
                current_leader_epoch: leader_epoch,
                timestamp: *timestamp,
                max_num_offsets: 1,
            };
            leaders.entry(leader).or_default().entry(key.topic.to_string()).or_default().push(asked);
        }
        leaders
    }

    async fn ask_leader(
        &self,
        broker_id: i32,
        topics: BTreeMap<String, Vec<ListOffsetsPartition>>,
        isolation_level: IsolationLevel,
        limit: Duration,
    ) -> Result<ListOffsetsResponse> {
        let (version, left) = self.driver.api_version_within(limit, broker_id, ApiKey::ListOffsets).await?;
        let committed_only = isolation_level == IsolationLevel::ReadCommitted && version >= ISOLATION_SINCE;
        let request = ListOffsetsRequest {
            isolation_level: i8::from(committed_only),
            topics: topics.into_iter().map(|(name, partitions)| ListOffsetsTopic { name, partitions }).collect(),
            ..ListOffsetsRequest::default()
        };
        self.driver.send(Call { timeout: Some(left), ..Call::new(Target::Broker(broker_id), request) }).await
    }
}

/// Keeps the worse of two errors: one that a retry cannot cure must not be hidden by one that it can.
fn note(problem: &mut Result<()>, error: Error) {
    if problem.as_ref().err().is_none_or(Error::is_retriable) {
        *problem = Err(error);
    }
}

fn unanswered(left: Option<&TopicPartition>) -> Error {
    let error = Error::new(ErrorKind::Disconnected, "the broker's response leaves out a partition");
    match left {
        Some(key) => error.at_partition(&key.topic, key.partition),
        None => error,
    }
}

/// What the attempts of one call have found.
struct Search {
    /// The partitions without an answer, and the timestamps to look up.
    left: BTreeMap<TopicPartition, i64>,
    found: BTreeMap<TopicPartition, Option<FoundOffset>>,
}

impl Search {
    fn take_answer(&mut self, response: ListOffsetsResponse, problem: &mut Result<()>) {
        for topic in response.topics {
            for answer in topic.partitions {
                let key = TopicPartition::new(topic.name.as_str(), answer.partition_index);
                if let Some(error) = refusal(answer.error_code, &key) {
                    note(problem, error);
                } else if self.left.remove(&key).is_some() {
                    self.found.insert(key, found_offset(&answer));
                }
            }
        }
    }
}

fn found_offset(answer: &ListOffsetsPartitionResponse) -> Option<FoundOffset> {
    let offset = answer.found()?;
    let timestamp_ms = answer.timestamp.filter(|timestamp| *timestamp >= 0);
    Some(FoundOffset { offset, timestamp_ms, leader_epoch: answer.leader_epoch.filter(|epoch| *epoch >= 0) })
}

// Committed offsets of groups.

impl Client {
    /// Commits offsets for a group without members. `limit` covers all attempts together.
    ///
    /// # Errors
    ///
    /// `Misuse` if an offset is negative; `Broker` with the coordinator's code for the first partition that it refuses,
    /// in which case other partitions may have been committed.
    pub fn commit_offsets(
        &self,
        group_id: &str,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
        limit: Duration,
    ) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let (client, group, offsets) = (self.clone(), Arc::<str>::from(group_id), offsets.clone());
        async move {
            let request = commit_request(&group, &offsets)?;
            let target = Target::Coordinator(Arc::clone(&group), CoordinatorKind::Group);
            let call = Call { max_version: newest_version(&request), ..Call::new(target, request) };
            let taken = |response| not_committed(&response, &group, &offsets).map_or(Ok(()), |(_, error)| Err(error));
            client.driver.call(call, limit, taken).await.map_err(|error| of_group(error, &group))
        }
    }

    /// The committed offsets of a group for these partitions; partitions without one are left out. `limit` covers all
    /// attempts together.
    ///
    /// # Errors
    ///
    /// `Broker` with the coordinator's code for the group, or for the first partition that it refuses.
    pub fn committed_offsets(
        &self,
        group_id: &str,
        keys: &[TopicPartition],
        limit: Duration,
    ) -> impl Future<Output = Result<BTreeMap<TopicPartition, CommittedOffset>>> + Send + 'static + use<> {
        let (client, group, keys) = (self.clone(), Arc::from(group_id), keys.to_vec());
        async move { client.committed(&group, Some(&keys), limit).await }
    }

    /// The committed offsets of a group for `keys`, or for all partitions that have one.
    pub(crate) async fn committed(
        &self,
        group: &Arc<str>,
        keys: Option<&[TopicPartition]>,
        limit: Duration,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>> {
        let ask = |attempt: Attempt| committed_once(&self.driver, group, keys, attempt.limit);
        let forget = |error: &Error| self.driver.handle_coordinator_error(group, CoordinatorKind::Group, error);
        Retry::new(&self.driver, limit).until_done(ask, forget).await.map_err(|error| of_group(error, group))
    }

    /// The id of the broker that coordinates a group. `limit` covers all attempts together.
    ///
    /// # Errors
    ///
    /// `Broker` with the code of the last response, or the reason why there was none.
    pub fn group_coordinator(
        &self,
        group_id: &str,
        limit: Duration,
    ) -> impl Future<Output = Result<i32>> + Send + 'static + use<> {
        let (client, group) = (self.clone(), Arc::from(group_id));
        async move {
            let find = |_| client.driver.find_coordinator(&group, CoordinatorKind::Group);
            Retry::new(&client.driver, limit).until_done(find, |_| {}).await.map_err(|error| of_group(error, &group))
        }
    }
}

/// The committed offsets of a group for these partitions, or for all that have one; one attempt.
pub(crate) async fn committed_once(
    driver: &Driver,
    group: &Arc<str>,
    keys: Option<&[TopicPartition]>,
    limit: Duration,
) -> Result<BTreeMap<TopicPartition, CommittedOffset>> {
    let coordinator = driver.find_coordinator(group, CoordinatorKind::Group).await?;
    let (version, left) = driver.api_version_within(limit, coordinator, ApiKey::OffsetFetch).await?;
    if keys.is_none() && version < ALL_PARTITIONS_SINCE {
        let what = "asking for all committed offsets of a group needs a broker of Kafka 0.10.2 or newer, and this one is older";
        return Err(Error::new(ErrorKind::Unsupported, what).with_hint("ask for the offsets of certain partitions"));
    }
    let topic = |(name, partition_indexes)| OffsetFetchRequestTopic { name, partition_indexes };
    let request = OffsetFetchRequest {
        group_id: group.to_string(),
        topics: keys.map(|keys| names(keys).into_iter().map(topic).collect()),
        // Waits for transactions that are committing these offsets; without it, their records would be read twice.
        require_stable: version >= REQUIRE_STABLE_SINCE,
        ..OffsetFetchRequest::default()
    };
    let target = Target::Broker(coordinator);
    let call = Call { max_version: FETCH_ONE_GROUP, timeout: Some(left), ..Call::new(target, request) };
    take_committed(driver.send(call).await?, version, keys.unwrap_or_default())
}

/// The committed offsets of a group for these partitions of topics in use; one attempt. If the coordinator can read
/// topic ids, these are offsets of the topics that the metadata names, and not of earlier ones with the same names.
pub(crate) async fn committed_to_topics_in_use(
    driver: &Driver,
    group: &Arc<str>,
    keys: &[TopicPartition],
    limit: Duration,
) -> Result<BTreeMap<TopicPartition, CommittedOffset>> {
    let coordinator = driver.find_coordinator(group, CoordinatorKind::Group).await?;
    let (version, left) = driver.api_version_within(limit, coordinator, ApiKey::OffsetFetch).await?;
    let deadline = driver.now() + left;
    let metadata = driver.metadata();
    // A topic that was deleted is asked for by name: the coordinator would refuse its id, and nobody would start.
    let is_gone = |key: &TopicPartition| metadata.topic(&key.topic).is_some_and(|topic| topic.error.is_unknown_topic());
    let (gone, keys): (Vec<_>, Vec<_>) = keys.iter().cloned().partition(is_gone);
    let mut committed = committed_by_name(driver, group, &gone, left).await?;
    let left = deadline.since(driver.now());
    let Some(ids) = known_ids(&metadata, &keys).filter(|_| version >= FETCH_BY_ID) else {
        committed.extend(committed_by_name(driver, group, &keys, left).await?);
        return Ok(committed);
    };
    let topic = |(topic_id, (_, partition_indexes)): (&Uuid, &(Arc<str>, Vec<i32>))| OffsetFetchRequestTopics {
        topic_id: *topic_id,
        partition_indexes: partition_indexes.clone(),
        ..OffsetFetchRequestTopics::default()
    };
    let topics = Some(ids.iter().map(topic).collect());
    let asked = OffsetFetchRequestGroup { group_id: group.to_string(), topics, ..OffsetFetchRequestGroup::default() };
    let request = OffsetFetchRequest { groups: vec![asked], require_stable: true, ..OffsetFetchRequest::default() };
    let call =
        Call { min_version: FETCH_BY_ID, timeout: Some(left), ..Call::new(Target::Broker(coordinator), request) };
    let by_id = take_committed_by_id(driver.send(call).await?, &ids, &keys);
    if by_id.as_ref().is_err_and(|error| error.code() == Some(ErrorCode::UNKNOWN_TOPIC_ID)) {
        let topics = ids.into_values().map(|(name, _)| name).collect();
        driver.take_notice(Notice::RefreshMetadata(Outdated::Topics(topics)));
    }
    committed.extend(by_id?);
    Ok(committed)
}

/// As [`committed_once`], but asks for nothing if there are no partitions.
async fn committed_by_name(
    driver: &Driver,
    group: &Arc<str>,
    keys: &[TopicPartition],
    limit: Duration,
) -> Result<BTreeMap<TopicPartition, CommittedOffset>> {
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    committed_once(driver, group, Some(keys), limit).await
}

/// Partitions by the id of their topic, with its name.
type ById = BTreeMap<Uuid, (Arc<str>, Vec<i32>)>;

/// These partitions by topic id; `None` if the id of one is unknown.
fn known_ids(metadata: &Metadata, keys: &[TopicPartition]) -> Option<ById> {
    let mut ids = ById::new();
    for key in keys {
        let topic = metadata.topic(&key.topic).filter(|topic| !topic.topic_id.is_zero())?;
        let (_, partitions) = ids.entry(topic.topic_id).or_insert_with(|| (Arc::clone(&key.topic), Vec::new()));
        partitions.push(key.partition);
    }
    Some(ids)
}

pub(crate) fn of_group(error: Error, group_id: &str) -> Error {
    error.at(Place { group: Some(group_id.into()), ..Place::default() })
}

/// The committed offsets for `keys`. A partition that the response leaves out is an error, not one without a commit.
fn take_committed(
    response: OffsetFetchResponse,
    version: i16,
    keys: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, CommittedOffset>> {
    if let Some(error) = Error::from_code(response.error_code) {
        return Err(error);
    }
    let mut answered = BTreeSet::new();
    let mut committed = BTreeMap::new();
    for topic in response.topics {
        for partition in topic.partitions {
            let key = TopicPartition::new(topic.name.as_str(), partition.partition_index);
            if let Some(offset) = committed_offset(partition, version, &key)? {
                committed.insert(key.clone(), offset);
            }
            answered.insert(key);
        }
    }
    require_answers(&answered, keys.iter())?;
    Ok(committed)
}

/// The committed offsets for `keys`, which were asked for by these topic ids.
fn take_committed_by_id(
    response: OffsetFetchResponse,
    ids: &ById,
    keys: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, CommittedOffset>> {
    let mut answered = BTreeSet::new();
    let mut committed = BTreeMap::new();
    for group in response.groups {
        if let Some(error) = Error::from_code(group.error_code) {
            return Err(error);
        }
        let named = group.topics.into_iter().filter_map(|topic| Some((&ids.get(&topic.topic_id)?.0, topic)));
        for (name, topic) in named {
            for partition in topic.partitions {
                let key = TopicPartition::new(Arc::clone(name), partition.partition_index);
                let partition = OffsetFetchResponsePartition {
                    partition_index: partition.partition_index,
                    committed_offset: partition.committed_offset,
                    committed_leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.metadata,
                    error_code: partition.error_code,
                };
                if let Some(offset) = committed_offset(partition, FETCH_BY_ID, &key)? {
                    committed.insert(key.clone(), CommittedOffset { topic_id: topic.topic_id, ..offset });
                }
                answered.insert(key);
            }
        }
    }
    require_answers(&answered, keys.iter())?;
    Ok(committed)
}

fn require_answers<'a>(
    answered: &BTreeSet<TopicPartition>,
    mut keys: impl Iterator<Item = &'a TopicPartition>,
) -> Result<()> {
    keys.find(|key| !answered.contains(*key)).map_or(Ok(()), |key| Err(unanswered(Some(key))))
}

/// The committed offset, if there is one. For none, brokers return -1 or, in old versions, an unknown partition.
fn committed_offset(
    partition: OffsetFetchResponsePartition,
    version: i16,
    key: &TopicPartition,
) -> Result<Option<CommittedOffset>> {
    let is_nothing =
        version <= NOTHING_IS_UNKNOWN_UNTIL && partition.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    if let Some(error) = refusal(partition.error_code, key).filter(|_| !is_nothing) {
        return Err(error);
    }
    Ok(partition.committed_offset.filter(|offset| *offset >= 0).map(|offset| CommittedOffset {
        offset,
        leader_epoch: partition.committed_leader_epoch.filter(|epoch| *epoch >= 0),
        metadata: partition.metadata.unwrap_or_default(),
        topic_id: Uuid::ZERO,
    }))
}

#[cfg(test)]
mod tests {
    use kavka_broker::serve::{Broker, Options};
    use kavka_broker::{ClusterConfig, Fault};
    use kavka_core::wire::messages::offset_fetch::OffsetFetchResponseTopic;

    use super::*;
    use crate::{ClientConfig, Tcp, WireEvent, WireTap, parse_bootstrap_servers};

    /// Two brokers that lead a partition of "orders" each, and a client that notes the answers about offsets.
    struct TwoLeaders {
        broker: Broker,
        client: Client,
        answers: Arc<Mutex<usize>>,
    }

    impl TwoLeaders {
        fn new() -> Self {
            let cluster = ClusterConfig { brokers: 2, ..ClusterConfig::default() };
            let broker = Broker::start(Options { cluster, ..Options::default() }).unwrap();
            broker.with(|cluster, _| cluster.create_topic("orders", 2, 1)).unwrap();
            let answers = Arc::new(Mutex::new(0));
            let counted = Arc::clone(&answers);
            let tap: WireTap = Arc::new(move |event| {
                if let WireEvent::Received { key: ApiKey::ListOffsets, .. } = event {
                    *counted.lock().unwrap() += 1;
                }
            });
            let servers = parse_bootstrap_servers(&broker.bootstrap_servers()).unwrap();
            let config = ClientConfig::default().bootstrap_servers(servers);
            let client = Client::with_network(config, Arc::new(Tcp::default()), Some(tap)).unwrap();
            let opening = client.clone();
            client.start(async move { opening.topic("orders", false).await }).wait(None).unwrap().unwrap();
            Self { broker, client, answers }
        }

        fn ends(&self, limit: Duration) -> Result<BTreeMap<TopicPartition, i64>> {
            let asked = self.client.end_offsets(&keys(), IsolationLevel::ReadCommitted, limit);
            self.client.start(asked).wait(None).unwrap()
        }
    }

    #[test]
    fn a_leader_that_is_frozen_does_not_keep_the_others_from_answering_and_is_named() {
        let two = TwoLeaders::new();
        two.broker.inject(Fault::silence().broker(1).always());
        // Nor does it open connections.
        two.broker.inject(Fault::silence().broker(1).api(ApiKey::ApiVersions).always());
        let error = two.ends(Duration::from_secs(6)).unwrap_err();
        assert!(error.to_string().contains("broker 1"), "{error}");
        assert!(matches!(error.kind(), ErrorKind::TimedOut(_)), "{error:?}");
        assert_eq!(*two.answers.lock().unwrap(), 1, "the other leader was asked, and only once");
    }

    #[test]
    fn a_leader_that_leaves_one_question_unanswered_is_asked_again_in_time() {
        let two = TwoLeaders::new();
        two.broker.inject(Fault::silence().broker(1).api(ApiKey::ListOffsets).times(1));
        let ends = two.ends(Duration::from_secs(8)).unwrap();
        assert_eq!(ends.into_values().collect::<Vec<_>>(), [0, 0]);
    }

    fn keys() -> [TopicPartition; 2] {
        [0, 1].map(|partition| TopicPartition::new("orders", partition))
    }

    fn fetched(partitions: Vec<OffsetFetchResponsePartition>) -> OffsetFetchResponse {
        let topics = vec![OffsetFetchResponseTopic { name: "orders".into(), partitions }];
        OffsetFetchResponse { topics, ..OffsetFetchResponse::default() }
    }

    #[test]
    fn a_partition_that_the_answer_leaves_out_is_not_one_without_a_commit() {
        let response = fetched(vec![OffsetFetchResponsePartition::default()]);
        let error = take_committed(response, 7, &keys()).unwrap_err();
        assert!(error.is_retriable() && error.to_string().contains("orders-1"), "{error}");
    }

    #[test]
    fn a_coordinator_that_does_not_know_the_topic_yet_has_not_said_that_nothing_was_committed() {
        let unknown = OffsetFetchResponsePartition {
            error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ..OffsetFetchResponsePartition::default()
        };
        let response = || fetched(vec![unknown.clone()]);
        let keys = keys();
        assert!(take_committed(response(), 7, &keys[..1]).unwrap_err().is_retriable());
        assert!(take_committed(response(), 0, &keys[..1]).unwrap().is_empty(), "in ZooKeeper it means nothing");
    }

    #[test]
    fn a_topic_that_was_deleted_does_not_keep_a_member_from_the_offsets_of_its_other_topics() {
        let limit = Duration::from_secs(20);
        let broker = Broker::start(Options::default()).unwrap();
        let servers = parse_bootstrap_servers(&broker.bootstrap_servers()).unwrap();
        let client = Client::new(ClientConfig::default().bootstrap_servers(servers)).unwrap();
        let keys = ["orders", "gone"].map(|topic| TopicPartition::new(topic, 0));
        let (opening, group) = (client.clone(), Arc::<str>::from("billing"));
        let offsets = keys.clone().map(|key| (key, CommittedOffset::new(7))).into();
        let commit = async move {
            let held = (opening.topic("orders", true).await?, opening.topic("gone", true).await?);
            opening.commit_offsets("billing", &offsets, limit).await?;
            Ok::<_, Error>(held)
        };
        let _held = client.start(commit).wait(Some(limit)).unwrap().unwrap();
        broker.with(|cluster, now| cluster.delete_topic(now, "gone"));

        let driver = client.driver.clone();
        let fetch = async move {
            driver.refreshed_topic(&"gone".into()).await?;
            committed_to_topics_in_use(&driver, &group, &keys, limit).await
        };
        let committed = client.start(fetch).wait(Some(limit)).unwrap().unwrap();
        assert_eq!(committed.keys().map(|key| &*key.topic).collect::<Vec<_>>(), ["orders"]);
        assert!(committed.values().all(|offset| offset.offset == 7 && !offset.topic_id.is_zero()), "asked for by id");
    }
}
