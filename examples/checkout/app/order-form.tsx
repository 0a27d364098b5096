'use client'

import { useActionState, useEffect, useState } from 'react'
import { useFormStatus } from 'react-dom'
import type { OrderState } from '../lib/order-form'

interface OrderFormProps {
  name: string
  title: string
  explanation: string
  action: (state: OrderState, form: FormData) => Promise<OrderState>
  /** A key of this request alone, for browsers without JavaScript. */
  noScriptKey: string
}

export function OrderForm({ name, title, explanation, action, noScriptKey }: OrderFormProps) {
  const [state, formAction] = useActionState(action, { status: 'empty' })
  return (
    <section>
      <h2>{title}</h2>
      <p>{explanation}</p>
      <form action={formAction} data-testid={name}>
        <IdempotencyKey lastAnswer={state} />
        <noscript>
          <input type="hidden" name="idempotencyKey" value={noScriptKey} />
        </noscript>
        <label>
          Item <input name="item" defaultValue="Oolong tea" required maxLength={100} />
        </label>
        <label>
          Quantity <input name="quantity" type="number" defaultValue={1} min={1} max={99} required />
        </label>
        <SubmitButton />
      </form>
      <output>
        {state.status === 'placed' && `Order ${state.orderId} is placed.`}
        {state.status === 'refused' && state.message}
      </output>
    </section>
  )
}

/** A key minted in the browser: replaced after each answer, kept while the order may be on its way. */
function IdempotencyKey({ lastAnswer }: { lastAnswer: OrderState }) {
  const [key, setKey] = useState<string>()
  useEffect(() => {
    if (!lastAnswer.isUndecided) setKey(crypto.randomUUID())
  }, [lastAnswer])
  return key === undefined ? null : <input type="hidden" name="idempotencyKey" value={key} />
}

function SubmitButton() {
  const { pending } = useFormStatus()
  return (
    <button type="submit" disabled={pending}>
      {pending ? 'Placing…' : 'Place order'}
    </button>
  )
}
