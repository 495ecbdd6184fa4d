//! One level of the spool: a SQLite file. The only file that names the engine.
//!
//! Both levels have the same tables (`user_version` 1, `application_id` "twsp"):
//!
//! | table | columns | holds |
//! |---|---|---|
//! | `record_high`, `record_low` | `seq` primary key, `hits`, `sum`, `body` blob | finished events; `seq` grows over both queues and is never used twice |
//! | `aggregate` | `key` primary key, `queue` 0 high 1 low, `hits`, `sum`, `state` | open aggregates; in the hot level `state` null means: gone from the cold one |
//! | `gone` | `queue`, `lo`, `hi` | hot level only: records of the cold one that are delivered or dropped |
//! | `state` | `id` primary key, `sum`, `value` | JSON documents: 1 the ledger (books, commit number), 2 messages in flight, 3 gaps |
//!
//! `sum` is the CRC-32 of what a row holds, because SQLite finds broken pages but not flipped bits in a value.
//!
//! Journal: WAL, locked by one process for good, so there is no shared-memory file. The hot level is never synced on a
//! tmpfs: the kernel keeps the pages of a killed process. The cold level is synced at each commit.

use std::fs::{self, OpenOptions};
use std::ops::RangeInclusive;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use super::books::Document;
use super::durability::Durability;
use super::error::SpoolError;
use super::ranges::Ranges;
use super::record::{Record, aggregate_sum, crc32, queue_number};
use crate::model::change::OpenAggregate;
use crate::model::loss::Queue;

const VERSION: i64 = 1;
/// "twsp".
const APPLICATION: i64 = 0x7477_7370;
/// Small pages: a commit of one event rewrites few bytes around it. Measured in `docs/decisions/0002-spool.md`.
pub(super) const PAGE: u64 = 1024;

