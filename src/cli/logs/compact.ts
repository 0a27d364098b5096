/** `throughline compact [folders…]`. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Command } from 'commander'
import { type CompactSummary, compact } from '../../query/compact/compact.js'
import { LOGS_FOLDER, localDirectory } from '../../telemetry/local-directory.js'
import { spanArgument } from '../arguments/span-argument.js'
import { plural } from '../terminal/plural.js'
import { printable, printableDocument } from '../terminal/printable.js'
import { showProgress } from '../terminal/progress.js'

interface CompactCommandOptions {
  /** Milliseconds. */
  keep?: number
  closedAfter: number
  dryRun?: boolean
  json?: boolean
  color: boolean
  dir?: string
}

const HELP = `
Log files that are no longer written to become Parquet files: a seventh of the size, sorted by time, and an ID in them
is found in milliseconds. throughline logs and throughline trace read both, and so does DuckDB:
  SELECT json ->> 'msg' FROM '.throughline/logs/*.parquet' WHERE level >= 50

No line is lost. A file goes when its copy was written and read back; lines that are no JSON stay in a .rest.ndjson beside
it. It may be interrupted at any time: the next run ends what was begun. Needs DuckDB: npm install @duckdb/node-api

Examples:
  $ throughline compact                                the files of this app
  $ throughline compact /var/log/shop --keep 30d       and compacted ones older than 30 days go
  $ throughline compact --dry-run                      what would be done
  0 3 * * *  cd /srv/shop && npx throughline compact --keep 7d

With --json, one document: [{ "folder", "compacted": [{ "sources", "parquet", "lines", "restLines", "bytesBefore",
"bytesAfter" }], "skipped": [{ "file", "why" }], "removed": [] }].

Exit status: 0 done, also when there was nothing to do; 1 failed, 2 usage.`

/** The command. It sets `process.exitCode`. */
export function compactCommand(): Command {
  return new Command('compact')
    .description('pack log files that are no longer written to, so that they are small and quick to ask')
    .argument('[folders...]', "folders of log files (default: the app's own)")
    .option('--keep <span>', 'remove compacted files whose last line is older: 7d, 24h', spanArgument)
    .option('--closed-after <span>', 'files not written to for so long are closed', spanArgument, 600_000)
    .option('--dry-run', 'tell what would be done, and do nothing')
    .option('--dir <path>', 'directory of the files (default: THROUGHLINE_DIR, else .throughline)')
    .option('--json', 'one JSON document')
    .option('--no-color', 'no colours; so are NO_COLOR=1 and output that is not a terminal')
    .addHelpText('after', HELP)
    .action(run)
}

async function run(folders: string[], options: CompactCommandOptions): Promise<void> {
  const env = options.dir === undefined ? process.env : { THROUGHLINE_DIR: options.dir }
  const own = join(localDirectory(env, process.cwd()), LOGS_FOLDER)
  const summaries: ({ folder: string } & CompactSummary)[] = []
  for (const folder of folders.length > 0 ? folders : existsSync(own) ? [own] : []) {
    let share = 0
    const progress = showProgress(`compacting ${printable(folder)}`, () => share, options.color)
    try {
      const summary = await compact(folder, {
        closedAfterMs: options.closedAfter,
        ...(options.keep === undefined ? {} : { keepMs: options.keep }),
        isDryRun: options.dryRun === true,
        onProgress: (bytes, ofBytes) => {
          share = bytes / ofBytes
        },
      })
      summaries.push({ folder, ...summary })
    } finally {
      progress.end()
    }
  }
  process.stdout.write(
    options.json ? printableDocument(summaries) : textOf(summaries, own, options.dryRun === true),
  )
}

function textOf(
  summaries: readonly ({ folder: string } & CompactSummary)[],
  own: string,
  isDryRun: boolean,
): string {
  if (summaries.length === 0) return `Nothing to compact: ${printable(own)} is not there.\n`
  return summaries
    .flatMap(({ folder, compacted, skipped, removed }) => {
      if (compacted.length + skipped.length + removed.length === 0)
        return [`${printable(folder)}: nothing to compact.`]
      return [
        ...compacted.map(({ sources, parquet, lines, restLines, bytesBefore, bytesAfter }) => {
          const files = plural(sources.length, 'file')
          if (isDryRun) return `would compact ${files}, ${sizeText(bytesBefore)}, into ${printable(parquet)}`
          const rest = restLines === 0 ? '' : `; ${restLines} that are no JSON stay as text`
          return `${printable(parquet)}: ${lines} lines of ${files}, ${sizeText(bytesBefore)} to ${sizeText(bytesAfter)}${rest}`
        }),
        ...skipped.map(({ file, why }) => `${printable(file)}: left as it is, for ${printable(why)}`),
        ...removed.map(
          (file) => `${printable(file)}: ${isDryRun ? 'would be removed' : 'removed'}, for its age`,
        ),
      ]
    })
    .map((line) => `${line}\n`)
    .join('')
}

function sizeText(bytes: number): string {
  if (bytes < 1024 ** 2) return `${Math.ceil(bytes / 1024)} KB`
  return `${(bytes / 1024 ** 2).toFixed(bytes < 10 * 1024 ** 2 ? 1 : 0)} MB`
}
