/** Debian's Chromium, driven by playwright-core. */
import { accessSync } from 'node:fs'
import { type Browser, chromium } from 'playwright-core'
import { requireOrSkip } from './required.ts'

const PROGRAM = process.env.CHROMIUM_PATH ?? '/usr/bin/chromium'

/** A running browser, or undefined when there is none: the reason has been printed, skip then. */
export async function startChromium(): Promise<Browser | undefined> {
  try {
    accessSync(PROGRAM)
  } catch {
    requireOrSkip('chromium', 'apt-get install chromium (or set CHROMIUM_PATH)')
    return undefined
  }
  return chromium.launch({
    executablePath: PROGRAM,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
}
