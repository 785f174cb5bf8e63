//! [`Mlflow`]: a run told to an MLflow tracking server, on a thread of its own.
//!
//! Training never waits for the server. While it is away, numbers wait for it to come back.

mod client;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::device::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::io::file::read;
use crate::io::write_atomically;
use crate::train::tracker::{RunStart, Tracker};
use client::{Client, Failure, Login, NUMBERS_MAX, Number, OP, Run, now};

/// Numbers are sent when so many wait, or so many seconds after the last were.
const SEND_AT: usize = 500;
const SEND_EVERY: f64 = 1.0;
/// Seconds before a server that was away is tried again.
const RETRY_AFTER: f64 = 10.0;
/// Numbers that wait for a server that is away; the oldest go first.
const WAITING_MAX: usize = 100_000;
/// The file of the run's folder that names the server's run, so that a resumed run goes on with it.
const ID_FILE: &str = "mlflow-run-id";

/// Tells an MLflow tracking server of a run: settings as params, facts as tags, the numbers of
/// steps and epochs as metrics, and the files of the run's folder.
///
/// A server that is away or refuses something ends no run. A run that is resumed goes on with the
/// same run of the server.
///
/// ```no_run
/// # use wgrad::prelude::*;
/// # use wgrad::optim::Sgd;
/// use wgrad::train::{Mlflow, Trainer};
/// # let params = Params::new(&Device::cpu(), 42);
/// let mlflow = Mlflow::new("https://mlflow.example.org", "digits")?.token("secret").tag("team", "vision");
/// let trainer = Trainer::new(&params, Sgd::new(&params, 0.1)).folder("runs/digits").track(mlflow);
/// # Ok::<(), wgrad::Error>(())
/// ```
///
/// Servers are trusted that have a certificate of a public authority. Files go to servers that pass
/// them on, as is the default (`mlflow server --serve-artifacts`).
pub struct Mlflow {
    server: String,
    login: Login,
    experiment: String,
    name: Option<String>,
    tags: Vec<(String, String)>,
    shared: Arc<Shared>,
    worker: Option<(Sender<Message>, JoinHandle<()>)>,
}

/// What the worker says to the one who trains.
#[derive(Default)]
struct Shared {
    /// The first error that was not told yet.
    fault: Mutex<Option<Error>>,
    run: Mutex<Option<String>>,
}

enum Message {
    Numbers(Vec<Number>),
    File(PathBuf),
    End(&'static str),
}

impl Mlflow {
    /// A new run of `experiment` on the server at `uri`, as `http://127.0.0.1:5000`; it is not asked
    /// for anything yet.
    pub fn new(uri: &str, experiment: &str) -> Result<Mlflow> {
        let server = uri.trim_end_matches('/');
        let host = server.strip_prefix("http://").or(server.strip_prefix("https://"));
        let wrong = |fact: &str| Err(Error::new(ErrorKind::Operand, OP, fact));
        match host {
            None | Some("") => return wrong("the URI of a server begins with http:// or https:// and names a host"),
            Some(host) if host.contains('@') => return wrong("a URI with a password: give it by Mlflow::password"),
            Some(host) if host.contains(|c: char| c.is_whitespace() || c.is_control() || "?#".contains(c)) => {
                return wrong("the URI of a server has no spaces, no query and no fragment");
            }
            Some(_) => {}
        }
        Ok(Mlflow {
            server: server.into(),
            login: Login::Nobody,
            experiment: experiment.into(),
            name: None,
            tags: Vec::new(),
            shared: Arc::default(),
            worker: None,
        })
    }

    /// What a person calls the run; else the server thinks of something.
    pub fn run_name(mut self, name: &str) -> Mlflow {
        self.name = Some(name.into());
        self
    }

    /// Shows `token` to the server, as a bearer of it.
    pub fn token(mut self, token: &str) -> Mlflow {
        self.login = Login::Token(token.into());
        self
    }

    /// Tells the server who asks.
    pub fn password(mut self, user: &str, password: &str) -> Mlflow {
        self.login = Login::Password(user.into(), password.into());
        self
    }

    /// Adds a tag to the run.
    pub fn tag(mut self, name: &str, text: &str) -> Mlflow {
        self.tags.push((name.into(), text.into()));
        self
    }

    /// The server's name of the run, once it has one.
    pub fn run_id(&self) -> Option<String> {
        lock(&self.shared.run).clone()
    }

    fn send(&self, message: Message) {
        if let Some((sender, _)) = &self.worker {
            // A worker that ended said why.
            let _ = sender.send(message);
        }
    }

    fn fault(&self) -> Result<()> {
        lock(&self.shared.fault).take().map_or(Ok(()), Err)
    }
}

impl Tracker for Mlflow {
    fn begin(&mut self, run: &RunStart) -> Result<()> {
        let mut tags = self.tags.clone();
        for (name, text) in run.facts {
            tags.push((format!("wgrad/{name}"), text.clone()));
            if name == "commit" {
                tags.push(("mlflow.source.git.commit".into(), text.clone()));
            }
        }
        let (sender, receiver) = channel();
        let worker = Worker {
            client: Client::new(&self.server, self.login.clone()),
            experiment: self.experiment.clone(),
            name: self.name.clone(),
            texts: vec![("params", run.settings.to_vec()), ("tags", tags)],
            id_file: run.folder.map(|folder| folder.join(ID_FILE)),
            goes_on: run.steps > 0,
            run: None,
            numbers: VecDeque::new(),
            files: VecDeque::new(),
            lost: 0,
            away: None,
            shared: self.shared.clone(),
        };
        let run = move || worker.work(&receiver);
        let thread = std::thread::Builder::new().name("wgrad mlflow".into()).spawn(run);
        let thread = thread.map_err(|error| Error::new(ErrorKind::Device, OP, format!("no thread: {error}")))?;
        self.worker = Some((sender, thread));
        Ok(())
    }

