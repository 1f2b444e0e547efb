//! Templates, their names, and their builds.

use atoll_types::{BuildId, Resources, TeamId, TemplateId, TemplateRef, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql};

use crate::{
    Store, StoreError, Tenant,
    sql::{self, Columns as _},
};

/// The tag of a build that was named without one.
const DEFAULT_TAG: &str = "default";

/// A build from which sandboxes can start.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildRow {
    /// The template it belongs to.
    pub template: TemplateId,
    /// Its id.
    pub id: BuildId,
    /// The template's first name; empty when it has none.
    pub alias: String,
    /// Names of its layers in the nodes' layer stores, lowest first.
    pub layers: Vec<String>,
    /// What its sandboxes may use.
    pub resources: Resources,
    /// Who runs commands that name nobody.
    pub default_user: String,
    /// Where they run.
    pub default_workdir: Option<String>,
}

/// What a build is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct NewBuild {
    /// Names of its layers in the nodes' layer stores, lowest first.
    pub layers: Vec<String>,
    /// What its sandboxes may use.
    pub resources: Resources,
    /// Who runs commands that name nobody.
    pub default_user: String,
    /// Where they run.
    pub default_workdir: Option<String>,
}

impl BuildRow {
    fn is_made_of(&self, new: &NewBuild) -> bool {
        let stored = Resources { pids: self.resources.pids, ..new.resources };
        (&self.layers, self.resources) == (&new.layers, stored)
            && (&self.default_user, &self.default_workdir) == (&new.default_user, &new.default_workdir)
    }
}

impl Store {
    /// Makes `alias` name a public template of `owner` whose newest ready build is this one. Doing it again with the same build changes
    /// nothing.
    pub async fn ensure_public_template(&self, owner: &TeamId, alias: &str, new: NewBuild, now: Timestamp) -> Result<BuildRow, StoreError> {
        let (owner, alias, now) = (owner.clone(), alias.to_owned(), sql::micros(now));
        self.db
            .write(move |conn| {
                let named = "SELECT template FROM template_aliases WHERE namespace = '' AND alias = $1";
                let template = match sql::one(conn, named, &[&alias], |row| row.parsed("template"))? {
                    Some(template) => template,
                    None => insert_template(conn, &owner, &alias, now)?,
                };
                if let Some(current) = newest_ready(conn, &template, DEFAULT_TAG)?
                    && current.is_made_of(&new)
                {
                    return Ok(current);
                }
                insert_ready_build(conn, &template, &new, now)?;
                newest_ready(conn, &template, DEFAULT_TAG)?.ok_or_else(|| rusqlite::Error::QueryReturnedNoRows.into())
            })
            .await
    }
}

impl Tenant {
    /// The build that a reference means to this team: its newest ready one with that tag. `None` when there is no such template, no such
    /// build, or the team may not see it.
    pub async fn build(&self, reference: &TemplateRef) -> Result<Option<BuildRow>, StoreError> {
        let (team, reference) = (self.team.clone(), reference.clone());
        self.db
            .read(move |conn| {
                let Some(template) = visible(conn, &team, &reference)? else { return Ok(None) };
                match &reference.tag {
                    Some(tag) if tag.parse::<BuildId>().is_ok() => one_build(conn, &template, tag),
                    tag => newest_ready(conn, &template, tag.as_deref().unwrap_or(DEFAULT_TAG)),
                }
            })
            .await
    }

    /// The template that a reference means to this team, whatever its builds.
    pub async fn template(&self, reference: &TemplateRef) -> Result<Option<TemplateId>, StoreError> {
        let (team, reference) = (self.team.clone(), reference.clone());
        self.db.read(move |conn| visible(conn, &team, &reference)).await
    }
}

