export { createLogFile } from './log-file.js'
export { RotatingFile, type RotatingFileOptions } from './rotating-file.js'
export { SpanFileExporter } from './span-file-exporter.js'
