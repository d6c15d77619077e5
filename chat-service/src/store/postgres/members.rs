//! Who is in which conversation, and from which devices.
//!
//! Accounts are locked in the order of their names, and after the conversation where one is
//! locked at all: no two transactions wait for each other in a circle.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row};

use super::{blob, id_of, number, place, seq_of};
use crate::chat::{
    Changed, DEVICES_PER_USER_MAX, Device, Error, MEMBERS_MAX, NO_CONVERSATION, NewGroup,
};
use crate::conversation::check_room;
use crate::ids::{ClientId, ConversationId, DeviceId, Seq, UserId};

/// Locks these accounts; returns, for those that exist, how many conversations each is in.
async fn lock_accounts(
    tx: &mut PgConnection,
    users: impl IntoIterator<Item = &UserId>,
) -> Result<BTreeMap<String, usize>, Error> {
    let names: Vec<&str> = users.into_iter().map(UserId::as_str).collect();
    let lock = "SELECT name, conversations FROM accounts WHERE name = ANY($1) \
                ORDER BY name FOR NO KEY UPDATE";
    let rows = sqlx::query(lock).bind(names).fetch_all(tx).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, number(row, 1)? as usize))).collect()
}

/// The account exists and may join one more conversation.
fn may_join(
    locked: &BTreeMap<String, usize>,
    user: &UserId,
    field: &'static str,
) -> Result<(), Error> {
    check_room(*locked.get(user.as_str()).ok_or(Error::NotFound { field })?)
}

pub(super) async fn put_device(
    tx: &mut PgConnection,
    user: UserId,
    device: DeviceId,
    now_ms: u64,
) -> Result<(), Error> {
    if lock_accounts(tx, [&user]).await?.is_empty() {
        return Err(Error::NotFound { field: "user" });
    }
    let there = devices(tx, &user).await?;
    if there.iter().any(|known| known.device == device) {
        return Ok(());
    }
    if there.len() >= DEVICES_PER_USER_MAX {
        return Err(Error::Full { field: "devices", bound: DEVICES_PER_USER_MAX });
    }
    let insert = sqlx::query("INSERT INTO devices VALUES ($1, $2, $3)").bind(user.as_str());
    insert.bind(device.as_str()).bind(now_ms as i64).execute(tx).await?;
    Ok(())
}

pub(super) async fn devices(tx: &mut PgConnection, user: &UserId) -> Result<Vec<Device>, Error> {
    let list = "SELECT device, added_ms FROM devices WHERE owner = $1 ORDER BY device";
    let rows = sqlx::query(list).bind(user.as_str()).fetch_all(tx).await?;
    let device = |row: &sqlx::postgres::PgRow| {
        Ok(Device { device: DeviceId::new(row.try_get(0)?)?, added_ms: number(row, 1)? })
    };
    rows.iter().map(device).collect()
}

pub(super) async fn remove_device(
    tx: &mut PgConnection,
    user: UserId,
    device: DeviceId,
) -> Result<(), Error> {
    for (sql, must_be_there) in [
        ("DELETE FROM devices WHERE owner = $1 AND device = $2", true),
        ("DELETE FROM cursors WHERE owner = $1 AND device = $2", false),
    ] {
        let delete = sqlx::query(sql).bind(user.as_str()).bind(device.as_str());
        if delete.execute(&mut *tx).await?.rows_affected() == 0 && must_be_there {
            return Err(Error::NotFound { field: "device" });
        }
    }
    Ok(())
}

/// A conversation whose row is locked from here on.
struct Locked {
    last_seq: Seq,
    members_version: u64,
    member_count: usize,
    admin: Option<String>,
}

async fn lock(tx: &mut PgConnection, id: &ConversationId) -> Result<Option<Locked>, Error> {
    let lock = "SELECT last_seq, members_version, member_count, admin FROM conversations \
                WHERE id = $1 FOR NO KEY UPDATE";
    let Some(row) = sqlx::query(lock).bind(blob(id)).fetch_optional(tx).await? else {
        return Ok(None);
    };
    Ok(Some(Locked {
        last_seq: seq_of(&row, 0)?,
        members_version: number(&row, 1)?,
        member_count: number(&row, 2)? as usize,
        admin: row.try_get(3)?,
    }))
}

