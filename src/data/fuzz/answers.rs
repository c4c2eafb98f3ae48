//! Random answers of a server.

use crate::data::sources::download::{Download, server};
use crate::testing::fuzz::{check, edited_text, pick};
use crate::testing::heap::within;
use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b": ",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 206 Partial Content\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 18446744073709551615\r\n",
    b"Content-Range: bytes 500-999/1000\r\n",
    b"Content-Range: bytes */18446744073709551615\r\n",
    b"Content-Range: bytes -/\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"ffffffffffffffff\r\n",
    b"5;x=y\r\nabcde\r\n",
    b"0\r\n\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Connection: keep-alive\r\n",
    b"Location: /\r\n",
    b"Set-Cookie: a\r\n",
    b"Location: file:///etc/passwd\r\n",
    b"\xff",
    b"\0",
];

#[test]
fn server_answers_never_exceed_the_size_limit() {
    const MAX_BYTES: u64 = 4_000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/cifar.tar.gz", listener.local_addr().unwrap());
    let answers = Arc::new(Mutex::new(VecDeque::<Vec<u8>>::new()));
    let next = Arc::clone(&answers);
    // It ends with the process. A client that comes once more than there are answers gets none.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head = BufReader::new(&stream).lines().map_while(Result::ok);
            head.take_while(|line| !line.is_empty()).for_each(drop);
            let answer = next.lock().unwrap().pop_front();
            let _ = stream.write_all(&answer.unwrap_or_default());
        }
    });
    let body = [7; 1_000];
    let known = [
        server::whole(&body),
        server::half(&body),
        server::rest(&body, 500),
        server::unsatisfiable(1_000),
        server::answer(
            "200 OK\r\nTransfer-Encoding: chunked",
            b"5\r\nabcde\r\n0\r\n\r\n",
        ),
        server::answer("302 Found\r\nLocation: /again\r\nContent-Length: 0", b""),
        server::answer("503 Busy\r\nContent-Length: 0", b""),
        server::answer("200 OK", &[7; 2 * MAX_BYTES as usize]),
    ];
    check(100, |rng| {
        let home = tempfile::tempdir().unwrap();
        let part = home.path().join("part");
        let before = pick(
            rng,
            &[0, 500, 1_000, MAX_BYTES - 1, MAX_BYTES, MAX_BYTES + 1],
        );
        fs::write(&part, vec![7; before as usize]).unwrap();
        let answer = |_| {
            let answer = pick(rng, &known);
            edited_text(rng, &answer, WORDS)
        };
        *answers.lock().unwrap() = (0..6).map(answer).collect();
        let download = Download {
            url: url.clone(),
            retry_delay: Duration::from_micros(1),
            timeout: Duration::from_secs(20),
            max_bytes: MAX_BYTES,
        };
        let done = within(1 << 20, || download.run(&part));
        let length = fs::metadata(&part).map_or(0, |part| part.len()); // one that is too long may be gone
        let limit = if done.is_ok() {
            MAX_BYTES
        } else {
            MAX_BYTES.max(before)
        };
        assert!(length <= limit, "{length} bytes");
    });
}
