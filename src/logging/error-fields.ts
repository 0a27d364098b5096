/** An error, as a log line shows it. */

/** The fields of an error that are written; a driver's own, which quote row values, are not. */
export interface LoggedError {
  type: string
  message: string
  stack?: string
  code?: string
  /** Next's digest: what a user sees on the error page. */
  digest?: string
  cause?: LoggedError
}

/** Deepest chain of causes written. */
const MAX_CAUSES = 5

/**
 * Named fields alone. pino's own serializer copies every property of an error, and a database driver puts
 * row values there (`detail: "Key (email)=(a@b.c) already exists"`).
 */
export function errorFields(value: unknown, depth = 0): LoggedError | undefined {
  if (value === undefined || value === null) return undefined
  if (!isErrorLike(value)) return { type: typeof value, message: textOf(value) }
  const { name, message, stack, code, digest, cause } = value
  const logged: LoggedError = { type: typeof name === 'string' ? name : 'Error', message: textOf(message) }
  if (typeof stack === 'string') logged.stack = stack
  if (typeof code === 'string') logged.code = code
  if (typeof digest === 'string') logged.digest = digest
  if (cause !== undefined && depth < MAX_CAUSES) {
    const loggedCause = errorFields(cause, depth + 1)
    if (loggedCause !== undefined) logged.cause = loggedCause
  }
  return logged
}

// By its fields: an error of another realm, or of a bundle's copy of a class, is no `instanceof`.
function isErrorLike(value: unknown): value is Record<keyof LoggedError | 'name', unknown> {
  return typeof value === 'object' && value !== null && 'message' in value && 'stack' in value
}

function textOf(value: unknown): string {
  try {
    return String(value)
  } catch {
    return Object.prototype.toString.call(value)
  }
}
