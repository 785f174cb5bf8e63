//! The requests of MLflow's REST API that a run needs.
//!
//! Knows the server and one run of it; knows no trainer and no thread.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use ureq::Agent;
use ureq::http::Response;

use crate::device::clock::unix_seconds;
use crate::error::{Error, ErrorKind, Result};
use crate::io::file::fault;
use crate::io::json::Value;

pub(super) const OP: &str = "mlflow";
/// A server that is away is found to be so within this time.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A request but for a file's content is over within this time.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// A file's content may take a second more for so many bytes.
const BYTES_A_SECOND: u64 = 1 << 18;
/// Most bytes of an answer that are read.
const ANSWER_MAX: u64 = 1 << 20;
/// Most entries one request may log, and most of them that are no metrics.
pub(super) const NUMBERS_MAX: usize = 1000;
const TEXTS_MAX: usize = 100;
/// Most characters of a name and of a text.
const NAME_MAX: usize = 250;
const TEXT_MAX: usize = 6000;

/// Who asks.
#[derive(Clone)]
pub(super) enum Login {
    Nobody,
    Token(String),
    Password(String, String),
}

/// A metric as the server keeps it.
pub(super) struct Number {
    pub name: String,
    pub value: f64,
    pub step: u64,
    /// Milliseconds since 1970.
    pub time: u64,
}

/// Why a request came to nothing.
pub(super) struct Failure {
    pub error: Error,
    /// The server was not reached, or was not able to answer: later it may.
    pub passing: bool,
}

/// A server.
pub(super) struct Client {
    agent: Agent,
    base: String,
    login: Login,
}

/// A run on a server.
#[derive(Clone)]
pub(super) struct Run {
    pub id: String,
    /// Where its files go, as the server says.
    files: String,
}

/// Milliseconds since 1970.
pub(super) fn now() -> u64 {
    (unix_seconds() * 1000.0) as u64
}

impl Client {
    /// A client of the server at `base`, which was checked; connects to nothing.
    pub fn new(base: &str, login: Login) -> Client {
        // A proxy would come from the environment, which changes nothing here.
        let config = Agent::config_builder().http_status_as_error(false).proxy(None);
        let config = config.timeout_connect(Some(CONNECT_MAX)).user_agent(concat!("wgrad/", env!("CARGO_PKG_VERSION")));
        Client { agent: config.build().new_agent(), base: base.into(), login }
    }

    /// The number of the experiment `name`, which is made when there is none.
    pub fn experiment(&self, name: &str) -> Result<String, Failure> {
        let found = self.get(&format!("experiments/get-by-name?experiment_name={}", percent(name, "")));
        let found = match found {
            Ok(answer) => text(&answer, &["experiment", "experiment_id"]),
            Err(failure) if failure.passing => return Err(failure),
            Err(_) => {
                let made = self.post("experiments/create", vec![("name", Value::Text(name.into()))]);
                match made {
                    Ok(answer) => text(&answer, &["experiment_id"]),
                    Err(failure) => return Err(failure),
                }
            }
        };
        found.ok_or_else(|| self.strange("an experiment"))
    }

    /// A new run.
    pub fn create(&self, experiment: &str, name: Option<&str>) -> Result<Run, Failure> {
        let mut fields =
            vec![("experiment_id", Value::Text(experiment.into())), ("start_time", Value::Int(now().into()))];
        fields.extend(name.map(|name| ("run_name", Value::Text(name.into()))));
        let answer = self.post("runs/create", fields)?;
        self.run_of(&answer)
    }

    /// The run `id`, running again.
    pub fn resume(&self, id: &str) -> Result<Run, Failure> {
        let run = self.run_of(&self.get(&format!("runs/get?run_id={}", percent(id, "")))?)?;
        self.update(&run, "RUNNING", None)?;
        Ok(run)
    }

    fn run_of(&self, answer: &Value) -> Result<Run, Failure> {
        let found = |key: &str| text(answer, &["run", "info", key]);
        match (found("run_id"), found("artifact_uri")) {
            (Some(id), files) => Ok(Run { id, files: files.unwrap_or_default() }),
            _ => Err(self.strange("a run")),
        }
    }

