import { describe, expect, it } from 'vitest'
import { withThroughline } from '../../src/next/index.ts'

describe('withThroughline', () => {
  it('adds what has to stay out of the bundle, and keeps all else', () => {
    expect(withThroughline()).toEqual({ serverExternalPackages: ['mysql2'] })
    const config = { output: 'standalone' as const, serverExternalPackages: ['sharp'] }
    expect(withThroughline(config)).toEqual({
      output: 'standalone',
      serverExternalPackages: ['sharp', 'mysql2'],
    })
    expect(config.serverExternalPackages).toEqual(['sharp'])
  })

  it('adds nothing twice, and nothing that the app has transpiled', () => {
    const external = { serverExternalPackages: ['mysql2'] }
    const transpiled = { transpilePackages: ['mysql2'] }
    expect(withThroughline(external)).toBe(external)
    expect(withThroughline(transpiled)).toBe(transpiled)
  })

  it.each([
    ['a function', (phase: string) => ({ env: { phase } })],
    ['a function of a promise', async (phase: string) => ({ env: { phase } })],
  ])('takes %s, and calls it with what Next gives', async (_name, config) => {
    expect(await withThroughline(config)('phase-production-build')).toEqual({
      env: { phase: 'phase-production-build' },
      serverExternalPackages: ['mysql2'],
    })
  })

  it('takes a promise of one, and leaves what is no configuration to Next', async () => {
    const promised = withThroughline(Promise.resolve({ output: 'standalone' }))
    expect(await promised).toEqual({ output: 'standalone', serverExternalPackages: ['mysql2'] })
    expect(await withThroughline(() => undefined as never)()).toBeUndefined()
  })

  it('refuses anything else', () => {
    expect(() => withThroughline('standalone' as never)).toThrow(/"config" must be an object or a function/)
    expect(() => withThroughline(null as never)).toThrow(TypeError)
  })
})
