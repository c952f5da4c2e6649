//! What is measured: ways to start a program that does nothing, or says hello.

use std::time::{Duration, Instant};

use crate::Result;

/// One caller's way to run it: each call runs it once, and says how long that took.
pub(crate) type Operation = Box<dyn FnMut() -> Result<Duration> + Send>;

/// A way to run it, for any number of callers.
pub(crate) struct Contender<'a> {
    pub(crate) name: &'static str,
    /// The process whose own processor time is told, beside the whole machine's.
    pub(crate) server: Option<u32>,
    make: Box<dyn Fn(u32) -> Result<Operation> + 'a>,
}

impl<'a> Contender<'a> {
    /// `make` gets the caller's number.
    pub(crate) fn new(name: &'static str, make: impl Fn(u32) -> Result<Operation> + 'a) -> Self {
        Self { name, server: None, make: Box::new(make) }
    }

    pub(crate) fn of_server(self, pid: u32) -> Self {
        Self { server: Some(pid), ..self }
    }

    /// Operations of so many callers.
    pub(crate) fn callers(&self, count: u32) -> Result<Vec<Operation>> {
        (0..count).map(&self.make).collect()
    }
}

/// An operation that is timed from outside.
pub(crate) fn timed(mut run: impl FnMut() -> Result<()> + Send + 'static) -> Operation {
    Box::new(move || {
        let began = Instant::now();
        run()?;
        Ok(began.elapsed())
    })
}
