//! Completions: clap's own, and for bash, zsh and fish a hook that asks the program for values only it knows.

use clap::{Arg, Command};
use clap_complete::Shell;

/// The script for a shell. Where `program sandbox …` takes an argument called `argument`, the lines that `list` prints are offered.
pub fn completion(mut command: Command, shell: Shell, argument: &str, list: &str) -> String {
    let mut script = Vec::new();
    let program = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, &program, &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let takers = takers(&command, argument);
    if takers.is_empty() {
        return script;
    }
    match shell {
        Shell::Bash => script + &bash(&program, &takers, list),
        Shell::Fish => script + &fish(&program, &takers, list),
        Shell::Zsh => zsh(script, &program, &command, argument, list),
        _ => script,
    }
}

fn takes(command: &Command, argument: &str) -> bool {
    command.get_positionals().any(|arg| arg.get_id() == argument)
}

/// The names, aliases included, of the second-level commands that take it, by the names of the first.
fn takers(command: &Command, argument: &str) -> Vec<(String, String)> {
    let names = |command: &Command| -> Vec<String> {
        std::iter::once(command.get_name()).chain(command.get_all_aliases()).map(str::to_owned).collect()
    };
    let mut found = Vec::new();
    for group in command.get_subcommands() {
        let below: Vec<String> = group.get_subcommands().filter(|below| takes(below, argument)).flat_map(names).collect();
        if !below.is_empty() {
            found.push((names(group).join(" "), below.join(" ")));
        }
    }
    found
}

fn bash(program: &str, takers: &[(String, String)], list: &str) -> String {
    let pairs = takers
        .iter()
        .flat_map(|(groups, below)| groups.split(' ').flat_map(move |group| below.split(' ').map(move |name| format!("{group}:{name}"))));
    let pairs = pairs.collect::<Vec<_>>().join("|");
    format!(
        r#"
_{program}_with_ids() {{
    _{program} "$@"
    local cur="${{COMP_WORDS[COMP_CWORD]}}"
    [[ $cur == -* || $COMP_CWORD -lt 3 || " ${{COMP_WORDS[*]:3:COMP_CWORD-3}} " == *" -- "* ]] && return
    case "${{COMP_WORDS[1]}}:${{COMP_WORDS[2]}}" in
        {pairs})
            COMPREPLY+=($(compgen -W "$({list} 2>/dev/null)" -- "$cur")) ;;
    esac
}}
complete -F _{program}_with_ids -o nosort -o bashdefault -o default {program}
"#
    )
}

fn fish(program: &str, takers: &[(String, String)], list: &str) -> String {
    let line = |(groups, below): &(String, String)| {
        format!(
            "complete -c {program} -n \"__fish_seen_subcommand_from {groups}; and __fish_seen_subcommand_from {below}\" -f -a \"({list} 2>/dev/null)\"\n"
        )
    };
    takers.iter().map(line).collect()
}

/// Argument specifications end in `:_default`; those of ours name a function instead.
fn zsh(script: String, program: &str, command: &Command, argument: &str, list: &str) -> String {
    let all = command.get_subcommands().flat_map(Command::get_subcommands);
    let specifications: Vec<String> = all.flat_map(Command::get_positionals).filter(|arg| arg.get_id() == argument).map(prefix).collect();
    let function = format!("_{program}_ids");
    let lines = script.lines().map(|line| match specifications.iter().any(|prefix| line.contains(prefix)) {
        true => line.replace(":_default'", &format!(":{function}'")) + "\n",
        false => format!("{line}\n"),
    });
    let script: String = lines.collect();
    let helper = format!("(( $+functions[{function}] )) ||\n{function}() {{\n    compadd -- ${{(f)\"$({list} 2>/dev/null)\"}}\n}}\n\n");
    let end = script.rfind("if [ \"$funcstack[1]\"").unwrap_or(script.len());
    let (before, after) = script.split_at(end);
    [before, &helper, after].concat()
}

fn prefix(argument: &Arg) -> String {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    format!(":{} -- {}", argument.get_id(), help.lines().next().unwrap_or_default())
}
