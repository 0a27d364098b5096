/**
 * Names the Server Action a request runs, without a wrapper: Next keeps a manifest from the action's ID, in
 * the `next-action` header or in the form, to the file and the exported name.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ActionIdentity, RequestContext } from '../src/context/index.js'
import { ATTRIBUTE } from '../src/telemetry/names.js'

/** Where Next keeps what it loaded: since 16, and in 15. Each has the actions of the pages loaded so far. */
const MANIFESTS = [Symbol.for('next.server.manifests'), Symbol.for('next.server.action-manifests')]

/** The part of the manifest that is read. */
interface ActionManifestHolder {
  serverActionsManifest?: {
    node?: Record<string, { filename?: string; exportedName?: string } | undefined>
  }
}

/** How much of a form is searched for the action's ID, in bytes. React puts its fields first. */
const SEARCHED_BYTES = 16_384

/** React's fields in a form that is posted without JavaScript: a plain action, or one with bound arguments. */
const FORM_ACTION_ID = /\$ACTION_ID_([0-9a-f]{40,64})"|\$ACTION_\d+:0"[^{]{0,100}\{"id":"([0-9a-f]{40,64})"/

/**
 * Finds the action's name at once when its page was served before, else just before the response is
 * written: by then Next has loaded the page, in development compiled it, and the request's span is open.
 */
export function nameServerAction(
  request: IncomingMessage,
  response: ServerResponse,
  requestContext: RequestContext,
): void {
  if (request.method !== 'POST') return
  let id = request.headers['next-action']
  if (typeof id === 'string') requestContext.action = lookUp(id)
  else if (!request.headers['content-type']?.startsWith('multipart/form-data')) return
  else {
    watchForm(request, (found) => {
      id = found
      requestContext.action ??= lookUp(found)
    })
  }
  const { writeHead } = response
  response.writeHead = function (this: ServerResponse, ...args: Parameters<typeof writeHead>) {
    if (typeof id === 'string') requestContext.action ??= lookUp(id)
    if (requestContext.action !== undefined) showAction(requestContext, requestContext.action)
    return writeHead.apply(this, args)
  } as typeof writeHead
}

// A browser without JavaScript names the action in the form itself. The body is only looked at as it passes:
// listening for `data` would start the stream before Next does.
function watchForm(request: IncomingMessage, onFound: (id: string) => void): void {
  const { push } = request
  let seen = ''
  request.push = function (this: IncomingMessage, chunk: unknown, encoding?: BufferEncoding) {
    if (Buffer.isBuffer(chunk) && seen.length < SEARCHED_BYTES) {
      seen += chunk.toString('latin1', 0, SEARCHED_BYTES - seen.length)
      const match = FORM_ACTION_ID.exec(seen)
      const id = match?.[1] ?? match?.[2]
      if (id !== undefined) onFound(id)
      if (id !== undefined || seen.length >= SEARCHED_BYTES) request.push = push
    }
    return push.call(this, chunk, encoding)
  }
}

function lookUp(id: string): ActionIdentity | undefined {
  for (const symbol of MANIFESTS) {
    const holder = (globalThis as { [key: symbol]: ActionManifestHolder | undefined })[symbol]
    const entry = holder?.serverActionsManifest?.node?.[id]
    if (entry?.exportedName === undefined) continue
    return { name: entry.exportedName, ...(entry.filename === undefined ? {} : { file: entry.filename }) }
  }
  return undefined
}

function showAction({ firstSpan }: RequestContext, action: ActionIdentity): void {
  firstSpan?.setAttribute(ATTRIBUTE.actionName, action.name)
  if (action.file !== undefined) firstSpan?.setAttribute(ATTRIBUTE.actionFile, action.file)
}
