//! `POST /files/compose`: several files become one.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt, fchown},
    path::{Path, PathBuf},
};

use atoll_wire::{
    body::{self, Body},
    envd::FileInfo,
};
use http::{Request, Response, StatusCode};
use serde::Deserialize;

use super::{Refusal, blocking, resolve, upload::file_info, user_of};
use crate::{filesystem::random_id, paths, state::Context, users::User};

/// The longest list of sources, as JSON.
const LONGEST_REQUEST: usize = 4 << 20;

#[derive(Deserialize)]
struct Compose {
    source_paths: Vec<String>,
    destination: String,
    username: Option<String>,
}

/// Answers the request.
pub async fn post(context: Context, request: Request<Body>) -> Response<Body> {
    let composed = async {
        let body = body::collect(request.into_body(), LONGEST_REQUEST).await.map_err(Refusal::bad)?;
        let compose: Compose = serde_json::from_slice(&body).map_err(|error| Refusal::bad(format!("invalid request body: {error}")))?;
        blocking(move || run(&context, &compose)).await
    };
    match composed.await {
        Ok(file) => body::json(StatusCode::OK, &file),
        Err(refusal) => refusal.into_response(),
    }
}

fn run(context: &Context, compose: &Compose) -> Result<FileInfo, Refusal> {
    if compose.source_paths.is_empty() || compose.destination.is_empty() {
        return Err(Refusal::bad("source_paths and destination must not be empty"));
    }
    let user = user_of(context, compose.username.as_deref())?;
    let destination = resolve(context, &compose.destination, &user)?;
    let sources: Vec<_> = compose.source_paths.iter().map(|path| resolve(context, path, &user)).collect::<Result<_, _>>()?;
    for source in &sources {
        let shown = source.display();
        if *source == destination {
            return Err(Refusal::bad(format!("'{shown}' is both source and destination")));
        }
        let found = fs::metadata(source).map_err(|error| Refusal::new(StatusCode::NOT_FOUND, format!("source '{shown}': {error}")))?;
        if !found.is_file() {
            return Err(Refusal::bad(format!("source '{shown}' is not a regular file")));
        }
    }
    let refuse = |error: io::Error| Refusal::disk(format!("error composing '{}'", destination.display()), &error);
    paths::ensure_parents(&destination, &user).map_err(refuse)?;
    let draft = Draft::beside(&destination);
    draft.fill(&sources, &user).map_err(refuse)?;
    fs::rename(&draft.0, &destination).map_err(refuse)?;
    for source in &sources {
        match fs::remove_file(source) {
            // Given twice, or taken by somebody else meanwhile.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refuse(error)),
            _ => {}
        }
    }
    Ok(file_info(&destination))
}

/// What becomes the destination; gone with this value unless it did.
struct Draft(PathBuf);

impl Draft {
    fn beside(destination: &Path) -> Self {
        let mut path = destination.as_os_str().to_owned();
        path.push(format!(".e2b-compose.{}.tmp", random_id()));
        Self(path.into())
    }

    fn fill(&self, sources: &[PathBuf], user: &User) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o666).open(&self.0)?;
        fchown(&file, Some(user.uid), Some(user.gid))?;
        for source in sources {
            // The kernel copies, or only shares the blocks, where it can.
            io::copy(&mut File::open(source)?, &mut file)?;
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        let _ = fs::remove_file(&self.0);
    }
}
