//! A server of static files for a developer: on this machine only, with the headers that a real
//! host should send. Not for the open network.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;

/// What a page may do: nothing but load its own files and compile its own wasm.
const POLICY: &str = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'";

/// What browsers must be told of each kind of file.
const TYPES: &[(&str, &str)] = &[
    ("html", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("svg", "image/svg+xml"),
    ("wasm", "application/wasm"),
    ("gz", "application/octet-stream"),
];

/// Serves `folder` until the program is stopped.
pub fn serve(folder: &Path, port: u16) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    println!("http://{}/", listener.local_addr()?);
    for stream in listener.incoming() {
        let folder = folder.to_path_buf();
        // A visitor who goes away in the middle is no reason to stop.
        std::thread::spawn(move || stream.map(|stream| answer(&folder, stream)));
    }
    Ok(())
}

fn answer(folder: &Path, mut stream: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    // The rest of the request is read, or closing would cut the answer off.
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default().trim_start_matches('/');
    let name = if path.is_empty() { "index.html" } else { path };
    // The site is one folder deep, so that no path leads out of it.
    let allowed = !name.contains(['/', '\\']) && method == "GET";
    let read = |name: &str| fs::read(folder.join(name)).ok();
    // What lies there compressed is sent so; every browser unpacks it.
    let packed = allowed.then(|| read(&format!("{name}.gz"))).flatten();
    let encoding = if packed.is_some() { "Content-Encoding: gzip\r\n" } else { "" };
    let body = packed.or_else(|| allowed.then(|| read(name)).flatten());
    let (status, kind, body) = match body {
        Some(body) => {
            let extension = name.rsplit('.').next().unwrap_or_default();
            let kind = TYPES.iter().find(|(known, _)| *known == extension).map_or("text/plain", |(_, kind)| kind);
            ("200 OK", kind, body)
        }
        None => ("404 Not Found", "text/plain", b"there is no such page\n".to_vec()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{encoding}Content-Security-Policy: {POLICY}\r\n\
         X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-cache\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(&body)
}
