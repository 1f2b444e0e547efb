use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<SandboxCommand, clap::Error> {
    let words = ["atoll", "sandbox"].into_iter().chain(line.split(' '));
    Cli::try_parse_from(words).map(|cli| match cli.command {
        Some(Command::Sandbox { command }) => command,
        _ => unreachable!("the line begins with `sandbox`"),
    })
}

#[test]
fn the_grammar_is_sound() {
    Cli::command().debug_assert();
}

/// The words of every call of `atoll` in a line for a shell, with an id for each variable.
fn calls(line: &str) -> Vec<Vec<String>> {
    let line = line.split("    ").next().unwrap_or_default();
    let (mut words, mut quote, mut word) = (Vec::new(), None, String::new());
    for c in line.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => quote = Some(c),
            (' ' | '(' | ')' | '|' | '>' | '<', None) => {
                words.push(std::mem::take(&mut word));
                words.extend((c != ' ').then(|| c.to_string()));
            }
            _ => word.push(c),
        }
    }
    words.push(word);
    let ends = |word: &String| ["(", ")", "|", ">", "<", "2>&1"].contains(&word.as_str());
    let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).map(|word| word.replace("$id", "abc1")).collect();
    let starts = words.iter().enumerate().filter(|(_, word)| *word == "atoll").map(|(at, _)| &words[at..]);
    starts.map(|rest| rest.iter().take_while(|word| !ends(word)).cloned().collect()).collect()
}

#[test]
fn every_command_has_examples_that_the_grammar_accepts() {
    let cli = Cli::command();
    for (words, leaf) in atoll_manual::leaves(&cli) {
        let examples = atoll_manual::examples(leaf);
        let own = words.replace("atoll sandbox run", "atoll run");
        assert!(examples.iter().any(|line| line.contains(&own)), "{words} has no example of itself: {examples:?}");
        for call in examples.iter().flat_map(|line| calls(line)) {
            Cli::try_parse_from(&call).unwrap_or_else(|e| panic!("{words}: {call:?}: {e}"));
        }
        assert!(leaf.get_about().is_some(), "{words} says what it does");
    }
    assert!(atoll_manual::examples(&cli).len() > 5);
}

#[test]
fn help_fits_a_terminal() {
    let cli = Cli::command();
    for (words, command) in atoll_manual::leaves(&cli).into_iter().chain([("atoll".into(), &cli)]) {
        for line in command.get_after_help().map(ToString::to_string).unwrap_or_default().lines() {
            assert!(line.chars().count() < 75, "{words}, with the margin of a manual page: {line}");
        }
    }
    for line in GUIDE.lines() {
        assert!(line.chars().count() < 80, "{line}");
    }
}

#[test]
fn run_takes_a_template_and_a_command() {
    let Ok(SandboxCommand::Run(run)) = parse("run -- echo -n --timeout") else { panic!() };
    assert_eq!((run.template.as_str(), run.new.timeout, run.keep), ("base", 300, false));
    assert_eq!(run.process.command, ["echo", "-n", "--timeout"]);
    let Ok(SandboxCommand::Run(run)) = parse("run --template web --timeout 5 --env A=b=c --metadata k= -it -u root sh -c id") else {
        panic!()
    };
    assert_eq!((run.template.as_str(), run.new.timeout), ("web", 5));
    assert_eq!((run.new.env, run.new.metadata), (vec![("A".into(), "b=c".into())], vec![("k".into(), String::new())]));
    assert!(run.process.interactive && run.process.tty && run.process.user.as_deref() == Some("root"));
    assert_eq!(run.process.command, ["sh", "-c", "id"], "a command needs no `--`");
    assert!(parse("run --keep").is_err(), "a command is needed");
    assert!(parse("run --keep --rm -- ls").is_err());
    let short = Cli::try_parse_from(["atoll", "run", "ls", "-l"]).unwrap();
    assert!(matches!(short.command, Some(Command::Run(run)) if run.process.command == ["ls", "-l"]));
}

#[test]
fn exec_takes_flags_on_either_side_of_the_id() {
    for line in
        ["exec abc1 --cwd / --timeout 9 -- ls -l", "exec --cwd / --timeout 9 abc1-legacy -- ls -l", "exec abc1 --cwd / --timeout 9 ls -l"]
    {
        let Ok(SandboxCommand::Exec { id, process, timeout, .. }) = parse(line) else { panic!("{line}") };
        assert_eq!((id.as_str(), process.cwd.as_deref(), timeout), ("abc1", Some("/"), Some(9)));
        assert_eq!(process.command, ["ls", "-l"], "{line}");
    }
}

#[test]
fn nonsense_is_refused() {
    for line in [
        "exec ../x -- ls",
        "kill",
        "kill --all abc1",
        "kill ABC",
        "create --env A",
        "create --metadata =v",
        "create --timeout 0",
        "ls --state dead",
        "ls -q --json",
        "url abc1 0",
        "forward abc1",
        "forward abc1 80:0",
        "cp ABC:x .",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
    let Ok(SandboxCommand::Ls { state, .. }) = parse("ls --state running,paused") else { panic!() };
    assert_eq!(state, ["running", "paused"]);
    let error = Cli::try_parse_from(["atoll", "sandbox", "kil"]).err().unwrap().to_string();
    assert!(error.contains("'kill'"), "{error}");
}
