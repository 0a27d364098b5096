/**
 * The key of a form, kept where a browser keeps what belongs to a page of its history: it outlives a reload,
 * an error boundary, and the way there and back again, and a new visit begins with a new one.
 */

/** Where a key is kept, or undefined where the browser cannot tell one visit of a page from the next. */
export interface KeySlot {
  storage: Storage
  name: string
}

const PREFIX = 'throughline:key'

/**
 * @param form tells the forms of a page apart
 * @param intent what is submitted: tabs that submit the same share its key
 */
export function slotOf(form: string, intent: string | undefined): KeySlot | undefined {
  try {
    if (intent !== undefined) return { storage: localStorage, name: `${PREFIX}:${intent}` }
    // Of one visit, also after a reload (https://html.spec.whatwg.org/#dom-navigationhistoryentry-key).
    const { navigation } = window as { navigation?: { currentEntry?: { key: string } | null } }
    const visit = navigation?.currentEntry?.key
    return visit === undefined ? undefined : { storage: sessionStorage, name: `${PREFIX}:${visit}:${form}` }
  } catch {
    // A browser may forbid storage: the key then lives as long as the form.
    return undefined
  }
}

/** The key in the slot, else a new one, which is kept. */
export function keptKey(slot: KeySlot | undefined): string {
  try {
    return slot?.storage.getItem(slot.name) ?? newKey(slot)
  } catch {
    return mint()
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
