//! What is asked for, and what every answer says besides.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response, Sse},
    routing::{get, post},
};
use serde::Deserialize;
use tokio::{
    sync::{Mutex, Semaphore},
    time::timeout,
};

use super::{
    access::{Access, No},
    acts::Act,
    events,
    live::Live,
    shown::Asked,
};
use crate::{
    receipts,
    watch::{act::Operator, plots},
};

/// Pages that look at once.
pub(super) const STREAMS_MAX: usize = 16;
/// Alerts whose curves are read at once: each may read a hundred megabytes of streams.
const PLOTS_MAX: usize = 2;
/// How long curves and receipts may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 16 << 10;
/// Bytes of a filter.
const FILTER_BYTES_MAX: usize = 200;

const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                   frame-ancestors 'none'; form-action 'self'; base-uri 'none'";
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";

/// The page's files: path, type, text.
const FILES: [(&str, &str, &str); 7] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/style.css", CSS, include_str!("page/style.css")),
    ("/console.js", JS, include_str!("page/console.js")),
    ("/incidents.js", JS, include_str!("page/incidents.js")),
    ("/machine.js", JS, include_str!("page/machine.js")),
    ("/plot.js", JS, include_str!("page/plot.js")),
    ("/dom.js", JS, include_str!("page/dom.js")),
];
const LOGIN: &str = include_str!("page/login.html");

/// What answers.
pub(super) struct Console {
    live: Live,
    access: Access,
    who: String,
    dir: std::path::PathBuf,
    streams: Arc<Semaphore>,
    plots: Semaphore,
    /// One decision after the other.
    acts: Mutex<()>,
}

impl Console {
    pub fn new(live: Live, access: Access, who: String, dir: std::path::PathBuf) -> Self {
        let (streams, plots) = (Arc::new(Semaphore::new(STREAMS_MAX)), Semaphore::new(PLOTS_MAX));
        Self { live, access, who, dir, streams, plots, acts: Mutex::new(()) }
    }
}

type Shared = State<Arc<Console>>;

/// All of them, behind [`Access`].
pub(super) fn routes(console: Arc<Console>) -> Router {
    let mut routes = Router::new();
    for (path, kind, text) in FILES {
        routes = routes.route(path, get(move || async move { ([(header::CONTENT_TYPE, kind)], text) }));
    }
    routes
        .route("/events", get(events))
        .route("/plots/{alert}", get(curves))
        .route("/receipts", get(receipts_of))
        .route("/act", post(act))
        .route("/login", post(login))
        .route("/healthz", get(|| async { "well" }))
        .layer(middleware::from_fn_with_state(console.clone(), guard))
        .with_state(console)
}

/// Before and after every request.
async fn guard(State(console): Shared, request: Request, next: Next) -> Response {
    let allowed = console.access.check(request.method(), request.uri().path(), request.headers());
    let is_page = request.method() == Method::GET && request.uri().path() == "/";
    let mut answer = match allowed {
        Ok(()) => next.run(request).await,
        Err(No::Host) => {
            problem(StatusCode::FORBIDDEN, "the Host header names none of this console's addresses: see --host")
        }
        Err(No::Origin) => problem(StatusCode::FORBIDDEN, "this is answered to the console's own page alone"),
        Err(No::Token) if is_page => login_page(StatusCode::UNAUTHORIZED),
        Err(No::Token) => problem(StatusCode::UNAUTHORIZED, "the token is missing, wrong or was changed: log in at /"),
    };
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CSP),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    // The login form must say where it comes from, which browsers tie to this.
    headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
    answer
}

/// Views, as they change.
async fn events(State(console): Shared, Query(asked): Query<Filter>, headers: HeaderMap) -> Response {
    if asked.filter.len() > FILTER_BYTES_MAX {
        return problem(StatusCode::BAD_REQUEST, &format!("a filter of up to {FILTER_BYTES_MAX} bytes is taken"));
    }
    let Ok(place) = console.streams.clone().try_acquire_owned() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, &format!("{STREAMS_MAX} pages look at this console already"));
    };
    let asked = Asked { who: console.who.clone(), filter: asked.filter };
    let (views, asks) = (console.live.views(), console.clone());
    let may = move || asks.access.knows_token(&headers);
    Sse::new(events::stream(views, asked, may, place)).into_response()
}

