//! What every call passes: may its caller do that, how long may it take, and what became of it, for the log.
//!
//! One place for all methods: what has no rule here is refused, also if a service would answer it, and nothing is answered that
//! cannot be logged.

use std::{
    convert::Infallible,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use eddy_runtime::audit::{Audit, AuditError};
use eddy_schemas::names;
use futures_util::Future;
use tonic::{
    Status,
    body::Body,
    codegen::{
        Service,
        http::{HeaderMap, Request, Response},
    },
};

use super::{
    accept::Caller,
    flood::Flood,
    roles::{Role, Roles},
};
use crate::answer::{Call, FOR, OWN_ONLY, Refusal, Why};

/// Refused calls are logged one by one up to so many in a minute.
const REFUSED_MAX: u32 = 600;

/// The rules.
pub struct Rules {
    roles: Roles,
    own_cn: String,
    audit: Arc<Audit>,
    time_max: Duration,
    refused: Flood,
}

/// A service behind the rules.
#[derive(Clone)]
pub struct Gate<S> {
    inner: S,
    rules: Arc<Rules>,
}

impl<S> Gate<S> {
    /// Puts `inner` behind `rules`.
    pub fn new(inner: S, rules: Arc<Rules>) -> Self {
        Self { inner, rules }
    }
}

/// What a path asks for.
struct Method {
    name: String,
    role: Role,
    /// Whether it decides something: that is on disk before it is answered.
    decides: bool,
}

impl Method {
    fn of(path: &str) -> Option<Self> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let (name, role) = match (service, method) {
            ("eddy.region.v1.Region", "Search" | "SearchStream" | "GetWindow" | "Receipts") => (method, Role::Reader),
            ("eddy.region.v1.Region", "Label") => (method, Role::Labeler),
            ("eddy.region.v1.Region", "Stats") => (method, Role::Operator),
            ("grpc.health.v1.Health", "Check" | "List" | "Watch") => ("health", Role::Reader),
            ("grpc.reflection.v1.ServerReflection" | "grpc.reflection.v1alpha.ServerReflection", _) => {
                ("reflection", Role::Reader)
            }
            _ => return None,
        };
        Some(Self { name: name.to_owned(), role, decides: method == "Label" })
    }
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that was asked whether it is ready.
        let next = self.inner.clone();
        let inner = mem::replace(&mut self.inner, next);
        let rules = self.rules.clone();
        Box::pin(async move {
            Ok(rules.pass(inner, request).await.unwrap_or_else(|refusal| Status::from(refusal).into_http()))
        })
    }
}

impl Rules {
    /// Roles decide who may what, but for other processes of this hub, whose certificate has its CN; no call takes longer than
    /// `time_max`.
    pub fn new(roles: Roles, own_cn: String, audit: Arc<Audit>, time_max: Duration) -> Self {
        Self { roles, own_cn, audit, time_max, refused: Flood::new(REFUSED_MAX) }
    }

