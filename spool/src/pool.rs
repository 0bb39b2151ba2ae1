//! The bounded worker pool behind asynchronous swap-out and swap-in: jobs wait in one queue, first in, first out,
//! and a full queue holds up whoever submits. The settings are those of Momentum's thread pools.
//!
//! ```text
//!   submit ──> waiting (at most `backlog`) ──> a thread `<name>-<n>` ──> Completion: wait, callback or future
//!     └ blocks while that is full                 └ a panic ends the job, not the thread
//! ```
//!
//! Threads are this module's purpose. Its clock decides nothing but how long an idle thread stays, and measures
//! how long jobs took.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Threads of a pool that was not told how many: Momentum's SwapOut and SwapIn have as many.
const THREADS: usize = 5;

/// Jobs that may wait in a pool that was not told how many: the one backlog that Momentum's contract names.
const BACKLOG: usize = 100;

/// How a [`Pool`] is set up.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    name: String,
    threads: usize,
    backlog: usize,
    stack_size: Option<usize>,
    deferred_start: bool,
    auto_shrink: Option<Duration>,
}

impl PoolOptions {
    /// A pool whose threads are called `<name>-1`, `<name>-2`, ...: 5 threads, started at once and staying, a
    /// backlog of 100 jobs, and the system's stack size.
    pub fn new(name: impl Into<String>) -> PoolOptions {
        PoolOptions {
            name: name.into(),
            threads: THREADS,
            backlog: BACKLOG,
            stack_size: None,
            deferred_start: false,
            auto_shrink: None,
        }
    }

    /// At most this many threads, and so this many jobs at a time. [`Pool::start`] refuses 0.
    pub fn threads(mut self, threads: usize) -> PoolOptions {
        self.threads = threads;
        self
    }

    /// At most this many jobs wait. One that a thread is free for does not wait, so that with 0 a job is accepted
    /// when a thread is free, and not before.
    pub fn backlog(mut self, jobs: usize) -> PoolOptions {
        self.backlog = jobs;
        self
    }

    /// The stack of each thread, in bytes.
    pub fn stack_size(mut self, bytes: usize) -> PoolOptions {
        self.stack_size = Some(bytes);
        self
    }

    /// Whether threads are started with the first job, and one more whenever a job would wait, instead of all at
    /// once. A thread is free again after its job has answered, so that a job submitted upon that answer may find
    /// it not yet free.
    pub fn deferred_start(mut self, deferred: bool) -> PoolOptions {
        self.deferred_start = deferred;
        self
    }

    /// A thread that had nothing to do for this long ends; the next job that would wait starts one again. The
    /// last thread stays, unless the start is deferred. `None`: all stay.
    pub fn auto_shrink(mut self, idle: Option<Duration>) -> PoolOptions {
        self.auto_shrink = idle;
        self
    }
}

/// A bounded number of threads, and a bounded number of jobs that wait for them.
///
/// Dropping it is [`shutdown`](Pool::shutdown) with [`Drain::Finish`]. Whatever order jobs were accepted in, they
/// start in. Submitters that are held up by a full backlog are let in in no particular order.
///
/// ```
/// use spool::{Pool, PoolOptions};
///
/// let pool = Pool::start(PoolOptions::new("swap-out").threads(2))?;
/// let written = pool.submit(|| "written".len());
/// assert_eq!(written.wait(), Ok(7));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Pool {
    shared: Arc<Shared>,
}

/// What [`Pool::shutdown`] does with the jobs that wait. Those that run are always waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// They are run.
    Finish,
    /// They are dropped, and their completions answer [`JobEnded::Skipped`].
    Skip,
}

/// What a pool does and did, from [`Pool::stats`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolStats {
    /// Threads there are now, idle ones among them.
    pub threads: usize,
    /// Jobs that no thread is free for now.
    pub waiting: usize,
    /// Jobs that returned.
    pub done: u64,
    /// Jobs that panicked.
    pub failed: u64,
    /// Time that the jobs took which returned or panicked, summed over the threads; callbacks are not in it.
    pub busy: Duration,
    /// The most jobs that ever waited at a time.
    pub longest_backlog: usize,
    /// Calls of [`Pool::submit`] that were held up by a full backlog, counted as they begin to wait.
    pub blocked_submits: u64,
}

