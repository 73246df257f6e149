//! `qanat`: the one binary.

use std::process::ExitCode;

use clap::Parser;

mod attach;
mod cli;
mod data_folder;
mod embedded;
mod history;
mod output;
mod progress;
mod receipt_seen;
mod script;

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("QANAT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments = match cli::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap prints help to stdout and usage errors to stderr.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    let format = arguments.output;
    match cli::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error(&error, format);
            let usage = matches!(error.code(), qanat_proto::Code::Usage);
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}
