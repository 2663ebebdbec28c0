//! `kavka groups`: lists, describes, resets and deletes groups.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kavka::{
    Client, ClientConfig, CommittedOffset, GroupDescription, GroupMember, IsolationLevel, Offsets,
    Result as KavkaResult, StartPosition, TopicPartition, printable,
};

use crate::arguments::{GroupsAction, GroupsArguments, ResetArguments};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::lag;
use crate::output::Output;
use crate::session::Session;
use crate::start::Start;
use crate::table::{number, table};

/// The head of the table of members if the brokers assign the partitions.
const HEAD: [&str; 9] =
    ["member", "instance", "client", "host", "protocol", "epoch", "partitions", "target", "subscription"];

/// Runs one of the group subcommands, and prints its result.
pub(crate) fn run(cluster: &Cluster, arguments: GroupsArguments) -> Result<(), Failure> {
    let session = Session::new(ClientConfig::from_properties(cluster.settings(&[], &[])?)?)?;
    session.wait(session.client.ready())?;
    let admin = session.client.admin();
    let text = match arguments.action.unwrap_or(GroupsAction::List { states: Vec::new() }) {
        GroupsAction::List { states } => session.wait(list(session.client.clone(), states))?,
        GroupsAction::Describe { group } => describe(&session.wait(admin.describe_group(&group))?),
        GroupsAction::Lag { group, watch, interval } => {
            return lag::run(&session, &group, watch.then_some(interval));
        }
        GroupsAction::Reset(arguments) => reset(&session, &arguments)?,
        GroupsAction::Delete { group } => {
            session.wait(admin.delete_group(&group))?;
            String::new()
        }
    };
    Output::print(&text)
}

async fn list(client: Client, states: Vec<String>) -> KavkaResult<String> {
    let groups = client.admin().list_groups().await?;
    let is_wanted = |state: &str| states.is_empty() || states.iter().any(|wanted| wanted.eq_ignore_ascii_case(state));
    Ok(groups.into_iter().fold(String::new(), |mut text, group| {
        let state = group.state.as_deref().unwrap_or("-");
        if is_wanted(state) {
            let kind = group.group_type.as_deref().unwrap_or("-");
            // Writing to a String cannot fail.
            let (id, protocol) = (printable(&group.group_id), printable(&group.protocol_type));
            let _ = writeln!(text, "{id}\t{state}\t{kind}\t{protocol}");
        }
        text
    }))
}

fn describe(group: &GroupDescription) -> String {
    let mut text = format!("{}: {}, {}", printable(&group.group_id), group.state, group.group_type);
    for known in [&group.protocol_type, &group.protocol].into_iter().filter(|known| !known.is_empty()) {
        text.push_str(", ");
        text.push_str(&printable(known));
    }
    if let (Some(epoch), Some(assigned)) = (group.group_epoch, group.assignment_epoch) {
        let assigned = if assigned == epoch { String::new() } else { format!(" (assigned in {assigned})") };
        let _ = write!(text, ", epoch {epoch}{assigned}");
    }
    let count = group.members.len();
    let plural = if count == 1 { "" } else { "s" };
    let _ = writeln!(text, ", {count} member{plural}");
    if count > 0 {
        let base = |member: &GroupMember| {
            let instance = member.group_instance_id.as_deref().unwrap_or("-").to_owned();
            [member.member_id.clone(), instance, member.client_id.clone(), member.client_host.clone()]
        };
        text.push_str(&if group.group_epoch.is_some() {
            let rows = group.members.iter().map(|member| {
                let [id, instance, client, host] = base(member);
                let epoch = number(member.member_epoch.map(i64::from));
                let (has, target) = (partitions(&member.assignment), member.target_assignment.as_deref());
                let protocol = if member.is_classic == Some(true) { "classic" } else { "consumer" };
                let target = partitions(target.unwrap_or_default());
                [id, instance, client, host, protocol.to_owned(), epoch, has, target, subscription(member)]
            });
            table(HEAD, rows)
        } else {
            let rows = group.members.iter().map(|member| {
                let [id, instance, client, host] = base(member);
                [id, instance, client, host, partitions(&member.assignment)]
            });
            table(["member", "instance", "client", "host", "partitions"], rows)
        });
    }
    text
}

