//! Two processes that share the partitions.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use thalweg_event::schema::topic;
use thalweg_kafka::{Encoding, KafkaConfig, KafkaLog};
use thalweg_kafka_broker::{Cluster, Options};
use thalweg_log::{Log as _, TopicPartition};

use crate::node::{all, close, config, eventually, open, routine};

fn rejected() -> TopicPartition {
    TopicPartition::new(topic::REJECTED, 0)
}

fn owned(log: &KafkaLog) -> usize {
    let ownership = log.ownership();
    [routine(0), routine(1), rejected()].iter().filter(|at| ownership.owns(at)).count()
}

async fn join(cluster: &Cluster, spool: &tempfile::TempDir) -> Arc<KafkaLog> {
    let config = config(cluster, spool.path(), Encoding::Json);
    open(KafkaConfig { shared: true, ..config }).await
}

/// Writes what no rows can be made of, as another program.
fn write_damaged(cluster: &Cluster) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", cluster.addresses().join(","))
        .create()
        .unwrap();
    let record = BaseRecord::<(), _>::to(topic::LOGS_ROUTINE).partition(0).payload("{damaged");
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_shared_and_what_nobody_reported_is_reported_by_whoever_gets_them() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let spools = [(); 3].map(|()| tempfile::tempdir().unwrap());
    close(open(config(&cluster, spools[0].path(), Encoding::Json)).await).await;
    // It is followed before it is known whose partition it is in.
    write_damaged(&cluster);
    let (a, b) = (join(&cluster, &spools[1]).await, join(&cluster, &spools[2]).await);
    eventually("both own partitions, none of them twice", async || {
        (1..3).contains(&owned(&a)) && owned(&a) + owned(&b) == 3
    })
    .await;
    eventually("the damaged message is reported", async || {
        b.latest_end(rejected()).await.unwrap() > 0
    })
    .await;
    close(a).await;
    eventually("what one leaves goes to the other", async || owned(&b) == 3).await;
    write_damaged(&cluster);
    eventually("it is reported by who is left", async || {
        let rows: usize = all(&b, &rejected()).await.iter().map(|batch| batch.num_rows()).sum();
        rows >= 2
    })
    .await;
    close(b).await;
}
