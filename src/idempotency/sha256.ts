import * as crypto from 'node:crypto'

/** SHA-256, 64 hex digits. In one call where Node has it (20.12 and later): a third of the time of a Hash object. */
export const sha256: (content: string | Uint8Array) => string =
  typeof crypto.hash === 'function'
    ? (content) => crypto.hash('sha256', content)
    : (content) => crypto.createHash('sha256').update(content).digest('hex')
