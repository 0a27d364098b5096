/** The checkout page as a browser without JavaScript uses it: read the form, fill it in, post it. */

/** What came back for one submitted form. */
export interface Answer {
  /** From the response header: paste it into `throughline trace`. */
  correlationId: string
  /** The order's number, or undefined when the order was refused. */
  orderId: number | undefined
  /** What the page says below the form. */
  message: string
}

/** One of the page's two forms. */
export type Way = 'guarded' | 'by-hand'

export interface OrderFields {
  idempotencyKey: string
  item: string
  quantity: number
}

/** A form of the page as it was loaded: it can be sent again and again. */
export interface OrderForm {
  url: string
  way: Way
  hidden: [name: string, value: string][]
}

/** Loads the page and reads one of its forms. */
export async function openForm(url: string, way: Way): Promise<OrderForm> {
  const page = await (await fetch(url)).text()
  const hidden = [...hiddenFields(formOf(page, way))].filter(([name]) => name !== 'idempotencyKey')
  return { url, way, hidden }
}

/** Fills in the form and posts it. */
export async function submit({ url, way, hidden }: OrderForm, fields: OrderFields): Promise<Answer> {
  const body = new FormData()
  for (const [name, value] of hidden) body.append(name, value)
  for (const [name, value] of Object.entries(fields)) body.append(name, String(value))
  const response = await fetch(url, { method: 'POST', body })
  const html = await response.text()
  if (!response.ok) throw new Error(`POST ${url} answered ${response.status}.`)
  const message = messageOf(html, way)
  const [, orderId] = /^Order (\d+) is placed/.exec(message) ?? []
  return {
    correlationId: response.headers.get('x-correlation-id') ?? '',
    orderId: orderId === undefined ? undefined : Number(orderId),
    message,
  }
}

/** An order as the page's table lists it. */
export interface ListedOrder {
  id: number
  way: string
  payment: string
}

/** The newest orders first. */
export async function listOrders(url: string): Promise<ListedOrder[]> {
  const page = await (await fetch(url)).text()
  const [, body = ''] = /<tbody>(.*?)<\/tbody>/s.exec(page) ?? []
  return [...body.matchAll(/<tr>(.*?)<\/tr>/gs)].map(([, row = '']) => {
    const cells = [...row.matchAll(/<td>(.*?)<\/td>/gs)].map(([, cell = '']) => unescapeHtml(cell))
    const [id, , , , way = '', payment = ''] = cells
    return { id: Number(id), way, payment }
  })
}

function formOf(page: string, way: Way): string {
  const start = page.search(new RegExp(`<form[^>]*data-testid="${way}"`))
  if (start < 0) throw new Error(`The page has no form "${way}".`)
  return page.slice(start, page.indexOf('</form>', start))
}

function* hiddenFields(form: string): Generator<[string, string]> {
  for (const [input] of form.matchAll(/<input[^>]*type="hidden"[^>]*>/g)) {
    const name = /name="([^"]*)"/.exec(input)?.[1]
    const value = /value="([^"]*)"/.exec(input)?.[1] ?? ''
    if (name !== undefined) yield [unescapeHtml(name), unescapeHtml(value)]
  }
}

function messageOf(page: string, way: Way): string {
  const start = page.search(new RegExp(`<form[^>]*data-testid="${way}"`))
  const [, inner = ''] = /<output>(.*?)<\/output>/s.exec(page.slice(start)) ?? []
  return unescapeHtml(inner.replace(/<[^>]*>/g, ''))
}

function unescapeHtml(text: string): string {
  const entities: Record<string, string> = { quot: '"', '#x27': "'", '#39': "'", lt: '<', gt: '>', amp: '&' }
  return text.replace(/&(quot|#x27|#39|lt|gt|amp);/g, (whole, name) => entities[name] ?? whole)
}
