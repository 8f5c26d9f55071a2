//! Senders whose token is limited to some services.

use thalweg_access::{Access, Gate, NewToken, Scope, TokenFile};
use thalweg_ingest::IngestConfig;

use crate::{
    memory_log::MemoryLog,
    server::{Answer, Server, event},
};

#[tokio::test]
async fn events_of_other_services_are_rejected_with_a_reason_and_not_stored() {
    let directory = tempfile::tempdir().unwrap();
    let file = TokenFile::in_directory(directory.path());
    let token = NewToken {
        name: "shop".to_owned(),
        scopes: [Scope::Ingest].into_iter().collect(),
        services: Some(["checkout".to_owned()].into()),
    };
    let token = file.create(token).unwrap();
    let gate = Gate::new(Access::open(file).unwrap(), [127, 0, 0, 1].into());
    let log = MemoryLog::new();
    let protect = |routes| gate.protect(routes, Some(Scope::Ingest));
    let server = Server::behind(log.clone(), IngestConfig::default(), protect).await;
    let foreign = r#"{"service":"payment","level":"INFO","message":"not mine"}"#.to_owned() + "\n";

    let anonymous = server.ndjson(event("a", "INFO")).await;
    assert_eq!(anonymous.status, 401, "{anonymous:?}");
    assert!(anonymous.error().contains("token"), "{anonymous:?}");

    let send = async |query: &str, body: String| {
        let request = server.request(&format!("/api/v1/logs{query}"), "application/x-ndjson");
        let request = request.bearer_auth(&token).body(body);
        Answer::of(request.send().await.unwrap()).await
    };
    let answer = send("", event("b", "INFO") + &foreign).await;
    assert_eq!((answer.status, &answer.body["rejected"]), (200, &1.into()), "{answer:?}");
    let reason = answer.body["errors"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("limited to") && reason.contains("payment"), "{reason}");

    let nameless = r#"{"level":"INFO","message":"whose"}"#;
    assert_eq!(send("?service=payment", nameless.to_owned()).await.status, 422);
    send("?service=checkout", nameless.to_owned()).await.assert_accepted(1);
}
