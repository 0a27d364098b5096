/** `idempotentAction`: a Server Action that happens once per key, and answers a repeat with the first result. */
import type { ThroughlineError } from '../errors.js'
import {
  type IdempotencyStore,
  type KeySource,
  type RunOnceOptions,
  runOnce,
  type Scope,
} from '../idempotency/index.js'
import { assertName, runAction } from './action.js'
import { CONTROL_FLOW } from './control-flow.js'
import { ensureContext, nextHeaders } from './ensure-context.js'
import { type LoggedRun, withLog } from './logged-run.js'
import { isRefusal, showRefusal } from './refusal.js'

/** Finds the key in an action's arguments, and says where it looked. */
export interface KeyReader {
  read(args: readonly unknown[]): unknown
  source: KeySource
}

/** The run, as an action's body sees it. */
export type ActionRun = LoggedRun

/** How an action is guarded. */
export interface IdempotentActionOptions<Args extends unknown[], Result>
  extends Pick<
    RunOnceOptions,
    'leaseMs' | 'retentionMs' | 'inFlight' | 'outage' | 'maxResultBytes' | 'onUse'
  > {
  store: IdempotencyStore
  /** Whose key it is: a user's or tenant's ID, or `global()`. Another scope never sees the result. */
  scope: Scope | ((...args: Args) => Scope | undefined | Promise<Scope | undefined>)
  /** Where the key is: `formField('idempotencyKey')`, or a function of the arguments. */
  key: KeyReader | ((...args: Args) => unknown)
  /**
   * What the action depends on; the same key with another payload is refused. Default: the submitted form
   * when there is one, else all arguments. Beside a form, arguments do not count: the state that
   * `useActionState` passes differs from try to try. Where you bind some (`createOrder.bind(null, cartId)`),
   * name them here: `payload: (cartId, form) => [cartId, form]`.
   */
  payload?: (...args: Args) => unknown
  /**
   * Turns a refusal into a result, for a form to show. Without it the refusal is thrown.
   * Codes: `IDEMPOTENCY_*` and `STORE_UNAVAILABLE`; the body did not run, but for `IDEMPOTENCY_LEASE_LOST`.
   */
  onRefused?: (error: ThroughlineError) => Result | Promise<Result>
}

/** Reads the key from a field of the submitted form. */
export function formField(field: string): KeyReader {
  return { source: { field }, read: (args) => formOf(args)?.get(field) ?? undefined }
}

/**
 * Wraps a Server Action so that it happens once per key. A repeat gets the stored result; `redirect()`,
 * `notFound()` and their like replay as themselves. Cookies and revalidations of the first run are not
 * repeated.
 *
 * @example
 * 'use server'
 * export const createOrder = idempotentAction(
 *   'createOrder',
 *   { store, scope: () => currentUserId(), key: formField('idempotencyKey') },
 *   async (run, form: FormData) => { … },
 * )
 */
export function idempotentAction<Args extends unknown[], Result>(
  name: string,
  // The body alone says what the arguments are: `scope: () => userId` would say that there are none.
  options: IdempotentActionOptions<NoInfer<Args>, NoInfer<Result>>,
  body: (run: ActionRun, ...args: Args) => Promise<Result>,
): (...args: Args) => Promise<Result> {
  assertName(name)
  const { store, scope, key, payload, onRefused, ...runOptions } = options
  return (...args) =>
    ensureContext(nextHeaders, () =>
      runAction(name, async (span) => {
        let thrownByBody: unknown
        try {
          return await runOnce(
            store,
            {
              ...runOptions,
              name,
              scope: typeof scope === 'function' ? await scope(...args) : scope,
              key: typeof key === 'function' ? await key(...args) : key.read(args),
              keyFrom: typeof key === 'function' ? undefined : key.source,
              payload: payload === undefined ? (formOf(args) ?? args) : await payload(...args),
              thrown: CONTROL_FLOW,
            },
            async (run) => {
              try {
                return await body(withLog(run), ...args)
              } catch (thrown) {
                thrownByBody = thrown
                throw thrown
              }
            },
          )
        } catch (error) {
          // A refusal that the body got from another guarded run is the body's own affair: it did run.
          if (onRefused === undefined || !isRefusal(error) || error === thrownByBody) throw error
          showRefusal(span, error)
          return await onRefused(error)
        }
      }),
    )
}

function formOf(args: readonly unknown[]): FormData | undefined {
  return args.findLast((argument) => argument instanceof FormData)
}
