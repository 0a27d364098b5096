/** Where a message can be when its process is killed, in the order of its way. */
export const STEPS = [
  'inserted',
  'sent',
  'committing',
  'commit sent',
  'committed',
  'taken',
  'called',
  'written',
  'done',
] as const
export type Step = (typeof STEPS)[number]
