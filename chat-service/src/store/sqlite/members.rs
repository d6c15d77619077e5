//! Who is in which conversation, and from which devices.

use std::sync::Arc;

use super::*;
use crate::chat::{MEMBERS_MAX, check_named};
use crate::conversation::check_room;

pub(super) fn put_device(
    tx: &Connection,
    user: &UserId,
    device: &DeviceId,
    now_ms: u64,
) -> Result<(), Error> {
    known(tx, user, "user")?;
    let there = devices(tx, user)?;
    if there.iter().any(|known| known.device == *device) {
        return Ok(());
    }
    if there.len() >= DEVICES_PER_USER_MAX {
        return Err(Error::Full { field: "devices", bound: DEVICES_PER_USER_MAX });
    }
    let sql = "INSERT INTO devices VALUES (?1, ?2, ?3)";
    tx.prepare_cached(sql)?.execute(params![user.as_str(), device.as_str(), now_ms as i64])?;
    Ok(())
}

pub(super) fn devices(conn: &Connection, user: &UserId) -> Result<Vec<Device>, Error> {
    let sql = "SELECT device, added_ms FROM devices WHERE user = ?1 ORDER BY device";
    let mut list = conn.prepare_cached(sql)?;
    let mut rows = list.query([user.as_str()])?;
    let mut devices = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        devices.push(Device { device: DeviceId::new(&name)?, added_ms: unsigned(row, 1)? });
    }
    Ok(devices)
}

pub(super) fn remove_device(
    tx: &Connection,
    user: &UserId,
    device: &DeviceId,
) -> Result<(), Error> {
    let keys = [user.as_str(), device.as_str()];
    let removed = tx.execute("DELETE FROM devices WHERE user = ?1 AND device = ?2", keys)?;
    if removed == 0 {
        return Err(Error::NotFound { field: "device" });
    }
    tx.execute("DELETE FROM cursors WHERE user = ?1 AND device = ?2", keys)?;
    Ok(())
}

/// The account exists; returns how many conversations it is in.
fn known(tx: &Connection, user: &UserId, field: &'static str) -> Result<usize, Error> {
    let mut find = tx.prepare_cached("SELECT conversations FROM accounts WHERE user = ?1")?;
    let found = find.query_row([user.as_str()], |row| unsigned(row, 0)).optional()?;
    found.map(|count| count as usize).ok_or(Error::NotFound { field })
}

fn conversation(tx: &Connection, id: &ConversationId, changed: bool) -> Result<Changed, Error> {
    let mut find =
        tx.prepare_cached("SELECT last_seq, members_version FROM conversations WHERE id = ?1")?;
    let found = find.query_row([blob(id)], |row| {
        let (last_seq, members_version) = (seq_of(row, 0)?, unsigned(row, 1)?);
        Ok(Changed { conversation: *id, changed, last_seq, members_version })
    });
    found.optional()?.ok_or(NO_CONVERSATION)
}

fn insert_conversation(
    tx: &Connection,
    id: &ConversationId,
    title: Option<&str>,
    admin: Option<&UserId>,
) -> Result<(), Error> {
    let sql = "INSERT INTO conversations (id, title, admin, member_count) VALUES (?1, ?2, ?3, 0)";
    tx.prepare_cached(sql)?.execute(params![blob(id), title, admin.map(UserId::as_str)])?;
    Ok(())
}

/// Adds a member who sees what follows `visible_after`.
fn insert_member(
    tx: &Connection,
    id: &ConversationId,
    user: &UserId,
    visible_after: Seq,
) -> Result<(), Error> {
    tx.prepare_cached(include_str!("insert_member.sql"))?.execute(params![
        blob(id),
        user.as_str(),
        visible_after.0 as i64
    ])?;
    tx.prepare_cached("UPDATE conversations SET member_count = member_count + 1 WHERE id = ?1")?
        .execute([blob(id)])?;
    tx.prepare_cached("UPDATE accounts SET conversations = conversations + 1 WHERE user = ?1")?
        .execute([user.as_str()])?;
    Ok(())
}

pub(super) fn open_direct(tx: &Connection, by: UserId, with: UserId) -> Result<Changed, Error> {
    if by == with {
        return Err(Error::invalid("with", "must be somebody else"));
    }
    let room = [known(tx, &by, "by")?, known(tx, &with, "with")?];
    let (low, high) = if by < with { (by, with) } else { (with, by) };
    let mut find =
        tx.prepare_cached("SELECT conversation FROM directs WHERE low = ?1 AND high = ?2")?;
    let there = find.query_row([low.as_str(), high.as_str()], |row| id_of(row, 0)).optional()?;
    if let Some(id) = there {
        return conversation(tx, &id, false);
    }
    room.into_iter().try_for_each(check_room)?;
    let id = ConversationId::fresh();
    insert_conversation(tx, &id, None, None)?;
    insert_member(tx, &id, &low, Seq(0))?;
    insert_member(tx, &id, &high, Seq(0))?;
    tx.execute(
        "INSERT INTO directs VALUES (?1, ?2, ?3)",
        params![low.as_str(), high.as_str(), blob(&id)],
    )?;
    conversation(tx, &id, true)
}

