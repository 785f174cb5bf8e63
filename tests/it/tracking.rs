//! What trackers are told, and that none of them can end a run; MLflow's requests, to a server of
//! the test's own. `tests/tracking` asks the real programs.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use wgrad::data::{Array, Loader, TensorDataset};
use wgrad::optim::{Schedule, Sgd};
use wgrad::prelude::*;
use wgrad::train::{Outcome, Report, RunStart, Tracker, Trainer};

use crate::hostile::Folder;

/// Four samples in two batches; the loss of the first step is that of the first batch.
fn fit(trainer: impl FnOnce(Trainer<Sgd>) -> Trainer<Sgd>) -> Report {
    let params = Params::new(&Device::cpu(), 7);
    let w = params.weight("w", [1], Init::Zeros);
    let column = || Array::new(&[1.0f32, 2.0, 3.0, 4.0], [4, 1]).unwrap();
    let train = Loader::new(TensorDataset::of_arrays(column(), column()).unwrap(), 2);
    let sgd = Sgd::new(&params, 0.01).schedule(Schedule::step(1, 0.5));
    let mut trainer = trainer(Trainer::new(&params, sgd).quiet().setting("lr", 0.01));
    let report = trainer.fit(&train, None, |batch, pass| {
        let outputs = &batch.x * w.tensor(pass);
        Outcome { loss: outputs.mse_loss(&batch.y, Reduce::Mean), outputs }
    });
    report.unwrap()
}

/// Keeps what it is told, and fails when it is told to.
#[derive(Default)]
struct Told {
    lines: Vec<String>,
    fails: bool,
}

impl Told {
    fn line(&mut self, line: String) -> wgrad::Result<()> {
        self.lines.push(line);
        let error = || Error::new(wgrad::ErrorKind::Network, "told", format!("line {}", self.lines.len()));
        if self.fails { Err(error()) } else { Ok(()) }
    }
}

impl Tracker for Told {
    fn begin(&mut self, run: &RunStart) -> wgrad::Result<()> {
        let facts: Vec<&str> = run.facts.iter().map(|(name, _)| name.as_str()).collect();
        assert!(["version", "device", "seed"].iter().all(|fact| facts.contains(fact)), "{facts:?}");
        self.line(format!("begin {} {:?}", run.steps, run.settings))
    }
    fn numbers(&mut self, step: u64, numbers: &[(&str, f64)]) -> wgrad::Result<()> {
        let numbers: Vec<String> = numbers.iter().map(|(name, x)| format!("{name} {x:.3}")).collect();
        self.line(format!("{step}: {}", numbers.join(", ")))
    }
    fn file(&mut self, path: &Path) -> wgrad::Result<()> {
        self.line(format!("file {}", path.file_name().unwrap().to_string_lossy()))
    }
    fn end(&mut self, finished: bool) -> wgrad::Result<()> {
        self.line(format!("end {finished}"))
    }
}

#[test]
fn a_tracker_is_told_everything_once() {
    let folder = Folder::new("told");
    let (told, failing) = (Rc::new(RefCell::new(Told::default())), Rc::new(RefCell::new(Told::default())));
    failing.borrow_mut().fails = true;
    let track = |trainer: Trainer<Sgd>, epochs| {
        trainer.epochs(epochs).folder(folder.path("run")).resume(true).track(told.clone()).track(failing.clone())
    };
    let report = fit(|trainer| track(trainer, 1));
    let want = [
        "begin 0 [(\"lr\", \"0.01\")]",
        "1: loss/step 2.500, learning rate 0.010",
        "2: loss/step 11.281, learning rate 0.005",
        "2: loss/train 6.891",
        "file best.safetensors",
        "file curves.svg",
        "file record.jsonl",
        "end true",
    ];
    assert_eq!(told.borrow().lines, want);
    assert_eq!(failing.borrow().lines, want);
    let errors: Vec<String> = report.tracker_errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["told: line 1"], "the first one is told, once");
    told.borrow_mut().lines.clear();
    fit(|trainer| track(trainer, 2));
    assert_eq!(told.borrow().lines[0], "begin 2 [(\"lr\", \"0.01\")]");
    assert!(told.borrow().lines[1].starts_with("3: loss/step "), "{:?}", told.borrow().lines);
}

