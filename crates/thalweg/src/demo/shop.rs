//! An online shop of eight services that log as real ones do.
//!
//! A request enters at `web` and fans out to the services behind it; every service it touches
//! logs one or more events under the request's trace id, and ends a span of its own. Latencies are
//! log-normal, so most are short and some are long. While the incident is on, `payment` waits
//! for database connections and fails; `checkout` and `web` suffer with it.

use std::fmt::Write as _;

use fastrand::Rng;

/// The eight services.
pub const SERVICES: [&str; 8] =
    ["web", "catalog", "search", "cart", "checkout", "payment", "inventory", "shipping"];

const REGIONS: [&str; 3] = ["eu-central", "eu-west", "us-east"];
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/139.0 Safari/537.36",
    "shop-android/7.4.1",
];
const PRODUCTS: u64 = 5_000;
const USERS: u64 = 20_000;

/// Events as JSON lines, and spans.
#[derive(Debug, Default)]
pub struct Lines {
    /// The lines, each with its newline.
    pub text: String,
    /// When each happened, nanoseconds since the Unix epoch.
    pub times: Vec<i64>,
    /// The calls that made them.
    pub spans: Vec<Span>,
}

impl Lines {
    /// Forgets what was written.
    pub fn clear(&mut self) {
        self.text.clear();
        self.times.clear();
        self.spans.clear();
    }
}

/// What a service tells of a call that it answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// When it ended, nanoseconds since the Unix epoch.
    pub end_nanos: i64,
    /// When it began.
    pub start_nanos: i64,
    /// The service that answered.
    pub service: &'static str,
    /// Id of the request.
    pub trace: u128,
    /// Its own id.
    pub span: u64,
    /// Id of the call that made it, if a service did.
    pub parent: Option<u64>,
    /// HTTP method.
    pub method: &'static str,
    /// HTTP path.
    pub path: String,
    /// HTTP status of the answer.
    pub status: u16,
}

/// The shop: makes requests and writes the events they cause.
pub struct Shop {
    random: Rng,
    event_prefix: Option<String>,
    next_event: u64,
}

/// One call of one service within a request.
struct Call<'r> {
    request: &'r Request,
    service: &'static str,
    span: u64,
    parent: Option<u64>,
    start_nanos: i64,
    duration_ms: f64,
    method: &'static str,
    path: String,
    status: u16,
}

/// What all events of a request have in common.
struct Request {
    trace: u128,
    user: u64,
    region: &'static str,
    client: [u8; 4],
    agent: &'static str,
}

impl Call<'_> {
    fn end_nanos(&self) -> i64 {
        self.start_nanos + (self.duration_ms * 1e6) as i64
    }

    /// The span of the call, once it is answered.
    fn answered(self, out: &mut Lines) {
        out.spans.push(Span {
            end_nanos: self.end_nanos(),
            start_nanos: self.start_nanos,
            service: self.service,
            trace: self.request.trace,
            span: self.span,
            parent: self.parent,
            method: self.method,
            path: self.path,
            status: self.status,
        });
    }
}

impl Shop {
    /// A shop whose whole behaviour follows from `seed`. Its events are numbered from 0; with an
    /// `event_prefix` they carry the ids `{event_prefix}{number}`, else none.
    pub fn new(seed: u64, event_prefix: Option<String>) -> Self {
        Self { random: Rng::with_seed(seed), event_prefix, next_event: 0 }
    }

    /// Number of events written so far.
    pub fn events(&self) -> u64 {
        self.next_event
    }

    /// Plays one request that began at `start_nanos` and appends its events to `out`.
    pub fn request(&mut self, start_nanos: i64, incident: bool, out: &mut Lines) {
        let request = Request {
            trace: self.random.u128(..),
            user: self.skewed(USERS),
            region: REGIONS[self.random.usize(..REGIONS.len())],
            client: [10, self.random.u8(..4), self.random.u8(..), self.random.u8(1..)],
            agent: AGENTS[self.random.usize(..AGENTS.len())],
        };
        match self.random.u32(..100) {
            0..=44 => self.browse(&request, start_nanos, out),
            45..=69 => self.search(&request, start_nanos, out),
            70..=89 => self.add_to_cart(&request, start_nanos, out),
            _ => self.check_out(&request, start_nanos, incident, out),
        }
    }

