//! A resumable download: what has arrived is kept, and the next request continues from there.

use super::progress::{self, Unit};
use crate::console;
use anyhow::{Context, Result, bail, ensure};
use backon::{BlockingRetryable, ExponentialBuilder};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::time::Duration;
use ureq::Body;
use ureq::http::{Response, StatusCode, header};

/// Transfers tried after the first. Each continues where the last one broke off.
const RETRIES: usize = 4;

/// What to fetch, and its limits.
#[derive(Clone, Debug)]
pub(in crate::data) struct Download {
    pub(in crate::data) url: String,
    /// Before the first retry; doubles with each.
    pub(in crate::data) retry_delay: Duration,
    /// A transfer without a byte for this long is broken off.
    pub(in crate::data) timeout: Duration,
    /// A larger transfer is broken off.
    pub(in crate::data) max_bytes: u64,
}

impl Download {
    /// Brings `part` to its full length. Only one process at a time may do so.
    ///
    /// # Errors
    /// The server refuses, cannot be reached or breaks off again and again. What has arrived stays in `part`.
    pub(in crate::data) fn run(&self, part: &Path) -> Result<()> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A server that adds a compression of its own would change bytes and offsets.
            .accept_encoding("identity")
            .timeout_connect(Some(self.timeout))
            .timeout_resolve(Some(self.timeout))
            .timeout_recv_response(Some(self.timeout))
            .timeout_per_read(Some(self.timeout))
            .build()
            .into();
        let transfer = || self.transfer(&agent, part);
        transfer
            .retry(
                ExponentialBuilder::default()
                    .with_min_delay(self.retry_delay)
                    .with_max_times(RETRIES),
            )
            .when(|error| !error.is::<ClientError>())
            .notify(|error, delay| {
                console::stderr_line(format_args!(
                    "{error:#}; retrying in {} s",
                    delay.as_secs_f32()
                ));
            })
            .call()
    }

    /// One request: appends to `part` what it lacks.
    fn transfer(&self, agent: &ureq::Agent, part: &Path) -> Result<()> {
        let have = match fs::metadata(part) {
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            metadata => metadata
                .with_context(|| format!("failed to read {}", part.display()))?
                .len(),
        };
        let mut request = agent.get(&self.url);
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
        }
        let response = request.call()?;
        let (from, total) = match response.status() {
            StatusCode::OK => (0, response.body().content_length()),
            StatusCode::PARTIAL_CONTENT => {
                let (from, total) = content_range(&response)?;
                ensure!(
                    from == Some(have),
                    "the server sent a range that was not asked for"
                );
                (have, total)
            }
            StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => {
                let (_, total) = content_range(&response).unwrap_or_default();
                if total == Some(have) {
                    return Ok(());
                }
                fs::remove_file(part)
                    .with_context(|| format!("failed to remove {}", part.display()))?;
                bail!(
                    "{} is longer than the server's file: starting over",
                    part.display()
                );
            }
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                return Err(ClientError(status).into());
            }
            status => bail!("the server answered {status}"),
        };
        let limit = total.unwrap_or(self.max_bytes);
        ensure!(
            (from..=self.max_bytes).contains(&limit),
            "the server offers {limit} bytes in all, want {from} to {}",
            self.max_bytes
        );

        // Not before there is something to write: a server that cannot be reached leaves nothing.
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(part)
            .with_context(|| format!("failed to open {}", part.display()))?;
        // A server that ignores the range sends all of it again.
        file.set_len(from)?;
        let bar = progress::bar(limit, format!("fetching {}", self.url), Unit::Bytes);
        bar.set_position(from);
        let body = response.into_body().into_reader();
        let result = io::copy(&mut bar.wrap_read(body.take(limit - from)), &mut file);
        bar.finish_and_clear();
        let len = file.metadata()?.len();
        result.with_context(|| format!("the transfer broke off after {len} bytes"))?;
        if let Some(total) = total {
            ensure!(
                len == total,
                "the transfer ended after {len} of {total} bytes"
            );
        }
        file.sync_all()?;
        Ok(())
    }
}

/// An answer (4xx) that a retry will not change.
#[derive(Debug)]
struct ClientError(StatusCode);

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.0)
    }
}