    /// Says how a run stands.
    pub fn update(&self, run: &Run, status: &str, end: Option<u64>) -> Result<(), Failure> {
        let mut fields = vec![("run_id", Value::Text(run.id.clone())), ("status", Value::Text(status.into()))];
        fields.extend(end.map(|time| ("end_time", Value::Int(time.into()))));
        self.post("runs/update", fields).map(drop)
    }

    /// Logs texts under `what`, which is `params` or `tags`.
    pub fn texts(&self, run: &Run, what: &'static str, texts: &[(String, String)]) -> Result<(), Failure> {
        let mut unique: Vec<(String, &str)> = Vec::new();
        for (name, text) in texts {
            let name = named(name);
            unique.retain(|(known, _)| *known != name);
            unique.push((name, text));
        }
        let entry = |(name, text): &(String, &str)| {
            let text = text.chars().take(TEXT_MAX).collect();
            Value::Object(vec![("key".into(), Value::Text(name.clone())), ("value".into(), Value::Text(text))])
        };
        for part in unique.chunks(TEXTS_MAX) {
            self.log(run, what, part.iter().map(entry).collect())?;
        }
        Ok(())
    }

    /// Logs `numbers`, at most [`NUMBERS_MAX`].
    pub fn numbers<'a>(&self, run: &Run, numbers: impl Iterator<Item = &'a Number>) -> Result<(), Failure> {
        let entry = |number: &Number| {
            let value = match number.value {
                x if x.is_finite() => Value::Float(x),
                x if x.is_nan() => Value::Text("NaN".into()),
                x => Value::Text(if x > 0.0 { "Infinity" } else { "-Infinity" }.into()),
            };
            Value::Object(vec![
                ("key".into(), Value::Text(named(&number.name))),
                ("value".into(), value),
                ("timestamp".into(), Value::Int(number.time.into())),
                ("step".into(), Value::Int(number.step.into())),
            ])
        };
        self.log(run, "metrics", numbers.take(NUMBERS_MAX).map(entry).collect())
    }

    fn log(&self, run: &Run, what: &'static str, entries: Vec<Value>) -> Result<(), Failure> {
        let fields = vec![("run_id", Value::Text(run.id.clone())), (what, Value::List(entries))];
        self.post("runs/log-batch", fields).map(drop)
    }

    /// Sends the file at `path` through the server to where the run's files are.
    pub fn file(&self, run: &Run, path: &Path) -> Result<(), Failure> {
        let Some(folder) = proxied(&run.files) else {
            let fact = format!(
                "{}: files go to {}, but only a server that takes them itself can be sent any",
                self.base, run.files
            );
            return Err(lasting(fact));
        };
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let unread = |error| Failure { error: fault(OP, path.display(), error), passing: false };
        let file = File::open(path).map_err(unread)?;
        let bytes = file.metadata().map_err(unread)?.len();
        let to =
            format!("{}/api/2.0/mlflow-artifacts/artifacts{}/{}", self.base, percent(folder, "/"), percent(&name, ""));
        let limit = REQUEST_MAX + Duration::from_secs(bytes / BYTES_A_SECOND);
        let request = self.agent.put(&to).config().timeout_global(Some(limit)).build();
        let mut request = request.header("content-type", "application/octet-stream");
        if let Some(header) = self.login.header() {
            request = request.header("authorization", header);
        }
        self.answer(request.send(&file)).map(drop)
    }

    fn get(&self, what: &str) -> Result<Value, Failure> {
        let request = self.agent.get(format!("{}/api/2.0/mlflow/{what}", self.base));
        let request = request.config().timeout_global(Some(REQUEST_MAX)).build();
        match self.login.header() {
            Some(header) => self.answer(request.header("authorization", header).call()),
            None => self.answer(request.call()),
        }
    }

    fn post(&self, what: &str, fields: Vec<(&str, Value)>) -> Result<Value, Failure> {
        let body = Value::Object(fields.into_iter().map(|(key, value)| (key.to_string(), value)).collect());
        let request = self.agent.post(format!("{}/api/2.0/mlflow/{what}", self.base));
        let request = request.config().timeout_global(Some(REQUEST_MAX)).build();
        let mut request = request.header("content-type", "application/json");
        if let Some(header) = self.login.header() {
            request = request.header("authorization", header);
        }
        self.answer(request.send(body.to_string()))
    }

    /// What the server answered, when it did as it was asked.
    fn answer(&self, came: Result<Response<ureq::Body>, ureq::Error>) -> Result<Value, Failure> {
        let away = |error: ureq::Error| Failure { error: network(format!("{}: {error}", self.base)), passing: true };
        let mut came = came.map_err(away)?;
        let status = came.status();
        let bytes = came.body_mut().with_config().limit(ANSWER_MAX).read_to_vec().map_err(away)?;
        // That a file came is answered by nothing at all.
        let value = if bytes.is_empty() { Ok(Value::Null) } else { Value::parse(&bytes) };
        if status.is_success() {
            return value.map_err(|_| self.strange("JSON"));
        }
        let message = value.ok().and_then(|value| text(&value, &["message"])).unwrap_or_default();
        let message: String = message.chars().take(300).collect();
        let error = network(format!("{}: {status} {message}", self.base).trim().to_string());
        let passing = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
        Err(Failure { error, passing })
    }

    fn strange(&self, wanted: &str) -> Failure {
        lasting(format!("{}: {wanted} was expected as an answer; is it an MLflow server?", self.base))
    }
}

