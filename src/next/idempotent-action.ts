/** `idempotentAction`: a Server Action that happens once per key, and answers a repeat with the first result. */
import type { ThroughlineError } from '../errors.js'
import {
  type AnyStore,
  type IdempotencyStore,
  type KeySource,
  type RunOf,
  type RunOnceOptions,
  runOnce,
  type Scope,
} from '../idempotency/index.js'
import { assertName, runAction } from './action.js'
import { CONTROL_FLOW } from './control-flow.js'
import { ensureContext, nextHeaders } from './ensure-context.js'
import { type LoggedRun, type RunSettings, withLog } from './logged-run.js'
import { isRefusal, showRefusal } from './refusal.js'
import { rememberThrow } from './remembered-throw.js'

/** Finds the key in an action's arguments, and says where it looked. */
export interface KeyReader {
  read(args: readonly unknown[]): unknown
  source: KeySource
  /** How long a form that was sent without JavaScript, and so without a key, stands for itself. */
  withoutScriptMs?: number
}

/** The run, as an action's body sees it. */
export type ActionRun<Store extends AnyStore = IdempotencyStore> = LoggedRun<Store>

/** How an action is guarded. */
export interface IdempotentActionOptions<
  Args extends unknown[],
  Result,
  Store extends AnyStore = IdempotencyStore,
> extends Pick<RunOnceOptions<Store>, RunSettings> {
  store: Store
  /** Whose key it is: a user's or tenant's ID, or `global()`. Another scope never sees the result. */
  scope: Scope | ((...args: Args) => Scope | undefined | Promise<Scope | undefined>)
  /** Where the key is: `formField('idempotencyKey')`, or a function of the arguments. */
  key: KeyReader | ((...args: Args) => unknown)
  /**
   * What the action depends on; the same key with another payload is refused. Default: the submitted form
   * when there is one, else all arguments; all arguments, too, for a form without a key. Beside a form, arguments do not count: the state that
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

/** Options of `formField`. */
export interface FormFieldOptions {
  /**
   * A browser without JavaScript mints no key. Its form, with the action's bound arguments, then stands for
   * itself: the same from the same scope within so many milliseconds is a repeat. Default 60,000; 0 refuses it,
   * and so does the scope `global()`.
   */
  withoutScriptMs?: number
}

/** Reads the key from a field of the submitted form: `<IdempotencyKey />` of `throughline/react` writes it. */
export function formField(field: string, { withoutScriptMs = 60_000 }: FormFieldOptions = {}): KeyReader {
  return { source: { field }, read: (args) => formOf(args)?.get(field) ?? undefined, withoutScriptMs }
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
export function idempotentAction<Args extends unknown[], Result, Store extends AnyStore = IdempotencyStore>(
  name: string,
  // The body alone says what the arguments are. A function of the options that did would keep it from that:
  // `scope: () => userId` would say that there are none.
  // biome-ignore lint/suspicious/noExplicitAny: see above.
  options: IdempotentActionOptions<any, NoInfer<Result>, Store>,
  body: (run: ActionRun<NoInfer<Store>>, ...args: Args) => Promise<Result>,
): (...args: Args) => Promise<Result> {
  assertName(name)
  const { store, scope, key, payload, onRefused, ...runOptions } = options
  return (...args) =>
    ensureContext(nextHeaders, () =>
      runAction(name, async (span) => {
        const withoutKey = typeof key === 'function' ? 'refuse' : await withoutKeyOf(key, args)
        const remembered = rememberThrow((run: RunOf<Store>) => body(withLog<Store>(run), ...args))
        try {
          return await runOnce(
            store,
            {
              ...(runOptions as Pick<RunOnceOptions<Store>, RunSettings>),
              name,
              scope: typeof scope === 'function' ? await scope(...args) : scope,
              key: typeof key === 'function' ? await key(...args) : key.read(args),
              keyFrom: typeof key === 'function' ? undefined : key.source,
              withoutKey,
              payload: payload === undefined ? payloadOf(args, withoutKey) : await payload(...args),
              thrown: CONTROL_FLOW,
            },
            remembered.body,
          )
        } catch (error) {
          if (onRefused === undefined || !isRefusal(error) || remembered.isThrownByBody(error)) throw error
          showRefusal(span, error)
          return await onRefused(error)
        }
      }),
    )
}

// A script names the action in a header; a browser without one posts a form, and nothing else.
async function withoutKeyOf(
  key: KeyReader,
  args: readonly unknown[],
): Promise<'refuse' | { windowMs: number }> {
  const { withoutScriptMs = 0 } = key
  const hasKey = formOf(args) === undefined || Boolean(key.read(args))
  if (hasKey || withoutScriptMs === 0) return 'refuse'
  const isWithoutScript = (await nextHeaders())('next-action') === null
  return isWithoutScript ? { windowMs: withoutScriptMs } : 'refuse'
}

// Where the content stands for the key, bound arguments tell one row's form from another's.
function payloadOf(args: readonly unknown[], withoutKey: 'refuse' | { windowMs: number }): unknown {
  return withoutKey === 'refuse' ? (formOf(args) ?? args) : args
}

function formOf(args: readonly unknown[]): FormData | undefined {
  return args.findLast((argument) => argument instanceof FormData)
}
