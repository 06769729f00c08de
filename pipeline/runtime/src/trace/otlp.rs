//! OTLP's messages, as far as spans need them (opentelemetry-proto 1.x, `collector/trace/v1`, `trace/v1`, `common/v1`, `resource/v1`:
//! stable, so that numbers and types do not change). The tests' collector reads them by the project's own definitions.

use super::span::{self, Kind, Span as Finished};
use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<InstrumentationScope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct InstrumentationScope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "13")]
    links: Vec<Link>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
struct Link {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

/// `STATUS_CODE_ERROR`.
const ERROR: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    String(String),
    #[prost(int64, tag = "3")]
    Int(i64),
}

fn attribute((key, value): (&str, span::Value)) -> KeyValue {
    let value = match value {
        span::Value::Text(text) => Value::String(text),
        span::Value::Number(number) => Value::Int(number),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

impl From<Finished> for Span {
    fn from(span: Finished) -> Self {
        let ids =
            |context: super::TraceContext| (context.trace.to_be_bytes().to_vec(), context.span.to_be_bytes().to_vec());
        let (trace_id, span_id) = ids(span.context);
        let link = |context| {
            let (trace_id, span_id) = ids(context);
            Link { trace_id, span_id }
        };
        Self {
            trace_id,
            span_id,
            parent_span_id: span.parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
            name: span.name.to_owned(),
            kind: match span.kind {
                Kind::Internal => 1,
                Kind::Producer => 4,
                Kind::Consumer => 5,
            },
            start_time_unix_nano: u64::try_from(span.start).unwrap_or(0),
            end_time_unix_nano: u64::try_from(span.end).unwrap_or(0),
            attributes: span.attributes.into_iter().map(attribute).collect(),
            links: span.links.into_iter().map(link).collect(),
            status: span.error.map(|message| Status { message, code: ERROR }),
        }
    }
}

/// One request of a process, which `resource` describes.
pub(super) fn request(resource: &[(&'static str, String)], spans: Vec<Finished>) -> ExportTraceServiceRequest {
    let attributes = resource.iter().map(|(key, value)| attribute((key, value.as_str().into()))).collect();
    let scope = InstrumentationScope { name: "eddy".into(), version: env!("CARGO_PKG_VERSION").into() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes }),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans: spans.into_iter().map(Span::from).collect() }],
        }],
    }
}
