/** What a client announces on its channels, where a wrap around it shows the same already. */
import { processWide } from '../context/index.js'

export interface Announcements {
  /** True while a call is sent whose span is open: what is announced then makes no second one. */
  areKnown(): boolean
  /** Sends what has its span already. It is announced before `send` returns, if at all. */
  unannounced<T>(send: () => T): T
}

/** One for each name: the bundle that wraps a client is seldom the one that listens. */
export function announcementsOf(name: string): Announcements {
  const state = processWide(`clients.announcements.${name}`, () => ({ areKnown: false }))
  return {
    areKnown: () => state.areKnown,
    unannounced(send) {
      const wereKnown = state.areKnown
      state.areKnown = true
      try {
        return send()
      } finally {
        state.areKnown = wereKnown
      }
    },
  }
}