impl Locked {
    fn as_is(&self, conversation: ConversationId) -> Changed {
        let (last_seq, members_version) = (self.last_seq, self.members_version);
        Changed { conversation, changed: false, last_seq, members_version }
    }
}

async fn is_member(
    tx: &mut PgConnection,
    id: &ConversationId,
    user: &UserId,
) -> Result<bool, Error> {
    let find = "SELECT 1 FROM members WHERE conversation = $1 AND member = $2";
    let find = sqlx::query(find).bind(blob(id)).bind(user.as_str());
    Ok(find.fetch_optional(tx).await?.is_some())
}

/// Locks the conversation and says whether `by` administers it; a stranger learns nothing.
async fn lock_as(
    tx: &mut PgConnection,
    id: &ConversationId,
    by: &UserId,
) -> Result<(Locked, bool), Error> {
    let locked = lock(tx, id).await?.ok_or(NO_CONVERSATION)?;
    if !is_member(tx, id, by).await? {
        return Err(NO_CONVERSATION);
    }
    let administers = match &locked.admin {
        Some(admin) => admin == by.as_str(),
        None => {
            return Err(Error::Forbidden {
                field: "conversation",
                reason: "is between two people; its members do not change",
            });
        }
    };
    Ok((locked, administers))
}

/// A conversation with members who were there from the beginning.
async fn insert(
    tx: &mut PgConnection,
    id: ConversationId,
    members: &[&UserId],
    title: Option<&str>,
    admin: Option<&UserId>,
) -> Result<Changed, Error> {
    let insert = sqlx::query(include_str!("sql/insert_first.sql"))
        .bind(blob(&id))
        .bind(members.iter().map(|user| user.as_str()).collect::<Vec<_>>())
        .bind(title.map(str::as_bytes))
        .bind(admin.map(UserId::as_str));
    insert.execute(tx).await?;
    Ok(Changed { conversation: id, changed: true, last_seq: Seq(0), members_version: 1 })
}

pub(super) async fn open_direct(
    tx: &mut PgConnection,
    by: UserId,
    with: UserId,
) -> Result<Changed, Error> {
    if by == with {
        return Err(Error::invalid("with", "must be somebody else"));
    }
    // Both sides asking at once take turns here.
    let accounts = lock_accounts(tx, [&by, &with]).await?;
    for (user, field) in [(&by, "by"), (&with, "with")] {
        if !accounts.contains_key(user.as_str()) {
            return Err(Error::NotFound { field });
        }
    }
    let (low, high) = if by < with { (&by, &with) } else { (&with, &by) };
    let find = sqlx::query("SELECT conversation FROM directs WHERE low = $1 AND high = $2");
    let there = find.bind(low.as_str()).bind(high.as_str()).fetch_optional(&mut *tx).await?;
    if let Some(row) = there {
        let id = id_of(&row, 0)?;
        return Ok(lock(tx, &id).await?.ok_or(NO_CONVERSATION)?.as_is(id));
    }
    may_join(&accounts, &by, "by").and(may_join(&accounts, &with, "with"))?;
    let changed = insert(tx, ConversationId::fresh(), &[low, high], None, None).await?;
    let pair = sqlx::query("INSERT INTO directs VALUES ($1, $2, $3)").bind(low.as_str());
    pair.bind(high.as_str()).bind(blob(&changed.conversation)).execute(tx).await?;
    Ok(changed)
}

pub(super) async fn create_group(tx: &mut PgConnection, group: NewGroup) -> Result<Changed, Error> {
    let (id, by) = (group.conversation, &group.by);
    let accounts = lock_accounts(tx, group.members.iter().chain([by])).await?;
    match lock(tx, &id).await? {
        Some(there) if there.admin.as_deref() == Some(by.as_str()) => return Ok(there.as_is(id)),
        Some(_) => return Err(Error::Conflict { field: "conversation", reason: "is another's" }),
        None => {}
    }
    may_join(&accounts, by, "by")?;
    insert(tx, id, &[by], Some(&group.title), Some(by)).await?;
    let empty = Locked {
        last_seq: Seq(0),
        members_version: 1,
        member_count: 1,
        admin: Some(by.to_string()),
    };
    let joined = join(tx, by, id, &empty, &group.members, group.now_ms).await?;
    Ok(Changed { changed: true, ..joined })
}