    fn browse(&mut self, request: &Request, start: i64, out: &mut Lines) {
        let product = self.skewed(PRODUCTS);
        let missing = self.chance(0.01);
        let status = if missing { 404 } else { 200 };
        let web = self.span();
        let stock = self.latency(4.0);
        let catalog = self.latency(12.0) + stock;
        let mut call = self.call(
            request,
            "catalog",
            Some(web),
            start,
            catalog,
            "GET",
            format!("/products/{product}"),
        );
        call.status = status;
        let text = if missing {
            format!("product {product} not found")
        } else {
            format!(
                "product {product} served from {}",
                if self.chance(0.8) { "cache" } else { "database" }
            )
        };
        self.log(
            &call,
            if missing { "WARN" } else { "INFO" },
            &text,
            &[("product.id", product)],
            out,
        );
        if !missing {
            let stock_call = self.call(
                request,
                "inventory",
                Some(call.span),
                start,
                stock,
                "GET",
                format!("/stock/{product}"),
            );
            let units = self.random.u64(..200);
            self.log(
                &stock_call,
                "DEBUG",
                &format!("{units} units of product {product} in stock"),
                &[("stock.units", units)],
                out,
            );
            stock_call.answered(out);
        }
        call.answered(out);
        self.front(
            request,
            web,
            start,
            catalog,
            "GET",
            format!("/products/{product}"),
            status,
            out,
        );
    }

    fn search(&mut self, request: &Request, start: i64, out: &mut Lines) {
        const WORDS: [&str; 8] = [
            "boots",
            "rain jacket",
            "tent",
            "stove",
            "café mug",
            "rope \"10 mm\"",
            "lamp",
            "socks",
        ];
        let words = WORDS[self.random.usize(..WORDS.len())];
        let web = self.span();
        let duration = self.latency(25.0);
        let hits = self.random.u64(..400);
        let mut call =
            self.call(request, "search", Some(web), start, duration, "POST", "/search".to_owned());
        call.status = 200;
        self.log(
            &call,
            "INFO",
            &format!("search for {words} found {hits} products"),
            &[("search.hits", hits)],
            out,
        );
        if duration > 80.0 {
            self.log(
                &call,
                "WARN",
                &format!("slow query took {duration:.0} ms"),
                &[("search.shards", 12)],
                out,
            );
        }
        call.answered(out);
        self.front(request, web, start, duration, "GET", "/search".to_owned(), 200, out);
    }

    fn add_to_cart(&mut self, request: &Request, start: i64, out: &mut Lines) {
        let product = self.skewed(PRODUCTS);
        let web = self.span();
        let stock = self.latency(5.0);
        let duration = self.latency(9.0) + stock;
        let call = self.call(
            request,
            "cart",
            Some(web),
            start,
            duration,
            "POST",
            "/cart/items".to_owned(),
        );
        let items = self.random.u64(1..8);
        self.log(
            &call,
            "INFO",
            &format!("product {product} added, {items} items in cart"),
            &[("product.id", product), ("cart.items", items)],
            out,
        );
        let stock_call = self.call(
            request,
            "inventory",
            Some(call.span),
            start,
            stock,
            "POST",
            format!("/stock/{product}/reserve"),
        );
        self.log(
            &stock_call,
            "INFO",
            &format!("reserved 1 unit of product {product}"),
            &[("product.id", product)],
            out,
        );
        stock_call.answered(out);
        call.answered(out);
        self.front(request, web, start, duration, "POST", "/cart/items".to_owned(), 201, out);
    }

