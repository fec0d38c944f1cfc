// One client connection: start-up, and the messages of the simple and the extended protocol.

import { randomInt } from 'node:crypto'
import * as wire from './protocol.mjs'
import { PgError, message, readCstring } from './protocol.mjs'

// asyncpg sends COPY as a simple query, always in this form.
const COPY_IN = /^\s*copy\b[\s\S]*\bfrom\s+stdin\b/i
const BINARY = /format\s+'?binary|with\s+binary/i

// What a server tells its clients at the start.
const PARAMETERS = {
  server_version: '17.5',
  server_encoding: 'UTF8',
  client_encoding: 'UTF8',
  DateStyle: 'ISO, MDY',
  TimeZone: 'UTC',
  integer_datetimes: 'on',
  standard_conforming_strings: 'on',
  IntervalStyle: 'postgres',
  is_superuser: 'on',
  session_authorization: 'postgres',
}
// Start-up parameters that are no settings of the session.
const NO_SETTINGS = new Set(['user', 'database', 'replication', 'options', 'client_encoding'])

let lastId = 0
const connections = new Map() // by id, for cancel requests

export class Connection {
  statements = new Set() // names of prepared statements, as the backend knows them
  closed = false
  #id = ++lastId
  #secret = randomInt(2 ** 31)
  #socket
  #cluster
  #database = null
  #framing = new wire.Framing()
  #work = Promise.resolve() // the messages of a connection are handled one after another
  #copy = null // the messages of a COPY FROM STDIN, while it runs
  #skipping = false // after an error in a pipeline, until its Sync
  #bound = false // the pipeline has bound a portal: it does more than prepare

  constructor(socket, cluster) {
    this.#socket = socket
    this.#cluster = cluster
    connections.set(this.#id, this)
    socket.setNoDelay(true)
    socket.on('error', () => {}) // 'close' follows
    socket.on('data', (chunk) => {
      this.#framing.push(chunk)
      this.#then(() => this.#handle())
    })
    socket.on('close', () => {
      this.closed = true
      connections.delete(this.#id)
      this.#database?.cancel(this)
      this.#then(() => this.#database?.leave(this))
    })
  }

  send(bytes) {
    if (bytes.length && this.#socket.writable) this.#socket.write(bytes)
  }

  /** As pg_terminate_backend() does. */
  terminate() {
    const text = 'terminating connection due to administrator command'
    this.#fatal(new PgError('57P01', text, 'FATAL'))
  }

  #then(step) {
    this.#work = this.#work.then(step).catch((error) => {
      if (!(error instanceof PgError)) console.error(error)
      this.#fatal(error instanceof PgError ? error : new PgError('XX000', String(error), 'FATAL'))
    })
  }

