/** A filter that does not parse: where, and what was expected there. */
export class FilterSyntaxError extends Error {
  override readonly name = 'FilterSyntaxError'

  /**
   * @param at where the fault begins, in UTF-16 units
   * @param end where it ends
   * @param expected what could stand there: `a value`
   */
  constructor(
    readonly source: string,
    readonly at: number,
    readonly end: number,
    readonly expected: string,
  ) {
    super(`The filter does not parse at character ${at + 1}: expected ${expected}.`)
  }
}
