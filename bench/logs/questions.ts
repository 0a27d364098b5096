/** What is asked of the log lines, and of whom. */
import type { Corpus } from './corpus.ts'
import type { Command } from './measure.ts'
import { duckdb, jq, lnav, node, throughline } from './programs.ts'
import type { LogFile } from './traffic.ts'

export interface Question {
  title: string
  contestants: Readonly<Record<string, Contestant>>
}

export interface Contestant {
  command: Command
  /** What it printed, in the same words for all that are asked the question. Default: the number of lines. */
  answerOf?: (output: string) => string
}

/** In the order of the table. */
export function questionsOf(corpus: Corpus): Question[] {
  const { log } = corpus
  return [
    oneId(corpus),
    oneIdCompacted(corpus),
    filtered(corpus, 'slow errors', {
      filter: 'level >= error and duration_ms > 250',
      sql: `SELECT line FROM ${fieldsIn(log, 'level', 'duration_ms')}
        WHERE fields[1]::INTEGER >= 50 AND fields[2]::DOUBLE > 250`,
      jq: '.level >= 50 and .duration_ms > 250',
      lnav: 'level >= 50 AND duration_ms > 250',
    }),
    filtered(corpus, 'failures of an action', {
      filter: 'action = createOrder and status >= 500',
      sql: `SELECT line FROM ${fieldsIn(log, 'action', 'status')}
        WHERE fields[1] = 'createOrder' AND fields[2]::INTEGER >= 500`,
      jq: '.action == "createOrder" and .status >= 500',
      lnav: "action = 'createOrder' AND status >= 500",
    }),
    grouped(corpus, 'count by action and status', {
      options: ['--count-by', 'action,status'],
      by: ['action', 'status'],
      sql: `SELECT json_array(fields[1], fields[2], count(*))
        FROM ${fieldsIn(log, 'action', 'status')} GROUP BY fields[1], fields[2]`,
      jq: `reduce inputs as $line ({}; .[[$line.action, $line.status] | tojson] += 1)
        | to_entries[] | (.key | fromjson) + [.value]`,
    }),
    // Without group_by, jq would copy a group for each line.
    grouped(corpus, 'p95 by route', {
      options: ['--p95', 'duration_ms', '--by', 'route'],
      by: ['route'],
      sql: `SELECT json_array(fields[1], count(*), quantile_disc(fields[2]::DOUBLE, 0.95))
        FROM ${fieldsIn(log, 'route', 'duration_ms')} WHERE fields[2] IS NOT NULL GROUP BY fields[1]`,
      jq: `[inputs | select(.duration_ms) | [.route, .duration_ms]] | group_by(.[0])[]
        | [.[0][0], length, (map(.[1]) | sort | .[(length * 0.95 | ceil) - 1])]`,
    }),
    {
      title: 'start',
      contestants: {
        'throughline logs --help': { command: throughline('logs', '--help'), answerOf: () => '' },
        'node -e 0': { command: node('-e', '0'), answerOf: () => '' },
      },
    },
  ]
}

function oneId({ log: { path, correlationId: id }, lnavHome }: Corpus): Question {
  return {
    title: 'one ID',
    contestants: {
      throughline: { command: throughline('logs', '--correlation', id, '--json', path) },
      'grep -c': {
        command: { program: 'grep', args: ['-c', id, path] },
        answerOf: (count) => count.trim(),
      },
      DuckDB: { command: duckdb(`SELECT line FROM ${linesIn(path)} WHERE contains(line, '${id}')`) },
      jq: { command: jq(path, `select(.correlation_id == "${id}")`) },
      lnav: { command: lnav(lnavHome, path, `correlation_id = '${id}'`) },
    },
  }
}

/** Of all files, to see whether the time grows with them. */
export const MANY = ', all files'

function oneIdCompacted({ log: { correlationId: id }, compacted, manyCompacted }: Corpus): Question {
  const ours = (folder: string) => ({ command: throughline('logs', '--correlation', id, '--json', folder) })
  const bare = (folder: string) => ({
    command: duckdb(`SELECT json::VARCHAR FROM '${folder}/*.parquet' WHERE correlation_id = '${id}'`),
  })
  return {
    title: 'one ID, compacted',
    contestants: {
      ...{ throughline: ours(compacted), DuckDB: bare(compacted) },
      ...(manyCompacted !== undefined && {
        [`throughline${MANY}`]: ours(manyCompacted),
        [`DuckDB${MANY}`]: bare(manyCompacted),
      }),
    },
  }
}

/** One condition, in the words of each program; all print whole lines. */
function filtered(
  { log: { path }, compacted, lnavHome }: Corpus,
  title: string,
  said: Record<'filter' | 'sql' | 'jq' | 'lnav', string>,
): Question {
  return {
    title,
    contestants: {
      throughline: { command: throughline('logs', said.filter, '--json', path) },
      'throughline, compacted': { command: throughline('logs', said.filter, '--json', compacted) },
      DuckDB: { command: duckdb(said.sql) },
      jq: { command: jq(path, `select(${said.jq})`) },
      lnav: { command: lnav(lnavHome, path, said.lnav) },
    },
  }
}

/** One table. The rivals print each row as a JSON list: what it is grouped by, then its figures. */
function grouped(
  { log: { path }, compacted }: Corpus,
  title: string,
  said: { options: readonly string[]; by: readonly string[]; sql: string; jq: string },
): Question {
  const ours = (source: string): Contestant => ({
    command: throughline('logs', ...said.options, '--json', source),
    answerOf: (document) =>
      rowsText(
        JSON.parse(document).map(({ values, ...figures }: { values: Record<string, string> }) => [
          ...said.by.map((name) => values[name] ?? null),
          ...Object.values(figures),
        ]),
      ),
  })
  const answerOf = (output: string) =>
    rowsText(
      output
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
    )
  return {
    title,
    contestants: {
      ...{ throughline: ours(path), 'throughline, compacted': ours(compacted) },
      DuckDB: { command: duckdb(said.sql), answerOf },
      jq: { command: jq(path, said.jq, '-n'), answerOf },
    },
  }
}

function rowsText(rows: readonly unknown[][]): string {
  return rows
    .map((row) => row.map(String).join(' '))
    .sort()
    .join('\n')
}

/** The quickest way to whole lines: its JSON reader parses each. */
function linesIn(path: string): string {
  return `read_csv('${path}', columns = {line: 'VARCHAR'}, delim = chr(1), quote = '', escape = '', header = false,
    auto_detect = false)`
}

function fieldsIn({ path }: LogFile, ...names: string[]): string {
  const pointers = names.map((name) => `'$.${name}'`).join(', ')
  return `(SELECT line, json_extract_string(line, [${pointers}]) AS fields FROM ${linesIn(path)})`
}
