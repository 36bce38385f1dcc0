//! The requests of `/api/v1`.

use std::{fmt::Write as _, future::Future, pin::pin, sync::Arc, time::Duration};

use http::{HeaderValue, Method, StatusCode, header};

use super::{
    ANSWER_TIMEOUT, Client, ClientError, Content, EventQuery, Events, Export, halves::Way, parse,
    shown, unexpected,
};
use crate::{
    api,
    task::{Payload, TaskId},
};

/// How long a claim that was withdrawn is heard: a daemon that is there ends it at once.
const PARTING: Duration = Duration::from_secs(1);

/// What became of one submitted task.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    /// The task: the new one, or the one that was there first (the same id, or the same unique key).
    pub task: api::Task,
    /// Whether it is new.
    pub created: bool,
}

/// Which tasks a page shows: `GET /api/v1/tasks`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskQuery {
    /// Of one queue; absent: of all.
    pub queue: Option<String>,
    /// In one state; absent: in any.
    pub state: Option<String>,
    /// Whose ids begin so; absent: whatever their ids.
    pub id_prefix: Option<String>,
    /// At most so many; absent: the daemon's default.
    pub limit: Option<u32>,
    /// The `next` of the page before.
    pub after: Option<String>,
}

impl Client {
    /// Submits one task.
    pub async fn submit(&self, task: &api::NewTask) -> Result<Submitted, ClientError> {
        let body = Some(Content::json(task)?);
        let (status, answer) = self
            .answer_within(
                Method::POST,
                "/api/v1/tasks",
                body,
                ANSWER_TIMEOUT.as_duration(),
            )
            .await?;
        Ok(Submitted {
            task: parse(&answer)?,
            created: status == StatusCode::CREATED,
        })
    }

    /// Submits these tasks: all or none.
    pub async fn submit_all(&self, tasks: &[api::NewTask]) -> Result<Vec<api::Task>, ClientError> {
        self.post("/api/v1/tasks", &tasks).await
    }

    /// Submits tasks that are JSON texts already, one a line: those before a wrong one are taken. Takes as long as the
    /// lines take to come.
    pub async fn submit_ndjson(&self, lines: Content) -> Result<api::Accepted, ClientError> {
        let response = self
            .send(Method::POST, "/api/v1/tasks", Some(lines))
            .await?;
        parse(&self.read(response.into_body()).await?)
    }

    /// All unfinished tasks as they are now. Takes as long as the reader takes.
    pub async fn export(&self) -> Result<Export, ClientError> {
        let open = self.send(Method::GET, "/api/v1/export", None);
        let limit = ANSWER_TIMEOUT.as_duration();
        let response = tokio::time::timeout(limit, open)
            .await
            .map_err(|_| self.timed_out(limit))??;
        Ok(Export::new(
            response.into_body(),
            Arc::clone(&self.endpoint),
        ))
    }

    /// Takes back what an export wrote. Takes as long as the lines take to come.
    pub async fn import(&self, lines: Content) -> Result<api::Accepted, ClientError> {
        let response = self
            .send(Method::POST, "/api/v1/import", Some(lines))
            .await?;
        parse(&self.read(response.into_body()).await?)
    }

    /// Completes, then claims. Takes as long as the claim waits. Dropping the future withdraws the claim; tasks that were handed out
    /// at that moment stay leased to nobody.
    pub async fn claim(&self, claim: &api::Claim) -> Result<api::ClaimAnswer, ClientError> {
        self.claim_until(std::future::pending(), claim).await
    }

    /// The same, until `withdrawn` ends: then the claim is withdrawn, and has no answer, an error; but tasks that the daemon has handed
    /// out by then still come.
    pub async fn claim_until(
        &self,
        withdrawn: impl Future<Output = ()>,
        claim: &api::Claim,
    ) -> Result<api::ClaimAnswer, ClientError> {
        let wait = Duration::try_from_secs_f64(claim.wait).unwrap_or_default();
        let limit = wait.saturating_add(ANSWER_TIMEOUT.as_duration());
        let body = Some(Content::json(claim)?);
        let mut request = self.request(Method::POST, "/api/v1/claim", body)?;
        let way = Way::of(&mut request);
        let whole = Box::pin(async { self.read(self.carry(request).await?.into_body()).await });
        let mut whole = pin!(self.until(tokio::time::sleep(limit), whole));
        tokio::select! {
            biased;
            answer = &mut whole => return parse(&answer?),
            () = withdrawn => {}
        }
        if !way.close() {
            return Err(ClientError::Unreachable {
                endpoint: self.endpoint.to_string(),
                reason: "the claim was withdrawn before there was a connection".to_owned(),
                hint: self.endpoint.hint(None),
                unsent: true,
            });
        }
        // What does not even end is dead, and may not be alone.
        parse(&self.until(tokio::time::sleep(PARTING), whole).await?)
    }

    /// Tells that a task is done.
    pub async fn complete(
        &self,
        id: &str,
        token: &str,
        result: Option<Payload>,
    ) -> Result<(), ClientError> {
        let body = api::Complete {
            token: token.to_owned(),
            result,
        };
        self.post_only(&task_path(id, "/complete"), &body).await
    }

    /// Tells of a failed attempt. The answer names the task, whatever else a daemon of another version says of it.
    pub async fn fail(&self, id: &str, failure: &api::Fail) -> Result<(), ClientError> {
        #[derive(serde::Deserialize)]
        struct Named {
            id: String,
        }
        let path = task_path(id, "/fail");
        let told: Named = self.post(&path, failure).await?;
        named(id, &told.id)
    }

