/** What a store that is not in the mutation's transaction does about a run that may have had effects. */

/** `retain`: refuse every repeat. `rerun`: run again. */
export type OnUnknown = 'retain' | 'rerun'

/** The promise that goes with the choice. */
export type GuaranteeOf<Choice extends OnUnknown> = Choice extends 'rerun' ? 'at-least-once' : 'at-most-once'

export function guaranteeOf<Choice extends OnUnknown>(choice: Choice): GuaranteeOf<Choice> {
  return (choice === 'rerun' ? 'at-least-once' : 'at-most-once') as GuaranteeOf<Choice>
}

/**
 * The choice, checked. JavaScript that names none gets `retain`: a repeat that is refused can be sent again.
 *
 * @throws {TypeError} for anything else.
 */
export function onUnknownOf<Choice extends OnUnknown>(store: string, choice: Choice | undefined): Choice {
  if (choice === undefined) return 'retain' as Choice
  if (choice === 'retain' || choice === 'rerun') return choice
  throw new TypeError(
    `${store}: "onUnknown" must be 'retain' or 'rerun', received ${JSON.stringify(choice)}.`,
  )
}
