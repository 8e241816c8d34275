//! A server that plugins ask: it behaves as the path says.
//!
//! | path | what it does |
//! |---|---|
//! | `/hang` | it never answers |
//! | `/once` | it does not answer who asks first, and all others like anything else |
//! | `/endless` | its body has no end |
//! | `/slow-head` | its head comes byte by byte, without end |
//! | `/trickle` | its body comes byte by byte, without end |
//! | `/short` | it claims a hundred bytes, sends three and ends the connection |
//! | `/huge` | it claims a terabyte |
//! | `/head` | its head has a megabyte |
//! | `/garbage` | it speaks no HTTP |
//! | `/redirect` | it says to ask `/elsewhere` |
//! | `/status/503` | it says so, whatever the number |
//! | anything else | it answers with path and body |

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How slow a server is that sends byte by byte.
const BETWEEN_BYTES: Duration = Duration::from_millis(10);

/// What makes something of a connection before anything is read: TLS, perhaps.
pub type Wrap = Arc<dyn Fn(TcpStream) -> io::Result<Box<dyn Stream>> + Send + Sync>;

/// Bytes both ways.
pub trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// A request that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body, if its length was told.
    pub body: String,
}

/// A server on a port of its own. Dropping it ends it, and everything that hangs.
pub struct HttpServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    asked: Mutex<Vec<Asked>>,
    ended: AtomicBool,
    end: Condvar,
}

impl HttpServer {
    /// Starts one that speaks plainly.
    pub fn start() -> Self {
        Self::start_with(Arc::new(|stream| Ok(Box::new(stream))))
    }

    /// Starts one whose connections are made something of first.
    pub fn start_with(wrap: Wrap) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its own address");
        let shared = Arc::new(Shared {
            asked: Mutex::default(),
            ended: AtomicBool::new(false),
            end: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.ended.load(Ordering::Acquire) {
                    return;
                }
                let (Ok(stream), shared) = (stream, Arc::clone(&accepting)) else {
                    continue;
                };
                let wrap = Arc::clone(&wrap);
                // Whoever asks may go away at any time.
                thread::spawn(move || wrap(stream).and_then(|stream| shared.serve(stream)));
            }
        });
        Self { address, shared }
    }

    /// `127.0.0.1:port`.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The address of a path, by plain HTTP.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What it was asked, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked().clone()
    }

    /// How often it was asked for a path.
    pub fn times(&self, path: &str) -> usize {
        let asked = self.shared.asked();
        asked.iter().filter(|asked| asked.path == path).count()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        drop(self.shared.asked());
        self.shared.end.notify_all();
        // Who accepts looks whether it is to end when somebody comes.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn asked(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the server's end.
    fn hang(&self) {
        let mut asked = self.asked();
        while !self.ended.load(Ordering::Acquire) {
            asked = self.end.wait(asked).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn serve(&self, stream: Box<dyn Stream>) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let asked = read(&mut stream)?;
        let path = asked.path.clone();
        let echo = format!("{} {}", asked.path, asked.body);
        let is_first = {
            let mut before = self.asked();
            let is_first = !before.iter().any(|before| before.path == asked.path);
            before.push(asked);
            is_first
        };
        let stream = stream.get_mut();
        match path.as_str() {
            "/hang" => self.hang(),
            "/once" if is_first => self.hang(),
            "/endless" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
                let chunk = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
                loop {
                    stream.write_all(&chunk)?;
                }
            }
            "/slow-head" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nx-slow: ")?;
                self.drip(stream)?;
            }
            "/trickle" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")?;
                self.drip(stream)?;
            }
            "/short" => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc")?,
            "/huge" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1099511627776\r\n\r\nabc")?;
                self.hang();
            }
            "/head" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nx-large: ")?;
                stream.write_all(&vec![b'x'; 1 << 20])?;
                stream.write_all(b"\r\ncontent-length: 0\r\n\r\n")?;
            }
            "/garbage" => stream.write_all(b"220 mail.example.com ESMTP\r\n")?,
            "/redirect" => stream.write_all(
                b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n",
            )?,
            path => {
                let status = path.strip_prefix("/status/").unwrap_or("200");
                let length = echo.len();
                let head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {length}\r\n\r\n");
                stream.write_all(head.as_bytes())?;
                stream.write_all(echo.as_bytes())?;
            }
        }
        stream.flush()
    }

    /// Sends a byte now and then, until the server is to end.
    fn drip(&self, stream: &mut Box<dyn Stream>) -> io::Result<()> {
        while !self.ended.load(Ordering::Acquire) {
            stream.write_all(b"x")?;
            stream.flush()?;
            drop(self.end.wait_timeout(self.asked(), BETWEEN_BYTES));
        }
        Ok(())
    }
}

fn read(stream: &mut impl BufRead) -> io::Result<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next(), words.next());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length");
    let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Asked {
        method: method.unwrap_or_default(),
        path: path.unwrap_or_default(),
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
