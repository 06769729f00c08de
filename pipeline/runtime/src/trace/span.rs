//! What a hop tells of itself.

use eddy_schemas::Timestamp;

use super::context::{Contexts, TraceContext};

/// An attribute's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::from(number as u64)
    }
}

/// Which side of a message a span is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It sends one to somebody else.
    Producer,
    /// It works on one.
    Consumer,
    /// Neither.
    Internal,
}

/// A finished span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The hop: a closed list.
    pub name: &'static str,
    /// Its trace and its own id.
    pub context: TraceContext,
    /// The span that it is a child of; `None`: its trace begins with it.
    pub parent: Option<u64>,
    /// Its kind.
    pub kind: Kind,
    /// Nanoseconds since the Unix epoch.
    pub start: Timestamp,
    /// Nanoseconds since the Unix epoch.
    pub end: Timestamp,
    /// Names and values.
    pub attributes: Vec<(&'static str, Value)>,
    /// Spans of the same hop in other traces that were in the same message.
    pub links: Vec<TraceContext>,
    /// What went wrong.
    pub error: Option<String>,
}

/// Spans of one hop that are not finished: one for each trace in hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What each is a child of and when it began, in the order of `own`.
    pub(super) parents: Vec<(TraceContext, Timestamp)>,
    pub(super) own: Contexts,
}

impl Open {
    /// The contexts that go on from here: headers of what is published.
    pub fn contexts(&self) -> &Contexts {
        &self.own
    }

    /// The finished spans. An empty `error` is none.
    pub fn finish<'o>(
        &'o self,
        end: Timestamp,
        attributes: &'o [(&'static str, Value)],
        error: Option<&'o str>,
    ) -> impl Iterator<Item = Span> + 'o {
        self.parents.iter().zip(self.own.iter()).map(move |(&(parent, start), context)| Span {
            name: self.name,
            context,
            parent: Some(parent.span),
            kind: self.kind,
            start,
            end: end.max(start),
            attributes: attributes.to_vec(),
            links: self.own.iter().filter(|other| other.trace != context.trace).collect(),
            error: error.map(str::to_owned),
        })
    }
}
