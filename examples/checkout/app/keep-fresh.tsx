'use client'

import { useRouter } from 'next/navigation'
import { useEffect } from 'react'

/** Reads the page's data again each second, while there is something to wait for. */
export function KeepFresh({ isNeeded }: { isNeeded: boolean }) {
  const router = useRouter()
  useEffect(() => {
    if (!isNeeded) return
    const timer = setInterval(() => router.refresh(), 1000)
    return () => clearInterval(timer)
  }, [isNeeded, router])
  // Nothing runs without JavaScript: the reader does it.
  return isNeeded ? <noscript>Reload to see whether a payment has arrived.</noscript> : null
}
