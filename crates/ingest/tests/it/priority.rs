//! Critical events go their own way.

use std::sync::Arc;

use thalweg_event::{PriorityRule, PriorityRules};
use thalweg_ingest::IngestConfig;

use crate::{
    memory_log::{MemoryLog, texts},
    server::{Server, event},
};

#[tokio::test]
async fn critical_events_have_a_topic_of_their_own_and_are_appended_first() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let body = ["INFO", "ERROR", "WARN", "FATAL"].map(|level| event(level, level)).concat();
    server.ndjson(body + "bad\n").await.assert_accepted(4);
    assert_eq!(log.asked(), ["logs.critical", "logs.routine", "rejected"]);
    assert_eq!(log.texts("logs.critical", "message"), ["m-ERROR", "m-FATAL"]);
    assert_eq!(log.texts("logs.critical", "priority"), ["critical", "critical"]);
    assert_eq!(log.texts("logs.routine", "message"), ["m-INFO", "m-WARN"]);
}

#[tokio::test]
async fn critical_events_do_not_wait_for_routine_ones() {
    let log = MemoryLog::new();
    let server = Arc::new(Server::start(log.clone()).await);
    log.hold("logs.routine");
    let routine = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.ndjson(event("a", "INFO")).await }
    });
    log.has_been_asked(1).await;
    server.ndjson(event("b", "ERROR")).await.assert_accepted(1);
    assert!(!routine.is_finished());
    log.let_go();
    routine.await.unwrap().assert_accepted(1);
}

#[tokio::test]
async fn rules_decide_what_is_critical() {
    let log = MemoryLog::new();
    let rule = PriorityRule { services: vec!["payment".into()], ..PriorityRule::default() };
    let config = IngestConfig { priority: PriorityRules(vec![rule]), ..IngestConfig::default() };
    let server = Server::with_config(log.clone(), config).await;
    let body = event("a", "FATAL") + "{\"service\":\"payment\",\"message\":\"paid\"}\n";
    server.ndjson(body).await.assert_accepted(2);
    assert_eq!(log.texts("logs.critical", "message"), ["paid"]);
    assert_eq!(log.texts("logs.routine", "message"), ["m-a"]);
}

#[tokio::test]
async fn a_service_keeps_to_one_partition_and_to_its_order() {
    let log = MemoryLog::with_partitions(4);
    let server = Server::start(log.clone()).await;
    for part in 0..3 {
        let body: String = (0..60)
            .map(|i| {
                let level = if i % 7 == 0 { "ERROR" } else { "INFO" };
                format!(
                    "{{\"service\":\"s{}\",\"level\":\"{level}\",\"message\":\"{part}-{i:02}\"}}\n",
                    i % 20
                )
            })
            .collect();
        server.ndjson(body).await.assert_accepted(60);
    }
    for (topic, records) in [("logs.critical", 27), ("logs.routine", 153)] {
        let mut partition_of = std::collections::HashMap::new();
        let mut last = std::collections::HashMap::new();
        let mut found = 0;
        for partition in 0..4 {
            for batch in log.batches(topic, partition) {
                for (service, message) in
                    texts(&batch, "service").into_iter().zip(texts(&batch, "message"))
                {
                    found += 1;
                    assert_eq!(
                        *partition_of.entry(service.clone()).or_insert(partition),
                        partition
                    );
                    let before = last.insert(service, message.clone());
                    assert!(before.is_none_or(|before| before < message));
                }
            }
        }
        assert_eq!(found, records);
        let used: std::collections::HashSet<_> = partition_of.values().collect();
        assert!(used.len() >= 3, "{used:?}");
    }
}

/// Events of `payment` have a topic of their own, and so have those of an environment.
fn routed() -> IngestConfig {
    let routes = serde_json::json!([
        {"services": ["payment"], "topic": "logs.payment"},
        {"environments": ["prod-eu"], "topic": "logs.eu"},
    ]);
    IngestConfig { routes: serde_json::from_value(routes).unwrap(), ..IngestConfig::default() }
}

#[tokio::test]
async fn the_first_rule_that_an_event_meets_names_its_topic() {
    let log = MemoryLog::new();
    let server = Server::with_config(log.clone(), routed()).await;
    let event = |service: &str, environment: &str, level: &str| {
        serde_json::json!({
            "service": service, "environment": environment, "level": level,
            "message": format!("{service} {environment} {level}"),
        })
        .to_string()
            + "\n"
    };
    let events = [
        event("payment", "prod-eu", "ERROR"),
        event("cart", "prod-eu", "INFO"),
        event("cart", "prod-us", "INFO"),
        event("cart", "prod-us", "ERROR"),
        event("payment", "", "INFO"),
        event("cart", "prod-eu", "FATAL"),
    ];
    server.ndjson(events.concat()).await.assert_accepted(6);
    let of = |topic: &str| log.texts(topic, "message");
    assert_eq!(of("logs.payment"), ["payment prod-eu ERROR", "payment  INFO"]);
    assert_eq!(of("logs.eu"), ["cart prod-eu INFO", "cart prod-eu FATAL"]);
    assert_eq!(of("logs.critical"), ["cart prod-us ERROR"]);
    assert_eq!(of("logs.routine"), ["cart prod-us INFO"]);
    assert_eq!(log.asked(), ["logs.critical", "logs.eu", "logs.payment", "logs.routine"]);
    server.ndjson(event("cart", "prod-us", "INFO").repeat(2)).await.assert_accepted(2);
    assert_eq!(log.asked().len(), 5);
}

#[tokio::test]
async fn services_keep_their_order_within_a_topic_of_a_rule() {
    let log = MemoryLog::with_partitions(4);
    let server = Server::with_config(log.clone(), routed()).await;
    let event = |service: usize, number: usize| {
        serde_json::json!({
            "service": format!("s{service}"), "environment": "prod-eu",
            "message": format!("{number:03}"),
        })
        .to_string()
            + "\n"
    };
    for part in 0..3 {
        let body: String = (0..60).map(|n| event(n % 20, part * 60 + n)).collect();
        server.ndjson(body).await.assert_accepted(60);
    }
    let mut last = std::collections::HashMap::new();
    for partition in 0..4 {
        for batch in log.batches("logs.eu", partition) {
            let services = texts(&batch, "service");
            for (service, message) in services.into_iter().zip(texts(&batch, "message")) {
                let before = last.insert(service, (partition, message.clone()));
                assert!(before.is_none_or(|before| before < (partition, message)));
            }
        }
    }
    assert_eq!(last.len(), 20);
}

#[tokio::test]
async fn an_event_sent_again_after_its_rule_was_removed_is_stored_once() {
    let log = MemoryLog::new();
    let event = "{\"eventId\":\"a\",\"service\":\"payment\",\"message\":\"paid\"}\n";
    let server = Server::with_config(log.clone(), routed()).await;
    server.ndjson(event).await.assert_accepted(1);
    let former_topics = vec!["logs.payment".into()];
    let without = IngestConfig { former_topics, ..IngestConfig::default() };
    let server = Server::with_config(log.clone(), without).await;
    server.ndjson(event).await.assert_accepted(1);
    assert_eq!(log.asked(), ["logs.payment"]);
}