impl Login {
    /// What the header `authorization` holds.
    fn header(&self) -> Option<String> {
        match self {
            Login::Nobody => None,
            Login::Token(token) => Some(format!("Bearer {token}")),
            Login::Password(user, password) => {
                Some(format!("Basic {}", base64(format!("{user}:{password}").as_bytes())))
            }
        }
    }
}

fn network(fact: String) -> Error {
    Error::new(ErrorKind::Network, OP, fact)
}

fn lasting(fact: String) -> Failure {
    Failure { error: network(fact), passing: false }
}

/// The text at a path of keys.
fn text(value: &Value, keys: &[&str]) -> Option<String> {
    let found = keys.iter().try_fold(value, |value, key| value.get(key))?;
    if let Value::Text(text) = found { Some(text.clone()) } else { None }
}

/// A name of the characters that the server takes.
fn named(name: &str) -> String {
    let fits = |c: char| if c.is_alphanumeric() || "_-. /".contains(c) { c } else { '_' };
    let name: String = name.chars().map(fits).take(NAME_MAX).collect();
    // It is a path there, too.
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect();
    if parts.is_empty() { "_".into() } else { parts.join("/") }
}

/// The path behind `mlflow-artifacts:`, whose files the server itself takes.
fn proxied(uri: &str) -> Option<&str> {
    let rest = uri.strip_prefix("mlflow-artifacts:")?;
    match rest.strip_prefix("//") {
        Some(rest) => rest.find('/').map(|at| rest.split_at(at).1),
        None => Some(rest),
    }
}

/// `text` for a URL: bytes other than letters, digits, a few signs and those of `also` as `%XX`.
fn percent(text: &str, also: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || also.as_bytes().contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for part in bytes.chunks(3) {
        let word = part.iter().chain(&[0, 0]).take(3).fold(0u32, |word, &byte| word << 8 | u32::from(byte));
        for k in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * k) & 63) as usize];
            out.push(if k <= part.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_requests() {
        let known =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("\u{ff}", "w78=")];
        known.iter().for_each(|(text, want)| assert_eq!(base64(text.as_bytes()), *want));
        assert_eq!(percent("a b/ä", "/"), "a%20b/%C3%A4");
        assert_eq!(named("top-5: a/../b//c"), "top-5_ a/b/c");
        assert_eq!(named("/"), "_");
        assert_eq!(proxied("mlflow-artifacts:/0/run/artifacts"), Some("/0/run/artifacts"));
        assert_eq!(proxied("mlflow-artifacts://host:1/0/run"), Some("/0/run"));
        assert_eq!(proxied("s3://bucket/0"), None);
    }
}
