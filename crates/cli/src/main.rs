//! The `kavka` command: reads the arguments, does what they say, and tells the shell how it went.
//!
//! Exit codes, for scripts: 0 all went well; 1 something failed, and standard error says what; 2 wrong usage;
//! 130 (128 + the signal's number) after Ctrl-C.

mod arguments;
mod broker;
mod consume;
mod deliveries;
mod escapes;
mod failure;
mod input;
mod output;
mod produce;
mod progress;
mod session;
mod signals;
mod start;
mod template;
mod topics;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Produce(arguments) => produce::run(&arguments),
        Command::Consume(arguments) => consume::run(&arguments),
        Command::Topics(arguments) => topics::run(arguments),
        Command::Broker(arguments) => broker::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("kavka: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
