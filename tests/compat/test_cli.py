"""The `atoll` command as people and scripts use it: its examples as they stand in `--help`, its exit codes, its completions."""

import json
import os
import pty
import re
import secrets
import select
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from daemon import BIN, wait_for


@pytest.fixture
def environment(daemon):
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("E2B_", "ATOLL_"))}
    variables |= daemon.env() | {"ATOLL_DATA_DIR": str(daemon.data), "TERM": "xterm"}
    variables["PATH"] = f"{BIN}:{variables['PATH']}"
    return variables


@pytest.fixture
def atoll(environment):
    def run(*arguments, **options):
        options = {"stdin": subprocess.DEVNULL} | options if "input" not in options else options
        options["env"] = environment | options.pop("env", {})
        text = options.pop("text", True)
        return subprocess.run([BIN / "atoll", *arguments], capture_output=True, text=text, timeout=60, **options)

    return run


@pytest.fixture
def sandbox_id(atoll):
    id = atoll("sandbox", "create", "--timeout", "120").stdout.strip()
    yield id
    atoll("sandbox", "kill", id)


def ids(atoll, **metadata):
    filters = [word for name, value in metadata.items() for word in ("--metadata", f"{name}={value}")]
    return atoll("sandbox", "ls", "-q", *filters).stdout.split()