impl std::error::Error for ClientError {}

/// First byte and total length from `Content-Range: bytes 10-19/100` or `bytes */100`; None where they
/// are left open (<https://www.rfc-editor.org/rfc/rfc9110#section-14.4>).
fn content_range(response: &Response<Body>) -> Result<(Option<u64>, Option<u64>)> {
    let value = response
        .headers()
        .get(header::CONTENT_RANGE)
        .and_then(|value| value.to_str().ok())
        .context("the server sent no Content-Range")?;
    let (range, total) = value
        .strip_prefix("bytes ")
        .and_then(|value| value.split_once('/'))
        .with_context(|| format!("the server sent the Content-Range {value:?}"))?;
    let from = range
        .split_once('-')
        .and_then(|(from, _)| from.parse().ok());
    Ok((from, total.parse().ok()))
}

/// A server that sends given answers.
#[cfg(test)]
pub(in crate::data) mod server {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread::JoinHandle;

    /// Gives one connection each of the answers, byte for byte, then hangs up, and returns the requests.
    /// A further connection is refused.
    pub(in crate::data) fn serve(answers: Vec<Vec<u8>>) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/cifar.tar.gz", listener.local_addr().unwrap());
        let serve = move || {
            answers
                .iter()
                .map(|answer| reply(&listener, answer).0)
                .collect()
        };
        (url, std::thread::spawn(serve))
    }

    pub(in crate::data) fn reply(listener: &TcpListener, answer: &[u8]) -> (String, TcpStream) {
        let mut stream = listener.accept().unwrap().0;
        let lines = BufReader::new(&stream).lines().map(Result::unwrap);
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        stream.write_all(answer).unwrap();
        (head.join("\n").to_lowercase(), stream)
    }

    pub(in crate::data) fn answer(head: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n");
        [head.as_bytes(), body].concat()
    }

    pub(in crate::data) fn whole(bytes: &[u8]) -> Vec<u8> {
        answer(&format!("200 OK\r\nContent-Length: {}", bytes.len()), bytes)
    }

    /// Claims the whole length, hangs up after half.
    pub(in crate::data) fn half(bytes: &[u8]) -> Vec<u8> {
        let head = format!("200 OK\r\nContent-Length: {}", bytes.len());
        answer(&head, &bytes[..bytes.len() / 2])
    }

    pub(in crate::data) fn rest(bytes: &[u8], from: usize) -> Vec<u8> {
        let (last, total) = (bytes.len() - 1, bytes.len());
        let head = format!(
            "206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{last}/{total}",
            total - from
        );
        answer(&head, &bytes[from..])
    }

    pub(in crate::data) fn unsatisfiable(total: usize) -> Vec<u8> {
        let head = "416 Range Not Satisfiable\r\nContent-Length: 0\r\nContent-Range: bytes */";
        answer(&format!("{head}{total}"), b"")
    }
}

#[cfg(test)]
mod tests {
    use super::server::{answer, half, reply, rest, serve, unsatisfiable, whole};
    use super::*;
    use std::net::TcpListener;

    /// What every server here offers.
    const BYTES: &[u8] = &[7; 10_000];
    const MIDDLE: usize = BYTES.len() / 2;

    fn download(url: String, timeout: Duration) -> Download {
        let retry_delay = Duration::from_millis(1);
        Download {
            url,
            retry_delay,
            timeout,
            max_bytes: 1 << 20,
        }
    }

    /// Downloads on top of `before`: the outcome, what then is there, and the requests.
    fn run(before: &[u8], answers: Vec<Vec<u8>>) -> (Result<(), String>, Vec<u8>, Vec<String>) {
        let home = tempfile::tempdir().unwrap();
        let part = home.path().join("part");
        fs::write(&part, before).unwrap();
        let (url, server) = serve(answers);
        let result = download(url, Duration::from_secs(600)).run(&part);
        let result = result.map_err(|error| format!("{error:#}"));
        (result, fs::read(&part).unwrap(), server.join().unwrap())
    }

