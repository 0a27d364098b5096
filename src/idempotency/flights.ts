/** The guarded runs of this process, for callers that wait for one: same store, key and payload. */
import { processWide } from '../context/index.js'
import type { AnyStore } from './contract.js'

interface Flown {
  key: string
  fingerprint: string
}

/** A run in flight. Most have nobody waiting, so the promise is made for the first who asks. */
class Flight {
  #landing: Promise<string | undefined> | undefined
  #land: ((result: string | undefined) => void) | undefined

  /** The encoded result once the run has ended; undefined when only the store knows how it goes on. Never rejects. */
  landing(): Promise<string | undefined> {
    this.#landing ??= new Promise((resolve) => {
      this.#land = resolve
    })
    return this.#landing
  }

  land(result: string | undefined): void {
    this.#land?.(result)
  }
}

const flights = processWide('idempotency.flights', () => new WeakMap<AnyStore, Map<string, Flight>>())

/** The run in flight for a use, if it is in this process. */
export function flightOf(store: AnyStore, use: Flown): Promise<string | undefined> | undefined {
  return flights.get(store)?.get(nameOf(use))?.landing()
}

/** Announces a run. The function returned ends it; call it once the store has been told. */
export function openFlight(store: AnyStore, use: Flown): (result?: string) => void {
  const flight = new Flight()
  let ofStore = flights.get(store)
  if (ofStore === undefined) {
    ofStore = new Map()
    flights.set(store, ofStore)
  }
  const name = nameOf(use)
  ofStore.set(name, flight)
  return (result) => {
    // A takeover in the same process may have announced itself under the name since.
    if (ofStore.get(name) === flight) ofStore.delete(name)
    flight.land(result)
  }
}

function nameOf({ key, fingerprint }: Flown): string {
  return `${key} ${fingerprint}`
}
