//! Who may do what at the gateway's server, where it tells its users apart: each stage reads its own input, writes its own output, and
//! nothing else. A user is known by an NKey: the server has the public half, the user's process the seed.
//!
//! What a stage needs of JetStream was measured: an end-to-end test runs a whole gateway so, and the server's log must hold no violation.
//!
//! Whoever has no key is a guest, in an account of its own that has nothing in it but what the gateway's lends it: with permissions alone
//! the server would answer a guest's request wherever the guest says, such as on READINGS' subjects, in the server's own right.

use eddy_runtime::{identity::inbox_of, provision::path_consumers};
use eddy_schemas::region::REQUEST_PREFIX;
use serde_json::{Value, json};

/// Who looks after a gateway: the supervisor, which provisions, and whoever works with the `eddy` command. May do everything.
pub const OPERATOR: &str = "operator";
/// Anybody without a key, where guests are let in: sends readings, hears alerts.
const GUEST: &str = "guest";
/// The account that the streams are in.
const GATEWAY: &str = "GATEWAY";
/// What a guest may send, and hear, below the site's token.
const SENT_BY_GUESTS: [&str; 2] = ["ingest", "direct"];
const HEARD_BY_GUESTS: [&str; 3] = ["alerts", "context", "health"];
/// Every user but the guest: who each is, is told in the gateway's folder of keys.
pub const ALL: [&str; 9] = [OPERATOR, "capture", "preprocess", "embed", "detect", "index", "notify", "sync", "export"];

/// What a user may publish and hear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    publish: Vec<String>,
    deny: Vec<String>,
    subscribe: Vec<String>,
    /// Whether it may answer whoever asks it.
    answers: bool,
}

/// A site as its subjects name it, cut into shards.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The site's token.
    pub token: &'a str,
    /// How many shards it has.
    pub shards: u32,
}

impl Rights {
    /// Of `user` at this site; `None` for the operator, who may do everything.
    pub fn of(user: &str, site: Site<'_>) -> Option<Self> {
        let mut rights = Self::default();
        let token = site.token;
        match user {
            OPERATOR => return None,
            "capture" => {
                rights.output("READINGS", [format!("readings.{token}.>")]);
                rights.output("HEALTH", [format!("health.{token}.>")]);
                rights.subscribe.push(format!("direct.{token}.*"));
                rights.answers = true;
            }
            "preprocess" => {
                rights.output("SAMPLES", [format!("samples.{token}.>")]);
                rights.output("HEALTH", [format!("health.{token}.>")]);
            }
            "embed" => rights.output("EMBEDDINGS", [format!("embeddings.{token}.>")]),
            "detect" => rights.output("DETECTIONS", [format!("scores.{token}.>"), format!("alerts.{token}.>")]),
            "index" => {
                rights.reads("DETECTIONS");
                rights.looks_up("REGION");
                rights.reads("REGION");
                rights.output("CONTEXT", [format!("context.{token}.>")]);
                rights.output("CONTROL", [format!("control.{token}.>")]);
                rights.writes([format!("{REQUEST_PREFIX}.>")]);
                rights.answers(&format!("eddy.search.{token}"));
                rights.subscribe.push(format!("region.{token}.>"));
            }
            "notify" => {
                rights.reads("DETECTIONS");
                // Each sink puts aside under a name of its own.
                rights.writes([format!("deadletter.{token}.*.0")]);
            }
            "sync" => {
                for stream in ["READINGS", "DETECTIONS", "CONTEXT", "CONTROL", "HEALTH"] {
                    rights.reads(stream);
                }
                rights.output("CONTROL", [format!("control.{token}.>")]);
                rights.output("REGION", [format!("region.{token}.>")]);
                rights.output("MODELS", [format!("models.{token}.>")]);
                rights.reads("MODELS");
                rights.answers(REQUEST_PREFIX);
            }
            "export" => {
                for stream in ["READINGS", "SAMPLES", "EMBEDDINGS", "DETECTIONS", "CONTEXT", "CONTROL"] {
                    rights.reads(stream);
                }
            }
            _ => {}
        }
        // What it puts aside: each writes under its own name.
        rights.output("SIDE", ["late", "deadletter"].map(|what| format!("{what}.{token}.{user}.>")));
        rights.consumes(user, site);
        rights.subscribe.push(format!("{}.>", inbox_of(user)));
        Some(rights)
    }

    fn writes(&mut self, subjects: impl IntoIterator<Item = String>) {
        self.publish.extend(subjects);
    }

    /// Publishes on `subjects` of `stream`, and reads back what it published last: the checkpoint.
    fn output(&mut self, stream: &str, subjects: impl IntoIterator<Item = String>) {
        self.writes(subjects);
        self.looks_up(stream);
    }

    /// A stream's state, and single messages of it.
    fn looks_up(&mut self, stream: &str) {
        let calls = ["STREAM.INFO", "DIRECT.GET"].map(|call| format!("$JS.API.{call}.{stream}"));
        self.writes(calls);
        self.writes([format!("$JS.API.DIRECT.GET.{stream}.>")]);
    }

    /// A stream by consumers of its own making; what [`Self::consumes`] denies is not among them.
    fn reads(&mut self, stream: &str) {
        self.looks_up(stream);
        self.writes([format!("$JS.API.CONSUMER.CREATE.{stream}")]);
        for call in ["CREATE", "INFO", "MSG.NEXT", "RESET", "DELETE"] {
            self.writes([format!("$JS.API.CONSUMER.{call}.{stream}.>")]);
        }
        self.acks(stream, ">");
    }