impl Pool {
    /// Starts the pool, and its threads unless that is deferred.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for no threads or a name with a NUL in it, and whatever the system says when a thread cannot
    /// be started; those started before it have ended then.
    pub fn start(options: PoolOptions) -> io::Result<Pool> {
        if options.threads == 0 {
            return Err(refused("a pool needs at least one thread"));
        }
        if options.name.contains('\0') {
            return Err(refused("a pool's name must not contain NUL"));
        }

        let at_once = if options.deferred_start { 0 } else { options.threads };
        let pool = Pool { shared: Arc::new(Shared::new(options)) };
        for _ in 0..at_once {
            pool.shared.grow(&mut pool.shared.lock())?;
        }
        Ok(pool)
    }

    /// Hands a job to the pool, and blocks while the backlog is full.
    ///
    /// A job that submits to its own pool, or waits for a job of it, may wait for itself when all threads do so:
    /// such a job uses [`try_submit`](Pool::try_submit) and a callback. If no thread runs and none can be started,
    /// the completion answers [`JobEnded::NoThread`].
    pub fn submit<T, F>(&self, work: F) -> Completion<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let mut state = self.shared.lock();
        let mut entry = self.shared.entry(&mut state);
        if matches!(entry, Entry::Full) {
            state.stats.blocked_submits += 1;
        }
        while let Entry::Full = entry {
            state = self.shared.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            entry = self.shared.entry(&mut state);
        }
        self.shared.accept(state, entry, work)
    }

    /// Hands a job to the pool if that does not block.
    ///
    /// # Errors
    ///
    /// [`Full`], with the job in it, if the backlog is.
    pub fn try_submit<T, F>(&self, work: F) -> Result<Completion<T>, Full<F>>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let mut state = self.shared.lock();
        match self.shared.entry(&mut state) {
            Entry::Full => Err(Full(work)),
            entry => Ok(self.shared.accept(state, entry, work)),
        }
    }

    /// What the pool does and did. A job is counted before its completion answers.
    pub fn stats(&self) -> PoolStats {
        let state = self.shared.lock();
        PoolStats { threads: state.threads.len(), waiting: state.backlog(), ..state.stats }
    }

    /// Ends the pool: when it returns, no job runs and every completion has answered. If one of the pool's own jobs
    /// does that, its thread is not waited for, and goes on with what waits.
    pub fn shutdown(self, drain: Drain) {
        self.end(drain);
    }

    fn end(&self, drain: Drain) {
        let mut state = self.shared.lock();
        state.closing = true;
        let threads = mem::take(&mut state.threads);
        let skipped = match drain {
            Drain::Finish => VecDeque::new(),
            Drain::Skip => mem::take(&mut state.waiting),
        };
        drop(state);
        self.shared.work.notify_all();

        // Before the threads are waited for: a job that runs may wait for one that is skipped.
        for job in skipped {
            job.end(JobEnded::Skipped);
        }
        for thread in threads.into_values().filter(|thread| thread.thread().id() != thread::current().id()) {
            thread.join().expect("a pool's thread catches what its jobs throw");
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.end(Drain::Finish);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("options", &self.shared.options).field("stats", &self.stats()).finish()
    }
}

/// The backlog is full; here is the job back.
pub struct Full<F>(pub F);

impl<F> fmt::Debug for Full<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full(..)")
    }
}

impl<F> fmt::Display for Full<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the pool's backlog is full")
    }
}

impl<F> std::error::Error for Full<F> {}

/// Why a [`Completion`] has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnded {
    /// The job panicked, with this message.
    Panicked(String),
    /// The job never ran: the pool was shut down with [`Drain::Skip`].
    Skipped,
    /// The job never ran: no thread ran and the system did not start one.
    NoThread(io::ErrorKind),
    /// This completion has answered before.
    Taken,
}

impl fmt::Display for JobEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobEnded::Panicked(message) => write!(f, "the job panicked: {message}"),
            JobEnded::Skipped => f.write_str("the job was skipped, because its pool was shut down"),
            JobEnded::NoThread(kind) => write!(f, "no thread could be started for the job: {kind}"),
            JobEnded::Taken => f.write_str("the job's answer has been taken before"),
        }
    }
}

impl std::error::Error for JobEnded {}

/// The end of a submitted job: to be waited for, asked after, called back at, or awaited.
///
/// Dropping it does not cancel the job; the value is dropped when there is one. It answers once, and
/// [`JobEnded::Taken`] after that.
pub struct Completion<T> {
    promise: Arc<Promise<T>>,
}

