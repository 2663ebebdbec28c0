//! The `kavka` command: parses the arguments, runs the subcommand, and sets the exit code.
//!
//! Exit codes, for scripts: 0 success; 1 failure, described on standard error; 2 wrong usage; 130 (128 plus the
//! signal's number) after Ctrl-C.

mod arguments;
mod broker;
mod cluster;
mod consume;
mod deliveries;
mod escapes;
mod failure;
mod groups;
mod input;
mod lag;
mod output;
mod produce;
mod progress;
mod session;
mod signals;
mod start;
mod table;
mod template;
mod topics;
mod verifiable;

use std::process::ExitCode;

use arguments::{Arguments, Command};
use failure::{Failure, Warnings};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("kavka: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run() -> Result<(), Failure> {
    let Arguments { cluster, command } = Arguments::read()?;
    Warnings::print();
    match command {
        Command::Produce(arguments) => produce::run(&cluster, &arguments),
        Command::Consume(arguments) => consume::run(&cluster, &arguments),
        Command::Topics(arguments) => topics::run(&cluster, arguments),
        Command::Groups(arguments) => groups::run(&cluster, arguments),
        Command::Broker(arguments) => broker::run(&cluster, &arguments),
        Command::VerifiableProducer(arguments) => verifiable::producer::run(&cluster, &arguments),
        Command::VerifiableConsumer(arguments) => verifiable::consumer::run(&cluster, &arguments),
    }
}
