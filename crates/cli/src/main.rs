//! The `kavka` command: reads the arguments, carries them out, and tells the shell how it went.
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
    let Arguments { cluster, command } = Arguments::parse();
    let result = match command {
        Command::Produce(arguments) => produce::run(&cluster, &arguments),
        Command::Consume(arguments) => consume::run(&cluster, &arguments),
        Command::Topics(arguments) => topics::run(&cluster, arguments),
        Command::Broker(arguments) => broker::run(&cluster, &arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("kavka: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
