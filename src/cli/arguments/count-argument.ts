/** `-n`: how many. */
import { InvalidArgumentError } from 'commander'

/** @param most the largest that is taken; default any */
export function countArgument(most = Number.MAX_SAFE_INTEGER): (value: string) => number {
  return (value) => {
    const count = Number(value)
    if (/^\d+$/.test(value) && count > 0 && count <= most) return count
    const range = most === Number.MAX_SAFE_INTEGER ? 'from 1 on' : `from 1 to ${most}`
    throw new InvalidArgumentError(`A count is a whole number ${range}.`)
  }
}
