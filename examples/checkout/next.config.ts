import { join } from 'node:path'
import type { NextConfig } from 'next'

const config: NextConfig = {
  // PGlite finds its WebAssembly beside its own files.
  serverExternalPackages: ['@electric-sql/pglite'],
  // In this repository the package is a link to its root.
  turbopack: { root: join(import.meta.dirname, '../..') },
  // TypeScript 7 has no JavaScript API yet; Next then calls its command.
  experimental: { useTypeScriptCli: true },
}

export default config
