-- Moments are microseconds since 1970. Truth values are 0 and 1. Columns named *_json hold JSON.

CREATE TABLE teams (
    id TEXT PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    -- NULL: whatever the platform's default is today.
    max_sandboxes BIGINT,
    max_length_seconds BIGINT,
    created_at BIGINT NOT NULL
);

CREATE TABLE api_keys (
    hash TEXT PRIMARY KEY,
    team TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    -- Enough of the key to tell its owner which one it is.
    digits BIGINT NOT NULL,
    head TEXT NOT NULL,
    tail TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX api_keys_of_team ON api_keys (team);

CREATE TABLE templates (
    id TEXT PRIMARY KEY,
    team TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    public BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE template_aliases (
    -- A team's slug; empty for names that everybody may use bare.
    namespace TEXT NOT NULL,
    alias TEXT NOT NULL,
    template TEXT NOT NULL REFERENCES templates (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (namespace, alias)
);
CREATE INDEX template_aliases_of_template ON template_aliases (template);

CREATE TABLE builds (
    id TEXT PRIMARY KEY,
    template TEXT NOT NULL REFERENCES templates (id) ON DELETE CASCADE,
    status TEXT NOT NULL,
    layers_json TEXT NOT NULL,
    cpu_count BIGINT NOT NULL,
    memory_mib BIGINT NOT NULL,
    disk_mib BIGINT NOT NULL,
    default_user TEXT NOT NULL,
    default_workdir TEXT,
    created_at BIGINT NOT NULL
);

CREATE TABLE build_tags (
    template TEXT NOT NULL REFERENCES templates (id) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    build TEXT NOT NULL REFERENCES builds (id) ON DELETE CASCADE,
    assigned_at BIGINT NOT NULL,
    PRIMARY KEY (template, tag, build)
);

-- One row for each sandbox that was ever admitted; it stays after the end, until retention takes it.
CREATE TABLE sandboxes (
    id TEXT PRIMARY KEY,
    team TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    -- The template and the build may be deleted while the record of the sandbox stays.
    template TEXT NOT NULL,
    build TEXT NOT NULL,
    alias TEXT NOT NULL,
    state TEXT NOT NULL,
    generation BIGINT NOT NULL,
    node TEXT,
    envd_version TEXT NOT NULL,
    cpu_count BIGINT NOT NULL,
    memory_mib BIGINT NOT NULL,
    disk_mib BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    -- What we want, and what the node last said it has.
    deadline BIGINT NOT NULL,
    node_deadline BIGINT NOT NULL,
    ended_at BIGINT,
    end_reason TEXT,
    exit_code BIGINT,
    end_detail TEXT,
    metadata_json TEXT,
    access_token TEXT,
    -- NULL: the client did not say.
    allow_internet_access BIGINT,
    options_json TEXT NOT NULL
);
CREATE INDEX sandboxes_of_team ON sandboxes (team, started_at, id) WHERE ended_at IS NULL;
CREATE INDEX sandboxes_ended ON sandboxes (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX sandboxes_late ON sandboxes (id) WHERE state = 'running' AND deadline <> node_deadline;

-- The index by which lists are filtered; sandboxes.metadata_json is what is shown.
CREATE TABLE sandbox_metadata (
    sandbox TEXT NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (sandbox, name)
);

CREATE TABLE samples (
    sandbox TEXT NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE,
    at BIGINT NOT NULL,
    cpu_count BIGINT NOT NULL,
    cpu_used_pct DOUBLE PRECISION NOT NULL,
    mem_used BIGINT NOT NULL,
    mem_total BIGINT NOT NULL,
    mem_cache BIGINT NOT NULL,
    disk_used BIGINT NOT NULL,
    disk_total BIGINT NOT NULL,
    PRIMARY KEY (sandbox, at)
);
CREATE INDEX samples_by_age ON samples (at);

CREATE TABLE log_lines (
    -- Orders lines of the same moment.
    seq INTEGER PRIMARY KEY,
    sandbox TEXT NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE,
    at BIGINT NOT NULL,
    -- 0 debug, 1 info, 2 warn, 3 error
    level BIGINT NOT NULL,
    message TEXT NOT NULL,
    fields_json TEXT NOT NULL
);
CREATE INDEX log_lines_of_sandbox ON log_lines (sandbox, at, seq);
CREATE INDEX log_lines_by_age ON log_lines (at);