pub(super) async fn add(
    tx: &mut PgConnection,
    by: UserId,
    id: ConversationId,
    users: Vec<UserId>,
    now_ms: u64,
) -> Result<Changed, Error> {
    let (locked, administers) = lock_as(tx, &id, &by).await?;
    if !administers {
        return Err(Error::Forbidden { field: "members", reason: "are the admin's to add" });
    }
    join(tx, &by, id, &locked, &users, now_ms).await
}

/// Adds those who are not members yet, each with an entry in the log.
async fn join(
    tx: &mut PgConnection,
    by: &UserId,
    id: ConversationId,
    locked: &Locked,
    users: &[UserId],
    now_ms: u64,
) -> Result<Changed, Error> {
    let mut new: Vec<&UserId> = users.iter().collect();
    new.sort();
    new.dedup();
    let there = "SELECT member FROM members WHERE conversation = $1 AND member = ANY($2)";
    let there = sqlx::query_scalar(there).bind(blob(&id));
    let names: Vec<&str> = new.iter().map(|user| user.as_str()).collect();
    let there: Vec<String> = there.bind(names).fetch_all(&mut *tx).await?;
    new.retain(|user| there.iter().all(|name| name != user.as_str()));
    if locked.member_count + new.len() > MEMBERS_MAX {
        return Err(Error::Full { field: "members", bound: MEMBERS_MAX });
    }
    if new.is_empty() {
        return Ok(locked.as_is(id));
    }
    let accounts = lock_accounts(tx, new.iter().copied()).await?;
    new.iter().try_for_each(|user| may_join(&accounts, user, "members"))?;
    let ids: Vec<ClientId> = new.iter().map(|_| ClientId::fresh()).collect();
    let join = sqlx::query(include_str!("sql/join.sql"))
        .bind(blob(&id))
        .bind(new.iter().map(|user| user.as_str()).collect::<Vec<_>>())
        .bind(ids.iter().map(|id| &id.0.as_bytes()[..]).collect::<Vec<_>>())
        .bind(place(locked.last_seq))
        .bind(by.as_str())
        .bind(now_ms as i64);
    join.execute(&mut *tx).await?;
    let last_seq = Seq(locked.last_seq.0 + new.len() as u64);
    count_own(tx, &id, by, new.len(), last_seq).await?;
    let members_version = locked.members_version + 1;
    Ok(Changed { conversation: id, changed: true, last_seq, members_version })
}

async fn count_own(
    tx: &mut PgConnection,
    id: &ConversationId,
    by: &UserId,
    count: usize,
    last: Seq,
) -> Result<(), Error> {
    let counting = sqlx::query(include_str!("sql/count_own.sql")).bind(blob(id)).bind(by.as_str());
    counting.bind(count as i64).bind(place(last)).execute(tx).await?;
    Ok(())
}

pub(super) async fn remove(
    tx: &mut PgConnection,
    by: UserId,
    id: ConversationId,
    member: UserId,
    now_ms: u64,
) -> Result<Changed, Error> {
    let (locked, administers) = lock_as(tx, &id, &by).await?;
    if !administers && by != member {
        return Err(Error::Forbidden { field: "member", reason: "is the admin's to remove" });
    }
    if !is_member(tx, &id, &member).await? {
        return Err(Error::NotFound { field: "member" });
    }
    let last_seq = locked.last_seq.next();
    count_own(tx, &id, &by, 1, last_seq).await?;
    let client_id = ClientId::fresh();
    let leave = sqlx::query(include_str!("sql/leave.sql"))
        .bind(blob(&id))
        .bind(by.as_str())
        .bind(member.as_str())
        .bind(place(last_seq))
        .bind(&client_id.0.as_bytes()[..])
        .bind(now_ms as i64);
    leave.execute(tx).await?;
    let members_version = locked.members_version + 1;
    Ok(Changed { conversation: id, changed: true, last_seq, members_version })
}
