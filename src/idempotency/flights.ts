/** The guarded runs of this process, for callers that wait for one: same store, key and payload. */
import { processWide } from '../context/index.js'
import type { AnyStore } from './contract.js'

/** The encoded result once the run has ended; undefined when only the store knows how it goes on. */
type Flight = Promise<string | undefined>

interface Flown {
  key: string
  fingerprint: string
}

const flights = processWide('idempotency.flights', () => new WeakMap<AnyStore, Map<string, Flight>>())

/** The run in flight for a use, if it is in this process. Never rejects. */
export function flightOf(store: AnyStore, use: Flown): Flight | undefined {
  return flights.get(store)?.get(nameOf(use))
}

/** Announces a run. The function returned ends it; call it once the store has been told. */
export function openFlight(store: AnyStore, use: Flown): (result?: string) => void {
  let land: (result?: string) => void = () => {}
  const flight: Flight = new Promise((resolve) => {
    land = resolve
  })
  const ofStore = flights.get(store) ?? new Map<string, Flight>()
  flights.set(store, ofStore)
  ofStore.set(nameOf(use), flight)
  return (result) => {
    // A takeover in the same process may have announced itself under the name since.
    if (ofStore.get(nameOf(use)) === flight) ofStore.delete(nameOf(use))
    land(result)
  }
}

function nameOf({ key, fingerprint }: Flown): string {
  return `${key} ${fingerprint}`
}
