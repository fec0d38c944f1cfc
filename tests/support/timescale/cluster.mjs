// The databases of the server by name. CREATE DATABASE and DROP DATABASE are answered here, because a PGlite
// instance holds one database only: tests make and drop databases with the same SQL as on a real server.

import { Backend } from './backend.mjs'
import { Database } from './database.mjs'
import { PgError } from './protocol.mjs'

const NAME = String.raw`(?:"([^"]+)"|([\w$]+))`
const CREATE = new RegExp(String.raw`^\s*create\s+database\s+${NAME}(?:\s+(?:with\s+)?template\s*=?\s*${NAME})?\s*;?\s*$`, 'i')
const DROP = new RegExp(String.raw`^\s*drop\s+database\s+(if\s+exists\s+)?${NAME}\s*(?:(?:with\s*)?\(\s*(force)\s*\))?\s*;?\s*$`, 'i')

const named = (quoted, plain) => quoted ?? plain?.toLowerCase()

export class Cluster {
  #databases = new Map()

  static async start() {
    const cluster = new Cluster()
    cluster.pristine = await Backend.pristine()
    for (const name of ['postgres', 'template1']) cluster.#add(name, cluster.pristine)
    return cluster
  }

  database(name) {
    const database = this.#databases.get(name)
    if (!database) throw new PgError('3D000', `database "${name}" does not exist`, 'FATAL')
    return database
  }

  /** What a simple query asks of the cluster: a promise of its command tag, or null if it asks nothing. */
  command(sql) {
    const create = CREATE.exec(sql)
    if (create) return this.#create(named(create[1], create[2]), named(create[3], create[4]) ?? 'template1')
    const drop = DROP.exec(sql)
    if (drop) return this.#drop(named(drop[2], drop[3]), { ifExists: Boolean(drop[1]), force: Boolean(drop[4]) })
    return null
  }

  #add(name, image) {
    this.#databases.set(name, new Database(name, image))
  }

  async #create(name, template) {
    if (this.#databases.has(name)) throw new PgError('42P04', `database "${name}" already exists`)
    const source = this.#databases.get(template)
    if (!source) throw new PgError('3D000', `template database "${template}" does not exist`)
    this.#add(name, await source.image()) // its backend starts with the first statement
    return 'CREATE DATABASE'
  }

  async #drop(name, { ifExists, force }) {
    const database = this.#databases.get(name)
    if (!database && ifExists) return 'DROP DATABASE'
    if (!database) throw new PgError('3D000', `database "${name}" does not exist`)
    if (force) for (const connection of [...database.connections]) connection.terminate()
    await database.unused()
    this.#databases.delete(name)
    await database.close()
    return 'DROP DATABASE'
  }
}