/// With a namespace, exactly that name. Without: the team's own name, then everybody's, then an id.
fn visible(conn: &Connection, team: &TeamId, reference: &TemplateRef) -> Result<Option<TemplateId>, StoreError> {
    let named = "SELECT t.id AS id FROM template_aliases a JOIN templates t ON t.id = a.template
         WHERE a.alias = $2 AND a.namespace = $3 AND (t.team = $1 OR t.public = 1)";
    let with_id = "SELECT id FROM templates WHERE id = $2 AND (team = $1 OR public = 1)";
    let id = |row: &Row<'_>| row.parsed("id");
    let team = team.as_str();
    if let Some(namespace) = &reference.namespace {
        return sql::one(conn, named, &[&team, &reference.name, namespace], id);
    }
    let slug: Option<String> = conn.query_row("SELECT slug FROM teams WHERE id = $1", [team], |row| row.get(0)).optional()?;
    for namespace in [slug.as_deref(), Some("")].into_iter().flatten() {
        if let Some(found) = sql::one(conn, named, &[&team, &reference.name, &namespace], id)? {
            return Ok(Some(found));
        }
    }
    sql::one(conn, with_id, &[&team, &reference.name], id)
}

const BUILD: &str = "SELECT b.*, coalesce((SELECT a.alias FROM template_aliases a WHERE a.template = b.template
     ORDER BY a.created_at, a.alias LIMIT 1), '') AS alias FROM builds b";

fn newest_ready(conn: &Connection, template: &TemplateId, tag: &str) -> Result<Option<BuildRow>, StoreError> {
    let query = format!(
        "{BUILD} JOIN build_tags g ON g.build = b.id
         WHERE b.template = $1 AND b.status = 'ready' AND g.tag = $2 ORDER BY g.assigned_at DESC, b.created_at DESC LIMIT 1"
    );
    sql::one(conn, &query, &[&template.as_str(), &tag], build)
}

fn one_build(conn: &Connection, template: &TemplateId, id: &str) -> Result<Option<BuildRow>, StoreError> {
    let query = format!("{BUILD} WHERE b.template = $1 AND b.id = $2 AND b.status = 'ready'");
    sql::one(conn, &query, &[&template.as_str(), &id], build)
}

fn insert_template(conn: &Connection, owner: &TeamId, alias: &str, now: i64) -> Result<TemplateId, StoreError> {
    let id = TemplateId::random();
    let template = "INSERT INTO templates (id, team, public, created_at) VALUES ($1, $2, 1, $3)";
    sql::execute(conn, template, &[&id.as_str(), &owner.as_str(), &now])?;
    let name = "INSERT INTO template_aliases (namespace, alias, template, created_at) VALUES ('', $1, $2, $3)";
    sql::execute(conn, name, &[&alias, &id.as_str(), &now])?;
    Ok(id)
}

fn insert_ready_build(conn: &Connection, template: &TemplateId, new: &NewBuild, now: i64) -> Result<(), StoreError> {
    let NewBuild { layers, resources, default_user, default_workdir } = new;
    let Resources { cpu_count, memory_mib, disk_mib, pids: _ } = resources;
    let id = BuildId::random();
    let insert = "INSERT INTO builds
         (id, template, status, layers_json, cpu_count, memory_mib, disk_mib, default_user, default_workdir, created_at)
         VALUES ($1, $2, 'ready', $3, $4, $5, $6, $7, $8, $9)";
    let layers = sql::json("builds.layers_json", layers)?;
    let args: [&dyn ToSql; 9] =
        [&id.as_str(), &template.as_str(), &layers, cpu_count, memory_mib, disk_mib, default_user, default_workdir, &now];
    sql::execute(conn, insert, &args)?;
    let tag = "INSERT INTO build_tags (template, tag, build, assigned_at) VALUES ($1, $2, $3, $4)";
    sql::execute(conn, tag, &[&template.as_str(), &DEFAULT_TAG, &id.as_str(), &now])?;
    Ok(())
}

fn build(row: &Row<'_>) -> rusqlite::Result<BuildRow> {
    Ok(BuildRow {
        template: row.parsed("template")?,
        id: row.parsed("id")?,
        alias: row.get("alias")?,
        layers: row.json("layers_json")?,
        resources: resources(row)?,
        default_user: row.get("default_user")?,
        default_workdir: row.get("default_workdir")?,
    })
}

/// The columns that builds and sandboxes share. The limit of processes is the platform's and not stored.
pub(crate) fn resources(row: &Row<'_>) -> rusqlite::Result<Resources> {
    Ok(Resources {
        cpu_count: row.get("cpu_count")?,
        memory_mib: row.get("memory_mib")?,
        disk_mib: row.get("disk_mib")?,
        ..Resources::default()
    })
}
