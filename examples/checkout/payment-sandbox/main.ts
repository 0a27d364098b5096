/** `npm run sandbox`: the payment sandbox in a process of its own. `PORT` says where, 4242 by default. */
import { numberIn, sandboxOptionsFrom, startSandbox } from './sandbox.ts'

const port = process.env.PORT ? numberIn(process.env, 'PORT', 65_535) : 4242
const { url } = await startSandbox({ port, ...sandboxOptionsFrom(process.env) })
console.log(`payment sandbox: ${url}/charges`)
