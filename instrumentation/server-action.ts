/**
 * Names the Server Action a request runs, without a wrapper: Next keeps a manifest from the ID in the
 * `next-action` header to the file and the exported name.
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

/**
 * Finds the action's name at once when its page was served before, else just before the response is
 * written: by then Next has loaded the page, in development compiled it, and the request's span is open.
 */
export function nameServerAction(
  request: IncomingMessage,
  response: ServerResponse,
  requestContext: RequestContext,
): void {
  const id = request.headers['next-action']
  if (request.method !== 'POST' || typeof id !== 'string') return
  requestContext.action = lookUp(id)
  const { writeHead } = response
  response.writeHead = function (this: ServerResponse, ...args: Parameters<typeof writeHead>) {
    requestContext.action ??= lookUp(id)
    if (requestContext.action !== undefined) showAction(requestContext, requestContext.action)
    return writeHead.apply(this, args)
  } as typeof writeHead
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
