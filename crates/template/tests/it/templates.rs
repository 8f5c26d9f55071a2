//! Which templates are found in which messages.

use thalweg_template::{Config, Miner, TemplateId};

fn mined(messages: &[impl AsRef<str>]) -> (Miner, Vec<TemplateId>) {
    let mut miner = Miner::new(Config::default()).expect("the default is within its limits");
    let ids: Vec<TemplateId> =
        messages.iter().map(|message| miner.observe(message.as_ref()).template).collect();
    let ids = ids.into_iter().map(|id| miner.resolve(id)).collect();
    (miner, ids)
}

fn shown(messages: &[impl AsRef<str>]) -> Vec<String> {
    let (miner, _) = mined(messages);
    let mut shown: Vec<String> = miner.templates().map(|template| template.to_string()).collect();
    shown.sort();
    shown
}

const USERS: [&str; 6] = ["root", "alice", "bob", "carol", "dave", "eve"];

fn for_users(message: &str) -> Vec<String> {
    USERS.iter().map(|user| message.replace("USER", user)).collect()
}

#[test]
fn messages_that_differ_in_numbers_are_of_one_template() {
    assert_eq!(
        shown(&[
            "Connection from 10.0.0.1:22 closed after 5 ms",
            "Connection from 10.0.0.2:9 closed after 2 sec"
        ]),
        ["Connection from <*> closed after <*>"]
    );
}

#[test]
fn two_words_tell_templates_apart() {
    let messages = ["session opened by (uid=0)", "session closed by (uid=7)"].repeat(50);
    assert_eq!(shown(&messages), ["session closed by (uid=<*>)", "session opened by (uid=<*>)"]);
}

#[test]
fn many_words_at_one_place_are_values() {
    let opened = for_users("pam: session opened for USER");
    let closed = for_users("pam: session closed for USER");
    let messages = [opened, closed].concat();
    assert_eq!(shown(&messages), ["pam: session closed for <*>", "pam: session opened for <*>"]);
}

/// How many templates there are when so many of these fill the place of `X`.
fn templates_with(message: &str, fillings: &[&str]) -> usize {
    let messages: Vec<String> =
        fillings.iter().map(|filling| message.replace('X', filling)).collect();
    shown(&messages).len()
}

#[test]
fn it_takes_fewer_values_if_they_look_like_names() {
    let plain = ["alpha", "beta", "gamma", "delta", "omega"];
    assert_eq!(templates_with("the queue called X is full", &plain[..4]), 4);
    assert_eq!(templates_with("the queue called X is full", &plain), 1);
    let names = ["a.orders", "b.carts", "queue-7"];
    assert_eq!(templates_with("the queue called X is full", &names), 1);
    assert_eq!(templates_with("the queue of user X is full", &plain[..3]), 1);
    assert_eq!(templates_with("the queue is full, name=X", &plain[..4]), 1);
}

#[test]
fn it_takes_more_values_at_the_start_and_among_few_words() {
    let words = ["alpha", "beta", "gamma", "delta", "omega", "sigma", "kappa", "theta", "iota"];
    assert_eq!(templates_with("X is the queue that is full", &words[..9]), 9);
    assert_eq!(templates_with("queue X", &words), 9);
    let words = [&words[..], &["zeta"]].concat();
    assert_eq!(templates_with("X is the queue that is full", &words), 1);
    assert_eq!(templates_with("queue X", &words), 1);
}

#[test]
fn a_word_in_the_place_of_a_certain_value_is_one_too() {
    assert_eq!(templates_with("answer came from X in time", &["/var/run/a.sock", "upstream"]), 1);
}

#[test]
fn parameters_that_always_vary_together_are_found() {
    let words =
        ["ada", "bob", "cyd", "dan", "eve", "fay", "gus", "hal", "ivy", "jon", "kim", "lea"];
    let messages: Vec<String> = (0..12)
        .map(|at| {
            let [a, b, c] = [0, 5, 7].map(|offset| words[(at + offset) % words.len()]);
            format!("granted role reader of table {a} in schema {b} owned by {c}")
        })
        .collect();
    assert_eq!(shown(&messages), ["granted role reader of table <*> in schema <*> owned by <*>"]);
}

#[test]
fn messages_without_a_word_in_common_stay_apart() {
    let words = ["alpha", "beta", "gamma", "delta", "omega", "sigma", "kappa", "theta", "iota"];
    assert_eq!(templates_with("X 5", &words), words.len());
    assert_eq!(templates_with("X", &words), words.len());
}

#[test]
fn words_of_an_enumeration_stay_apart_however_many() {
    let states = ["NEW", "INITED", "SETUP", "RUNNING", "COMMITTING", "SUCCEEDED", "FAILED"];
    let mut messages: Vec<String> = (0..10)
        .flat_map(|_| states.map(|state| format!("job 7 of queue default is now {state}")))
        .collect();
    // Each was seen often before the next came up.
    messages.sort_unstable();
    assert_eq!(shown(&messages).len(), states.len());
}

