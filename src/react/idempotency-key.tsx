'use client'

import { useEffect, useLayoutEffect, useRef, useState } from 'react'
import { contentOf } from './form-content.js'
import { type KeptKey, keepKey, mint, navigationOf, readKey, slotOf, takePlace } from './kept-key.js'

/** How the field behaves. */
export interface IdempotencyKeyProps {
  /** Name of the field, as `formField` reads it. Default `idempotencyKey`. */
  name?: string
  /**
   * What is submitted, such as a cart's ID: every tab of the browser that submits the same sends the same key.
   * Rows of a list whose forms differ by bound arguments alone need one each. Default: the form on this visit
   * of the page.
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
 * holds none; the same for every try with the same content until the action has answered, also after a reload,
 * an error or the back button (in a browser with the Navigation API, or with an `intent`); another one after
 * that, and for other content. Without JavaScript the field is not sent, and `formField` compares content.
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
    const { place, leave } = takePlace(form, name)
    let kept: KeptKey = readKey(slotOf(place, intent)) ?? { key: mint() }
    const change = (next: KeptKey) => {
      kept = keepKey(slotOf(place, intent), next)
      setKey(kept.key)
    }
    change(kept)

    // Before React reads the form. A form that was taken away with its answer never saw the reset below: other
    // content under the key it sent is another intent.
    const onSubmit = () => {
      if (form === null || form === undefined || input.current === null) return
      const content = contentOf(new FormData(form), name)
      const isSpent = kept.sentContent !== undefined && kept.sentContent !== content
      change({ key: isSpent ? mint() : kept.key, sentContent: content })
      input.current.value = kept.key
    }
    // The reset comes before the answer's `keep` has reached the ref above, and before the address that the
    // answer leads to: the way back to this one finds the key that was sent.
    const onReset = () =>
      queueMicrotask(() => {
        if (!isKept.current) change({ key: mint() })
      })
    // Back to a visit whose form stayed on the page. A visit without a key goes on with the one at hand, which
    // may not have been answered yet.
    const onVisit = () => {
      kept = readKey(slotOf(place, intent)) ?? kept
      setKey(kept.key)
    }
    const navigation = navigationOf(window)
    form?.addEventListener('submit', onSubmit, true)
    form?.addEventListener('reset', onReset)
    navigation?.addEventListener('currententrychange', onVisit)
    return () => {
      leave()
      form?.removeEventListener('submit', onSubmit, true)
      form?.removeEventListener('reset', onReset)
      navigation?.removeEventListener('currententrychange', onVisit)
    }
  }, [name, intent])

  return (
    <input ref={input} type="hidden" name={name} value={key ?? ''} disabled={key === undefined} readOnly />
  )
}
