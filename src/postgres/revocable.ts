/**
 * A transaction that can be taken away from code that was given up, and may still hold it: the connection under it
 * serves others then, in transactions of theirs. Only some clients refuse what comes late.
 *
 * What a query builder made of it before is out of reach: such a query, held back and sent late, is not refused.
 */

export interface Revocable<Tx> {
  /** Does what the transaction does, until it is revoked. */
  tx: Tx
  /** From now on each use throws. */
  revoke(): void
}

/** Methods that hand a transaction within the transaction to a callback. */
const NESTING = new Set<PropertyKey>(['transaction', 'savepoint', 'begin', '$transaction'])

/** Where Drizzle keeps what sends its statements. */
const SENDER = 'session'

type AnyFunction = (...args: unknown[]) => unknown

/** @param errorOf what a use throws that comes too late */
export function revocable<Tx>(target: Tx, errorOf: () => Error): Revocable<Tx> {
  let isRevoked = false
  const assertValid = () => {
    if (isRevoked) throw errorOf()
  }

  const lend = <T>(lent: T): T =>
    isObject(lent)
      ? (new Proxy(lent, {
          get(object, key) {
            assertValid()
            // On the object itself: classes with private fields know no other `this`.
            const value: unknown = Reflect.get(object, key, object)
            if (typeof value === 'function') return method(object, value as AnyFunction, NESTING.has(key))
            return key === SENDER ? lend(value) : value
          },
          apply(called, self, args) {
            assertValid()
            return Reflect.apply(called as never, self, args)
          },
        }) as T)
      : lent

  // A proxy, not a bound function: some have properties of their own, as Kysely's `fn`.
  const method = (owner: object, called: AnyFunction, isNesting: boolean) =>
    new Proxy(called, {
      apply(_, __, args: unknown[]) {
        assertValid()
        return Reflect.apply(called, owner, isNesting ? args.map(lending) : args)
      },
    })

  const lending = (argument: unknown) =>
    typeof argument === 'function'
      ? (...inner: unknown[]) => unlessRevoked(argument(...inner.map(lend)))
      : argument

  // When it is, nothing more comes of it: the client would end the inner transaction, which is no longer there.
  const unlessRevoked = async (result: unknown) => {
    try {
      return await result
    } finally {
      if (isRevoked) await new Promise(() => {})
    }
  }

  return {
    tx: lend(target),
    revoke() {
      isRevoked = true
    },
  }
}

function isObject(value: unknown): value is object {
  return (typeof value === 'object' && value !== null) || typeof value === 'function'
}