    /// As [`run`], all bytes are there in the end.
    fn succeeds(before: &[u8], answers: Vec<Vec<u8>>) -> Vec<String> {
        let (result, bytes, requests) = run(before, answers);
        result.unwrap();
        assert!(bytes == BYTES, "got {} bytes", bytes.len());
        requests
    }

    #[test]
    fn interrupted_transfer_continues_where_it_broke_off() {
        let requests = succeeds(b"", vec![half(BYTES), rest(BYTES, MIDDLE)]);
        assert!(!requests[0].contains("range:"));
        assert!(requests[1].contains(&format!("range: bytes={MIDDLE}-")));
        // And in another process.
        succeeds(&BYTES[..123], vec![rest(BYTES, 123)]);
    }

    #[test]
    fn server_without_ranges_sends_all_again() {
        succeeds(b"", vec![half(BYTES), whole(BYTES)]);
    }

    #[test]
    fn ranges_that_were_not_asked_for_are_not_appended() {
        let answers = vec![half(BYTES), rest(BYTES, MIDDLE - 1), rest(BYTES, MIDDLE)];
        succeeds(b"", answers);
    }

    #[test]
    fn complete_part_stays_and_an_overlong_one_is_dropped() {
        succeeds(BYTES, vec![unsatisfiable(BYTES.len())]);
        let overlong = [BYTES, b"x"].concat();
        succeeds(&overlong, vec![unsatisfiable(BYTES.len()), whole(BYTES)]);
    }

    #[test]
    fn server_errors_are_retried_and_client_errors_are_final() {
        let empty = |status| answer(&format!("{status}\r\nContent-Length: 0"), b"");
        succeeds(b"", vec![empty("503 Service Unavailable"), whole(BYTES)]);
        let (result, _, requests) = run(b"", vec![empty("404 Not Found")]);
        assert_eq!(result.unwrap_err(), "the server answered 404 Not Found");
        assert_eq!(requests.len(), 1);
    }

    #[test]
    fn refusal_leaves_no_part() {
        let answers = [
            "404 Not Found",
            "416 Range Not Satisfiable\r\nContent-Range: bytes */0",
        ];
        let answers = answers.map(|head| serve(vec![answer(head, b"")]).0);
        let nobody = "http://127.0.0.1:9/".to_owned(); // refuses connections
        for url in answers.into_iter().chain([nobody]) {
            let home = tempfile::tempdir().unwrap();
            let part = home.path().join("part");
            let download = download(url, Duration::from_secs(600));
            download.run(&part).unwrap_err();
            assert!(!part.exists(), "{}", download.url);
        }
    }

    #[test]
    fn retries_end_and_what_has_arrived_is_kept() {
        let (result, bytes, requests) = run(b"", vec![half(BYTES); RETRIES + 1]);
        let error = result.unwrap_err();
        assert!(
            error.starts_with("the transfer broke off after 5000 bytes: "),
            "{error}"
        );
        assert_eq!(bytes, BYTES[..MIDDLE]);
        assert_eq!(requests.len(), RETRIES + 1);
    }

    #[test]
    fn silent_server_times_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        // Connections stay open until the client has given up for good.
        std::thread::spawn(move || {
            let mut open = Vec::new();
            loop {
                open.push(reply(&listener, &half(BYTES)));
            }
        });
        let home = tempfile::tempdir().unwrap();
        let silent = download(url, Duration::from_millis(20));
        let error = format!("{:#}", silent.run(&home.path().join("part")).unwrap_err());
        assert!(error.contains("timeout"), "{error}");
    }

    #[test]
    fn excessive_lengths_are_refused() {
        let huge = answer("200 OK\r\nContent-Length: 99999999999", b"");
        let (result, ..) = run(b"", vec![huge; RETRIES + 1]);
        let error = result.unwrap_err();
        assert!(error.contains("want 0 to 1048576"), "{error}");
        let shrunk = "206 Partial Content\r\nContent-Range: bytes 9-9/5\r\nContent-Length: 1";
        let (result, bytes, _) = run(&BYTES[..9], vec![answer(shrunk, b"x"); RETRIES + 1]);
        assert!(result.unwrap_err().contains("offers 5 bytes in all"));
        assert_eq!(bytes, BYTES[..9]);
    }
}