pub(super) fn create_group(tx: &Connection, group: &NewGroup) -> Result<Changed, Error> {
    group.check()?;
    let id = group.conversation;
    let mut find = tx.prepare_cached("SELECT admin FROM conversations WHERE id = ?1")?;
    let there: Option<Option<String>> = find.query_row([blob(&id)], |row| row.get(0)).optional()?;
    match there {
        Some(Some(admin)) if admin == group.by.as_str() => return conversation(tx, &id, false),
        Some(_) => return Err(Error::Conflict { field: "conversation", reason: "is another's" }),
        None => {}
    }
    check_room(known(tx, &group.by, "by")?)?;
    insert_conversation(tx, &id, Some(&group.title), Some(&group.by))?;
    insert_member(tx, &id, &group.by, Seq(0))?;
    join(tx, &group.by, &id, &group.members, group.now_ms)?;
    conversation(tx, &id, true)
}

/// Whether `by` may change the members; a stranger learns nothing.
fn administers(tx: &Connection, by: &UserId, id: &ConversationId) -> Result<bool, Error> {
    standing(tx, id, by)?;
    let mut find = tx.prepare_cached("SELECT admin FROM conversations WHERE id = ?1")?;
    let admin: Option<String> = find.query_row([blob(id)], |row| row.get(0))?;
    match admin {
        Some(admin) => Ok(admin == by.as_str()),
        None => Err(Error::Forbidden {
            field: "conversation",
            reason: "is between two people; its members do not change",
        }),
    }
}

/// Adds those who are not members yet, each with an entry in the log. True when there were any.
fn join(
    tx: &Connection,
    by: &UserId,
    id: &ConversationId,
    users: &[UserId],
    now_ms: u64,
) -> Result<bool, Error> {
    let is_member = |user: &UserId| standing(tx, id, user).is_ok();
    let mut new: Vec<&UserId> = users.iter().filter(|user| !is_member(user)).collect();
    new.sort();
    new.dedup();
    let count = "SELECT member_count FROM conversations WHERE id = ?1";
    let count = tx.prepare_cached(count)?.query_row([blob(id)], |row| unsigned(row, 0))?;
    if count as usize + new.len() > MEMBERS_MAX {
        return Err(Error::Full { field: "members", bound: MEMBERS_MAX });
    }
    for user in &new {
        check_room(known(tx, user, "members")?)?;
        let visible_after = conversation(tx, id, true)?.last_seq;
        insert_member(tx, id, user, visible_after)?;
        let joined = Content::Joined((*user).clone());
        push(tx, id, by, ClientId::fresh(), &joined, now_ms)?;
    }
    if !new.is_empty() {
        change_version(tx, id)?;
    }
    Ok(!new.is_empty())
}

fn change_version(tx: &Connection, id: &ConversationId) -> Result<(), Error> {
    let sql = "UPDATE conversations SET members_version = members_version + 1 WHERE id = ?1";
    tx.prepare_cached(sql)?.execute([blob(id)])?;
    Ok(())
}

pub(super) fn add(
    tx: &Connection,
    by: &UserId,
    id: ConversationId,
    users: &[UserId],
    now_ms: u64,
) -> Result<Changed, Error> {
    check_named(users)?;
    if !administers(tx, by, &id)? {
        return Err(Error::Forbidden { field: "members", reason: "are the admin's to add" });
    }
    let changed = join(tx, by, &id, users, now_ms)?;
    conversation(tx, &id, changed)
}

pub(super) fn remove(
    tx: &Connection,
    by: &UserId,
    id: ConversationId,
    member: &UserId,
    now_ms: u64,
) -> Result<Changed, Error> {
    if !administers(tx, by, &id)? && by != member {
        return Err(Error::Forbidden { field: "member", reason: "is the admin's to remove" });
    }
    standing(tx, &id, member).map_err(|error| match error {
        Error::NotFound { .. } => Error::NotFound { field: "member" },
        other => other,
    })?;
    push(tx, &id, by, ClientId::fresh(), &Content::Left(member.clone()), now_ms)?;
    let keys = params![blob(&id), member.as_str()];
    tx.execute("DELETE FROM members WHERE conversation = ?1 AND user = ?2", keys)?;
    tx.execute("DELETE FROM cursors WHERE conversation = ?1 AND user = ?2", keys)?;
    tx.execute(
        "UPDATE conversations SET member_count = member_count - 1 WHERE id = ?1",
        [blob(&id)],
    )?;
    let left = "UPDATE accounts SET conversations = conversations - 1 WHERE user = ?1";
    tx.execute(left, [member.as_str()])?;
    change_version(tx, &id)?;
    conversation(tx, &id, true)
}

pub(super) fn list(conn: &Connection, id: ConversationId) -> Result<Members, Error> {
    let version = match conversation(conn, &id, false) {
        Ok(there) => there.members_version,
        Err(Error::NotFound { .. }) => 0,
        Err(error) => return Err(error),
    };
    let mut list = conn.prepare_cached("SELECT user FROM members WHERE conversation = ?1")?;
    let users = list.query_map([blob(&id)], |row| user_of(row, 0))?;
    let users: Arc<[UserId]> = users.collect::<Result<Vec<_>, _>>()?.into();
    Ok(Members { version, users })
}
