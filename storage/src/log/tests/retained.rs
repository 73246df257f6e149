//! A topic with a retention has segments that are small and young enough for it.

use std::time::Duration;

use super::*;
use crate::log::{AppendOptions, Retention, TopicSpec};

fn topic(sim: &SimEnv, retention: Retention) -> Arc<Topic> {
    let topics = Topics::open_with(sim.env.clone(), Path::new(FOLDER), GroupCommit::inline(), LogOptions::default());
    let spec = TopicSpec { retention, ..TopicSpec::new(1) };
    topics.expect("the folder opens").create(&name("t"), spec).expect("new")
}

#[test]
fn a_few_megabytes_are_kept_if_that_is_asked_for() {
    let sim = Env::sim(1);
    let topic = topic(&sim, Retention { bytes: Some(2 << 20), ..Retention::default() });
    let mut most = 0;
    for append in 0..200 {
        topic.append(0, &rows(append * 4_000..(append + 1) * 4_000), &AppendOptions::default()).expect("room");
        topic.retain().expect("removed");
        most = most.max(topic.partition(0).expect("open").bytes());
    }
    assert!(((1 << 20)..=(2 << 20)).contains(&most), "{most}");
    assert_eq!(ids(&topic, 0).expect("sound").last(), Some(&799_999));
}

#[test]
fn rows_go_at_their_age() {
    let sim = Env::sim(2);
    let topic = topic(&sim, Retention { age_ms: Some(60_000), ..Retention::default() });
    for second in 0..600 {
        topic.append(0, &rows([second]), &AppendOptions::default()).expect("room");
        topic.retain().expect("removed");
        sim.clock.advance(Duration::from_secs(1));
    }
    let kept = ids(&topic, 0).expect("sound");
    assert_eq!(kept.last(), Some(&599));
    assert!((60..80).contains(&kept.len()), "{}", kept.len());
}
