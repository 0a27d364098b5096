/** A response as a store keeps it, and as a replay gives it back. */

/** Plain data: what `runOnce` can write and read. */
export interface StoredResponse {
  status: number
  /** Names and values of the headers that are replayed. */
  headers: [name: string, value: string][]
  /** Undefined for a response without a body. */
  body: Uint8Array<ArrayBuffer> | undefined
}

/** Says on a response that it is that of an earlier request. */
const REPLAYED_HEADER = 'idempotent-replayed'

/** Headers that belong to the answer. Others belong to one request: a cookie, a date, an ID. */
const REPLAYED = ['content-type', 'content-language', 'content-disposition', 'location', 'link', 'etag']

/** Reads a response to its end. @param moreHeaders names, beside the usual ones, that are replayed */
export async function storeResponse(
  response: Response,
  moreHeaders: readonly string[] = [],
): Promise<StoredResponse> {
  const names = [...REPLAYED, ...moreHeaders.map((name) => name.toLowerCase())]
  return {
    status: response.status,
    headers: [...response.headers].filter(([name]) => names.includes(name)),
    body: response.body === null ? undefined : new Uint8Array(await response.arrayBuffer()),
  }
}

/** The answer of the first request, for a repeat. */
export function replayResponse({ status, headers, body }: StoredResponse): Response {
  const response = new Response(body, { status, headers })
  response.headers.set(REPLAYED_HEADER, 'true')
  return response
}
