/**
 * SQL comments in the sqlcommenter form, so that the database's own log bears the ID
 * (https://google.github.io/sqlcommenter/spec/).
 */

/** Pairs to write. Undefined values are left out. */
export type SqlCommentFields = Readonly<Record<string, string | undefined>>

/**
 * Appends the fields as one comment, keys sorted, values percent-encoded and quoted. Encoding covers `'`
 * and `*`, so no value can end the comment. Returns the statement unchanged when there is nothing to add
 * or it already carries such a comment.
 *
 * @example appendSqlComment('SELECT 1', { correlation_id: 'a/b' }) // SELECT 1 /*correlation_id='a%2Fb'*\/
 */
export function appendSqlComment(sql: string, fields: SqlCommentFields): string {
  if (sql.length === 0 || sql.includes("/*correlation_id='")) return sql
  let pairs = ''
  for (const key of Object.keys(fields).sort()) {
    const value = fields[key]
    if (value !== undefined) pairs += `${pairs === '' ? '' : ','}${encode(key)}='${encode(value)}'`
  }
  return pairs === '' ? sql : `${sql} /*${pairs}*/`
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
