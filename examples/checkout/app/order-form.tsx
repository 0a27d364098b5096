'use client'

import { useActionState } from 'react'
import { IdempotencyKey, SubmitButton } from 'throughline/react'
import { CATALOGUE, priceText } from '../lib/catalogue.ts'
import type { OrderState } from '../lib/order-form.ts'

interface OrderFormProps {
  name: string
  title: string
  explanation: string
  action: (state: OrderState, form: FormData) => Promise<OrderState>
}

export function OrderForm({ name, title, explanation, action }: OrderFormProps) {
  const [state, formAction] = useActionState(action, { status: 'empty' })
  return (
    <section>
      <h2>{title}</h2>
      <p>{explanation}</p>
      <form action={formAction} data-testid={name}>
        <IdempotencyKey keep={state.isUndecided === true} />
        <label>
          Item{' '}
          <select name="item">
            {[...CATALOGUE].map(([item, cents]) => (
              <option key={item} value={item}>
                {item}, {priceText(cents)}
              </option>
            ))}
          </select>
        </label>
        <label>
          Quantity <input name="quantity" type="number" defaultValue={1} min={1} max={99} required />
        </label>
        <SubmitButton pendingText="Placing…">Place order</SubmitButton>
      </form>
      <output>
        {state.status === 'placed' && `Order ${state.orderId} is placed.`}
        {state.status === 'refused' && state.message}
      </output>
    </section>
  )
}
