/**
 * A transaction that can be taken away from code that was given up, and may still hold it: the connection under it
 * serves others then, in transactions of theirs. Only some clients refuse what comes late.
 */

export interface Revocable<Tx> {
  /** Does what the transaction does, until it is revoked. */
  tx: Tx
  /** From now on each use throws. */
  revoke(): void
}

/** @param errorOf what a use throws that comes too late */
export function revocable<Tx>(target: Tx, errorOf: () => Error): Revocable<Tx> {
  let isRevoked = false
  const assertValid = () => {
    if (isRevoked) throw errorOf()
  }
  const tx = new Proxy(target as object, {
    get(object, key) {
      assertValid()
      // On the transaction itself: classes with private fields know no other `this`.
      const value: unknown = Reflect.get(object, key, object)
      // postgres.js has functions with properties of their own, and none that asks for its `this`.
      return typeof value === 'function' && typeof object !== 'function' ? value.bind(object) : value
    },
    apply(object, self, args) {
      assertValid()
      return Reflect.apply(object as (...args: unknown[]) => unknown, self, args)
    },
  })
  return {
    tx: tx as Tx,
    revoke() {
      isRevoked = true
    },
  }
}
