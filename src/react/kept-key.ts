/**
 * The key of a form, kept where a browser keeps what belongs to a page of its history: it outlives a reload,
 * an error boundary, and the way there and back again, and a new visit begins with a new one.
 */

/** A key, and what it was sent with, once it was: see `form-content.ts`. */
export interface KeptKey {
  key: string
  sentContent?: string | undefined
}

/** Where a key is kept. */
export interface KeySlot {
  storage: Storage
  name: string
}

/** The part of the Navigation API that is used (https://html.spec.whatwg.org/#navigation-interface). */
interface Navigation extends EventTarget {
  currentEntry: { key: string } | null
}

const PREFIX = 'throughline:key'

/** Tells of the way back and forth. Undefined in a browser that has no such API. */
export function navigationOf(window: object): Navigation | undefined {
  return (window as { navigation?: Navigation }).navigation
}

/** Places of the fields that are mounted now: two forms never share one. */
const taken = new Set<string>()

/**
 * Takes a place for the field of a form: by the form's `id`, else by its position in the page (an ID of React's
 * is another one when the page is made in the browser), else the next that is free.
 */
export function takePlace(
  form: HTMLFormElement | null | undefined,
  field: string,
): { place: string; leave(): void } {
  const prefix = form?.id ? `#${form.id}.` : ''
  let position = form && prefix === '' ? [...document.forms].indexOf(form) : 0
  const placeNow = () => `${prefix}${position}:${field}`
  while (taken.has(placeNow())) position += 1
  const place = placeNow()
  taken.add(place)
  return { place, leave: () => taken.delete(place) }
}

/**
 * The slot of a form now: of this visit, or of what it submits. Undefined where the browser cannot tell one
 * visit of a page from the next, or forbids storage: the key then lives as long as the form.
 *
 * @param intent what is submitted: tabs that submit the same share its key
 */
export function slotOf(place: string, intent: string | undefined): KeySlot | undefined {
  try {
    if (intent !== undefined) return { storage: localStorage, name: `${PREFIX}:${intent}` }
    // The same after a reload.
    const visit = navigationOf(window)?.currentEntry?.key
    return visit === undefined ? undefined : { storage: sessionStorage, name: `${PREFIX}:${visit}:${place}` }
  } catch {
    return undefined
  }
}

/** The key in the slot, if there is one. */
export function readKey(slot: KeySlot | undefined): KeptKey | undefined {
  try {
    const [key, sentContent] = slot?.storage.getItem(slot.name)?.split(' ') ?? []
    return key === undefined ? undefined : { key, sentContent }
  } catch {
    return undefined
  }
}

/** Puts a key in the slot, and returns it. */
export function keepKey(slot: KeySlot | undefined, { key, sentContent }: KeptKey): KeptKey {
  try {
    slot?.storage.setItem(slot.name, sentContent === undefined ? key : `${key} ${sentContent}`)
  } catch {
    // Full or forbidden: the key lives as long as the form.
  }
  return { key, sentContent }
}

/** 32 hex digits of chance. `crypto.randomUUID` is there on secure origins alone, and a LAN has others. */
export function mint(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
