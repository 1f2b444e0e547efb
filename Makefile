# What a person types. The work is in scripts/ and `cargo xtask`.
SHELL := /bin/bash -euo pipefail
PREFIX ?= /usr/local
LOG := target/test.log

.PHONY: run build check test install clean

run: ## checks the host, installs what is missing, builds, starts
	@scripts/host-packages run
	@cargo xtask build --release
	@bin=$$(scripts/bin-dir); echo "atoll: in another terminal, as this user: source <($$bin/atoll env)"; \
	if [ "$$(id -u)" = 0 ]; then exec $$bin/atolld all; fi; \
	echo "atoll: the daemon needs root: starting it with sudo"; exec sudo --preserve-env $$bin/atolld all

build: ## the release programs
	@cargo xtask build --release

check: ## formatting, clippy, walls, generated code, tests
	@cargo xtask check

test: ## everything: the checks, a little fuzzing, then the stock SDKs against a daemon; nothing may be left behind
	@scripts/host-packages test
	@mkdir -p target
	@scripts/traces > target/traces-before
	@{ cargo xtask build --release && cargo xtask check && cargo xtask fuzz --seconds 2 && tests/compat/run; } 2>&1 | tee $(LOG)
	@left=$$(scripts/traces | LC_ALL=C comm -13 target/traces-before -); \
	[ -z "$$left" ] || { printf 'atoll: the tests left these behind:\n%s\n' "$$left"; exit 1; }
	@echo "atoll: nothing left behind"
	@grep -ho 'SKIPPED .*' $(LOG) | sort -u || echo "atoll: no test was skipped"

install: ## copies the programs to $(PREFIX)/bin, and their manual pages and completions to where they are looked for
	@cargo xtask build --release
	@bin=$$(scripts/bin-dir); to=$(DESTDIR)$(PREFIX); \
	install -D -m 0755 -t $$to/bin $$bin/atolld $$bin/atoll; \
	install -d $$to/share/bash-completion/completions $$to/share/zsh/site-functions $$to/share/fish/vendor_completions.d; \
	for program in atolld atoll; do \
		$$bin/$$program man $$to/share/man/man1; \
		$$bin/$$program completion bash > $$to/share/bash-completion/completions/$$program; \
		$$bin/$$program completion zsh > $$to/share/zsh/site-functions/_$$program; \
		$$bin/$$program completion fish > $$to/share/fish/vendor_completions.d/$$program.fish; \
	done

clean: ## removes what was built here
	@cargo clean
	@rm -rf target
