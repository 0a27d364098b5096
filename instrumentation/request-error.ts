/** `onRequestError`: an error that reached Next, logged with the digest a user sees on the error page. */
import { logger } from '../src/logging/index.js'

/** The part of Next's request argument that is read. */
export interface RequestErrorRequest {
  path: string
  method: string
  headers: Record<string, string | string[] | undefined>
}

/** The part of Next's context argument that is read. */
export interface RequestErrorContext {
  routerKind: string
  routePath: string
  /** `render`, `route`, `action` or `proxy`; Next guesses `action` for any multipart POST. */
  routeType: string
  renderSource?: string
}

/** Logs the error under the ID of its request. The query string is left out: it may hold secrets. */
export function logRequestError(
  error: unknown,
  request: RequestErrorRequest,
  context: RequestErrorContext,
): void {
  const [path] = request.path.split('?', 1)
  logger.error(
    {
      err: error,
      method: request.method,
      path,
      route: context.routePath,
      route_type: context.routeType,
      ...(context.renderSource === undefined ? {} : { render_source: context.renderSource }),
    },
    'request error',
  )
}
