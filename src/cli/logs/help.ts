export const HELP = `
Reads pino's NDJSON: by default the files that the app writes in development, else the files and folders that are
named, packed or not (.gz, .zst, .parquet), patterns ('logs/*.gz'), and - for standard input. A line that is no JSON is
counted and left out.

The filter:
  level >= warn and action = createOrder      and, or, not, parentheses
  status in (500, 502)                        = != < <= > >= in, not in
  msg ~ 'timed out'                           ~ contains, whatever its case; ~~ matches a regular expression
  exists(err) and idempotency.hit = true      nested fields by dots; \`odd names\` in backticks
  A text is in quotes, or bare when it is one word. Levels are ranked by name. A field that a line lacks makes a
  comparison false.

Examples:
  $ throughline logs 'level >= warn' --since 15m
  $ throughline logs --correlation 4bf92f3577b34da6a3ce929d0e0e4736
  $ throughline logs --digest 1822372713                      the ID that a user sees on Next's error page
  $ throughline logs 'level = error' -C 5                     with 5 lines of the same request before and after
  $ throughline logs 'level >= warn' -f                       as they are written, across rotated files
  $ throughline logs 'duration_ms > 250' --fields route,duration_ms -n 20
  $ kubectl logs deploy/shop | throughline logs 'level >= error' -
  $ throughline logs 'exists(err)' /var/log/shop --json | jq -r .err.message
  $ throughline logs --count-by action,status                 how many of each
  $ throughline logs --p95 duration_ms --by route
  $ throughline logs 'level = error' --histogram 1m
  $ throughline logs --sql 'SELECT route, avg(duration_ms) FROM logs GROUP BY ALL ORDER BY 2 DESC'
  $ throughline logs 'level = error' --source loki+http://localhost:3100    the last hour, unless --since says more

--sql is DuckDB's SQL (npm install @duckdb/node-api) over the table logs: the lines that the filter finds. Its columns:
  time (UTC), level (its name), level_number, msg, service, correlation_id, trace_id, span_id, action, route, method,
  path, status, duration_ms, outcome, hit, key_hash, digest, error, error_type, stack, and json, the whole line:
  json->>'$.any.field'. It reads these files alone, and writes none.

With --json, each line as it was written; of counts, one document: [{ "values": { "action": … }, "count" }]; of --sql,
an object a line. With --csv, a heading and rows: of lines, the fields that --fields names.

On a terminal the lines are shown by $PAGER, else less; PAGER= or --no-pager prints them. With
THROUGHLINE_JAEGER_URL=http://localhost:16686 an ID there is a link to its trace.

Exit status: 0 found, 1 nothing found or failed, 2 usage.`
