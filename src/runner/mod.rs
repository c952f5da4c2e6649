//! The runner: PID 1 inside each container, started from the same binary, and the frames it speaks with the server.
//!
//! The runner trusts the server and treats the program it starts as hostile. The server treats what the runner
//! sends as hostile too, and checks it again.

pub mod frame;
pub mod message;
