// Work on a run of backfill from outside of the server, with node-pg.
//
//     const { BackfillClient } = require('./backfill_client');
//
//     const client = new BackfillClient({ database: 'app' }, { name: 'mail', workers: 4 });
//     const status = await client.run(async (db, batch) =>
//       (await db.query(`UPDATE contact AS batch SET n = n + 1 WHERE ${batch.condition}`)).rowCount);
//
// The function does the rows of a batch, and returns how many it did, or nothing.  It is
// called in a transaction that completes the batch, too, which makes "exactly once"; with
// apart: true in none, which makes "at least once".  See doc/clients/node.md.

'use strict';

const os = require('os');
const pg = require('pg');

const CLAIM = `SELECT number::text, part, start_key, end_key, condition, rows::float8, token,
                      extract(epoch FROM retry_after)::float8 AS wait, reason, done
                 FROM backfill_claim($1::bigint, $2::text, $3::text)`;
const EXTEND = 'SELECT backfill_extend($1::bigint, $2::bigint, $3::int, $4::text)';
const COMPLETE = 'SELECT backfill_complete($1::bigint, $2::bigint, $3::int, $4::text, $5::bigint)';
const FAIL = 'SELECT backfill_fail($1::bigint, $2::bigint, $3::int, $4::text, $5::text, $6::text, $7::bool, $8::text[])';
const NEWEST = 'SELECT max(id)::text AS id FROM backfill_runs WHERE name = $1::text';

const NOT_OURS = 'UB006'; // the batch is somebody else's by now
const READ_ONLY = '25006'; // the server is a standby
const LOST = '08006'; // what is reported when the connection was lost
const MOST_WAIT = 30; // seconds after which to ask again, whatever the server said

// For handlers: try the batch again later, such as when a service is down.
class Retry extends Error {
  get retryable() { return true; }
}

// For handlers: the row with this key has failed, the others of the batch have not.
class BadRow extends Error {
  constructor(key, message) {
    super(message);
    this.key = [].concat(key).map(String);
  }

  get retryable() { return false; }
}

// Told to stop while waiting for the server.
class Stopped extends Error {}

// The SQLSTATE of an error, or of the one that it was made from; null if there is none.
function sqlstate(error) {
  if (!error) return null;
  return error.severity && error.code ? error.code : sqlstate(error.cause);
}

// Whether an error is none of our call: the connection, a shutdown, a deadlock.
function mayPass(error) {
  const state = sqlstate(error);
  return state ? /^(08|40|53|57|55P03|25006)/.test(state) : Boolean(error.lost || error.syscall);
}

// Something that happens once, and that one can wait for.
class Event {
  constructor() {
    this.isSet = false;
    this.waiting = new Set();
  }

  set() {
    this.isSet = true;
    for (const wake of [...this.waiting]) wake();
  }

  // Wait so many seconds at most; returns whether it has happened.
  wait(seconds) {
    if (this.isSet) return Promise.resolve(true);
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.waiting.delete(wake);
        resolve(this.isSet);
      };
      const timer = setTimeout(wake, seconds * 1000);
      this.waiting.add(wake);
    });
  }
}

// A connection that is made when it is needed, and again when it was lost.
class Link {
  constructor(client, ended) {
    Object.assign(this, { client, ended, db: null });
  }

  // What work(db) returns: in a transaction when it is committed, otherwise each statement is.
  async use(work, transaction = false) {
    this.db = this.db || await this.reach();
    const db = this.db;
    try {
      if (transaction) await db.query('BEGIN');
      const result = await work(db);
      if (transaction) await db.query('COMMIT');
      return result;
    } catch (error) {
      if (transaction && !db.lost) await db.query('ROLLBACK').catch(() => {});
      if (db.lost || sqlstate(error) === READ_ONLY) {
        error.lost = true;
        await this.close();
      }
      throw error;
    }
  }

  async query(sql, values) {
    return this.use(async (db) => (await db.query(sql, values)).rows[0]);
  }

  async reach() {
    const until = Date.now() + this.client.giveUp * 1000;
    for (let pause = 0.1; ; pause = Math.min(pause * 2, 5)) {
      try {
        return await this.client.connect();
      } catch (error) {
        if (Date.now() > until) throw error;
        this.client.log(`cannot connect, trying again: ${error.message}`);
      }
      if (await this.ended.wait(pause * (0.5 + Math.random() / 2))) throw new Stopped();
    }
  }

  async close() {
    const db = this.db;
    this.db = null;
    if (!db) return;
    const end = db.end().catch(() => {});
    if (!db.lost) await end; // pg waits for ever for the end of a connection that has ended
  }
}

class BackfillClient {
  // where: what pg.Client takes.  lease: seconds, or 'session'.  giveUp: for how many
  // seconds the server may be away.
  constructor(where, options) {
    Object.assign(this, {
      where, runId: null, name: null, workers: 1, lease: 60, apart: false, giveUp: 300,
      worker: `${os.hostname().slice(0, 40)}:${process.pid}`,
      log: (message) => console.error(`${new Date().toISOString()} ${message}`),
    }, options);
    if ((this.runId === null) === (this.name === null)) throw new Error('either runId or name must be given');
    this.stopping = new Event();
    this.finished = new Event();
    this.inHand = new Set();
    this.status = null;
  }