const SCHEMA: &str = "
    CREATE TABLE record_high (seq INTEGER PRIMARY KEY, hits INTEGER NOT NULL, sum INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE TABLE record_low (seq INTEGER PRIMARY KEY, hits INTEGER NOT NULL, sum INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE TABLE aggregate (key TEXT PRIMARY KEY, queue INTEGER NOT NULL, hits INTEGER NOT NULL, sum INTEGER NOT NULL, state TEXT) STRICT;
    CREATE TABLE gone (queue INTEGER NOT NULL, lo INTEGER NOT NULL, hi INTEGER NOT NULL) STRICT;
    CREATE TABLE state (id INTEGER PRIMARY KEY, sum INTEGER NOT NULL, value TEXT NOT NULL) STRICT;
";

/// Picks the statement of a queue's table.
macro_rules! per_queue {
    ($queue:expr, $before:literal, $after:literal) => {
        match $queue {
            Queue::High => concat!($before, " record_high ", $after),
            Queue::Low => concat!($before, " record_low ", $after),
        }
    };
}

/// An open file.
#[derive(Debug)]
pub(super) struct Level {
    connection: Connection,
    path: PathBuf,
}

impl Level {
    /// Opens the file, makes it if it is not there, and looks it through.
    pub(super) fn open(path: &Path, durability: Durability) -> Result<Self, SpoolError> {
        let prepare = |source| SpoolError::Prepare { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(prepare)?;
        if file.metadata().map_err(prepare)?.permissions().mode() & 0o777 != 0o600 {
            file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(prepare)?;
        }
        drop(file);
        let level = Self::connect(path)?;
        level.prepare(durability)?;
        Ok(level)
    }

    fn connect(path: &Path) -> Result<Self, SpoolError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|e| fault(path, &e))?;
        connection.set_prepared_statement_cache_capacity(24);
        let level = Self { connection, path: path.to_owned() };
        level.run(&format!(
            "PRAGMA locking_mode=EXCLUSIVE; PRAGMA page_size={PAGE};
             PRAGMA cache_size=-192; PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF;
             PRAGMA cell_size_check=ON; PRAGMA journal_size_limit={WAL_LIMIT};"
        ))?;
        Ok(level)
    }

    fn prepare(&self, durability: Durability) -> Result<(), SpoolError> {
        // Being able to shrink costs writes: only for the file that takes memory.
        let vacuum = if durability == Durability::Process { "INCREMENTAL" } else { "NONE" };
        self.run(&format!("PRAGMA auto_vacuum={vacuum};"))?;
        let mode: String = self.pragma("journal_mode=WAL")?;
        if mode != "wal" {
            return Err(SpoolError::Io { path: self.path.clone(), detail: format!("journal mode is {mode}") });
        }
        self.run(&format!("PRAGMA synchronous={};", durability.pragma()))?;
        // The cold level's log is emptied by hand, before a commit, so that a full disk is seen before anything is
        // written.
        let automatic = if durability == Durability::Power { 0 } else { WAL_LIMIT / PAGE };
        self.run(&format!("PRAGMA wal_autocheckpoint={automatic};"))?;
        let version: i64 = self.pragma("user_version")?;
        let objects: i64 = self.value("SELECT count(*) FROM sqlite_schema")?;
        if version == 0 && objects == 0 {
            return self.transaction(|level| {
                level.run(SCHEMA)?;
                level.run(&format!("PRAGMA application_id={APPLICATION}; PRAGMA user_version={VERSION};"))
            });
        }
        if version != VERSION || self.pragma::<i64>("application_id")? != APPLICATION {
            return Err(self.corrupt(&format!("format {version} is not ours")));
        }
        let verdict: String = self.pragma("quick_check(1)")?;
        if verdict != "ok" {
            return Err(self.corrupt(&verdict));
        }
        // Names every column once, so that a damaged schema is found here and not later.
        self.run(
            "SELECT seq, hits, sum, body FROM record_high LIMIT 0; SELECT seq, hits, sum, body FROM record_low LIMIT 0;
             SELECT key, queue, hits, sum, state FROM aggregate LIMIT 0; SELECT queue, lo, hi FROM gone LIMIT 0;
             SELECT id, sum, value FROM state LIMIT 0;",
        )
    }

    /// What can still be read of a document in a damaged file.
    pub(super) fn salvage(path: &Path, document: Document) -> Option<String> {
        Self::connect(path).and_then(|level| level.document(document)).ok().flatten()
    }

    /// Runs `work` whole or not at all.
    pub(super) fn transaction<T>(&self, work: impl FnOnce(&Self) -> Result<T, SpoolError>) -> Result<T, SpoolError> {
        self.run("BEGIN IMMEDIATE")?;
        let result = work(self).and_then(|value| self.run("COMMIT").map(|()| value));
        if result.is_err() && !self.connection.is_autocommit() {
            self.run("ROLLBACK")?;
        }
        result
    }

    /// The file may not grow beyond this many bytes (nor below what it has).
    pub(super) fn cap(&self, bytes: u64) -> Result<(), SpoolError> {
        self.pragma::<i64>(&format!("max_page_count={}", (bytes / PAGE).clamp(64, 0xFFFF_FFFE))).map(drop)
    }

    /// Bytes that the file has besides its log.
    pub(super) fn size(&self) -> Result<u64, SpoolError> {
        Ok(number(self.pragma("page_count")?).saturating_mul(PAGE))
    }

    /// Bytes of the log.
    pub(super) fn log_size(&self) -> u64 {
        fs::metadata(companion(&self.path, "-wal")).map_or(0, |meta| meta.len())
    }

    /// Moves the log into the file if it is large. Gives at most how many bytes that wrote.
    pub(super) fn empty_log(&self) -> Result<u64, SpoolError> {
        let size = self.log_size();
        if size < COLD_LOG {
            return Ok(0);
        }
        match self.pragma::<i64>("wal_checkpoint(TRUNCATE)")? {
            0 => Ok(size),
            _ => Err(SpoolError::Locked { path: self.path.clone() }),
        }
    }

    /// Gives unused pages back to the file system, if there are many.
    pub(super) fn shrink(&self) -> Result<(), SpoolError> {
        let free: i64 = self.pragma("freelist_count")?;
        if number(free).saturating_mul(PAGE) > WAL_LIMIT {
            // One row for each page given back: the statement must be run to its end.
            let failed = |e| fault(&self.path, &e);
            let mut statement = self.connection.prepare("PRAGMA incremental_vacuum").map_err(failed)?;
            let mut rows = statement.query([]).map_err(failed)?;
            while rows.next().map_err(failed)?.is_some() {}
        }
        Ok(())
    }

    /// Writes a record; the same one twice is one.
    pub(super) fn put(&self, queue: Queue, record: &Record) -> Result<(), SpoolError> {
        let sql = per_queue!(queue, "INSERT OR REPLACE INTO", "VALUES (?1, ?2, ?3, ?4)");
        self.execute(sql, params![signed(record.seq), signed(record.hits), record.sum, record.body])
    }

    /// Removes records.
    pub(super) fn delete(&self, queue: Queue, range: &RangeInclusive<u64>) -> Result<(), SpoolError> {
        let sql = per_queue!(queue, "DELETE FROM", "WHERE seq BETWEEN ?1 AND ?2");
        self.execute(sql, params![signed(*range.start()), signed(*range.end())])
    }

    /// Hands over records in order until `each` answers `false`; the answer is whether it never did.
    pub(super) fn records(
        &self,
        queue: Queue,
        range: &RangeInclusive<u64>,
        each: &mut dyn FnMut(Record) -> Result<bool, SpoolError>,
    ) -> Result<bool, SpoolError> {
        let sql = per_queue!(queue, "SELECT seq, hits, sum, body FROM", "WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq");
        let failed = |e| fault(&self.path, &e);
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(params![signed(*range.start()), signed(*range.end())]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let record = Record {
                seq: number(row.get(0).map_err(failed)?),
                hits: number(row.get(1).map_err(failed)?),
                sum: row.get(2).map_err(failed)?,
                body: row.get(3).map_err(failed)?,
            };
            if !each(record)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// As [`Level::records`], but only number, hits and length, which does not read the bodies.
    pub(super) fn sizes(
        &self,
        queue: Queue,
        range: &RangeInclusive<u64>,
        each: &mut dyn FnMut(u64, u64, u64) -> bool,
    ) -> Result<bool, SpoolError> {
        let sql = per_queue!(queue, "SELECT seq, hits, length(body) FROM", "WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq");
        let failed = |e| fault(&self.path, &e);
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(params![signed(*range.start()), signed(*range.end())]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let (seq, hits) = (row.get(0).map_err(failed)?, row.get(1).map_err(failed)?);
            if !each(number(seq), number(hits), number(row.get(2).map_err(failed)?)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The highest record number of a queue, 0 if it is empty.
    pub(super) fn last(&self, queue: Queue) -> Result<u64, SpoolError> {
        self.value(per_queue!(queue, "SELECT coalesce(max(seq), 0) FROM", "")).map(number)
    }

    /// Notes that records of the other level are gone.
    pub(super) fn put_gone(&self, queue: Queue, range: &RangeInclusive<u64>) -> Result<(), SpoolError> {
        let sql = "INSERT INTO gone VALUES (?1, ?2, ?3)";
        self.execute(sql, params![queue_number(queue), signed(*range.start()), signed(*range.end())])
    }

    /// What was noted as gone, in order and without overlap.
    pub(super) fn gone(&self, queue: Queue) -> Result<Ranges, SpoolError> {
        let sql = "SELECT lo, hi FROM gone WHERE queue = ?1 ORDER BY lo";
        let failed = |e| fault(&self.path, &e);
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let rows = statement.query_map(params![queue_number(queue)], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.map_err(failed)?.map(|row| row.map(|(lo, hi)| (number(lo), number(hi))).map_err(failed)).collect()
    }

    /// Writes an aggregate.
    pub(super) fn put_aggregate(&self, a: &OpenAggregate) -> Result<(), SpoolError> {
        let sql = "INSERT OR REPLACE INTO aggregate VALUES (?1, ?2, ?3, ?4, ?5)";
        self.execute(sql, params![a.key, queue_number(a.queue), signed(a.hits), aggregate_sum(a), a.state])
    }

    /// Notes that an aggregate is closed, so that the other level's copy is gone.
    pub(super) fn close_aggregate(&self, key: &str) -> Result<(), SpoolError> {
        self.execute("INSERT OR REPLACE INTO aggregate VALUES (?1, 0, 0, 0, NULL)", params![key])
    }

    /// Removes an aggregate.
    pub(super) fn delete_aggregate(&self, key: &str) -> Result<(), SpoolError> {
        self.execute("DELETE FROM aggregate WHERE key = ?1", params![key])
    }

    /// All aggregates with their keys; `None` for a closed one, and for one that is not what was written.
    pub(super) fn aggregates(&self) -> Result<Vec<(String, Option<OpenAggregate>)>, SpoolError> {
        let sql = "SELECT key, queue, hits, sum, state FROM aggregate ORDER BY key";
        let failed = |e| fault(&self.path, &e);
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let rows = statement.query_map([], |row| {
            let key: String = row.get(0)?;
            let queue = if row.get::<_, i64>(1)? == 0 { Queue::High } else { Queue::Low };
            let (hits, sum, state) = (number(row.get(2)?), row.get::<_, i64>(3)?, row.get::<_, Option<String>>(4)?);
            let open = state.map(|state| OpenAggregate { key: key.clone(), queue, hits, state });
            Ok((key, open.filter(|open| aggregate_sum(open) == sum)))
        });
        rows.map_err(failed)?.map(|row| row.map_err(failed)).collect()
    }

    /// Writes a document.
    pub(super) fn put_document(&self, document: Document, value: &str) -> Result<(), SpoolError> {
        let sum = i64::from(crc32(&[&[document as u8], value.as_bytes()]));
        self.execute("INSERT OR REPLACE INTO state VALUES (?1, ?2, ?3)", params![document as u8, sum, value])
    }

    /// Reads a document; one that is not what was written is an error.
    pub(super) fn document(&self, document: Document) -> Result<Option<String>, SpoolError> {
        let failed = |e| fault(&self.path, &e);
        let sql = "SELECT sum, value FROM state WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let row =
            statement.query_row(params![document as u8], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)));
        match row.optional().map_err(failed)? {
            Some((sum, value)) if sum == i64::from(crc32(&[&[document as u8], value.as_bytes()])) => Ok(Some(value)),
            Some(_) => Err(self.corrupt(&format!("checksum of document {document:?}"))),
            None => Ok(None),
        }
    }

    /// Forgets everything but the documents.
    pub(super) fn clear(&self) -> Result<(), SpoolError> {
        self.run("DELETE FROM record_high; DELETE FROM record_low; DELETE FROM aggregate; DELETE FROM gone;")
    }

    /// Forgets everything.
    pub(super) fn forget(&self) -> Result<(), SpoolError> {
        self.clear()?;
        self.run("DELETE FROM state;")
    }

    /// An error that says this file is damaged.
    pub(super) fn corrupt(&self, detail: &str) -> SpoolError {
        SpoolError::Corrupt { path: self.path.clone(), detail: detail.to_owned() }
    }

    fn run(&self, sql: &str) -> Result<(), SpoolError> {
        self.connection.execute_batch(sql).map_err(|e| fault(&self.path, &e))
    }

    fn execute(&self, sql: &str, params: &[&dyn rusqlite::ToSql]) -> Result<(), SpoolError> {
        let run = |sql| self.connection.prepare_cached(sql)?.execute(params);
        run(sql).map(drop).map_err(|e| fault(&self.path, &e))
    }

    fn value<T: rusqlite::types::FromSql>(&self, sql: &str) -> Result<T, SpoolError> {
        self.connection.query_row(sql, [], |row| row.get(0)).map_err(|e| fault(&self.path, &e))
    }

    fn pragma<T: rusqlite::types::FromSql>(&self, pragma: &str) -> Result<T, SpoolError> {
        self.value(&format!("PRAGMA {pragma}"))
    }
}

/// The hot level's log is moved into its file beyond this size: it takes memory.
const WAL_LIMIT: u64 = 256 * 1024;

/// The cold level's log may be larger: what changes often is then written to the file less often.
const COLD_LOG: u64 = 512 * 1024;

/// A file that the engine keeps beside `path`.
pub(super) fn companion(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// SQLite counts with a sign; larger figures than it can hold do not occur.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// The extended code of a read that ended before the page did: the file was cut.
const SHORT_READ: i32 = 522;

fn fault(path: &Path, error: &rusqlite::Error) -> SpoolError {
    let (path, detail) = (path.to_owned(), error.to_string());
    let rusqlite::Error::SqliteFailure(code, _) = error else {
        return SpoolError::Corrupt { path, detail };
    };
    match code.code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => SpoolError::Locked { path },
        ErrorCode::DiskFull => SpoolError::Full { path, detail },
        ErrorCode::SystemIoFailure if code.extended_code == SHORT_READ => SpoolError::Corrupt { path, detail },
        ErrorCode::SystemIoFailure
        | ErrorCode::OutOfMemory
        | ErrorCode::ReadOnly
        | ErrorCode::PermissionDenied
        | ErrorCode::CannotOpen
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::OperationInterrupted
        | ErrorCode::OperationAborted => SpoolError::Io { path, detail },
        _ => SpoolError::Corrupt { path, detail },
    }
}
