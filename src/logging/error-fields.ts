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
  try {
    return isErrorLike(value) ? fieldsOf(value, depth) : { type: typeof value, message: textOf(value) }
  } catch {
    // A field of it throws when it is read.
    return { type: 'Error', message: 'The error cannot be read.' }
  }
}

function fieldsOf(error: ErrorLike, depth: number): LoggedError {
  const { name, message, stack, code, digest, cause } = error
  const shown = quotesParameters(error) ? withoutParameters : (text: string) => text
  const logged: LoggedError = {
    type: typeof name === 'string' ? name : 'Error',
    message: shown(textOf(message)),
  }
  if (typeof stack === 'string') logged.stack = shown(stack)
  if (typeof code === 'string') logged.code = code
  if (typeof digest === 'string') logged.digest = digest
  if (cause !== undefined && depth < MAX_CAUSES) {
    const loggedCause = errorFields(cause, depth + 1)
    if (loggedCause !== undefined) logged.cause = loggedCause
  }
  return logged
}

/** Drizzle's error for a statement that failed has the values of its parameters in its text. */
function quotesParameters(error: object): boolean {
  return 'query' in error && 'params' in error
}

function withoutParameters(text: string): string {
  return text.replace(/\nparams: [\s\S]*?(?=\n {4}at |$)/, '')
}

type ErrorLike = Record<keyof LoggedError | 'name', unknown>

// By its fields: an error of another realm, or of a bundle's copy of a class, is no `instanceof`.
function isErrorLike(value: unknown): value is ErrorLike {
  return typeof value === 'object' && value !== null && 'message' in value && 'stack' in value
}

function textOf(value: unknown): string {
  try {
    return String(value)
  } catch {
    return Object.prototype.toString.call(value)
  }
}
