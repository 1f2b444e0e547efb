//! Lists of a team's running sandboxes, a page at a time.

use std::collections::BTreeMap;

use atoll_types::{SandboxId, TemplateId, Timestamp};
use rusqlite::ToSql;

use super::{SandboxRow, sandbox};
use crate::{
    StoreError, Tenant,
    sql::{self, Columns as _},
};

/// Which of the running sandboxes, and which page of them.
#[derive(Debug, Clone, Default)]
pub struct SandboxQuery {
    /// Those whose metadata has all these pairs.
    pub metadata: BTreeMap<String, String>,
    /// Those made from this template.
    pub template: Option<TemplateId>,
    /// Those that came up then or later.
    pub started_after: Option<Timestamp>,
    /// In which order.
    pub order: Order,
    /// Only what comes after this one.
    pub after: Option<Cursor>,
    /// At most so many; all when absent.
    pub limit: Option<u32>,
}

/// By the time they came up. Those of the same moment are in the opposite order of their ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    #[default]
    Descending,
}

/// The last row of the page before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// When it came up.
    pub started_at: Timestamp,
    /// Its id.
    pub id: SandboxId,
}

/// One page.
#[derive(Debug)]
pub struct Page {
    /// Its rows.
    pub sandboxes: Vec<SandboxRow>,
    /// Where the next page starts, if there is one.
    pub next: Option<Cursor>,
    /// How many match on all pages.
    pub total: u64,
}

impl Tenant {
    /// Running sandboxes whose time has not come.
    pub async fn list_running(&self, query: SandboxQuery, now: Timestamp) -> Result<Page, StoreError> {
        let (team, now) = (self.team.clone(), sql::micros(now));
        self.db
            .read(move |conn| {
                let SandboxQuery { metadata, template, started_after, order, after, limit } = query;
                let mut args: Vec<Box<dyn ToSql>> = vec![
                    Box::new(team.as_str().to_owned()),
                    Box::new(now),
                    Box::new(template.map(|template| template.as_str().to_owned())),
                    Box::new(started_after.map(sql::micros)),
                ];
                let mut matching = "FROM sandboxes s WHERE team = $1 AND ended_at IS NULL AND state = 'running' AND deadline > $2
                     AND ($3 IS NULL OR template = $3) AND ($4 IS NULL OR started_at >= $4)"
                    .to_owned();
                for (name, value) in metadata {
                    let first = args.len() + 1;
                    args.extend([Box::new(name) as Box<dyn ToSql>, Box::new(value)]);
                    matching += &format!(
                        " AND EXISTS (SELECT 1 FROM sandbox_metadata m WHERE m.sandbox = s.id AND m.name = ${first} AND m.value = ${})",
                        first + 1
                    );
                }
                let count = format!("SELECT count(*) AS total {matching}");
                let total = sql::one(conn, &count, &borrowed(&args), |row| row.count("total"))?.unwrap_or_default();

                if let Some(Cursor { started_at, id }) = after {
                    let at = args.len() + 1;
                    args.extend([Box::new(sql::micros(started_at)) as Box<dyn ToSql>, Box::new(id.as_str().to_owned())]);
                    let (later, tie) = match order {
                        Order::Ascending => ('>', '<'),
                        Order::Descending => ('<', '>'),
                    };
                    matching += &format!(" AND (started_at {later} ${at} OR started_at = ${at} AND id {tie} ${})", at + 1);
                }
                let order = match order {
                    Order::Ascending => "started_at ASC, id DESC",
                    Order::Descending => "started_at DESC, id ASC",
                };
                args.push(Box::new(limit.map_or(i64::MAX, |limit| i64::from(limit) + 1)));
                let select = format!("SELECT * {matching} ORDER BY {order} LIMIT ${}", args.len());
                let mut sandboxes = sql::all(conn, &select, &borrowed(&args), sandbox)?;

                let mut next = None;
                if let Some(limit) = limit.map(|limit| limit as usize)
                    && sandboxes.len() > limit
                {
                    sandboxes.truncate(limit);
                    next = sandboxes.last().map(|last| Cursor { started_at: last.started_at, id: last.id.clone() });
                }
                Ok(Page { sandboxes, next, total })
            })
            .await
    }
}

fn borrowed(args: &[Box<dyn ToSql>]) -> Vec<&dyn ToSql> {
    args.iter().map(AsRef::as_ref).collect()
}
