/** The payment provider, called over HTTP. */

export interface ChargeRequest {
  orderId: number
  cents: number
}

/**
 * Charges once per key, however often it is called.
 *
 * @throws when the provider cannot be reached or refuses: whether it charged is not known then.
 */
export async function charge(
  providerUrl: string,
  request: ChargeRequest,
  { idempotencyKey, signal }: { idempotencyKey: string; signal: AbortSignal },
): Promise<void> {
  const response = await fetch(`${providerUrl}/charges`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'idempotency-key': idempotencyKey },
    body: JSON.stringify(request),
    signal,
  })
  const answer = await response.text()
  if (!response.ok) throw new Error(`The payment provider answered ${response.status}: ${answer.trim()}`)
}
