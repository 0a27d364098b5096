/**
 * SQL comments in the sqlcommenter form, so that the database's own log bears the ID
 * (https://google.github.io/sqlcommenter/spec/).
 */
import type { Span } from '@opentelemetry/api'
import { type RequestContext, tryGetContext } from '../../context/index.js'
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
  const comment = requestComment(span)
  return comment === '' ? sql : append(sql, comment)
}

/**
 * The same for a template, of which nothing is known but its pieces: the comment comes after the last.
 *
 * @param pieces the text around the values; none when it is read from a file later
 */
export function commentTemplate(pieces: readonly string[], span?: Span): readonly string[] {
  const comment = requestComment(span)
  if (comment === '' || pieces.length === 0) return pieces
  const last = pieces.length - 1
  return pieces.with(last, `${pieces[last]} ${comment}`)
}

/** `correlation_id`, `traceparent`, and where known `action` and `route`. Empty outside a request. */
export function requestFields(span?: Span): SqlCommentFields {
  const requestContext = tryGetContext()
  if (requestContext === undefined) return {}
  return { ...fieldsOf(requestContext), traceparent: traceparentOf(span) }
}

/**
 * Appends the fields as one comment, keys sorted, values percent-encoded and quoted. Encoding covers `'`
 * and `*`, so no value can end the comment. A closing `;` stays last. Returns the statement unchanged when there is
 * nothing to add or it already carries such a comment.
 *
 * @example appendSqlComment('SELECT 1', { correlation_id: 'a/b' }) // SELECT 1 /*correlation_id='a%2Fb'*\/
 */
export function appendSqlComment(sql: string, fields: SqlCommentFields): string {
  const pairs = pairsOf(fields)
  return pairs === '' ? sql : append(sql, `/*${pairs}*/`)
}

function append(sql: string, comment: string): string {
  if (sql.length === 0 || isCommented(sql)) return sql
  const end = endOfStatement(sql)
  return `${sql.slice(0, end)} ${comment}${sql.slice(end)}`
}

/** Where the closing `;` and the white space around it begin; the end of the text where there is no `;`. */
function endOfStatement(sql: string): number {
  const end = endOfText(sql)
  return sql.indexOf(';', end) < 0 ? sql.length : end
}

/** Where the white space and the `;` at the end begin. */
function endOfText(sql: string): number {
  let end = sql.length
  for (; end > 0; end -= 1) {
    const character = sql[end - 1] ?? ''
    if (character !== ';' && character.trim() !== '') break
  }
  return end
}

function isCommented(sql: string): boolean {
  const end = endOfText(sql)
  if (!sql.endsWith('*/', end)) return false
  return /(?:\/\*|,)correlation_id='/.test(sql.slice(sql.lastIndexOf('/*', end), end))
}

/** What the statements of a request have in common: all but the `traceparent`, which comes last by its name. */
interface RequestPairs {
  action: string | undefined
  route: string | undefined
  text: string
}

const pairsOfRequests = new WeakMap<RequestContext, RequestPairs>()

/** Empty when comments are off, or no request is active. */
function requestComment(span: Span | undefined): string {
  const requestContext = tryGetContext()
  if (requestContext === undefined || !clientSettings().sqlComments) return ''
  const fields = fieldsOf(requestContext)
  let pairs = pairsOfRequests.get(requestContext)
  if (pairs === undefined || pairs.action !== fields.action || pairs.route !== fields.route) {
    pairs = { action: fields.action, route: fields.route, text: pairsOf(fields) }
    pairsOfRequests.set(requestContext, pairs)
  }
  const traceparent = traceparentOf(span)
  return traceparent === undefined ? `/*${pairs.text}*/` : `/*${pairs.text},traceparent='${traceparent}'*/`
}

function fieldsOf(requestContext: RequestContext) {
  return {
    action: requestContext.action?.name,
    correlation_id: requestContext.correlationId,
    route: routeOf(requestContext),
  }
}

function pairsOf(fields: SqlCommentFields): string {
  let pairs = ''
  for (const key of Object.keys(fields).sort()) {
    const value = fields[key]
    if (value !== undefined) pairs += `${pairs === '' ? '' : ','}${encode(key)}='${encode(value)}'`
  }
  return pairs
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
