'use client'

import { useEffect, useLayoutEffect, useRef, useState } from 'react'
import { keptKey, navigationOf, newKey, slotOf } from './kept-key.js'

/** How the field behaves. */
export interface IdempotencyKeyProps {
  /** Name of the field, as `formField` reads it. Default `idempotencyKey`. */
  name?: string
  /**
   * What is submitted, such as a cart's ID: every tab of the browser that submits the same sends the same key.
   * Default: the form on this visit of the page.
   */
  intent?: string
  /**
   * True while the last answer leaves it open whether the action ran (`IDEMPOTENCY_BUSY`, `STORE_UNAVAILABLE`):
   * the next try then sends the same key. Default false.
   */
  keep?: boolean
}

/**
 * The key of a form, as a hidden field: minted in the browser, so that a page rendered once for many visitors
 * holds none; the same for every try until the action has answered, also after a reload, an error or the back
 * button; another one after that. Without JavaScript the field is not sent, and `formField` compares content.
 *
 * React resets a form when its action has answered, and not when it threw: that is when the key changes.
 *
 * @example
 * <form action={createOrder}>
 *   <IdempotencyKey />
 *   …
 *   <SubmitButton pendingText="Placing…">Place order</SubmitButton>
 * </form>
 */
export function IdempotencyKey({ name = 'idempotencyKey', intent, keep = false }: IdempotencyKeyProps) {
  const [key, setKey] = useState<string>()
  const input = useRef<HTMLInputElement>(null)
  const isKept = useRef(keep)

  useLayoutEffect(() => {
    isKept.current = keep
  }, [keep])

  useEffect(() => {
    const form = input.current?.form
    // By its place in the page: an ID of React's is another one when the page is made in the browser.
    const place = `${form ? [...document.forms].indexOf(form) : -1}:${name}`
    const slotNow = () => slotOf(place, intent)
    setKey(keptKey(slotNow()) ?? newKey(slotNow()))

    // The reset comes before the answer's `keep` has reached the ref above, and before the address that the
    // answer leads to: the way back to this one finds the key that was sent.
    const onReset = () =>
      queueMicrotask(() => {
        if (!isKept.current) setKey(newKey(slotNow()))
      })
    // Back to a visit whose form stayed on the page. A visit without a key goes on with the one at hand, which
    // may not have been answered yet.
    const onVisit = () => setKey((key) => keptKey(slotNow()) ?? key)
    const navigation = navigationOf(window)
    form?.addEventListener('reset', onReset)
    navigation?.addEventListener('currententrychange', onVisit)
    return () => {
      form?.removeEventListener('reset', onReset)
      navigation?.removeEventListener('currententrychange', onVisit)
    }
  }, [name, intent])

  return (
    <input ref={input} type="hidden" name={name} value={key ?? ''} disabled={key === undefined} readOnly />
  )
}
