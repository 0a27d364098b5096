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
  const pairs = Object.keys(fields)
    .sort()
    .flatMap((key) => {
      const value = fields[key]
      return value === undefined ? [] : [`${encode(key)}='${encode(value)}'`]
    })
  return pairs.length === 0 ? sql : `${sql} /*${pairs.join(',')}*/`
}

// Half a surrogate pair has no UTF-8 form: encodeURIComponent would throw, and the statement not be sent.
function encode(text: string): string {
  return encodeURIComponent(text.replace(/\p{Surrogate}/gu, '\uFFFD')).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )
}
