/** What the form sends, checked. */

export interface OrderRequest {
  item: string
  quantity: number
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
  const item = form.get('item')
  const quantity = Number(form.get('quantity'))
  if (typeof item !== 'string' || item.trim() === '' || item.length > 100)
    return 'Say what you want, in up to 100 characters.'
  if (!Number.isInteger(quantity) || quantity < 1 || quantity > 99) return 'Order between 1 and 99.'
  return { item: item.trim(), quantity }
}