    async fn pass<S>(self: Arc<Self>, mut inner: S, mut request: Request<Body>) -> Result<Response<Body>, Refusal>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let path = request.uri().path().to_owned();
        let caller = request.extensions().get::<Caller>().cloned();
        // Connections without one are not accepted.
        let caller = caller.ok_or_else(|| Refusal::new(Why::NotAllowed, "no certificate"))?;
        let is_peer = *caller.cn == *self.own_cn;
        let who = self.who(&caller, is_peer, request.headers());
        let mut call = Call::new(&who, time(request.headers()).map_or(self.time_max, |time| time.min(self.time_max)));
        call.own_only = is_peer && request.headers().contains_key(OWN_ONLY);
        call.tell(format_args!("from {}", caller.address));
        let logged_as = if is_peer { format!("{} for {who}", caller.cn) } else { who };
        let method = Method::of(&path);
        let what = method.as_ref().map_or(path.as_str(), |method| &method.name).to_owned();
        let entry = LogEntry { audit: self.audit.clone(), who: logged_as, what, call: call.clone(), done: false };
        let method = match self.allowed(&caller, is_peer, method, &path) {
            Ok(method) => method,
            Err(refusal) => {
                match self.refused.next() {
                    Some(more) => {
                        call.tell(format_args!("{refusal}{more}"));
                        entry.end("refused").map_err(|error| unlogged(&error))?;
                    }
                    None => entry.forget(),
                }
                return Err(refusal);
            }
        };
        request.extensions_mut().insert(call.clone());
        let answered = tokio::time::timeout_at(call.deadline, inner.call(request)).await;
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => Status::from(Refusal::too_late()).into_http(),
        };
        let outcome = match Status::from_header_map(response.headers()) {
            Some(status) if status.code() != tonic::Code::Ok => {
                let refusal = Refusal::from(status);
                call.tell(format_args!("{refusal}"));
                refusal.why.as_str()
            }
            _ => "ok",
        };
        let logged = if method.decides {
            let ended = tokio::task::spawn_blocking(move || entry.decided(outcome)).await;
            ended.unwrap_or_else(|panic| {
                Err(AuditError::Io { folder: Default::default(), source: std::io::Error::other(panic) })
            })
        } else {
            entry.end(outcome)
        };
        logged.map_err(|error| unlogged(&error))?;
        Ok(response)
    }

    fn allowed(&self, caller: &Caller, is_peer: bool, method: Option<Method>, path: &str) -> Result<Method, Refusal> {
        let refused = |message: String| Refusal::new(Why::NotAllowed, message);
        let method = method.ok_or_else(|| refused(format!("{path}: there is no such method")))?;
        let role = if is_peer { Some(Role::Operator) } else { self.roles.of(&caller.cn) };
        if role.is_some_and(|role| role >= method.role) {
            return Ok(method);
        }
        let (name, needed, cn) = (&method.name, method.role.as_str(), &caller.cn);
        Err(refused(format!("{name} needs the role {needed}, which {cn:?} has not: see hub.roles")))
    }

    /// The subject of the certificate; for another hub process, whom it asks for.
    fn who(&self, caller: &Caller, is_peer: bool, headers: &HeaderMap) -> String {
        let on_behalf = headers.get(FOR).filter(|_| is_peer).and_then(|who| who.to_str().ok());
        on_behalf.map_or_else(|| caller.cn.to_string(), names::decode)
    }
}

fn unlogged(error: &AuditError) -> Refusal {
    tracing::error!(%error, "a call is not logged, and so not answered");
    Refusal::new(Why::Unavailable, "the audit log takes nothing, so that nothing is answered: the hub's log says why")
}

/// The caller's time, by the gRPC protocol's header.
fn time(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// What the log will say of a call, however it ends.
struct LogEntry {
    audit: Arc<Audit>,
    who: String,
    what: String,
    call: Call,
    done: bool,
}

impl LogEntry {
    fn end(mut self, outcome: &str) -> Result<(), AuditError> {
        self.done = true;
        self.audit.log(&self.who, &self.what, outcome, &self.call.detail()).map(drop)
    }

    fn forget(mut self) {
        self.done = true;
    }

    fn decided(mut self, outcome: &str) -> Result<(), AuditError> {
        self.done = true;
        self.audit.decide(&self.who, &self.what, outcome, &self.call.detail()).map(drop)
    }
}

/// The caller went away, or its time was over, and nobody waits for an answer.
impl Drop for LogEntry {
    fn drop(&mut self) {
        if !self.done
            && let Err(error) = self.audit.log(&self.who, &self.what, "cancelled", &self.call.detail())
        {
            tracing::error!(%error, "a cancelled call is not logged");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_time_is_read_and_rubbish_is_none() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            time(&headers)
        };
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(
            [of("2S"), of("20m"), of("99999999u"), of("1H")],
            [ms(2_000), ms(20), Some(Duration::from_micros(99_999_999)), ms(3_600_000)]
        );
        assert!(["", "S", "20", "1234567890m", "-1S", "1x"].into_iter().all(|text| of(text).is_none()));
    }

    #[test]
    fn every_method_has_a_rule_and_what_has_none_is_refused() {
        let role = |path: &str| Method::of(path).map(|method| method.role);
        assert_eq!(role("/eddy.region.v1.Region/Search"), Some(Role::Reader));
        assert_eq!(role("/eddy.region.v1.Region/Label"), Some(Role::Labeler));
        assert_eq!(role("/eddy.region.v1.Region/Stats"), Some(Role::Operator));
        assert_eq!(role("/grpc.health.v1.Health/Check"), Some(Role::Reader));
        for path in ["", "/", "/eddy.region.v1.Region/Drop", "/eddy.region.v2.Region/Search", "Search", "/x/Label"] {
            assert!(Method::of(path).is_none(), "{path}");
        }
    }
}