  #fatal(error) {
    this.send(wire.errorResponse({ code: error.code, message: error.message, severity: 'FATAL' }))
    this.#socket.end()
    this.#socket.destroySoon()
  }

  async #handle() {
    while (!this.#database) {
      const packet = this.#framing.startup()
      if (!packet) return
      await this.#startup(...packet)
    }
    for (let next = this.#framing.next(); next; next = this.#framing.next()) await this.#message(...next)
  }

  async #startup(code, body) {
    if (code === wire.SSL_REQUEST || code === wire.GSS_REQUEST) return this.send(Buffer.from('N'))
    if (code === wire.CANCEL_REQUEST) {
      const connection = connections.get(body.readInt32BE(0))
      // What runs cannot be interrupted; what waits for another connection's transaction can.
      if (connection?.#secret === body.readInt32BE(4)) connection.#database?.cancel(connection)
      return this.#socket.end()
    }
    if (code !== wire.PROTOCOL_3) throw new PgError('0A000', `unsupported protocol ${code >> 16}`, 'FATAL')
    const words = body.toString().split('\0')
    const wanted = {}
    for (let i = 0; i + 1 < words.length && words[i]; i += 2) wanted[words[i]] = words[i + 1]
    const database = this.#cluster.database(wanted.database ?? wanted.user)
    database.connections.add(this)
    this.#database = database
    for (const [name, value] of Object.entries(wanted)) {
      // Settings of one connection are settings of all: they share the session.
      if (!NO_SETTINGS.has(name)) await this.#set(name, value)
    }
    this.send(Buffer.concat([
      message('R', wire.int32(0)), // authenticated
      ...Object.entries(PARAMETERS).map(([name, value]) => wire.parameterStatus(name, value)),
      // What a session of a server reports of itself, and one that a pooler lends does not: see Sessions.
      wire.parameterStatus('application_name', `kraken-db ${this.#id}`),
      message('K', wire.int32(this.#id, this.#secret)),
      wire.readyForQuery('I'),
    ]))
  }

  async #set(name, value) {
    const literal = `'${value.replaceAll("'", "''")}'`
    const sql = `SELECT set_config('${name.replaceAll("'", "''")}', ${literal}, false)`
    await this.#database.run(this, wire.query(sql))
  }

  async #message(type, bytes) {
    if (this.#copy) return this.#copyMessage(type, bytes)
    if (type === 'X') return this.#socket.end()
    if (type === 'Q') return this.#simple(bytes)
    if (type === 'S') {
      this.#skipping = this.#bound = false
      return this.#run(bytes)
    }
    if (this.#skipping) return
    const body = bytes.subarray(5)
    switch (type) {
      case 'P': return this.#parse(body)
      case 'B': return this.#bind(body)
      case 'E': return this.#execute(body)
      case 'D': return this.#describeOrClose('D', body)
      case 'C': return this.#describeOrClose('C', body)
      case 'H': return this.#flush()
      case 'd': case 'c': case 'f': return // the rest of a COPY that has failed
      default: throw new PgError('08P01', `unexpected message ${type}`, 'FATAL')
    }
  }

  // --- simple queries and COPY ---

  async #simple(bytes) {
    const [sql] = readCstring(bytes, 5)
    if (COPY_IN.test(sql)) {
      // The backend runs a COPY in one go or not at all: collect it, and play the server meanwhile.
      this.#copy = { sql, parts: [Buffer.from(bytes)] }
      const format = BINARY.test(sql) ? 1 : 0
      return this.send(message('G', Buffer.from([format, 0, 0])))
    }
    try {
      const command = this.#cluster.command(sql)
      if (!command) return await this.#run(bytes, { sql })
      this.send(Buffer.concat([wire.commandComplete(await command), wire.readyForQuery('I')]))
    } catch (error) {
      this.#refused(error)
      this.send(wire.readyForQuery('I'))
    }
  }

  async #copyMessage(type, bytes) {
    if (!'dcf'.includes(type)) return // Flush and Sync are allowed here, and mean nothing
    this.#copy.parts.push(Buffer.from(bytes))
    if (type === 'd') return
    const { sql, parts } = this.#copy
    this.#copy = null
    await this.#run(Buffer.concat(parts), { sql, without: 'G' }) // the client has had its CopyInResponse
  }

  // --- the extended protocol ---
  //
  // Prepared statements and portals get the number of their connection as a prefix, because all connections
  // prepare in one session. The unnamed statement gets a name by that, and has to be closed by hand before
  // it is parsed anew. The unnamed portal stays: it never outlives the pipeline that owns the session.

  #name(name) {
    return `c${this.#id}_${name}`
  }

  #portal(name) {
    return name && this.#name(name)
  }

  async #parse(body) {
    const [given, at] = readCstring(body, 0)
    const [sql] = readCstring(body, at)
    const name = this.#name(given)
    if (COPY_IN.test(sql)) {
      return this.#pipelineError(new PgError('0A000', 'COPY FROM STDIN works as a simple query only'))
    }
    if (!given && this.statements.has(name)) {
      await this.#run(wire.closeStatement(name), { holds: true, without: '3' })
    }
    this.statements.add(name)
    await this.#run(message('P', wire.cstring(name), body.subarray(at)), { sql, holds: true })
  }

  async #bind(body) {
    this.#bound = true
    const [portal, at] = readCstring(body, 0)
    const [statement, rest] = readCstring(body, at)
    const names = wire.cstring(this.#portal(portal), this.#name(statement))
    await this.#run(message('B', names, body.subarray(rest)), { holds: true })
  }

  async #execute(body) {
    const [portal, at] = readCstring(body, 0)
    await this.#run(message('E', wire.cstring(this.#portal(portal)), body.subarray(at)), { holds: true })
  }

  async #describeOrClose(type, body) {
    const kind = String.fromCharCode(body[0])
    const [given] = readCstring(body, 1)
    const name = kind === 'S' ? this.#name(given) : this.#portal(given)
    if (type === 'C' && kind === 'S') this.statements.delete(name)
    await this.#run(message(type, Buffer.from(kind), wire.cstring(name)), { holds: true })
  }

  /**
   * Answers are sent at once here, so there is nothing to flush. But asyncpg prepares a statement with Flush
   * alone, and may run it much later: a Sync in its name lets the others have the session until then.
   */
  async #flush() {
    if (!this.#bound) await this.#run(wire.sync(), { without: 'Z' })
  }

  // --- running ---

  /** Run messages and send the answer, less the messages of type `without`. */
  async #run(bytes, { sql, holds = false, without = '' } = {}) {
    let answer
    try {
      answer = await this.#database.run(this, bytes, { sql, holds })
    } catch (error) {
      if (holds) return this.#pipelineError(error)
      this.#refused(error)
      return this.send(wire.readyForQuery('I'))
    }
    const kept = []
    for (const [type, part] of wire.messages(answer)) {
      if (type !== without) kept.push(part)
      if (type === 'E' && holds) this.#skipping = true
    }
    this.send(Buffer.concat(kept))
  }

  #pipelineError(error) {
    this.#skipping = true
    this.#refused(error)
  }

  #refused(error) {
    if (!(error instanceof PgError) || error.severity === 'FATAL') throw error
    this.send(wire.errorResponse(error))
  }
}