/// The topics to which a member is subscribed, by name or `/by pattern/`.
fn subscription(member: &GroupMember) -> String {
    let names = member.subscribed_topics.iter().flatten().cloned();
    let pattern = member.subscribed_pattern.iter().map(|pattern| format!("/{pattern}/"));
    let all: Vec<_> = names.chain(pattern).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(",") }
}

/// `orders-0,2 letters-1`: each topic with its partitions.
fn partitions(assignment: &[TopicPartition]) -> String {
    let mut topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for key in assignment {
        topics.entry(&key.topic).or_default().push(key.partition.to_string());
    }
    if topics.is_empty() {
        return "-".to_owned();
    }
    let topics = topics.into_iter().map(|(topic, partitions)| format!("{topic}-{}", partitions.join(",")));
    topics.collect::<Vec<_>>().join(" ")
}

fn reset(session: &Session, arguments: &ResetArguments) -> Result<String, Failure> {
    let admin = session.client.admin();
    let before = session.wait(admin.group_offsets(&arguments.group))?;
    let keys = match &arguments.topic {
        Some(topic) => session.partitions(topic, &arguments.partitions)?,
        None => before.keys().cloned().collect(),
    };
    if keys.is_empty() {
        let sentence = format!("group {} has committed nothing; name a --topic", arguments.group);
        return Err(Failure::new(sentence));
    }
    let after = targets(session, keys, arguments.to)?;
    if !arguments.dry_run {
        session.wait(admin.alter_group_offsets(&arguments.group, &after))?;
    }
    let rows = after.iter().map(|(key, committed)| {
        let before = before.get(key).map(|committed| committed.offset);
        [key.topic.to_string(), key.partition.to_string(), number(before), committed.offset.to_string()]
    });
    Ok(table(["topic", "partition", "before", "after"], rows))
}

/// The offsets for a start, all of which must exist: otherwise the group's members would start where
/// `auto.offset.reset` says.
fn targets(session: &Session, keys: Vec<TopicPartition>, to: Start) -> Result<Offsets, Failure> {
    let (client, asked) = (session.client.clone(), keys.clone());
    let (beginnings, ends) = session.wait(async move {
        let limit = client.max_block();
        let ends = client.end_offsets(&asked, IsolationLevel::ReadCommitted, limit).await?;
        Ok((client.beginning_offsets(&asked, limit).await?, ends))
    })?;
    let times = match to {
        Start::At(StartPosition::Timestamp(at)) => {
            let client = &session.client;
            let asked: Vec<_> = keys.iter().map(|key| (key.clone(), at)).collect();
            session.wait(client.offsets_for_times(&asked, client.max_block()))?
        }
        Start::At(
            StartPosition::Offset(_)
            | StartPosition::Earliest
            | StartPosition::Latest
            | StartPosition::Committed { .. },
        )
        | Start::Last(_) => BTreeMap::new(),
    };
    let target = |key: TopicPartition| {
        let (beginning, end) = (beginnings[&key], ends[&key]);
        let offset = match to {
            Start::At(StartPosition::Offset(offset)) if !(beginning..=end).contains(&offset) => {
                let sentence = format!("{key} has no offset {offset}: it has those from {beginning} to {end}");
                return Err(Failure::new(sentence));
            }
            Start::At(StartPosition::Offset(offset)) => offset,
            Start::At(StartPosition::Earliest) => beginning,
            // No record is that new: the end of the partition.
            Start::At(StartPosition::Timestamp(_)) => {
                times.get(&key).copied().flatten().map_or(end, |found| found.offset)
            }
            Start::At(_) => end,
            Start::Last(count) => beginning.max(end.saturating_sub(count)),
        };
        Ok((key, CommittedOffset::new(offset)))
    };
    keys.into_iter().map(target).collect()
}