    fn check_out(&mut self, request: &Request, start: i64, incident: bool, out: &mut Lines) {
        let order = self.random.u64(100_000..1_000_000);
        let cents = self.random.u64(500..50_000);
        let web = self.span();
        let failed = self.chance(if incident { 0.7 } else { 0.004 });
        let wait = if incident { self.latency(1_800.0) } else { 0.0 };
        let paid = self.latency(60.0) + wait;
        let shipped = self.latency(15.0);
        let duration = self.latency(20.0) + paid + if failed { 0.0 } else { shipped };

        let mut checkout = self.call(
            request,
            "checkout",
            Some(web),
            start,
            duration,
            "POST",
            "/checkout".to_owned(),
        );
        let mut payment = self.call(
            request,
            "payment",
            Some(checkout.span),
            start + 3_000_000,
            paid,
            "POST",
            "/charges".to_owned(),
        );
        let order_fields = [("order.id", order), ("order.cents", cents)];
        if incident {
            let text = format!(
                "waited {wait:.0} ms for a database connection, pool exhausted (20 of 20 in use)"
            );
            self.log(&payment, "WARN", &text, &[("db.pool.size", 20)], out);
        }
        if failed {
            (payment.status, checkout.status) = (503, 502);
            self.log(
                &payment,
                "ERROR",
                &format!("charge of order {order} failed: timeout acquiring connection"),
                &order_fields,
                out,
            );
            self.log(
                &checkout,
                "ERROR",
                &format!("order {order} not placed: payment answered 503"),
                &order_fields,
                out,
            );
        } else {
            self.log(
                &payment,
                "INFO",
                &format!("charged order {order}: {}.{:02} EUR", cents / 100, cents % 100),
                &order_fields,
                out,
            );
            let shipping = self.call(
                request,
                "shipping",
                Some(checkout.span),
                start + (paid * 1e6) as i64,
                shipped,
                "POST",
                "/parcels".to_owned(),
            );
            self.log(
                &shipping,
                "INFO",
                &format!("parcel for order {order} booked"),
                &[("order.id", order)],
                out,
            );
            shipping.answered(out);
            self.log(&checkout, "INFO", &format!("order {order} placed"), &order_fields, out);
        }
        payment.answered(out);
        checkout.answered(out);
        let status = if failed { 502 } else { 200 };
        self.front(
            request,
            web,
            start,
            duration + 2.0,
            "POST",
            "/checkout".to_owned(),
            status,
            out,
        );
    }

    /// The access-log event of the service that faces the customer.
    #[allow(clippy::too_many_arguments)]
    fn front(
        &mut self,
        request: &Request,
        span: u64,
        start: i64,
        behind_ms: f64,
        method: &'static str,
        path: String,
        status: u16,
        out: &mut Lines,
    ) {
        let text = format!("{method} {path} {status}");
        let duration_ms = behind_ms + self.latency(2.0);
        let call = Call {
            request,
            service: "web",
            span,
            parent: None,
            start_nanos: start,
            duration_ms,
            method,
            path,
            status,
        };
        let level = match status {
            500.. => "ERROR",
            400.. => "WARN",
            _ => "INFO",
        };
        self.log(&call, level, &text, &[], out);
        call.answered(out);
    }