impl<T> Completion<T> {
    /// Blocks until the job has ended.
    ///
    /// # Errors
    ///
    /// What kept it from a value.
    pub fn wait(self) -> Result<T, JobEnded> {
        let mut slot = self.promise.lock();
        loop {
            if let Some(answer) = slot.take() {
                return answer;
            }
            slot = self.promise.ended.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What [`wait`](Completion::wait) would answer, or `None` while the job waits or runs.
    pub fn try_wait(&mut self) -> Option<Result<T, JobEnded>> {
        self.promise.lock().take()
    }

    /// Calls back when the job has ended: from the thread that ended it (the job's, or that of
    /// [`Pool::shutdown`]), or from this one, before returning, if it has ended already.
    ///
    /// On the job's thread the callback keeps the next job waiting, and a panic of it is dropped.
    pub fn on_done(self, callback: impl FnOnce(Result<T, JobEnded>) + Send + 'static) {
        let mut slot = self.promise.lock();
        match slot.take() {
            Some(answer) => {
                drop(slot);
                callback(answer);
            }
            None => {
                let before = mem::replace(&mut *slot, Slot::Callback(Box::new(callback)));
                drop(slot);
                drop(before);
            }
        }
    }
}

impl<T> Future for Completion<T> {
    type Output = Result<T, JobEnded>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Wakers are the caller's code: they are cloned and dropped outside of the lock.
        let waker = context.waker().clone();
        let mut slot = self.promise.lock();
        match slot.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                let before = mem::replace(&mut *slot, Slot::Polled(waker));
                drop(slot);
                drop(before);
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for Completion<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Completion(..)")
    }
}

/// Where a job's thread leaves the answer for its [`Completion`].
struct Promise<T> {
    slot: Mutex<Slot<T>>,
    ended: Condvar,
}

enum Slot<T> {
    Open,
    Polled(Waker),
    Callback(Box<dyn FnOnce(Result<T, JobEnded>) + Send>),
    Ended(Result<T, JobEnded>),
    Taken,
}

impl<T> Promise<T> {
    fn lock(&self) -> MutexGuard<'_, Slot<T>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the caller's code (callback, waker, drop of the value), but not under the lock.
    fn answer(&self, answer: Result<T, JobEnded>) {
        let mut slot = self.lock();
        match mem::replace(&mut *slot, Slot::Taken) {
            Slot::Callback(callback) => {
                drop(slot);
                callback(answer);
            }
            before => {
                *slot = Slot::Ended(answer);
                drop(slot);
                self.ended.notify_all();
                if let Slot::Polled(waker) = before {
                    waker.wake();
                }
            }
        }
    }
}

impl<T> Slot<T> {
    fn take(&mut self) -> Option<Result<T, JobEnded>> {
        match mem::replace(self, Slot::Taken) {
            Slot::Ended(answer) => Some(answer),
            Slot::Taken => Some(Err(JobEnded::Taken)),
            open => {
                *self = open;
                None
            }
        }
    }
}

/// A job whose type the queue has forgotten. Neither method panics, whatever the job does.
trait Job: Send {
    /// Runs it, and tells `count` whether it returned before anybody else is told.
    fn run(self: Box<Self>, count: &dyn Fn(bool));

    /// Answers without running it.
    fn end(self: Box<Self>, why: JobEnded);
}

struct Task<T, F> {
    work: F,
    promise: Arc<Promise<T>>,
}

impl<T: Send, F: FnOnce() -> T + Send> Job for Task<T, F> {
    fn run(self: Box<Self>, count: &dyn Fn(bool)) {
        let Task { work, promise } = *self;
        let answer = caught(work).map_err(JobEnded::Panicked);
        count(answer.is_ok());
        // The caller's panics in here were reported by the panic hook, and there is nobody else to tell.
        let _ = caught(move || promise.answer(answer));
    }

