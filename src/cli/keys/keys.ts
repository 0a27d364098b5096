/** `throughline keys` and `throughline keys <hash>`. */
import { Command, InvalidArgumentError } from 'commander'
import { findKey, listKeys, MIN_HASH_PREFIX_LENGTH } from '../../query/keys/idempotency-keys.js'
import { localDirectory } from '../../telemetry/local-directory.js'
import { countArgument } from '../arguments/count-argument.js'
import { printableDocument } from '../terminal/printable.js'
import { type Terminal, terminalOf } from '../terminal/terminal.js'
import { noKeysText, noKeyText } from './no-keys.js'
import { renderKey } from './render-key.js'
import { renderKeys } from './render-keys.js'

interface KeysOptions {
  all?: boolean
  action?: string
  count?: number
  dir?: string
  json?: boolean
  color: boolean
}

const DEFAULT_COUNT = 50

const HELP = `
Reads the span files that the app writes when no OTLP endpoint is configured. Keys are shown by their hash,
as spans have it (idempotency.key_hash): raw keys are nowhere.

Examples:
  $ throughline keys                                 keys that were used again, the last used first
  $ throughline keys 9c1f4a7be0d2c355                each use of one key, the oldest first
  $ throughline keys 9c1f                            its beginning, if no other hash begins so
  $ throughline keys --action createOrder -n 10      of one action
  $ throughline keys --all --dir ../shop/.throughline
  $ throughline keys --json | jq '.keys[] | select(.outcomes.mismatch)'

With --json, one document:
  { "keys": [{ "keyHash", "action", "hits", "firstUseMs", "isFirstUseKnown", "lastUseMs",
               "outcomes": { "won": 1 }, "isSuspect" }],
    "total", "isTruncated", "unreadableLines" }
and with a hash:
  { "key": { as above },
    "uses": [{ "keyHash", "outcome", "isHit", "hits", "timeMs", "ageMs", "action", "traceId", "originTraceId",
               "isSuspect", "suspectKeyHash", "isToldLater" }],
    "suspects": [first uses of other keys whose payload had come under this one],
    "isTruncated", "unreadableLines" }
  Times are epoch milliseconds. What is not known is left out.

Exit status: 0 found, 1 nothing found or failed, 2 usage.`

/** The command. It sets `process.exitCode`. */
export function keysCommand(): Command {
  return new Command('keys')
    .description('list the idempotency keys that were used again, or show each use of one')
    .argument('[hash]', `hash of a key, or its first ${MIN_HASH_PREFIX_LENGTH} or more digits`, hashArgument)
    .option('--all', 'keys that were used once, too')
    .option('--action <name>', 'only keys that this action used')
    .option('-n, --count <count>', `most keys to list (default: ${DEFAULT_COUNT})`, countArgument())
    .option('--dir <path>', 'directory of the files (default: THROUGHLINE_DIR, else .throughline)')
    .option('--json', 'one JSON document instead of the table')
    .option('--no-color', 'no colours; so are NO_COLOR=1 and output that is not a terminal')
    .addHelpText('after', HELP)
    .action(keys)
}

async function keys(hash: string | undefined, options: KeysOptions, command: Command): Promise<void> {
  const { all, action, count, dir } = options
  if (hash !== undefined && (all ?? action ?? count) !== undefined)
    command.error('error: --all, --action and -n choose what is listed; with a hash there is no list.')
  const directory = localDirectory(dir === undefined ? process.env : { THROUGHLINE_DIR: dir }, process.cwd())
  if (hash === undefined) {
    const answer = await listKeys(directory, { all, action, limit: count ?? DEFAULT_COUNT })
    if (answer.kind === 'nothing') return fail(noKeysText(answer, action, directory))
    print(answer, options, (terminal) => renderKeys(answer, terminal))
  } else {
    const answer = await findKey(directory, hash)
    if (answer.kind !== 'found') return fail(noKeyText(answer, hash, directory))
    print(answer, options, (terminal) => renderKey(answer, terminal))
  }
}

function print(
  answer: { kind: 'found' },
  options: KeysOptions,
  render: (terminal: Terminal) => string,
): void {
  const { kind: _, ...document } = answer
  process.stdout.write(
    options.json === true
      ? printableDocument(document)
      : render(terminalOf(process.stdout, process.env, options.color)),
  )
}

function fail(text: string): void {
  process.stderr.write(text)
  process.exitCode = 1
}

function hashArgument(value: string): string {
  const hash = value.trim().toLowerCase()
  if (new RegExp(`^[0-9a-f]{${MIN_HASH_PREFIX_LENGTH},16}$`).test(hash)) return hash
  throw new InvalidArgumentError(
    `A hash is 16 hex digits, or the first ${MIN_HASH_PREFIX_LENGTH} or more of them, as "throughline keys" shows it.`,
  )
}
