/**
 * `pg`: spans from its OpenTelemetry instrumentation, and our comment on every statement.
 *
 * The instrumentation's own comment holds `traceparent` alone and takes no further fields (js-contrib
 * #1454), so it is off, and a wrapper beneath it writes one comment with both.
 */
import { AsyncResource } from 'node:async_hooks'
import type { Span } from '@opentelemetry/api'
import {
  type Instrumentation,
  InstrumentationBase,
  InstrumentationNodeModuleDefinition,
  InstrumentationNodeModuleFile,
} from '@opentelemetry/instrumentation'
import { PgInstrumentation } from '@opentelemetry/instrumentation-pg'
import { countCall, tryGetContext } from '../../context/index.js'
import { SCOPE } from '../../telemetry/names.js'
import { traceparentOf } from '../../telemetry/sdk-pieces.js'
import { appendSqlComment } from './sql-comment.js'

/** Options of `pgInstrumentations`. */
export interface PgOptions {
  /** Append `correlation_id` and `traceparent` to statements. Default true. */
  sqlComments?: boolean
}

type Method = ((this: unknown, ...args: unknown[]) => unknown) & { [WRAPPED]?: true }

/** The part of `pg.Client` that is wrapped. */
interface PgClientClass {
  prototype: { query: Method }
}

/** The part of `pg-pool` that is wrapped. */
interface PgPoolClass {
  prototype: { connect: Method }
}

const WRAPPED = Symbol.for('throughline.pg.wrapped')

/** The span of the statement about to be sent: set and read within one synchronous call of `query`. */
let statementSpan: Span | undefined

/** Instrumentations to register before `pg` is loaded. Order matters: the first wraps innermost. */
export function pgInstrumentations(options: PgOptions = {}): Instrumentation[] {
  return [
    new PgStatementInstrumentation(options.sqlComments ?? true),
    new PgInstrumentation({
      requireParentSpan: true,
      ignoreConnectSpans: true,
      requestHook: (span) => {
        statementSpan = span
      },
    }),
  ]
}

/** Wraps `pg` beneath the spans: comment each statement, count it, and keep it in its own request. */
class PgStatementInstrumentation extends InstrumentationBase {
  constructor(private readonly sqlComments: boolean) {
    super(`${SCOPE}/pg`, '1', {})
  }

  // Hooked at the file that defines Client, as PgInstrumentation does, and registered before it. A hook on
  // the package's entry would come after its wrapper, and be wrapped twice.
  protected override init(): InstrumentationNodeModuleDefinition[] {
    const versions = ['>=8.0.3 <9']
    const patchClient = (client: PgClientClass) => {
      wrapQuery(client, this.sqlComments)
      return client
    }
    const files = ['pg/lib/client.js', 'pg/lib/native/client.js'].map(
      (file) => new InstrumentationNodeModuleFile(file, versions, patchClient, () => {}),
    )
    const patchPool = (pool: PgPoolClass) => {
      wrapConnect(pool)
      return pool
    }
    return [
      new InstrumentationNodeModuleDefinition('pg', versions, undefined, undefined, files),
      new InstrumentationNodeModuleDefinition('pg-pool', ['>=2.0.0 <4'], patchPool),
    ]
  }
}

function wrapQuery({ prototype }: PgClientClass, sqlComments: boolean): void {
  const { query } = prototype
  if (query[WRAPPED]) return
  const wrapped: Method = function (this: unknown, ...args) {
    const span = statementSpan
    statementSpan = undefined
    const requestContext = tryGetContext()
    if (sqlComments && requestContext !== undefined)
      args[0] = commented(args[0], requestContext.correlationId, span)
    const startedAt = performance.now()
    const settle = () => countCall(requestContext, 'database', performance.now() - startedAt)
    const callback = args.at(-1)
    // A connection calls back in the context of the request that opened it.
    if (typeof callback === 'function') {
      args[args.length - 1] = AsyncResource.bind(function (this: unknown, ...results: unknown[]) {
        settle()
        return callback.apply(this, results)
      })
    }
    const result = query.apply(this, args)
    if (result instanceof Promise) result.then(settle, settle)
    return result
  }
  wrapped[WRAPPED] = true
  prototype.query = wrapped
}

// A request that waits for a connection is called back by the request that gives one up, and would go on
// in that one's context: its statement would bear another request's ID.
function wrapConnect({ prototype }: PgPoolClass): void {
  const { connect } = prototype
  if (connect[WRAPPED]) return
  const wrapped: Method = function (this: unknown, ...args) {
    const [callback] = args
    if (typeof callback === 'function')
      args[0] = AsyncResource.bind(callback as (...results: unknown[]) => unknown)
    return connect.apply(this, args)
  }
  wrapped[WRAPPED] = true
  prototype.connect = wrapped
}

// A named statement is prepared once per connection under its text: a comment that changes would be
// refused by pg, so named ones are left as they are. Cursors and streams are left too.
function commented(statement: unknown, correlationId: string, span: Span | undefined): unknown {
  const fields = { correlation_id: correlationId, traceparent: span && traceparentOf(span) }
  if (typeof statement === 'string') return appendSqlComment(statement, fields)
  if (!isPlainStatement(statement)) return statement
  return { ...statement, text: appendSqlComment(statement.text, fields) }
}

function isPlainStatement(statement: unknown): statement is { text: string; name?: undefined } {
  if (typeof statement !== 'object' || statement === null) return false
  const { text, name, submit } = statement as { text?: unknown; name?: unknown; submit?: unknown }
  return typeof text === 'string' && name === undefined && submit === undefined
}
