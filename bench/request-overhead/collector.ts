/**
 * A stand-in for an OTLP/HTTP collector, in a process of its own: takes `POST /<set-up>/v1/traces`, answers
 * 200, and tells on `GET /spans/<set-up>` how many spans came. Sends its port to the process that forked it.
 */
import { createServer, type IncomingMessage } from 'node:http'

const spansBySetUp = new Map<string, number>()

const server = createServer(async (request, response) => {
  const [, first = '', second = ''] = (request.url ?? '').split('/')
  if (request.method === 'GET' && first === 'spans') {
    response.end(String(spansBySetUp.get(second) ?? 0))
    return
  }
  const body = await readBody(request)
  const isJson = request.headers['content-type']?.includes('json')
  spansBySetUp.set(
    first,
    (spansBySetUp.get(first) ?? 0) + (isJson ? countInJson(body) : countInProtobuf(body)),
  )
  response.setHeader('content-type', isJson ? 'application/json' : 'application/x-protobuf')
  response.end(isJson ? '{}' : '')
})

server.listen(0, '127.0.0.1', () => process.send?.((server.address() as { port: number }).port))
process.once('disconnect', () => process.exit())

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks)
}

function countInJson(body: Buffer): number {
  const { resourceSpans = [] } = JSON.parse(body.toString()) as {
    resourceSpans?: { scopeSpans: { spans: unknown[] }[] }[]
  }
  return resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans)).length
}

// ExportTraceServiceRequest.resource_spans = 1, ResourceSpans.scope_spans = 2, ScopeSpans.spans = 2.
function countInProtobuf(body: Buffer, [field, ...deeper]: number[] = [1, 2, 2]): number {
  let count = 0
  let offset = 0
  const varint = () => {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = body[offset++] ?? 0
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value
    }
  }
  while (offset < body.length) {
    const tag = varint()
    // Every field of these three messages is length-delimited.
    if ((tag & 7) !== 2) throw new Error(`Unexpected protobuf tag ${tag}.`)
    const end = varint() + offset
    if (tag >> 3 === field)
      count += deeper.length === 0 ? 1 : countInProtobuf(body.subarray(offset, end), deeper)
    offset = end
  }
  return count
}
