use std::cell::RefCell;
use std::path::Path;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use qanat_storage::env::Env;
use qanat_storage::log::{AppendOptions, GroupCommit, TopicSpec, Topics, WriterStamp};

use super::*;

#[test]
fn what_retention_takes_under_the_reader_is_passed_over() {
    let sim = Env::sim(3);
    let (folder, name) = (Path::new("/topics"), Name::new("t").expect("a name"));
    let topics = Topics::open(sim.env.clone(), folder, GroupCommit::spawn().expect("a thread")).expect("an empty disk");
    let topic = topics.create(&name, TopicSpec::new(1)).expect("new");
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    topic.declare_schema(&schema).expect("the first");
    for id in 0..3 {
        let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from(vec![id]))]).expect("a row");
        let options = AppendOptions { begins_segment: true, ..AppendOptions::default() };
        topic.append(0, &rows, &options).expect("appended");
    }
    let look = || Topics::open_read_only(sim.env.clone(), folder).find(&name);
    // Opened while all segments were there.
    let before = look().expect("whole").expect("there");
    before.partition(0).expect("whole");
    topic.partition(0).expect("there").remove_before(2).expect("removed");
    let views = RefCell::new(vec![look().expect("whole"), Some(before)]);
    let open = || Ok(views.borrow_mut().pop().expect("opened twice"));
    let (sums, cut) = topic_sums(open, WriterStamp::NONE.job).expect("read");
    assert!(views.borrow().is_empty());
    assert_eq!((sums.values().map(|sum| sum.rows).sum::<u64>(), cut), (1, Some(WriterStamp::NONE.epoch)));
}
