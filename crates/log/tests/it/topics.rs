//! Topics that come and go while the log is open.

use thalweg_log::{EmbeddedLog, Log, LogError, TopicConfig, TopicPartition};

use crate::rows::*;

fn late() -> TopicPartition {
    TopicPartition::new("late", 0)
}

#[tokio::test]
async fn a_topic_created_later_keeps_its_rows_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let topic = TopicConfig::new("late", 1);
    {
        let log = EmbeddedLog::open(config(directory.path())).unwrap().0;
        assert!(matches!(log.offsets(late()), Err(LogError::UnknownTopic(_))));
        log.create_topic(&topic).unwrap();
        log.append(late(), batch(0, 10, 1)).await.unwrap();
        assert!(log.create_topic(&topic).unwrap().is_clean(), "once more changes nothing");
        assert_eq!(log.offsets(late()).unwrap().end, 10);
    }
    let log = EmbeddedLog::open(config(directory.path())).unwrap().0;
    log.create_topic(&topic).unwrap();
    assert_eq!(log.read(late(), 0, 1 << 20).await.unwrap()[0].batch, batch(0, 10, 1));
    let bad = TopicConfig::new("../outside", 1);
    assert!(matches!(log.create_topic(&bad), Err(LogError::Config(_))));
}

#[tokio::test]
async fn a_removed_topic_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(config(directory.path())).unwrap().0;
    let topic = TopicConfig::new("late", 1);
    log.create_topic(&topic).unwrap();
    log.append(late(), batch(0, 10, 1)).await.unwrap();
    log.commit("reader", late(), 10).await.unwrap();
    log.remove_topic("late").unwrap();
    assert!(!directory.path().join("late").exists());
    assert!(matches!(log.append(late(), batch(0, 1, 1)).await, Err(LogError::UnknownTopic(_))));
    assert!(matches!(log.remove_topic("late"), Err(LogError::UnknownTopic(_))));
    log.create_topic(&topic).unwrap();
    assert_eq!(log.offsets(late()).unwrap().end, 0);
    assert_eq!(log.committed("reader", late()).unwrap(), None);
}
