import { JsonTraceSerializer } from '@opentelemetry/otlp-transformer'
import { TRACES_FOLDER } from '../../src/telemetry/local-directory.js'
import { RotatingFile, type RotatingFileOptions } from './rotating-file.js'

/** Finished spans, as an OTel SDK hands them to an exporter. */
type FinishedSpans = Parameters<(typeof JsonTraceSerializer)['serializeRequest']>[0]

/** OTel's `ExportResult`: 0 is success, 1 is failure. */
interface ExportResult {
  code: 0 | 1
  error?: Error
}

/**
 * An OTel span exporter that writes to `<directory>/traces/*.ndjson`: one line per batch, an OTLP/JSON
 * `ExportTraceServiceRequest`, as the OTel collector's file exporter writes it and its `otlpjsonfile`
 * receiver reads it (https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/).
 *
 * @example new BatchSpanProcessor(new SpanFileExporter(localDirectory(process.env, process.cwd())))
 */
export class SpanFileExporter {
  readonly #file: RotatingFile
  #isShutDown = false

  constructor(directory: string, options: RotatingFileOptions = {}) {
    this.#file = new RotatingFile(directory, TRACES_FOLDER, options)
  }

  /** Writes a batch. Never throws; a batch that cannot be written is dropped and the callback told. */
  export(spans: FinishedSpans, resultCallback: (result: ExportResult) => void): void {
    resultCallback(this.#write(spans))
  }

  /** Resolves at once: a batch is with the operating system when `export` returns. */
  async forceFlush(): Promise<void> {}

  /** Closes the file. Later batches are refused. */
  async shutdown(): Promise<void> {
    this.#isShutDown = true
    this.#file.close()
  }

  #write(spans: FinishedSpans): ExportResult {
    if (this.#isShutDown) return failure('The span file exporter was shut down.')
    if (spans.length === 0) return { code: 0 }
    try {
      const line = JsonTraceSerializer.serializeRequest(spans)
      if (line === undefined) return failure('The spans could not be serialised.')
      return this.#file.write(line) ? { code: 0 } : failure('The spans could not be written to their file.')
    } catch (error) {
      return { code: 1, error: error instanceof Error ? error : new Error(String(error)) }
    }
  }
}

function failure(message: string): ExportResult {
  return { code: 1, error: new Error(message) }
}
