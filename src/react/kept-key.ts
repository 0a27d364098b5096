/**
 * The key of a form, kept where a browser keeps what belongs to a page of its history: it outlives a reload,
 * an error boundary, and the way there and back again, and a new visit begins with a new one.
 */

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

/**
 * The slot of a form now: of this visit, or of what it submits. Undefined where the browser cannot tell one
 * visit of a page from the next, or forbids storage: the key then lives as long as the form.
 *
 * @param form tells the forms of a page apart
 * @param intent what is submitted: tabs that submit the same share its key
 */
export function slotOf(form: string, intent: string | undefined): KeySlot | undefined {
  try {
    if (intent !== undefined) return { storage: localStorage, name: `${PREFIX}:${intent}` }
    // The same after a reload.
    const visit = navigationOf(window)?.currentEntry?.key
    return visit === undefined ? undefined : { storage: sessionStorage, name: `${PREFIX}:${visit}:${form}` }
  } catch {
    return undefined
  }
}

/** The key in the slot, if there is one. */
export function keptKey(slot: KeySlot | undefined): string | undefined {
  try {
    return slot?.storage.getItem(slot.name) ?? undefined
  } catch {
    return undefined
  }
}

/** A new key in the slot. */
export function newKey(slot: KeySlot | undefined): string {
  const key = mint()
  try {
    slot?.storage.setItem(slot.name, key)
  } catch {
    // Full or forbidden: see above.
  }
  return key
}

/** 32 hex digits of chance. `crypto.randomUUID` is there on secure origins alone, and a LAN has others. */
export function mint(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
