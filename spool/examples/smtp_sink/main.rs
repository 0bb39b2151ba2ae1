//! The edge of a mail server: mail comes in over SMTP, is held in a spool, and goes out into a Maildir.
//!
//! ```sh
//! cargo run --release -p spool --example smtp_sink -- --listen 127.0.0.1:2525 --spool /tmp/s --maildir /tmp/m
//! swaks --server 127.0.0.1:2525 --from a@example.com --to b@example.net,c@example.net --attach @photo.jpg
//! smtp-source -s 8 -m 10000 -l 4096 -d -f a@example.com -t b@example.net inet:127.0.0.1:2525
//! ```
//!
//! The end of DATA is answered with 250 when [`Spool::accept_batch`](spool::Spool::accept_batch) has returned, and not before:
//! then the message is on the disk (`--durability process`: in the kernel), for all of its recipients. Kill the process when
//! you like, start it again, and all that was answered with 250 comes out of the other end, once. Without `--maildir` nothing
//! comes out. SIGTERM or Ctrl-C end it: clients have two seconds to finish their messages.
//!
//! A message goes through with constant memory, whatever its size. One thread for each client, of which there are at most
//! `--clients`. This shows a spool and is no mail server: there is no TLS, it accepts mail for everybody, bounces nothing,
//! and puts no Received field (RFC 5321, 4.4) before what it was given. `tests/smtp/run` tries it.

mod connection;
mod drain;
mod session;
mod sink;

use std::error::Error;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use spool::mailbox::Maildir;
use spool::{Durability, SpoolOptions};

use sink::Sink;

/// How long clients may go on when it is time to end.
const GRACE: Duration = Duration::from_secs(2);

/// Accepts mail over SMTP into a spool, and delivers it to a Maildir.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// Where to listen; port 0 picks one, which is printed.
    #[arg(long, default_value = "127.0.0.1:2525")]
    listen: SocketAddr,
    /// The spool's directory; it is made if it is not there.
    #[arg(long)]
    spool: PathBuf,
    /// The Maildir to deliver to; without it, nothing is delivered.
    #[arg(long)]
    maildir: Option<PathBuf>,
    /// What 250 promises.
    #[arg(long, value_enum, default_value = "power")]
    durability: Promise,
    /// Ends when so many messages were accepted, and none is left to deliver; 0: when what is there was delivered.
    #[arg(long, value_name = "MESSAGES")]
    exit_after: Option<u64>,
    /// The largest message, in bytes.
    #[arg(long, default_value_t = 64 << 20)]
    max_size: u64,
    /// Clients at the same time; whoever comes then is answered 421.
    #[arg(long, default_value_t = 256)]
    clients: usize,
    /// Seconds after which a client that says nothing is sent away.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Prints what was done, every so many seconds. At the end it is printed anyhow.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    stats: Option<u64>,
}

/// What a 250 promises.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Promise {
    /// The message survives the loss of power.
    Power,
    /// It survives the death of the process.
    Process,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let durability = match args.durability {
        Promise::Power => Durability::Power,
        Promise::Process => Durability::Process,
    };
    let spool =
        SpoolOptions::new().durability(durability).max_message_size(args.max_size).open(&args.spool)?;
    let maildir = args.maildir.as_ref().map(Maildir::create).transpose()?;
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let listener = TcpListener::bind(args.listen)?;
    let here = listener.local_addr()?;
    println!("listening {here}");
    std::io::stdout().flush()?;

    let sink = Sink::new(spool, &args);
    std::thread::scope(|scope| {
        scope.spawn(|| listen(&sink, &listener, &args));
        if let Some(maildir) = maildir {
            scope.spawn(|| drain::drain(&sink, maildir));
        }
        let interrupt = signals.handle();
        scope.spawn(|| {
            if signals.forever().next().is_some() {
                sink.stop();
            }
        });

        while !sink.stops_within(Duration::from_secs(args.stats.unwrap_or(3600))) {
            if args.stats.is_some() {
                println!("{}", sink.report());
            }
        }
        // Wakes the listener.
        let _ = TcpStream::connect(here);
        interrupt.close();
        sink.send_clients_away(GRACE);
    });
    println!("{}", sink.report());
    Ok(sink.close()?)
}

fn listen(sink: &Sink, listener: &TcpListener, args: &Args) {
    std::thread::scope(|scope| {
        for stream in listener.incoming() {
            if sink.is_stopping() {
                return;
            }
            if let Err(error) = stream.and_then(|stream| welcome(scope, sink, stream, args)) {
                // Too many open files, most likely: those who are here have to leave first.
                eprintln!("a client was not served: {error}");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    });
}

/// Gives a client a thread, or sends it away.
fn welcome<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    sink: &'scope Sink,
    mut stream: TcpStream,
    args: &Args,
) -> std::io::Result<()> {
    let timeout = Some(Duration::from_secs(args.timeout));
    stream.set_read_timeout(timeout)?;
    stream.set_write_timeout(timeout)?;
    stream.set_nodelay(true)?;
    let Some(client) = sink.client(stream.try_clone()?) else {
        // Whether it hears that is its own affair.
        let _ = stream.write_all(b"421 4.3.2 Too many clients\r\n");
        return Ok(());
    };
    let serve = move || {
        let peer = stream.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
        // A client that breaks off has heard all that was promised to it.
        let _ = connection::converse(sink, &stream, &stream, &peer);
        drop(client);
    };
    std::thread::Builder::new().spawn_scoped(scope, serve).map(drop)
}
