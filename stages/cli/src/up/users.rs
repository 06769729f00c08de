//! Who may do what at the gateway's server, where it tells its users apart: each stage reads its own input, writes its own output, and
//! nothing else. A user is known by an NKey: the server has the public half, the user's process the seed.
//!
//! What a stage needs of JetStream was measured: the end-to-end test runs a whole gateway so, and the server's log must hold no violation.

use eddy_runtime::{identity::inbox_of, provision::path_consumers};
use eddy_schemas::region::REQUEST_PREFIX;
use serde_json::{Value, json};

/// Who looks after a gateway: the supervisor, which provisions, and whoever works with the `eddy` command. May do everything.
pub const OPERATOR: &str = "operator";
/// Anybody without a key, where guests are let in: sends readings, hears alerts.
pub const GUEST: &str = "guest";
/// Every user but the guest: who each is, is told in the gateway's folder of keys.
pub const ALL: [&str; 9] = [OPERATOR, "capture", "preprocess", "embed", "detect", "index", "notify", "sync", "export"];

/// What a user may publish and hear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    publish: Vec<String>,
    deny: Vec<String>,
    subscribe: Vec<String>,
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
            GUEST => {
                rights.writes([format!("ingest.{token}.>"), format!("direct.{token}.>")]);
                rights.subscribe.extend(["alerts", "context", "health"].map(|what| format!("{what}.{token}.>")));
                rights.subscribe.push("_INBOX.>".into());
                return Some(rights);
            }
            "capture" => {
                rights.output("READINGS", [format!("readings.{token}.>")]);
                rights.output("HEALTH", [format!("health.{token}.>")]);
                rights.subscribe.push(format!("direct.{token}.*"));
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
        // Whoever asks says where the answer goes.
        self.writes([format!("{}.>", inbox_of(OPERATOR)), format!("{}.>", inbox_of("index"))]);
    }

    /// As the server's config has it.
    fn permissions(&self) -> Value {
        json!({ "publish": { "allow": self.publish, "deny": self.deny }, "subscribe": { "allow": self.subscribe } })
    }
}

/// The part of the server's config that says who its users are: `keys` are their names and the public halves of their keys.
pub fn config(site: Site<'_>, keys: &[(&str, String)], guests: bool) -> String {
    let mut users: Vec<Value> = keys
        .iter()
        .map(|(user, key)| match Rights::of(user, site) {
            None => json!({ "nkey": key }),
            Some(rights) => json!({ "nkey": key, "permissions": rights.permissions() }),
        })
        .collect();
    let mut guest = String::new();
    if let (true, Some(rights)) = (guests, Rights::of(GUEST, site)) {
        // Nobody can say this password: a connection without a key is taken for the guest.
        users.push(
            json!({ "user": GUEST, "password": keys.first().map(|(_, key)| key), "permissions": rights.permissions() }),
        );
        guest = format!("no_auth_user: {GUEST}\n");
    }
    let users: Vec<String> = users.iter().map(|user| format!("  {user}\n")).collect();
    format!("authorization {{ users = [\n{}] }}\n{guest}", users.concat())
}