#[test]
fn the_record_names_what_the_bits_depend_on() {
    let folder = Folder::new("named");
    fit(|trainer| trainer.epochs(2).folder(folder.path("run")));
    let text = std::fs::read_to_string(folder.path("run").join("record.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for field in
        ["\"crate\":\"wgrad ", "\"features\":[", "\"commit\":", "\"device\":\"cpu\"", "\"driver\":null", "\"seed\":7"]
    {
        assert!(lines[0].contains(field), "{field} is not in {}", lines[0]);
    }
    assert!(lines[0].contains("\"files\":[") && lines[0].contains("\"settings\":{\"lr\":\"0.01\"}"), "{}", lines[0]);
    assert!(lines[1].contains("\"seconds\":") && lines[1].contains("\"loss/train\":"), "{}", lines[1]);
    // The plans of the first steps, by their fingerprints; the steps after them made none.
    let plans = |line: &str| line.split_once("\"plans\":[\"").map_or(0, |(_, rest)| rest.find('"').unwrap());
    assert!(lines[..2].iter().any(|line| plans(line) == 16), "{text}");
}

#[cfg(feature = "mlflow")]
mod mlflow {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    use wgrad::train::Mlflow;

    use super::*;

    type Requests = Arc<Mutex<Vec<(String, String)>>>;

    /// A server that answers every request by `answer`, of its first line and its body; its URI and
    /// what it was asked.
    fn server(answer: impl Fn(&str, &str) -> (u16, String) + Send + 'static) -> (String, Requests) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let asked = Requests::default();
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                        break;
                    }
                    let lower = line.to_lowercase();
                    length = lower.strip_prefix("content-length: ").map_or(length, |n| n.trim().parse().unwrap());
                    head.push_str(&line);
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let body = String::from_utf8_lossy(&body).into_owned();
                let (status, text) = answer(head.lines().next().unwrap_or(""), &body);
                log.lock().unwrap().push((head, body));
                let n = text.len();
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {n}\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(format!("{head}{text}").as_bytes());
            }
        });
        (uri, asked)
    }

    /// What a server says that does what it is asked.
    fn good(head: &str, _: &str) -> (u16, String) {
        let run = "{\"run\":{\"info\":{\"run_id\":\"r1\",\"artifact_uri\":\"mlflow-artifacts:/5/r1/artifacts\"}}}";
        let answers = [
            ("get-by-name", "{\"message\":\"no such experiment\"}"),
            ("experiments/create", "{\"experiment_id\":\"5\"}"),
            ("runs/create", run),
            ("runs/get", run),
            ("PUT", ""),
        ];
        let found = answers.iter().find(|(part, _)| head.contains(part)).map_or("{}", |(_, text)| text);
        (if head.contains("get-by-name") { 404 } else { 200 }, found.into())
    }

    fn errors(mlflow: Mlflow) -> Vec<String> {
        fit(|trainer| trainer.epochs(2).track(mlflow)).tracker_errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn mlflow_is_asked_for_what_it_should_be() {
        let folder = Folder::new("mlflow");
        let (uri, asked) = server(good);
        let run = |epochs| {
            let mlflow = Mlflow::new(&uri, "a b").unwrap().password("me", "secret").run_name("first").tag("k", "v");
            let report = fit(|trainer| trainer.epochs(epochs).folder(folder.path("run")).resume(true).track(mlflow));
            assert!(report.tracker_errors.is_empty(), "{:?}", report.tracker_errors);
            std::mem::take(&mut *asked.lock().unwrap())
        };
        let all = run(1);
        let find = |part: &str| all.iter().filter(|(head, _)| head.contains(part)).collect::<Vec<_>>();
        assert!(
            all.iter().all(|(head, _)| head.to_lowercase().contains("authorization: basic bwu6c2vjcmv0")),
            "{all:?}"
        );
        assert_eq!(find("experiment_name=a%20b").len(), 1);
        assert_eq!(find("experiments/create")[0].1, "{\"name\":\"a b\"}");
        assert!(
            find("runs/create")[0].1.contains("\"experiment_id\":\"5\"") && find("runs/create")[0].1.contains("first")
        );
        let logged: String = find("log-batch").iter().map(|(_, body)| body.as_str()).collect();
        for part in [
            "{\"key\":\"lr\",\"value\":\"0.01\"}",
            "{\"key\":\"k\",\"value\":\"v\"}",
            "{\"key\":\"wgrad/device\",\"value\":\"cpu\"}",
            "{\"key\":\"loss/step\",\"value\":2.5,\"timestamp\":",
            "{\"key\":\"learning rate\",\"value\":0.005,",
        ] {
            assert!(logged.contains(part), "{part} is not in {logged}");
        }
        assert_eq!(find("PUT /api/2.0/mlflow-artifacts/artifacts/5/r1/artifacts/curves.svg").len(), 1);
        assert!(all.last().unwrap().1.contains("\"status\":\"FINISHED\",\"end_time\":"), "{all:?}");
        // It goes on with the same run.
        let again = run(2);
        assert!(
            again[0].0.contains("runs/get?run_id=r1") && again[1].1.contains("\"status\":\"RUNNING\""),
            "{again:?}"
        );
        assert!(!again.iter().any(|(head, _)| head.contains("create")));
    }

    #[test]
    fn a_server_that_fails_ends_no_run() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let said = errors(Mlflow::new(&format!("http://{gone}"), "x").unwrap());
        assert!(said.len() == 1 && said[0].starts_with(&format!("mlflow: http://{gone}: ")), "{said:?}");
        let cases: [(u16, &str, &str); 5] = [
            (401, "{\"message\":\"who are you?\"}", "401 Unauthorized who are you?"),
            (500, "<html>", "500 Internal Server Error"),
            (200, "<html>", "JSON was expected as an answer; is it an MLflow server?"),
            (200, "{}", "an experiment was expected as an answer"),
            (200, "[[[[[[[[", "JSON was expected"),
        ];
        for (status, text, want) in cases {
            let (uri, _) = server(move |_, _| (status, text.into()));
            let said = errors(Mlflow::new(&uri, "x").unwrap());
            assert!(said.len() == 1 && said[0].contains(want), "{said:?} lacks {want}");
        }
        // What is refused is told; all else is sent.
        let (uri, asked) = server(|head, body| match body.contains("\"params\"") {
            true => (400, "{\"message\":\"lr was 0.02 before\"}".into()),
            false => good(head, body),
        });
        let said = errors(Mlflow::new(&uri, "x").unwrap());
        assert!(said.len() == 1 && said[0].ends_with("400 Bad Request lr was 0.02 before"), "{said:?}");
        assert!(asked.lock().unwrap().iter().any(|(_, body)| body.contains("\"key\":\"loss/step\"")));
    }

    #[test]
    fn a_server_is_named_in_full() {
        for uri in
            ["", "localhost:5000", "ftp://x", "http://", "http://me:secret@x", "http://a b", "http://x?q", "https:///"]
        {
            let said = Mlflow::new(uri, "x").err().map(|error| error.to_string()).unwrap_or_default();
            assert!(said.starts_with("mlflow: ") && !said.contains("secret"), "{uri}: {said}");
        }
    }
}
