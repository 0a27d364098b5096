/** What is sold, with its price in cents. A price never comes from the form. */
export const CATALOGUE: ReadonlyMap<string, number> = new Map([
  ['Oolong tea', 750],
  ['Sencha', 620],
  ['Teapot', 3400],
])

/** Cents as people read them. */
export function priceText(cents: number): string {
  return `€${(cents / 100).toFixed(2)}`
}
