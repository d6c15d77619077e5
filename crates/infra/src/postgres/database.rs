//! A database of one's own, copied from a migrated template.

use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};

use crate::error::{Error, Result};
use crate::place;
use crate::postgres::Postgres;

/// Postgres cuts longer names off without a word, which would merge two templates.
const TEMPLATE_NAME_BYTES_MAX: usize = 32;

/// A fresh database. Dropping it drops the database, with whoever is still connected.
#[derive(Debug)]
pub struct Database {
    url: String,
    name: String,
    admin_url: String,
}

impl Database {
    /// The address for any Postgres client.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The database's name on its server, unique over processes.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Postgres {
    /// Returns a fresh database with `schema_sql` applied. The first call applies it to a
    /// template; every later call, from any process, copies the template. A changed schema is
    /// another template. Empty SQL gives an empty database.
    ///
    /// `template` names the template for people who look at the server: lower case letters,
    /// digits and `_`, at most 32.
    ///
    /// # Errors
    /// [`Error::Schema`] when Postgres refuses the SQL, [`Error::Unsupported`] for a bad name,
    /// [`Error::Postgres`] otherwise.
    ///
    /// # Cost
    /// Tens of milliseconds for the copy, and about as much to drop it.
    pub async fn database(&self, template: &str, schema_sql: &str) -> Result<Database> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if template.is_empty()
            || template.len() > TEMPLATE_NAME_BYTES_MAX
            || !template.chars().all(plain)
        {
            let rule = "must be 1 to 32 of a-z, 0-9 and _";
            return Err(Error::Unsupported(format!("template name {template:?} {rule}")));
        }
        let mut admin = PgConnection::connect(&self.admin_url).await?;
        let source = self.template(&mut admin, template, schema_sql).await?;
        let name = unique(template);
        run(&mut admin, format!(r#"create database "{name}" template "{source}""#)).await?;
        admin.close().await?;
        let url = with_database(&self.admin_url, &name)?;
        Ok(Database { url, name, admin_url: self.admin_url.clone() })
    }

    /// The name of the template for this schema, made if it is not there yet.
    async fn template(
        &self,
        admin: &mut PgConnection,
        template: &str,
        schema_sql: &str,
    ) -> Result<String> {
        let fingerprint = place::fingerprint(&[schema_sql]);
        let name = format!("{template}_template_{fingerprint:016x}");
        if is_finished(admin, &name).await? {
            return Ok(name);
        }
        // One process makes it, the others wait here. The lock ends with the connection, so a
        // killed maker blocks nobody; it leaves a database that is not marked as a template.
        let key = i64::from_ne_bytes(fingerprint.to_ne_bytes());
        sqlx::query("select pg_advisory_lock($1)").bind(key).execute(&mut *admin).await?;
        if !is_finished(admin, &name).await? {
            self.make_template(admin, template, &name, schema_sql).await?;
        }
        sqlx::query("select pg_advisory_unlock($1)").bind(key).execute(&mut *admin).await?;
        Ok(name)
    }

    async fn make_template(
        &self,
        admin: &mut PgConnection,
        template: &str,
        name: &str,
        schema_sql: &str,
    ) -> Result<()> {
        run(admin, format!(r#"drop database if exists "{name}" with (force)"#)).await?;
        run(admin, format!(r#"create database "{name}""#)).await?;
        let mut inside = PgConnection::connect(&with_database(&self.admin_url, name)?).await?;
        let applied = raw_sql(AssertSqlSafe(schema_sql.to_owned())).execute(&mut inside).await;
        inside.close().await?;
        if let Err(source) = applied {
            run(admin, format!(r#"drop database "{name}" with (force)"#)).await?;
            return Err(Error::Schema { template: template.to_owned(), source });
        }
        // Nobody may connect from now on: a database somebody is connected to cannot be copied.
        let seal = format!(r#"alter database "{name}" with allow_connections false"#);
        run(admin, seal).await?;
        run(admin, format!(r#"alter database "{name}" with is_template true"#)).await
    }
}

impl Drop for Database {
    /// Blocks until the database is dropped. It runs on a thread of its own because a destructor
    /// cannot await; leaving it to the end of the shared server would fill the disk during a run.
    fn drop(&mut self) {
        let statement = format!(r#"drop database if exists "{}" with (force)"#, self.name);
        let admin_url = std::mem::take(&mut self.admin_url);
        let dropping = std::thread::spawn(move || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(Error::io("starting a runtime for", "drop database"))?;
            runtime.block_on(async {
                let mut admin = PgConnection::connect(&admin_url).await?;
                run(&mut admin, statement).await?;
                admin.close().await?;
                Ok(())
            })
        });
        match dropping.join() {
            Ok(Ok(())) => {}
            // A test that killed its server arrives here; the data went with the server.
            Ok(Err(error)) => tracing::debug!(database = self.name, %error, "not dropped"),
            Err(_) => tracing::warn!(database = self.name, "dropping the database panicked"),
        }
    }
}

async fn is_finished(admin: &mut PgConnection, name: &str) -> Result<bool> {
    let query = "select exists (select from pg_database where datname = $1 and datistemplate)";
    Ok(sqlx::query_scalar(query).bind(name).fetch_one(admin).await?)
}

async fn run(connection: &mut PgConnection, statement: String) -> Result<()> {
    raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}

fn unique(template: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{template}_{}_{count}_{:04x}", std::process::id(), fastrand::u16(..))
}

/// The same server and parameters, another database.
fn with_database(admin_url: &str, name: &str) -> Result<String> {
    let mut url = url::Url::parse(admin_url)
        .map_err(|error| Error::Unsupported(format!("the Postgres URL is not one: {error}")))?;
    url.set_path(name);
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_database_keeps_server_and_parameters() {
        let url = with_database("postgres://me:pw@db:5433/postgres?sslmode=disable", "x").unwrap();
        assert_eq!(url, "postgres://me:pw@db:5433/x?sslmode=disable");
    }

    #[test]
    fn names_fit_into_what_postgres_keeps() {
        let longest = "t".repeat(TEMPLATE_NAME_BYTES_MAX);
        assert!(unique(&longest).len() <= 63);
        assert!(format!("{longest}_template_{:016x}", u64::MAX).len() <= 63);
    }
}