#[derive(Deserialize)]
struct Filter {
    #[serde(default)]
    filter: String,
}

/// An alert's curves.
async fn curves(State(console): Shared, Path(id): Path<String>) -> Response {
    let (_, view) = console.live.views().borrow().clone();
    let mut alerts = view.alerts.incidents.iter().flat_map(|incident| &incident.alerts);
    let Some(alert) = alerts.find(|alert| alert.alert == id) else {
        return problem(StatusCode::NOT_FOUND, "no such alert is held here: it may be too old");
    };
    let read = async {
        let _place = console.plots.acquire().await;
        plots::of(&console.live.gateway(), alert).await
    };
    match timeout(PATIENCE, read).await {
        Ok(Ok(plots)) => json(&plots),
        Ok(Err(error)) => problem(StatusCode::BAD_GATEWAY, &error.to_string()),
        Err(_) => problem(StatusCode::GATEWAY_TIMEOUT, "the streams were not read in time"),
    }
}

/// What the region has of this site.
async fn receipts_of(State(console): Shared) -> Response {
    let gateway = console.live.gateway();
    match timeout(PATIENCE, receipts::ask(&gateway, &gateway.site)).await {
        Ok(Ok(receipts)) => json(&receipts),
        Ok(Err(error)) => problem(StatusCode::BAD_GATEWAY, &format!("{error:#}")),
        Err(_) => problem(StatusCode::GATEWAY_TIMEOUT, "the region does not answer"),
    }
}

/// What somebody decided.
async fn act(State(console): Shared, headers: HeaderMap, body: Body) -> Response {
    // A form of another page cannot say so.
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != JSON) {
        return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "application/json is taken");
    }
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, &format!("up to {BODY_BYTES_MAX} bytes are taken"));
    };
    let act: Act = match serde_json::from_slice(&body) {
        Ok(act) => act,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("no decision: {error}")),
    };
    let Ok(_place) = timeout(PATIENCE, console.acts.lock()).await else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "others decide: nothing was done");
    };
    let (_, view) = console.live.views().borrow().clone();
    let operator = Operator::new(console.live.gateway(), &console.dir, "console", console.who.clone());
    // In a task of its own: a page that goes away does not stop between the log and the gateway.
    match tokio::spawn(async move { act.done_by(&operator, &view).await }).await {
        Ok(Ok(said)) => json(&serde_json::json!({ "said": said })),
        Ok(Err((code, told))) => problem(code, &told),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// The form's token becomes a cookie.
async fn login(State(console): Shared, body: Body) -> Response {
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, &format!("up to {BODY_BYTES_MAX} bytes are taken"));
    };
    let form = String::from_utf8_lossy(&body);
    let said = form.strip_prefix("token=").map(|token| eddy_schemas::names::decode(&token.replace('+', " ")));
    match console.access.login(said.as_deref().unwrap_or_default()).await {
        Some(cookie) => {
            (StatusCode::SEE_OTHER, [(header::SET_COOKIE, cookie), (header::LOCATION, "/".to_owned())]).into_response()
        }
        None => login_page(StatusCode::UNAUTHORIZED),
    }
}

fn login_page(code: StatusCode) -> Response {
    (code, [(header::CONTENT_TYPE, HTML), (header::REFERRER_POLICY, "same-origin")], LOGIN).into_response()
}

fn json(value: &impl serde::Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => ([(header::CONTENT_TYPE, JSON)], text).into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn problem(code: StatusCode, what: &str) -> Response {
    let text = serde_json::json!({ "problem": what }).to_string();
    (code, [(header::CONTENT_TYPE, JSON)], text).into_response()
}
