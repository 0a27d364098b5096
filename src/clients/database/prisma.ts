/**
 * Prisma 7: the request's ID as a comment on the SQL of each query. Its spans come from `@prisma/instrumentation`,
 * which `register()` starts where it is installed.
 */
import { clientSettings } from '../settings.js'
import { requestFields, type SqlCommentFields } from './sql-comment.js'

/**
 * A SQL commenter plugin (https://www.prisma.io/docs/orm/prisma-client/observability-and-logging/sql-comments).
 * Not needed with `@prisma/adapter-pg`, whose `pg` bears the comment already; harmless there.
 *
 * @example new PrismaClient({ adapter, comments: [requestComments()] })
 */
export function requestComments(): () => SqlCommentFields {
  return () => (clientSettings().sqlComments ? requestFields() : {})
}
