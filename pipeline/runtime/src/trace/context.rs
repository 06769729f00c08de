//! What travels: W3C trace contexts, and when the oldest reading of a message came.

use std::fmt;

use eddy_schemas::Timestamp;

/// When the oldest reading in a message arrived at the gateway: nanoseconds since the Unix epoch.
const ARRIVED: &str = "Eddy-Arrived";
/// A context, as devices and webhooks know it: `00-<trace>-<span>-01`.
pub const TRACEPARENT: &str = "traceparent";
/// Further ones, with commas between them.
const MORE: &str = "Eddy-Traces";

/// Contexts that one message carries.
pub const CONTEXTS_MAX: usize = 8;

/// A span of a sampled trace.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: u128,
    /// The span.
    pub span: u64,
}

impl TraceContext {
    /// Reads a `traceparent` (W3C Trace Context, level 1). `None` for one that is malformed, or whose trace is not sampled.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.trim().split('-');
        let mut field = |digits: usize| {
            let field = fields.next()?;
            let is_hex = field.len() == digits && field.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            is_hex.then_some(field)
        };
        let (version, trace, span, flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
        // Later versions may append fields; the first one has none.
        if version == "ff" || (version == "00" && fields.next().is_some()) {
            return None;
        }
        let context = Self { trace: u128::from_str_radix(trace, 16).ok()?, span: u64::from_str_radix(span, 16).ok()? };
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        (sampled && context.trace != 0 && context.span != 0).then_some(context)
    }

    /// The trace's id as it is written.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-01", self.trace, self.span)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The contexts of a message: one of each trace, at most [`CONTEXTS_MAX`]. Nothing is allocated for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contexts(Vec<TraceContext>);

impl Contexts {
    /// Adds one, unless its trace is there already or there is no room; whether it did.
    pub fn add(&mut self, context: TraceContext) -> bool {
        let takes = self.0.len() < CONTEXTS_MAX && self.0.iter().all(|known| known.trace != context.trace);
        if takes {
            self.0.push(context);
        }
        takes
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first one.
    pub fn first(&self) -> Option<TraceContext> {
        self.0.first().copied()
    }

    /// In the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = TraceContext> + '_ {
        self.0.iter().copied()
    }

    /// As headers of a message.
    pub fn put(&self, headers: &mut Vec<(String, String)>) {
        let mut rest = self.iter();
        let Some(first) = rest.next() else { return };
        headers.push((TRACEPARENT.to_owned(), first.to_string()));
        let more: Vec<String> = rest.map(|context| context.to_string()).collect();
        if !more.is_empty() {
            headers.push((MORE.to_owned(), more.join(",")));
        }
    }
}

impl FromIterator<TraceContext> for Contexts {
    fn from_iter<T: IntoIterator<Item = TraceContext>>(contexts: T) -> Self {
        let mut all = Self::default();
        for context in contexts {
            all.add(context);
        }
        all
    }
}

/// Where a message comes from, as its headers tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// When the oldest reading in it arrived at the gateway. `None`: an earlier release wrote it.
    pub arrived: Option<Timestamp>,
    /// The sampled traces that it is part of.
    pub contexts: Contexts,
}

/// Streams that devices and operators write.
const OUTSIDE: [&str; 2] = ["INGEST", "CONTROL"];

impl Provenance {
    /// Reads it; what is malformed is as if it were not there.
    pub fn read<'h>(header: impl Fn(&str) -> Option<&'h str>) -> Self {
        let arrived = header(ARRIVED).and_then(|text| text.parse().ok());
        let mut contexts: Contexts = header(TRACEPARENT).and_then(TraceContext::parse).into_iter().collect();
        if let Some(more) = header(MORE) {
            more.split(',').take(CONTEXTS_MAX).filter_map(TraceContext::parse).for_each(|context| {
                contexts.add(context);
            });
        }
        Self { arrived, contexts }
    }

    /// That of a message of `stream`. Of its own message a device may say a trace, and nothing else.
    pub fn of<'h>(stream: &str, header: impl Fn(&str) -> Option<&'h str>) -> Self {
        let is_outside = OUTSIDE.contains(&stream);
        Self::read(|name| if is_outside && name != TRACEPARENT { None } else { header(name) })
    }

    /// As headers of a message.
    pub fn put(&self, headers: &mut Vec<(String, String)>) {
        headers.extend(self.arrived.map(|arrived| (ARRIVED.to_owned(), arrived.to_string())));
        self.contexts.put(headers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn context(n: u64) -> TraceContext {
        TraceContext { trace: u128::from(n), span: n }
    }

    #[test]
    fn a_context_is_read_and_written_alike() {
        let context = TraceContext::parse(GOOD).unwrap();
        assert_eq!((context.to_string().as_str(), context.span), (GOOD, 0x00f0_67aa_0ba9_02b7));
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        // Other flags do not matter; a later version may say more.
        assert!(TraceContext::parse(&GOOD.replace("-01", "-03")).is_some());
        assert!(TraceContext::parse(&format!("{}-more", GOOD.replacen("00-", "01-", 1))).is_some());
    }

    #[test]
    fn what_is_malformed_or_not_sampled_is_no_context() {
        let zero_trace = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let zero_span = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "0".repeat(16));
        for text in [
            "",
            "00",
            &GOOD.replace("-01", "-00"),
            &GOOD.replace("-01", "-1"),
            &GOOD.replacen("00-", "ff-", 1),
            &GOOD.to_uppercase(),
            &GOOD.replace("4bf9", "4bfg"),
            &GOOD[..GOOD.len() - 3],
            &format!("{GOOD}-more"),
            &zero_trace,
            &zero_span,
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-\u{661}bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_message_carries_a_bounded_number_of_traces() {
        let contexts: Contexts = (1..20).chain(1..3).map(context).collect();
        assert_eq!(contexts.iter().count(), CONTEXTS_MAX);
        let mut headers = Vec::new();
        Provenance { arrived: Some(-5), contexts: contexts.clone() }.put(&mut headers);
        let get = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!(Provenance::read(get), Provenance { arrived: Some(-5), contexts });
        // Somebody else's list is no longer than ours.
        let many = vec![GOOD; 1_000].join(",");
        let read = Provenance::read(|name| (name == MORE).then_some(many.as_str()));
        assert_eq!(read.contexts.iter().count(), 1);
    }

    #[test]
    fn headers_of_an_earlier_release_and_rubbish_say_nothing() {
        assert_eq!(Provenance::read(|_| None), Provenance::default());
        assert_eq!(Provenance::read(|_| Some("rubbish")), Provenance::default());
        let mut headers = Vec::new();
        Provenance::default().put(&mut headers);
        assert!(headers.is_empty());
    }
}