def on_a_terminal(command, environment, typed=b"", seconds=60, **options):
    """Runs it with a terminal of 80 columns; what was shown, and its exit code."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(options.get("cwd", "/"))
        os.execvpe(command[0], command, environment)
    shown, deadline = b"", time.monotonic() + seconds
    while time.monotonic() < deadline:
        if typed and re.search(rb"[$#] ", shown):
            os.write(terminal, typed)
            typed = b""
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                chunk = os.read(terminal, 65536)
            except OSError:
                break
            if not chunk:
                break
            shown += chunk
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(terminal)
    return shown.decode(errors="replace"), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def commands(atoll, *words):
    """Every command that does something, by its words."""
    text = atoll(*words, "--help").stdout
    below = re.search(r"^Commands:\n(.*?)\n\n", text, re.S | re.M)
    if not below:
        return [words]
    names = [line.split()[0] for line in below[1].splitlines() if re.match(r"  \w", line)]
    return [found for name in names if name != "help" for found in commands(atoll, *words, name)]


def examples(text):
    """The examples of a help text without what is said beside them."""
    section = text.split("\nExamples:\n")[1].split("\n\n")[0]
    return [re.split(r" {3,}", line.strip())[0] for line in section.splitlines()]


def test_every_example_works_when_pasted(atoll, environment, sandbox_id, tmp_path):
    if not shutil.which("jq"):
        (tmp_path / "jq").write_text("#!/bin/sh\nexec cat > /dev/null\n")
        (tmp_path / "jq").chmod(0o755)
    # Root needs no sudo, and home and working directory are the test's own.
    (tmp_path / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
    (tmp_path / "sudo").chmod(0o755)
    (tmp_path / "src").mkdir()
    for name in ("data.csv", "app.conf", "src/main.py"):
        (tmp_path / name).write_text("x\n")
    for dir in (".zfunc", ".config/fish/completions"):
        (tmp_path / dir).mkdir(parents=True)
    environment |= {"HOME": str(tmp_path), "PATH": f"{tmp_path}:{environment['PATH']}"}
    server = subprocess.Popen([BIN / "atoll", "sandbox", "exec", sandbox_id, "python3", "-m", "http.server", "8000"], env=environment)
    wait_for(lambda: atoll("sandbox", "exec", sandbox_id, "--", "curl", "-fso", "/dev/null", "localhost:8000").returncode == 0)
    before, tried = set(ids(atoll)), 0
    try:
        for words in commands(atoll):
            for example in examples(atoll(*words, "--help").stdout):
                if words in {("sandbox", "kill"), ("sandbox", "wait"), ("sandbox", "forward"), ("doctor",)} or "--follow" in example:
                    continue  # They end things or wait for their end, or judge or use the machine: tested below.
                script = f"set -o pipefail; id={sandbox_id}; {example}"
                if "-it" in example or words[-1] == "connect":
                    shown, code = on_a_terminal(["bash", "-c", script], environment, b"echo $((6 * 7)); exit\n", cwd=tmp_path)
                    assert code == 0 and "42" in shown, f"{example}\n{shown}"
                else:
                    done = subprocess.run(["bash", "-c", script], env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
                    assert done.returncode == 0, f"{example}\n{done.stdout}\n{done.stderr}"
                tried += 1
    finally:
        server.terminate()
        server.wait()
        for id in set(ids(atoll)) - before:
            atoll("sandbox", "kill", id)
    assert tried > 25


def test_run_passes_on_input_output_and_exit_code(atoll):
    assert atoll("run", "--", "wc", "-c", input="12345").stdout.strip() == "5"
    done = atoll("run", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)
    done = atoll("run", "--json", "--", "sh", "-c", "echo out; exit 3")
    told = json.loads(done.stdout)
    assert (told["stdout"], told["exitCode"], done.returncode) == ("out\n", 3, 3)
    assert atoll("run", "--", "no-such-command").returncode == 127
    assert atoll("run", "--", "/etc/passwd").returncode == 126
    assert atoll("run", "--template", "no-such-template", "--", "ls").returncode == 125
    assert atoll("run", "--", "sh", "-c", "kill -9 $$").returncode == 137


def test_run_ends_its_sandbox_however_it_ends(atoll, environment):
    mark = secrets.token_hex(4)
    new = ["run", "--metadata", f"mark={mark}", "--timeout"]
    assert atoll(*new, "60", "--", "true").returncode == 0
    assert ids(atoll, mark=mark) == []
    assert atoll(*new, "1", "--", "sleep", "60").returncode == 124
    wait_for(lambda: ids(atoll, mark=mark) == [], what="the end of the sandbox")
    for sig, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        process = subprocess.Popen([BIN / "atoll", *new, "60", "--", "sh", "-c", "echo up; sleep 60"], env=environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert process.stdout.readline() == b"up\n"
        process.send_signal(sig)
        assert process.wait(30) == code
        process.stdout.close()
        assert ids(atoll, mark=mark) == []


def test_an_interruption_while_creating_leaves_no_sandbox(atoll, environment):
    mark = secrets.token_hex(4)
    process = subprocess.Popen([BIN / "atoll", "run", "--metadata", f"mark={mark}", "--", "sleep", "60"], env=environment, stdin=subprocess.DEVNULL)
    wait_for(lambda: catches(process.pid, signal.SIGTERM), what="a listener for signals, which is there before the request")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert ids(atoll, mark=mark) == []


def catches(pid, sig):
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", open(f"/proc/{pid}/status").read(), re.M)[1]
    return int(caught, 16) >> (sig - 1) & 1


def test_keep_keeps_it(atoll):
    done = atoll("run", "--keep", "--", "touch", "kept")
    id = done.stderr.strip()
    assert atoll("sandbox", "exec", id, "ls").stdout == "kept\n"
    assert atoll("sandbox", "kill", id).stdout == f"{id}\n"


def test_failures_have_codes_and_say_what_to_do(atoll, environment, sandbox_id, tmp_path):
    def fails(code, hint, *arguments, **env):
        done = atoll(*arguments, env=env)
        assert done.returncode == code and hint in done.stderr and "panicked" not in done.stderr, done

    fails(2, "atoll run -- python3")
    fails(2, "similar subcommand exists: 'kill'", "sandbox", "kil")
    fails(3, f"did you mean `{sandbox_id}`?", "sandbox", "info", sandbox_id[:-1] + "0")
    fails(3, "atoll sandbox ls", "sandbox", "kill", "zzzzzzzzzzzzzzzzzzzz")
    fails(125, "there is no sandbox", "sandbox", "exec", "zzzzzzzzzzzzzzzzzzzz", "ls")
    fails(4, "source <(sudo atoll env)", "sandbox", "ls", E2B_API_KEY="e2b_00")
    fails(4, "source <(sudo atoll env)", "sandbox", "ls", E2B_API_KEY="", ATOLL_DATA_DIR=str(tmp_path))
    fails(5, "sudo atolld all", "sandbox", "ls", E2B_API_URL="http://127.0.0.1:9")
    fails(5, "no connection to https://", "sandbox", "ls", E2B_API_URL="https://" + environment["E2B_API_URL"].removeprefix("http://"))
    fails(5, "https://api.nowhere.invalid", "sandbox", "ls", E2B_API_URL="", E2B_DOMAIN="nowhere.invalid")
    fails(125, "E2B_SANDBOX_URL", "sandbox", "exec", sandbox_id, "ls", E2B_SANDBOX_URL="http://127.0.0.1:9")
    fails(1, "no-such-template", "sandbox", "create", "no-such-template")
    fails(1, "must be in a sandbox", "sandbox", "cp", "a", "b")
    fails(1, "start the daemon first", "env", ATOLL_DATA_DIR=str(tmp_path))


def test_files_and_directories_are_copied_both_ways(atoll, sandbox_id, tmp_path):
    blob = os.urandom(3 << 20)
    (tmp_path / "blob").write_bytes(blob)
    assert atoll("sandbox", "cp", str(tmp_path / "blob"), f"{sandbox_id}:").returncode == 0
    there = atoll("sandbox", "cp", f"{sandbox_id}:blob", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == blob
    assert re.fullmatch(r"blob: 3\.0 MiB in .* s \(.*/s\)\n", there.stderr), "one line where there is no terminal"
    assert atoll("sandbox", "cp", "-q", f"{sandbox_id}:blob", "-", text=False) .stdout == blob
    assert atoll("sandbox", "cp", "-", f"{sandbox_id}:/tmp/in", input="piped").returncode == 0
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/run").write_text("#!/bin/sh\n")
    (tree / "sub/run").chmod(0o755)
    (tree / "link").symlink_to("sub/run")
    assert atoll("sandbox", "cp", str(tree), f"{sandbox_id}:/tmp/").returncode == 0
    assert atoll("sandbox", "exec", sandbox_id, "--", "sh", "-c", "cat /tmp/in; /tmp/tree/link && ln -s /etc/passwd /tmp/tree/out").stdout == "piped"
    for target in ("copy", "copy"):
        done = atoll("sandbox", "cp", f"{sandbox_id}:/tmp/tree", str(tmp_path / target))
        assert done.returncode == 0 and "out links to elsewhere" in done.stderr
    # The second time the target was there.
    assert sorted(p.name for p in (tmp_path / "copy").iterdir()) == ["link", "sub", "tree"]
    assert os.access(tmp_path / "copy/sub/run", os.X_OK) and os.readlink(tmp_path / "copy/link") == "sub/run"
    assert "no `/nope`" in atoll("sandbox", "cp", f"{sandbox_id}:/nope", "-").stderr


def test_a_copy_shows_its_progress_on_a_terminal(environment, sandbox_id, tmp_path):
    with open(tmp_path / "big", "wb") as big:
        big.truncate(200 << 20)
    shown, code = on_a_terminal([str(BIN / "atoll"), "sandbox", "cp", str(tmp_path / "big"), f"{sandbox_id}:"], environment)
    lines = re.findall(r"big  \[=*> *\] +\d+%  [^\r]* of 200\.0 MiB  [^\r]*/s[^\r]*", shown)
    assert code == 0 and lines and all(len(line) < 80 for line in lines), shown
    assert "big: 200.0 MiB in" in shown


def test_a_sandbox_is_watched_until_it_ends(atoll, environment, sandbox_id):
    assert atoll("sandbox", "wait", sandbox_id, "--timeout", "0").returncode == 124
    assert atoll("sandbox", "timeout", sandbox_id, "100").returncode == 0
    waiting = [
        subprocess.Popen([BIN / "atoll", "sandbox", *words], env=environment, stdout=subprocess.PIPE, text=True)
        for words in (["wait", sandbox_id], ["logs", sandbox_id, "--follow"])
    ]
    wait_for(lambda: "process_start" in atoll("sandbox", "exec", sandbox_id, "true").stdout + atoll("sandbox", "logs", sandbox_id).stdout)
    assert waiting[0].poll() is None and waiting[1].poll() is None
    assert atoll("sandbox", "kill", sandbox_id).returncode == 0
    output = [process.communicate(timeout=30)[0] for process in waiting]
    assert [process.returncode for process in waiting] == [0, 0]
    assert "process_start" in output[1]


def test_ports_of_a_sandbox_become_ports_here(environment, sandbox_id):
    running = [
        subprocess.Popen([BIN / "atoll", "sandbox", *words], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        for words in (["exec", sandbox_id, "python3", "-um", "http.server", "8000"], ["forward", sandbox_id, "0:8000", "0:9"])
    ]
    try:
        assert "port 8000" in running[0].stdout.readline()
        [url, closed] = [running[1].stdout.readline().split()[0] for _ in range(2)]
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert b"Directory listing" in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="502"):
            urllib.request.urlopen(closed, timeout=20)
    finally:
        for process in running:
            process.send_signal(signal.SIGINT)
        assert [process.wait(30) for process in running] == [130, -signal.SIGINT]


def test_what_is_for_programs_is_json(atoll, sandbox_id):
    listed = json.loads(atoll("sandbox", "ls", "--json").stdout)
    assert sandbox_id in [sandbox["sandboxID"] for sandbox in listed] and sandbox_id in ids(atoll)
    assert json.loads(atoll("sandbox", "info", sandbox_id, "--json").stdout)["state"] == "running"
    wait_for(lambda: json.loads(atoll("sandbox", "metrics", sandbox_id, "--json").stdout))
    assert "MEMORY" in atoll("sandbox", "metrics", sandbox_id).stdout
    assert json.loads(atoll("env", "--json").stdout)["E2B_API_KEY"].startswith("e2b_")
    doctor = atoll("doctor", "--json")
    assert all(finding["ok"] or finding["fix"] for finding in json.loads(doctor.stdout))
    assert (doctor.returncode == 0) == ("Atoll can run here" in atoll("doctor").stdout)


def test_the_bash_completion_completes_commands_flags_and_ids(environment, sandbox_id):
    script = """
        source <(atoll completion bash)
        complete_line() {
            COMP_WORDS=($1) COMP_LINE=$1 COMP_POINT=${#1} COMPREPLY=()
            [[ $1 == *' ' ]] && COMP_WORDS+=('')
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            local how=($(complete -p atoll))
            [[ "${how[*]}" =~ -F\\ ([a-z_]+) ]]
            "${BASH_REMATCH[1]}" atoll "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
            echo "${COMPREPLY[*]}"
        }
    """

    def completes(line):
        done = subprocess.run(["bash", "--norc", "-c", script + f"complete_line '{line}'"], env=environment, capture_output=True, text=True, timeout=30)
        assert done.stderr == ""
        return done.stdout.split()

    assert completes("atoll sand") == ["sandbox"]
    assert completes("atoll sandbox conn") == ["connect"]
    assert completes("atoll sandbox create --time") == ["--timeout"]
    assert sandbox_id in completes("atoll sandbox info ")
    assert completes(f"atoll sbx kill {sandbox_id[:-2]}") == [sandbox_id]
    assert sandbox_id not in completes("atoll sandbox create ")


@pytest.mark.skipif(not shutil.which("man"), reason="man is not installed")
@pytest.mark.parametrize("program", ["atoll", "atolld"])
def test_manual_pages_render(program, environment, tmp_path):
    subprocess.run([BIN / program, "man", tmp_path], check=True, env=environment)
    pages = sorted(tmp_path.iterdir())
    assert tmp_path / f"{program}.1" in pages and len(pages) > 5
    for page in pages:
        done = subprocess.run(["man", "--warnings", "-l", page], env=environment | {"MANWIDTH": "80", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"}, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0 and not done.stderr, done.stderr
        for section in ("NAME", "SYNOPSIS", "EXIT STATUS", "FILES"):
            assert f"\n{section}\n" in done.stdout, f"{page}: {section}"
        assert all(len(line) <= 80 for line in done.stdout.splitlines()), page


def test_the_help_fits_80_columns_and_has_no_colours_where_there_is_no_terminal(atoll, environment):
    for words in commands(atoll):
        text = atoll(*words, "--help", env={"COLUMNS": "80"}).stdout
        assert "\x1b" not in text and "Examples:" in text
    shown, _ = on_a_terminal([str(BIN / "atoll"), "--help"], environment)
    assert "\x1b[1m" in shown
    shown, _ = on_a_terminal([str(BIN / "atoll"), "--help"], environment | {"NO_COLOR": "1"})
    assert "\x1b[" not in shown
