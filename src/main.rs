//! `qanat`: the one binary.

use std::process::ExitCode;

use clap::Parser;

mod allocator;
mod attach;
mod audit;
mod beginning;
#[cfg(target_os = "linux")]
mod chaos;
mod cli;
mod cluster;
mod data_folder;
mod embedded;
mod file_limit;
mod history;
mod inspect;
mod observe;
mod output;
mod progress;
mod proof;
mod readmit;
mod receipt_seen;
mod retention;
mod script;
mod sim;
mod withdrawable;

fn main() -> ExitCode {
    allocator::tune();
    qanat_executor::memory::set_give_back(allocator::give_back);
    let arguments = match cli::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let format = output::Format::asked_for(std::env::args_os().map(|text| text.to_string_lossy().into_owned()));
            if error.use_stderr() && format != output::Format::Table {
                output::print_error(&usage_error(&error), format);
                return ExitCode::from(2);
            }
            // clap prints help to stdout and usage errors to stderr.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    observe::logs::start(arguments.log_format);
    let format = arguments.output;
    match cli::run(arguments).and_then(|()| output::check()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error(&error, format);
            let usage = matches!(error.code(), qanat_proto::Code::Usage);
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

/// What clap says, as programs read errors.
fn usage_error(error: &clap::Error) -> qanat_proto::Error {
    let text = error.to_string();
    let lines = text.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let message = lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    qanat_proto::Error::new(qanat_proto::Code::Usage, message.trim_start_matches("error: "))
        .hint("`qanat help` and `qanat help <command>` list the commands and their options")
}
