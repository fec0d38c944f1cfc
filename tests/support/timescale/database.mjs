// A database: the image it starts from, a backend while it is in use, and the queue before that backend.
//
// The backend has one session, which all connections share. So while a transaction or an unfinished pipeline
// is open, only the connection that opened it (the owner) gets through; the others wait, as on a lock.

import { setTimeout as sleep } from 'node:timers/promises'
import { Backend, SERVER_DEFAULTS } from './backend.mjs'
import { PgError, closeStatement, messages, query, readCstring, sync } from './protocol.mjs'

// How long a connection waits for the transaction of another one before it gets an error.
const WAIT_MS = Number(process.env.TRANSACTION_WAIT_MS ?? 20_000)

// PGlite reports rollbacks as warnings such as "# 1743: aborting transaction 741", and more as debug output.
const NOISE = /\0M# \d+: |^SDEBUG/
const RESETS = /\b(reset|discard)\s+all\b/i
const LISTEN = /^\s*listen\s+"?([\w$]+)"?/i
const UNLISTEN = /\b(?:unlisten\s+(?:\*|"?([\w$]+)"?)|discard\s+all\b)/i

export class Database {
  connections = new Set()
  #image
  #backend = null // a promise of a Backend
  #failure = null // why the backend died
  #queue = []
  #pumping = false
  #owner = null
  #listeners = new Map() // channel -> connections
  #defaultsLost = false
  #channelsLost = false

  constructor(name, image) {
    this.name = name
    this.#image = image
  }

  /** Refuse if there are connections; as a real server does, give those that are closing a moment. */
  async unused() {
    for (let tries = 0; this.connections.size; tries += 1) {
      if (tries === 50) throw new PgError('55006', `database "${this.name}" is being accessed by other users`)
      await sleep(20)
    }
  }

  /** A copy of the data directory, for a database that has this one as its template. */
  async image() {
    await this.unused()
    if (this.#backend) {
      this.#image = (await this.#backend).image()
      await this.close() // a template is rarely used itself, and a backend takes 250 MB
    }
    return this.#image
  }

  async close() {
    const backend = this.#backend
    this.#backend = null
    if (backend && !this.#failure) await (await backend).release()
  }

  /**
   * Run whole messages when it is this connection's turn, and give what the backend answers.
   * `sql`: the statement in them, where there is one. `holds`: they are part of a pipeline that goes on.
   */
  run(connection, bytes, { sql = '', holds = false } = {}) {
    return new Promise((resolve, reject) => {
      if (connection.closed && this.#owner && this.#owner !== connection) {
        throw new PgError('57014', 'the client has gone')
      }
      const job = { connection, bytes, sql, holds, resolve, reject }
      job.timer = setTimeout(() => {
        const text = 'another connection holds a transaction open, and this server has one session only'
        this.#refuse(job, new PgError('55P03', text))
      }, WAIT_MS)
      this.#queue.push(job)
      this.#pump()
    })
  }

  /** Take what a connection has waiting out of the queue. */
  cancel(connection) {
    for (const job of this.#queue.filter((job) => job.connection === connection)) {
      this.#refuse(job, new PgError('57014', 'canceling statement due to user request'))
    }
  }

  /** Undo what a connection that has gone left behind: its transaction, statements and channels. */
  async leave(connection) {
    this.connections.delete(connection)
    for (const connections of this.#listeners.values()) connections.delete(connection)
    if (!this.#backend || this.#failure) return
    const backend = await this.#backend
    try {
      if (this.#owner === connection) {
        backend.execute(sync())
        backend.execute(query('ROLLBACK'))
        this.#owner = null
      }
      for (const name of connection.statements) backend.execute(closeStatement(name))
      backend.execute(sync())
      if (!this.connections.size) {
        // The last part of the session has gone; temporary tables, settings and advisory locks go with it.
        backend.execute(query('DISCARD ALL'))
        backend.execute(SERVER_DEFAULTS)
      }
    } catch (error) {
      this.#die(error)
    }
    this.#pump()
  }

  async #pump() {
    if (this.#pumping) return
    this.#pumping = true
    try {
      this.#backend ??= Backend.boot(this.#image)
      const backend = await this.#backend
      for (let job = this.#next(); job; job = this.#next()) this.#execute(backend, job)
    } catch (error) {
      this.#die(error)
    } finally {
      this.#pumping = false
    }
  }

  #next() {
    const at = this.#owner ? this.#queue.findIndex((job) => job.connection === this.#owner) : 0
    const job = at < 0 ? undefined : this.#queue.splice(at, 1)[0]
    if (job) clearTimeout(job.timer)
    return job
  }

  #refuse(job, error) {
    const at = this.#queue.indexOf(job)
    if (at < 0) return
    this.#queue.splice(at, 1)
    clearTimeout(job.timer)
    job.reject(error)
  }

  #execute(backend, job) {
    if (job.sql) this.#note(job)
    let answer
    try {
      answer = backend.execute(job.bytes)
    } catch (error) {
      job.reject(this.#die(error))
      return
    }
    const kept = []
    let status = null // of the last ReadyForQuery, if there is one
    for (const [type, bytes] of messages(answer)) {
      if (type === 'Z') status = String.fromCharCode(bytes[5])
      if (type === 'N' && NOISE.test(bytes.toString('latin1', 5))) continue
      if (type === 'A' && !this.#notify(job.connection, bytes)) continue
      kept.push(bytes)
    }
    this.#owner = job.holds || status !== 'I' ? job.connection : null
    if (status === 'I') this.#repair(backend)
    job.resolve(Buffer.concat(kept))
  }

  /** Remember what a statement does to the session as a whole. */
  #note({ connection, sql }) {
    const listen = LISTEN.exec(sql)
    if (listen) {
      if (!this.#listeners.has(listen[1])) this.#listeners.set(listen[1], new Set())
      this.#listeners.get(listen[1]).add(connection)
    }
    const unlisten = UNLISTEN.exec(sql)
    if (unlisten) {
      for (const [channel, connections] of this.#listeners) {
        if (!unlisten[1] || unlisten[1] === channel) connections.delete(connection)
      }
      this.#channelsLost = true
    }
    if (RESETS.test(sql)) this.#defaultsLost = true
  }

  /** Give the session back what one connection took away from the others. */
  #repair(backend) {
    if (this.#defaultsLost) backend.execute(SERVER_DEFAULTS)
    if (this.#channelsLost) {
      for (const [channel, connections] of this.#listeners) {
        if (connections.size) backend.execute(query(`LISTEN "${channel}"`))
      }
    }
    this.#defaultsLost = this.#channelsLost = false
  }

  /** Hand a notification to the other connections that listen; true if this one does, too. */
  #notify(connection, bytes) {
    const [channel] = readCstring(bytes, 9)
    const listening = this.#listeners.get(channel) ?? new Set()
    for (const other of listening) if (other !== connection) other.send(bytes)
    return listening.has(connection)
  }

  /** The backend is gone: that ends this database and its connections, but not the server. */
  #die(error) {
    console.error(`database ${this.name}: the backend died:`, error)
    this.#failure ??= new PgError('57P02', `the backend of "${this.name}" died: ${error?.message ?? error}`, 'FATAL')
    this.#backend = Promise.reject(this.#failure)
    this.#backend.catch(() => {})
    for (const job of [...this.#queue]) this.#refuse(job, this.#failure)
    return this.#failure
  }
}
