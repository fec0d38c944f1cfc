// The PostgreSQL wire protocol, version 3: as much of it as the server has to understand.
//
// A message is a type byte, a 32-bit length that counts itself but not the type, and a body. Most messages
// pass through untouched; only the few named here are taken apart or made.

export const PROTOCOL_3 = 196608
export const SSL_REQUEST = 80877103
export const GSS_REQUEST = 80877104
export const CANCEL_REQUEST = 80877102

export const cstring = (...texts) => Buffer.from(texts.join('\0') + '\0')

export const int32 = (...numbers) => {
  const bytes = Buffer.alloc(4 * numbers.length)
  numbers.forEach((number, i) => bytes.writeInt32BE(number, 4 * i))
  return bytes
}

export function message(type, ...parts) {
  const body = Buffer.concat(parts)
  const header = Buffer.alloc(5)
  header.write(type, 0, 'latin1')
  header.writeInt32BE(4 + body.length, 1)
  return Buffer.concat([header, body])
}

export const query = (sql) => message('Q', cstring(sql))
export const sync = () => message('S')
export const closeStatement = (name) => message('C', Buffer.from('S'), cstring(name))
export const readyForQuery = (status) => message('Z', Buffer.from(status))
export const commandComplete = (tag) => message('C', cstring(tag))
export const parameterStatus = (name, value) => message('S', cstring(name, value))

export const errorResponse = ({ severity = 'ERROR', code, message: text }) =>
  message('E', cstring('S' + severity, 'V' + severity, 'C' + code, 'M' + text), Buffer.from([0]))

/** An error with a SQLSTATE, to be sent to the client as an ErrorResponse. */
export class PgError extends Error {
  constructor(code, text, severity = 'ERROR') {
    super(text)
    this.code = code
    this.severity = severity
  }
}

/** [text, offset behind its terminator] of the C string at `start`. */
export function readCstring(bytes, start) {
  const end = bytes.indexOf(0, start)
  return [bytes.subarray(start, end).toString(), end + 1]
}

/** All messages of a buffer that holds whole messages only, as [type, bytes including the header]. */
export function* messages(bytes) {
  for (let at = 0; at < bytes.length; ) {
    const end = at + 1 + bytes.readInt32BE(at + 1)
    yield [String.fromCharCode(bytes[at]), bytes.subarray(at, end)]
    at = end
  }
}

/** Cuts the byte stream of a socket into messages; keeps what is not whole yet. */
export class Framing {
  #pieces = []
  #size = 0
  #wanted = 0 // bytes of the first message, 0 while its length is not known

  push(chunk) {
    this.#pieces.push(chunk)
    this.#size += chunk.length
  }

  /** The start-up packet has no type byte. Returns [code, body], or null while it is not whole. */
  startup() {
    if (this.#size < 8) return null
    const length = this.#joined().readInt32BE(0)
    if (this.#size < length) return null
    const packet = this.#take(length)
    return [packet.readInt32BE(4), packet.subarray(8)]
  }

  /** The next [type, bytes], or null while it is not whole. */
  next() {
    if (this.#size < 5) return null
    // Joining is put off until the message is complete: a large COPY arrives in thousands of pieces.
    if (!this.#wanted) this.#wanted = 1 + this.#joined().readInt32BE(1)
    if (this.#size < this.#wanted) return null
    const bytes = this.#take(this.#wanted)
    this.#wanted = 0
    return [String.fromCharCode(bytes[0]), bytes]
  }

  #joined() {
    if (this.#pieces.length > 1) this.#pieces = [Buffer.concat(this.#pieces)]
    return this.#pieces[0]
  }

  #take(length) {
    const all = this.#joined()
    this.#size -= length
    this.#pieces = this.#size ? [all.subarray(length)] : []
    return all.subarray(0, length)
  }
}
