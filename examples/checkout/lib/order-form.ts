/** What the form sends, checked. */
import { CATALOGUE } from './catalogue.ts'

export interface OrderRequest {
  item: string
  quantity: number
  /** Of the whole order. */
  cents: number
}

/** What an action answers to the form. */
export interface OrderState {
  status: 'empty' | 'placed' | 'refused'
  orderId?: number
  message?: string
  /** True when the order may still be on its way: a next try must send the same key. */
  isUndecided?: boolean
}

/** Reads the form, or says what is wrong with it. */
export function readOrder(form: FormData): OrderRequest | string {
  const item = String(form.get('item'))
  const price = CATALOGUE.get(item)
  if (price === undefined) return `Order one of these: ${[...CATALOGUE.keys()].join(', ')}.`
  const quantity = Number(form.get('quantity'))
  if (!Number.isInteger(quantity) || quantity < 1 || quantity > 99) return 'Order between 1 and 99.'
  return { item, quantity, cents: quantity * price }
}