    fn acks(&mut self, stream: &str, rest: &str) {
        self.writes([format!("$JS.ACK.{stream}.{rest}"), format!("$JS.ACK.*.*.{stream}.{rest}")]);
    }

    /// Of the consumers on the path to an alert, which the supervisor makes, its own; those of others are denied.
    fn consumes(&mut self, user: &str, site: Site<'_>) {
        for (stage, source) in path_consumers(site.token, site.shards) {
            let (stream, durable) = (&source.stream, &source.durable);
            let calls = ["INFO", "MSG.NEXT", "RESET"].map(|call| format!("$JS.API.CONSUMER.{call}.{stream}.{durable}"));
            if stage == user {
                self.looks_up(stream);
                self.writes(calls);
                self.acks(stream, &format!("{durable}.>"));
            } else {
                self.deny.extend(calls);
                for call in ["CREATE", "DELETE"] {
                    self.deny.push(format!("$JS.API.CONSUMER.{call}.{stream}.{durable}"));
                    self.deny.push(format!("$JS.API.CONSUMER.{call}.{stream}.{durable}.>"));
                }
                self.deny.push(format!("$JS.ACK.{stream}.{durable}.>"));
                self.deny.push(format!("$JS.ACK.*.*.{stream}.{durable}.>"));
            }
        }
    }

    /// A NATS service: its requests, and those that every service answers.
    fn answers(&mut self, subject: &str) {
        self.subscribe.extend([subject.to_owned(), format!("{subject}.>"), "$SRV.>".into()]);
        self.answers = true;
    }

    /// As the server's config has it.
    fn permissions(&self) -> Value {
        let publish = json!({ "allow": self.publish, "deny": self.deny });
        json!({ "publish": publish, "subscribe": { "allow": self.subscribe }, "allow_responses": self.answers })
    }
}

/// The part of the server's config that says who its users are: `keys` are their names and the public halves of their keys.
pub fn config(site: Site<'_>, keys: &[(&str, String)], guests: bool) -> String {
    let users: Vec<Value> = keys
        .iter()
        .map(|(user, key)| match Rights::of(user, site) {
            None => json!({ "nkey": key }),
            Some(rights) => json!({ "nkey": key, "permissions": rights.permissions() }),
        })
        .collect();
    let below = |what: &str| format!("{what}.{}.>", site.token);
    let (sent, heard) = (SENT_BY_GUESTS.map(below), HEARD_BY_GUESTS.map(below));
    let lent = sent.iter().map(|subject| json!({ "service": subject }));
    let exports: Vec<Value> = lent.chain(heard.iter().map(|subject| json!({ "stream": subject }))).collect();
    let gateway = json!({ "jetstream": "enabled", "users": users, "exports": exports });
    if !guests {
        return format!("accounts {{\n{GATEWAY}: {gateway}\n}}\n");
    }
    let of_gateway = |subject: &String| json!({ "account": GATEWAY, "subject": subject });
    let asked = sent.iter().map(|subject| json!({ "service": of_gateway(subject) }));
    let imports: Vec<Value> =
        asked.chain(heard.iter().map(|subject| json!({ "stream": of_gateway(subject) }))).collect();
    // Of any site: the account holds none but this one's.
    let hears: Vec<String> =
        HEARD_BY_GUESTS.iter().map(|what| format!("{what}.>")).chain(["_INBOX.>".to_owned()]).collect();
    let permissions = json!({ "publish": { "allow": sent }, "subscribe": { "allow": hears } });
    // A password that is no secret: it makes nobody more than who has none.
    let guest = json!({ "user": GUEST, "password": GUEST, "permissions": permissions });
    let guests = json!({ "users": [guest], "imports": imports });
    format!("accounts {{\n{GATEWAY}: {gateway}\nGUESTS: {guests}\n}}\nno_auth_user: {GUEST}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: Site<'_> = Site { token: "plant", shards: 2 };

    #[test]
    fn a_stage_writes_its_own_subjects_and_has_its_own_consumers_alone() {
        let rights = Rights::of("embed", SITE).unwrap();
        let may = |subject: &str| rights.publish.iter().any(|allowed| allowed == subject);
        assert!(may("embeddings.plant.>") && may("deadletter.plant.embed.>"));
        assert!(may("$JS.API.CONSUMER.MSG.NEXT.SAMPLES.embed-1"));
        assert!(!rights.publish.iter().any(|allowed| allowed.contains("READINGS") || allowed.contains("DETECTIONS")));
        assert!(rights.deny.contains(&"$JS.API.CONSUMER.RESET.READINGS.preprocess-0".to_owned()));
        assert_eq!(rights.subscribe, ["_EDDY.embed.>"]);
        // Who reads streams by consumers of its own making must not touch those of the path.
        let export = Rights::of("export", SITE).unwrap();
        assert!(export.deny.contains(&"$JS.API.CONSUMER.MSG.NEXT.EMBEDDINGS.detect-1".to_owned()));
        assert_eq!(Rights::of(OPERATOR, SITE), None);
    }

    #[test]
    fn guests_are_in_an_account_of_their_own_or_not_let_in() {
        let keys = [(OPERATOR, "UA".to_owned())];
        let with = config(SITE, &keys, true);
        assert!(with.contains("no_auth_user: guest") && with.contains("GUESTS:"), "{with}");
        let without = config(SITE, &keys, false);
        assert!(!without.contains("guest") && !without.contains("no_auth_user"), "{without}");
    }
}
