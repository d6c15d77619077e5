//! Clicks in Postgres: folded into days at once, because several servers write them and none of
//! them has a redirect waiting for it.

use std::sync::Arc;

use sqlx::Row;

use super::{ATTEMPTS_MAX, Postgres, may_be_repeated};
use crate::clicks::{ClickBatch, ClickLog, Day, DayTally};
use crate::link::{Error, LinkId};

impl ClickLog for Postgres {
    async fn add_clicks(&self, batch: Arc<ClickBatch>) -> Result<(), Error> {
        for _ in 1..ATTEMPTS_MAX {
            match self.try_add(&batch).await {
                Err(error) if may_be_repeated(&error) => {}
                done => return done,
            }
        }
        self.try_add(&batch).await
    }

    async fn clicks(&self, link: LinkId) -> Result<Vec<(Day, DayTally)>, Error> {
        let sql = "SELECT day, tally FROM link_days WHERE link_id = $1 ORDER BY day";
        let rows = sqlx::query(sql).bind(i64::from(link.0)).fetch_all(&self.pool).await?;
        let day = |row: &sqlx::postgres::PgRow| {
            Ok((Day(row.try_get::<i64, _>(0)? as u16), tally(row.try_get(1)?)?))
        };
        rows.iter().map(day).collect()
    }
}

impl Postgres {
    async fn try_add(&self, batch: &ClickBatch) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        let next = sqlx::query(include_str!("next_batch.sql"));
        let next = next.bind(&batch.writer).bind(batch.number as i64);
        if next.fetch_optional(&mut *tx).await?.is_none() {
            return Ok(()); // it was committed, only the answer got lost
        }
        // In the order of link and day, which is the order of the locks.
        let links: Vec<i64> = batch.rows.keys().map(|(link, _)| i64::from(link.0)).collect();
        let days: Vec<i64> = batch.rows.keys().map(|(_, day)| i64::from(day.0)).collect();
        let make = sqlx::query(include_str!("make_days.sql"));
        make.bind(&links).bind(&days).execute(&mut *tx).await?;
        let lock = sqlx::query(include_str!("lock_days.sql"));
        let known = lock.bind(&links).bind(&days).fetch_all(&mut *tx).await?;
        let mut sums = Vec::with_capacity(known.len());
        for (row, new) in known.iter().zip(batch.rows.values()) {
            let mut sum = match row.try_get::<Option<&[u8]>, _>(2)? {
                Some(bytes) => tally(bytes)?,
                None => DayTally::default(),
            };
            sum.merge(new);
            let mut bytes = Vec::new();
            sum.encode(&mut bytes);
            sums.push(bytes);
        }
        let write = sqlx::query(include_str!("write_days.sql"));
        write.bind(&links).bind(&days).bind(sums).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }
}

fn tally(mut bytes: &[u8]) -> Result<DayTally, Error> {
    DayTally::decode(&mut bytes).ok_or_else(|| Error::Unavailable {
        what: "the stored clicks cannot be read".to_owned(),
        source: None,
    })
}
