//! From a listening socket to connections that are served. By hand, and not with the framework's `HttpServer`, because
//! each connection's socket goes into a [`Stream`] first.

use std::future::ready;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, Protocol};
use actix_server::Server;
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::dev::AppConfig;
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::http::connections::Connections;
use crate::http::stream::{Deadlines, Stream};
use crate::http::{State, application};

/// Threads that serve HTTP; programs run elsewhere.
const MAX_THREADS: usize = 4;
/// Connections that the kernel keeps until one is accepted.
const BACKLOG: i32 = 1_024;
/// What answers in flight get after the drain, in seconds: everything that ran has ended by then.
const CLOSE_SECONDS: u64 = 1;
/// A caller that was refused while it sends still gets its answer if it reads it within this time.
const LINGER: Duration = Duration::from_secs(1);

/// Serves the routes on this listener. What is given back is the server itself; it ends when its handle says so.
///
/// # Errors
/// The listener fails.
pub fn serve(listener: TcpListener, state: Arc<State>) -> io::Result<Server> {
    SockRef::from(&listener).listen(BACKLOG)?;
    let address = listener.local_addr()?;
    let config = &state.app.config.request;
    let deadlines = Deadlines::new(config);
    let head = Duration::from_secs(config.head_seconds);
    let keep_alive = Duration::from_secs(config.keep_alive_seconds);
    let connections = Connections::new(config.connections, Arc::clone(&state.app.metrics));
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(MAX_THREADS);
    let builder = Server::build()
        .workers(threads)
        .max_concurrent_connections(config.connections.div_ceil(threads))
        .shutdown_timeout(CLOSE_SECONDS)
        .disable_signals();
    let closing = builder.graceful_shutdown_signal();
    let service = move || {
        let (closing, connections) = (closing.clone(), Arc::clone(&connections));
        let routes = application(Arc::clone(&state)).into_factory();
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let closing = closing.clone();
                async move { closing.notified().await }
            })
            .keep_alive(keep_alive)
            .client_request_timeout(head)
            .client_disconnect_timeout(LINGER)
            .local_addr(address)
            .on_connect_ext(|stream: &Stream, data| drop(data.insert(Arc::clone(stream.connection()))))
            .finish(map_config(routes.map_err(|error: actix_web::Error| error.error_response()), |()| {
                AppConfig::default()
            }));
        let accept = move |socket: TcpStream| {
            let peer = socket.peer_addr().ok();
            let stream = Stream::new(socket, connections.add(), deadlines);
            ready(Ok::<_, DispatchError>((stream, Protocol::Http1, peer)))
        };
        fn_service(accept).and_then(http)
    };
    Ok(builder.listen("http", listener, service)?.run())
}