  async connect() {
    const db = new pg.Client({ application_name: 'backfill client', ...(typeof this.where === 'string' ? { connectionString: this.where } : this.where) });
    db.on('error', () => { db.lost = true; });
    db.on('end', () => { db.lost = true; });
    await db.connect();
    return db;
  }

  // Claim no more.  What is in hand is finished.
  stop() {
    this.stopping.set();
  }

  // Works until the run is over, and returns the status in which it ended, or null if stop()
  // or a signal ended this.
  async run(handler) {
    const onSignal = () => {
      this.log('stopping after the batches in hand');
      this.stop();
    };
    this.handler = handler;
    process.once('SIGTERM', onSignal).once('SIGINT', onSignal); // a second one ends the process
    try {
      const db = await this.connect(); // what is wrong with this one, is wrong for good
      if (this.runId === null) this.runId = (await db.query(NEWEST, [this.name])).rows[0].id;
      await db.end();
      if (this.runId === null) throw new Error(`no run of "${this.name}" is to be seen`);
      const hands = [...Array(this.workers).keys()].map((n) => this.loop(this.stopping, (link) => this.work(link, `${this.worker}/${n + 1}`)));
      const heart = this.loop(this.finished, (link) => this.beat(link));
      await Promise.all(hands);
      this.finished.set();
      await heart;
    } finally {
      process.removeListener('SIGTERM', onSignal).removeListener('SIGINT', onSignal);
    }
    if (this.error) throw this.error;
    return this.status;
  }

  // A loop with a connection of its own: an error in it ends all of them.
  async loop(ended, body) {
    const link = new Link(this, ended);
    try {
      await body(link);
    } catch (error) {
      if (!(error instanceof Stopped)) {
        this.error = this.error || error;
        this.stop();
      }
    } finally {
      await link.close();
    }
  }

  // The loop of a worker.
  async work(link, worker) {
    const lease = this.lease === 'session' ? 'session' : `${this.lease} s`;
    while (!this.stopping.isSet) {
      let row;
      try {
        row = await link.query(CLAIM, [this.runId, worker, lease]);
      } catch (error) {
        if (!mayPass(error)) throw error;
        this.log(`cannot claim, trying again: ${error.message}`);
        await this.stopping.wait(0.1);
        continue;
      }
      if (row.done) {
        this.status = row.reason;
        return;
      }
      if (row.wait !== null) {
        await this.stopping.wait(Math.min(row.wait, MOST_WAIT));
      } else {
        await this.attempt(link, { ...row, who: [this.runId, row.number, row.part, row.token], lost: false });
      }
    }
  }

  // Do a batch, and say what became of it.
  async attempt(link, batch) {
    let rows;
    this.inHand.add(batch);
    try {
      rows = await link.use((db) => this.handle(db, batch), !this.apart);
    } catch (error) {
      this.inHand.delete(batch);
      await this.failed(link, batch, error);
      return;
    }
    this.inHand.delete(batch);
    if (this.apart) await this.report(link, COMPLETE, [...batch.who, rows]);
  }

  async handle(db, batch) {
    const result = await this.handler(db, batch);
    const rows = Number.isInteger(result) ? result : null;
    if (!this.apart) await db.query(COMPLETE, [...batch.who, rows]);
    return rows;
  }

  // What the server has to know: by the SQLSTATE it judges what may go away by itself.
  async failed(link, batch, error) {
    const lost = link.db === null;
    const state = lost ? LOST : sqlstate(error);
    if (error instanceof Stopped) throw error;
    if (state === NOT_OURS) {
      this.log(`batch ${batch.number} is not ours any more: rolled back`);
      return;
    }
    this.log(`batch ${batch.number} has failed: ${error.message}`);
    await this.report(link, FAIL, [...batch.who, error.message || String(error), state,
      lost ? true : error.retryable === undefined ? null : error.retryable, error.key || null]);
  }

  // Say what became of a batch, again if need be: at most until its lease has run out.
  async report(link, sql, values) {
    for (;;) {
      try {
        await link.query(sql, values);
        return;
      } catch (error) {
        if (sqlstate(error) === NOT_OURS) return;
        if (!mayPass(error)) throw error;
        await new Promise((resolve) => { setTimeout(resolve, 100); });
      }
    }
  }

  // Extend the leases of what is in hand, in a session of its own: the others are busy.
  async beat(link) {
    while (this.lease !== 'session' && !await this.finished.wait(this.lease / 3)) {
      for (const batch of [...this.inHand].filter((each) => !each.lost)) {
        try {
          await link.query(EXTEND, batch.who);
        } catch (error) {
          batch.lost = sqlstate(error) === NOT_OURS;
          if (!batch.lost && !mayPass(error)) throw error;
        }
      }
    }
  }
}

module.exports = { BackfillClient, Retry, BadRow };
