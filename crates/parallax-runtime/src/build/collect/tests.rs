use parallax_core::manifest::AgentSpec;
use parallax_core::status::Reason;
use parallax_proto::v1::DesiredBuild;

use super::*;

fn id(number: u8) -> BuildId {
    BuildId::new(Timestamp::from_unix_millis(1_790_000_000_000), [number; 10])
}

fn at(second: u8) -> Timestamp {
    Timestamp::from_unix_millis(i64::from(second) * 1000)
}

fn queued(number: u8) -> BuildRecord {
    let name = "worker".parse().expect("it is a name");
    let spec = AgentSpec::named(name).build();
    let wire = DesiredBuild {
        build_id: id(number).to_string(),
        tenant_id: "ten_00000000000000000000000001".to_owned(),
        agent_name: "worker".to_owned(),
        source_digest: format!("sha256:{}", "0".repeat(64)),
        build_spec_json: serde_json::to_vec(&spec)
            .expect("it has string keys")
            .into(),
        ..DesiredBuild::default()
    };
    BuildRecord::parse(&wire).expect("it is whole")
}

fn prepared(number: u8, app: u8) -> BuildRecord {
    let mut record = queued(number);
    record.succeed(id(app), at(0));
    record
}

fn failed(number: u8) -> BuildRecord {
    let mut record = queued(number);
    record.fail(Reason::BuildFailed, String::new(), at(0));
    record
}

/// Those that may go, when each was needed last at the second of its number.
fn gone(records: &[BuildRecord], needed: &[u8]) -> Vec<BuildId> {
    let all = records.iter().zip(0..).map(|(record, second)| Candidate {
        record,
        used_at: at(second),
    });
    let mut gone = surplus(all, &needed.iter().map(|it| id(*it)).collect());
    gone.sort_unstable();
    gone
}

#[test]
fn the_oldest_that_nobody_needs_go() {
    let all: Vec<_> = (0..11).map(|it| prepared(it, it)).collect();
    assert_eq!(gone(&all, &[]), [id(0), id(1), id(2)]);
    assert_eq!(gone(&all, &[0, 1]), [id(2)]);
    assert_eq!(gone(&all[..8], &[]), []);
}

#[test]
fn a_folder_that_another_build_runs_in_stays() {
    let mut all: Vec<_> = (0..11).map(|it| prepared(it, it)).collect();
    all[10] = prepared(10, 0);
    assert_eq!(gone(&all, &[]), [id(1), id(2)]);
}

#[test]
fn failures_do_not_crowd_out_what_is_prepared_and_what_goes_on_is_left_alone() {
    let mut all: Vec<_> = (0..2).map(|it| prepared(it, it)).collect();
    all.push(queued(2));
    all.extend((3..13).map(failed));
    assert_eq!(gone(&all, &[]), [id(3), id(4)]);
    assert_eq!(gone(&all, &[3]), [id(4)]);
}