    /// Gives a task back; the attempt does not count.
    pub async fn release(&self, id: &str, token: &str) -> Result<(), ClientError> {
        let body = api::Release {
            token: token.to_owned(),
        };
        self.post_only(&task_path(id, "/release"), &body).await
    }

    /// Makes a lease last `lease` seconds from now; `None`: the task's own length. An answer about another task is no good one.
    pub async fn extend(
        &self,
        id: &str,
        token: &str,
        lease: Option<f64>,
    ) -> Result<api::Extended, ClientError> {
        let body = api::Extend {
            token: token.to_owned(),
            lease,
        };
        let extended: api::Extended = self.post(&task_path(id, "/extend"), &body).await?;
        named(id, &extended.id)?;
        Ok(extended)
    }

    /// One task.
    pub async fn task(&self, id: &str) -> Result<api::Task, ClientError> {
        self.get(&task_path(id, "")).await
    }

    /// A page of tasks in hand-out order.
    pub async fn tasks(&self, query: &TaskQuery) -> Result<api::TaskPage, ClientError> {
        let limit = query.limit.map(|limit| limit.to_string());
        let pairs = [
            ("queue", query.queue.as_deref()),
            ("state", query.state.as_deref()),
            ("id_prefix", query.id_prefix.as_deref()),
            ("limit", limit.as_deref()),
            ("after", query.after.as_deref()),
        ];
        let given = pairs
            .into_iter()
            .filter_map(|(name, value)| value.map(|value| (name, value)));
        self.get(&with_query("/api/v1/tasks", given)).await
    }

    /// Gives a task another place in the order.
    pub async fn patch(&self, id: &str, change: &api::Patch) -> Result<api::Task, ClientError> {
        let body = Some(Content::json(change)?);
        parse(
            &self
                .exchange(Method::PATCH, &task_path(id, ""), body)
                .await?,
        )
    }

    /// Ends a task that was not done.
    pub async fn cancel(&self, id: &str) -> Result<(), ClientError> {
        let (path, limit) = (task_path(id, ""), ANSWER_TIMEOUT.as_duration());
        let answer = self.answer_within(Method::DELETE, &path, None, limit);
        match answer.await? {
            (StatusCode::NO_CONTENT, _) => Ok(()),
            (status, body) => Err(unexpected(status, shown(&body))),
        }
    }

    /// Brings a dead task back.
    pub async fn retry(&self, id: &str) -> Result<api::Task, ClientError> {
        self.post(&task_path(id, "/retry"), &Empty {}).await
    }

    /// All queues.
    pub async fn queues(&self) -> Result<api::Queues, ClientError> {
        self.get("/api/v1/queues").await
    }

    /// One queue.
    pub async fn queue(&self, name: &str) -> Result<api::Queue, ClientError> {
        self.get(&format!("/api/v1/queues/{}", escaped(name))).await
    }

    /// Who claims, and what they hold.
    pub async fn workers(&self) -> Result<api::Workers, ClientError> {
        self.get("/api/v1/workers").await
    }

    /// What is not well, the worst first.
    pub async fn troubles(&self) -> Result<api::Troubles, ClientError> {
        self.get("/api/v1/troubles").await
    }

    /// What happens, until the connection ends. Once this has returned, no event is missed.
    pub async fn events(&self, query: &EventQuery) -> Result<Events, ClientError> {
        let path = query.path();
        let open = self.send(Method::GET, &path, None);
        let limit = ANSWER_TIMEOUT.as_duration();
        let response = tokio::time::timeout(limit, open)
            .await
            .map_err(|_| self.timed_out(limit))??;
        let kind = response.headers().get(header::CONTENT_TYPE);
        let kind = kind.map_or(&b""[..], HeaderValue::as_bytes);
        if !kind.starts_with(b"text/event-stream") {
            let other = format!("{}, and no stream of events", shown(kind));
            return Err(unexpected(response.status(), other));
        }
        Ok(Events::new(
            response.into_body(),
            Arc::clone(&self.endpoint),
        ))
    }
}

/// A body that says nothing: `{}`.
#[derive(serde::Serialize)]
pub(super) struct Empty {}

/// Whether two ids are of one task: an id may be written in more than one way.
pub(crate) fn same_task(one: &str, other: &str) -> bool {
    one == other
        || TaskId::parse(one).is_ok_and(|one| TaskId::parse(other).is_ok_and(|other| one == other))
}

/// Whether an answer about a task is about that one.
fn named(id: &str, told: &str) -> Result<(), ClientError> {
    if same_task(id, told) {
        return Ok(());
    }
    let other = format!("of the task {}", shown(told.as_bytes()));
    Err(unexpected(StatusCode::OK, other))
}

fn task_path(id: &str, rest: &str) -> String {
    format!("/api/v1/tasks/{}{rest}", escaped(id))
}

/// `path` with these names and values behind it.
pub(super) fn with_query<'a>(
    path: &str,
    pairs: impl Iterator<Item = (&'a str, &'a str)>,
) -> String {
    let mut path = path.to_owned();
    for (index, (name, value)) in pairs.enumerate() {
        path.push(if index == 0 { '?' } else { '&' });
        path.push_str(name);
        path.push('=');
        path.push_str(&escaped(value));
    }
    path
}

/// `text` as one segment of a path or one value of a query.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a string has no error.
            write!(out, "%{byte:02X}").unwrap_or_default();
        }
    }
    out
}