    fn end(self: Box<Self>, why: JobEnded) {
        let Task { work, promise } = *self;
        let _ = caught(move || drop(work));
        let _ = caught(move || promise.answer(Err(why)));
    }
}

/// What the pool's owner and its threads share.
struct Shared {
    options: PoolOptions,
    state: Mutex<State>,
    /// A job was accepted, or the pool closes.
    work: Condvar,
    /// A thread has become idle.
    room: Condvar,
}

/// Each thread in `threads` is idle from its start until it takes a job, and again when that job has answered: of
/// the jobs in `waiting`, as many as there are idle threads are about to be taken, and only the rest do wait. While
/// any job is in `waiting`, there is a thread.
struct State {
    waiting: VecDeque<Box<dyn Job>>,
    /// By the number in their names.
    threads: BTreeMap<usize, JoinHandle<()>>,
    idle: usize,
    closing: bool,
    /// Without `threads` and `waiting`, which are known above.
    stats: PoolStats,
}

/// What becomes of a job that asks to be let in.
enum Entry {
    Open,
    Full,
    NoThread(io::Error),
}

impl State {
    fn backlog(&self) -> usize {
        self.waiting.len().saturating_sub(self.idle)
    }
}

impl Shared {
    fn new(options: PoolOptions) -> Shared {
        let state = State {
            waiting: VecDeque::new(),
            threads: BTreeMap::new(),
            idle: 0,
            closing: false,
            stats: PoolStats::default(),
        };
        Shared { options, state: Mutex::new(state), work: Condvar::new(), room: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for one job, and starts a thread for it if none is free.
    fn entry(self: &Arc<Self>, state: &mut State) -> Entry {
        if state.waiting.len() >= state.idle {
            match self.grow(state) {
                // With a thread that runs, the job has one to wait for.
                Err(error) if state.threads.is_empty() => return Entry::NoThread(error),
                Err(_) | Ok(()) => {}
            }
        }
        if state.waiting.len() < self.options.backlog.saturating_add(state.idle) {
            Entry::Open
        } else {
            Entry::Full
        }
    }

    fn accept<T, F>(&self, mut state: MutexGuard<'_, State>, entry: Entry, work: F) -> Completion<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let promise = Arc::new(Promise { slot: Mutex::new(Slot::Open), ended: Condvar::new() });
        let job = Box::new(Task { work, promise: Arc::clone(&promise) });
        if let Entry::NoThread(error) = entry {
            drop(state);
            job.end(JobEnded::NoThread(error.kind()));
        } else {
            state.waiting.push_back(job);
            state.stats.longest_backlog = state.stats.longest_backlog.max(state.backlog());
            drop(state);
            self.work.notify_one();
        }
        Completion { promise }
    }

    /// Starts one more thread, if there may be one more.
    fn grow(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        if state.threads.len() >= self.options.threads {
            return Ok(());
        }
        let number = (1..=self.options.threads)
            .find(|number| !state.threads.contains_key(number))
            .expect("fewer threads than numbers");
        let mut thread = thread::Builder::new().name(format!("{}-{number}", self.options.name));
        if let Some(bytes) = self.options.stack_size {
            thread = thread.stack_size(bytes);
        }

        let shared = Arc::clone(self);
        state.threads.insert(number, thread.spawn(move || shared.serve(number))?);
        state.idle += 1;
        Ok(())
    }

    /// A thread's life.
    fn serve(&self, number: usize) {
        while let Some(job) = self.next(number) {
            let start = Instant::now();
            job.run(&|returned| self.count(returned, start.elapsed()));
            self.lock().idle += 1;
            self.room.notify_one();
        }
    }

    /// The next job for an idle thread, or `None` if the thread is to end, because the pool does or it was idle for
    /// long enough.
    fn next(&self, number: usize) -> Option<Box<dyn Job>> {
        let idle_since = Instant::now();
        let mut state = self.lock();
        loop {
            if let Some(job) = state.waiting.pop_front() {
                state.idle -= 1;
                return Some(job);
            }
            if state.closing {
                return None;
            }

            let spare = self.options.deferred_start || state.threads.len() > 1;
            let Some(limit) = self.options.auto_shrink.filter(|_| spare) else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = limit.saturating_sub(idle_since.elapsed());
            if left.is_zero() {
                state.idle -= 1;
                state.threads.remove(&number);
                return None;
            }
            state = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn count(&self, returned: bool, took: Duration) {
        let stats = &mut self.lock().stats;
        *(if returned { &mut stats.done } else { &mut stats.failed }) += 1;
        stats.busy = stats.busy.saturating_add(took);
    }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// Runs the caller's code; the message if it panics.
fn caught<R>(work: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(message)
}

fn message(payload: Box<dyn Any + Send>) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => {
            // Whatever this is, dropping it may panic as well.
            mem::forget(other);
            String::from("no message")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
    use std::task::Wake;

    fn one_thread() -> PoolOptions {
        PoolOptions::new("test").threads(1)
    }

    /// A job that has begun, and goes on when it is told to or when this is dropped.
    struct Held {
        go_on: Sender<()>,
        completion: Completion<()>,
    }

    impl Held {
        fn begin(pool: &Pool) -> Held {
            let (begun, has_begun) = mpsc::channel();
            let (go_on, may_go_on) = mpsc::channel::<()>();
            let completion = pool.submit(move || {
                begun.send(()).unwrap();
                let _ = may_go_on.recv();
            });
            has_begun.recv().unwrap();
            Held { go_on, completion }
        }

        fn finish(self) {
            drop(self.go_on);
            self.completion.wait().unwrap();
        }
    }

    /// Waits for what another thread is about to do. Only a failure takes the minute.
    fn until(what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(60), "never happened: {what}");
            thread::yield_now();
        }
    }

    struct Sends(Mutex<Sender<&'static str>>, &'static str);

    impl Wake for Sends {
        fn wake(self: Arc<Self>) {
            self.0.lock().unwrap().send(self.1).unwrap();
        }
    }

    fn waker(name: &'static str) -> (Waker, Receiver<&'static str>) {
        let (sender, woken) = mpsc::channel();
        (Waker::from(Arc::new(Sends(Mutex::new(sender), name))), woken)
    }

    fn poll<T>(completion: &mut Completion<T>, waker: &Waker) -> Poll<Result<T, JobEnded>> {
        Pin::new(completion).poll(&mut Context::from_waker(waker))
    }

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("in a drop");
        }
    }

    #[test]
    fn a_job_answers_with_its_value() {
        let pool = Pool::start(PoolOptions::new("test")).unwrap();
        assert_eq!(pool.submit(|| "value").wait(), Ok("value"));
    }

    #[test]
    fn as_many_jobs_run_at_a_time_as_there_are_threads() {
        for deferred in [false, true] {
            let pool = Pool::start(PoolOptions::new("test").threads(3).deferred_start(deferred)).unwrap();
            let all_three = Arc::new(Barrier::new(3));
            let jobs: Vec<_> = (0..3)
                .map(|_| {
                    let all_three = Arc::clone(&all_three);
                    pool.submit(move || _ = all_three.wait())
                })
                .collect();
            for job in jobs {
                job.wait().unwrap();
            }
            assert_eq!(pool.stats().threads, 3);
        }
    }

    #[test]
    fn jobs_start_in_the_order_they_were_accepted_in() {
        let pool = Pool::start(one_thread()).unwrap();
        let held = Held::begin(&pool);
        let (ran, order) = mpsc::channel();
        for number in 0..50 {
            let ran = ran.clone();
            drop(pool.submit(move || ran.send(number).unwrap()));
        }
        drop(ran);
        held.finish();
        assert_eq!(order.iter().collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn a_full_backlog_blocks_a_submit_until_a_thread_is_free() {
        let pool = Pool::start(one_thread().backlog(1)).unwrap();
        let held = Held::begin(&pool);
        let waits = pool.submit(|| 1);
        thread::scope(|scope| {
            let (accepted, is_accepted) = mpsc::channel();
            let pool = &pool;
            scope.spawn(move || accepted.send(pool.submit(|| 2)).unwrap());
            until("the submit blocks", || pool.stats().blocked_submits == 1);
            assert_eq!(is_accepted.try_recv().unwrap_err(), TryRecvError::Empty);
            assert_eq!(pool.stats().waiting, 1, "the blocked one is not in the backlog");

            held.finish();
            assert_eq!(is_accepted.recv().unwrap().wait(), Ok(2));
        });
        assert_eq!(waits.wait(), Ok(1));
        assert_eq!(pool.stats().longest_backlog, 1);
        assert_eq!(pool.stats().blocked_submits, 1);
    }

    #[test]
    fn every_blocked_submit_goes_on() {
        let pool = Pool::start(PoolOptions::new("test").threads(2).backlog(1)).unwrap();
        let (first, second) = (Held::begin(&pool), Held::begin(&pool));
        let waits = pool.submit(|| ());
        let ran = Arc::new(AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let ran = Arc::clone(&ran);
                    pool.submit(move || ran.fetch_add(1, Ordering::Relaxed)).wait().unwrap();
                });
            }
            until("all of them block", || pool.stats().blocked_submits == 8);
            first.finish();
            second.finish();
        });
        waits.wait().unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), 8);
    }

    #[test]
    fn a_full_backlog_gives_a_tried_job_back() {
        let pool = Pool::start(one_thread().backlog(1)).unwrap();
        let held = Held::begin(&pool);
        let waits = pool.try_submit(|| 1).unwrap();
        let Full(job) = pool.try_submit(|| 2).unwrap_err();
        assert_eq!(pool.stats().blocked_submits, 0);
        held.finish();
        assert_eq!(waits.wait(), Ok(1));
        assert_eq!(job(), 2);
    }

    #[test]
    fn without_a_backlog_a_job_is_accepted_when_a_thread_is_free() {
        let pool = Pool::start(one_thread().backlog(0)).unwrap();
        let held = Held::begin(&pool);
        assert!(pool.try_submit(|| ()).is_err());
        thread::scope(|scope| {
            let blocked = scope.spawn(|| pool.submit(|| "in").wait());
            until("the submit blocks", || pool.stats().blocked_submits == 1);
            held.finish();
            assert_eq!(blocked.join().unwrap(), Ok("in"));
        });
        assert_eq!(pool.stats().longest_backlog, 0);
    }

    #[test]
    fn a_job_that_a_thread_is_free_for_does_not_wait() {
        let pool = Pool::start(PoolOptions::new("test").threads(3).backlog(0)).unwrap();
        let jobs: Vec<_> = (0..3).map(|number| pool.try_submit(move || number).unwrap()).collect();
        let values: Vec<_> = jobs.into_iter().map(|job| job.wait().unwrap()).collect();
        assert_eq!(values, [0, 1, 2]);
        assert_eq!(pool.stats().longest_backlog, 0);
    }

    #[test]
    fn a_panicking_job_ends_neither_its_thread_nor_the_pool() {
        let pool = Pool::start(one_thread()).unwrap();
        let thread = || thread::current().id();
        let before = pool.submit(thread).wait();
        assert_eq!(pool.submit(|| panic!("plain")).wait(), Err::<(), _>(JobEnded::Panicked("plain".into())));
        let number = 7;
        let formatted = pool.submit(move || panic!("number {number}"));
        assert_eq!(formatted.wait(), Err::<(), _>(JobEnded::Panicked("number 7".into())));
        assert_eq!(pool.submit(thread).wait(), before);
        assert_eq!(pool.stats().failed, 2);
        assert_eq!(pool.stats().done, 2);
    }

    #[test]
    fn what_panics_after_the_job_does_not_end_its_thread_either() {
        let pool = Pool::start(one_thread()).unwrap();
        let held = Held::begin(&pool);
        drop(pool.submit(|| PanicsWhenDropped));
        drop(pool.submit(|| std::panic::panic_any(PanicsWhenDropped)));
        pool.submit(|| ()).on_done(|_| panic!("in a callback"));
        held.finish();
        assert_eq!(pool.submit(|| "still here").wait(), Ok("still here"));
        assert_eq!(pool.stats().threads, 1);
    }

    #[test]
    fn jobs_that_wait_are_skipped_when_the_shutdown_says_so() {
        let pool = Pool::start(one_thread()).unwrap();
        let held = Held::begin(&pool);
        let (ran, has_run) = mpsc::channel();
        let (waits, called_back) = (ran.clone(), ran);
        let waits = pool.submit(move || waits.send("ran").unwrap());
        let (tell, told) = mpsc::channel();
        pool.submit(move || called_back.send("ran").unwrap())
            .on_done(move |answer| tell.send(answer).unwrap());

        thread::scope(|scope| {
            scope.spawn(|| pool.shutdown(Drain::Skip));
            // Both answer while the job that runs still does.
            assert_eq!(waits.wait(), Err(JobEnded::Skipped));
            assert_eq!(told.recv().unwrap(), Err(JobEnded::Skipped));
            held.finish();
        });
        assert_eq!(has_run.try_recv(), Err(TryRecvError::Disconnected), "both were dropped");
    }

    #[test]
    fn a_panic_while_jobs_are_skipped_leaves_none_unanswered() {
        let pool = Pool::start(one_thread()).unwrap();
        let held = Held::begin(&pool);
        let kept = PanicsWhenDropped;
        let dropped = pool.submit(move || mem::forget(kept));
        pool.submit(|| ()).on_done(|_| panic!("in a callback"));
        let last = pool.submit(|| ());
        thread::scope(|scope| {
            let shutdown = scope.spawn(|| pool.shutdown(Drain::Skip));
            assert_eq!(dropped.wait(), Err(JobEnded::Skipped));
            assert_eq!(last.wait(), Err(JobEnded::Skipped));
            held.finish();
            shutdown.join().unwrap();
        });
    }

    #[test]
    fn jobs_that_wait_are_finished_by_a_shutdown_or_a_drop_otherwise() {
        let ends: [fn(Pool); 2] = [|pool| pool.shutdown(Drain::Finish), drop];
        for end in ends {
            let pool = Pool::start(one_thread()).unwrap();
            let held = Held::begin(&pool);
            let jobs: Vec<_> = (0..10).map(|number| pool.submit(move || number)).collect();
            drop(held.go_on);
            end(pool);
            for (number, mut job) in jobs.into_iter().enumerate() {
                assert_eq!(job.try_wait(), Some(Ok(number)), "answered before the pool had ended");
            }
        }
    }

    #[test]
    fn a_job_may_hold_the_last_handle_of_its_pool() {
        let pool = Arc::new(Pool::start(PoolOptions::new("test").threads(2)).unwrap());
        let (alone, is_alone) = mpsc::channel::<()>();
        let in_job = Arc::clone(&pool);
        let job = pool.submit(move || {
            is_alone.recv().unwrap();
            drop(in_job);
        });
        drop(pool);
        alone.send(()).unwrap();
        assert_eq!(job.wait(), Ok(()));
    }

    #[test]
    fn a_deferred_start_starts_nothing_before_the_first_job() {
        let pool = Pool::start(PoolOptions::new("test").threads(2).deferred_start(true)).unwrap();
        assert_eq!(pool.stats().threads, 0);
        let first = Held::begin(&pool);
        assert_eq!(pool.stats().threads, 1);
        let second = Held::begin(&pool);
        assert_eq!(pool.stats().threads, 2);
        let third = pool.submit(|| ());
        assert_eq!(pool.stats().threads, 2, "no more than it may have");
        assert_eq!(pool.stats().waiting, 1);
        first.finish();
        second.finish();
        third.wait().unwrap();
    }

    #[test]
    fn a_deferred_thread_is_not_started_for_a_job_that_another_is_free_for() {
        let pool = Pool::start(PoolOptions::new("test").threads(2).deferred_start(true)).unwrap();
        Held::begin(&pool).finish();
        until("its thread is free", || pool.shared.lock().idle == 1);
        let held = Held::begin(&pool);
        assert_eq!(pool.stats().threads, 1);
        held.finish();
    }

    #[test]
    fn a_start_that_is_not_deferred_starts_all_threads() {
        assert_eq!(Pool::start(PoolOptions::new("test")).unwrap().stats().threads, 5);
    }

    #[test]
    fn idle_threads_end_and_start_again() {
        let idle = Some(Duration::from_nanos(1));
        for (deferred, stay) in [(true, 0), (false, 1)] {
            let options = PoolOptions::new("test").threads(3).deferred_start(deferred).auto_shrink(idle);
            let pool = Pool::start(options).unwrap();
            for _ in 0..3 {
                let held = [Held::begin(&pool), Held::begin(&pool), Held::begin(&pool)];
                assert_eq!(pool.stats().threads, 3);
                held.into_iter().for_each(Held::finish);
                until("the idle threads end", || pool.stats().threads == stay);
            }
            assert_eq!(pool.submit(|| "again").wait(), Ok("again"));
        }
    }

    #[test]
    fn no_job_is_lost_to_a_thread_that_ends() {
        let options = PoolOptions::new("test").threads(2).backlog(1).deferred_start(true);
        let pool = Pool::start(options.auto_shrink(Some(Duration::ZERO))).unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..500 {
                        assert_eq!(pool.submit(move || number).wait(), Ok(number));
                    }
                });
            }
        });
        assert_eq!(pool.stats().done, 2000);
    }

    #[test]
    fn threads_bear_the_pools_name_and_a_number() {
        let pool = Pool::start(PoolOptions::new("swap-out").threads(2)).unwrap();
        let together = Arc::new(Barrier::new(2));
        let jobs = [0, 1].map(|_| {
            let together = Arc::clone(&together);
            pool.submit(move || {
                together.wait();
                thread::current().name().unwrap().to_owned()
            })
        });
        let mut names = jobs.map(|job| job.wait().unwrap());
        names.sort();
        assert_eq!(names, ["swap-out-1", "swap-out-2"]);
    }

    /// With the stack that threads have otherwise (2 MiB), this test would not fail but abort.
    #[test]
    fn threads_have_the_stack_they_were_given() {
        fn down(levels: usize) -> usize {
            let frame = std::hint::black_box([levels as u8; 1024]);
            if levels == 0 { 0 } else { down(levels - 1) + usize::from(frame[0] == levels as u8) }
        }

        let pool = Pool::start(one_thread().stack_size(64 << 20)).unwrap();
        assert_eq!(pool.submit(|| down(10_000)).wait(), Ok(10_000));
    }

    #[test]
    fn a_thread_that_cannot_be_started_is_an_error() {
        let options = one_thread().stack_size(1 << 60);
        Pool::start(options.clone()).unwrap_err();
        let pool = Pool::start(options.deferred_start(true)).unwrap();
        assert!(matches!(pool.submit(|| ()).wait(), Err(JobEnded::NoThread(_))));
        assert!(matches!(pool.try_submit(|| ()).unwrap().wait(), Err(JobEnded::NoThread(_))));
        assert_eq!(pool.stats(), PoolStats::default());
    }

    #[test]
    fn options_that_no_pool_can_have_are_refused() {
        for options in [PoolOptions::new("test").threads(0), PoolOptions::new("te\0st")] {
            assert_eq!(Pool::start(options).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn busy_is_the_time_that_jobs_took() {
        let pool = Pool::start(one_thread()).unwrap();
        let took = pool.submit(|| {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(2) {
                std::hint::spin_loop();
            }
            start.elapsed()
        });
        let took = took.wait().unwrap();
        assert!(pool.stats().busy >= took, "{:?} is less than {took:?}", pool.stats().busy);
    }

    #[test]
    fn asking_after_a_job_does_not_wait_for_it() {
        let pool = Pool::start(one_thread()).unwrap();
        let mut held = Held::begin(&pool);
        assert_eq!(held.completion.try_wait(), None);
        drop(held.go_on);
        let (waker, _woken) = waker("unused");
        until("the job ends", || pool.stats().done == 1);
        drop(pool);
        assert_eq!(held.completion.try_wait(), Some(Ok(())));
        assert_eq!(held.completion.try_wait(), Some(Err(JobEnded::Taken)));
        assert_eq!(poll(&mut held.completion, &waker), Poll::Ready(Err(JobEnded::Taken)));
        assert_eq!(held.completion.wait(), Err(JobEnded::Taken));
    }

    #[test]
    fn a_callback_is_called_on_the_jobs_thread_or_at_once() {
        let pool = Pool::start(one_thread()).unwrap();
        let (tell, told) = mpsc::channel();
        let here = thread::current().id();

        let held = Held::begin(&pool);
        let later = tell.clone();
        held.completion.on_done(move |answer| later.send((answer, thread::current().id())).unwrap());
        assert_eq!(told.try_recv(), Err(TryRecvError::Empty));
        drop(held.go_on);
        let (answer, thread) = told.recv().unwrap();
        assert_eq!(answer, Ok(()));
        assert_ne!(thread, here);

        let ended = pool.submit(|| ());
        drop(pool);
        ended.on_done(move |answer| tell.send((answer, thread::current().id())).unwrap());
        assert_eq!(told.try_recv(), Ok((Ok(()), here)));
    }

    #[test]
    fn a_dropped_completion_does_not_cancel_its_job() {
        let pool = Pool::start(one_thread()).unwrap();
        let held = Held::begin(&pool);
        let (ran, has_run) = mpsc::channel();
        drop(pool.submit(move || ran.send(()).unwrap()));
        held.finish();
        has_run.recv().unwrap();
    }

    #[test]
    fn a_future_wakes_who_polled_it_last() {
        let pool = Pool::start(one_thread()).unwrap();
        let mut held = Held::begin(&pool);
        let ((first, first_woken), (second, woken)) = (waker("first"), waker("second"));
        assert_eq!(poll(&mut held.completion, &first), Poll::Pending);
        assert_eq!(poll(&mut held.completion, &second), Poll::Pending);
        assert_eq!(woken.try_recv(), Err(TryRecvError::Empty));
        drop(held.go_on);
        assert_eq!(woken.recv(), Ok("second"));
        assert_eq!(poll(&mut held.completion, &second), Poll::Ready(Ok(())));
        assert_eq!(first_woken.try_recv(), Err(TryRecvError::Empty));
    }

    #[test]
    fn a_job_is_awaited_without_a_runtime() {
        let pool = Pool::start(one_thread()).unwrap();
        let mut sum = Box::pin(async { pool.submit(|| 1).await.unwrap() + pool.submit(|| 2).await.unwrap() });
        let (waker, woken) = waker("woken");
        let value = loop {
            match sum.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(value) => break value,
                Poll::Pending => drop(woken.recv().unwrap()),
            }
        };
        assert_eq!(value, 3);
    }
}