#[test]
fn ids_that_merged_resolve_to_the_one_that_stayed() {
    let mut miner = Miner::new(Config::default()).unwrap();
    let observations: Vec<_> = for_users("Accepted password for USER from 10.0.0.1")
        .iter()
        .map(|message| miner.observe(message))
        .collect();
    let last = observations[5];
    assert!(observations[0].is_new && !observations[0].merged);
    assert!(observations.iter().any(|observation| observation.merged && !observation.is_new));
    for observation in &observations {
        assert_eq!(miner.resolve(observation.template), last.template);
    }
    assert_eq!(miner.merged().count(), miner_ids(&observations).len() - 1);
    assert_eq!(miner.template(observations[3].template).map(|template| template.count()), Some(6));
    assert_eq!(miner.len(), 1);
}

fn miner_ids(
    observations: &[thalweg_template::Observation],
) -> std::collections::HashSet<TemplateId> {
    observations.iter().map(|observation| observation.template).collect()
}

#[test]
fn the_template_of_most_messages_keeps_its_id() {
    let mut miner = Miner::new(Config::default()).unwrap();
    let users = for_users("Accepted password for USER from 10.0.0.1");
    let _ = miner.observe(&users[1]);
    let common = miner.observe(&users[0]).template;
    for _ in 0..10 {
        let _ = miner.observe(&users[0]);
    }
    for message in &users {
        let _ = miner.observe(message);
    }
    assert_eq!(miner.resolve(miner.find(&users[3]).unwrap()), common);
}

#[test]
fn lists_of_any_length_are_one_parameter() {
    assert_eq!(
        shown(&["ports 80 open", "ports 80, 443 open", "ports 1, 2, 3, 4 open"]),
        ["ports <*> open"]
    );
}

#[test]
fn a_parameter_may_be_of_one_word_or_of_two() {
    let one = for_users("payment of customer USER was declined");
    let two = for_users("payment of customer USER Miller was declined");
    let first: Vec<String> =
        for_users("payment of customer Joe USER was declined").into_iter().chain(two).collect();
    let (_, ids) = mined(&[one, first].concat());
    assert!(ids.iter().all(|id| *id == ids[0]));
}

#[test]
fn an_optional_number_in_brackets_makes_no_other_template() {
    let (_, ids) = mined(&["sent 12 bytes, got 5 bytes", "sent 1190 bytes (1.16 KB), got 5 bytes"]);
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn values_are_what_stands_for_the_placeholders() {
    let (miner, ids) = mined(&["Received block blk_-17 of size 6 MB from /10.0.0.1, user=\"a b\""]);
    let message = "Received block blk_99 of size 7 MB from /10.9.9.9, user=\"a b\"";
    let values: Vec<&str> = miner.parameters(ids[0], message).unwrap().collect();
    assert_eq!(values, ["_99", "7 MB", "/10.9.9.9"]);
    assert_eq!(
        miner.template(ids[0]).unwrap().to_string(),
        "Received block blk<*> of size <*> from <*>, user=\"a b\""
    );
    assert!(miner.parameters(ids[0], "something else").is_none());
}

#[test]
fn the_rest_of_a_long_message_is_one_value() {
    let config = Config::default().with_line_limit_bytes(64);
    let mut miner = Miner::new(config).unwrap();
    let message = format!("statement: {}", "select one, two from three ".repeat(10));
    let id = miner.observe(&message).template;
    let last = miner.parameters(id, &message).unwrap().last().unwrap();
    assert!(message.ends_with(last) && last.len() > 200, "{last}");
    assert!(miner.template(id).unwrap().to_string().ends_with("<*>"));
}

#[test]
fn an_unknown_message_is_not_found() {
    let (miner, _) = mined(&["a message"]);
    assert_eq!(miner.find("another message"), None);
    assert_eq!(miner.find("a message").map(|id| miner.resolve(id)), miner.find("a message"));
    assert!(miner.template(TemplateId(7)).is_none());
}

#[test]
fn empty_messages_and_punctuation_are_messages_too() {
    let (miner, ids) = mined(&["", "*****", "   ", "", "-----"]);
    assert_eq!(ids[0], ids[3]);
    assert_ne!(ids[1], ids[4]);
    assert_eq!(miner.template(ids[1]).unwrap().to_string(), "*****");
}

#[test]
fn control_characters_are_shown_as_spaces() {
    assert_eq!(shown(&["one\u{1b}two\nthree\u{85}four"]), ["one two three four"]);
}

#[test]
fn limits_are_checked() {
    let config = Config::default().with_max_patterns(1);
    let error = Miner::new(config).err().map(|error| error.to_string());
    assert_eq!(error.as_deref(), Some("max_patterns is 1, and has to be between 16 and 100000"));
    assert!(Miner::new(Config::default().with_line_limit_bytes(1 << 20)).is_err());
}
