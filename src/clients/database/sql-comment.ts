/**
 * SQL comments in the sqlcommenter form, so that the database's own log bears the ID
 * (https://google.github.io/sqlcommenter/spec/).
 */
import type { Span } from '@opentelemetry/api'
import { tryGetContext } from '../../context/index.js'
import { routeOf } from '../../telemetry/request-span.js'
import { traceparentOf } from '../../telemetry/sdk-pieces.js'
import { clientSettings } from '../settings.js'

/** Pairs to write. Undefined values are left out. */
export type SqlCommentFields = Readonly<Record<string, string | undefined>>

/**
 * The statement with what is known of the request it is sent for, unless comments are off or no request is active.
 *
 * @param span the statement's own; by default the active one
 */
export function commentSql(sql: string, span?: Span): string {
  return clientSettings().sqlComments ? appendSqlComment(sql, requestFields(span)) : sql
}

/**
 * The same for a template, of which nothing is known but its pieces: the comment comes after the last.
 *
 * @param pieces the text around the values; none when it is read from a file later
 */
export function commentTemplate(pieces: readonly string[], span?: Span): readonly string[] {
  if (!clientSettings().sqlComments || pieces.length === 0) return pieces
  const last = pieces.length - 1
  return pieces.with(last, `${pieces[last]}${sqlComment(requestFields(span))}`)
}

/** `correlation_id`, `traceparent`, and where known `action` and `route`. Empty outside a request. */
export function requestFields(span?: Span): SqlCommentFields {
  const requestContext = tryGetContext()
  if (requestContext === undefined) return {}
  return {
    action: requestContext.action?.name,
    correlation_id: requestContext.correlationId,
    route: routeOf(requestContext),
    traceparent: traceparentOf(span),
  }
}

/**
 * Appends the fields as one comment, keys sorted, values percent-encoded and quoted. Encoding covers `'`
 * and `*`, so no value can end the comment. A closing `;` stays last. Returns the statement unchanged when there is
 * nothing to add or it already carries such a comment.
 *
 * @example appendSqlComment('SELECT 1', { correlation_id: 'a/b' }) // SELECT 1 /*correlation_id='a%2Fb'*\/
 */
export function appendSqlComment(sql: string, fields: SqlCommentFields): string {
  if (sql.length === 0 || isCommented(sql)) return sql
  const comment = sqlComment(fields)
  if (comment === '') return sql
  const [end = ''] = /;\s*$/.exec(sql.slice(-16)) ?? []
  return `${sql.slice(0, sql.length - end.length)}${comment}${end}`
}

/** With a space before it; empty when there is nothing to say. */
function sqlComment(fields: SqlCommentFields): string {
  let pairs = ''
  for (const key of Object.keys(fields).sort()) {
    const value = fields[key]
    if (value !== undefined) pairs += `${pairs === '' ? '' : ','}${encode(key)}='${encode(value)}'`
  }
  return pairs === '' ? '' : ` /*${pairs}*/`
}

function isCommented(sql: string): boolean {
  const end = sql.slice(-1024)
  if (!/\*\/[\s;]*$/.test(end)) return false
  return /(?:\/\*|,)correlation_id='/.test(end.slice(end.lastIndexOf('/*')))
}

/** Characters that stay as they are: most IDs have no others. */
const UNRESERVED = /^[A-Za-z0-9_.~-]*$/

// Half a surrogate pair has no UTF-8 form: encodeURIComponent would throw, and the statement not be sent.
function encode(text: string): string {
  if (UNRESERVED.test(text)) return text
  return encodeURIComponent(text.replace(/\p{Surrogate}/gu, '\uFFFD')).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )
}
