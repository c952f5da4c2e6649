//! The socket of a connection, under deadlines: the next request has to come, and answers have to be read. Here, and
//! not at the bodies, because the web framework does not ask a body for more while the socket takes nothing, and
//! because so it holds for every answer, whatever it is made of.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::config::RequestConfig;
use crate::http::connections::Connection;
use crate::http::pace::Pace;
use crate::telemetry::Cut;

/// What the kernel takes of an answer before the caller has made room for it. Enough for a fast caller far away, as it
/// does not count what is on its way.
const UNSENT_BYTES: u32 = 128 << 10;
/// After this long without a byte the kernel asks whether the caller is still there.
const PROBE_AFTER: Duration = Duration::from_secs(60);
/// The framework's own deadlines come first: some of them answer before they close.
const MARGIN: Duration = Duration::from_secs(1);

/// A connection's socket.
pub(super) struct Stream {
    socket: TcpStream,
    connection: Arc<Connection>,
    deadlines: Deadlines,
    phase: Phase,
    /// Ends the phase, where it has an end.
    alarm: Pin<Box<Sleep>>,
    answer: Pace,
    /// Something was read, and the framework gets its turn to pass it on. Left alone it would read 128 KiB first, and keep
    /// as much for as long as the connection lives: 256 MiB with 2,048 callers who send a little and then nothing.
    passing: bool,
}

/// What a connection has how much time for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// From the end of an answer to the next request.
    idle: Duration,
    /// From the first byte of a request to the end of its head.
    head: Duration,
    /// For the caller to take something of an answer.
    answer: Duration,
    /// Bytes per second that a caller must take on average.
    answer_rate: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A request is being worked on: that has its own limits.
    Busy,
    /// Nothing has come yet of the next request.
    Idle,
    /// Something has.
    Head,
}

impl Deadlines {
    pub(super) fn new(config: &RequestConfig) -> Self {
        Self {
            idle: Duration::from_secs(config.keep_alive_seconds) + MARGIN,
            head: Duration::from_secs(config.head_seconds) + MARGIN,
            answer: Duration::from_secs(config.answer_idle_seconds),
            answer_rate: config.answer_min_rate,
        }
    }
}

impl Stream {
    pub(super) fn new(socket: TcpStream, connection: Arc<Connection>, deadlines: Deadlines) -> Self {
        let options = SockRef::from(&socket);
        // Answers go out in few, large writes; waiting for more would only delay the last one. What the kernel refuses
        // here, it does without: the deadlines below do not need it.
        drop(options.set_tcp_nodelay(true));
        drop(options.set_tcp_notsent_lowat(UNSENT_BYTES));
        // Also for what is still to be sent after we have closed it.
        drop(options.set_tcp_user_timeout(Some(deadlines.answer + MARGIN)));
        drop(options.set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBE_AFTER)));
        let answer = Pace::new(deadlines.answer, deadlines.answer_rate);
        let alarm = Box::pin(tokio::time::sleep(deadlines.idle));
        Self { socket, connection, deadlines, phase: Phase::Idle, alarm, answer, passing: false }
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Enters a phase that has to end within this time.
    fn enter(&mut self, phase: Phase, within: Duration) {
        self.phase = phase;
        self.alarm.as_mut().reset(Instant::now() + within);
    }

    /// Fails when the time for the next request is over, or somebody else needs the place.
    fn check_phase(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.connection.register(context.waker());
        if self.connection.is_busy() {
            self.phase = Phase::Busy;
            return Ok(());
        }
        if self.connection.is_evicted() {
            return Err(self.cut(Cut::Crowded));
        }
        if self.phase == Phase::Busy {
            self.enter(Phase::Idle, self.deadlines.idle);
        }
        match self.alarm.as_mut().poll(context) {
            Poll::Ready(()) => Err(self.cut(Cut::SlowHead)),
            Poll::Pending => Ok(()),
        }
    }

    /// Ends the connection: what the kernel still has of the answer is dropped with it.
    fn cut(&self, why: Cut) -> io::Error {
        self.connection.cut(why);
        drop(SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)));
        io::ErrorKind::TimedOut.into()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check_phase(context)?;
        if this.connection.is_paused() {
            return Poll::Pending;
        }
        if std::mem::take(&mut this.passing) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        this.passing = this.connection.has_read(read) && read > 0;
        if this.phase == Phase::Idle && buffer.filled().len() > before {
            this.enter(Phase::Head, this.deadlines.head);
            this.check_phase(context)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match Pin::new(&mut this.socket).poll_write(context, bytes) {
            Poll::Ready(written) => written?,
            Poll::Pending => {
                return this.answer.poll_stalled(context).map(|_| Err(this.cut(Cut::SlowReader)));
            }
        };
        this.answer.moved(written).map_err(|_| this.cut(Cut::SlowReader))?;
        // The end of an answer is idle time only once it is out.
        this.phase = Phase::Busy;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.remove();
    }
}