    fn numbers(&mut self, step: u64, numbers: &[(&str, f64)]) -> Result<()> {
        let time = now();
        let number = |(name, value): &(&str, f64)| Number { name: name.to_string(), value: *value, step, time };
        self.send(Message::Numbers(numbers.iter().map(number).collect()));
        self.fault()
    }

    fn file(&mut self, path: &Path) -> Result<()> {
        self.send(Message::File(path.into()));
        self.fault()
    }

    /// Waits until all is sent, or could not be.
    fn end(&mut self, finished: bool) -> Result<()> {
        self.send(Message::End(if finished { "FINISHED" } else { "FAILED" }));
        if let Some((sender, thread)) = self.worker.take() {
            drop(sender);
            if thread.join().is_err() {
                return Err(Error::new(ErrorKind::Device, OP, "the thread that sends panicked"));
            }
        }
        self.fault()
    }
}

/// The thread that talks to the server.
struct Worker {
    client: Client,
    experiment: String,
    name: Option<String>,
    /// What is still to be logged of params and tags.
    texts: Vec<(&'static str, Vec<(String, String)>)>,
    id_file: Option<PathBuf>,
    goes_on: bool,
    run: Option<Run>,
    numbers: VecDeque<Number>,
    files: VecDeque<PathBuf>,
    lost: usize,
    /// Since when the server is away.
    away: Option<Clock>,
    shared: Arc<Shared>,
}

impl Worker {
    fn work(mut self, messages: &Receiver<Message>) {
        let mut sent = Clock::start();
        let mut status = None;
        // The run shall be there from the beginning.
        self.flush();
        while status.is_none() {
            match messages.recv_timeout(Duration::from_secs_f64(SEND_EVERY)) {
                Ok(Message::Numbers(numbers)) => self.numbers.extend(numbers),
                Ok(Message::File(path)) => self.files.push_back(path),
                Ok(Message::End(end)) => status = Some(end),
                Err(RecvTimeoutError::Timeout) => {}
                // Nobody said how the run ended.
                Err(RecvTimeoutError::Disconnected) => status = Some("KILLED"),
            }
            while self.numbers.len() > WAITING_MAX {
                self.numbers.pop_front();
                self.lost += 1;
            }
            let due = self.numbers.len() >= SEND_AT || sent.seconds() >= SEND_EVERY;
            if status.is_none() && due && self.away.is_none_or(|since| since.seconds() >= RETRY_AFTER) {
                self.flush();
                sent = Clock::start();
            }
        }
        self.flush();
        if let (Some(run), Some(status), None) = (&self.run, status, self.away)
            && let Err(failure) = self.client.update(run, status, Some(now()))
        {
            self.note(failure.error);
        }
        let lost = self.lost + self.numbers.len();
        if lost + self.files.len() > 0 {
            let fact = format!("{lost} numbers and {} files were not sent", self.files.len());
            self.note(Error::new(ErrorKind::Network, OP, fact));
        }
    }

    /// Sends all that waits, unless the server is away.
    fn flush(&mut self) {
        match self.send() {
            Ok(()) => self.away = None,
            Err(failure) => {
                self.away = Some(Clock::start());
                self.note(failure.error);
            }
        }
    }

    /// Sends all that waits; an error when the server is away or has no run for us. What else it
    /// refuses is noted and dropped.
    fn send(&mut self) -> Result<(), Failure> {
        let run = self.opened()?;
        while let Some((what, texts)) = self.texts.last() {
            let done = self.client.texts(&run, what, texts);
            self.settled(done)?;
            self.texts.pop();
        }
        while !self.numbers.is_empty() {
            let n = self.numbers.len().min(NUMBERS_MAX);
            let done = self.client.numbers(&run, self.numbers.iter().take(n));
            self.settled(done)?;
            self.numbers.drain(..n);
        }
        while let Some(path) = self.files.front() {
            let done = self.client.file(&run, path);
            self.settled(done)?;
            self.files.pop_front();
        }
        Ok(())
    }

    /// The server's run, found or made by the first call that reaches it.
    fn opened(&mut self) -> Result<Run, Failure> {
        if let Some(run) = &self.run {
            return Ok(run.clone());
        }
        let run = self.open()?;
        *lock(&self.shared.run) = Some(run.id.clone());
        if let Some(path) = &self.id_file
            && let Err(error) = write_atomically(path, |out| out.put(run.id.as_bytes()))
        {
            self.note(error);
        }
        self.run = Some(run.clone());
        Ok(run)
    }

    fn open(&self) -> Result<Run, Failure> {
        if let Some(path) = self.id_file.as_ref().filter(|path| self.goes_on && path.exists()) {
            let id = read(OP, path).map_err(|error| Failure { error, passing: false })?;
            match self.client.resume(String::from_utf8_lossy(&id).trim()) {
                // Another server, or the run was deleted there.
                Err(failure) if !failure.passing => {}
                other => return other,
            }
        }
        let experiment = self.client.experiment(&self.experiment)?;
        self.client.create(&experiment, self.name.as_deref())
    }

    /// What came of a request: what was refused is noted, and only a server that is away is an error.
    fn settled(&self, done: Result<(), Failure>) -> Result<(), Failure> {
        match done {
            Err(failure) if !failure.passing => self.note(failure.error),
            other => return other,
        }
        Ok(())
    }

    fn note(&self, error: Error) {
        lock(&self.shared.fault).get_or_insert(error);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