    #[allow(clippy::too_many_arguments)]
    fn call<'r>(
        &mut self,
        request: &'r Request,
        service: &'static str,
        parent: Option<u64>,
        start_nanos: i64,
        duration_ms: f64,
        method: &'static str,
        path: String,
    ) -> Call<'r> {
        Call {
            request,
            service,
            span: self.span(),
            parent,
            start_nanos,
            duration_ms,
            method,
            path,
            status: 200,
        }
    }

    /// Writes one event, stamped with the end of its call.
    fn log(
        &mut self,
        call: &Call<'_>,
        level: &str,
        message: &str,
        fields: &[(&str, u64)],
        out: &mut Lines,
    ) {
        let time = call.end_nanos();
        out.times.push(time);
        let out = &mut out.text;
        let time = chrono::DateTime::from_timestamp_nanos(time).format("%Y-%m-%dT%H:%M:%S%.6fZ");
        let [a, b, c, d] = call.request.client;
        let id = match &self.event_prefix {
            Some(prefix) => format!(r#""event_id":"{prefix}{}","#, self.next_event),
            None => String::new(),
        };
        self.next_event += 1;
        // `web` speaks version 2 of the envelope, the others version 1.
        let end = if call.service == "web" {
            write!(
                out,
                r#"{{"schemaVersion":"2.0","requiredFields":{{"timestamp":"{time}","service":"web","level":"{level}"}},"message":{},"optionalFields":{{{id}"traceId":"{:032x}","spanId":"{:016x}","host":"web-{}","environment":"demo","http_method":"{}","http_path":"{}","http_status":{},"duration_ms":{:.3},"client_ip":"{a}.{b}.{c}.{d}","user_agent":"{}","bytes":{},"customDimensions":{{"user.id":{},"region":"{}""#,
                serde_json::Value::from(message), call.request.trace, call.span, call.span % 3, call.method,
                call.path, call.status, call.duration_ms, call.request.agent, 200 + call.span % 40_000,
                call.request.user, call.request.region,
            ).map(|()| "}}}\n")
        } else {
            let parent = call.parent.unwrap_or(0);
            write!(
                out,
                r#"{{"timestamp":"{time}","service":"{}","level":"{level}","message":{},{id}"trace_id":"{:032x}","span_id":"{:016x}","host":"{}-{}","environment":"demo","http_method":"{}","http_path":"{}","http_status":{},"duration_ms":{:.3},"metadata":{{"parent.span_id":"{parent:016x}","user.id":{},"region":"{}""#,
                call.service, serde_json::Value::from(message), call.request.trace, call.span, call.service,
                call.span % 3, call.method, call.path, call.status, call.duration_ms, call.request.user,
                call.request.region,
            ).map(|()| "}}\n")
        };
        for (key, value) in fields {
            write!(out, r#","{key}":{value}"#).expect("writing to a String cannot fail");
        }
        out.push_str(end.expect("writing to a String cannot fail"));
    }

    fn span(&mut self) -> u64 {
        self.random.u64(1..)
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.random.f64() < probability
    }

    /// Log-normal latency with the given median, σ = 0.5.
    fn latency(&mut self, median_ms: f64) -> f64 {
        // Box–Muller transform.
        let (u, v) = (1.0 - self.random.f64(), self.random.f64());
        let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        median_ms * (0.5 * normal).exp()
    }

    /// A number below `n`, small ones far more often: some products and users are popular.
    fn skewed(&mut self, n: u64) -> u64 {
        (self.random.f64().powi(3) * n as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;

    fn write(requests: usize, incident: bool) -> (Lines, u64) {
        let mut shop = Shop::new(7, Some("t-".into()));
        let mut out = Lines::default();
        (0..requests)
            .for_each(|i| shop.request(1_700_000_000_000_000_000 + i as i64, incident, &mut out));
        (out, shop.events())
    }

    fn play(requests: usize, incident: bool) -> Vec<Value> {
        let (out, written) = write(requests, incident);
        let events: Vec<Value> =
            out.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.len() as u64, written);
        events
    }

    fn service(event: &Value) -> &str {
        event["service"].as_str().or(event["requiredFields"]["service"].as_str()).unwrap()
    }

    fn level(event: &Value) -> &str {
        event["level"].as_str().or(event["requiredFields"]["level"].as_str()).unwrap()
    }

    #[test]
    fn every_service_logs_and_traces_cross_services() {
        let events = play(500, false);
        let services: BTreeSet<&str> = events.iter().map(service).collect();
        assert_eq!(services, SERVICES.into_iter().collect());
        let mut by_trace: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for event in &events {
            let trace = event["trace_id"].as_str().or(event["optionalFields"]["traceId"].as_str());
            by_trace.entry(trace.unwrap()).or_default().insert(service(event));
        }
        assert_eq!(by_trace.len(), 500);
        assert!(by_trace.values().all(|services| services.len() >= 2));
    }

    #[test]
    fn each_call_ends_one_span_below_that_of_its_caller() {
        let spans = write(500, true).0.spans;
        let ids: BTreeSet<u64> = spans.iter().map(|span| span.span).collect();
        assert_eq!(ids.len(), spans.len());
        let logged: BTreeSet<u64> = play(500, true)
            .iter()
            .map(|event| event["span_id"].as_str().or(event["optionalFields"]["spanId"].as_str()))
            .map(|id| u64::from_str_radix(id.unwrap(), 16).unwrap())
            .collect();
        assert_eq!(ids, logged);
        let roots = spans.iter().filter(|span| span.parent.is_none());
        assert!(roots.clone().all(|span| span.service == "web") && roots.count() == 500);
        assert!(spans.iter().filter_map(|span| span.parent).all(|parent| ids.contains(&parent)));
    }

    #[test]
    fn the_incident_is_caused_by_payment_and_suffered_by_checkout_and_web() {
        let errors = |incident| {
            let mut errors: BTreeMap<String, usize> = BTreeMap::new();
            for event in play(2_000, incident).iter().filter(|event| level(event) == "ERROR") {
                *errors.entry(service(event).to_owned()).or_default() += 1;
            }
            errors
        };
        let (quiet, troubled) = (errors(false), errors(true));
        assert!(quiet.values().all(|n| *n < 10), "{quiet:?}");
        assert_eq!(troubled.keys().collect::<Vec<_>>(), ["checkout", "payment", "web"]);
        assert!(troubled["payment"] > 80, "{troubled:?}");
    }

    #[test]
    fn the_same_seed_plays_the_same_requests() {
        assert_eq!(play(50, true), play(50, true));
    }
}
