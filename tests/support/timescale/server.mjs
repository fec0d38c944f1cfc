// TimescaleDB for the tests where there is no Docker: compiled to WASM, behind the PostgreSQL protocol.
//
//   node server.mjs [PORT]     prints "READY <port>" when it listens on 127.0.0.1
//
// Made for asyncpg. What it cannot do: one session serves all connections of a database (an open transaction
// holds the others up; settings, temporary tables and advisory locks are shared), no background jobs, no
// cancelling of what runs, no passwords. It holds a million rows, but answers are slow by then: keep to 100,000.
//
// protocol.mjs    messages and framing
// backend.mjs     one PGlite instance, and images of its data
// database.mjs    a database: who may use its one session
// cluster.mjs     the databases by name: CREATE and DROP DATABASE
// connection.mjs  one client

import net from 'node:net'
import { Cluster } from './cluster.mjs'
import { Connection } from './connection.mjs'

// The test session holds the other end of our standard input: when it ends, in whatever way, so do we.
process.stdin.on('end', () => process.exit(0)).resume()
process.on('SIGTERM', () => process.exit(0))

const cluster = await Cluster.start()
const server = net.createServer((socket) => new Connection(socket, cluster))
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => console.log(`READY ${server.address().port}`))
