/** The few metrics of this package, created on first use so that a provider registered later still gets them. */
import { type Attributes, type Counter, type Histogram, metrics } from '@opentelemetry/api'
import { processWide } from '../context/index.js'
import { SCOPE } from './names.js'

const counters = processWide('telemetry.counters', () => new Map<string, Counter>())
const histograms = processWide('telemetry.histograms', () => new Map<string, Histogram>())

/** Adds one to a counter. */
export function count(name: string, attributes?: Attributes): void {
  let counter = counters.get(name)
  if (counter === undefined) {
    counter = metrics.getMeter(SCOPE).createCounter(name)
    counters.set(name, counter)
  }
  counter.add(1, attributes)
}

/** Records a duration in seconds. */
export function recordSeconds(name: string, seconds: number, attributes?: Attributes): void {
  let histogram = histograms.get(name)
  if (histogram === undefined) {
    histogram = metrics.getMeter(SCOPE).createHistogram(name, { unit: 's' })
    histograms.set(name, histogram)
  }
  histogram.record(seconds, attributes)
}
